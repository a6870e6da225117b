"""Paddle's older graph format: ProgramDesc, the bytes of a `.pdmodel`, <-> the blocks of a Program.

It is the protobuf message ProgramDesc of `paddle/fluid/framework/framework.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from lite_opt.model.program import DENSE_TENSOR, Attr, Block, Graph, Op, Program, Var
from lite_opt.model.schema import message_classes
from py_runner.errors import ModelError
from py_runner.tensors import DTYPE_NUMBERS, DTYPES

__all__ = ["messages", "read_pdmodel", "scalars", "serialize"]

# AttrType of framework.proto: name -> (number, field that holds the value, is it a list)
_ATTR_TYPES: dict[str, tuple[int, str, bool]] = {
    "INT": (0, "i", False),
    "FLOAT": (1, "f", False),
    "STRING": (2, "s", False),
    "INTS": (3, "ints", True),
    "FLOATS": (4, "floats", True),
    "STRINGS": (5, "strings", True),
    "BOOLEAN": (6, "b", False),
    "BOOLEANS": (7, "bools", True),
    "BLOCK": (8, "block_idx", False),
    "LONG": (9, "l", False),
    "BLOCKS": (10, "blocks_idx", True),
    "LONGS": (11, "longs", True),
    "FLOAT64S": (12, "float64s", True),
    "VAR": (13, "var_name", False),
    "VARS": (14, "vars_name", True),
    "FLOAT64": (15, "float64", False),
    "SCALAR": (16, "scalar", False),
    "SCALARS": (17, "scalars", True),
}
_ATTR_NAMES = {number: name for name, (number, _, _) in _ATTR_TYPES.items()}

# The messages of framework.proto that an inference model uses: name: [label] type field = number.
# Strings are declared as bytes where files in the wild hold other encodings than UTF-8.
_SCHEMA = """
Version: int64 version 1
Complex: double r 1, double i 2
Scalar: required int32 type 1, bool b 2, int64 i 3, double r 4, Complex c 5
Attr: required string name 1, required int32 type 2, int32 i 3, float f 4, bytes s 5,
  repeated int32 ints 6, repeated float floats 7, repeated bytes strings 8, bool b 10,
  repeated bool bools 11, int32 block_idx 12, int64 l 13, repeated int32 blocks_idx 14,
  repeated int64 longs 15, repeated double float64s 16, string var_name 17,
  repeated string vars_name 18, double float64 19, Scalar scalar 20, repeated Scalar scalars 21
Slot: required string parameter 1, repeated string arguments 2
OpDesc: repeated Slot inputs 1, repeated Slot outputs 2, required string type 3,
  repeated Attr attrs 4, bool is_target 5
TensorDesc: required int32 data_type 1, repeated int64 dims 2
LoDTensorDesc: required TensorDesc tensor 1, int32 lod_level 2
VarType: required int32 type 1, bytes selected_rows 2, LoDTensorDesc lod_tensor 3,
  bytes tensor_array 4, bytes reader 5, bytes tuple 7, bytes string 8, bytes strings 9,
  bytes vocab 10
VarDesc: required string name 1, required VarType type 2, bool persistable 3,
  bool need_check_feed 4, bool is_parameter 5, bool stop_gradient 6
BlockDesc: required int32 idx 1, required int32 parent_idx 2, repeated VarDesc vars 3,
  repeated OpDesc ops 4, int32 forward_block_idx 5
OpVersion: required int32 version 1
OpVersionPair: required string op_name 1, required OpVersion op_version 2
OpVersionMap: repeated OpVersionPair pair 1
ProgramDesc: repeated BlockDesc blocks 1, Version version 4, OpVersionMap op_version_map 5
"""


@cache
def messages() -> dict[str, Any]:
    """The protobuf classes of `_SCHEMA`."""
    return message_classes(_SCHEMA, package="pe", syntax="proto2")


def read_pdmodel(path: Path, data: bytes) -> Graph:
    """The graph in a `.pdmodel` or `__model__` file. `path` is for messages only.

    Raises ModelError for what is not one, or damaged.
    """
    from google.protobuf.message import DecodeError, EncodeError

    desc = messages()["ProgramDesc"]()
    try:
        desc.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        raise ModelError(f"{path}: not a Paddle model, or damaged") from None
    if not data:
        raise ModelError(f"{path}: the file is empty")
    if not desc.IsInitialized():  # the C parser does not ask for required fields
        raise ModelError(f"{path}: not a Paddle model, or damaged")
    if not desc.blocks or not desc.blocks[0].ops:
        raise ModelError(f"{path}: not a Paddle model, or damaged: it holds no operators")
    op_versions = {p.op_name: p.op_version.version for p in desc.op_version_map.pair}
    try:
        blocks = [_read_block(block) for block in desc.blocks]
        _check_names(blocks, op_versions)
    except EncodeError:  # an attribute whose value is not of its type
        raise ModelError(f"{path}: not a Paddle model, or damaged") from None
    except KeyError as error:
        raise ModelError(f"{path}: unknown type number {error} in the graph") from None
    except UnicodeError:
        raise ModelError(f"{path}: damaged: a name in the graph is not UTF-8") from None
    return Graph(blocks, desc.version.version, op_versions)


def _check_names(blocks: list[Block], op_versions: dict[str, int]) -> None:
    """Raise UnicodeError for a name that is not UTF-8: protobuf's C parser gives it as bytes."""
    groups: list[Iterable[Any]] = [op_versions]
    for block in blocks:
        groups.append(block.vars)
        for op in block.ops:
            groups += [[op.type], op.attrs, op.inputs, op.outputs]
            groups += [*op.inputs.values(), *op.outputs.values()]
            groups += [a.value for a in op.attrs.values() if a.type == "VARS"]
            groups.append([a.value for a in op.attrs.values() if a.type == "VAR"])
    if not all(isinstance(name, str) for names in groups for name in names):
        raise UnicodeError


def _read_block(block: Any) -> Block:
    return Block(
        block.idx,
        block.parent_idx,
        {var.name: _read_var(var) for var in block.vars},
        [
            Op(
                op.type,
                # Older exporters also write the slots that have nothing.
                {slot.parameter: list(slot.arguments) for slot in op.inputs if slot.arguments},
                {slot.parameter: list(slot.arguments) for slot in op.outputs},
                {attr.name: _read_attr(attr) for attr in op.attrs},
                op.is_target,
            )
            for op in block.ops
        ],
        block.forward_block_idx if block.HasField("forward_block_idx") else -1,
    )


def _read_var(var: Any) -> Var:
    result = Var(
        var.name,
        persistable=var.persistable,
        kind=var.type.type,
        need_check_feed=var.need_check_feed,
        is_parameter=var.is_parameter,
        stop_gradient=var.stop_gradient,
    )
    if var.type.type == DENSE_TENSOR:
        tensor = var.type.lod_tensor.tensor
        result.dtype = DTYPES[tensor.data_type]
        # Paddle 2 computes with -1: a dynamic side times 2 is written as -2.
        result.shape = tuple(max(d, -1) for d in tensor.dims)
        result.lod_level = var.type.lod_tensor.lod_level
    else:
        result.other = var.type.SerializeToString()
    return result


def _read_attr(attr: Any) -> Attr:
    name = _ATTR_NAMES[attr.type]
    _, field_name, is_list = _ATTR_TYPES[name]
    value = getattr(attr, field_name)
    if name in ("SCALAR", "SCALARS"):
        return Attr(name, [s.SerializeToString() for s in (value if is_list else [value])])
    if name == "STRING":
        return Attr(name, value.decode("utf-8", "surrogateescape"))
    if name == "STRINGS":
        return Attr(name, [v.decode("utf-8", "surrogateescape") for v in value])
    return Attr(name, list(value) if is_list else value)


def scalars(attr: Attr) -> list[bool | int | float]:
    """The numbers of an attribute of type SCALARS. Complex numbers give their real part."""
    result: list[bool | int | float] = []
    for text in attr.value:
        scalar = messages()["Scalar"].FromString(text)
        # Scalar.Type of framework.proto: 1 bool, 2 int64, 3 float64, 4 complex
        result.append({1: scalar.b, 2: scalar.i, 4: scalar.c.r}.get(scalar.type, scalar.r))
    return result


def serialize(program: Program) -> bytes:
    """The graph as the bytes of a `.pdmodel` file."""
    desc = messages()["ProgramDesc"]()
    for block in program.blocks:
        out = desc.blocks.add(idx=block.idx, parent_idx=block.parent_idx)
        out.forward_block_idx = block.forward_block_idx
        for var in block.vars.values():
            _write_var(out.vars.add(), var)
        for op in block.ops:
            entry = out.ops.add(type=op.type)
            if op.is_target:
                entry.is_target = True
            for slots, target in ((op.inputs, entry.inputs), (op.outputs, entry.outputs)):
                for slot, names in slots.items():
                    target.add(parameter=slot, arguments=names)
            for name, attr in op.attrs.items():
                _write_attr(entry.attrs.add(name=name), attr)
    desc.version.version = program.version
    for name, version in program.op_versions.items():
        desc.op_version_map.pair.add(op_name=name).op_version.version = version
    return bytes(desc.SerializeToString())


def _write_var(out: Any, var: Var) -> None:
    out.name = var.name
    if var.kind == DENSE_TENSOR:
        out.type.type = var.kind
        out.type.lod_tensor.tensor.data_type = DTYPE_NUMBERS[var.dtype]
        out.type.lod_tensor.tensor.dims.extend(var.shape)
        out.type.lod_tensor.lod_level = var.lod_level
    else:
        out.type.ParseFromString(var.other)
    for name in ("persistable", "need_check_feed", "is_parameter", "stop_gradient"):
        if getattr(var, name):
            setattr(out, name, True)


def _write_attr(out: Any, attr: Attr) -> None:
    number, field_name, is_list = _ATTR_TYPES[attr.type]
    out.type = number
    value = attr.value
    if attr.type == "SCALAR":
        out.scalar.ParseFromString(value[0])
    elif attr.type == "SCALARS":
        for item in value:
            out.scalars.add().ParseFromString(item)
    elif attr.type == "STRING":
        out.s = value.encode("utf-8", "surrogateescape")
    elif attr.type == "STRINGS":
        out.strings.extend(v.encode("utf-8", "surrogateescape") for v in value)
    elif is_list:
        getattr(out, field_name).extend(value)
    else:
        setattr(out, field_name, value)
