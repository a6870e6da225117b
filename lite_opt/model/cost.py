"""What one inference of a model costs: operations and memory, read off its graph."""

from __future__ import annotations

import math

import numpy as np

from lite_opt.model.program import Op, Program

__all__ = ["activation_bytes", "convolution_share", "flops", "memory_bytes", "multiply_adds"]

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")


def flops(program: Program) -> int | None:
    """Floating point operations of one inference: 2 for each multiply-add of convolutions and
    matrix products, for a batch of 1. None where a dimension other than the batch is dynamic.
    """
    counts = multiply_adds(program)
    return None if counts is None else 2 * sum(counts)


def multiply_adds(program: Program) -> list[int] | None:
    """Those of `program.ops`, one number each: of convolutions and matrix products, 0 of others,
    for a batch of 1. None where a dimension other than the batch is dynamic."""
    counts = []
    for op in program.ops:
        count = _multiply_adds(program, op)
        if count is None:
            return None
        counts.append(count)
    return counts


def convolution_share(program: Program) -> float | None:
    """The part of `flops` that is of convolutions, 0 to 1; None where flops are none or unknown."""
    counts = multiply_adds(program)
    if not counts or not sum(counts):
        return None
    pairs = zip(program.ops, counts)
    return sum(count for op, count in pairs if op.type in _CONVOLUTIONS) / sum(counts)


def activation_bytes(program: Program) -> int | None:
    """The most bytes that intermediate tensors need at one time, for a batch of 1, where each is
    freed after its last use. None where a dimension other than the batch is dynamic.
    """
    last = {
        name: index
        for index, op in enumerate(program.ops)
        for names in (*op.inputs.values(), *op.outputs.values())
        for name in names
    }
    live: dict[str, int] = {}
    most = 0
    for index, op in enumerate(program.ops):
        for name in set(op.writes) - {"fetch"}:
            var = program.vars.get(name)
            if var is None or var.persistable or name.endswith(".xshape"):
                continue
            shape = _shape(program, name)
            if -1 in shape:
                return None
            # NumPy has no bfloat16, which is as wide as float16.
            dtype = "float16" if var.dtype == "bfloat16" else var.dtype
            live[name] = math.prod(shape) * np.dtype(dtype).itemsize
        most = max(most, sum(live.values()))
        live = {name: count for name, count in live.items() if last[name] > index}
    return most


def memory_bytes(program: Program) -> int | None:
    """A rough estimate of what an engine process needs at its peak: the library, the parameters
    as read and as rearranged for its kernels, activations and workspace. Fitted to the memory of
    Paddle Lite in docs/models.md; None where dimensions are dynamic.
    """
    activations = activation_bytes(program)
    if activations is None:
        return None
    return int(60e6 + 1.65 * program.param_bytes + 5 * activations)


def _multiply_adds(program: Program, op: Op) -> int | None:
    if op.type in _CONVOLUTIONS:
        # Every output element of a convolution sums over a filter; a transposed one adds a filter
        # for every input element. Filters: [out, in / groups, h, w], [in, out / groups, h, w].
        filter_shape = _shape(program, op.input("Filter"))
        slot = op.input("Input") if op.type == "conv2d_transpose" else op.output("Output")
        shape = _shape(program, slot)
        per_element = math.prod(filter_shape[1:])
    elif op.type in ("mul", "matmul", "matmul_v2"):
        shape = _shape(program, op.output("Out"))
        x = _shape(program, op.input("X"))
        if op.type == "mul":
            per_element = math.prod(x[op.get("x_num_col_dims", 1) :])
        else:
            transposed = op.get("trans_x", op.get("transpose_X", False))
            per_element = x[-2 if transposed and len(x) > 1 else -1] if x else 1
    else:
        return 0
    if -1 in shape or per_element < 0:
        return None
    return math.prod(shape) * per_element


def _shape(program: Program, name: str | None) -> tuple[int, ...]:
    shape = program.vars[name].shape if name in program.vars else ()
    return (1, *shape[1:]) if shape[:1] == (-1,) else shape
