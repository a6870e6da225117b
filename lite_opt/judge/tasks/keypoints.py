"""Keypoints: whether two runs see the same points in the same places."""

from __future__ import annotations

import numpy as np

from lite_opt.judge.rates import share
from lite_opt.judge.tasks.scores import Case, Scores
from py_runner.tasks.keypoints import THRESHOLD, points
from py_runner.tasks.options import option

__all__ = ["score"]

_NEAR = 1.0  # cells of the heatmap


def score(case: Case) -> Scores:
    """The share of points that both runs see within one cell of the heatmap, of all that either
    does. Raises DataError where the outputs are no heatmaps."""
    near, seen, furthest = [], [], 0.0
    runs = (case.reference, case.candidate)
    least = [option(run.task, "threshold", THRESHOLD) for run in runs]
    for a, b in zip(*map(points, runs)):
        left, right = a[:, 2] >= least[0], b[:, 2] >= least[1]
        gap = np.hypot(*(a - b)[:, :2].T)
        both = left & right
        near.append(int(np.count_nonzero(both & (gap <= _NEAR))))
        seen.append(int(np.count_nonzero(left | right)))
        furthest = max(furthest, float(gap[both].max(initial=0)))
    rate = share("points", near, seen, unit="points", limit=case.limits.get("points"))
    return Scores(
        "keypoints",
        () if rate is None else (rate,),
        {"largest distance in cells": furthest},
        tuple(s.id for s, n, count in zip(case.reference.samples, near, seen) if n < count),
        judged=rate is not None,
    )
