"""Sampling of images at places that the network computes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule

__all__ = ["deformations_apart", "grids_in_pieces", "masks_of_ones"]

# Pieces of a grid, each an operator: beyond it the model would grow too long.
_MOST = 64


@rule(
    ops=("grid_sampler",),
    because="libraries before v2.13-rc want a grid of the input's own size "
    "(lite/operators/grid_sampler_op.cc)",
)
def grids_in_pieces(op: Op, site: Site) -> Iterator[str]:
    """A grid of another size than the input -> pieces of the input's size, the last one filled up
    with places that are left out of the result."""
    chain = Chain(op, site, slot="Output")
    x, grid = chain.var(), chain.var("Grid")
    if len(x.shape) != 4 or len(grid.shape) != 4 or -1 in (*x.shape[1:], *grid.shape[1:]):
        return
    (n, c, high, wide), places = x.shape, math.prod(grid.shape[1:3])
    piece = high * wide
    count = -(-places // piece)
    if grid.shape[1:3] == x.shape[2:] or not 0 < count <= _MOST:
        return
    flat, parts = chain.reshape(grid.name, (n, places, 2)), []
    for number in range(count):
        name = site.program.new_name(f"{chain.out.name}.places")
        index = np.arange(number * piece, (number + 1) * piece) % places
        site.program.set_param(name, index.astype(np.int64))
        some = chain(
            "index_select", flat, name, slots=("X", "Index", "Out"), shape=(n, piece, 2), dim=1
        )
        some = chain.reshape(some, (n, high, wide, 2))
        sampled = chain(
            "grid_sampler", x.name, some, slots=("X", "Grid", "Output"), shape=(n, c, high, wide)
        )
        chain.ops[-1].attrs.update(op.attrs)
        parts.append(chain.reshape(sampled, (n, c, piece)))
    whole = chain.concat(parts, 2) if count > 1 else parts[0]
    chain.reshape(chain.slice(whole, 2, 0, places), (n, c, *grid.shape[1:3]))
    chain.end()
    yield f"its grid of {list(grid.shape[1:3])} in {count} of {[high, wide]}"


@rule(
    ops=("deformable_conv",),
    because="lite/operators/deformable_conv_op.cc wants a mask (version 2 of the operator)",
)
def masks_of_ones(op: Op, site: Site) -> Iterator[str]:
    """A deformable convolution without a mask -> with one that is 1 everywhere."""
    if op.inputs.get("Mask"):
        return
    chain = Chain(op, site, slot="Output")
    offset = chain.var("Offset")
    if len(offset.shape) != 4 or offset.shape[1] < 2:
        return
    half = chain.slice(offset.name, 1, 0, offset.shape[1] // 2)
    mask = chain.scale(half, 0.0, 1.0, shape=site.program.var(half).shape)
    op.inputs["Mask"] = [mask]
    site.replace(*chain.ops, op)
    yield "got a mask of ones"


@rule(
    ops=("deformable_conv",),
    because="lite/operators/deformable_conv_op.cc wants as many groups as deformable_groups",
)
def deformations_apart(op: Op, site: Site) -> Iterator[str]:
    """A convolution of one group whose channels are moved in several -> the sum of one for each."""
    count, groups = op.get("deformable_groups", 1), op.get("groups", 1)
    if groups != 1 or count < 2:
        return
    weights = site.program.params.get(op.inputs["Filter"][0])
    if weights is None:
        return
    chain = Chain(op, site, slot="Output")
    slots = {slot: chain.var(slot) for slot in ("Input", "Offset", "Mask")}
    if any(len(var.shape) != 4 or var.shape[1] < 1 for var in slots.values()):
        return
    total = ""
    for number, part in enumerate(np.split(weights, count, axis=1)):
        name = site.program.new_name(f"{op.inputs['Filter'][0]}.part")
        site.program.set_param(name, np.ascontiguousarray(part))
        made = Op("deformable_conv", {"Filter": [name]}, {"Output": [""]}, dict(op.attrs))
        for slot, var in slots.items():
            size = var.shape[1] // count
            made.inputs[slot] = [chain.slice(var.name, 1, number * size, (number + 1) * size)]
        made.set("deformable_groups", 1)
        out = site.new_var(f"{chain.out.name}.part", chain.out.dtype, chain.out.shape)
        made.outputs["Output"] = [out]
        chain.ops.append(made)
        total = chain("elementwise_add", total, out) if total else out
    chain.end()
    yield f"became the sum of {count}"
