"""Element types of what comes out."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import program_rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["bool_outputs"]


@program_rule(because="the x86 engine hands out a bool tensor that is not what it computed")
def bool_outputs(program: Program) -> Iterator[tuple[str, str]]:
    """An output of bool -> of int32, 0 and 1."""
    ops: list[Op] = []
    for op in program.ops:
        name = op.input("X") or ""
        if op.type == "fetch" and program.var(name).dtype == "bool":
            var = program.var(name)
            out = program.new_name(f"{name}.int32")
            program.vars[out] = type(var)(out, "int32", var.shape)
            ops.append(_cast(name, "bool", out, "int32"))
            op.inputs["X"] = [out]
            yield f"fetch '{name}'", "its bool became int32, 0 and 1"
        ops.append(op)
    program.blocks[0].ops = ops


def _cast(x: str, dtype: str, out: str, to: str) -> Op:
    op = Op("cast", {"X": [x]}, {"Out": [out]})
    op.set("in_dtype", DTYPE_NUMBERS[dtype])
    op.set("out_dtype", DTYPE_NUMBERS[to])
    return op
