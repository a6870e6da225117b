"""Labels of whole samples: COCO's boxes, PaddleOCR's lines and polygons, PaddleSeg's masks.

Samples are found by their id, else by the file name at its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from py_runner.data.decode import open_image
from py_runner.data.image import ImageSpec
from py_runner.data.labels import read_text
from py_runner.errors import DataError
from py_runner.files.regular import open_regular

__all__ = [
    "coco",
    "lines_of",
    "mask_of",
    "masks_of",
    "of_samples",
    "picture_points",
    "polygons_of",
    "texts_of",
]

_T = TypeVar("_T")
_Array = npt.NDArray[Any]


def of_samples(path: Path, known: Mapping[str, _T], ids: Sequence[str]) -> dict[int, _T]:
    """What is known of the samples, by their place. Raises DataError where it is of none."""
    by_name: dict[str, _T] = {}
    twice = set()
    for name, value in known.items():
        short = name.replace("\\", "/").rsplit("/", 1)[-1]
        if short in by_name:
            twice.add(short)
        by_name[short] = value
    found = {}
    for place, id_ in enumerate(ids):
        short = id_.rsplit("/", 1)[-1]
        if id_ in known:
            found[place] = known[id_]
        elif short in by_name and short not in twice:
            found[place] = by_name[short]
    if not found:
        raise DataError(f"{path}: holds the label of no sample; the first is '{ids[0]}'")
    return found


def texts_of(path: Path) -> dict[str, str]:
    """PaddleOCR's list of lines, `NAME<tab>TEXT`. Raises DataError for another."""
    return dict(_pairs(path, "NAME<tab>TEXT"))


def polygons_of(path: Path) -> dict[str, tuple[list[_Array], tuple[int, int] | None]]:
    """PaddleOCR's list of texts on pages, `NAME<tab>[{"points", "transcription"}]`: polygons
    float64 [N, 2], without those marked `###`, and width and height of the page where it lies
    beside the list. Raises DataError for another."""
    return {
        name: ([corners for _, corners in lines], _size(path.parent / name))
        for name, lines in lines_of(path).items()
    }


def lines_of(path: Path) -> dict[str, list[tuple[str, _Array]]]:
    """The same list as texts, "" where there is none, with their polygons float64 [N, 2]. Raises
    DataError for another."""
    pages = {}
    for number, (name, text) in enumerate(_pairs(path, "NAME<tab>JSON"), 1):
        try:
            entries = [e for e in json.loads(text) if e.get("transcription") not in ("###", "*")]
            pages[name] = [
                (
                    str(e.get("transcription", "")),
                    np.array(e["points"], np.float64).reshape(-1, 2),
                )
                for e in entries
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: line {number}: no list of polygons: {error}") from None
    return pages


def masks_of(path: Path) -> dict[str, Path]:
    """PaddleSeg's list `IMAGE MASK`, with paths relative to it: each image's mask. Raises DataError
    for another."""
    masks = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
        if not line.strip():
            continue
        if len(parts) != 2:
            raise DataError(f"{path}: line {number}: is not IMAGE MASK")
        masks[parts[0].strip()] = path.parent / parts[1].strip()
    return masks


def coco(path: Path, *, keypoints: bool = False) -> dict[str, Any]:
    """COCO's document of boxes, or of persons' keypoints: images, annotations, categories. Raises
    DataError for another."""
    told = ("keypoints",) if keypoints else ()
    try:
        document = json.loads(read_text(path))
        for part, keys in (
            ("images", ("id", "file_name")),
            ("annotations", ("image_id", "category_id", "bbox", *told)),
            ("categories", ("id", "name")),
        ):
            for entry in document[part]:
                for key in keys:
                    entry[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no labels in COCO's form: {error!r}") from None
    assert isinstance(document, dict)
    return document


def picture_points(
    fed: Mapping[str, Any],
    points: _Array,
    image: Mapping[str, Any],
    grid: tuple[int, int] | None = None,
) -> _Array:
    """Points of a tensor on the picture of COCO's `image` that it was made from by `fed`, the JSON
    of an ImageSpec (`ImageSpec.on_picture`). Raises DataError where the labels do not say how large
    the picture is."""
    try:
        height, width = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"the labels do not say the height and width of {image['file_name']}: without them "
            "nobody knows where on it answers lie"
        ) from None
    return ImageSpec.from_json(fed).on_picture(points, height, width, grid)


def _pairs(path: Path, form: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        name, tab, text = line.rstrip("\r").partition("\t")
        if not tab:
            raise DataError(f"{path}: line {number}: is not {form}")
        pairs.append((name, text))
    return pairs


def mask_of(path: Path) -> _Array:
    """The classes of an image's pixels, int64 [H, W], 255 is ignored: its grey values, or the
    places in its palette. Raises DataError for a file that cannot be read."""
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file) as image:
            whole = image if image.mode in ("P", "L", "1", "I;16", "I") else image.convert("L")
            return np.asarray(whole).astype(np.int64)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a mask: {error}") from None


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image, None where it is not there."""
    if not path.exists():
        return None
    with open_image(path) as image:
        return image.size
