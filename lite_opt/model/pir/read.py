"""The JSON of the file -> its operators, checked as far as every operator can be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lite_opt.model.pir.kinds import (
    KINDS,
    MalformedError,
    UnsupportedError,
    brief,
    is_int,
    member,
)

__all__ = [
    "PirOp",
    "Region",
    "TensorType",
    "load_ops",
    "read_attribute",
    "read_op",
    "read_region",
    "result_type",
]

_VERSIONS = range(5)
# Topology only: the largest of PaddleClas is 4 MB. JSON takes about ten times its size in memory.
_MAX_BYTES = 256 << 20
_CONTROL_FLOW = ("pylayer", "select_input", "assert")
_TYPE_NAMES = {
    "0.t_bool": "bool", "0.t_i16": "int16", "0.t_i32": "int32", "0.t_i64": "int64",
    "0.t_f16": "float16", "0.t_f32": "float32", "0.t_f64": "float64", "0.t_ui8": "uint8",
    "0.t_i8": "int8", "0.t_bf16": "bfloat16", "0.t_c64": "complex64", "0.t_c128": "complex128",
}  # fmt: skip
_VOID = {"NaN": math.nan, "INF": math.inf, "-INF": -math.inf}


@dataclass(frozen=True)
class TensorType:
    """Element type and dimensions (-1 = dynamic) of a dense tensor."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def _parse_int(text: str) -> int:
    if len(text) > 20:  # longer than any 64-bit integer, and slow to convert
        raise ValueError("a number of too many digits")
    return int(text)


def _parse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def load_ops(data: bytes) -> list[Any]:
    """The raw operators of the file, after the checks that concern it as a whole."""
    if not data:
        raise MalformedError("the file is empty")
    if len(data) > _MAX_BYTES:
        raise MalformedError(f"{len(data)} bytes are too many for the graph of a network")
    try:
        root = json.loads(data, parse_int=_parse_int, parse_constant=_parse_constant)
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(f"not JSON, or damaged: {why[:200]}") from None
    base = root.get("base_code") if type(root) is dict else None
    if type(base) is not dict or base.get("magic") != "pir":
        raise MalformedError("JSON, but not a Paddle model: no base_code with the magic word 'pir'")
    version = base.get("version")
    if type(version) is not int or version not in _VERSIONS:
        raise MalformedError(
            f"PIR version {brief(version)} is not known here (known: 0 to {_VERSIONS[-1]}, which "
            "Paddle 3.0 to 3.3 write): export with one of these, or update paddle-edge"
        )
    program = member(root, "program", dict)
    blocks = member(member(member(program, "regions", list), 0, dict), "blocks", list)
    block = member(blocks, 0, dict)
    if len(program["regions"]) != 1 or len(blocks) != 1 or block.get("args"):
        raise MalformedError("the program has more than one block, or arguments")
    return member(block, "ops", list)  # type: ignore[no-any-return]


def _read_type(raw: Any) -> TensorType | list[TensorType | None] | None:
    """A dense tensor, a vector of them, or None for everything else."""
    if member(raw, "#", str) == "0.t_vec":
        return [_read_tensor_type(item) for item in member(raw, "D", list)]
    return _read_tensor_type(raw)


def _read_tensor_type(raw: Any) -> TensorType | None:
    name = member(raw, "#", str)
    if name != "0.t_dtensor":
        return None
    data = member(raw, "D", list)
    dims = member(data, 1, list)
    if not all(is_int(d, 64) for d in dims) or len(dims) > 64:
        raise MalformedError(f"{brief(data)}: not the dimensions of a tensor")
    dtype = _TYPE_NAMES.get(member(member(data, 0, dict), "#", str))
    # Paddle computes with -1: 4 channels of a dynamic batch may be written as -4.
    return TensorType(dtype, tuple(max(d, -1) for d in dims)) if dtype else None


def _void(name: Any) -> float:
    if type(name) is not str or name not in _VOID:
        raise MalformedError(f"{brief(name)} is not an attribute value")
    return _VOID[name]


_ARRAYS = ("0.a_array", "1.a_intarray")


def read_attribute(raw: Any) -> Any:
    """The plain value of an attribute: bool, int, float, str, or a list of them."""
    kind = member(raw, "#", str)
    if "VD" in raw:
        return _void(raw["VD"])
    if kind in _ARRAYS:
        return [
            _read_scalar(item) if type(item) is dict else item for item in member(raw, "D", list)
        ]
    return _read_scalar(raw)


def _read_scalar(raw: dict[str, Any]) -> Any:
    kind = member(raw, "#", str)
    if "VD" in raw:
        return _void(raw["VD"])
    data = raw.get("D")
    if kind == "1.a_scalar":
        data = data[1] if type(data) is list and len(data) == 2 else data
    if type(data) not in (bool, int, float, str):
        raise MalformedError(f"{brief(data)} is not an attribute value")
    return data


@dataclass
class Region:
    """A block inside an operator: the ids that it is given values for, and its operators, of which
    the last one yields."""

    args: list[int]
    ops: list[PirOp]


@dataclass
class PirOp:
    """An operator of the file, checked as far as every operator can be."""

    name: str
    operands: list[int]
    results: list[tuple[int, TensorType | list[TensorType | None] | None]]
    attrs: dict[str, Any] = field(default_factory=dict)
    is_builtin: bool = False
    regions: list[Region] = field(default_factory=list)
    raw_regions: list[Any] = field(default_factory=list)  # as they are in the file

    def __str__(self) -> str:
        dialect = "builtin" if self.is_builtin else "pd_op"
        kinds = ", ".join(
            f"a vector of {len(t)}" if isinstance(t, list) else str(t or "no tensor")
            for _, t in self.results
        )
        where = f" in layer {self.layer}" if self.layer else ""
        return f"{dialect}.{self.name} (%{self.key} -> {kinds or 'nothing'}){where}"

    @property
    def key(self) -> int:
        return self.results[0][0] if self.results else 0

    @property
    def layer(self) -> str:
        """The layer's path in the network, such as /MakeFire_8/Conv2D_1/; Paddle 3.3 writes it."""
        raw = self.attrs.get("struct_name")
        name = raw.get("D") if type(raw) is dict else None
        return ascii(name)[1:-1][:80] if type(name) is str else ""

    def attr(self, name: str, kind: str, default: Any = None) -> Any:
        """An attribute as `kind`; raises MalformedError where it is missing or something else."""
        if name not in self.attrs:
            if default is None:
                raise MalformedError(f"{self}: no attribute '{name}'")
            return default
        try:
            return KINDS[kind][1](read_attribute(self.attrs[name]))
        except MalformedError as error:
            raise MalformedError(f"{self}: attribute '{name}': {error}") from None


def _id(raw: Any, *, least: int = 0) -> int:
    number = member(raw, "%", int)
    if number < least or not is_int(number, 64):
        raise MalformedError(f"{brief(number)} is not the id of a value")
    return int(number)


def read_op(raw: Any) -> PirOp:
    full_name = member(raw, "#", str)
    if full_name == "p":
        result = member(raw, "O", dict)
        return PirOp("p", [], [(_id(result), _read_type(result.get("TT")))], {"": raw})
    dialect, _, name = full_name.partition(".")
    op = PirOp(
        name,
        # What a block is given is numbered -1, -2 ...
        [_id(operand, least=-(1 << 31)) for operand in member(raw, "I", list)],
        [(_id(result), _read_type(result.get("TT"))) for result in member(raw, "O", list)],
        {member(item, "N", str): item.get("AT") for item in member(raw, "A", list)},
        dialect == "0",
    )
    if dialect == "1" and name in ("if", "while"):
        op.raw_regions = member(raw, "regions", list)
        return op
    if dialect == "2" and name == "yield":
        return op
    if name in _CONTROL_FLOW or "regions" in raw or dialect == "2":
        raise UnsupportedError(
            f"{op}: control flow of this kind cannot be translated: "
            "export the network so that its graph has no branch or loop that depends on data"
        )
    if dialect not in ("0", "1"):
        name = ascii(full_name)[1:-1][:80]
        raise UnsupportedError(f"operator {name}: custom operators are not translated")
    return op


def read_region(raw: Any, read_ops: Callable[[list[Any]], list[PirOp]]) -> Region:
    """A region of an operator, which has one block; `read_ops` reads its operators."""
    block = member(member(raw, "blocks", list), 0, dict)
    if len(raw["blocks"]) != 1:
        raise MalformedError("a branch or loop has more than one block")
    arguments = block.get("args") or []
    keys = [member(argument, "#", int) for argument in arguments]
    return Region(keys, read_ops(member(block, "ops", list)))


def result_type(op: PirOp, index: int = 0) -> TensorType:
    """The type of a result, which must be there and a dense tensor."""
    type_ = op.results[index][1] if len(op.results) > index else None
    if not isinstance(type_, TensorType):
        raise MalformedError(f"{op}: its result {index} is not a dense tensor")
    return type_
