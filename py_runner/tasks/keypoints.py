"""Keypoints: where each heatmap is highest, as PaddleDetection's HRNetPostProcess decodes what
HRNet and TinyPose put out: shifted a quarter of a cell to the higher neighbours, or, with the
option `dark`, to where the logarithm of the blurred heatmap has its summit by the differences round
it (Zhang et al., Distribution-Aware Coordinate Representation, 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run
from py_runner.tasks.options import NotOfTaskError, option, output_of

__all__ = ["THRESHOLD", "decode", "grids", "points"]

_Array = npt.NDArray[Any]
THRESHOLD = 0.2  # PaddleDetection's score of a point that is seen


def points(run: Run) -> list[_Array]:
    """x, y and score of each point, float64 [K, 3] a sample; x and y in cells of the heatmap.

    Raises NotOfTaskError where no output is heatmaps.
    """
    place = _summit if (run.task or {}).get("dark", False) else _leaning
    return [np.array([_peak(heatmap, place) for heatmap in value[0]]) for value in _heatmaps(run)]


def grids(run: Run) -> list[tuple[int, int]]:
    """Height and width of each sample's heatmaps. Raises NotOfTaskError as `points`."""
    return [(value.shape[2], value.shape[3]) for value in _heatmaps(run)]


def _heatmaps(run: Run) -> Sequence[_Array]:
    if "HigherHRNet" in str((run.task or {}).get("arch", "")):
        raise NotOfTaskError(
            f"{run.model['name']}: HigherHRNet finds several persons by tags, which is not "
            "decoded: a keypoint network of one person is"
        )
    return output_of(
        run,
        lambda v: v.dtype.kind == "f" and v.ndim == 4 and v.shape[0] == 1 and min(v.shape[2:]) > 2,
        "an output of heatmaps [1, K, H, W]",
        by_shape=True,
    )


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """The points of each sample of at least the task's `threshold`:
    [{id, label, points: [{index, name, x, y, score}]}]. `top` is not for points."""
    threshold = option(run.task, "threshold", THRESHOLD)

    def told(both: tuple[Any, ...]) -> dict[str, Any]:
        sample, found = both
        return {
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

    return Made(told, Zipped(run.samples, points(run)))


def _peak(
    heatmap: _Array, place: Callable[[_Array, int, int], tuple[float, float]]
) -> tuple[float, float, float]:
    """x, y and score; the first cell where nothing is above 0, as in PaddleDetection."""
    values = heatmap.astype(np.float32)
    y, x = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
    score = float(values[y, x])
    return (*place(values, *((x, y) if score > 0 else (0, 0))), score)


def _leaning(values: _Array, x: int, y: int) -> tuple[float, float]:
    height, width = values.shape
    if not (1 < x < width - 1 and 1 < y < height - 1):
        return float(x), float(y)
    return (
        x + 0.25 * float(np.sign(values[y, x + 1] - values[y, x - 1])),
        y + 0.25 * float(np.sign(values[y + 1, x] - values[y - 1, x])),
    )


def _summit(values: _Array, x: int, y: int) -> tuple[float, float]:
    height, width = values.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return float(x), float(y)
    near = np.log(np.maximum(_blurred(values), 1e-10))[y - 2 : y + 3, x - 2 : x + 3]
    slope = 0.5 * np.array([near[2, 3] - near[2, 1], near[3, 2] - near[1, 2]], np.float64)
    across = near[3, 3] - near[1, 3] - near[3, 1] + near[1, 1]
    curve = 0.25 * np.array(
        [
            [near[2, 4] - 2 * near[2, 2] + near[2, 0], across],
            [across, near[4, 2] - 2 * near[2, 2] + near[0, 2]],
        ],
        np.float64,
    )
    if not np.linalg.det(curve):
        return float(x), float(y)
    shift = -np.linalg.solve(curve, slope)
    return x + float(shift[0]), y + float(shift[1])


def _blurred(values: _Array) -> _Array:
    """By the 3 x 3 of Gauss, with nothing beyond the border, and as high as before."""
    padded = np.pad(values.astype(np.float64), 1)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    blurred = ((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16).astype(np.float32)
    return np.asarray(blurred * (values.max() / blurred.max()), np.float32)
