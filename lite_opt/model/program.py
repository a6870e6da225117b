"""A Paddle inference model in memory: its graph and its parameters.

`Program.load` reads what Paddle 1.x, 2.x and 3.x save, without importing paddle: a `.pdmodel` or
(pir.py) an `inference.json` with its `.pdiparams`, or a folder with `__model__` and combined or
separate parameter files. The graph becomes plain Python objects that the repair rules edit;
the parameters stay memory-mapped views of their file until somebody replaces one.

Formats, from Paddle's sources: the graph is the protobuf message ProgramDesc of
`paddle/fluid/framework/framework.proto`; a parameter record is written by
`SerializeToStream(phi::DenseTensor)` in `paddle/phi/core/framework/dense_tensor_serialize.cc`:

    u32 version(0)  u64 lod levels {u64 bytes, data}*  u32 version(0)  i32 n  TensorDesc[n]  data

A combined file is these records in the order of the sorted variable names.
"""

from __future__ import annotations

import copy
import math
import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from py_runner.errors import ModelError
from py_runner.files import checksum
from py_runner.tensors import DTYPE_NUMBERS, DTYPES, TensorSpec

__all__ = ["Attr", "Block", "ModelFiles", "Op", "Program", "Var", "find_model", "scalars"]

_DENSE_TENSOR, _FEED, _FETCH, _RAW = 7, 9, 10, 17

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
def _messages() -> dict[str, Any]:
    """The protobuf classes of `_SCHEMA`, in a pool of their own: paddle has a pool too."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_types = descriptor_pb2.FieldDescriptorProto.Type
    labels = descriptor_pb2.FieldDescriptorProto.Label
    file = descriptor_pb2.FileDescriptorProto(name="program.proto", package="pe", syntax="proto2")
    for line in _SCHEMA.replace(",\n", ",").strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for text in fields.split(","):
            *label, kind, field_name, number = text.split()
            entry = message.field.add(name=field_name, number=int(number))
            entry.label = labels.Value("LABEL_" + (label[0] if label else "optional").upper())
            if kind[0].isupper():
                entry.type, entry.type_name = field_types.Value("TYPE_MESSAGE"), f".pe.{kind}"
            else:
                entry.type = field_types.Value("TYPE_" + kind.upper())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pe.{name}"))
        for name in names
    }


@dataclass(frozen=True)
class Attr:
    """An operator attribute. `type` is a name of Paddle's AttrType, such as "INTS"."""

    type: str
    value: Any


@dataclass
class Op:
    """One operator. `inputs` and `outputs` map a slot ("X", "Filter") to variable names."""

    type: str
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    attrs: dict[str, Attr] = field(default_factory=dict)
    is_target: bool = False

    def input(self, slot: str) -> str | None:
        """The only variable of an input slot, or None where the slot is absent or empty."""
        names = self.inputs.get(slot)
        return names[0] if names else None

    def output(self, slot: str) -> str | None:
        """The only variable of an output slot, or None where the slot is absent or empty."""
        names = self.outputs.get(slot)
        return names[0] if names else None

    @property
    def layer(self) -> str:
        """What to call this operator when talking to a person: its first output variable."""
        return next((n for names in self.outputs.values() for n in names), "(no output)")

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        attr = self.attrs.get(name)
        return default if attr is None else attr.value

    def set(self, name: str, value: Any, type: str | None = None) -> None:
        """Set an attribute. The type follows from the value unless it is given."""
        self.attrs[name] = Attr(type or _attr_type(value), value)

    def rename_inputs(self, names: dict[str, str]) -> None:
        """Replace input variables by others."""
        for arguments in self.inputs.values():
            arguments[:] = [names.get(a, a) for a in arguments]


def _attr_type(value: Any) -> str:
    plural = "S" if isinstance(value, list) else ""
    first = value[0] if plural and value else 0 if plural else value
    for kind, name in ((bool, "BOOLEAN"), (int, "INT"), (float, "FLOAT"), (str, "STRING")):
        if isinstance(first, kind):
            return name + plural
    raise TypeError(f"no attribute type for {value!r}")


@dataclass
class Var:
    """A variable. `dtype` and `shape` (-1 = dynamic) describe dense tensors only."""

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    persistable: bool = False
    kind: int = _DENSE_TENSOR
    lod_level: int = 0
    need_check_feed: bool = False
    is_parameter: bool = False
    stop_gradient: bool = False
    other: bytes = b""  # the serialized VarType of a kind that is not a dense tensor

    @property
    def is_stored(self) -> bool:
        """Whether the parameter file holds a record for it."""
        return self.persistable and self.kind not in (_FEED, _FETCH, _RAW)


@dataclass
class Block:
    """A sequence of operators over variables. Block 0 is the model; others are branch bodies."""

    idx: int
    parent_idx: int
    vars: dict[str, Var]
    ops: list[Op]
    forward_block_idx: int = -1


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies. `params` is a file, a folder of separate files, or None for none."""

    model: Path
    params: Path | None
    ir: str = "legacy"

    def sha256(self) -> str:
        """Over the model file and then the parameter files in the order of their names."""
        files = [self.model]
        if self.params is not None and self.params.is_dir():
            files += sorted(p for p in self.params.iterdir() if p.is_file() and p != self.model)
        elif self.params is not None:
            files.append(self.params)
        return checksum.sha256(*files)


class Program:
    """A Paddle inference model: `blocks` (the graph) and `params` (name -> ndarray, read-only).

    Edit the graph in place; replace a parameter by `set_param`. `files` says where it came from.

    Example:
        >>> program = Program.load("inference.pdmodel")           # doctest: +SKIP
        >>> [op.type for op in program.ops][:3]                    # doctest: +SKIP
        ['feed', 'conv2d', 'relu']
    """

    def __init__(
        self,
        blocks: list[Block],
        params: dict[str, np.ndarray[Any, Any]],
        *,
        files: ModelFiles,
        version: int = 0,
        op_versions: dict[str, int] | None = None,
    ) -> None:
        self.blocks = blocks
        self.params = params
        self.files = files
        self.version = version
        self.op_versions = op_versions or {}
        self._loaded_params = dict(params)

    @classmethod
    def load(cls, path: str | Path, *, params: str | Path | None = None) -> Program:
        """Read a model from a folder or a file.

        Raises ModelError for anything that is not one, and ConvertError for a PIR file with an
        operator or control flow that cannot be translated.
        """
        files = find_model(path, params=params)
        blocks, version, op_versions = _read_graph(files.model)
        stored = sorted(v.name for v in blocks[0].vars.values() if v.is_stored)
        program = cls(
            blocks,
            _read_params(files, [blocks[0].vars[name] for name in stored]),
            files=files,
            version=version,
            op_versions=op_versions,
        )
        if not program.outputs:
            raise ModelError(
                f"{files.model}: no fetch operator: this is not an inference model; "
                "export it with paddle.jit.save or paddle.static.save_inference_model"
            )
        return program

    def save(self, folder: str | Path, *, name: str = "inference") -> ModelFiles:
        """Write `<name>.pdmodel` and `<name>.pdiparams` into a folder that exists."""
        files = ModelFiles(Path(folder, f"{name}.pdmodel"), Path(folder, f"{name}.pdiparams"))
        assert files.params is not None
        # The parameters may be views of the file that is to be replaced: truncating it kills us.
        partial = Path(folder, f".{name}.pdiparams.partial")
        with partial.open("wb") as file:
            for var_name in sorted(self.params):
                _write_record(file, self.var(var_name), self.params[var_name])
        partial.replace(files.params)
        files.model.write_bytes(self.serialize())
        return files

    def stage(self, folder: str | Path) -> ModelFiles:
        """Like `save`, for an engine that is to read the model once: parameters that are still
        exactly those of one combined file are not copied; the result names that file."""
        original = self.files.params
        untouched = len(self.params) == len(self._loaded_params) and all(
            self._loaded_params.get(name) is value for name, value in self.params.items()
        )
        if not untouched or original is None or original.is_dir():
            return self.save(folder)
        files = ModelFiles(Path(folder, "inference.pdmodel"), original)
        files.model.write_bytes(self.serialize())
        return files

    def copy(self) -> Program:
        """A program with a graph of its own, and the same (read-only) parameters."""
        result = Program(
            copy.deepcopy(self.blocks),
            dict(self.params),
            files=self.files,
            version=self.version,
            op_versions=dict(self.op_versions),
        )
        result._loaded_params = self._loaded_params
        return result

    def serialize(self) -> bytes:
        """The graph as the bytes of a `.pdmodel` file."""
        return _serialize_graph(self)

    @property
    def ops(self) -> list[Op]:
        """The operators of block 0. Assign a new list to `program.blocks[0].ops` to change it."""
        return self.blocks[0].ops

    @property
    def vars(self) -> dict[str, Var]:
        """The variables of block 0 by name."""
        return self.blocks[0].vars

    def var(self, name: str) -> Var:
        """A variable of block 0. Raises ModelError where there is none of that name."""
        try:
            return self.blocks[0].vars[name]
        except KeyError:
            raise ModelError(
                f"{self.files.model}: variable '{name}' is used but not defined"
            ) from None

    @property
    def inputs(self) -> list[TensorSpec]:
        """The tensors to feed, in the order of their columns."""
        feeds = sorted(
            (op for op in self.ops if op.type == "feed"), key=lambda op: op.get("col", 0)
        )
        return [self._spec(op.output("Out")) for op in feeds]

    @property
    def outputs(self) -> list[TensorSpec]:
        """The tensors that come back, in the order of their columns."""
        fetches = sorted(
            (op for op in self.ops if op.type == "fetch"), key=lambda op: op.get("col", 0)
        )
        return [self._spec(op.input("X")) for op in fetches]

    def _spec(self, name: str | None) -> TensorSpec:
        if name is None:
            raise ModelError(f"{self.files.model}: a feed or fetch operator names no variable")
        var = self.var(name)
        if any(d < -1 for d in var.shape):
            raise ModelError(f"{self.files.model}: damaged: '{name}' has the shape {var.shape}")
        return TensorSpec(name, var.dtype, var.shape)

    @property
    def paddle_version(self) -> str:
        """The Paddle version that saved the model, such as "3.3.1", or "unknown" (1.x writes 0)."""
        v = self.version
        return f"{v // 1000000}.{v // 1000 % 1000}.{v % 1000}" if v > 0 else "unknown"

    @property
    def param_bytes(self) -> int:
        """Size of all parameters in memory."""
        return sum(value.nbytes for value in self.params.values())

    def set_param(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """Add or replace a parameter and its variable. dtype must be one that Paddle stores."""
        dtype = str(value.dtype)
        if dtype not in DTYPE_NUMBERS:
            raise ModelError(f"parameter '{name}': dtype {dtype} cannot be stored")
        old = self.vars.get(name)
        self.vars[name] = Var(
            name,
            dtype,
            tuple(value.shape),
            persistable=True,
            is_parameter=old.is_parameter if old else True,
            stop_gradient=True,
        )
        self.params[name] = value

    def new_name(self, stem: str) -> str:
        """A variable name that no block uses yet."""
        taken = {name for block in self.blocks for name in block.vars}
        name, n = stem, 0
        while name in taken:
            n += 1
            name = f"{stem}_{n}"
        return name

    def consumers(self) -> dict[str, list[Op]]:
        """Variable name -> the operators of all blocks that read it."""
        readers: dict[str, list[Op]] = {}
        for block in self.blocks:
            for op in block.ops:
                for name in {n for names in op.inputs.values() for n in names}:
                    readers.setdefault(name, []).append(op)
        return readers

    def producers(self) -> dict[str, Op]:
        """Variable name -> the operator of block 0 that writes it last."""
        return {n: op for op in self.ops for names in op.outputs.values() for n in names}

    def remove_unused(self) -> None:
        """Drop variables and parameters that no operator of any block names any more."""
        used = {
            name
            for block in self.blocks
            for op in block.ops
            for slots in (op.inputs, op.outputs)
            for names in slots.values()
            for name in names
        }
        for block in self.blocks:
            for name in [n for n in block.vars if n not in used]:
                del block.vars[name]
        self.params = {name: value for name, value in self.params.items() if name in used}


def find_model(path: str | Path, *, params: str | Path | None = None) -> ModelFiles:
    """Find the model and parameter files that a path means: a folder, or one of the files.

    Raises ModelError that says what was expected when there is no Paddle inference model.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    model = _model_in(path) if path.is_dir() else _model_of_file(path)
    if params is not None:
        given = Path(params)
        if not given.exists():
            raise ModelError(f"{given}: no such file or folder")
        return ModelFiles(model, given, _ir(model))
    return ModelFiles(model, _params_of(model), _ir(model))


def _ir(model: Path) -> str:
    return "pir" if model.suffix == ".json" else "legacy"


def _model_in(folder: Path) -> Path:
    for name in ("inference.pdmodel", "model.pdmodel", "__model__", "inference.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.pdmodel")) or [
        p for p in sorted(folder.glob("*.json")) if p.with_suffix(".pdiparams").is_file()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.name for p in found)
        raise ModelError(f"{folder}: holds several models ({names}): name one of these files")
    if (folder / "model").is_file():
        return folder / "model"
    if (folder / "bundle.json").exists():
        raise ModelError(f"{folder}: is a bundle: convert takes the model that it was made from")
    if any(folder.glob("*.nb")):
        raise ModelError(f"{folder}: holds .nb files and no bundle.json: copy the bundle again")
    raise ModelError(
        f"{folder}: no Paddle inference model here "
        "(looked for *.pdmodel, inference.json, __model__)"
    )


_NOT_INFERENCE = {
    ".nb": "is a Paddle Lite file: run takes the bundle that holds it, convert the Paddle model "
    "that it was made from",
    ".onnx": "is an ONNX model, not a Paddle one: translate it with x2paddle first",
    ".pdparams": "holds training weights without a network: export the model with paddle.jit.save",
    ".pdopt": "holds optimizer state: export the model with paddle.jit.save",
    ".pt": "is a PyTorch file: translate it with x2paddle first",
    ".pth": "is a PyTorch file: translate it with x2paddle first",
    ".tflite": "is a TensorFlow Lite model, not a Paddle one",
}


def _model_of_file(path: Path) -> Path:
    if path.name in ("bundle.json", "run.json"):
        raise ModelError(f"{path}: name the folder that holds it")
    if path.suffix in _NOT_INFERENCE:
        raise ModelError(f"{path}: {_NOT_INFERENCE[path.suffix]}")
    if path.suffix == ".pdiparams":
        for sibling in (path.with_suffix(".pdmodel"), path.with_suffix(".json")):
            if sibling.is_file():
                return sibling
        raise ModelError(f"{path}: these are parameters, and no .pdmodel or .json lies beside them")
    return path


def _params_of(model: Path) -> Path | None:
    if model.suffix in (".pdmodel", ".json"):
        beside = model.with_suffix(".pdiparams")
        if beside.is_file():
            return beside
        found = sorted(model.parent.glob("*.pdiparams"))
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise ModelError(f"{model}: which parameters? {names}: name the file with --params")
        return None
    for name in ("__params__", "params", "weights"):
        if (model.parent / name).is_file():
            return model.parent / name
    found = sorted(model.parent.glob("*.pdiparams"))
    return found[0] if len(found) == 1 else model.parent


def _read_graph(path: Path) -> tuple[list[Block], int, dict[str, int]]:
    if path.suffix == ".json":
        from lite_opt.model.pir import read_pir

        try:
            return read_pir(path, path.read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    from google.protobuf.message import DecodeError, EncodeError

    desc = _messages()["ProgramDesc"]()
    try:
        data = path.read_bytes()
        desc.ParseFromString(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
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
    return blocks, desc.version.version, op_versions


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
                {slot.parameter: list(slot.arguments) for slot in op.inputs},
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
    if var.type.type == _DENSE_TENSOR:
        tensor = var.type.lod_tensor.tensor
        result.dtype = DTYPES[tensor.data_type]
        result.shape = tuple(tensor.dims)
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
        scalar = _messages()["Scalar"].FromString(text)
        # Scalar.Type of framework.proto: 1 bool, 2 int64, 3 float64, 4 complex
        result.append({1: scalar.b, 2: scalar.i, 4: scalar.c.r}.get(scalar.type, scalar.r))
    return result


def _serialize_graph(program: Program) -> bytes:
    desc = _messages()["ProgramDesc"]()
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
    if var.kind == _DENSE_TENSOR:
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


def _read_params(files: ModelFiles, stored: list[Var]) -> dict[str, np.ndarray[Any, Any]]:
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
        with path.open("rb") as file:
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
    desc = _messages()["TensorDesc"]()
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


def _write_record(file: BinaryIO, var: Var, value: np.ndarray[Any, Any]) -> None:
    desc = _messages()["TensorDesc"](data_type=DTYPE_NUMBERS[var.dtype], dims=value.shape)
    text = desc.SerializeToString()
    file.write(struct.pack("<IQIi", 0, 0, 0, len(text)))
    file.write(text)
    file.write(np.ascontiguousarray(value).data.cast("B") if value.size else b"")
