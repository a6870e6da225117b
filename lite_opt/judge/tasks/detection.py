"""Detection: whether two runs find the same boxes, and mAP by COCO's labels.

Boxes in another order are no difference, and one box more is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share
from lite_opt.judge.tasks.scores import Case, Scores, matched
from lite_opt.judge.tasks.truth import coco, of_samples
from py_runner.errors import DataError, UsageError
from py_runner.tasks.detection import THRESHOLD, Boxes, boxes
from py_runner.tasks.options import option
from py_runner.tasks.suppression import intersection_over_union

__all__ = ["score"]

_Array = npt.NDArray[Any]
_STRICT, _LOOSE = 0.9, 0.5
_RECALLS = np.linspace(0, 1, 101)  # COCO's
_MOST = 100  # boxes of an image, as COCO counts
_DRAWS = 300


def score(case: Case) -> Scores:
    """Agreement of the boxes above each run's own threshold: of one class, and with an IoU of at
    least 0.9, of all boxes that either run has; and mAP of both runs where the truth is given.

    Raises DataError where the outputs are no boxes, or the truth is not COCO's; UsageError where
    pycocotools is not installed.
    """
    runs = (case.reference, case.candidate)
    everything = [boxes(run) for run in runs]
    left, right = (
        [b.above(option(run.task, "threshold", THRESHOLD)) for b in found]
        for run, found in zip(runs, everything)
    )
    pairs = {
        least: [_same(a, b, least) for a, b in zip(left, right)] for least in (_STRICT, _LOOSE)
    }
    agreed = [len(found) for found in pairs[_STRICT]]
    all_of_them = [len(a) + len(b) - n for a, b, n in zip(left, right, agreed)]
    rates = [
        share("boxes at IoU 0.9", agreed, all_of_them, unit="boxes", limit=case.limits.get("boxes"))
    ]
    loose = [len(found) for found in pairs[_LOOSE]]
    either = [len(a) + len(b) - n for a, b, n in zip(left, right, loose)]
    rates.append(share("boxes at IoU 0.5", loose, either, unit="boxes"))
    figures = {
        "boxes of the reference": float(sum(map(len, left))),
        "boxes of the candidate": float(sum(map(len, right))),
        "largest difference of a score": max(
            (
                abs(float(a.scores[i] - b.scores[j]))
                for a, b, found in zip(left, right, pairs[_STRICT])
                for i, j in found
            ),
            default=0.0,
        ),
    }
    if case.truth is not None:
        rates += _by_labels(case, case.truth, everything[0], everything[1])
    return Scores(
        "detection",
        tuple(rate for rate in rates if rate is not None),
        figures,
        tuple(
            sample.id
            for sample, n, count in zip(case.reference.samples, agreed, all_of_them)
            if n < count
        ),
        judged=any(all_of_them),
    )


def _same(left: Boxes, right: Boxes, least: float) -> list[tuple[int, int]]:
    likeness = intersection_over_union(left.corners, right.corners)
    likeness[left.classes[:, None] != right.classes[None]] = -1
    return matched(likeness, least)


def _by_labels(
    case: Case, path: Path, left: Sequence[Boxes], right: Sequence[Boxes]
) -> list[Rate | None]:
    """mAP of both runs over the labelled samples, and the points lost."""
    document = coco(path)
    known = {image["file_name"]: image["id"] for image in document["images"]}
    places = of_samples(path, known, [s.id for s in case.reference.samples])
    images = list(places.values())
    judged = [
        _Evaluation(document, images, [found[i] for i in places], _categories(document, run.labels))
        for run, found in ((case.reference, left), (case.candidate, right))
    ]

    def drop(weights: _Array) -> float:
        return (judged[0].precision(weights) - judged[1].precision(weights)) * 100

    count = len(images)
    rates: list[Rate | None] = [
        bootstrapped(f"mAP, {who}", evaluation.precision, count, draws=_DRAWS)
        for who, evaluation in zip(("reference", "candidate"), judged)
    ]
    limit = case.limits.get("map_drop")
    rates.append(
        bootstrapped(
            "mAP, points lost",
            drop,
            count,
            limit=limit,
            at_most=True,
            largest=100.0,
            draws=_DRAWS,
        )
    )
    return rates


def _categories(document: Mapping[str, Any], labels: Sequence[str] | None) -> list[int]:
    """The category of each class: by its name, else in the order of the categories' numbers."""
    ids = {str(c["name"]): int(c["id"]) for c in document["categories"]}
    if labels and set(labels) <= ids.keys():
        return [ids[name] for name in labels]
    return sorted(ids.values())


class _Evaluation:
    """Boxes matched with labels by pycocotools, once; mAP of any draw of the images from that."""

    def __init__(
        self,
        document: Mapping[str, Any],
        images: Sequence[int],
        found: Sequence[Boxes],
        categories: Sequence[int],
    ) -> None:
        matches = _matches(document, images, found, categories)
        self._classes = []
        for rows in matches:
            there = [(place, row) for place, row in enumerate(rows) if row is not None]
            objects = np.zeros(len(images))
            for place, row in there:
                objects[place] = np.count_nonzero(np.logical_not(row["gtIgnore"]))
            scores = np.concatenate([row["dtScores"][:_MOST] for _, row in there] or [[]])
            if not objects.any():
                continue
            order = np.argsort(-np.asarray(scores, np.float64), kind="mergesort")
            image = np.concatenate(
                [[place] * len(row["dtScores"][:_MOST]) for place, row in there] or [[]]
            ).astype(int)[order]
            hit = np.concatenate([row["dtMatches"][:, :_MOST] for _, row in there], axis=1)
            ignored = np.concatenate([row["dtIgnore"][:, :_MOST] for _, row in there], axis=1)
            self._classes.append((objects, image, hit[:, order] > 0, ignored[:, order] > 0))

    def precision(self, weights: _Array) -> float:
        """COCO's AP (IoU 0.5 to 0.95, all areas, 100 boxes) of images that count so often."""
        values = []
        for objects, image, hit, ignored in self._classes:
            total = float(weights @ objects)
            if total:
                weight = weights[image] * ~ignored
                values += [_average(row, weight_row, total) for row, weight_row in zip(hit, weight)]
        return float(np.mean(values)) if values else 0.0


def _average(hit: _Array, weight: _Array, total: float) -> float:
    """Precision averaged over COCO's 101 recalls; `hit` is in the order of falling scores."""
    right, wrong = np.cumsum(weight * hit), np.cumsum(weight * ~hit)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(right / total, _RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(place, len(best))].mean())


def _matches(
    document: Mapping[str, Any],
    images: Sequence[int],
    found: Sequence[Boxes],
    categories: Sequence[int],
) -> list[list[dict[str, Any] | None]]:
    """What pycocotools says of each image, a list for each category; None for nothing there."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UsageError("mAP needs pycocotools: pip install 'paddle-edge[detection]'") from None
    import contextlib
    import io

    detections = []
    for image, one in zip(images, found):
        for index, value, (x1, y1, x2, y2) in zip(one.classes, one.scores, one.corners):
            if index >= len(categories):
                raise DataError(
                    f"a box of class {index}, and the labels have {len(categories)} categories"
                )
            box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            detections.append(
                {
                    "image_id": image,
                    "category_id": categories[index],
                    "bbox": box,
                    "score": float(value),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        truth = COCO()
        truth.dataset = _completed(document)
        truth.createIndex()
        answers = truth.loadRes(detections) if detections else COCO()
        evaluation = COCOeval(truth, answers, "bbox")
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
        }
        for number, entry in enumerate(document["annotations"], 1)
    ]
    return {**document, "info": document.get("info", {}), "annotations": annotations}
