"""Poolings by windows that Paddle Lite has no fast kernel for."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.padding import padding
from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["pools_by_maxima"]


@rule(
    ops=("pool2d",),
    because="lite/kernels/arm/pool_compute.cc has kernels for 2x2 with a stride of 2 only; the "
    "general one takes 480 instructions an output, parts and their maxima 10",
)
def pools_by_maxima(op: Op, site: Site) -> Iterator[str]:
    """The maximum over 2x2 with a stride of 1 -> that of neighbours, first in rows and then in
    columns."""
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    shape = site.program.var(x).shape
    pads = padding(op, shape[2:], [2, 2])
    if op.get("pooling_type") != "max" or op.get("ksize") != [2, 2] or pads is None:
        return
    if op.get("strides") != [1, 1] or op.get("global_pooling") or op.get("adaptive"):
        return
    if max(pads) > 1 or min(shape[2:]) < 2 or op.get("data_format", "NCHW") != "NCHW":
        return
    wide = _wider(site, x, out, 3, pads[2:])
    site.replace(*wide, *_wider(site, wide[-1].outputs["Out"][0], out, 2, pads[:2]))
    yield "became maxima of neighbours"


def _wider(site: Site, x: str, out: str, axis: int, pads: tuple[int, int]) -> list[Op]:
    """The maximum of each two neighbours along an axis, and the elements at its ends where they are
    padded. The last axis writes `out`."""
    shape = site.program.var(x).shape
    dtype, n = site.program.var(x).dtype, shape[axis]

    def new(size: int) -> str:
        return site.new_var(f"{out}.part", dtype, (*shape[:axis], size, *shape[axis + 1 :]))

    fronts, backs = [new(n - 1), new(1)], [new(1), new(n - 1)]
    ops = [Op("split", {"X": [x]}, {"Out": fronts}), Op("split", {"X": [x]}, {"Out": backs})]
    for op, sections in zip(ops, ([n - 1, 1], [1, n - 1])):
        op.set("axis", axis)
        op.set("sections", sections)
        op.set("num", 0)
    size = n - 1 + sum(pads)
    whole = out if axis == 2 else new(size)
    largest = whole if not any(pads) else new(n - 1)
    ops.append(Op("elementwise_max", {"X": [fronts[0]], "Y": [backs[1]]}, {"Out": [largest]}))
    ops[-1].set("axis", -1)
    if any(pads):
        parts = [backs[0]] * pads[0] + [largest] + [fronts[1]] * pads[1]
        ops.append(Op("concat", {"X": parts}, {"Out": [whole]}))
        ops[-1].set("axis", axis)
    return ops
