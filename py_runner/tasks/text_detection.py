"""Text detection: polygons of a map of how much each pixel is text, as DB networks give it.

The steps are those of PaddleOCR's DBPostProcess with box_type "quad": the outlines of what is above
`threshold`, made wider with `use_dilation`, the smallest rectangle round each, the mean of the map
in it (score_mode "fast") or in the outline ("slow"), and the rectangle grown by `unclip_ratio`
times its area over its perimeter. Needs OpenCV and pyclipper, the extra `ocr`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.errors import DataError, UsageError
from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run
from py_runner.tasks.options import option, output_of

__all__ = ["MAP", "Polygon", "decode", "is_map", "polygons", "polygons_of"]

_Array = npt.NDArray[Any]

MAP = "an output [1, 1, H, W] of how much each pixel is text"
# PaddleOCR's: the options' defaults, and the shortest side of a box before and after it grows.
_THRESHOLD, _BOX_THRESHOLD, _UNCLIP_RATIO, _MAX_CANDIDATES = 0.3, 0.6, 1.5, 1000
_LEAST_SIDE, _GROWS = 3, 2


@dataclass(frozen=True)
class Polygon:
    """One text: its corners, int64 [4, 2] of x, y from top left clockwise, and its score."""

    corners: _Array
    score: float


@dataclass(frozen=True)
class _Settings:
    threshold: float
    box_threshold: float
    unclip_ratio: float
    candidates: int
    dilated: bool
    slow: bool

    @classmethod
    def of(cls, task: Mapping[str, Any] | None) -> _Settings:
        """A task's options, else PaddleOCR's. Raises DataError for those that are not followed."""
        words = {"box_type": "quad", "score_mode": "fast", **(task or {})}
        if words["box_type"] != "quad" or words["score_mode"] not in ("fast", "slow"):
            raise DataError(
                f"text detection with box_type {words['box_type']} and score_mode "
                f"{words['score_mode']} is not followed: box_type is quad, score_mode fast or slow"
            )
        return cls(
            option(task, "threshold", _THRESHOLD),
            option(task, "box_threshold", _BOX_THRESHOLD),
            option(task, "unclip_ratio", _UNCLIP_RATIO),
            int(option(task, "max_candidates", _MAX_CANDIDATES)),
            bool(words.get("use_dilation", False)),
            words["score_mode"] == "slow",
        )


def polygons(run: Run) -> list[list[Polygon]]:
    """The texts of each sample, in pixels of the map (that of the model's input).

    Raises DataError where no output is a map, UsageError where the libraries are not installed.
    """
    return [
        polygons_of(value[0, 0], run.task) for value in output_of(run, is_map, MAP, by_shape=True)
    ]


def is_map(value: _Array) -> bool:
    """Whether an output is the map of one picture."""
    alone = value.ndim == 4 and value.shape[0] == 1
    return alone and value.dtype.kind == "f" and min(value.shape[2:]) > 1


def polygons_of(
    scores: _Array, task: Mapping[str, Any] | None, size: tuple[int, int] | None = None
) -> list[Polygon]:
    """The texts of a map [H, W], by a task's options; `size` is the (height, width) of the picture
    in whose pixels they are to be, by default the map's."""
    return _polygons(scores, _Settings.of(task), size or (scores.shape[0], scores.shape[1]))


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """The texts of each sample: [{id, label, polygons: [{points, score}]}].

    `labels` and `top` are not for polygons.
    """

    def told(both: tuple[Any, ...]) -> dict[str, Any]:
        sample, found = both
        return {
            "id": sample.id,
            "label": sample.label,
            "polygons": [{"points": p.corners.tolist(), "score": p.score} for p in found],
        }

    return Made(told, Zipped(run.samples, polygons(run)))


def _polygons(scores: _Array, settings: _Settings, size: tuple[int, int]) -> list[Polygon]:
    try:
        import cv2
    except ImportError:
        raise UsageError(_LACKING.format("OpenCV")) from None
    height, width = scores.shape
    sides = np.array(size[::-1], np.float32)
    above: _Array = (scores > settings.threshold).astype(np.uint8)
    if settings.dilated:
        above = cv2.dilate(above, np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines[: settings.candidates]:
        corners, side = _rectangle(outline)
        if side < _LEAST_SIDE:
            continue
        score = _mean_inside(scores, outline[:, 0] if settings.slow else corners)
        if score < settings.box_threshold:
            continue
        grown = _grown(corners, settings.unclip_ratio)
        if grown is None:
            continue
        corners, side = _rectangle(grown.reshape(-1, 1, 2))
        if side < _LEAST_SIDE + _GROWS:
            continue
        # Rounded once, on the picture: as PaddleOCR does.
        scaled = corners / np.array([width, height], np.float32) * sides
        placed = np.clip(np.round(scaled), 0, sides).astype(np.int64)
        found.append(Polygon(placed, score))
    return found


_LACKING = "text detection needs {}: pip install 'paddle-edge[ocr]'"


def _rectangle(outline: _Array) -> tuple[_Array, float]:
    """Corners of the smallest rectangle round an outline, clockwise from top left, and its shorter
    side."""
    import cv2

    rectangle = cv2.minAreaRect(outline)
    points = sorted(cv2.boxPoints(rectangle).tolist(), key=lambda point: point[0])
    left, right = (
        pair if pair[1][1] > pair[0][1] else pair[::-1] for pair in (points[:2], points[2:])
    )
    return np.array([left[0], right[0], right[1], left[1]], np.float32), min(rectangle[1])


def _mean_inside(scores: _Array, corners: _Array) -> float:
    """Mean of a map inside a polygon."""
    import cv2

    height, width = scores.shape
    least = np.clip(np.floor(corners.min(0)).astype(int), 0, (width - 1, height - 1))
    most = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width - 1, height - 1))
    part = scores[least[1] : most[1] + 1, least[0] : most[0] + 1].astype(np.float32)
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [(corners - least).astype(np.int32)], [1])
    return float(cv2.mean(part, inside)[0])


def _grown(corners: _Array, ratio: float) -> _Array | None:
    """A polygon whose sides are moved outwards; None where that is not one polygon."""
    try:
        import pyclipper
    except ImportError:
        raise UsageError(_LACKING.format("pyclipper")) from None
    x, y = corners.astype(np.float64).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    length = np.hypot(x - np.roll(x, -1), y - np.roll(y, -1)).sum()
    if not length:
        return None
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(corners, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    paths = offset.Execute(area * ratio / length)
    return np.array(paths[0], np.float32) if len(paths) == 1 else None
