"""What a run found, drawn on the pictures that it was fed: boxes, masks, polygons, points, text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.data.decode import open_image
from py_runner.data.image import ImageSpec
from py_runner.data.roles import is_scale
from py_runner.errors import DataError, UsageError
from py_runner.files.folder import whole_folder
from py_runner.formats.run import Run
from py_runner.tasks import decode, name_of
from py_runner.tasks.segmentation import masks

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "BLACK",
    "DIFFERENT",
    "Marks",
    "annotated",
    "check_drawable",
    "colour_of",
    "drawn",
    "save_pictures",
    "source_of",
]

_MAPS = {"text-detection", "keypoints"}  # whose answers are in cells of an output's map
_COVER = 0.5  # of a mask
DIFFERENT = (220, 20, 20)
BLACK = (0, 0, 0)
# What is drawn in red: places of answers, or pixels of a mask.
Marks = Union[frozenset[int], "npt.NDArray[np.bool_]"]
# Points of an answer, x and y on the last axis, to the picture.
_Where = Callable[[npt.ArrayLike], npt.NDArray[Any]]


def source_of(data: str | Path, id_: str) -> Path:
    """The image file of a sample of a data set: `py_runner.data.dataset` says how ids come about.

    Raises DataError where it is none.
    """
    path = Path(data)
    beside = path if path.name == id_ else path.parent / id_  # one image, or a list of them
    file = path / id_ if path.is_dir() else beside
    if not file.is_file():
        raise DataError(f"{data}: sample '{id_}' is no image file that could be drawn on")
    return file


def check_drawable(
    data: str | Path | None, spec: ImageSpec | None, name: str, inputs: Iterable[str]
) -> None:
    """Raise UsageError where there are no pictures, or nobody knows where answers lie on them:
    `inputs` are the names of the model's."""
    if data is None or spec is None:
        raise UsageError("drawing needs pictures: give --data, and --image where none is known")
    if spec.crop is not None and name == "detection" and any(map(is_scale, inputs)):
        raise UsageError(
            "a detector that is fed the scale says where boxes are on the whole picture, and "
            "cannot know of a crop: they are not drawn"
        )


def save_pictures(
    pictures: Iterable[tuple[str, Image.Image]], folder: str | Path, *, force: bool
) -> None:
    """Write pictures, each with the id of its sample, numbered in their order, into a folder that
    can be told from those of others: it may be replaced. Raises UsageError as `whole_folder`."""
    with whole_folder(folder, force=force) as place:
        (place / ".drawn").touch()
        for number, (id_, picture) in enumerate(pictures):
            picture.save(place / f"{number:06d}_{Path(id_).stem}.png")


def annotated(
    run: Run,
    data: str | Path,
    spec: ImageSpec,
    inputs: Sequence[str],
    labels: Sequence[str] | None = None,
    marked: Sequence[Marks] | None = None,
) -> Iterator[tuple[str, Image.Image]]:
    """The id of each sample of a data set, and its picture with what was found, as `drawn` has it.

    Raises DataError where a sample is no image file, or the outputs are not of the run's task.
    """
    pictures = (open_image(source_of(data, sample.id), spec) for sample in run.samples)
    found = drawn(run, pictures, spec, inputs, labels, marked)
    yield from zip((sample.id for sample in run.samples), found)


def drawn(
    run: Run,
    pictures: Iterable[Image.Image],
    spec: ImageSpec,
    inputs: Sequence[str],
    labels: Sequence[str] | None = None,
    marked: Sequence[Marks] | None = None,
) -> Iterator[Image.Image]:
    """The picture of each sample of a run, with what was found.

    `inputs` are the names of the model's; `labels` are the run's own unless given; `marked` says of
    each sample what is drawn in red. Boxes of a model that is fed the scale are on the picture
    already; all else is on the tensor. Raises DataError where the outputs are not of the run's
    task.
    """
    name = name_of(run.task)
    found = masks(run) if name == "segmentation" else [None] * len(run.samples)
    answers = decode(run, labels)
    for number, picture in enumerate(pictures):
        size = picture.height, picture.width
        mask, red = found[number], marked[number] if marked else frozenset()
        if mask is not None:
            parts = [mask] if isinstance(red, frozenset) else [mask, red]
            yield _covered(picture, *(_on_picture(m, size, spec) for m in parts))
            continue
        where: _Where = np.asarray
        if name != "detection" or not any(map(is_scale, inputs)):
            grid = _grid(run, number) if name in _MAPS else None
            where = partial(spec.on_picture, height=size[0], width=size[1], grid=grid)
        assert isinstance(red, frozenset)
        yield _drawn(picture, answers[number] if answers else {}, where, red)


def _grid(run: Run, number: int) -> tuple[int, int]:
    """Height and width of the map that a task reads."""
    value = next(values[number] for values in run.outputs.values() if values[number].ndim == 4)
    return value.shape[2], value.shape[3]


def _drawn(
    picture: Image.Image,
    answer: Mapping[str, Any],
    where: _Where,
    marked: frozenset[int],
) -> Image.Image:
    from PIL import ImageDraw

    def ink(index: int, number: int) -> tuple[int, int, int]:
        return DIFFERENT if number in marked else colour_of(index)

    result = picture.copy()
    draw = ImageDraw.Draw(result)
    line = max(1, min(result.size) // 200)
    for number, box in enumerate(answer.get("boxes", ())):
        colour = ink(box["index"], number)
        corners = where(np.reshape(box["box"], (2, 2)))
        low, high = corners.min(0), corners.max(0)
        draw.rectangle(
            [*low.tolist(), *high.tolist()], outline=colour, width=line * (1 + (number in marked))
        )
        _write(draw, low.tolist(), f"{_called(box)} {box['score']:.2f}", colour)
    for number, polygon in enumerate(answer.get("polygons", ())):
        outline = [tuple(point) for point in where(polygon["points"]).tolist()]
        draw.line([*outline, outline[0]], fill=ink(number, number), width=line)
    for number, point in enumerate(answer.get("points", ())):
        x, y = where((point["x"], point["y"])).tolist()
        colour, reach = ink(point["index"], number), 2 * line
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=colour)
    if "text" in answer:
        return _captioned(result, answer["text"] or "", DIFFERENT if marked else BLACK)
    if answer.get("top"):
        text = f"{_called(answer['top'][0])} {answer['top'][0]['score']:.3f}"
        return _captioned(result, text, DIFFERENT if marked else BLACK)
    return result


def _covered(
    picture: Image.Image, mask: npt.NDArray[Any], marked: npt.NDArray[Any] | None = None
) -> Image.Image:
    """The picture with a colour for each class but 0, and what is marked in red."""
    from PIL import Image

    colours = np.array([(0, 0, 0), *(colour_of(i) for i in range(1, int(mask.max()) + 1))])
    pixels = np.asarray(picture, np.float64)
    cover = _COVER * (mask > 0)[..., None]
    mixed = pixels * (1 - cover) + colours[mask] * cover
    if marked is not None:
        mixed[marked] = DIFFERENT
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _on_picture(mask: npt.NDArray[Any], size: tuple[int, int], spec: ImageSpec) -> npt.NDArray[Any]:
    """The mask's class at each pixel of a picture of this height and width: 0 where a crop cut it
    off."""
    place = spec.on_tensor(*size)
    full = place.full_height, place.full_width
    sides, unseen = [], []
    for side, offset, scale, whole, end, have in zip(
        size, (place.top, place.left), place.scale, full, spec.crop or full, mask.shape
    ):
        at = (np.arange(side) + 0.5) * scale + offset
        # What lies outside of one that was not cut off does so by rounding.
        unseen.append(((at < 0) | (at >= end)) & (offset < 0))
        sides.append((at * have / whole).astype(int).clip(0, have - 1))
    placed = np.asarray(mask[np.ix_(*sides)])
    placed[unseen[0][:, None] | unseen[1]] = 0
    return placed


def _captioned(picture: Image.Image, text: str, ink: tuple[int, int, int]) -> Image.Image:
    """The picture with a line below it."""
    from PIL import Image, ImageDraw, ImageFont

    # Its own font has no letters but Latin ones.
    font = ImageFont.load_default()
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((0, 0), text, font=font)
    width, strip = max(picture.width, int(right - left) + 8), int(bottom - top) + 8
    result = Image.new("RGB", (width, picture.height + strip), "white")
    result.paste(picture, (0, 0))
    ImageDraw.Draw(result).text((4 - left, picture.height + 4 - top), text, ink, font=font)
    return result


def _write(draw: Any, corner: Sequence[float], text: str, colour: tuple[int, int, int]) -> None:
    """A text above a corner, or below where the picture ends."""
    left, top, right, bottom = draw.textbbox((0, 0), text)
    height = bottom - top + 2
    x, y = corner[0], corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle([x, y, x + right - left + 2, y + height], fill=colour)
    draw.text((x + 1 - left, y + 1 - top), text, fill="white")


def _called(entry: Mapping[str, Any]) -> str:
    return str(entry["index"] if entry["name"] is None else entry["name"])


def colour_of(index: int) -> tuple[int, int, int]:
    """One of eleven dark enough for white letters, neighbours far apart; none is red."""
    from colorsys import hsv_to_rgb

    red, green, blue = hsv_to_rgb((index * 5 % 11 + 1) / 12, 0.85, 0.8)
    return round(red * 255), round(green * 255), round(blue * 255)
