"""Element types: conversions that have no kernel, and booleans that come out."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, program_rule, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["bool_outputs", "casts_by_float"]

# The conversions of lite/kernels/host/cast_compute.cc.
_KNOWN = {
    ("bool", "bool"), ("bool", "float32"), ("bool", "int32"), ("bool", "int64"),
    ("float32", "bool"), ("float32", "float32"), ("float32", "int32"), ("float32", "int64"),
    ("float32", "uint8"),
    ("int32", "bool"), ("int32", "float32"), ("int32", "int32"), ("int32", "int64"),
    ("int64", "float32"), ("int64", "int32"),
    ("int8", "float32"), ("uint8", "float32"),
}  # fmt: skip
_NARROW = ("bool", "int8", "uint8")


@rule(
    ops=("cast",),
    because="lite/kernels/host/cast_compute.cc has few pairs of types and aborts on the others",
)
def casts_by_float(op: Op, site: Site) -> Iterator[str]:
    """A conversion that Lite has not -> by way of float32, where that keeps the numbers."""
    x, out = (site.program.var(n) for n in (op.inputs["X"][0], op.outputs["Out"][0]))
    if (x.dtype, out.dtype) in _KNOWN or x.dtype == out.dtype:
        return
    if (x.dtype, "float32") not in _KNOWN or ("float32", out.dtype) not in _KNOWN:
        return
    if x.dtype not in _NARROW and out.dtype not in _NARROW:
        return
    middle = site.new_var(f"{out.name}.float", "float32", x.shape)
    site.replace(
        _cast(x.name, x.dtype, middle, "float32"), _cast(middle, "float32", out.name, out.dtype)
    )
    yield f"from {x.dtype} to {out.dtype} by way of float32"


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
