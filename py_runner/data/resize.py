"""Resizes of 8-bit pixels that other libraries define, bit by bit as they do them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Pixels", "resize_cv2_linear", "resize_pil_bilinear"]

Pixels = npt.NDArray[np.uint8]
# Of each destination, the indices of its two source pixels and their weights.
_Table = tuple[
    npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32], npt.NDArray[np.int32]
]


def resize_cv2_linear(
    pixels: Pixels,
    height: int,
    width: int,
    *,
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Resize as OpenCV's `cv2.resize(..., INTER_LINEAR)` does with 8-bit pixels, bit by bit.

    pixels: uint8 [h, w, c]. Returns uint8 [height, width, c], or only the part `window` = (top,
    left, height, width) of it.

    Equal to OpenCV 4.6, 4.10, 4.11 and 5.0 on x86-64. The method, as in imgproc/src/resize.cpp:
    a destination index d looks at f = float32((d + 0.5) * (source / destination) - 0.5), that is
    at the pixels i = floor(f) and i + 1, both clamped to the image, with weights 1 - (f - i) and
    f - i. Weights are rounded (half to even) to 11 bits. Rows first: h = (p0 * a0 + p1 * a1) >> 4;
    then columns: (((b0 * h0) >> 16) + ((b1 * h1) >> 16) + 2) >> 2. At a border, the horizontal
    weights become 1 and 0. Two special cases: an unchanged size is a copy, and exactly half of
    both sides is the mean of four pixels, (sum + 2) >> 2.
    """
    source_height, source_width = pixels.shape[:2]
    top, left, rows, columns = window or (0, 0, height, width)
    if (height, width) == (source_height, source_width):
        return pixels[top : top + rows, left : left + columns].copy()
    if (2 * height, 2 * width) == (source_height, source_width):
        part = pixels[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
        pairs = part[0::2].astype(np.uint16) + part[1::2]
        mean: Pixels = ((pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8)
        return mean

    return _interpolated(
        pixels,
        _linear_table(source_width, width, left, columns, snap=True),
        _linear_table(source_height, height, top, rows, snap=False),
    )


def resize_pil_bilinear(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize as Pillow's BILINEAR does, antialiased. pixels: uint8 [h, w, 3]."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _interpolated(pixels: Pixels, horizontal: _Table, vertical: _Table) -> Pixels:
    """The pixels at the tables' destinations: rows first, then columns."""
    source_height, source_width, channels = pixels.shape
    x0, x1, a0, a1 = horizontal
    y0, y1, b0, b1 = vertical
    lanes = np.arange(channels)
    lanes0 = (x0[:, None] * channels + lanes).ravel()
    lanes1 = (x1[:, None] * channels + lanes).ravel()
    weights0, weights1 = np.repeat(a0, channels), np.repeat(a1, channels)
    flat = pixels.reshape(source_height, source_width * channels)

    def resized_rows(row_indices: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        picked = flat[row_indices]
        result = picked.take(lanes0, axis=1) * weights0
        result += picked.take(lanes1, axis=1) * weights1
        result >>= 4
        return result

    if len(y0) > source_height:  # upscaling: the same rows are needed again and again
        lowest = int(y0.min())
        every = resized_rows(np.arange(lowest, int(y1.max()) + 1))
        upper, lower = every[y0 - lowest], every[y1 - lowest]
    else:
        upper, lower = resized_rows(y0), resized_rows(y1)
    upper *= b0[:, None]
    upper >>= 16
    lower *= b1[:, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    resized: Pixels = upper.astype(np.uint8).reshape(len(y0), len(x0), channels)
    return resized


def _linear_table(source: int, destination: int, start: int, count: int, *, snap: bool) -> _Table:
    """Indices and 11-bit weights of the two source pixels of destinations start..start+count-1.

    snap: give the nearer pixel all the weight outside the image (the horizontal pass only).
    """
    scale = 1.0 / (destination / source)  # OpenCV inverts its inverse: not the same double
    positions = ((np.arange(start, start + count) + 0.5) * scale - 0.5).astype(np.float32)
    index = np.floor(positions).astype(np.intp)
    fraction = positions - index.astype(np.float32)
    if snap:
        fraction[(index < 0) | (index >= source - 1)] = 0
    one, unit = np.float32(1), np.float32(2048)
    return (
        index.clip(0, source - 1),
        (index + 1).clip(0, source - 1),
        np.rint((one - fraction) * unit).astype(np.int32),
        np.rint(fraction * unit).astype(np.int32),
    )
