"""How far each sample's answer is from the reference's: what a comparison pools, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.numbers import found_nothing, kind_of, softmax
from lite_opt.judge.pairs import common
from py_runner.formats.lazy import Lazy, View, Zipped
from py_runner.formats.run import Run, SampleInfo
from py_runner.formats.run_samples import key_of, keys_of

__all__ = ["Apart", "Apartness", "apart"]

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


class Apartness(Lazy[Apart]):
    """Each sample that both have, in the reference's order: `differences` of all, float64, and
    `places`, int64 [2, samples]."""

    def __init__(
        self,
        samples: Sequence[SampleInfo],
        places: npt.NDArray[np.int64],
        differences: npt.NDArray[np.float64],
        values: npt.NDArray[np.float64],
        told: npt.NDArray[np.bool_],
    ) -> None:
        self._samples, self.places, self.differences = samples, places, differences
        self._values, self._told = values, told

    def __len__(self) -> int:
        return len(self.differences)

    def item(self, place: int) -> Apart:
        left, right = self._values[place]
        first, other = self.places[:, place]
        return Apart(
            self._samples[int(first)].id,
            (int(first), int(other)),
            float(self.differences[place]),
            (float(left), float(right)) if self._told[place] else None,
        )

    def worst_first(self, among: Iterable[str] | None = None) -> View[Apart]:
        """By their difference: all, or those of these ids and those that differ infinitely."""
        order = np.argsort(-self.differences, kind="stable")
        if among is not None:
            keys = keys_of(self._samples)[self.places[0]]
            kept = np.isin(keys, np.array([key_of(id_) for id_ in among], np.uint64))
            order = order[(kept | np.isinf(self.differences))[order]]
        return View(self, order)


def apart(reference: Run, candidate: Run) -> Apartness:
    """How far each sample that both have is apart."""
    both = common(reference, candidate)
    count = len(both[0])
    worst, values = np.zeros(count), np.zeros((count, 2))
    told = np.zeros(count, np.bool_)
    left, right = reference.select(both[0]), candidate.select(both[1])
    outputs = zip(left.outputs.values(), right.outputs.values())
    for number, answers in enumerate(outputs):
        kind, scale = kind_of(answers[0]), 0.0
        found = np.zeros(count)
        for place, (a, b) in enumerate(Zipped(*answers)):
            if kind == "tensor":
                scale = max(scale, float(np.abs(a).max(initial=0)))
            found[place], pair = _one(a, b, kind)
            if number == 0 and pair is not None:
                values[place], told[place] = pair, True
        worst = np.maximum(worst, found / (scale or 1.0))
    places = np.array([np.asarray(of, np.int64) for of in both])
    return Apartness(reference.samples, places, worst, values, told)


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
