"""Computations that a kernel of Paddle Lite gets wrong: the same by another one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import reshape

__all__ = ["powers_to_products", "reduce_in_3d"]


@rule(
    ops=("pow",),
    because="the x86 kernel computes exp(2 log x), which is NaN for a negative x "
    "(lite/backends/x86/math/power.cc), and a product is cheaper anywhere",
)
def powers_to_products(op: Op, site: Site) -> Iterator[str]:
    """pow(x, 2) -> x * x."""
    if op.get("factor") != 2.0 or op.input("FactorTensor"):
        return
    op.type = "elementwise_mul"
    op.inputs = {"X": list(op.inputs["X"]), "Y": list(op.inputs["X"])}
    op.attrs.pop("factor")
    op.set("axis", -1)
    yield "replaced by elementwise_mul"


@rule(
    ops=("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"),
    because="lite/kernels/x86/reduce_compute.h handles ranks up to 4 and is silently wrong beyond, "
    "and so are kernels of lite/kernels/arm",
)
def reduce_in_3d(op: Op, site: Site) -> Iterator[str]:
    """A reduction over neighbouring axes of a tensor of rank 5 or more -> the same in 3-D, between
    two reshapes."""
    shape = site.program.var(op.input("X") or op.layer).shape
    rank = len(shape)
    if rank < 5 or op.get("reduce_all") or -1 in shape[1:]:
        return
    axes = sorted(d % rank for d in op.get("dim"))
    first, end = axes[0], axes[-1] + 1
    if axes != list(range(first, end)) or first == 0:
        return
    before, over, after = (
        int(np.prod(part)) for part in (shape[1:first], shape[first:end], shape[end:])
    )
    rows = -1 if shape[0] < 0 else shape[0] * before
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    var = site.program.var(out)
    flat = site.new_var(f"{out}.3d_in", var.dtype, (rows, over, after))
    flat_out = site.new_var(f"{out}.3d_out", var.dtype, (rows, after))
    op.inputs["X"], op.outputs["Out"] = [flat], [flat_out]
    op.set("dim", [1])
    op.set("keep_dim", False)
    site.replace(reshape(x, flat, [rows, over, after]), op, reshape(flat_out, out, list(var.shape)))
    yield f"rank {rank} became 3"
