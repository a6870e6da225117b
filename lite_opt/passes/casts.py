"""Element types of what comes out."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, program_rule, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["bool_outputs", "logic_by_numbers", "truths_by_numbers"]


_CONDITIONS = ("Condition", "Mask")  # the slots of truth values that are not moved
_MOVERS = (
    "concat", "diagonal", "expand_as_v2", "flip", "gather", "gather_nd", "index_select",
    "masked_select", "pad3d", "repeat_interleave", "roll", "slice", "split", "stack",
    "strided_slice", "transpose2", "tril_triu", "unbind", "unstack", "where",
)  # fmt: skip


@rule(
    ops=_MOVERS,
    because="few of lite/kernels move bool: Can't find a 'calib' kernel to trans",
)
def truths_by_numbers(op: Op, site: Site) -> Iterator[str]:
    """What moves truth values about moves 0 and 1 of float32, and these are compared again."""
    before: list[Op] = []
    after: list[Op] = []
    for slot, names in op.inputs.items():
        for place, name in enumerate(names):
            var = site.program.var(name)
            if var.dtype == "bool" and slot not in _CONDITIONS:
                number = site.new_var(f"{name}.float32", "float32", var.shape)
                before.append(_cast(name, "bool", number, "float32"))
                op.inputs[slot] = [*op.inputs[slot][:place], number, *names[place + 1 :]]
    if not before:
        return
    for slot, names in op.outputs.items():
        moved = []
        for name in names:
            var = site.program.var(name)
            if var.dtype == "bool":
                number = site.new_var(f"{name}.float32", "float32", var.shape)
                after.append(_cast(number, "float32", name, "bool"))
                name = number
            moved.append(name)
        op.outputs[slot] = moved
    site.replace(*before, op, *after)
    yield "moves numbers instead of truth values"


_ARITHMETIC = {
    "logical_and": "elementwise_mul",
    "logical_or": "elementwise_add",
    "logical_xor": "elementwise_sub",
}


@rule(
    ops=tuple(_ARITHMETIC),
    because="lite/kernels/host/logical_compute.cc does not broadcast: it reads past the end",
)
def logic_by_numbers(op: Op, site: Site) -> Iterator[str]:
    """Of truth values of two shapes: and, or, xor -> the product, the sum and the difference of 0
    and 1, of which all but 0 is true."""
    chain = Chain(op, site)
    x, y = chain.var(), chain.var("Y")
    if x.shape == y.shape:
        return
    numbers = [
        chain("cast", var.name, shape=var.shape, dtype="float32",
              in_dtype=DTYPE_NUMBERS["bool"], out_dtype=DTYPE_NUMBERS["float32"])
        for var in (x, y)
    ]  # fmt: skip
    both = chain(_ARITHMETIC[op.type], *numbers, dtype="float32")
    chain("cast", both, in_dtype=DTYPE_NUMBERS["float32"], out_dtype=DTYPE_NUMBERS["bool"])
    chain.end()
    yield f"became {_ARITHMETIC[op.type]}"


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
