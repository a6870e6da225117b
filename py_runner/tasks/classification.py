"""Classification: the first output is one row of scores, and the best ones are the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from py_runner.errors import UsageError
from py_runner.formats.run import Run

__all__ = ["decode"]


def decode(run: Run, labels: Sequence[str] | None = None, *, top: int = 5) -> list[dict[str, Any]]:
    """The best classes of each sample: [{id, label, top: [{index, name, score}]}].

    Scores are the output's own values. Empty where the first output is not one row of scores, which
    truth values are not.
    """
    if top < 1:
        raise UsageError("top is at least 1")
    values = next(iter(run.outputs.values()), [])
    result = []
    for sample, value in zip(run.samples, values):
        if (
            value.dtype.kind not in "fiu"
            or value.ndim < 1
            or value.size != value.shape[-1]
            or value.size < 2
        ):
            return []
        scores = value.ravel()
        best = np.argsort(-scores.astype(np.float64), kind="stable")[:top]
        result.append(
            {
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
        )
    return result
