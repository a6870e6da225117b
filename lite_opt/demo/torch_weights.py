"""Reads weights that torch saved, without torch."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lite_opt.model.pickled import KnownUnpickler
from py_runner.errors import ModelError
from py_runner.files.regular import open_regular

__all__ = ["read_torch_weights"]

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


def read_torch_weights(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array of a state_dict that torch saved in its format from before version 1.6.

    That format is a sequence of pickles: a magic number, a protocol number, facts about the
    machine, the state_dict with a persistent id in place of each storage, the sorted list of
    storage keys; then for each key an int64 element count and the elements, little endian
    (`_legacy_load` in torch/serialization.py). Arrays are float32 or int64.

    A pickle may name any function and have it called. Here the four names that a state_dict needs
    are known, and a file that asks for another one is refused with ModelError, before anything is
    called; so is a file that is damaged, cut short, or of another format.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            return _read_state_dict(file)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:
        # Unpickling a damaged file can raise nearly anything.
        raise ModelError(
            f"{path} is not a state_dict in torch's pre-1.6 format: {error}"
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    """Stands in for torch's tensors until the storages, which come last in the file, are read.

    `offset` and `stride` count elements. The convolutions are transposed views: their strides are
    not those of a row-major array.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A copy, row-major, of what this tensor shows of its storage's elements."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if (
            len(self.shape) != len(self.stride)
            or min((self.offset, *self.shape, *self.stride)) < 0
            or 0 in self.shape
            or last >= data.size
        ):
            raise ValueError(f"a tensor of shape {self.shape} lies outside its storage")
        strides = [step * data.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


_PICKLED_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
}


class _Unpickler(KnownUnpickler):
    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, size, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return _Storage(key, dtype, size)


def _read_state_dict(file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    def unpickle() -> Any:
        return _Unpickler(file, _PICKLED_NAMES).load()

    if unpickle() != _TORCH_MAGIC or unpickle() != _TORCH_PROTOCOL:
        raise ValueError("its magic or protocol number is another")
    if not unpickle()["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    tensors: dict[str, _Tensor] = unpickle()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in unpickle():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        raw = file.read(storage.size * storage.dtype.itemsize)
        if count != storage.size or len(raw) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"storage {key} is cut short")
        data[key] = np.frombuffer(raw, storage.dtype)
    return {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}
