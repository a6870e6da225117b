"""Boxes as PASCAL VOC labels them, a file of XML a picture, in COCO's form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py_runner.data.labels import read_text
from py_runner.errors import DataError

if TYPE_CHECKING:
    from xml.etree import ElementTree

__all__ = ["is_voc", "voc"]


def is_voc(path: Path) -> bool:
    """Whether these are labels in VOC's form: a folder of .xml, one of them, or a list of them."""
    return path.is_dir() or path.suffix.lower() in (".xml", ".txt")


def voc(path: Path, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """COCO's document of what VOC's files say; what is difficult is a crowd, which counts for
    nobody.

    path: a folder with .xml somewhere in it, one such file, or PaddleDetection's list `IMAGE XML`
    with paths relative to it. labels: the classes in their order, before those of which only the
    files know. Raises DataError for others.
    """
    pictures = _pictures(path)
    if not pictures:
        raise DataError(f"{path}: holds no .xml with boxes")
    numbers = {name: number for number, name in enumerate(labels or (), 1)}
    images, annotations = [], []
    for number, (picture, file) in enumerate(pictures, 1):
        root = _root(file)
        try:
            image, boxes = _image(root, picture), [_box(entry) for entry in root.iter("object")]
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: no boxes in VOC's form: {error}") from None
        images.append({"id": number, **image})
        for name, box, difficult in boxes:
            category = numbers.setdefault(name, len(numbers) + 1)
            annotations.append(
                {"image_id": number, "category_id": category, "bbox": box, "iscrowd": difficult}
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _pictures(path: Path) -> list[tuple[str | None, Path]]:
    """Each file of labels, and the name of its picture where a list says it."""
    if path.is_dir():
        return [(None, file) for file in sorted(path.rglob("*.xml"))]
    if path.suffix.lower() == ".xml":
        return [(None, path)]
    pairs: list[tuple[str | None, Path]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
        if not line.strip():
            continue
        if len(parts) != 2 or not parts[1].strip().lower().endswith(".xml"):
            raise DataError(f"{path}: line {number}: is not IMAGE XML")
        pairs.append((parts[0].strip(), path.parent / parts[1].strip()))
    return pairs


def _root(file: Path) -> ElementTree.Element:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(read_text(file))
    except ElementTree.ParseError as error:
        raise DataError(f"{file}: not a file of XML: {error}") from None


def _image(root: ElementTree.Element, name: str | None) -> dict[str, Any]:
    size = root.find("size")
    sides = {} if size is None else {key: int(_text(size, key)) for key in ("width", "height")}
    return {"file_name": name or _text(root, "filename"), **sides}


def _box(entry: ElementTree.Element) -> tuple[str, list[float], int]:
    corners = entry.find("bndbox")
    if corners is None:
        raise ValueError("an object without a bndbox")
    x1, y1, x2, y2 = (float(_text(corners, key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    difficult = entry.findtext("difficult") or "0"
    return _text(entry, "name"), [x1, y1, x2 - x1, y2 - y1], int(difficult.strip() == "1")


def _text(element: ElementTree.Element, key: str) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise ValueError(f"<{element.tag}> without <{key}>")
    return text
