"""Linear layers and their biases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import reshape

__all__ = ["bias_vectors", "fold_matmul_heads", "matmul_to_mul"]

_ELEMENTWISE = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div")
# A product's type -> the names of its flags that transpose X and Y.
_TRANSPOSE = {"matmul_v2": ("trans_x", "trans_y"), "matmul": ("transpose_X", "transpose_Y")}


@rule(ops=_ELEMENTWISE, because="conv_elementwise_fuser.cc fuses biases of one dimension only")
def bias_vectors(op: Op, site: Site) -> Iterator[str]:
    """elementwise with a parameter of shape [1,C,1,1] and the like, or with one of shape [C] that
    is reshaped to that -> with [C] on its axis."""
    program = site.program
    x, y = op.input("X"), op.input("Y")
    if x is None or y is None or op.get("axis", -1) not in (-1, 0):
        return
    vector = _reshaped(site, y)
    if vector is None and y not in program.params:
        return
    shape = program.var(y).shape
    if len(shape) < 2 or len(shape) != len(program.var(x).shape) or sum(d != 1 for d in shape) > 1:
        return
    if vector is None:
        if y not in site.made:
            site.made[y] = program.new_name(f"{y}.vector")
            program.set_param(site.made[y], program.params[y].reshape(-1))
        vector = site.made[y]
    # Any axis is right for one element; 1 is the one that fuses.
    axis = next((i for i, d in enumerate(shape) if d != 1), min(1, len(shape) - 1))
    op.inputs["Y"] = [vector]
    op.set("axis", axis)
    yield f"bias '{y}' on axis {axis}"


def _reshaped(site: Site, name: str) -> str | None:
    """The vector that a variable is a reshape of, where it is a parameter. The parameter itself is
    then read, and the file that holds it is handed on without a copy."""
    made = site.producers.get(name)
    if made is None or made.type != "reshape2" or set(made.inputs) != {"X"}:
        return None
    x = made.inputs["X"][0]
    return x if x in site.program.params and site.program.params[x].ndim == 1 else None


@rule(
    ops=_TRANSPOSE,
    because="opt quantises the weights of both, but the loader (LightPredictor::DequantizeWeight "
    "in lite/api/light_api.cc) restores only those of `mul`",
)
def matmul_to_mul(op: Op, site: Site) -> Iterator[str]:
    """`matmul` with a 2-D parameter, or one that is stored quantized -> `mul`."""
    program = site.program
    trans_x, trans_y = (bool(op.get(name, False)) for name in _TRANSPOSE[op.type])
    x, y = op.input("X"), op.input("Y")
    if op.get("alpha", 1.0) != 1.0 or trans_x or x is None or y is None:
        return
    made = site.producers.get(y)
    integers = made.input("X") if made is not None and made.type == "dequantize_linear" else None
    weight = program.params.get(integers or y)
    if weight is None or weight.ndim != 2 or len(program.var(x).shape) < 2:
        return
    if trans_y:
        if integers is not None:
            return
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
