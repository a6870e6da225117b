"""Parameter files: records of tensors, read as views of their memory map.

A record is written by `SerializeToStream(phi::DenseTensor)` in
`paddle/phi/core/framework/dense_tensor_serialize.cc`:

    u32 version(0)  u64 lod levels {u64 bytes, data}*  u32 version(0)  i32 n  TensorDesc[n]  data

A combined file is these records in the order of the sorted variable names.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lite_opt.model.pdmodel import messages
from lite_opt.model.program import ModelFiles, Var
from py_runner.errors import ModelError
from py_runner.files.regular import open_regular
from py_runner.tensors import DTYPE_NUMBERS, DTYPES

__all__ = ["read_params", "spans", "write_params"]


def read_params(files: ModelFiles, stored: list[Var]) -> dict[str, np.ndarray[Any, Any]]:
    """The parameters of a model by name, as read-only views of its memory-mapped files.

    stored: the variables that the files hold, in the order of their names. Where the file has
        int8 for one declared as float32, its declaration is corrected.

    Raises ModelError for files that are missing, damaged or of another model.
    """
    if not stored:
        return {}
    source = files.params
    if source is None:
        raise ModelError(
            f"{files.model}: its {len(stored)} parameters are missing: no .pdiparams file beside it"
        )
    if not source.is_dir():
        return dict(_read_records(source, stored))
    params: dict[str, np.ndarray[Any, Any]] = {}
    for var in stored:
        path = source / var.name
        # A name is not a path: a hostile model must not make us open files elsewhere.
        if path.parent != source or not path.is_file():
            raise ModelError(f"{source}: no file for parameter '{var.name}'")
        params.update(_read_records(path, [var]))
    return params


def _read_records(path: Path, variables: list[Var]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The parameters of one file, as read-only views of its memory map."""
    try:
        with open_regular(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"{path}: the file is empty") from None
    offset = 0
    for var in variables:
        try:
            value, offset = _read_record(data, offset)
        except (struct.error, KeyError, ValueError):
            raise ModelError(
                f"{path}: damaged, truncated or of another model: "
                f"no parameter '{var.name}' at byte {offset} of {len(data)}"
            ) from None
        if [d for d in value.shape if d != 1] == [d for d in var.shape if d != 1]:
            # Paddle's quantization writes scales as [] or [1, n] that it declares as [1] or [n].
            value = value.reshape(var.shape)
        if value.dtype == np.int8 and var.dtype == "float32":
            var.dtype = "int8"  # quantized weights, still declared as what they were
        dtype = "uint16" if var.dtype == "bfloat16" else var.dtype
        if value.shape != var.shape or str(value.dtype) != dtype:
            raise ModelError(
                f"{path}: of another model: parameter '{var.name}' should be {dtype}"
                f"{list(var.shape)}, the file has {value.dtype}{list(value.shape)}"
            )
        yield var.name, value
    if offset != len(data):
        raise ModelError(
            f"{path}: of another model: {len(data) - offset} bytes are left after the "
            f"{len(variables)} parameters that the model names"
        )


def spans(path: Path, names: Iterable[str]) -> dict[str, range]:
    """The bytes of a combined file that are the record of each parameter, by names in the order of
    the file."""
    found: dict[str, range] = {}
    with open_regular(path) as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 0
    for name in names:
        _, end = _read_record(data, start)
        found[name], start = range(start, end), end
    return found


def _read_record(data: mmap.mmap, offset: int) -> tuple[np.ndarray[Any, Any], int]:
    from google.protobuf.message import DecodeError

    version, levels = struct.unpack_from("<IQ", data, offset)
    offset += 12
    if version != 0 or levels > 8:
        raise ValueError("version")
    for _ in range(levels):
        (size,) = struct.unpack_from("<Q", data, offset)
        offset += 8 + size
    version, size = struct.unpack_from("<Ii", data, offset)
    offset += 8
    if version != 0 or not 0 < size <= 1024:
        raise ValueError("version")
    desc = messages()["TensorDesc"]()
    try:
        desc.ParseFromString(data[offset : offset + size])
    except DecodeError:
        raise ValueError("tensor description") from None
    offset += size
    shape, name = tuple(desc.dims), DTYPES[desc.data_type]
    dtype = np.dtype("uint16" if name == "bfloat16" else name)
    count = math.prod(shape)
    if any(d < 0 for d in shape) or offset + count * dtype.itemsize > len(data):
        raise ValueError("shape")
    value = np.frombuffer(data, dtype, count, offset).reshape(shape)
    return value, offset + count * dtype.itemsize


def write_params(path: Path, params: Iterable[tuple[Var, np.ndarray[Any, Any]]]) -> None:
    """Write a combined file of parameters, which come in the order of their names.

    They may be views of the file that is to be replaced, which truncating would pull away from
    under us: it is replaced once the new one is whole.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        for var, value in params:
            _write_record(file, var, value)
    partial.replace(path)


def _write_record(file: BinaryIO, var: Var, value: np.ndarray[Any, Any]) -> None:
    desc = messages()["TensorDesc"](data_type=DTYPE_NUMBERS[var.dtype], dims=value.shape)
    text = desc.SerializeToString()
    file.write(struct.pack("<IQIi", 0, 0, 0, len(text)))
    file.write(text)
    file.write(np.ascontiguousarray(value).data.cast("B") if value.size else b"")
