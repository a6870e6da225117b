"""Element types of what comes out."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, program_rule, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = [
    "bool_outputs",
    "equal_all_by_least",
    "logic_by_numbers",
    "sums_of_truths",
    "truths_by_numbers",
]


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


@rule(
    ops=("reduce_sum",),
    because="lite/kernels have none for bool: Can't find a 'calib' kernel to trans",
)
def sums_of_truths(op: Op, site: Site) -> Iterator[str]:
    """How many are true -> the sum of 0 and 1 of float32."""
    chain = Chain(op, site)
    x, out = chain.var(), chain.out
    if x.dtype != "bool":
        return
    wide = DTYPE_NUMBERS["float32"]
    number = chain(
        "cast", x.name, shape=x.shape, dtype="float32", in_dtype=DTYPE_NUMBERS["bool"],
        out_dtype=wide,
    )  # fmt: skip
    count = chain("reduce_sum", number, dtype="float32")
    chain.ops[-1].attrs = {**op.attrs}
    for name in ("in_dtype", "out_dtype"):
        chain.ops[-1].attrs.pop(name, None)
    chain("cast", count, in_dtype=wide, out_dtype=DTYPE_NUMBERS[out.dtype])
    chain.end()
    yield "counts in float32"


@rule(ops=("equal_all",), because="lite/kernels has none for equal_all")
def equal_all_by_least(op: Op, site: Site) -> Iterator[str]:
    """Whether two tensors of one shape are equal -> the least of where they are, 0 or 1."""
    chain = Chain(op, site)
    x, y = chain.var(), chain.var("Y")
    if x.shape != y.shape:
        return
    wide, truth = DTYPE_NUMBERS["float32"], DTYPE_NUMBERS["bool"]
    same = chain("equal", x.name, y.name, shape=x.shape, dtype="bool", axis=-1, force_cpu=False)
    number = chain("cast", same, shape=x.shape, dtype="float32", in_dtype=truth, out_dtype=wide)
    chain(
        "reduce_min", number, dtype="float32", dim=list(range(len(x.shape))), keep_dim=False,
        reduce_all=True,
    )  # fmt: skip
    if chain.out.dtype != "float32":  # as which Paddle's PIR has it, and casts it on
        least = chain.ops[-1].outputs["Out"][0]
        chain("cast", least, in_dtype=wide, out_dtype=DTYPE_NUMBERS[chain.out.dtype])
    chain.end()
    yield "became the least of where they are equal"


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
