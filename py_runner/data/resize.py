"""Resizes of 8-bit pixels that other libraries define, bit by bit as they do them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Pixels",
    "resize_cv2_area",
    "resize_cv2_cubic",
    "resize_cv2_linear",
    "resize_cv2_linear_f32",
    "resize_cv2_nearest",
    "resize_pil_bilinear",
]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
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
    scale: tuple[float, float] | None = None,
) -> Pixels:
    """Resize as OpenCV's `cv2.resize(..., INTER_LINEAR)` does with 8-bit pixels, bit by bit.

    pixels: uint8 [h, w, c]. Returns uint8 [height, width, c], or only the part `window` = (top,
    left, height, width) of it. `scale`, (y, x), is what `fy` and `fx` of OpenCV are: it says where
    a destination looks; by default the quotient of the sizes does.

    Equal to OpenCV 4.6, 4.10, 4.11 and 5.0 on x86-64. The method, as in imgproc/src/resize.cpp:
    a destination index d looks at f = float32((d + 0.5) * (source / destination) - 0.5), that is
    at the pixels i = floor(f) and i + 1, both clamped to the image, with weights 1 - (f - i) and
    f - i. Weights are rounded (half to even) to 11 bits. Rows first: h = (p0 * a0 + p1 * a1) >> 4;
    then columns: (((b0 * h0) >> 16) + ((b1 * h1) >> 16) + 2) >> 2. At a border, the horizontal
    weights become 1 and 0. Two special cases: an unchanged size is a copy, and exactly half of
    both sides is the mean of four pixels, (sum + 2) >> 2, or of those there are at an odd border.
    """
    source_height, source_width = pixels.shape[:2]
    top, left, rows, columns = window or (0, 0, height, width)
    if (height, width) == (source_height, source_width):
        return pixels[top : top + rows, left : left + columns].copy()
    scale_y, scale_x = scale or (height / source_height, width / source_width)
    if (scale_y, scale_x) == (0.5, 0.5):
        part = pixels[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
        return _cell_means(part, rows, columns, 2, 2)
    return _interpolated(
        pixels,
        _linear_table(source_width, scale_x, left, columns, snap=True),
        _linear_table(source_height, scale_y, top, rows, snap=False),
    )


def resize_cv2_linear_f32(pixels: npt.NDArray[Any], height: int, width: int) -> Floats:
    """Resize as OpenCV's INTER_LINEAR does with float32 pixels, without IPP, bit by bit.

    Rows first, then columns, each p0 * (1 - f) + p1 * f, rounded after every operation. Exactly
    half of both sides is, as of 8-bit pixels, the mean of four. (Wheels for x86 hand float32 over
    to Intel's IPP, which is within a thousandth of a grey level.)
    """
    source_height, source_width = pixels.shape[:2]
    source = pixels.astype(np.float32)
    if (height, width) == (source_height, source_width):
        return source
    if (2 * height, 2 * width) == (source_height, source_width):
        return _halved(source)
    columns, x = _positions(width / source_width, 0, width)
    x[(columns < 0) | (columns >= source_width - 1)] = 0
    rows, y = _positions(height / source_height, 0, height)
    one = np.float32(1)
    x, y = x[None, :, None], y[:, None, None]
    first, second = columns.clip(0, source_width - 1), (columns + 1).clip(0, source_width - 1)
    upper, lower = rows.clip(0, source_height - 1), (rows + 1).clip(0, source_height - 1)
    wide = source[:, first] * (one - x) + source[:, second] * x
    result: Floats = wide[upper] * (one - y) + wide[lower] * y
    return result


def _halved(source: Floats) -> Floats:
    top, bottom = source[0::2], source[1::2]
    total = ((top[:, 0::2] + top[:, 1::2]) + bottom[:, 0::2]) + bottom[:, 1::2]
    halved: Floats = total * np.float32(0.25)
    return halved


def resize_cv2_cubic(
    pixels: Pixels, height: int, width: int, *, scale: tuple[float, float] | None = None
) -> Pixels:
    """Resize as OpenCV's INTER_CUBIC does with 8-bit pixels, without IPP, bit by bit.

    Four pixels a side with the weights of A = -0.75, rounded to 11 bits. Rows are summed in
    integers. Columns are summed in float32, from the last to the first, eight values of a row at
    a time; what is left over at its end is summed in integers. (Wheels for x86 hand this over to
    Intel's IPP, which differs by one grey level in some pixels of a hundred.)
    """
    source_height, source_width, channels = pixels.shape
    if (height, width) == (source_height, source_width):
        return pixels.copy()
    scale_y, scale_x = scale or (height / source_height, width / source_width)
    columns, across = _cubic(scale_x, width)
    rows, down = _cubic(scale_y, height)
    source = pixels.astype(np.int32)
    wide = np.zeros((source_height, width, channels), np.int32)
    for tap in range(4):
        wide += (
            source[:, (columns + tap - 1).clip(0, source_width - 1)] * across[tap][None, :, None]
        )
    taps = [
        wide[(rows + tap - 1).clip(0, source_height - 1)].reshape(height, width * channels)
        for tap in range(4)
    ]
    unit = np.float32(1 / (1 << 22))
    total = taps[3].astype(np.float32) * (down[3].astype(np.float32) * unit)[:, None]
    for tap in (2, 1, 0):
        total = (
            taps[tap].astype(np.float32) * (down[tap].astype(np.float32) * unit)[:, None] + total
        )
    result = np.rint(total).clip(0, 255).astype(np.uint8)
    left = width * channels // 8 * 8
    if left < width * channels:
        exact = sum(taps[k][:, left:].astype(np.int64) * down[k][:, None] for k in range(4))
        result[:, left:] = ((exact + (1 << 21)) >> 22).clip(0, 255)
    resized: Pixels = result.reshape(height, width, channels)
    return resized


def _cubic(scale: float, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Of each destination, the second of its four source pixels, and the weights, [4, count]."""
    index, x = _positions(scale, 0, count)
    a, one, two, three = np.float32(-0.75), np.float32(1), np.float32(2), np.float32(3)
    y, z = one - x, x + one
    first = ((a * z - np.float32(5) * a) * z + np.float32(8) * a) * z - np.float32(4) * a
    second = ((a + two) * x - (a + three)) * x * x + one
    third = ((a + two) * y - (a + three)) * y * y + one
    weights = np.stack([first, second, third, one - first - second - third])
    return index, np.rint(weights * np.float32(2048)).astype(np.int32)


def resize_cv2_nearest(
    pixels: Pixels, height: int, width: int, *, scale: tuple[float, float] | None = None
) -> Pixels:
    """Resize as OpenCV's INTER_NEAREST does: pixel floor(d * step), where step is 1 / scale."""
    source_height, source_width = pixels.shape[:2]
    scale_y, scale_x = scale or (height / source_height, width / source_width)
    rows = np.floor(np.arange(height) * (1.0 / scale_y)).astype(np.intp).clip(0, source_height - 1)
    columns = np.floor(np.arange(width) * (1.0 / scale_x)).astype(np.intp)
    resized: Pixels = pixels[rows][:, columns.clip(0, source_width - 1)]
    return resized


def resize_cv2_area(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize as OpenCV's INTER_AREA does with 8-bit pixels, bit by bit.

    Where both sides become smaller, a destination is the mean of the source that it covers, pixels
    that are covered in part by that part: rows first, then columns, in float32. Whole ratios are
    means of whole pixels, of four as in INTER_LINEAR. Otherwise it is INTER_LINEAR whose
    destinations look at where they begin, not at where their centre is.
    """
    source_height, source_width = pixels.shape[:2]
    if height > source_height or width > source_width:
        return _interpolated(
            pixels,
            _area_linear(source_width, width, snap=True),
            _area_linear(source_height, height, snap=False),
        )
    step_y, step_x = 1.0 / (height / source_height), 1.0 / (width / source_width)
    if step_y.is_integer() and step_x.is_integer():
        return _cell_means(pixels, height, width, int(step_y), int(step_x))
    wide = np.zeros((source_height, width, pixels.shape[2]), np.float32)
    for index, weight in _covered(source_width, width, step_x):
        wide += pixels[:, index] * weight[None, :, None]
    total = np.zeros((height, width, pixels.shape[2]), np.float32)
    for index, weight in _covered(source_height, height, step_y):
        total += wide[index] * weight[:, None, None]
    return np.rint(total).clip(0, 255).astype(np.uint8)


def _cell_means(pixels: Pixels, height: int, width: int, high: int, wide: int) -> Pixels:
    """The means of cells of `high` x `wide` pixels; cells at the border may lack some."""
    source_height, source_width = pixels.shape[:2]
    missing = ((0, height * high - source_height), (0, width * wide - source_width), (0, 0))
    cells = np.pad(pixels, missing).reshape(height, high, width, wide, -1)
    total = cells.sum(axis=(1, 3), dtype=np.int32)
    if (high, wide) == (2, 2):
        means = (total + 2) >> 2
    else:
        means = np.rint(total.astype(np.float32) * np.float32(1 / (high * wide))).astype(np.int32)
    if missing[0][1] or missing[1][1]:
        rows = (source_height - np.arange(height) * high).clip(0, high)
        columns = (source_width - np.arange(width) * wide).clip(0, wide)
        there = (rows[:, None] * columns[None]).astype(np.float32)[:, :, None]
        partial = np.rint(total.astype(np.float32) / there).astype(np.int32)
        means = np.where(there < high * wide, partial, means)
    result: Pixels = means.astype(np.uint8)
    return result


def _covered(
    source: int, destination: int, step: float
) -> list[tuple[npt.NDArray[np.intp], Floats]]:
    """What destinations cover of the source: tap by tap, each one's pixel and its weight there."""
    taps: list[list[tuple[int, float]]] = []
    for place in range(destination):
        begin = place * step
        end = begin + step
        cell = min(step, source - begin)
        last = min(int(np.floor(end)), source - 1)
        first = min(int(np.ceil(begin)), last)
        covered = [(first - 1, (first - begin) / cell)] if first - begin > 1e-3 else []
        covered += [(pixel, 1.0 / cell) for pixel in range(first, last)]
        if end - last > 1e-3:
            covered.append((last, min(min(end - last, 1.0), cell) / cell))
        taps.append(covered)
    most = max(map(len, taps))
    filled = [covered + [(0, 0.0)] * (most - len(covered)) for covered in taps]
    return [
        (
            np.array([covered[tap][0] for covered in filled], np.intp),
            np.array([covered[tap][1] for covered in filled], np.float32),
        )
        for tap in range(most)
    ]


def _area_linear(source: int, destination: int, *, snap: bool) -> _Table:
    """As `_linear_table`, with the positions of INTER_AREA that enlarges."""
    scale = destination / source
    places = np.arange(destination)
    index = np.floor(places * (1.0 / scale)).astype(np.intp)
    ahead = ((places + 1) - (index + 1) * scale).astype(np.float32)
    fraction = np.where(ahead <= 0, np.float32(0), ahead - np.floor(ahead)).astype(np.float32)
    return _weighted(source, index, fraction, snap=snap)


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


def _linear_table(source: int, scale: float, start: int, count: int, *, snap: bool) -> _Table:
    """Indices and 11-bit weights of the two source pixels of destinations start..start+count-1.

    snap: give the nearer pixel all the weight outside the image (the horizontal pass only).
    """
    return _weighted(source, *_positions(scale, start, count), snap=snap)


def _weighted(source: int, index: npt.NDArray[np.intp], fraction: Floats, *, snap: bool) -> _Table:
    """The two source pixels at `index` and behind, by a fraction of the way between them."""
    if snap:
        fraction[(index < 0) | (index >= source - 1)] = 0
    one, unit = np.float32(1), np.float32(2048)
    return (
        index.clip(0, source - 1),
        (index + 1).clip(0, source - 1),
        np.rint((one - fraction) * unit).astype(np.int32),
        np.rint(fraction * unit).astype(np.int32),
    )


def _positions(scale: float, start: int, count: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Where destinations look: the source pixel before, and how far behind it."""
    step = 1.0 / scale  # OpenCV inverts its inverse: not the same double as source / destination
    positions = ((np.arange(start, start + count) + 0.5) * step - 0.5).astype(np.float32)
    index = np.floor(positions).astype(np.intp)
    return index, positions - index.astype(np.float32)
