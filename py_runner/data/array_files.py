"""Samples from arrays: `.npy` for a model of one input, `.npz` by the names of the inputs.

The samples are stacked on axis 0. An `.npz` may hold their labels, too. A folder of `.npy` is all
of their samples, in the order of the names; for a model of several inputs it is named as a bundle's
own, `<sample>.<input>.npy`. A folder of `.npz` is all of theirs, whatever the model's inputs, and
so is a list of either, with or without labels. One array may also be one sample, without its batch.
A model that was exported for a fixed batch of N takes N rows at once:
such a sample is N rows of the array, or one element of an array with an axis more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.data.image_files import listed
from py_runner.data.source import IMAGE_SUFFIXES, MANY, Item, Lazy, Made, Wanted, check_feed, some
from py_runner.errors import DataError
from py_runner.files.npy import FarArray
from py_runner.files.regular import load_array, open_regular
from py_runner.files.url import Place, Url
from py_runner.tensors import TensorSpec

__all__ = ["array_items"]

# What makes a folder something else than one of arrays: images, a bundle, a run.
_OTHERS = IMAGE_SUFFIXES | {".json", ".nb"}

_SUFFIXES = (".npy", ".npz")

_Array = Union["npt.NDArray[Any]", FarArray]
_Arrays = dict[str, _Array]


def array_items(path: Place, wanted: Wanted) -> Sequence[Item] | None:
    """The samples in a `.npy`, a `.npz`, a folder or a list of either; None for another path."""
    if path.is_dir():
        return _in_folder(path, wanted)
    suffix = path.suffix.lower()
    if suffix in (".txt", ".csv"):
        return _in_list(path, wanted)
    if suffix not in _SUFFIXES:
        return None
    stacks, labels = _stacks(path, tuple(wanted.inputs))
    lengths = {name: len(stack) for name, stack in stacks.items()}
    if labels is not None:
        lengths["label"] = len(labels)
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the arrays hold different numbers of samples: {lengths}")
    for spec in wanted.inputs:
        stack = stacks[spec.name]
        check_feed(str(path), spec, stack.dtype, stack.shape[1:])

    def item(row: int) -> Item:
        label = None if labels is None else labels[row]
        make = _Row(stacks, path, tuple(wanted.inputs), row)
        return Item(f"{path.name}[{row}]", label, make, None if isinstance(path, Url) else path)

    return Lazy(range(lengths[wanted.inputs[0].name]), item)


def _stacks(path: Place, inputs: tuple[TensorSpec, ...]) -> tuple[_Arrays, list[int] | None]:
    """Of each input the samples, stacked, and their labels."""
    arrays, labels = (_read_npy if path.suffix.lower() == ".npy" else _read_npz)(path, inputs)
    if not all(array.ndim for array in arrays.values()):
        raise DataError(f"{path}: holds a single number; samples must be stacked on axis 0")
    return {spec.name: _stacked(path, spec, arrays[spec.name]) for spec in inputs}, labels


# In a process that was sent samples: the files are opened there, and few at a time.
_stacks_again = lru_cache(maxsize=64)(_stacks)


class _Row:
    """Makes a sample of a row. Another process that is sent it opens the file itself."""

    def __init__(
        self, stacks: _Arrays, path: Place, inputs: tuple[TensorSpec, ...], row: int
    ) -> None:
        self._stacks, self._sent = stacks, (path, inputs, row)

    def __reduce__(self) -> Any:
        return _row_again, self._sent

    def __call__(self) -> Made:
        # A copy: the sample must not depend on the file, nor on what others do to it.
        row = self._sent[2]
        return {n: np.array(stack[row], order="C") for n, stack in self._stacks.items()}, None


def _row_again(path: Place, inputs: tuple[TensorSpec, ...], row: int) -> _Row:
    return _Row(_stacks_again(path, inputs)[0], path, inputs, row)


def _in_folder(folder: Place, wanted: Wanted) -> list[Item] | None:
    """None where there are no arrays, or something that is data or a result of its own."""
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    files = [name for name in names if name.lower().endswith(".npy")]
    archives = [name for name in names if name.lower().endswith(".npz")]
    if not files + archives or any(Path(name).suffix.lower() in _OTHERS for name in names):
        return None
    if files and archives:
        raise DataError(f"{folder}: holds both {files[0]} and {archives[0]}: give one kind alone")
    if archives or len(wanted.inputs) == 1:
        files = files or archives
        return [item for name in files for item in array_items(folder / name, wanted) or ()]
    samples: dict[str, dict[int, Place]] = {}
    for name in files:
        named = re.fullmatch(r"(.+)\.([0-9]{1,4})\.npy", name, re.IGNORECASE)
        if named is None:
            raise DataError(
                f"{folder / name}: the model has {len(wanted.inputs)} inputs: name the files "
                "<sample>.<number of the input>.npy, or use one .npz"
            )
        samples.setdefault(named[1], {})[int(named[2])] = folder / name
    return [_item(folder, id_, of_input, wanted.inputs) for id_, of_input in samples.items()]


def _in_list(path: Place, wanted: Wanted) -> list[Item] | None:
    """None where the list names no arrays. A label that it gives counts for all of a file."""
    files = listed(path)
    arrays = [name for name, _, file in files if file.suffix.lower() in _SUFFIXES]
    if not arrays:
        return None
    if len(arrays) < len(files):
        other = next(name for name, _, _ in files if name not in arrays)
        raise DataError(f"{path}: lists both {arrays[0]} and {other}: give one kind alone")
    items = []
    for name, label, file in files:
        if not file.exists():
            raise DataError(f"{path}: {name}: no such file")
        found = array_items(file, wanted) or []
        for index, item in enumerate(found):
            id_ = name if len(found) == 1 else f"{name}[{index}]"
            items.append(replace(item, id=id_, label=item.label if label is None else label))
    return items


def _item(folder: Place, id_: str, files: dict[int, Place], inputs: Sequence[TensorSpec]) -> Item:
    if sorted(files) != list(range(len(inputs))):
        raise DataError(
            f"{folder}: sample {id_!r} has arrays for the inputs {sorted(files)}, and the model "
            f"takes 0 to {len(inputs) - 1} ({some([spec.name for spec in inputs])})"
        )
    arrays: _Arrays = {}
    for number, spec in enumerate(inputs):
        arrays |= _read_npy(files[number], [spec])[0]
        check_feed(str(files[number]), spec, arrays[spec.name].dtype, arrays[spec.name].shape)
    return Item(id_, None, partial(_copied, arrays))


def _copied(arrays: _Arrays) -> Made:
    return {name: np.array(array, order="C") for name, array in arrays.items()}, None


def _stacked(path: Place, spec: TensorSpec, array: _Array) -> _Array:
    """The array as [samples, *shape of a sample], still mapped if it was."""
    batch = spec.shape[0] if spec.shape and array.ndim else 1
    if batch <= 1 and array.ndim == len(spec.shape) - 1:
        return array.reshape(1, 1, *array.shape)
    if batch > 1 and array.ndim == len(spec.shape) + 1:
        return array
    batch = max(batch, 1)
    if len(array) % batch:
        raise DataError(
            f"{path}: the model takes {batch} rows of '{spec.name}' at once, and {len(array)} are "
            f"no multiple of that: export it with a free batch (None), or give full batches"
        )
    rows = len(array) // batch
    return array.reshape(rows, batch, *array.shape[1:])


def _read_npy(path: Place, inputs: Sequence[TensorSpec]) -> tuple[_Arrays, list[int] | None]:
    if len(inputs) != 1:
        raise DataError(
            f"{path}: one .npy feeds one input, but the model has {len(inputs)} "
            f"({some([spec.name for spec in inputs])}): use .npz with arrays by these names"
        )
    try:
        array = FarArray(path) if isinstance(path, Url) else load_array(path, mapped=True)
    except Exception as error:  # a damaged header can lead the parser anywhere
        raise DataError(f"{path}: not a readable .npy file: {_first_line(error)}") from error
    return {inputs[0].name: array}, None


def _read_npz(path: Place, inputs: Sequence[TensorSpec]) -> tuple[_Arrays, list[int] | None]:
    try:
        with open_regular(path) as file:
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
            f"it is {label.dtype} {list(label.shape)}: {label.ravel()[:MANY].tolist()}"
        )
    return loaded, [int(value) for value in label]


def _first_line(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(told).splitlines()[0]
