"""A Paddle inference model in memory: its graph as plain Python objects, and its parameters.

`load` (load.py) makes a `Program` from files, `save` writes one; passes edit it in between.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from py_runner.errors import ModelError
from py_runner.files import checksum
from py_runner.tensors import DTYPE_NUMBERS, TensorSpec

__all__ = [
    "DENSE_TENSOR",
    "FEED",
    "FETCH",
    "VALUE_LISTS",
    "Attr",
    "Block",
    "Graph",
    "ModelFiles",
    "Op",
    "Program",
    "Var",
]

# VarType.Type of framework.proto: what a variable is, where it is not of an element type.
DENSE_TENSOR, FEED, FETCH, _RAW = 7, 9, 10, 17
# Element type of an assign_value or set_value -> the attribute that has its numbers, and the
# attribute's type. Other element types have none.
VALUE_LISTS = {
    "bool": ("bool_values", "INTS"),
    "int32": ("int32_values", "INTS"),
    "int64": ("int64_values", "LONGS"),
    "float32": ("fp32_values", "FLOATS"),
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
    def reads(self) -> list[str]:
        """The variables of all input slots."""
        return [name for names in self.inputs.values() for name in names]

    @property
    def writes(self) -> list[str]:
        """The variables of all output slots."""
        return [name for names in self.outputs.values() for name in names]

    @property
    def layer(self) -> str:
        """What to call this operator when talking to a person: its first output variable."""
        return next(iter(self.writes), "(no output)")

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
    kind: int = DENSE_TENSOR
    lod_level: int = 0
    need_check_feed: bool = False
    is_parameter: bool = False
    stop_gradient: bool = False
    other: bytes = b""  # the serialized VarType of a kind that is not a dense tensor

    @property
    def is_stored(self) -> bool:
        """Whether the parameter file holds a record for it."""
        return self.persistable and self.kind not in (FEED, FETCH, _RAW)


@dataclass
class Block:
    """A sequence of operators over variables. Block 0 is the model; others are branch bodies."""

    idx: int
    parent_idx: int
    vars: dict[str, Var]
    ops: list[Op]
    forward_block_idx: int = -1


class Graph(NamedTuple):
    """What a model's file holds: its blocks, the number of the Paddle version that wrote it (see
    `Program.paddle_version`), and the versions of its operators."""

    blocks: list[Block]
    version: int
    op_versions: dict[str, int]


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
        >>> program = load("inference.pdmodel")                   # doctest: +SKIP
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
        self._loaded, self._loaded_params = files, dict(params)

    @property
    def params_untouched(self) -> bool:
        """Whether the parameters are still exactly those that it was made with."""
        return len(self.params) == len(self._loaded_params) and all(
            self._loaded_params.get(name) is value for name, value in self.params.items()
        )

    @property
    def from_file(self) -> dict[str, bool]:
        """Of each parameter that it was made with, in the order of its file, whether it is as it is
        there; nothing where `files` are others now."""
        if self.files is not self._loaded:
            return {}
        return {name: self.params.get(name) is value for name, value in self._loaded_params.items()}

    def copy(self) -> Program:
        """A program with a graph of its own, and the same (read-only) parameters."""
        result = Program(
            copy.deepcopy(self.blocks),
            dict(self.params),
            files=self.files,
            version=self.version,
            op_versions=dict(self.op_versions),
        )
        result._loaded, result._loaded_params = self._loaded, self._loaded_params
        return result

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
                for name in set(op.reads):
                    readers.setdefault(name, []).append(op)
        return readers

    def producers(self) -> dict[str, Op]:
        """Variable name -> the operator of block 0 that writes it last."""
        return {n: op for op in self.ops for n in op.writes}

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
