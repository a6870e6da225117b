"""Rendered pictures of circles, squares and triangles on textured backgrounds, with their labels.

What the small detector and segmenter of `benchmarks/train_shapes.py` are trained and judged on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["SHAPES", "ShapePicture", "shape_pictures", "write_shape_pictures"]

SHAPES = ("circle", "square", "triangle")
"""The classes, in index order; in masks, 0 is the background and a shape's class one more."""

_SIDES = (120, 201)  # pixels: least and most of a picture's width and height
_RADII = (0.08, 0.22)  # of the shorter side
_MOST = 5  # shapes
_FINER = 4  # times as fine, outlines are drawn
_LEAST_CONTRAST = 60.0  # between a shape's colour and the background's, of 255
_TRIES = 20

_Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ShapePicture:
    """An RGB picture; `boxes` are (class, [x1, y1, x2, y2]) in pixels, `mask` is uint8 [H, W]."""

    image: Image.Image
    boxes: list[tuple[int, _Array]]
    mask: _Array


def shape_pictures(count: int, *, seed: int = 0) -> Iterator[ShapePicture]:
    """Pictures that are rendered from a seed, the same ones whatever the count is.

    One to five shapes each, of any size, colour and angle, which do not cover one another; half of
    the pictures are noisy, half blurred.
    """
    for number in range(count):
        yield _picture(np.random.default_rng([seed, number]))


def write_shape_pictures(folder: str | Path, *, count: int, seed: int = 0) -> Path:
    """Write pictures as PNG into the new folder `images`, masks into `masks`, and beside them
    `instances.json` (COCO's boxes) and `masks.txt` (PaddleSeg's list). Returns `folder`."""
    folder = Path(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    rows = []
    for number, picture in enumerate(shape_pictures(count, seed=seed), 1):
        name = f"{number:04d}.png"
        picture.image.save(folder / "images" / name)
        Image.fromarray(picture.mask).save(folder / "masks" / name)
        width, height = picture.image.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for kind, (x1, y1, x2, y2) in picture.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": [float(side) for side in (x1, y1, x2 - x1, y2 - y1)],
                    "area": float((x2 - x1) * (y2 - y1)),
                    "iscrowd": 0,
                }
            )
        rows.append(f"images/{name} masks/{name}\n")
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(SHAPES, 1)],
    }
    (folder / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "masks.txt").write_text("".join(rows), encoding="utf-8")
    return folder


def _picture(rng: np.random.Generator) -> ShapePicture:
    width, height = (int(side) for side in rng.integers(*_SIDES, 2))
    pixels = _texture(rng, height, width)
    mask = np.zeros((height, width), np.uint8)
    boxes = []
    for kind, corners in _placed(rng, width, height):
        cover = _cover(corners, width, height)
        colour = _colour(rng, pixels[cover > 0.5].mean(0))
        ink = colour + rng.normal(0, rng.uniform(0, 12), pixels.shape)
        pixels = pixels * (1 - cover[..., None]) + ink * cover[..., None]
        mask[cover > 0.5] = kind + 1
        boxes.append((kind, np.concatenate([corners.min(0), corners.max(0)])))
    if rng.random() < 0.5:
        pixels = pixels + rng.normal(0, rng.uniform(2, 15), pixels.shape)
    image = Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    return ShapePicture(image, boxes, mask)


def _placed(rng: np.random.Generator, width: int, height: int) -> Iterator[tuple[int, _Array]]:
    """Classes and outlines [N, 2] of shapes whose surrounding circles do not meet."""
    there: list[tuple[_Array, float]] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        for _ in range(_TRIES):
            radius = float(rng.uniform(*_RADII)) * min(width, height)
            middle = rng.uniform(radius, np.array([width, height]) - radius)
            if all(np.hypot(*(middle - other)) > radius + far for other, far in there):
                there.append((middle, radius))
                kind = int(rng.integers(len(SHAPES)))
                yield kind, middle + radius * _outline(rng, kind)
                break


def _outline(rng: np.random.Generator, kind: int) -> _Array:
    """Corners on a circle of radius 1."""
    corners = {"circle": 64, "square": 4, "triangle": 3}[SHAPES[kind]]
    angles = rng.uniform(0, 2 * math.pi) + 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _cover(corners: _Array, width: int, height: int) -> _Array:
    """How much of each pixel lies inside, float64 [H, W]."""
    fine = Image.new("L", (width * _FINER, height * _FINER), 0)
    points = [(float(x), float(y)) for x, y in corners * _FINER - 0.5]
    ImageDraw.Draw(fine).polygon(points, fill=255)
    return np.asarray(fine.resize((width, height), Image.Resampling.BOX), np.float64) / 255


def _colour(rng: np.random.Generator, behind: _Array) -> _Array:
    """One that is told from what is behind it."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - behind).max() >= _LEAST_CONTRAST:
            return colour


def _texture(rng: np.random.Generator, height: int, width: int) -> _Array:
    """A background: two colours mixed by waves or by clouds, float64 [H, W, 3]."""
    first, second = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    second = first + (second - first) * rng.uniform(0, 0.5)
    if rng.random() < 0.5:
        y, x = np.mgrid[:height, :width]
        angle, length = rng.uniform(0, math.pi), rng.uniform(4, 60)
        along = (x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / length
        mixed = 0.5 + 0.5 * np.sin(along)
    else:
        cells = rng.integers(2, 24, 2)
        clouds = Image.fromarray(rng.integers(0, 256, cells, dtype=np.uint8))
        whole = clouds.resize((width, height), Image.Resampling.BICUBIC)
        mixed = np.asarray(whole, np.float64) / 255
    return np.asarray(first + (second - first) * mixed[..., None])
