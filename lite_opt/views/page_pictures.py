"""What a pipeline read on pages, drawn: outlines on the page, and beside it what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lite_opt.judge.pages import paired
from lite_opt.views.pictures import BLACK, DIFFERENT, colour_of
from py_runner.data.decode import open_image
from py_runner.formats.pages import Line, Page, Pages

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["beside_each_other", "with_lines"]

_LEAST_LETTER = 8.0
_TITLE = 24  # pixels, of the strip above a page


def with_lines(file: Path, page: Page, run: Pages) -> Image.Image:
    """A page with its lines: their outlines, and what they say beside the page where it stands."""
    from PIL import Image

    picture = open_image(file, run.stages["detection"].spec)
    result = Image.new("RGB", (2 * picture.width, picture.height), "white")
    result.paste(_outlined(picture, page.text, ()), (0, 0))
    result.paste(_written(page, ()), (picture.width, 0))
    return result


def beside_each_other(file: Path, id_: str, reference: Pages, candidate: Pages) -> Image.Image:
    """A page as two runs read it, the reference on the left: outlines above, texts below. What one
    reads otherwise than the other is red."""
    from PIL import Image, ImageDraw, ImageFont

    pages = [run.select([id_]).pages[0] for run in (reference, candidate)]
    picture = open_image(file, reference.stages["detection"].spec)
    result = Image.new("RGB", (2 * picture.width, 2 * picture.height + _TITLE), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(_TITLE * 0.6)
    pairs = [(a, b) for a, b in paired(*pages) if a and b and a.text == b.text]
    for side, (page, run) in enumerate(zip(pages, (reference, candidate))):
        alike = [pair[side] for pair in pairs]
        otherwise = [i for i, line in enumerate(page.text) if line not in alike]
        left = side * picture.width
        who = "reference" if side == 0 else "candidate"
        draw.text((left + 6, 4), f"{who}: {_engines(run)}", "black", font=font)
        result.paste(_outlined(picture, page.text, otherwise), (left, _TITLE))
        result.paste(_written(page, otherwise), (left, _TITLE + picture.height))
    return result


def _engines(run: Pages) -> str:
    """Which engines read it, in words."""
    names = {f"{s.engine} {s.engine_version}" for s in run.stages.values() if s.engine_version}
    return ", ".join(sorted(names))


def _outlined(picture: Image.Image, lines: Sequence[Line], marked: Sequence[int]) -> Image.Image:
    from PIL import ImageDraw

    result = picture.copy()
    draw = ImageDraw.Draw(result)
    for number, line in enumerate(lines):
        draw.line(_outline(line), fill=_ink(number, marked), width=2 + 2 * (number in marked))
    return result


def _written(page: Page, marked: Sequence[int]) -> Image.Image:
    """What the lines say, where they stand, on white."""
    from PIL import Image, ImageDraw, ImageFont

    result = Image.new("RGB", (page.width, page.height), "white")
    draw = ImageDraw.Draw(result)
    for number, line in enumerate(page.text):
        outline = _outline(line)
        draw.line(outline, fill=_ink(number, marked), width=1)
        high = np.hypot(*np.subtract(outline[0], outline[3]))
        wide = np.hypot(*np.subtract(outline[0], outline[1]))
        text = f"{line.text} {line.score:.2f}"
        # Its own font has no letters but Latin ones.
        size = max(_LEAST_LETTER, min(high, wide) * 0.7)
        font = ImageFont.load_default(size)
        left, _, right, _ = draw.textbbox((0, 0), text, font=font)
        if right - left > max(wide, high):
            size = max(_LEAST_LETTER, size * max(wide, high) / (right - left))
            font = ImageFont.load_default(size)
        x, y = np.array(outline[:4]).T
        ink = DIFFERENT if number in marked else BLACK
        draw.text((x.min() + 3, y.mean()), text, ink, font=font, anchor="lm")
    return result


def _outline(line: Line) -> list[Any]:
    corners = [(x, y) for x, y in line.points]
    return [*corners, corners[0]]


def _ink(number: int, marked: Sequence[int]) -> tuple[int, int, int]:
    return DIFFERENT if number in marked else colour_of(number)
