"""Operators that hand their input on unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, place, program_rule, rewritten, rule
from lite_opt.passes.shapes import TO_THE_END
from py_runner.tensors import DTYPES

__all__ = ["drop_empty_parts", "drop_identities", "dropouts_to_scale", "rewritten"]


@rule(
    ops=("dropout",),
    because="lite/kernels/arm/dropout_compute.cc copies its input at every inference",
)
def dropouts_to_scale(op: Op, site: Site) -> Iterator[str]:
    """dropout, at inference -> a scale by 1 (upscale_in_train) or 1 - p (downgrade_in_infer)."""
    kept = 1.0
    if op.get("dropout_implementation", "downgrade_in_infer") == "downgrade_in_infer":
        kept = 1.0 - op.get("dropout_prob", 0.5)
    if op.inputs.get("Seed"):
        del op.inputs["Seed"]
    op.type, op.attrs = "scale", {}
    op.outputs = {"Out": op.outputs["Out"]}
    op.set("scale", kept)
    op.set("bias", 0.0)
    op.set("bias_after_scale", True)
    yield f"became a scale by {kept:g}"


@rule(ops=("concat",), because="lite/kernels/arm/slice_compute.cc dies of a slice of nothing")
def drop_empty_parts(op: Op, site: Site) -> Iterator[str]:
    """A part without elements is not joined on."""
    parts = op.inputs["X"]
    full = [name for name in parts if 0 not in site.program.var(name).shape]
    if full and len(full) < len(parts):
        op.inputs["X"] = full
        yield f"{len(parts) - len(full)} of its parts are empty"


def _shapes(program: Program, op: Op) -> tuple[tuple[int, ...], tuple[int, ...]]:
    x = op.input("X") or op.input("Input") or ""
    return program.var(x).shape, program.var(op.layer).shape


def _same_shape(program: Program, op: Op) -> bool:
    """Whether it is the same for every batch: then at most the first dimension is dynamic."""
    before, after = _shapes(program, op)
    return before == after and -1 not in before[1:]


def _is_scale_by_one(program: Program, op: Op) -> bool:
    if op.inputs.get("ScaleTensor"):
        return False
    return bool(op.get("scale", 1.0) == 1.0 and op.get("bias", 0.0) == 0.0)


def _is_cast_to_itself(program: Program, op: Op) -> bool:
    x, out = program.var(op.inputs["X"][0]), program.var(op.layer)
    return x.dtype == out.dtype == DTYPES.get(op.get("out_dtype"), "")


def _is_one_part(program: Program, op: Op) -> bool:
    return sum(map(len, op.inputs.values())) == 1 and len(op.outputs.get("Out", [])) == 1


def _takes_everything(program: Program, op: Op) -> bool:
    if set(op.inputs) != {"Input"} or op.get("decrease_axis"):
        return False
    shape = program.var(op.inputs["Input"][0]).shape
    steps = op.get("strides") or [1] * len(op.get("axes"))
    return set(steps) == {1} and all(
        start == 0 and (end >= TO_THE_END or 0 < shape[axis] <= end)
        for axis, start, end in zip(op.get("axes"), op.get("starts"), op.get("ends"))
    )


def _pads_nothing(program: Program, op: Op) -> bool:
    return set(op.inputs) == {"X"} and not any(op.get("paddings") or [1])


def _pools_single_elements(program: Program, op: Op) -> bool:
    one = all(set(op.get(name) or [0]) == {1} for name in ("ksize", "strides"))
    pads = any(op.get("paddings") or []) or op.get("padding_algorithm", "EXPLICIT") != "EXPLICIT"
    special = op.get("adaptive") or op.get("global_pooling")
    return one and not pads and not special and _same_shape(program, op)


def _repeats_nothing(program: Program, op: Op) -> bool:
    times = op.get("repeat_times") or [1]  # of a dynamic batch, no shape tells how often
    return set(op.inputs) == {"X"} and set(times) == {1} and _same_shape(program, op)


def _keeps_order(program: Program, op: Op) -> bool:
    axes = op.get("axis")
    return list(axes) == list(range(len(axes)))


def _is_neutral(number: float) -> Callable[[Program, Op], bool]:
    def neutral(program: Program, op: Op) -> bool:
        y = program.params.get(op.input("Y") or "")
        return y is not None and bool(np.all(y == number)) and _same_shape(program, op)

    return neutral


_IDENTITIES: dict[str, Callable[[Program, Op], bool]] = {
    "assign": lambda program, op: True,
    "cast": _is_cast_to_itself,
    "concat": _is_one_part,
    "elementwise_add": _is_neutral(0.0),
    "elementwise_div": _is_neutral(1.0),
    "elementwise_mul": _is_neutral(1.0),
    "elementwise_sub": _is_neutral(0.0),
    "expand_v2": _repeats_nothing,
    "pad2d": _pads_nothing,
    "pad3d": _pads_nothing,
    "pool2d": _pools_single_elements,
    "reshape2": _same_shape,
    "scale": _is_scale_by_one,
    "slice": _takes_everything,
    "split": _is_one_part,
    "strided_slice": _takes_everything,
    "tile": _repeats_nothing,
    "transpose2": _keeps_order,
}


@program_rule(because="Lite would copy the tensor at every inference, and fuses nothing through it")
def drop_identities(program: Program) -> Iterator[tuple[str, str]]:
    """assign, scale by 1, transpositions and reshapes that change nothing, casts to the same type,
    concat and split of one, slices of everything, padding by nothing, pooling of single elements,
    and sums and products with neutral numbers -> nothing."""
    kept = {name for op in program.ops if op.type == "fetch" for name in op.inputs["X"]}
    changing = rewritten(program)
    instead: dict[str, str] = {}
    ops = []
    for op in program.ops:
        op.rename_inputs(instead)
        check = _IDENTITIES.get(op.type)
        x, out = op.input("X") or op.input("Input"), op.layer
        if (
            check is None
            or x is None
            or out in kept
            or {x, out} & changing
            or not check(program, op)
        ):
            ops.append(op)
            continue
        instead[out] = x
        yield place(op), "changes nothing"
    program.blocks[0].ops = ops
    for block in program.blocks[1:]:
        for op in block.ops:
            op.rename_inputs(instead)
