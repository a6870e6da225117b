"""Keypoints: whether two runs see the same points in the same places, and OKS by COCO's labels.

A sample is one person: a crop, or a picture that shows one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, share
from lite_opt.judge.tasks.average_precision import Evaluation, rates_of
from lite_opt.judge.tasks.scores import Case, Scores, ids_of
from lite_opt.judge.tasks.truth import coco, of_samples, picture_points
from py_runner.errors import DataError
from py_runner.formats.run import Run
from py_runner.tasks.keypoints import THRESHOLD, grids, points
from py_runner.tasks.options import option

__all__ = ["object_keypoint_similarity", "score"]

_Array = npt.NDArray[Any]
_NEAR = 1.0  # cells of the heatmap
# COCO's deviations of each point from where people marked it, on an object of area 1: of nose,
# eyes, ears, shoulders, elbows, wrists, hips, knees and ankles.
_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], np.float64)
    / 1000
)
_FILLED = 0.53  # how much of its box a person covers, by COCO's labels


def score(case: Case) -> Scores:
    """The share of points that both runs see within one cell of the heatmap, of all that either
    does, and of COCO's 17 points the mean similarity of the candidate's with the reference's; where
    the truth is given, COCO's mean average precision by OKS of both runs.

    Raises DataError where the outputs are no heatmaps, or the truth is not COCO's keypoints;
    UsageError where pycocotools is not installed.
    """
    near, seen, furthest, alike = [], [], 0.0, []
    runs = (case.reference, case.candidate)
    least = [option(run.task, "threshold", THRESHOLD) for run in runs]
    found = [points(run) for run in runs]
    for a, b in zip(*found):
        left, right = a[:, 2] >= least[0], b[:, 2] >= least[1]
        gap = np.hypot(*(a - b)[:, :2].T)
        both = left & right
        near.append(int(np.count_nonzero(both & (gap <= _NEAR))))
        seen.append(int(np.count_nonzero(left | right)))
        furthest = max(furthest, float(gap[both].max(initial=0)))
        if len(a) == len(_SIGMAS) and left.any():
            alike.append(object_keypoint_similarity(a, b, left))
    rates = [share("points", near, seen, unit="points", limit=case.limits.get("points"))]
    if case.truth is not None:
        rates += _by_labels(case, case.truth, found)
    return Scores(
        "keypoints",
        tuple(rate for rate in rates if rate is not None),
        {"largest distance in cells": furthest}
        | ({"mean OKS with the reference": float(np.mean(alike))} if alike else {}),
        tuple(s.id for s, n, count in zip(case.reference.samples, near, seen) if n < count),
        judged=any(seen),
    )


def object_keypoint_similarity(truth: _Array, found: _Array, visible: _Array) -> float:
    """COCO's OKS of two sets of its 17 points [17, 2 or more] over those that are visible; the
    object's area is that share of the box round them that COCO's persons fill."""
    shown = truth[visible, :2]
    area = max(float((shown.max(0) - shown.min(0)).prod()) * _FILLED, 1.0)
    square = ((truth[visible, :2] - found[visible, :2]) ** 2).sum(-1)
    return float(np.exp(-square / (2 * area * (2 * _SIGMAS[visible]) ** 2)).mean())


def _by_labels(case: Case, path: Path, found: Sequence[list[_Array]]) -> list[Rate | None]:
    document = coco(path, keypoints=True)
    known = {image["file_name"]: image for image in document["images"]}
    places = of_samples(path, known, ids_of(case.reference))
    images = [image["id"] for image in places.values()]
    category = min(entry["category_id"] for entry in document["annotations"])
    evaluations = []
    for run, several in zip((case.reference, case.candidate), found):
        sizes = grids(run)
        answers = [
            _answer(run, several[place], sizes[place], image, category)
            for place, image in places.items()
        ]
        evaluations.append(Evaluation(document, images, answers, "keypoints"))
    return rates_of("OKS AP", evaluations, len(images), case.limits.get("oks_drop"))


def _answer(
    run: Run, found: _Array, grid: tuple[int, int], image: Mapping[str, Any], category: int
) -> dict[str, Any]:
    """One person as pycocotools takes it; its score is the mean of the points that are seen, as
    PaddleDetection counts."""
    if len(found) != len(_SIGMAS):
        raise DataError(f"OKS is of COCO's {len(_SIGMAS)} points, and the model has {len(found)}")
    if run.image is None:
        raise DataError("the run does not say how pictures were fed: run it again with --image")
    placed = picture_points(run.image, found[:, :2], image, grid)
    seen = found[:, 2] > option(run.task, "threshold", THRESHOLD)
    return {
        "image_id": image["id"],
        "category_id": category,
        "keypoints": np.c_[placed, np.ones(len(found))].ravel().tolist(),
        "score": float(found[seen, 2].mean()) if seen.any() else 0.0,
    }
