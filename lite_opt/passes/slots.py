"""Inputs and outputs of operators that Paddle Lite takes for granted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["add_xshape", "complete_batch_norm"]


@rule(
    ops=("flatten_contiguous_range", "reshape2", "transpose2", "squeeze2", "unsqueeze2"),
    because="lite/operators/flatten_op.cc dereferences it",
    everywhere=True,
)
def add_xshape(op: Op, site: Site) -> Iterator[str]:
    """The output XShape, which Paddle >= 2.6 omits."""
    if op.output("XShape"):
        return
    x = site.block.vars.get(op.input("X") or "")
    dtype, shape = (x.dtype, x.shape) if x else ("float32", ())
    op.outputs["XShape"] = [site.new_var(f"{op.layer}.xshape", dtype, (0, *shape))]
    yield "added the output XShape"


@rule(ops=("batch_norm",), because="lite/operators/batch_norm_op.cc wants both")
def complete_batch_norm(op: Op, site: Site) -> Iterator[str]:
    """batch_norm without Scale or Bias (weight_attr=False) gets ones and zeros."""
    mean = site.program.params.get(op.input("Mean") or "")
    if mean is None:
        return
    for slot, value in (("Scale", np.ones_like(mean)), ("Bias", np.zeros_like(mean))):
        if op.input(slot) is None:
            name = site.program.new_name(f"{op.layer}.{slot.lower()}")
            site.program.set_param(name, value)
            op.inputs[slot] = [name]
            yield f"added the input {slot}"
