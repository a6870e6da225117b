"""Keypoints: where each heatmap is highest, shifted a quarter of a cell to its higher neighbour, as
HRNet and TinyPose are decoded where their export does not do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.run import Run
from py_runner.tasks.options import option, output_of

__all__ = ["THRESHOLD", "decode", "points"]

_Array = npt.NDArray[Any]
THRESHOLD = 0.2  # PaddleDetection's score of a point that is seen


def points(run: Run) -> list[_Array]:
    """x, y and score of each point, float64 [K, 3] a sample; x and y in cells of the heatmap.

    Raises DataError where no output is heatmaps.
    """
    heatmaps = output_of(
        run,
        lambda v: v.dtype.kind == "f" and v.ndim == 4 and v.shape[0] == 1 and min(v.shape[2:]) > 2,
        "an output of heatmaps [1, K, H, W]",
    )
    return [np.array([_peak(heatmap) for heatmap in value[0]]) for value in heatmaps]


def decode(run: Run, labels: Sequence[str] | None = None, *, top: int = 5) -> list[dict[str, Any]]:
    """The points of each sample of at least the task's `threshold`:
    [{id, label, points: [{index, name, x, y, score}]}]. `top` is not for points."""
    threshold = option(run.task, "threshold", THRESHOLD)
    return [
        {
            "id": sample.id,
            "label": sample.label,
            "points": [
                {
                    "index": i,
                    "name": labels[i] if labels and i < len(labels) else None,
                    "x": float(x),
                    "y": float(y),
                    "score": float(score),
                }
                for i, (x, y, score) in enumerate(found)
                if score >= threshold
            ],
        }
        for sample, found in zip(run.samples, points(run))
    ]


def _peak(heatmap: _Array) -> tuple[float, float, float]:
    values = heatmap.astype(np.float64)
    y, x = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
    score = float(values[y, x])
    height, width = values.shape
    shifted_x, shifted_y = float(x), float(y)
    if 0 < x < width - 1 and 0 < y < height - 1:
        shifted_x += 0.25 * float(np.sign(values[y, x + 1] - values[y, x - 1]))
        shifted_y += 0.25 * float(np.sign(values[y + 1, x] - values[y - 1, x]))
    return shifted_x, shifted_y, score
