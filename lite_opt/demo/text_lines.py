"""Rendered lines of text with a known direction, for PP-OCR's direction classifier."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from lite_opt.demo.packages import package_path

__all__ = [
    "FONTS",
    "TEXT_LINE_LABELS",
    "TextLine",
    "background",
    "colours",
    "phrase",
    "text_lines",
    "typeface",
    "write_text_lines",
]

TEXT_LINE_LABELS = ("0_degree", "180_degree")
"""Class names of PP-OCR's direction classifier, in index order."""

FONTS = (
    ("font_roboto", "Roboto-Light.ttf"),
    ("font_roboto", "Roboto-Regular.ttf"),
    ("font_roboto", "Roboto-Italic.ttf"),
    ("font_roboto", "Roboto-Medium.ttf"),
    ("font_roboto", "Roboto-Bold.ttf"),
    ("font_roboto", "Roboto-Black.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Regular.ttf"),
    ("font_source_sans_pro", "SourceSansPro-It.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Semibold.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-It.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Semibold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    None,  # Pillow's own
)

# What stands on signs, labels, forms and receipts. `_CONTENT` is filled from `_WORDS`, and its
# `#` become digits, its `@` capitals.
_WORDS = {
    "adjective": (
        "Central,Daily,Fresh,General,Green,Local,Main,Modern,National,New,Northern,Old,Open,"
        "Organic,Public,Regional,Royal,Small,Southern,Technical"
    ),
    "noun": (
        "Archive,Bakery,Bridge,Captain,Delivery,Energy,Engine,Factory,Garden,Harbour,"
        "Hospital,Journal,Kitchen,Laboratory,Library,Machine,Market,Museum,Network,Office,"
        "Pharmacy,Platform,Program,Reception,Research,School,Service,Station,Storage,Theatre,"
        "Ticket,University,Workshop"
    ),
    "food": (
        "Apple juice,Black pepper,Brown bread,Butter,Cheddar cheese,Chicken soup,"
        "Dark chocolate,Green tea,Olive oil,Orange marmalade,Roasted coffee,Sparkling water,"
        "Tomato sauce,Vegetable stock,Whole milk,Yoghurt"
    ),
    "street": (
        "Abbey,Bridge,Castle,Chapel,Church,Garden,Harbour,Highfield,King,Market,Mill,Orchard,"
        "Park,Queen,Station,Victoria"
    ),
    "month": (
        "January,February,March,April,May,June,July,August,September,October,November,December"
    ),
    "day": "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday",
    "notice": (
        "Please keep this door closed,Mind the gap,Emergency exit,No smoking area,"
        "Authorised personnel only,Do not disturb,Keep refrigerated,Handle with care,"
        "Fragile - this way up,Push to open,Please wait here,Out of order,"
        "Danger high voltage,Cash payment only,Tickets and information,"
        "Thank you for your visit,Lost property,Bicycle parking,Fire assembly point,"
        "Wet floor,Reserved for guests,Best before end,Made with recycled paper,Customer copy"
    ),
}
_CONTENT = (
    "{noun}",
    "{noun}",
    "{food}",
    "{day}",
    "Exit ##",
    "Gate @#",
    "Room ###",
    "##.## EUR",
    "1#/0#/202#",
    "{notice}",
    "{notice}",
    "{noun} {noun}",
    "{adjective} {noun}",
    "{adjective} {noun}",
    "The {adjective} {noun}",
    "{noun} and {noun}",
    "{adjective} {noun} {noun}",
    "{food} ### g",
    "{food} #.## EUR",
    "Fresh {food}",
    "## {street} Street",
    "### {street} Road",
    "{noun} Room ###",
    "Platform # - {noun}",
    "{day} 1# {month}",
    "2# {month} 202#",
    "{day} #.30 - 1#.00",
    "Order No. ######",
    "Invoice 202#-####",
    "Serial No. @@#-####",
    "Total amount ##.##",
    "Model @@-####",
    "{noun} No. ##",
    "Tel. 0## ### ####",
)

_MINIMUM_CONTRAST = 4.5

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TextLine:
    """An image of one line of text, cut out closely as a text detector does.

    `label` is the index into TEXT_LINE_LABELS: 0 upright, 1 upside down. `text` reads as it does
    when upright. The image is RGB, about 15 to 65 pixels high and 2 to 20 times as wide.
    """

    image: Image.Image
    label: int
    text: str


def text_lines(
    count: int = 200,
    *,
    seed: int = 0,
    fonts: Sequence[int] = range(len(FONTS)),
    sizes: tuple[int, int] = (14, 48),
) -> list[TextLine]:
    """Render `count` lines of English words and numbers as they stand on signs, labels and forms.

    Font, size, colours (contrast of at least 4.5 by WCAG 2), background (flat, gradient, noise),
    margins, a slight tilt, blur and sensor noise vary. Every second line is turned upside down.
    `fonts` are indices of FONTS, `sizes` the least and the largest in pixels.

    Line i depends on `seed` and i alone, so a longer list begins with the shorter one, and the
    same call gives the same pixels wherever Pillow, FreeType and NumPy have the same versions.
    Needs Pillow >= 10.1 (the size of its own font). Raises DataError, with the command that
    installs it, where the package of a font is missing.
    """
    return [
        _text_line(np.random.default_rng((seed, i)), label=i % 2, fonts=fonts, sizes=sizes)
        for i in range(count)
    ]


def write_text_lines(folder: str | Path, *, count: int = 200, seed: int = 0) -> Path:
    """Write `text_lines(count, seed=seed)` into `folder`, which is created, and return the list.

    `list.txt` has a line `NAME.png LABEL` for each image, with names relative to the folder;
    `texts.txt` has `NAME.png<tab>TEXT`, the form in which PaddleOCR lists recognition data.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = text_lines(count, seed=seed)
    names = [f"line_{i:04d}.png" for i in range(count)]
    for name, line in zip(names, lines):
        line.image.save(folder / name)
    labels = [f"{name} {line.label}\n" for name, line in zip(names, lines)]
    texts = [f"{name}\t{line.text}\n" for name, line in zip(names, lines)]
    (folder / "texts.txt").write_text("".join(texts), encoding="utf-8")
    (folder / "list.txt").write_text("".join(labels), encoding="utf-8")
    return folder / "list.txt"


@functools.cache
def typeface(index: int, size: int) -> ImageFont.FreeTypeFont:
    """One of FONTS in a size."""
    entry = FONTS[index]
    if entry is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    package, name = entry
    path = package_path(package, "files", name)
    # Raqm shapes text differently from version to version and is not in every build.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def phrase(rng: np.random.Generator) -> str:
    """What stands on a sign, a label or a receipt."""
    template = _CONTENT[rng.integers(len(_CONTENT))]
    while "{" in template:
        kind = template[template.index("{") + 1 : template.index("}")]
        words = _WORDS[kind].split(",")
        template = template.replace("{" + kind + "}", words[rng.integers(len(words))], 1)
    letters = [
        str(rng.integers(10)) if c == "#" else chr(65 + rng.integers(26)) if c == "@" else c
        for c in template
    ]
    text = "".join(letters)
    return text.upper() if rng.random() < 0.2 else text


def _luminance(colour: _Array) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2.2, "relative luminance")."""
    linear = np.where(colour <= 10, colour / 3294.6, ((colour / 255 + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def colours(rng: np.random.Generator) -> tuple[_Array, _Array]:
    """Ink and paper, float64 [3] each, 0 to 255; half of the time near black on near white."""
    if rng.random() < 0.5:
        return rng.uniform(0, 60, 3), rng.uniform(200, 255) + rng.uniform(-12, 12, 3)
    while True:
        ink, paper = rng.uniform(0, 255, (2, 3))
        bright, dark = sorted((_luminance(ink), _luminance(paper)), reverse=True)
        if (bright + 0.05) / (dark + 0.05) >= _MINIMUM_CONTRAST:
            return ink, paper


def background(rng: np.random.Generator, paper: _Array, height: int, width: int) -> _Array:
    """Float64 [height, width, 3] around the paper's colour: flat, a gradient, or grain."""
    pixels = np.broadcast_to(paper, (height, width, 3)).copy()
    kind = rng.integers(3)
    if kind == 1:
        y, x = np.mgrid[0:height, 0:width]
        angle = rng.uniform(0, 2 * np.pi)
        slope = np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5)
        pixels += rng.uniform(10, 40) * slope[..., None]
    elif kind == 2:
        pixels += rng.normal(0, rng.uniform(3, 9), (height, width, 1))
    return pixels


def _text_line(
    rng: np.random.Generator, *, label: int, fonts: Sequence[int], sizes: tuple[int, int]
) -> TextLine:
    text = phrase(rng)
    font = typeface(fonts[rng.integers(len(fonts))], int(rng.integers(sizes[0], sizes[1] + 1)))
    left, top, right, bottom = font.getbbox(text)
    margin_x, margin_y = rng.integers(3, 12), rng.integers(2, 8)
    width = int(right - left + 2 * margin_x)
    height = int(bottom - top + 2 * margin_y)

    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).text((margin_x - left, margin_y - top), text, fill=255, font=font)
    # A detector cuts lines out level; what tilt it leaves is a few pixels at the ends.
    mask = mask.rotate(rng.uniform(-1, 1) * min(1.0, 100 / width), Image.Resampling.BICUBIC)
    ink, paper = colours(rng)
    cover = np.asarray(mask, np.float64)[..., None] / 255
    pixels = background(rng, paper, height, width) * (1 - cover) + ink * cover
    if rng.random() < 0.5:
        pixels = pixels + rng.normal(0, rng.uniform(2, 14), pixels.shape)
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    if label == 1:
        image = image.transpose(Image.Transpose.ROTATE_180)
    return TextLine(image, label, text)
