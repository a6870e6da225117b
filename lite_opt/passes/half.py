"""Half floats, which Paddle Lite cannot read: stored weights and what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lite_opt.model.program import Program
from lite_opt.passes.rule import place, program_rule
from py_runner.errors import ConvertError
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["computes_in_half", "widen_half"]

_HALF = ("float16", "bfloat16")
_NUMBERS = tuple(DTYPE_NUMBERS[name] for name in _HALF)
_FLOAT = DTYPE_NUMBERS["float32"]
# The attributes that name an element type, by Paddle's number of it.
_DTYPES = ("dtype", "in_dtype", "out_dtype")


def computes_in_half(program: Program) -> bool:
    """Whether an operator reads or writes half floats, other than a cast of stored weights."""
    half = {v.name for block in program.blocks for v in block.vars.values() if v.dtype in _HALF}
    return any(
        not (op.type == "cast" and op.input("X") in program.params)
        for block in program.blocks
        for op in block.ops
        if half
        & {n for slots in (op.inputs, op.outputs) for names in slots.values() for n in names}
    )


@program_rule(
    because="lite/model_parser/model_parser.cc knows neither float16 nor bfloat16 (unknown type 4)"
)
def widen_half(program: Program) -> Iterator[tuple[str, str]]:
    """float16 and bfloat16 -> float32, which holds each of their numbers: parameters, variables
    and element types in attributes. Raises ConvertError for inputs: what feeds them would change.
    """
    for spec in program.inputs:
        if spec.dtype in _HALF:
            raise ConvertError(
                f"{program.files.model}: input '{spec.name}' is {spec.dtype}, which Paddle Lite "
                "does not take: export the network with float32 inputs and cast them inside it"
            )
    found = any(v.dtype in _HALF for block in program.blocks for v in block.vars.values())
    for name, value in program.params.items():
        if program.var(name).dtype in _HALF:
            dtype = program.var(name).dtype
            program.set_param(name, _wide(value, dtype))
            yield f"parameter '{name}'", f"{dtype} became float32"
    for block in program.blocks:
        for var in block.vars.values():
            if var.dtype in _HALF:
                var.dtype = "float32"
        for op in block.ops:
            for attr in _DTYPES:
                if op.get(attr) in _NUMBERS:
                    op.set(attr, _FLOAT)
                    yield place(op), f"{attr} became float32"
    if found:
        _drop_casts(program)


def _wide(value: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    if dtype == "float16":
        return value.astype(np.float32)
    return (value.astype(np.uint32) << 16).view(np.float32)  # its bits are kept as uint16


def _drop_casts(program: Program) -> None:
    """Casts from float32 to float32 go, unless an output or another block has their name."""
    kept = {n for op in program.ops if op.type == "fetch" for n in op.inputs["X"]}
    for block in program.blocks[1:]:
        kept.update(n for op in block.ops for n in op.reads)
    instead: dict[str, str] = {}
    ops = []
    for op in program.ops:
        op.rename_inputs(instead)
        if op.type == "cast" and op.get("in_dtype") == op.get("out_dtype") == _FLOAT:
            x, out = op.inputs["X"][0], op.outputs["Out"][0]
            if out not in kept:
                instead[out] = x
                continue
            op.type, op.attrs = "assign", {}
        ops.append(op)
    program.blocks[0].ops = ops
