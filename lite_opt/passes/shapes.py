"""Shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["MAX_RANK", "TO_THE_END", "product", "reshape", "scalars_to_vectors"]

# As many axes as the transpositions of windows have, which kernels are known to take.
MAX_RANK = 6
# How exporters write the end of a slice that is open.
TO_THE_END = 2**31 - 1


def product(shape: Iterable[int]) -> int:
    """How many elements a part of a shape has; -1 where one of its dimensions is dynamic."""
    sizes = list(shape)
    return -1 if -1 in sizes else math.prod(sizes)


def reshape(x: str, out: str, shape: list[int]) -> Op:
    """The operator that gives a variable another shape."""
    op = Op("reshape2", {"X": [x]}, {"Out": [out]})
    op.set("shape", shape)
    return op


@rule(
    ops=("fill_constant", "assign_value"),
    because="Lite has no 0-D tensors, and an empty shape is to lite/operators/fill_constant_op.cc "
    "a missing one",
    everywhere=True,
)
def scalars_to_vectors(op: Op, site: Site) -> Iterator[str]:
    """Constants of shape [] -> [1]. The number of elements stays the same."""
    if op.get("shape") != [] or any(op.inputs.get(s) for s in ("ShapeTensor", "ShapeTensorList")):
        return
    op.set("shape", [1], op.attrs["shape"].type)
    out = site.block.vars.get(op.output("Out") or "")
    if out is not None:
        out.shape = (1,)
    yield "shape [] became [1]"
