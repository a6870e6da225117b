"""Windows of an image, one beside the other."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule

__all__ = ["unfolds_by_splits"]


@rule(
    ops=("unfold",),
    because="lite/kernels/host/unfold_compute.cc takes 27 instructions an element, the kernels "
    "that take tensors apart and join them 3",
)
def unfolds_by_splits(op: Op, site: Site) -> Iterator[str]:
    """unfold of windows with a stride of 1, as of involution, -> the image as often as a window is
    wide, each moved on by one place, and all of them as often as it is high."""
    chain = Chain(op, site, slot="Y")
    shape, (high, wide) = chain.var().shape, op.get("kernel_sizes")
    if op.get("strides") != [1, 1] or op.get("dilations") != [1, 1] or min(shape[1:]) < 1:
        return
    n, c, rows, columns = shape
    top, left, bottom, right = op.get("paddings")
    around = (n, c, 1, rows + top + bottom, columns + left + right)
    rows, columns = around[3] - high + 1, around[4] - wide + 1
    x = chain("unsqueeze2", chain.var().name, shape=(n, c, 1, *shape[2:]), axes=[2])
    x = chain(
        "pad3d", x, shape=around, paddings=[left, right, top, bottom, 0, 0], mode="constant",
        value=0.0, data_format="NCDHW",
    )  # fmt: skip
    x = chain.concat([_part(chain, x, 4, i, columns) for i in range(wide)], 2)
    x = chain.concat([_part(chain, x, 3, i, rows) for i in range(high)], 2)
    chain.reshape(x, (-1, c * high * wide, rows * columns))
    chain.end()
    yield f"became {high + wide} moves"


def _part(chain: Chain, x: str, axis: int, start: int, size: int) -> str:
    """Some places of an axis, by a split of all of them."""
    shape = chain.site.program.var(x).shape
    sections = [start, size, shape[axis] - start - size]
    parts = [
        chain.site.new_var(f"{x}.part", chain.out.dtype, (*shape[:axis], n, *shape[axis + 1 :]))
        for n in sections
    ]
    kept = [(n, name) for n, name in zip(sections, parts) if n]
    made = Op("split", {"X": [x]}, {"Out": [name for _, name in kept]})
    made.set("axis", axis)
    made.set("sections", [n for n, _ in kept])
    made.set("num", 0)
    chain.ops.append(made)
    return parts[1]
