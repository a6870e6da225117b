"""Reads a Paddle Lite `.nb` file without the engine: what it is, not what it computes.

Paddle Lite aborts the process on a file it does not like, and an x86 build "runs" a file made
for ARM and returns uninitialised memory. So everything that can be known of a file is read here
first: the version of `opt` that wrote it, the target and precision of every kernel, the inputs
and outputs, and the type and size of every parameter.

    >>> nb = read_nb("model.nb")
    >>> nb.target, nb.opt_version
    ('arm', 'v2.13-rc')
    >>> nb.kernels[("arm", "int8")]
    14
    >>> nb.param("conv2d_0.w_0").dtype
    dtype('int8')

The file, little endian, after `SaveModelNaive` in Paddle Lite's `lite/model_parser/model_parser.cc`
and `ParamSerializer` in `lite/model_parser/flatbuffers/io.cc`:

    u16 meta_version (2 since v2.8)   char opt_version[16]   u64 topology_size
    topology         flatbuffer `ProgramDesc` of `lite/model_parser/flatbuffers/framework.fbs`
    u16 param_version (0)   u16 meta_size   meta
    u16 header_size (6)   u16 params_count   u32 max_tensor_bytes
    params_count x   u32 total_size   u32 offset (4)   flatbuffer `ParamDesc` of `param.fbs`

`total_size` counts from behind itself, `offset` from there to the flatbuffer. Nothing is aligned.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.errors import ModelError, UsageError
from py_runner.files.regular import open_regular
from py_runner.formats.flatbuffer import DamagedError, Flatbuffer, Table
from py_runner.tensors import DTYPES, TensorSpec

__all__ = ["NbFile", "NbOp", "NbParam", "read_nb"]

_META_VERSION = 2
_PREFIX = struct.Struct("<H16sQ")
_U16 = struct.Struct("<H")
_U16_PAIR = struct.Struct("<HH")
_U32 = struct.Struct("<I")
_U32_PAIR = struct.Struct("<II")

# TargetType, PrecisionType and DataLayoutType of lite/api/paddle_place.h, by their numbers.
# fmt: off
_TARGETS = (
    "unk", "host", "x86", "cuda", "arm", "opencl", "any", "fpga", "npu", "xpu", "bm", "mlu",
    "rknpu", "apu", "huawei_ascend_npu", "imagination_nna", "intel_fpga", "metal", "nnadapter",
)
_PRECISIONS = (
    "unk", "float", "int8", "int32", "any", "fp16", "bool", "int64", "int16", "uint8", "fp64",
)
_LAYOUTS = (
    "unk", "nchw", "any", "nhwc", "image_default", "image_folder", "image_nw",
    "metal_texture_2d_array", "metal_texture_2d",
)
# fmt: on
# VarType_.Type of framework.fbs has these of the element types.
_DTYPES = {number: DTYPES[number] for number in (0, 1, 2, 3, 4, 5, 6, 20, 21)}
_LOD_TENSOR = 7

# AttrType of framework.fbs: the types of the attributes read here.
_ATTR_INT, _ATTR_STRING, _ATTR_FLOATS, _ATTR_BOOLEAN = 0, 2, 4, 6
_KERNEL_ATTR = "__@kernel_type_attr@__"
_QUANT_ATTRS = frozenset(
    ["bit_length", "enable_int8", "enable_int16", "quantization_type", "quantize_weight_bits"]
)

# What numpy 1 can hold; Paddle itself stops at 9 dimensions.
_MAX_RANK = 32

_AttrValue = Union[bool, int, str, tuple[float, ...]]


@dataclass(frozen=True)
class NbOp:
    """One operator and the kernel that `opt` chose for it.

    `target`, `precision` and `layout` are the engine's names in lower case ("arm", "int8",
    "nchw"); a number that is not known is kept, as in "target-23"; "unk" where no kernel is named.
    `inputs` and `outputs` map a slot ("Filter") to variable names. `quant` holds the attributes of
    quantisation that are set: `enable_int8`, `enable_int16`, `bit_length` (static),
    `quantization_type`, `quantize_weight_bits` (weights only), and every `*_scale` list.
    """

    type: str
    kernel: str
    target: str
    precision: str
    layout: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    quant: Mapping[str, _AttrValue]


@dataclass(frozen=True)
class NbParam:
    """A parameter: numpy's dtype name, shape, size in bytes and place of its data in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    offset: int


@dataclass(frozen=True)
class NbFile:
    """What a `.nb` file says. `ops` holds all blocks in order, `bytes` is the size of the file.

    `inputs` and `outputs` are in column order, as the engine counts them. Their shape has -1 where
    it is left open, and is `()` where the file does not say. `opt` keeps the exporter's shapes of
    most variables, but the engine ignores them: an input has no shape before the caller gives one.
    What is not a tensor, or of no type known here, has its number for a dtype, as in "type-13".
    The file is closed; `param` opens it again.
    """

    path: Path
    meta_version: int
    opt_version: str
    bytes: int
    ops: tuple[NbOp, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    params: tuple[NbParam, ...]

    @property
    def kernels(self) -> Counter[tuple[str, str]]:
        """How many ops run on which (target, precision)."""
        return Counter((op.target, op.precision) for op in self.ops)

    @property
    def target(self) -> str:
        """The device that the kernels need: "arm", "x86" ...; "arm,opencl" where they are mixed.

        Kernels for "host" and "any" run on every device and do not count; "host" if all are such.
        """
        devices = {op.target for op in self.ops} - {"host", "any"}
        return ",".join(sorted(devices)) or "host"

    @property
    def calib_count(self) -> int:
        """How many ops convert between int8 and float: the price of a partly quantised model."""
        return sum(op.type in ("calib", "calib_once") for op in self.ops)

    @property
    def weight_bytes_by_dtype(self) -> dict[str, int]:
        """Bytes of parameter data for each dtype, most first."""
        sizes: Counter[str] = Counter()
        for param in self.params:
            sizes[param.dtype] += param.bytes
        return dict(sizes.most_common())

    def param(self, name: str) -> npt.NDArray[Any]:
        """The data of the parameter `name`, as a new array of its dtype and shape.

        Quantised weights come as they are stored; the `*_scale` list of the op restores them.
        Raises UsageError for an unknown name, ModelError if the file has gone, shrunk, or is of a
        type that numpy does not have.
        """
        found = next((param for param in self.params if param.name == name), None)
        if found is None:
            raise UsageError(f"{self.path}: has no parameter {name!r}")
        if found.dtype not in _DTYPES.values():
            raise ModelError(f"{self.path}: cannot read parameter {name!r} of {found.dtype}")
        try:
            with open_regular(self.path) as file:
                file.seek(found.offset)
                data = file.read(found.bytes)
        except OSError as error:
            raise ModelError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(data) != found.bytes:
            raise ModelError(f"{self.path}: has changed since it was opened; read it again")
        dtype = np.dtype(found.dtype).newbyteorder("<")
        return np.frombuffer(data, dtype).reshape(found.shape).astype(found.dtype)

    def to_json(self) -> dict[str, Any]:
        """A summary that `json.dumps` takes; keys are spelled as the attributes."""
        kernels: dict[str, dict[str, int]] = {}
        for (target, precision), count in self.kernels.most_common():
            kernels.setdefault(target, {})[precision] = count
        return {
            "path": str(self.path),
            "meta_version": self.meta_version,
            "opt_version": self.opt_version,
            "bytes": self.bytes,
            "target": self.target,
            "kernels": kernels,
            "op_count": len(self.ops),
            "op_histogram": dict(Counter(op.type for op in self.ops).most_common()),
            "calib_count": self.calib_count,
            "param_count": len(self.params),
            "weight_bytes_by_dtype": self.weight_bytes_by_dtype,
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
        }


def read_nb(path: str | os.PathLike[str]) -> NbFile:
    """Read all of a `.nb` file but the data of its parameters.

    Any file is safe to give, if nobody shortens it meanwhile: it is checked against its own size
    at every step, and time and memory stay within a small multiple of that size.
    Raises ModelError, one line that names the file, if it is missing, not a `.nb` file, of a
    format version other than 2, truncated, followed by other bytes, or damaged.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DamagedError("the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(path, data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DamagedError as error:
        raise ModelError(f"{path}: {error}") from None


def _need(data: mmap.mmap, size: int) -> None:
    if len(data) < size:
        raise DamagedError(f"truncated: at least {size} bytes expected, {len(data)} found")


def _read(path: Path, data: mmap.mmap) -> NbFile:
    _need(data, _U16.size)
    (meta_version,) = _U16.unpack_from(data)
    if meta_version in (0, 1):
        raise DamagedError(
            f"has format version {meta_version}, of Paddle Lite before v2.8; only version "
            f"{_META_VERSION} can be read: convert the model again"
        )
    if meta_version != _META_VERSION:
        raise DamagedError(
            f"not a Paddle Lite .nb file, or one of a newer format (format version {meta_version};"
            f" only version {_META_VERSION} can be read)"
        )
    _need(data, _PREFIX.size)
    _, version_field, topology_size = _PREFIX.unpack_from(data)
    # opt copies 16 bytes from a shorter string: what follows the NUL is not initialised.
    opt_version = version_field.split(b"\0")[0].decode("latin-1")
    if not (opt_version.isascii() and opt_version.isprintable()):
        raise DamagedError(f"damaged: the version of opt is unreadable ({opt_version!a})")
    params_begin = _PREFIX.size + topology_size
    _need(data, params_begin)

    # Parameters first: a truncated file is the commonest fault, and found there.
    params = _read_params(data, params_begin)
    blocks = list(Flatbuffer(data, _PREFIX.size, params_begin).root().tables(0))
    if not blocks:
        raise DamagedError("damaged: there is no block of operators")
    variables, persistable = _read_vars(blocks[0])
    if persistable != {param.name for param in params}:
        name = min(persistable ^ {param.name for param in params})
        raise DamagedError(
            f"damaged: {len(persistable)} parameters are declared and {len(params)} stored;"
            f" {_brief(name)} is not among both"
        )
    feeds: dict[int, str] = {}
    fetches: dict[int, str] = {}
    ops = tuple(_read_op(table, feeds, fetches) for block in blocks for table in block.tables(3))
    return NbFile(
        path=path,
        meta_version=meta_version,
        opt_version=opt_version,
        bytes=len(data),
        ops=ops,
        inputs=_columns(feeds, variables, "feed"),
        outputs=_columns(fetches, variables, "fetch"),
        params=params,
    )


def _read_params(data: mmap.mmap, begin: int) -> tuple[NbParam, ...]:
    _need(data, begin + _U32.size)
    param_version, meta_size = _U16_PAIR.unpack_from(data, begin)
    if param_version != 0:
        raise DamagedError(f"damaged: parameters of version {param_version}, 0 expected")
    begin += 4 + meta_size
    _need(data, begin + 8)
    header_size, count, max_tensor_bytes = struct.unpack_from("<HHI", data, begin)
    if header_size < 6:
        raise DamagedError(f"damaged: a parameter header of {header_size} bytes, 6 expected")
    if max_tensor_bytes > len(data):
        # The engine allocates as much at once.
        raise DamagedError(f"damaged: a parameter of {max_tensor_bytes} bytes is announced")
    begin += 2 + header_size
    params: dict[str, NbParam] = {}
    for number in range(count):
        _need(data, begin + _U32_PAIR.size)
        total_size, offset = _U32_PAIR.unpack_from(data, begin)
        if not 4 <= offset < total_size:
            raise DamagedError(
                f"damaged: parameter {number} starts at {offset} of {total_size} bytes"
            )
        end = begin + 4 + total_size
        _need(data, end)
        param = _read_param(Flatbuffer(data, begin + 4 + offset, end).root())
        if param.name in params:
            raise DamagedError(f"damaged: parameter {_brief(param.name)} is stored twice")
        params[param.name] = param
        begin = end
    if begin != len(data):
        raise DamagedError(
            f"damaged: {len(data)} bytes found, but the last of {count} parameters ends at {begin}"
        )
    return tuple(params.values())


def _read_param(desc: Table) -> NbParam:
    name = desc.string(1)
    tensor = desc.table(3)
    if desc.uint8(2) != 1 or tensor is None:
        raise DamagedError(f"damaged: parameter {_brief(name)} is not a tensor")
    type_number = tensor.int32(3)
    dtype = _DTYPES.get(type_number, f"type-{type_number}")
    shape = tensor.int64s(2)
    offset, size = tensor.vector(4, 1)
    count = math.prod(dim or 1 for dim in shape[:_MAX_RANK])
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0 or count >= 1 << 60:
        raise DamagedError(f"damaged: parameter {_brief(name)} has the shape {_brief(shape)}")
    if type_number in _DTYPES:
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        if size != expected:
            raise DamagedError(
                f"damaged: parameter {_brief(name)} has {size} bytes, {expected} expected"
                f" ({dtype} {_brief(shape)})"
            )
    return NbParam(name, dtype, shape, size, offset)


def _read_vars(block: Table) -> tuple[dict[str, TensorSpec], set[str]]:
    """The variables that a block declares, and which of them are parameters."""
    variables: dict[str, TensorSpec] = {}
    persistable = set()
    for desc in block.tables(2):
        name = desc.string(0)
        var_type = desc.table(1)
        number = var_type.int32(0) if var_type else 0
        shape: tuple[int, ...] = ()
        if var_type and number == _LOD_TENSOR:
            if desc.uint8(2):
                persistable.add(name)
            lod_tensor = var_type.table(2)
            tensor = lod_tensor.table(0) if lod_tensor else None
            if tensor:
                number = tensor.int32(0)
                shape = tensor.int64s(1)
        variables[name] = TensorSpec(name, _DTYPES.get(number, f"type-{number}"), shape)
    return variables, persistable


def _read_op(desc: Table, feeds: dict[int, str], fetches: dict[int, str]) -> NbOp:
    """One op; a feed or fetch also enters its variable into `feeds` or `fetches` by column."""
    op_type = desc.string(0)
    kernel = [op_type, "", "0", "0", "0"]
    quant: dict[str, _AttrValue] = {}
    column = -1
    for attr in desc.tables(3):
        name = attr.string(0)
        kind = attr.int32(1)
        if name == _KERNEL_ATTR:
            kernel = attr.string(4).split("/", 5)
            # The engine knows no other kinds of number, and int() takes "٣" and "1_0".
            if len(kernel) != 5 or not all(
                part.isascii() and part.isdigit() for part in kernel[2:]
            ):
                raise DamagedError(
                    f"damaged: op {_brief(op_type)} names the kernel {_brief('/'.join(kernel))}"
                )
        elif name == "col" and kind == _ATTR_INT:
            column = attr.int32(2)
        elif name in _QUANT_ATTRS or name.endswith("_scale"):
            if kind == _ATTR_BOOLEAN:
                quant[name] = bool(attr.uint8(8))
            elif kind == _ATTR_INT:
                quant[name] = attr.int32(2)
            elif kind == _ATTR_STRING:
                quant[name] = attr.string(4)
            elif kind == _ATTR_FLOATS:
                quant[name] = attr.floats(6)
    op = NbOp(
        type=op_type,
        kernel=kernel[1],
        target=_name(_TARGETS, "target", kernel[2]),
        precision=_name(_PRECISIONS, "precision", kernel[3]),
        layout=_name(_LAYOUTS, "layout", kernel[4]),
        inputs=_slots(desc, 1),
        outputs=_slots(desc, 2),
        quant=quant,
    )
    if op_type in ("feed", "fetch"):
        names = op.outputs.get("Out", ()) if op_type == "feed" else op.inputs.get("X", ())
        columns = feeds if op_type == "feed" else fetches
        if len(names) != 1 or column in columns:
            raise DamagedError(f"damaged: {op_type} of column {column} names {len(names)} tensors")
        columns[column] = names[0]
    return op


def _slots(desc: Table, field: int) -> dict[str, tuple[str, ...]]:
    return {var.string(0): var.strings(1) for var in desc.tables(field)}


def _columns(
    names: dict[int, str], variables: dict[str, TensorSpec], op_type: str
) -> tuple[TensorSpec, ...]:
    # The engine uses the column as an index, unchecked.
    if sorted(names) != list(range(len(names))):
        raise DamagedError(f"damaged: the columns of {op_type} are {_brief(sorted(names))}")
    for name in names.values():
        if name not in variables:
            raise DamagedError(f"damaged: {op_type} names {_brief(name)}, which is not declared")
    return tuple(variables[names[column]] for column in range(len(names)))


def _name(names: tuple[str, ...], kind: str, number: str) -> str:
    # A number too long for an index is kept as text without a conversion.
    known = len(number) < 4 and int(number) < len(names)
    return names[int(number)] if known else f"{kind}-{number}"


def _brief(values: object) -> str:
    """One short line, whatever a hostile file calls its parts."""
    text = ascii(values)
    return text if len(text) <= 60 else f"{text[:60]}..."
