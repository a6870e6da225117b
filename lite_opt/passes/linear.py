"""Linear layers and their biases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, place, program_rule, rule
from lite_opt.passes.shapes import reshape

__all__ = ["fold_bias_reshape", "fold_matmul_heads", "matmul_to_mul"]

_ELEMENTWISE = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div")
# A product's type -> the names of its flags that transpose X and Y.
_TRANSPOSE = {"matmul_v2": ("trans_x", "trans_y"), "matmul": ("transpose_X", "transpose_Y")}


@program_rule(because="conv_elementwise_fuser.cc fuses biases of one dimension only")
def fold_bias_reshape(program: Program) -> Iterator[tuple[str, str]]:
    """reshape2(bias [C] -> [1,C,1,1]) + elementwise(axis=-1) -> elementwise(axis=1)."""
    consumers = program.consumers()
    folded = set()
    for op in program.ops:
        users = consumers.get(op.output("Out") or "", [])
        axis = _bias_axis(program, op, users) if op.type == "reshape2" else None
        if axis is None:
            continue
        bias = op.inputs["X"][0]
        for user in users:
            user.inputs["Y"] = [bias]
            user.set("axis", axis)
            yield place(user), f"bias '{bias}' on axis {axis}"
        folded.add(id(op))
    program.blocks[0].ops = [op for op in program.ops if id(op) not in folded]


def _bias_axis(program: Program, op: Op, users: list[Op]) -> int | None:
    """The axis of a one-dimensional parameter that a reshape spreads, where all that read the
    result are elementwise operators that can take the parameter itself; otherwise None."""
    bias, out = op.input("X"), op.output("Out")
    if bias not in program.params or out is None or program.params[bias].ndim != 1 or not users:
        return None
    shape, size = program.var(out).shape, program.params[bias].size
    axis = next((i for i, d in enumerate(shape) if d == size), None)
    if axis is None or sum(d != 1 for d in shape) > 1:
        return None
    if size == 1:
        axis = min(1, len(shape) - 1)  # any axis is right; 1 is the one that fuses
    fits = all(
        user.type in _ELEMENTWISE
        and user.input("Y") == out
        and user.input("X") != out
        and user.get("axis", -1) in (-1, 0)
        and len(program.var(user.input("X") or out).shape) == len(shape)
        for user in users
    )
    return axis if fits else None


@rule(
    ops=_TRANSPOSE,
    because="opt quantises the weights of both, but the loader (LightPredictor::DequantizeWeight "
    "in lite/api/light_api.cc) restores only those of `mul`",
)
def matmul_to_mul(op: Op, site: Site) -> Iterator[str]:
    """`matmul` with a 2-D parameter -> `mul`."""
    program = site.program
    trans_x, trans_y = (bool(op.get(name, False)) for name in _TRANSPOSE[op.type])
    x, y = op.input("X"), op.input("Y")
    weight = program.params.get(y or "")
    if op.get("alpha", 1.0) != 1.0 or trans_x or x is None or y is None:
        return
    if weight is None or weight.ndim != 2 or len(program.var(x).shape) < 2:
        return
    if trans_y:
        if y not in site.made:
            site.made[y] = program.new_name(f"{y}.transposed")
            program.set_param(site.made[y], np.ascontiguousarray(weight.T))
        op.inputs["Y"] = [site.made[y]]
    op.type = "mul"
    for name in (*_TRANSPOSE["matmul"], *_TRANSPOSE["matmul_v2"], "alpha"):
        op.attrs.pop(name, None)
    op.set("x_num_col_dims", len(program.var(x).shape) - 1)
    op.set("y_num_col_dims", 1)
    yield "replaced by mul"


@rule(
    ops=("matmul_v2",),
    because="lite/kernels/x86/matmul_v2_compute.cc does not broadcast and aborts; one product is "
    "cheaper than H",
)
def fold_matmul_heads(op: Op, site: Site) -> Iterator[str]:
    """matmul_v2 of [N,H,M,K] with one [N,1,K,P] for all heads -> [N,H*M,K] with [N,K,P], between
    reshapes."""
    x, y, out = op.input("X"), op.input("Y"), op.output("Out")
    if op.get("trans_x", False) or x is None or y is None or out is None:
        return
    a, b = site.program.var(x).shape, site.program.var(y).shape
    if len(a) != 4 or len(b) != 4 or b[1] != 1 or a[1] == 1 or -1 in (*a[1:], *b[1:]):
        return
    dtype, shape = site.program.var(out).dtype, site.program.var(out).shape
    rows, other = (a[0], a[1] * a[2], a[3]), (b[0], b[2], b[3])
    x3, y3 = site.new_var(f"{out}.x3", dtype, rows), site.new_var(f"{out}.y3", dtype, other)
    out3 = site.new_var(f"{out}.out3", dtype, (*rows[:2], shape[-1]))
    op.inputs["X"], op.inputs["Y"], op.outputs["Out"] = [x3], [y3], [out3]
    site.replace(
        reshape(x, x3, list(rows)),
        reshape(y, y3, list(other)),
        op,
        reshape(out3, out, list(shape)),
    )
    yield f"{a[1]} heads became rows"
