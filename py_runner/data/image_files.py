"""Samples from images: a folder of them, a folder per class, a list of them, or one.

The path of an image to a tensor: `open_image`, then `ImageSpec.apply`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple

import numpy as np
import numpy.typing as npt

from py_runner.data.decode import open_image
from py_runner.data.image import ImageSpec
from py_runner.data.labels import read_text
from py_runner.data.roles import beside_picture, picture_input
from py_runner.data.source import (
    IMAGE_SUFFIXES,
    BadItemError,
    Item,
    Lazy,
    Made,
    Wanted,
    check_feed,
    some,
)
from py_runner.errors import DataError, UsageError
from py_runner.files.faults import reason
from py_runner.files.regular import read_bytes
from py_runner.files.url import Place, Url, is_url
from py_runner.tensors import TensorSpec, digest

__all__ = [
    "image_items",
    "listed",
    "listed_classes",
    "listed_files",
    "picture_feeds",
    "picture_target",
    "pictures",
]


class _Listed(NamedTuple):
    id: str
    label: int | None
    name: str  # of the file, relative to the root


def image_items(path: Place, wanted: Wanted) -> Sequence[Item] | None:
    """The images of a folder, of a list file, or one image; None for another path."""
    listed = _listed(path, wanted.labels)
    if listed is None:
        return None
    target, spec = picture_target(path, wanted)
    root = path if path.is_dir() else path.parent

    def item(of: _Listed) -> Item:
        make = partial(_made, root, of.name, target, spec, wanted.inputs)
        return Item(of.id, of.label, make, None if isinstance(root, Url) else root / of.name)

    return Lazy(listed, item)


def listed_classes(path: Path) -> dict[str, int]:
    """The class numbers in a list `NAME CLASS`, as of ImageNet's pictures, by name: those of
    samples of that data set, whatever they were fed from. Raises DataError for another file."""
    split = _LISTS.get(path.suffix.lower(), _txt_line)
    classes = {item.id: item.label for item in _in_list(path, split) if item.label is not None}
    if not classes:
        raise DataError(f"{path}: is no list NAME CLASS")
    return classes


def listed(path: Place) -> list[tuple[str, int | None, Place]]:
    """The id, label and file of each line of a list, .txt or .csv. Raises DataError for another
    text."""
    items = _in_list(path, _LISTS[path.suffix.lower()])
    return [(item.id, item.label, path.parent / item.name) for item in items]


def listed_files(path: Path) -> list[Path]:
    """The files of a list, as `listed` has them."""
    return [path.parent / item.name for item in _in_list(path, _LISTS[path.suffix.lower()])]


def pictures(path: Path) -> list[tuple[str, Path]]:
    """The ids and files of the images of a folder, a list or one image, as `image_items` has them.
    Raises DataError for another path, and where there are none."""
    if not path.exists():
        raise DataError(f"{path}: no such data set")
    listed = _listed(path, None)
    if not listed:
        what = "holds no images" if listed is not None else "is no image, nor a folder or a list"
        raise DataError(f"{path}: {what}: a pipeline is given pictures of pages")
    root = path if path.is_dir() else path.parent
    return [(id_, root / name) for id_, _, name in listed]


def _made(
    root: Place, name: str, target: TensorSpec, spec: ImageSpec, inputs: Sequence[TensorSpec]
) -> Made:
    file = root / name
    source: Path | BinaryIO = _fetched(file) if isinstance(file, Url) else file
    named: dict[str, Any] = {"name": str(file)} if source is not file else {}
    try:
        pixels = np.asarray(open_image(source, spec, **named))
    except DataError as error:  # names the file already
        raise BadItemError(str(error)) from error
    return picture_feeds(str(file), pixels, target, spec, inputs), digest(pixels)


def _fetched(file: Url) -> BinaryIO:
    """Raises BadItemError where it is not there; where the network fails no picture is at fault."""
    try:
        return BytesIO(read_bytes(file))
    except FileNotFoundError:
        raise BadItemError(f"{file}: no such image file") from None
    except OSError as error:
        raise DataError(f"{file}: {reason(error)}") from None


def picture_feeds(
    name: str,
    pixels: npt.NDArray[Any],
    target: TensorSpec,
    spec: ImageSpec,
    inputs: Sequence[TensorSpec],
) -> dict[str, npt.NDArray[Any]]:
    """What a picture, uint8 RGB pixels, feeds a model: its tensor, the input `target`, and its size
    and scale where other inputs ask for them.

    Raises BadItemError for a picture, and DataError for an input, that it does not fit.
    """
    try:
        tensor = spec.apply(pixels)
    except DataError as error:
        raise BadItemError(f"{name}: {error}") from error
    check_feed(name, target, tensor.dtype, tensor.shape)
    feeds: dict[str, npt.NDArray[Any]] = {target.name: tensor}
    height, width = pixels.shape[:2]
    place = spec.placed(height, width)
    for other in inputs:
        told = None if other is target else beside_picture(other, place, height, width)
        if told is not None:
            check_feed(name, other, told.dtype, told.shape)
            feeds[other.name] = told
    return feeds


def picture_target(path: Place, wanted: Wanted) -> tuple[TensorSpec, ImageSpec]:
    """The input that takes the pictures, and how they become its tensor.

    Raises DataError where no one input does, UsageError where nobody says how; both name `path`.
    """
    target = picture_input(wanted.inputs)
    if target is not None:
        place = ImageSpec(resize="none", size=None).placed(1, 1)
        others = [spec for spec in wanted.inputs if spec is not target]
        if any(beside_picture(spec, place, 1, 1) is None for spec in others):
            target = None
    if target is None:
        raise DataError(
            f"{path}: images feed one input, and beside it their size and scale (im_shape, "
            f"scale_factor), but the model has {len(wanted.inputs)} "
            f"({some([spec.name for spec in wanted.inputs])}): use .npz with arrays by these names"
        )
    if wanted.image is None:
        raise UsageError(
            f"{path}: say how images become tensors: --image with an inference.yml, a preset such "
            "as paddleclas, or resize=short:256,crop=224"
        )
    spec = wanted.image
    check_feed(f"{path}: the image spec", target, np.dtype(np.float32), spec.output_shape)
    return target, spec


def _listed(path: Place, labels: Sequence[str] | None) -> Sequence[_Listed] | None:
    try:
        if path.is_dir():
            return _in_folder(path, labels)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    suffix = path.suffix.lower()
    if suffix in _LISTS:
        return _in_list(path, _LISTS[suffix])
    if suffix in IMAGE_SUFFIXES:
        return [_Listed(path.name, None, path.name)]
    return None


def _in_folder(root: Place, labels: Sequence[str] | None) -> Sequence[_Listed]:
    images = _images_below(root)
    flat = [name for name in images if "/" not in name]
    if flat and len(flat) < len(images):
        raise DataError(
            f"{root}: holds both images and folders with images; a data set is either a folder "
            f"of images or one folder per class"
        )
    if flat or not images:
        return Lazy(flat, lambda name: _Listed(name, None, name))
    filled = {name.split("/", 1)[0] for name in images}
    classes = list(labels) if labels is not None else _class_names(root, filled)
    for name in sorted(filled):
        if classes.count(name) != 1:
            raise DataError(
                f"{root}: the folder {name!r} is not exactly one of the {len(classes)} labels "
                f"({some(classes)}); name the folders by the labels, or use a list file"
            )
    numbers = {name: number for number, name in enumerate(classes)}
    return Lazy(images, lambda name: _Listed(name, numbers[name.split("/", 1)[0]], name))


def _class_names(root: Place, filled: set[str]) -> list[str]:
    if isinstance(root, Url):
        names = root.folders()
    else:
        names = {entry.name for entry in root.iterdir() if entry.is_dir()}
    empty = sorted(name for name in names - filled if not name.startswith("."))
    if empty:
        raise DataError(
            f"{root}: the folder {empty[0]!r} holds no images: whether it is a class decides the "
            f"numbers of the others; remove it, or give the labels"
        )
    return sorted(filled)


def _images_below(root: Place) -> list[str]:
    """Paths, relative to `root` and with "/", of the images at any depth, sorted."""
    if isinstance(root, Url):
        return sorted(filter(_is_image, root.walked()))
    found = []
    above: dict[str, set[tuple[int, int]]] = {}
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        about = Path(folder).stat()
        here = above.pop(folder, set()) | {(about.st_dev, about.st_ino)}
        for name in folders:
            below = Path(folder, name).stat()
            if (below.st_dev, below.st_ino) in here:
                raise DataError(
                    f"{Path(folder, name)}: is a link that leads back up: its images would count "
                    "twice; remove it"
                )
            above[str(Path(folder, name))] = here
        below_root = Path(folder).relative_to(root).as_posix()
        found += [
            name if below_root == "." else f"{below_root}/{name}"
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not hidden


def _raise(error: OSError) -> None:
    raise error


def _in_list(path: Place, split: Callable[[str], tuple[str, str]]) -> list[_Listed]:
    items: dict[str, _Listed] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, label = split(line.strip())
        if label and not re.fullmatch(r"[0-9]{1,9}", label):
            raise DataError(f"{path}: line {number}: the label {label!r} is not an integer >= 0")
        if not name:
            raise DataError(f"{path}: line {number}: has no path")
        if isinstance(path, Url) and (name.startswith("/") or is_url(name)):
            raise DataError(f"{path}: line {number}: {name!r}: paths are relative to the list")
        item_id = Path(os.path.normpath(name)).as_posix()
        if item_id in items:
            raise DataError(f"{path}: line {number}: {name!r} stands in the list twice")
        place = item_id if item_id == name else name  # most are, and 50,000 take their room
        items[item_id] = _Listed(item_id, int(label) if label else None, place)
    return list(items.values())


def _txt_line(line: str) -> tuple[str, str]:
    # "my cat 2.jpg" has no label, "my cat 2.jpg 281" has one: a label is a last word of digits.
    match = re.fullmatch(r"(.+?)\s+(-?[0-9]+)", line)
    return (match[1], match[2]) if match else (line, "")


def _csv_line(line: str) -> tuple[str, str]:
    fields = [field.strip() for field in next(csv.reader([line]))]
    if len(fields) == 1:
        return fields[0], ""
    return ",".join(fields[:-1]), fields[-1]


# Lists, by the ends of their names: how a line is split into path and label.
_LISTS = {".txt": _txt_line, ".csv": _csv_line}
