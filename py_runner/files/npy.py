"""Arrays of .npy files that are not read whole: what the header says, and rows at a Url."""

from __future__ import annotations

import math
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from py_runner.files.placed import PlacedFile
from py_runner.files.url import Url

__all__ = ["FarArray", "header_of"]

_HEAD = 1 << 12  # bytes in which headers lie


class FarArray:
    """The array of a .npy at a URL, whose rows are fetched when they are asked for. Raises
    ValueError for another file, OSError as files do."""

    def __init__(self, url: Url) -> None:
        self._url = url
        self.shape, self.dtype, self._start = header_of(url.read(0, _HEAD))
        self._file: PlacedFile | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> FarArray:
        """The same items in another shape, one side of which may be -1."""
        new = FarArray.__new__(FarArray)
        new.__dict__.update(self.__dict__)
        known = math.prod(side for side in shape if side != -1)
        new.shape = tuple(self.size // known if side == -1 else side for side in shape)
        return new

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        if self._file is None:
            self._file = PlacedFile(self._url)
        count = math.prod(self.shape[1:])
        nbytes = count * self.dtype.itemsize
        data = self._file.read(self._start + row * nbytes, nbytes)
        return np.frombuffer(data, self.dtype, count).reshape(self.shape[1:])

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        return self.reshape(1, *self.shape)[0]


def header_of(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and length of the header that a .npy begins with."""
    end = data.find(b"\n", 0, 1 << 16) + 1
    return _read_header(data[:end] if end else data)


@lru_cache(maxsize=64)
def _read_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    file, form = BytesIO(data), cast(Any, np.lib.format)
    if data[:6] != b"\x93NUMPY":
        raise ValueError("it does not begin like a .npy file")
    version = form.read_magic(file)
    read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, in_columns, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, which are not read")
    if in_columns and len(shape) > 1:
        raise ValueError("it is in Fortran's order, which is not read")
    return shape, dtype, file.tell()
