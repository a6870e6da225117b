"""Of boxes that overlap, the surer one: multiclass non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.tasks.options import option

__all__ = ["Suppression", "intersection_over_union", "suppressed"]

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Suppression:
    """What is suppressed, as Paddle's multiclass_nms names it.

    Boxes that score more than `score_threshold`, of each class the `candidates` best ones; of these
    every one goes whose IoU with a better one of its class is above `nms_threshold`. At most `kept`
    remain of all classes together, and `kept_by_class` of each. 0 is no limit.
    """

    score_threshold: float
    nms_threshold: float
    candidates: int = 0
    kept: int = 0
    kept_by_class: int = 0

    def told(self, task: Mapping[str, Any] | None) -> Suppression:
        """With what a task's options say of it."""
        return replace(
            self,
            score_threshold=option(task, "score_threshold", self.score_threshold),
            nms_threshold=option(task, "nms_threshold", self.nms_threshold),
            candidates=int(option(task, "nms_top_k", self.candidates)),
            kept=int(option(task, "keep_top_k", self.kept)),
        )


def suppressed(
    corners: _Array, scores: _Array, how: Suppression
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which boxes remain, of which class: places and classes, int64 [K] each, the best first.

    corners: [N, 4] of x1, y1, x2, y2. scores: [N, C]; a box may remain as several classes.
    """
    places, classes = [], []
    for number in range(scores.shape[1]):
        found = _of_class(corners, scores[:, number], how)
        places.append(found)
        classes.append(np.full(len(found), number))
    place = np.concatenate([*places, np.zeros(0)]).astype(np.int64)
    class_ = np.concatenate([*classes, np.zeros(0)]).astype(np.int64)
    order = np.argsort(-scores[place, class_], kind="stable")[: how.kept or None]
    return place[order], class_[order]


def _of_class(corners: _Array, scores: _Array, how: Suppression) -> _Array:
    above = np.flatnonzero(scores > how.score_threshold)
    left = above[np.argsort(-scores[above], kind="stable")][: how.candidates or None]
    kept: list[int] = []
    while len(left) and not 0 < how.kept_by_class == len(kept):
        best, left = left[0], left[1:]
        kept.append(int(best))
        overlap = intersection_over_union(corners[best][None], corners[left])[0]
        left = left[overlap <= how.nms_threshold]
    return np.array(kept, np.int64)


def intersection_over_union(left: _Array, right: _Array) -> npt.NDArray[np.float64]:
    """Of boxes [N, 4] and [M, 4] as x1, y1, x2, y2: float64 [N, M]. Two empty boxes have 1 where
    they are equal."""
    a, b = left[:, None].astype(np.float64), right[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    either = _area(a) + _area(b) - common
    equal = (a == b).all(-1).astype(np.float64)
    return np.asarray(np.where(either > 0, common / np.where(either > 0, either, 1), equal))


def _area(corners: _Array) -> _Array:
    return np.asarray(np.clip(corners[..., 2:] - corners[..., :2], 0, None).prod(-1))
