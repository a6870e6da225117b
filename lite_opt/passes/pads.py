"""Paddings of images, which Paddle writes as those of volumes one voxel deep."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, place, program_rule, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["pads_by_depth", "pads_by_ends", "pads_by_parts", "pads_of_a_value"]

# What pad2d, into which the optimizer fuses, computes as well.
_MODES_OF_2D = ("constant", "reflect")


@program_rule(
    because="lite/core/optimizer/mir/fusion/unsqueeze2_pad3d_squeeze2_fuse.cc takes the paddings "
    "of the width for those of the height, and modes for ones that pad2d has not"
)
def pads_by_depth(program: Program) -> Iterator[tuple[str, str]]:
    """pad3d of [N,C,1,H,W] between unsqueeze2 and squeeze2 -> of [N,C,H,W,1]: what is padded
    above and below is then not fused, and what is padded left and right is fused right."""
    producers, consumers = program.producers(), program.consumers()
    for op in program.ops:
        if op.type != "pad3d" or op.get("data_format") != "NCDHW" or op.inputs.get("Paddings"):
            continue
        pads, x, out = op.get("paddings"), op.inputs["X"][0], op.outputs["Out"][0]
        before, after = producers.get(x), consumers.get(out, [])
        if before is None or len(after) != 1 or len(consumers[x]) != 1 or any(pads[4:]):
            continue
        if not _is_depth(before, "unsqueeze2") or not _is_depth(after[0], "squeeze2"):
            continue
        if pads[:2] == pads[2:4] and op.get("mode") in _MODES_OF_2D:
            continue
        for axis in (before, after[0]):
            axis.set("axes", [4])
        for name in (x, out):
            n, c, _, high, wide = program.var(name).shape
            program.var(name).shape = (n, c, high, wide, 1)
        op.set("paddings", [0, 0, *pads[:4]])
        yield place(op), "its depth came last"


def _is_depth(op: Op, type_: str) -> bool:
    return op.type == type_ and bool(op.get("axes") == [2])


@rule(
    ops=("pad3d",),
    because="lite/backends/host/math/pad3d.cc fills by memset, which knows no value but 0",
)
def pads_of_a_value(op: Op, site: Site) -> Iterator[str]:
    """A padding by another value than 0 -> by 0, and a constant added that is 0 inside."""
    value, pads = op.get("value", 0.0), op.get("paddings")
    if op.get("mode") != "constant" or not value or op.get("data_format") != "NCDHW":
        return
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    var = site.program.var(out)
    if op.inputs.get("Paddings") or min(var.shape[2:]) < 0:
        return
    border = np.full((1, 1, *var.shape[2:]), value, np.float32)
    size = site.program.var(x).shape[2:]
    front, top, left = pads[4], pads[2], pads[0]
    border[..., front : front + size[0], top : top + size[1], left : left + size[2]] = 0
    name = site.program.new_name(f"{out}.border")
    site.program.set_param(name, border)
    zeros = site.new_var(f"{out}.zeros", var.dtype, var.shape)
    op.outputs["Out"] = [zeros]
    op.set("value", 0.0)
    add = Op("elementwise_add", {"X": [zeros], "Y": [name]}, {"Out": [out]})
    add.set("axis", -1)
    site.replace(op, add)
    yield f"padded by 0, and {value:g} added around"


@rule(
    ops=("pad3d",),
    because="lite/operators/pad3d_op.cc knows no circular mode, and unsqueeze2_pad3d_squeeze2_fuse "
    "makes of a replicate mode one that pad2d has not",
)
def pads_by_ends(op: Op, site: Site) -> Iterator[str]:
    """A circular padding, and one of the width by its edge -> the ends of the input, joined on to
    it axis by axis."""
    chain = Chain(op, site)
    pads, shape = op.get("paddings"), list(chain.var().shape)
    mode, circular = op.get("mode"), op.get("mode") == "circular"
    if op.inputs.get("Paddings") or len(shape) != 5:
        return
    if not circular and (mode != "replicate" or any(pads[2:])):
        return
    first = 2 if op.get("data_format", "NCDHW") == "NCDHW" else 1
    axes = (first + 2, first + 1, first)  # of the paddings, two each
    padded = [(a, b, c) for a, b, c in zip(axes, pads[::2], pads[1::2]) if b or c]
    for axis, before, after in padded:
        if min(before, after) < 0 or shape[axis] < (max(before, after) if circular else 1):
            return
    if not padded:
        return
    x = chain.var().name
    for axis, before, after in padded:
        size = shape[axis]
        if circular:
            parts = [chain.slice(x, axis, size - before, size)] if before else []
            parts += [x, *([chain.slice(x, axis, 0, after)] if after else [])]
        else:
            parts = [chain.slice(x, axis, 0, 1)] * before if before else []
            parts += [x, *([chain.slice(x, axis, size - 1, size)] * after if after else [])]
        x = chain.concat(parts, axis)
    chain.end()
    yield f"its ends joined on along {len(padded)} axes"


@rule(
    ops=("pad", "pad3d"),
    because="libraries older than v2.13 lack pad, and pad3d knows no value but 0 (see "
    "pads_of_a_value, which needs to know the sides)",
)
def pads_by_parts(op: Op, site: Site) -> Iterator[str]:
    """A padding of any axes, and one of sides that are dynamic by a value -> parts of that value,
    joined on axis by axis."""
    chain = Chain(op, site)
    x, value = chain.var(), op.get("pad_value" if op.type == "pad" else "value", 0.0)
    pads = op.get("paddings")
    if op.inputs.get("Paddings") or x.dtype not in _JOINED:
        return
    if op.type == "pad3d":
        if op.get("mode") != "constant" or not value or min(chain.out.shape[2:]) >= 0:
            return
        first = 2 if op.get("data_format", "NCDHW") == "NCDHW" else 1
        axes = range(first + 2, first - 1, -1)
    else:
        axes = range(len(x.shape))
    padded = [(a, b, c) for a, b, c in zip(axes, pads[::2], pads[1::2]) if b or c]
    if not padded or any(min(before, after) < 0 for _, before, after in padded):
        return
    name = x.name
    for axis, before, after in padded:
        name = _between(chain, name, value, (axis, before, after))
    chain.end()
    yield f"parts of {value:g} joined on along {len(padded)} axes"


# What concat and fill_any_like have kernels for.
_JOINED = ("float32", "int32", "int64")


def _between(chain: Chain, x: str, value: float, pads: tuple[int, int, int]) -> str:
    """x between parts that hold a value: along an axis, so many before it and so many after."""
    axis, before, after = pads
    var = chain.site.program.var(x)
    number = DTYPE_NUMBERS[var.dtype]
    made: dict[int, str] = {}

    def parts(count: int) -> list[str]:
        # A part is made from a piece of x, which knows the sizes that are dynamic.
        piece = count if 0 < count <= var.shape[axis] else 1
        if count and piece not in made:
            like = chain.slice(x, axis, 0, piece)
            made[piece] = chain(
                "fill_any_like", like, shape=chain.site.program.var(like).shape,
                dtype=var.dtype, value=float(value),
            )  # fmt: skip
            chain.ops[-1].set("dtype", number)
        return [made[piece]] * (count // piece) if count else []

    name = chain.concat([*parts(before), x, *parts(after)], axis)
    size = var.shape[axis]
    chain.site.program.var(name).shape = (
        *var.shape[:axis], -1 if size < 0 else size + before + after, *var.shape[axis + 1 :],
    )  # fmt: skip
    return name
