"""Rendered pages of text, of which every line is known: what it says and where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from lite_opt.demo.text_lines import FONTS, background, colours, phrase, typeface

__all__ = ["PLACED", "TextPage", "text_pages", "write_text_pages"]

_Array = npt.NDArray[np.float64]
_SIDES = (480, 720)  # pixels: least and most of a page's width and height
_SIZES = (16, 41)  # of letters
_LEAST_GAP = 6
# How pages stand: upright, on their heads, on their sides.
PLACED = ((0, 0.8), (180, 0.1), (90, 0.1))


@dataclass(frozen=True, eq=False)
class TextPage:
    """An RGB page; `lines` are (text, corners [4, 2] from the text's own top left clockwise)."""

    image: Image.Image
    lines: list[tuple[str, _Array]]


def text_pages(count: int, *, seed: int = 0) -> Iterator[TextPage]:
    """Pages that are rendered from a seed, the same ones whatever the count is.

    Fonts, sizes, colours and backgrounds are mixed; most pages stand upright but for a few degrees,
    a tenth each on their heads and on their sides; half are noisy, half blurred.
    """
    for number in range(count):
        yield _page(np.random.default_rng([seed, number]))


def write_text_pages(folder: str | Path, *, count: int, seed: int = 0) -> Path:
    """Write pages as PNG into a new folder, and beside them what they say in PaddleOCR's form,
    `labels.txt`. Returns that file."""
    folder = Path(folder)
    folder.mkdir()
    rows = []
    for number, page in enumerate(text_pages(count, seed=seed)):
        name = f"{number:04d}.png"
        page.image.save(folder / name)
        entries = [
            {"transcription": text, "points": np.round(corners, 1).tolist()}
            for text, corners in page.lines
        ]
        rows.append(f"{name}\t{json.dumps(entries, ensure_ascii=False)}\n")
    labels = folder / "labels.txt"
    labels.write_text("".join(rows), encoding="utf-8")
    return labels


def _page(rng: np.random.Generator) -> TextPage:
    width, height = (int(side) for side in rng.integers(*_SIDES, 2))
    ink, paper = colours(rng)
    mask = Image.new("L", (width, height), 0)
    lines = _lines(rng, ImageDraw.Draw(mask), width, height)
    angles, shares = zip(*PLACED)
    angle = float(rng.choice(angles, p=shares) + rng.uniform(-3, 3))
    turned = mask.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    cover: _Array = np.asarray(turned, np.float64)[..., None] / 255
    empty = background(rng, paper, turned.height, turned.width)
    pixels: _Array = np.asarray(empty * (1 - cover) + ink * cover)
    if rng.random() < 0.5:
        pixels = pixels + rng.normal(0, rng.uniform(2, 12), pixels.shape)
    image = Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    radians = math.radians(angle)
    cosine, sine = math.cos(radians), math.sin(radians)
    about = np.array([[cosine, -sine], [sine, cosine]])  # of x, y downwards, counterclockwise
    middle, new_middle = np.array([width, height]) / 2, np.array(turned.size) / 2
    placed = [(text, (corners - middle) @ about + new_middle) for text, corners in lines]
    return TextPage(image, placed)


def _lines(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int
) -> list[tuple[str, _Array]]:
    """Lines drawn one below the other, as long as they fit."""
    lines: list[tuple[str, _Array]] = []
    y = int(rng.integers(16, 40))
    while True:
        text = phrase(rng)
        font = typeface(int(rng.integers(len(FONTS))), int(rng.integers(*_SIZES)))
        left, top, right, bottom = font.getbbox(text)
        wide, high = right - left, bottom - top
        if y + high + 16 > height:
            return lines
        if wide + 40 <= width:
            x = int(rng.integers(20, width - int(wide) - 19))
            draw.text((x - left, y - top), text, fill=255, font=font)
            box = [[x, y], [x + wide, y], [x + wide, y + high], [x, y + high]]
            lines.append((text, np.array(box, np.float64)))
        y += int(high + rng.integers(_LEAST_GAP, 70) + high // 2)
