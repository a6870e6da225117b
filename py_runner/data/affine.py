"""Pictures brought onto a canvas by their centre, as PaddleDetection feeds keypoint networks: its
TopDownEvalAffine, which warps by OpenCV 4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["onto_canvas"]

_Pixels = npt.NDArray[np.uint8]


def onto_canvas(pixels: _Pixels, height: int, width: int) -> _Pixels:
    """A picture, uint8 [h, w, 3], as wide as a canvas of `height` x `width`, centre upon centre;
    black above and below where it is lower, cut off where it is higher.

    Bit-equal with cv2.warpAffine's INTER_LINEAR of OpenCV 4 (5 interpolates otherwise): positions
    are multiples of 1/32 pixel, and what is beyond the picture is 0.
    """
    steps = _backwards(pixels.shape[0], pixels.shape[1], height, width)
    x, left = _places(steps[0], width, height)
    y, top = _places(steps[1], width, height)
    black = np.pad(pixels, ((1, 1), (1, 1), (0, 0))).astype(np.int64)

    def at(down: int, right: int) -> npt.NDArray[np.int64]:
        rows = np.clip(y + down, -1, pixels.shape[0]) + 1
        return np.asarray(black[rows, np.clip(x + right, -1, pixels.shape[1]) + 1])

    left, top = left[..., None], top[..., None]
    upper = at(0, 0) * (32 - left) + at(0, 1) * left
    lower = at(1, 0) * (32 - left) + at(1, 1) * left
    return np.asarray((upper * (32 - top) + lower * top + 512) >> 10, np.uint8)


def _places(
    step: npt.NDArray[np.float64], width: int, height: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pixel before each place of the canvas, and how many 32nds behind it that is."""
    along = np.rint(step[0] * np.arange(width) * 1024).astype(np.int64)
    down = np.rint((step[1] * np.arange(height) + step[2]) * 1024).astype(np.int64)
    at = (down[:, None] + 16 + along) >> 5
    return at >> 5, at & 31


def _backwards(high: int, wide: int, height: int, width: int) -> npt.NDArray[np.float64]:
    """From the canvas to the picture: [2, 3], solved for three points and inverted as the kit and
    OpenCV do, so that no place is rounded otherwise."""
    here, there = (
        _corner(np.array(size)) for size in ((wide / 2, high / 2), (width / 2, height / 2))
    )
    onto = np.linalg.solve(np.c_[here, np.ones(3)], there).T
    factor = 1 / (onto[0, 0] * onto[1, 1] - onto[0, 1] * onto[1, 0])
    back = np.array([[onto[1, 1], -onto[0, 1]], [-onto[1, 0], onto[0, 0]]]) * factor
    shift = [-row[0] * onto[0, 2] - row[1] * onto[1, 2] for row in back]
    return np.asarray(np.c_[back, shift])


def _corner(centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The centre, the point above it as far as the sides are, and the one left of that."""
    points = np.zeros((3, 2), np.float32)
    points[0], points[1] = centre, centre - (0, centre[0])
    away = points[0] - points[1]
    points[2] = points[1] + np.array([-away[1], away[0]], np.float32)
    return points.astype(np.float64)
