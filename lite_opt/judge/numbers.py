"""Differences between arrays: every figure of a comparison, each defined once.

Sums run over samples that are added one by one, in float64. Ratios are in decibels: 10 log10 of
the energy of the reference over that of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Energies",
    "Gaps",
    "Kind",
    "Spread",
    "centred",
    "decibels",
    "found_nothing",
    "kind_of",
    "noise_of",
    "softmax",
]

_Array = npt.NDArray[Any]
_Vector = npt.NDArray[np.float64]

# How far from probabilities may be what was computed as such.
_LEAST_SUM, _MOST_OFF_ONE = -1e-6, 1e-3


class Kind:
    """What an output is, by its arrays, one a sample: "probabilities" where every row of the last
    axis sums to 1, "logits" where each is one row of scores, else "tensor", as without a row."""

    def __init__(self) -> None:
        self._classes: int | None = None
        self._scores = self._shares = self._rows = True
        self._any = False

    def add(self, value: _Array) -> None:
        """Add the array of a sample."""
        if self._classes is None:
            self._classes = value.shape[-1] if value.ndim else 0
            self._scores = self._classes > 1 and np.issubdtype(value.dtype, np.floating)
        if not self._scores:
            return
        self._any = self._any or value.size > 0
        self._rows = self._rows and value.size == self._classes
        self._shares = self._shares and bool(
            value.min(initial=0) >= _LEAST_SUM
            and np.all(np.abs(value.sum(-1, dtype=np.float64) - 1) < _MOST_OFF_ONE)
        )

    @property
    def value(self) -> str:
        """Of all that were added."""
        if not self._scores or not self._any:
            return "tensor"
        if self._shares:
            return "probabilities"
        return "logits" if self._rows else "tensor"


def kind_of(values: Iterable[_Array]) -> str:
    """What an output is: see `Kind`."""
    kind = Kind()
    for value in values:
        kind.add(value)
    return kind.value


def found_nothing(value: _Array) -> bool:
    """Whether a detector says so: with no row, or with a single -1, as Paddle's multiclass_nms."""
    return value.size == 0 or (value.shape == (1, 1) and bool(value[0, 0] == -1))


def centred(value: _Array, kind: str, least: float) -> _Vector:
    """What a cosine is taken of, of the same shape: log-probabilities (not below `least`) or
    logits minus the mean of their row, or a tensor minus its mean."""
    scores = value.astype(np.float64)
    if kind == "tensor":
        return scores - scores.mean() if scores.size else scores
    if kind == "probabilities":
        scores = np.log(np.maximum(scores, least))
    return np.asarray(scores - scores.mean(-1, keepdims=True))


def softmax(value: _Array) -> _Vector:
    """Probabilities of the scores in each row of the last axis."""
    scores = value.astype(np.float64)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(scores / scores.sum(-1, keepdims=True))


def decibels(signal: float, noise: float) -> float:
    """Of two energies: infinite without noise, minus infinity for noise without signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def noise_of(sqnr_db: float) -> float:
    """The noise that so many decibels are, as a share of the signal's energy."""
    return float(10 ** (-sqnr_db / 10))


def _cosine(dot: float, left: float, right: float) -> float:
    """Of the sums of products and squares; two zeros are alike, one is not like anything."""
    norm = math.sqrt(left * right)
    return dot / norm if norm else float(left == right)


class Energies:
    """Cosine and signal-to-noise ratio of vectors, over all that are added."""

    def __init__(self) -> None:
        self.reference = self._candidate = self._dot = self._noise = 0.0

    def add(self, reference: _Vector, candidate: _Vector) -> float:
        """Add two vectors of the same length; their own cosine."""
        gap = reference - candidate
        dot = float(reference @ candidate)
        left, right = float(reference @ reference), float(candidate @ candidate)
        self._dot, self._noise = self._dot + dot, self._noise + float(gap @ gap)
        self.reference, self._candidate = self.reference + left, self._candidate + right
        return _cosine(dot, left, right)

    @property
    def cosine(self) -> float:
        """1 where both are zero, 0 where one is."""
        return _cosine(self._dot, self.reference, self._candidate)

    @property
    def sqnr_db(self) -> float:
        """See `decibels`."""
        return decibels(self.reference, self._noise)


class Gaps:
    """The largest and the mean difference of arrays, over all that are added."""

    def __init__(self) -> None:
        self.largest = self._magnitude = self._sum = 0.0
        self._count = 0

    def add(self, reference: _Vector, candidate: _Vector) -> None:
        """Add two arrays of the same shape."""
        gap = np.abs(reference - candidate)
        self.largest = max(self.largest, float(gap.max(initial=0)))
        self._magnitude = max(self._magnitude, float(np.abs(reference).max(initial=0)))
        self._sum, self._count = self._sum + float(gap.sum()), self._count + gap.size

    @property
    def mean(self) -> float:
        """0 of nothing."""
        return self._sum / self._count if self._count else 0.0

    @property
    def relative(self) -> float:
        """The largest, relative to the largest magnitude in the reference unless that is 0."""
        return self.largest / self._magnitude if self._magnitude else self.largest


class Spread:
    """Standard deviation over vectors added one by one; None once their shapes differ."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: _Vector | None = None
        self._squares = 0.0
        self._alike = True

    def add(self, vector: _Vector) -> None:
        """Add a vector."""
        self._count += 1
        if self._sum is None:
            self._sum = np.zeros_like(vector)
        self._alike = self._alike and self._sum.shape == vector.shape
        if self._alike:
            self._sum += vector
            self._squares += float(vector @ vector)

    def value(self) -> float | None:
        """Of all that were added; None without any."""
        if self._sum is None or not self._alike:
            return None
        mean = self._sum / self._count
        return math.sqrt(max(0.0, self._squares / self._count - float(mean @ mean)))
