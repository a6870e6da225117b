"""Images, list files, image folders and arrays -> Samples, in a fixed order.

    data = dataset("photos/", inputs=bundle.inputs, image=bundle.image)
    for sample in data:
        engine.run(sample.feeds)

What a path may be:

    list file .txt       `path label` a line; the label, an integer, may be missing; the path may
                         contain spaces. .csv: `path,label`. Paths are relative to the list file
    folder of folders    one folder per class; classes are numbered by the given label names, else
                         in sorted order; images may lie deeper inside
    folder of images     no labels
    one image            no label
    .npy                 the samples of a single-input model, stacked on axis 0
    .npz                 one such array per input, by its name, and optionally `label` (integers)

Hidden files and folders, and files that do not end like an image, are no part of a folder.
"""

from __future__ import annotations

import csv
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from py_runner.data.image import ImageSpec, open_image
from py_runner.data.labels import read_text
from py_runner.errors import DataError, UsageError
from py_runner.tensors import Sample, TensorSpec

__all__ = ["Dataset", "dataset"]

_IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
)
_MANY = 5  # names shown in an error before "..."


@dataclass(frozen=True)
class _Item:
    id: str
    label: int | None
    source: str | int  # an image, relative to the root; or an index into stacked arrays


class Dataset:
    """A sequence of Samples that are made when they are asked for; `dataset()` makes one.

    `len(data)` counts the samples, bad ones included, and `data.ids` names them. Every iteration
    starts anew and yields them in the same order. While one sample is in use, `workers` threads
    prepare the next ones, at most twice as many; leaving the loop, closing the iterator or an
    error ends the threads. An error appears at the sample that it belongs to.
    """

    def __init__(
        self,
        items: Sequence[_Item],
        load: Callable[[_Item], Sample],
        *,
        workers: int,
        skip_bad: bool,
    ) -> None:
        self._items = items
        self._load = load
        self._workers = workers
        self._skip_bad = skip_bad
        self._bad: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ids(self) -> list[str]:
        """Ids of all samples, in order, bad ones included."""
        return [item.id for item in self._items]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(id, reason) of the bad images that iterations so far have skipped, in order."""
        return [(item.id, self._bad[item.id]) for item in self._items if item.id in self._bad]

    def select(self, indices: Iterable[int]) -> Dataset:
        """The data set of the samples at these places, in this order."""
        items = [self._items[index] for index in indices]
        return Dataset(items, self._load, workers=self._workers, skip_bad=self._skip_bad)

    def __iter__(self) -> Iterator[Sample]:
        good = 0
        # Closed here and now: a traceback would keep the generator, and its threads, alive.
        with closing(self._outcomes()) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, Sample):
                    good += 1
                    yield outcome
                elif self._skip_bad:
                    self._bad[item.id] = str(outcome)
                else:
                    raise outcome
        if not good:
            raise DataError(f"all {len(self)} images are bad; the first: {self.skipped[0][1]}")

    def _outcomes(self) -> Generator[tuple[_Item, Sample | _BadImageError], None, None]:
        if not self._workers:
            for item in self._items:
                yield item, self._attempt(item)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="paddle-edge-dataset")
        pending: deque[tuple[_Item, Future[Sample | _BadImageError]]] = deque()
        items = iter(self._items)
        try:
            for item in islice(items, 2 * self._workers):
                pending.append((item, pool.submit(self._attempt, item)))
            while pending:
                item, future = pending.popleft()
                yield item, future.result()
                for following in islice(items, 1):
                    pending.append((following, pool.submit(self._attempt, following)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _attempt(self, item: _Item) -> Sample | _BadImageError:
        try:
            return self._load(item)
        except _BadImageError as error:
            return error


class _BadImageError(DataError):
    """One image is at fault, not the data set: what skip_bad skips."""


def dataset(
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[TensorSpec],
    image: ImageSpec | None = None,
    labels: Sequence[str] | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """The data set at `path`; the module's docstring lists what that may be.

    inputs    the model's inputs, each with `name`, `dtype` ("float32") and `shape` (-1: any)
    image     how pixels become the tensor; needed for images, unused for arrays
    labels    names of the classes, by number: numbers class folders and bounds every label
    skip_bad  pass over images that cannot be decoded or are too small, and list them in
              `.skipped`; otherwise they raise DataError when their turn comes
    limit     only the first `limit` samples, in order (of class folders: the first classes)
    workers   threads that prepare samples ahead; None: one per CPU, at most 4; 0: none, so that
              nothing else runs while a caller measures time

    Arrays of `.npy` are mapped, not read; those of `.npz` are read at once. Values are not
    looked at: NaN is allowed.

    Raises DataError where the data set is missing, empty or damaged, or where dtype or shape are
    not exactly the model's (nothing is converted: engines read a wrong dtype as garbage), and
    UsageError for arguments that do not fit each other.
    """
    path = Path(path)
    if not inputs:
        raise UsageError("a data set needs the model's inputs, and there are none")
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if workers < 0:
        raise UsageError(f"workers must be 0 or more, not {workers}")
    if not path.exists():
        raise DataError(f"{path}: no such data set")

    if path.suffix.lower() in (".npy", ".npz") and path.is_file():
        items, load = _arrays(path, inputs)
    else:
        items = _image_items(path, labels)
        load = _image_loader(path, inputs, image)
    if not items:
        raise DataError(f"{path}: holds no samples")
    for item in items:
        if not _is_utf8(item.id):
            raise DataError(f"{path}: the file name {item.id!a} is not UTF-8: rename it")
        if labels is not None and item.label is not None and item.label >= len(labels):
            raise DataError(
                f"{path}: {item.id} has the label {item.label}, but there are {len(labels)} labels"
            )
    return Dataset(items[:limit], load, workers=workers, skip_bad=skip_bad)


def _images_below(root: Path) -> list[str]:
    """Paths, relative to `root` and with "/", of the images at any depth, sorted."""
    found = []
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name).relative_to(root).as_posix()
            for name in files
            if Path(name).suffix.lower() in _IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _image_items(path: Path, labels: Sequence[str] | None) -> list[_Item]:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return _folder_items(path, labels)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if suffix in (".txt", ".csv"):
        return _list_items(path, _csv_line if suffix == ".csv" else _txt_line)
    if suffix in _IMAGE_SUFFIXES:
        return [_Item(path.name, None, path.name)]
    raise DataError(
        f"{path}: not a data set: expected a folder, a list file (.txt, .csv), an image, "
        f".npy or .npz"
    )


def _folder_items(root: Path, labels: Sequence[str] | None) -> list[_Item]:
    images = _images_below(root)
    flat = [name for name in images if "/" not in name]
    if flat and len(flat) < len(images):
        raise DataError(
            f"{root}: holds both images and folders with images; a data set is either a folder "
            f"of images or one folder per class"
        )
    if flat or not images:
        return [_Item(name, None, name) for name in flat]
    filled = {name.split("/", 1)[0] for name in images}
    classes = list(labels) if labels is not None else _class_names(root, filled)
    for name in sorted(filled):
        if classes.count(name) != 1:
            raise DataError(
                f"{root}: the folder {name!r} is not exactly one of the {len(classes)} labels "
                f"({_some(classes)}); name the folders by the labels, or use a list file"
            )
    numbers = {name: number for number, name in enumerate(classes)}
    return [_Item(name, numbers[name.split("/", 1)[0]], name) for name in images]


def _class_names(root: Path, filled: set[str]) -> list[str]:
    names = {entry.name for entry in root.iterdir() if entry.is_dir()}
    empty = sorted(name for name in names - filled if not name.startswith("."))
    if empty:
        raise DataError(
            f"{root}: the folder {empty[0]!r} holds no images: whether it is a class decides the "
            f"numbers of the others; remove it, or give the labels"
        )
    return sorted(filled)


def _list_items(path: Path, split: Callable[[str], tuple[str, str]]) -> list[_Item]:
    items: dict[str, _Item] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, label = split(line.strip())
        if label and not re.fullmatch(r"[0-9]{1,9}", label):
            raise DataError(f"{path}: line {number}: the label {label!r} is not an integer >= 0")
        if not name:
            raise DataError(f"{path}: line {number}: has no path")
        item_id = Path(os.path.normpath(name)).as_posix()
        if item_id in items:
            raise DataError(f"{path}: line {number}: {name!r} stands in the list twice")
        items[item_id] = _Item(item_id, int(label) if label else None, name)
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


def _image_loader(
    path: Path, inputs: Sequence[TensorSpec], image: ImageSpec | None
) -> Callable[[_Item], Sample]:
    if len(inputs) != 1:
        raise DataError(
            f"{path}: images feed one input, but the model has {len(inputs)} "
            f"({_some([spec.name for spec in inputs])}): use .npz with arrays by these names"
        )
    if image is None:
        raise UsageError(
            f"{path}: say how images become tensors: --image with an inference.yml, a preset such "
            "as paddleclas, or resize=short:256,crop=224"
        )
    target, spec = inputs[0], image
    root = path if path.is_dir() else path.parent
    _check_feed(f"{path}: the image spec", target, np.dtype(np.float32), spec.output_shape)

    def load(item: _Item) -> Sample:
        file = root / str(item.source)
        try:
            pixels = open_image(file, spec)
        except DataError as error:  # names the file already
            raise _BadImageError(str(error)) from error
        try:
            tensor = spec.apply(pixels)
        except DataError as error:
            raise _BadImageError(f"{file}: {error}") from error
        _check_feed(str(file), target, tensor.dtype, tensor.shape)
        return Sample(item.id, {target.name: tensor}, item.label)

    return load


def _arrays(
    path: Path, inputs: Sequence[TensorSpec]
) -> tuple[list[_Item], Callable[[_Item], Sample]]:
    arrays, labels = (_read_npy if path.suffix.lower() == ".npy" else _read_npz)(path, inputs)
    lengths = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if len(lengths) < len(arrays):
        raise DataError(f"{path}: holds a single number; samples must be stacked on axis 0")
    if labels is not None:
        lengths["label"] = len(labels)
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the arrays hold different numbers of samples: {lengths}")
    for spec in inputs:
        array = arrays[spec.name]
        _check_feed(str(path), spec, array.dtype, (1, *array.shape[1:]))
    items = [
        _Item(f"{path.name}[{i}]", None if labels is None else labels[i], i)
        for i in range(lengths[inputs[0].name])
    ]

    def load(item: _Item) -> Sample:
        start = int(item.source)
        # A copy: the sample must not depend on the file, nor on what others do to it.
        feeds = {
            name: np.array(array[start : start + 1], order="C") for name, array in arrays.items()
        }
        return Sample(item.id, feeds, item.label)

    return items, load


def _read_npy(
    path: Path, inputs: Sequence[TensorSpec]
) -> tuple[dict[str, npt.NDArray[Any]], list[int] | None]:
    if len(inputs) != 1:
        raise DataError(
            f"{path}: one .npy feeds one input, but the model has {len(inputs)} "
            f"({_some([spec.name for spec in inputs])}): use .npz with arrays by these names"
        )
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":  # np.load would take it for a pickle, and say so
                raise ValueError("it does not begin like one")
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can lead the parser anywhere
        raise DataError(f"{path}: not a readable .npy file: {_first_line(error)}") from error
    return {inputs[0].name: array}, None


def _read_npz(
    path: Path, inputs: Sequence[TensorSpec]
) -> tuple[dict[str, npt.NDArray[Any]], list[int] | None]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single .npy array")
            loaded = {name: archive[name] for name in archive.files}
    except Exception as error:  # zip, zlib and NumPy each have their own for damaged files
        raise DataError(f"{path}: not a readable .npz file: {_first_line(error)}") from error
    names = [spec.name for spec in inputs]
    label = None if "label" in names else loaded.pop("label", None)
    if sorted(loaded) != sorted(names):
        raise DataError(
            f"{path}: holds the arrays {sorted(loaded)}, but the model's inputs are {sorted(names)}"
        )
    if label is None:
        return loaded, None
    if label.dtype.kind not in "iu" or label.ndim != 1 or (label < 0).any():
        raise DataError(
            f"{path}: label must be a list of integers >= 0, one a sample; "
            f"it is {label.dtype} {list(label.shape)}: {label.ravel()[:_MANY].tolist()}"
        )
    return loaded, [int(value) for value in label]


def _check_feed(what: str, spec: TensorSpec, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """shape: of one sample, batch included; -1 where it is not known yet."""
    try:
        wanted = np.dtype(spec.dtype)
    except TypeError:
        raise UsageError(f"input {spec.name!r} has the unknown dtype {spec.dtype!r}") from None
    fits = len(shape) == len(spec.shape) and all(
        side == want or -1 in (side, want) for side, want in zip(shape, spec.shape)
    )
    if dtype != wanted or not fits:
        raise DataError(
            f"{what}: input {spec.name!r} expects {wanted} {list(spec.shape)}, "
            f"but a sample is {dtype} {list(shape)}; nothing is converted on the way"
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:_MANY]) + (", ..." if len(names) > _MANY else "")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
