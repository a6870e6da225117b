"""Element types that Paddle Lite's files cannot hold: truth values, small integers and doubles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import place, program_rule
from py_runner.errors import ConvertError
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["narrow_double", "stored_otherwise"]

_DOUBLE, _FLOAT = DTYPE_NUMBERS["float64"], DTYPE_NUMBERS["float32"]
_DTYPES = ("dtype", "in_dtype", "out_dtype")  # attributes that name an element type
# What a parameter is stored as, before it is cast to what it was.
_STORED = {"bool": "float32"}
# These have few kernels: their parameters become integers, of which there are more.
_WIDENED = ("int8", "int16", "uint8")


@program_rule(
    because="lite/model_parser/flatbuffers/traits.h has no double (Illegal flatbuffer VarType), "
    "and no kernel computes one"
)
def narrow_double(program: Program) -> Iterator[tuple[str, str]]:
    """float64 -> float32: parameters, variables and element types in attributes. Raises
    ConvertError for inputs: what feeds them would change."""
    for spec in program.inputs:
        if spec.dtype == "float64":
            raise ConvertError(
                f"{program.files.model}: input '{spec.name}' is float64, which Paddle Lite does "
                "not take: export the network with float32 inputs"
            )
    for name, value in program.params.items():
        if value.dtype == np.float64:
            program.set_param(name, value.astype(np.float32))
            yield f"parameter '{name}'", "float64 became float32"
    for block in program.blocks:
        for var in block.vars.values():
            if var.dtype == "float64":
                var.dtype = "float32"
        for op in block.ops:
            for attr in _DTYPES:
                if op.get(attr) == _DOUBLE:
                    op.set(attr, _FLOAT)
                    yield place(op), f"{attr} became float32"


@program_rule(because="lite/model_parser/model_parser.cc cannot read bool (unknown type 0)")
def stored_otherwise(program: Program) -> Iterator[tuple[str, str]]:
    """A parameter of truth values -> one of float32, and a cast where it is read as bool; a cast of
    a parameter, of small integers too -> the numbers that it gives."""
    producing: list[Op] = []
    ops: list[Op] = []
    made: dict[str, str] = {}
    for op in program.ops:
        if op.type == "cast" and _computed(program, op):
            yield place(op), "computed beforehand"
            continue
        ops.append(op)
    for name, value in list(program.params.items()):
        if program.var(name).dtype not in _STORED:
            continue
        stored = _STORED[program.var(name).dtype]
        number = program.new_name(f"{name}.{stored}")
        made[name] = program.new_name(f"{name}.bool")
        program.set_param(number, value.astype(stored))
        program.vars[made[name]] = type(program.var(name))(made[name], "bool", tuple(value.shape))
        cast = Op("cast", {"X": [number]}, {"Out": [made[name]]})
        cast.set("in_dtype", DTYPE_NUMBERS[stored])
        cast.set("out_dtype", DTYPE_NUMBERS["bool"])
        producing.append(cast)
        yield f"parameter '{name}'", f"its bool is stored as {stored}"
    for block in program.blocks:
        for op in block.ops:
            op.rename_inputs(made)
    last_feed = max((n + 1 for n, op in enumerate(ops) if op.type == "feed"), default=0)
    program.blocks[0].ops = [*ops[:last_feed], *producing, *ops[last_feed:]]


def _computed(program: Program, op: Op) -> bool:
    """Whether a cast of a bool or a small integer that is stored was computed here."""
    value, out = program.params.get(op.input("X") or ""), op.output("Out") or ""
    if value is None or program.var(out).dtype not in ("float32", "int32", "int64"):
        return False
    if str(value.dtype) not in (*_STORED, *_WIDENED):
        return False
    program.set_param(out, value.astype(program.var(out).dtype))
    return True
