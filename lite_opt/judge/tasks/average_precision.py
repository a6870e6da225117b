"""COCO's mean average precision of two runs: pycocotools matches, and the mean is made here of any
draw of the pictures, for its interval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped
from py_runner.errors import UsageError

__all__ = ["Evaluation", "rates_of"]

_Array = npt.NDArray[Any]
_RECALLS = np.linspace(0, 1, 101)  # COCO's
_MOST = {"bbox": 100, "keypoints": 20}  # answers to an image that count, COCO's too
_DRAWS = 300


def rates_of(
    name: str, evaluations: Sequence[Evaluation], count: int, limit: float | None
) -> list[Rate | None]:
    """The figure of the reference and of the candidate over so many images, and the points lost,
    whose interval is of the same draws for both."""

    def drop(weights: _Array) -> float:
        return (evaluations[0].precision(weights) - evaluations[1].precision(weights)) * 100

    lost = bootstrapped(
        f"{name}, points lost",
        drop,
        count,
        limit=limit,
        at_most=True,
        largest=100.0,
        draws=_DRAWS,
    )
    both = zip(("reference", "candidate"), evaluations)
    return [
        *(bootstrapped(f"{name}, {who}", e.precision, count, draws=_DRAWS) for who, e in both),
        lost,
    ]


class Evaluation:
    """Answers matched with labels by pycocotools, once; the average precision of any draw of the
    images from that.

    document: COCO's, whose images have these numbers; answers: as pycocotools' loadRes takes them;
    kind: "bbox" or "keypoints". Raises UsageError where pycocotools is not installed.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        images: Sequence[int],
        answers: Sequence[Mapping[str, Any]],
        kind: str = "bbox",
    ) -> None:
        most = _MOST[kind]
        self._classes = []
        for rows in _matches(document, images, answers, kind):
            there = [(place, row) for place, row in enumerate(rows) if row is not None]
            objects = np.zeros(len(images))
            for place, row in there:
                objects[place] = np.count_nonzero(np.logical_not(row["gtIgnore"]))
            scores = np.concatenate([row["dtScores"][:most] for _, row in there] or [[]])
            if not objects.any():
                continue
            order = np.argsort(-np.asarray(scores, np.float64), kind="mergesort")
            image = np.concatenate(
                [[place] * len(row["dtScores"][:most]) for place, row in there] or [[]]
            ).astype(int)[order]
            hit = np.concatenate([row["dtMatches"][:, :most] for _, row in there], axis=1)
            ignored = np.concatenate([row["dtIgnore"][:, :most] for _, row in there], axis=1)
            self._classes.append((objects, image, hit[:, order] > 0, ignored[:, order] > 0))

    def precision(self, weights: _Array) -> float:
        """COCO's AP (IoU or OKS 0.5 to 0.95, all areas) of images that count so often."""
        values = []
        for objects, image, hit, ignored in self._classes:
            total = float(weights @ objects)
            if total:
                values += _averages(hit, weights[image] * ~ignored, total)
        return float(np.mean(values)) if values else 0.0


def _averages(hit: _Array, weight: _Array, total: float) -> list[float]:
    """Precision of each row averaged over COCO's 101 recalls; they are in the order of falling
    scores."""
    right, wrong = np.cumsum(weight * hit, 1), np.cumsum(weight * ~hit, 1)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # a recall that is never reached has a precision of 0
    places = [np.searchsorted(row / total, _RECALLS, side="left") for row in right]
    return [float(row[place].mean()) for row, place in zip(best, places)]


def _matches(
    document: Mapping[str, Any],
    images: Sequence[int],
    answers: Sequence[Mapping[str, Any]],
    kind: str,
) -> list[list[dict[str, Any] | None]]:
    """What pycocotools says of each image, a list for each category; None for nothing there."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UsageError("mAP needs pycocotools: pip install 'paddle-edge[detection]'") from None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        truth = COCO()
        truth.dataset = _completed(document)
        truth.createIndex()
        found = truth.loadRes([dict(answer) for answer in answers]) if answers else COCO()
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = list(images)
        evaluation.params.areaRng = [evaluation.params.areaRng[0]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
    # It sorts the images by their numbers.
    order = {image: place for place, image in enumerate(np.unique(images).tolist())}
    count, rows = len(order), evaluation.evalImgs
    return [
        [rows[k * count + order[image]] for image in images]
        for k in range(len(evaluation.params.catIds))
    ]


def _completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what pycocotools needs of an annotation and not everybody writes."""
    annotations = [
        {
            **entry,
            "id": number,
            "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
            "iscrowd": entry.get("iscrowd", 0),
            "num_keypoints": entry.get("num_keypoints", _visible(entry.get("keypoints", ()))),
        }
        for number, entry in enumerate(document["annotations"], 1)
    ]
    return {**document, "info": document.get("info", {}), "annotations": annotations}


def _visible(points: Sequence[float]) -> int:
    return sum(flag > 0 for flag in points[2::3])
