"""Detection: boxes of PaddleDetection's exports.

A network that suppresses overlapping boxes itself has a row a box in one output: class, score, x1,
y1, x2, y2; another, where there is one, has the number of rows that hold. A row of class -1 is
none. What leaves that to its caller is decoded by `heads` and suppressed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.data.image import ImageSpec
from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run
from py_runner.tasks.heads import candidates
from py_runner.tasks.options import NotOfTaskError, option, output_of
from py_runner.tasks.suppression import suppressed

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
    """All boxes of each sample that were not suppressed, whatever their score.

    Raises NotOfTaskError where no output has rows of six numbers and the outputs are no head that
    is known, or options are missing.
    """
    try:
        rows = output_of(
            run,
            _holds_rows,
            "an output [N, 6] of class, score, x1, y1, x2, y2, or the outputs of a head without "
            "its non-maximum suppression that is known (PP-YOLOE, PicoDet, YOLOv3, SSD)",
        )
    except NotOfTaskError:
        found = _of_heads(run)
        if found is None:
            raise
        return found
    counts = _counts(run, len(rows))
    return [_boxes(value, count) for value, count in zip(rows, counts)]


def _of_heads(run: Run) -> list[Boxes] | None:
    """The boxes of a head without suppression; None where it is none that is known."""
    spec = None if run.image is None else ImageSpec.from_json(run.image)
    sides = None if spec is None or min(spec.output_shape[2:]) < 0 else spec.output_shape[2:]
    classes = None if run.labels is None else len(run.labels)
    result = []
    for outputs in zip(*run.outputs.values()):
        try:
            found = candidates(list(outputs), run.task or {}, sides, classes)
        except NotOfTaskError as error:
            raise NotOfTaskError(
                f"{run.model['name']}: {error}; say --task detection,KEY=VALUE"
            ) from None
        if found is None:
            return None
        place, class_ = suppressed(found.corners, found.scores, found.how.told(run.task))
        corners = found.corners[place]
        if found.within is not None:
            high, wide = found.within
            corners = np.clip(corners, 0, (wide, high, wide, high))
        result.append(Boxes(class_, found.scores[place, class_], corners))
    return result


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """The boxes of each sample above the task's `threshold`:
    [{id, label, boxes: [{index, name, score, box: [x1, y1, x2, y2]}]}], best first.

    `top` is not for boxes: the threshold says how many.
    """
    threshold = option(run.task, "threshold", THRESHOLD)

    def told(both: tuple[Any, ...]) -> dict[str, Any]:
        sample, found = both
        return {
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

    return Made(told, Zipped(run.samples, [b.above(threshold) for b in boxes(run)]))


def _holds_rows(value: _Array) -> bool:
    """Six numbers a row, for a batch of one also [1, N, 6]; or nothing found, which is an empty
    tensor or a single -1."""
    if value.size == 0 or (value.shape == (1, 1) and value[0, 0] == -1):
        return True
    fits = (
        value.dtype.kind == "f"
        and value.shape[-1:] == (_WIDTH,)
        and value.size == (value.shape[-2] * _WIDTH if value.ndim > 1 else -1)
    )
    if not fits or value.ndim < 3:
        return fits
    # A head of two classes has six numbers as well, the first of which is no class.
    return bool((value[..., 0] == np.floor(value[..., 0])).all())


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
