"""Normalisations of tensors that are not of four dimensions."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import reshape

__all__ = ["norms_in_4d"]


@rule(
    ops=("instance_norm", "group_norm"),
    because="lite/kernels/{arm,x86}/instance_norm_compute.cc and group_norm_compute.cc read the "
    "dimensions 2 and 3 whether there are such or more: x86 gives NaN, ARM runs for ever",
)
def norms_in_4d(op: Op, site: Site) -> Iterator[str]:
    """A normalisation of [N,C,L] or [N,C,D,H,W] -> of [N,C,1,-1], between reshapes."""
    x, y = op.inputs["X"][0], op.outputs["Y"][0]
    shape, dtype = site.program.var(x).shape, site.program.var(x).dtype
    rank = len(shape)
    if rank == 4 or rank < 3 or op.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
        return
    if shape[2:].count(-1) > 1:
        return
    flat_in = site.new_var(f"{y}.4d_in", dtype, (*shape[:2], 1, -1))
    flat_out = site.new_var(f"{y}.4d_out", dtype, (*shape[:2], 1, -1))
    op.inputs["X"], op.outputs["Y"] = [flat_in], [flat_out]
    # 0 leaves a dimension as it is.
    site.replace(reshape(x, flat_in, [0, 0, 1, -1]), op, reshape(flat_out, y, [0, 0, *shape[2:]]))
    yield f"rank {rank} became 4"
