"""Detection: boxes of a network that suppresses overlapping ones itself (PaddleDetection's export).

One output has a row a box: class, score, x1, y1, x2, y2; another, where there is one, the number of
rows that hold. A row of class -1 is none. Heads that leave the suppression to their caller
(exported with `exclude_nms` or `exclude_post_process`) are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.run import Run
from py_runner.tasks.options import option, output_of

__all__ = ["THRESHOLD", "Boxes", "boxes", "decode"]

_Array = npt.NDArray[Any]
THRESHOLD = 0.5  # PaddleDetection's draw_threshold
_WIDTH = 6


@dataclass(frozen=True)
class Boxes:
    """Boxes of a sample, best first: classes int64 [N], scores float64 [N], corners float64 [N, 4]
    as x1, y1, x2, y2."""

    classes: _Array
    scores: _Array
    corners: _Array

    def __len__(self) -> int:
        return len(self.classes)

    def above(self, threshold: float) -> Boxes:
        """Those of at least this score."""
        kept = self.scores >= threshold
        return Boxes(self.classes[kept], self.scores[kept], self.corners[kept])


def boxes(run: Run) -> list[Boxes]:
    """All boxes of each sample, whatever their score.

    Raises DataError where no output has rows of six numbers.
    """
    rows = output_of(
        run,
        _holds_rows,
        "an output [N, 6] of class, score, x1, y1, x2, y2 (export the model with its "
        "non-maximum suppression: heads without it are not decoded)",
    )
    counts = _counts(run, len(rows))
    return [_boxes(value, count) for value, count in zip(rows, counts)]


def decode(run: Run, labels: Sequence[str] | None = None, *, top: int = 5) -> list[dict[str, Any]]:
    """The boxes of each sample above the task's `threshold`:
    [{id, label, boxes: [{index, name, score, box: [x1, y1, x2, y2]}]}], best first.

    `top` is not for boxes: the threshold says how many.
    """
    threshold = option(run.task, "threshold", THRESHOLD)
    return [
        {
            "id": sample.id,
            "label": sample.label,
            "boxes": [
                {
                    "index": int(index),
                    "name": labels[index] if labels and index < len(labels) else None,
                    "score": float(score),
                    "box": [float(side) for side in corners],
                }
                for index, score, corners in zip(found.classes, found.scores, found.corners)
            ],
        }
        for sample, found in zip(run.samples, (b.above(threshold) for b in boxes(run)))
    ]


def _holds_rows(value: _Array) -> bool:
    """Six numbers a row, for a batch of one also [1, N, 6]; or nothing found, which is an empty
    tensor or a single -1."""
    if value.size == 0 or (value.shape == (1, 1) and value[0, 0] == -1):
        return True
    return (
        value.dtype.kind == "f"
        and value.shape[-1] == _WIDTH
        and value.size == (value.shape[-2] * _WIDTH if value.ndim > 1 else -1)
    )


def _counts(run: Run, samples: int) -> list[int | None]:
    """How many rows hold, by an output of one whole number a sample."""
    for values in run.outputs.values():
        if all(v.dtype.kind in "iu" and v.size == 1 and v.ndim <= 1 for v in values):
            return [int(v.ravel()[0]) for v in values]
    return [None] * samples


def _boxes(value: _Array, count: int | None) -> Boxes:
    rows = np.asarray(value, np.float64)
    rows = rows.reshape(-1, _WIDTH) if rows.size % _WIDTH == 0 else np.zeros((0, _WIDTH))
    rows = rows[:count]
    rows = rows[(rows[:, 0] >= 0) & np.isfinite(rows).all(-1)]
    rows = rows[np.argsort(-rows[:, 1], kind="stable")]
    return Boxes(rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2:])
