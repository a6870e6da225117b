"""Embedding: the first output is a vector of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.lazy import Lazy, Made
from py_runner.formats.run import Run
from py_runner.tasks.options import output_of

__all__ = ["decode", "features", "vectors"]

_Array = npt.NDArray[Any]


def vectors(run: Run) -> Lazy[_Array]:
    """The features of each sample, float64 [length], of length 1 (or 0 where it was), made when
    they are asked for.

    Raises DataError where no output is one row of numbers, alike for all samples.
    """
    rows = output_of(
        run,
        lambda v: v.dtype.kind == "f" and v.ndim > 0 and v.size == max(v.shape) and v.size > 1,
        "an output [1, F] of features",
        by_shape=True,
    )
    return Made(_of_length_1, rows)


def features(run: Run) -> _Array:
    """The features of all samples, float64 [samples, length]: see `vectors`."""
    return np.array(list(vectors(run)))


def _of_length_1(value: _Array) -> _Array:
    row = value.ravel().astype(np.float64)[None]
    length = np.linalg.norm(row, axis=1, keepdims=True)
    return np.asarray((row / np.where(length > 0, length, 1))[0])


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """Which `top` other samples are most like each: [{id, label, nearest: [{id, cosine}]}]."""
    return _Nearest(run, vectors(run), top)


class _Nearest(Lazy[dict[str, Any]]):
    """The features of all are in memory from when the first answer is asked for."""

    def __init__(self, run: Run, found: Lazy[_Array], top: int) -> None:
        self._run, self._found, self._top = run, found, top
        self._rows: _Array | None = None

    def __len__(self) -> int:
        return len(self._found)

    def item(self, place: int) -> dict[str, Any]:
        if self._rows is None:
            self._rows = np.array(list(self._found))
        likeness = self._rows @ self._rows[place]
        likeness[place] = -np.inf
        samples = self._run.samples
        return {
            "id": samples[place].id,
            "label": samples[place].label,
            "nearest": [
                {"id": samples[i].id, "cosine": float(likeness[i])}
                for i in np.argsort(-likeness, kind="stable")[: self._top].tolist()
                if i != place
            ],
        }
