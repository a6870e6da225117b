"""Embedding: the first output is a vector of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.run import Run
from py_runner.tasks.options import output_of

__all__ = ["decode", "features"]

_Array = npt.NDArray[Any]


def features(run: Run) -> _Array:
    """The features of all samples, float64 [samples, length], each of length 1 (or 0 where it was).

    Raises DataError where no output is one row of numbers, alike for all samples.
    """
    vectors = output_of(
        run,
        lambda v: v.dtype.kind == "f" and v.ndim > 0 and v.size == max(v.shape) and v.size > 1,
        "an output [1, F] of features",
    )
    rows = np.array([value.ravel() for value in vectors], np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def decode(run: Run, labels: Sequence[str] | None = None, *, top: int = 5) -> list[dict[str, Any]]:
    """Which `top` other samples are most like each: [{id, label, nearest: [{id, cosine}]}]."""
    rows = features(run)
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -np.inf)
    return [
        {
            "id": sample.id,
            "label": sample.label,
            "nearest": [
                {"id": run.samples[i].id, "cosine": float(likeness[n, i])}
                for i in np.argsort(-likeness[n], kind="stable")[:top]
                if i != n
            ],
        }
        for n, sample in enumerate(run.samples)
    ]
