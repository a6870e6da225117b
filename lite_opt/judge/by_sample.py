"""How far each sample's answer is from the reference's: what a comparison pools, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.numbers import found_nothing, kind_of, softmax
from py_runner.formats.run import Run

__all__ = ["Apart", "apart", "worst_first"]

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Apart:
    """One sample that both runs have, at `places` (reference, candidate).

    `difference` is on the scale of the limit `max_abs_diff`, the largest of all outputs: of
    probabilities, or relative to the largest magnitude in the reference. Infinite where the
    candidate's answer is not finite or of another shape. `values` are both runs' answers where they
    differ most: the probability of the reference's first class where the first output is of
    classes, else an element of it; None where there is none.
    """

    id: str
    places: tuple[int, int]
    difference: float
    values: tuple[float, float] | None


def apart(reference: Run, candidate: Run) -> list[Apart]:
    """Each sample that both have, in the reference's order."""
    where = {sample.id: place for place, sample in enumerate(candidate.samples)}
    pairs = [(i, where[s.id]) for i, s in enumerate(reference.samples) if s.id in where]
    worst = np.zeros(len(pairs))
    values: list[tuple[float, float] | None] = [None] * len(pairs)
    outputs = zip(reference.outputs.values(), candidate.outputs.values())
    for number, (left, right) in enumerate(outputs):
        answers = [(left[i], right[j]) for i, j in pairs]
        kind = kind_of([a for a, _ in answers])
        found = [_one(a, b, kind) for a, b in answers]
        scale = 1.0
        if kind == "tensor":
            scale = max((float(np.abs(a).max(initial=0)) for a, _ in answers), default=0.0) or 1.0
        worst = np.maximum(worst, [difference / scale for difference, _ in found])
        values = values if number else [pair for _, pair in found]
    return [
        Apart(reference.samples[i].id, (i, j), float(difference), pair)
        for (i, j), difference, pair in zip(pairs, worst, values)
    ]


def _one(left: _Array, right: _Array, kind: str) -> tuple[float, tuple[float, float] | None]:
    """The largest difference, and the two values that tell most."""
    if found_nothing(left) and found_nothing(right):
        return 0.0, None
    if left.shape != right.shape or not np.isfinite(right).all():
        return math.inf, None
    if kind == "logits":
        left, right = softmax(left), softmax(right)
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    gap = np.abs(a - b)
    place = int(gap.argmax() if kind == "tensor" else a.argmax())
    return float(gap.max()), (float(a[place]), float(b[place]))


def worst_first(found: Sequence[Apart]) -> list[Apart]:
    """By their difference."""
    return sorted(found, key=lambda one: -one.difference)
