"""Samples from arrays: `.npy` for a model of one input, `.npz` by the names of the inputs.

The samples are stacked on axis 0. An `.npz` may hold their labels, too. A model that was exported
for a fixed batch of N takes N rows at once: such a sample is N rows of the array, or one element
of an array with an axis more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.data.source import MANY, Item, Wanted, check_feed, some
from py_runner.errors import DataError
from py_runner.files.regular import load_array, open_regular
from py_runner.tensors import TensorSpec

__all__ = ["array_items"]

_Arrays = dict[str, npt.NDArray[Any]]


def array_items(path: Path, wanted: Wanted) -> list[Item] | None:
    """The samples in a `.npy` or `.npz`; None for another path."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz") or path.is_dir():
        return None
    arrays, labels = (_read_npy if suffix == ".npy" else _read_npz)(path, wanted.inputs)
    if not all(array.ndim for array in arrays.values()):
        raise DataError(f"{path}: holds a single number; samples must be stacked on axis 0")
    stacks = {spec.name: _stacked(path, spec, arrays[spec.name]) for spec in wanted.inputs}
    lengths = {name: len(stack) for name, stack in stacks.items()}
    if labels is not None:
        lengths["label"] = len(labels)
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the arrays hold different numbers of samples: {lengths}")
    for spec in wanted.inputs:
        stack = stacks[spec.name]
        check_feed(str(path), spec, stack.dtype, stack.shape[1:])
    return [
        Item(f"{path.name}[{i}]", None if labels is None else labels[i], partial(_feeds, stacks, i))
        for i in range(lengths[wanted.inputs[0].name])
    ]


def _stacked(path: Path, spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as [samples, *shape of a sample], still mapped if it was."""
    batch = spec.shape[0] if spec.shape and array.ndim else 1
    if batch > 1 and array.ndim == len(spec.shape) + 1:
        return array
    batch = max(batch, 1)
    if len(array) % batch:
        raise DataError(
            f"{path}: the model takes {batch} rows of '{spec.name}' at once, and {len(array)} are "
            f"no multiple of that: export it with a free batch (None), or give full batches"
        )
    return array.reshape(-1, batch, *array.shape[1:]) if array.size else array[:, np.newaxis]


def _feeds(stacks: _Arrays, index: int) -> _Arrays:
    # A copy: the sample must not depend on the file, nor on what others do to it.
    return {name: np.array(stack[index], order="C") for name, stack in stacks.items()}


def _read_npy(path: Path, inputs: Sequence[TensorSpec]) -> tuple[_Arrays, list[int] | None]:
    if len(inputs) != 1:
        raise DataError(
            f"{path}: one .npy feeds one input, but the model has {len(inputs)} "
            f"({some([spec.name for spec in inputs])}): use .npz with arrays by these names"
        )
    try:
        array = load_array(path, mapped=True)
    except Exception as error:  # a damaged header can lead the parser anywhere
        raise DataError(f"{path}: not a readable .npy file: {_first_line(error)}") from error
    return {inputs[0].name: array}, None


def _read_npz(path: Path, inputs: Sequence[TensorSpec]) -> tuple[_Arrays, list[int] | None]:
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
