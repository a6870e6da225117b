"""Lines of text on a page: their corners in order, and their pixels, upright and level.

The rules are those of PaddleOCR's own command (tools/infer). Needs OpenCV, the extra `ocr`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.errors import UsageError

__all__ = ["cut", "on_page", "reading_order", "upside_down"]

_Array = npt.NDArray[Any]
_LEAST_SIDE = 3  # pixels: what is not longer is no line
_SAME_ROW = 10  # pixels between the tops of lines that are read from left to right
_TALL = 1.5  # times as high as wide: such a line is written downwards


def on_page(corners: _Array, height: int, width: int) -> _Array | None:
    """Corners [4, 2] from top left clockwise, as float32 within a page; None for what is too small
    for a line."""
    sums, differences = corners.sum(1), corners[:, 1] - corners[:, 0]
    first, third = int(sums.argmin()), int(sums.argmax())
    rest = [i for i in range(4) if i not in (first, third)]
    if len(rest) != 2:  # all in one point
        return None
    second = min(rest, key=lambda i: differences[i])
    fourth = rest[0] if second == rest[1] else rest[1]
    ordered = corners[[first, second, third, fourth]].astype(np.float32)
    placed = np.trunc(np.clip(ordered, 0, np.array([width - 1, height - 1], np.float32)))
    across, down = (np.linalg.norm(placed[0] - placed[i]) for i in (1, 3))
    return placed if min(int(across), int(down)) > _LEAST_SIDE else None


def reading_order(lines: Sequence[_Array]) -> list[int]:
    """The places of lines from top to bottom, in a row from left to right."""
    order = sorted(range(len(lines)), key=lambda i: (lines[i][0][1], lines[i][0][0]))
    for end in range(1, len(order)):
        place = end
        while place > 0:
            above, here = lines[order[place - 1]][0], lines[order[place]][0]
            if abs(here[1] - above[1]) >= _SAME_ROW or here[0] >= above[0]:
                break
            order[place - 1 : place + 1] = order[place], order[place - 1]
            place -= 1
    return order


def cut(pixels: _Array, corners: _Array) -> _Array:
    """The pixels [h, w, 3] of a line: its corners become a rectangle's by perspective, and what is
    written downwards is turned to the left."""
    try:
        import cv2
    except ImportError:
        raise UsageError("lines need OpenCV: pip install 'paddle-edge[ocr]'") from None
    corners = corners.astype(np.float32)

    def longer(a: tuple[int, int], b: tuple[int, int]) -> int:
        return int(max(np.linalg.norm(corners[i] - corners[j]) for i, j in (a, b)))

    width, height = max(1, longer((0, 1), (2, 3))), max(1, longer((0, 3), (1, 2)))
    level = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    line = cv2.warpPerspective(
        np.ascontiguousarray(pixels),
        cv2.getPerspectiveTransform(corners, level),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    tall = height / width >= _TALL
    return np.ascontiguousarray(np.rot90(line) if tall else line)


def upside_down(pixels: _Array) -> _Array:
    """A line turned by 180 degrees."""
    return np.ascontiguousarray(pixels[::-1, ::-1])
