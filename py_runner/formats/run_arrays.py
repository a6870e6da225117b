"""The answers of a Run on disk: one .npy of all samples, or one a sample where shapes vary."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

import numpy as np
import numpy.typing as npt

from py_runner.errors import ModelError
from py_runner.files.npy import header_of
from py_runner.files.placed import PlacedFile
from py_runner.files.regular import open_regular, read_bytes, save_array
from py_runner.files.url import Place, Url
from py_runner.formats.lazy import Joined, Lazy, View, stretches

__all__ = ["Ragged", "Stack", "form_of", "open_output", "write_output"]

_Array = npt.NDArray[Any]
_Form = tuple[str, Optional[tuple[int, ...]]]
_BLOCK = 1 << 18  # bytes that are read at once
_WRITE = 1 << 20
_HEAD = 256  # bytes in which the header of a .npy lies


class Stack(Lazy[_Array]):
    """The arrays along the first axis of a .npy file, read when they are asked for; read-only.

    Raises ValueError for another file, and one that is too short.
    """

    def __init__(self, path: Place) -> None:
        self._file = PlacedFile(path)
        shape, self.dtype, self._start = header_of(self._file.read(0, 1 << 16))
        if not shape:
            raise ValueError(f"{path.name} holds no samples")
        self._count, self.shape = shape[0], shape[1:]
        self._bytes = math.prod(self.shape) * self.dtype.itemsize
        if self._file.size < self._start + self._count * self._bytes:
            raise ValueError(f"{path.name} is too short for its {self._count} arrays")

    def __len__(self) -> int:
        return self._count

    def item(self, place: int) -> _Array:
        value: _Array = self._block(place, 1)[0]
        return value

    def span(self, start: int, stop: int) -> Iterator[_Array]:
        step = max(1, _BLOCK // max(1, self._bytes))
        for place in range(start, stop, step):
            yield from self._block(place, min(step, stop - place))

    def copy(self, to: BinaryIO) -> None:
        """Write the bytes of all arrays to another file."""
        self._file.copy(self._start, self._start + self._count * self._bytes, to)

    def _block(self, place: int, count: int) -> _Array:
        data = self._file.read(self._start + place * self._bytes, count * self._bytes)
        if len(data) != count * self._bytes:
            raise ModelError(f"{self._file.path}: became shorter while it was read: start again")
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape)


class Ragged(Lazy[_Array]):
    """The arrays of a folder, one a file: 000000.npy and on. Raises ValueError or OSError where one
    of `count` is missing or no .npy, or too short."""

    def __init__(self, folder: Place, count: int) -> None:
        self._folder, self._count = folder, count
        if isinstance(folder, Url):  # where to look into each takes its time
            there = set(folder.names())
            missing = next((n for n in map(_name, range(count)) if n not in there), None)
            if missing:
                raise ValueError(f"{folder / missing} is missing")
            return
        for place in range(count):
            self._check(place)

    def _check(self, place: int) -> None:
        with open_regular(self._path(place)) as file:
            shape, dtype, start = header_of(file.read(_HEAD))
            if os.fstat(file.fileno()).st_size < start + math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{self._path(place)} is too short for its array")

    def _path(self, place: int) -> Place:
        return self._folder / _name(place)

    def __len__(self) -> int:
        return self._count

    def item(self, place: int) -> _Array:
        data = read_bytes(self._path(place))
        shape, dtype, start = header_of(data)
        return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)


def _name(place: int) -> str:
    return f"{place:06d}.npy"


def open_output(
    path: Place, index: int, dtype: str, *, stacked: bool, count: int
) -> Union[Stack, Ragged]:  # noqa: UP007
    """Output `index` of the Run at `path`. Raises ModelError where it is not of so many samples, or
    of another type; ValueError or OSError as the classes here."""
    if not stacked:
        return Ragged(path / f"output_{index}", count)
    file = path / f"output_{index}.npy"
    values = Stack(file)
    if len(values) != count or str(values.dtype) != dtype:
        raise ModelError(f"{file}: damaged: does not hold the {count} samples of run.json")
    return values


def write_output(folder: Path, index: int, values: Sequence[_Array]) -> None:
    """Write output `index` into the folder of a Run."""
    dtype, shape = form_of(values)
    if shape is None:
        (folder / f"output_{index}").mkdir()
        for number, value in enumerate(values):
            save_array(folder / f"output_{index}" / _name(number), value)
        return
    form: Any = np.lib.format
    whole = (len(values), *shape)
    about = {"descr": form.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": whole}
    with (folder / f"output_{index}.npy").open("wb", buffering=_WRITE) as file:
        form.write_array_header_1_0(file, about)
        for stretch in stretches(values):
            if isinstance(stretch, Stack):
                stretch.copy(file)
                continue
            for value in filter(lambda value: value.size, stretch):
                file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def form_of(values: Sequence[_Array]) -> _Form:
    """The dtype of the arrays, that of the first, and the shape, None where not all are alike."""
    if isinstance(values, Stack):
        return str(values.dtype), values.shape
    if isinstance(values, View) and isinstance(values.base, Stack):
        return str(values.base.dtype), values.base.shape
    if isinstance(values, Ragged):
        return str(values[0].dtype), None
    if isinstance(values, Joined):
        forms = [form_of(part) for part in values.parts]
        return forms[0] if len(set(forms)) == 1 else (forms[0][0], None)
    found = iter(values)
    first = next(found)
    alike = all(v.shape == first.shape and v.dtype == first.dtype for v in found)
    return str(first.dtype), first.shape if alike else None
