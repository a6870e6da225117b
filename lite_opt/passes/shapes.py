"""Shapes: of constants, and of reshapes by numbers that are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["fix_reshapes", "product", "reshape", "scalars_to_vectors"]


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


@rule(ops=("reshape2",), because="Lite would compute the shape at every inference")
def fix_reshapes(op: Op, site: Site) -> Iterator[str]:
    """reshape2 by a computed shape of which all but one dimension are known -> by that shape with
    one -1: what computed it (shape, slice, fill_constant) is then dead."""
    tensors = op.inputs.get("ShapeTensor") or []
    shape = op.get("shape") or []
    if not tensors or len(tensors) != len(shape) or sum(d <= 0 for d in shape) > 1:
        return
    known = [_filled(site.producers.get(name)) for name in tensors]
    if any(d > 0 and d != value for d, value in zip(shape, known)):
        return
    op.set("shape", [d if d > 0 else -1 for d in shape])
    del op.inputs["ShapeTensor"]
    yield f"its shape is {op.get('shape')}"


def _filled(op: Op | None) -> float | None:
    """The number that a fill_constant of one element holds."""
    if op is None or op.type != "fill_constant" or op.get("shape") not in ([], [1]):
        return None
    if any(op.inputs.get(slot) for slot in ("ShapeTensor", "ShapeTensorList", "ValueTensor")):
        return None
    return float(op.get("value"))
