"""Classification: the first output is one row of scores, and the best ones are the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.errors import UsageError
from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run, SampleInfo

__all__ = ["decode"]

_Array = npt.NDArray[Any]


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """The best classes of each sample: [{id, label, top: [{index, name, score}]}].

    Scores are the output's own values. Empty where the first output is not one row of scores, which
    truth values are not.
    """
    if top < 1:
        raise UsageError("top is at least 1")
    values = next(iter(run.outputs.values()), [])
    if not all(map(_is_row, values)):
        return []
    return Made(lambda both: _best(both[0], both[1], labels, top), Zipped(run.samples, values))


def _is_row(value: _Array) -> bool:
    row = value.ndim > 0 and value.size == value.shape[-1] and value.size > 1
    return row and value.dtype.kind in "fiu"


def _best(
    sample: SampleInfo, value: _Array, labels: Sequence[str] | None, top: int
) -> dict[str, Any]:
    scores = value.ravel()
    best = np.argsort(-scores.astype(np.float64), kind="stable")[:top]
    return {
        "id": sample.id,
        "label": sample.label,
        "top": [
            {
                "index": int(i),
                "name": labels[i] if labels and i < len(labels) else None,
                "score": float(scores[i]),
            }
            for i in best
        ],
    }
