"""Where a picture lands when it is resized: the rules of Paddle's kits, to the pixel.

Rounding is part of a rule: kits round halves to even, cut off, or go up, and a side that differs by
one pixel is another tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["RULES", "SIDE", "Placement", "placement"]

_LONGEST_PAGE = 4000  # to which PaddleOCR shortens the long side of what it detects text in
_LONGEST_LINE = 3200  # at which PaddleX stops widening a line of text


@dataclass(frozen=True)
class Placement:
    """A picture in its tensor: it is resized to `height` x `width`, which begins at (`top`, `left`)
    of a canvas of `full_height` x `full_width`, or before it.

    scale: (y, x), what coordinates of the picture are multiplied by.
    told: whether the resize itself is told the scale, and not the sizes.
    """

    height: int
    width: int
    full_height: int
    full_width: int
    scale: tuple[float, float]
    told: bool = False
    top: float = 0
    left: float = 0


def placement(rule: str, size: Any, height: int, width: int) -> Placement:
    """Where a picture of `height` x `width` lands, by one of `RULES` and the size it takes."""
    found = _PLACERS[rule](size, height, width)
    if isinstance(found, Placement):
        return found
    high, wide = found
    return Placement(high, wide, high, wide, (high / height, wide / width))


def _short(size: int, height: int, width: int) -> tuple[int, int]:
    scale = float(size) / min(width, height)
    return round(height * scale), round(width * scale)


def _long(size: int, height: int, width: int) -> tuple[int, int]:
    scale = float(size) / float(max(height, width))
    return round(height * scale), round(width * scale)


def _within(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    side = max(height, width)
    wanted = min(max(side, size[0]), size[1])
    return (height, width) if wanted == side else _long(wanted, height, width)


def _pad(size: tuple[int, int], height: int, width: int) -> Placement:
    # The quotient first: ceil() of another order of operations can differ by one pixel.
    wide = min(math.ceil(size[0] * (width / float(height))), size[1])
    return Placement(size[0], wide, *size, (size[0] / height, wide / width))


def _line(size: tuple[int, int], height: int, width: int) -> Placement:
    high, least = size
    ratio = width / float(height)
    full = min(int(high * max(least / high, ratio)), _LONGEST_LINE)
    wide = min(math.ceil(high * ratio), full)
    return Placement(high, wide, high, full, (high / height, wide / width))


def _fit(size: tuple[int, int], height: int, width: int) -> Placement:
    scale = min(size) / float(min(height, width))
    if round(scale * max(height, width)) > max(size):
        scale = max(size) / float(max(height, width))
    high, wide = round(height * scale), round(width * scale)
    return Placement(high, wide, high, wide, (scale, scale), told=True)


def _letterbox(size: tuple[int, int], height: int, width: int) -> Placement:
    ratio = min(float(size[0]) / height, float(size[1]) / width)
    high, wide = round(height * ratio), round(width * ratio)
    top, left = round((size[0] - high) / 2 - 0.1), round((size[1] - wide) / 2 - 0.1)
    return Placement(high, wide, *size, (ratio, ratio), top=top, left=left)


def _affine(size: tuple[int, int], height: int, width: int) -> Placement:
    scale = size[1] / width
    return Placement(*size, *size, (scale, scale), top=(size[0] - height * scale) / 2)


def _page_min(size: int, height: int, width: int) -> tuple[int, int]:
    side = min(height, width)
    return _page(float(size) / side if side < size else 1.0, height, width)


def _page_max(size: int, height: int, width: int) -> tuple[int, int]:
    side = max(height, width)
    return _page(float(size) / side if side > size else 1.0, height, width)


def _page(ratio: float, height: int, width: int) -> tuple[int, int]:
    high, wide = int(height * ratio), int(width * ratio)
    if max(high, wide) > _LONGEST_PAGE:
        ratio = float(_LONGEST_PAGE) / max(high, wide)
        high, wide = int(high * ratio), int(wide * ratio)
    return max(round(high / 32) * 32, 32), max(round(wide / 32) * 32, 32)


def _page_long(size: int, height: int, width: int) -> tuple[int, int]:
    ratio = float(size) / max(height, width)
    high, wide = int(height * ratio), int(width * ratio)
    return (high + 127) // 128 * 128, (wide + 127) // 128 * 128


_PLACERS: dict[str, Callable[[Any, int, int], Placement | tuple[int, int]]] = {
    "short": _short,
    "exact": lambda size, height, width: size,
    "pad": _pad,
    "none": lambda size, height, width: (height, width),
    "long": _long,
    "within": _within,
    "fit": _fit,
    "letterbox": _letterbox,
    "affine": _affine,
    "page-min": _page_min,
    "page-max": _page_max,
    "page-long": _page_long,
    "line": _line,
}
RULES = tuple(_PLACERS)
# Those whose size is one side; `none` has none, and the others have a height and a width.
SIDE = frozenset(("short", "long", "page-min", "page-max", "page-long"))
