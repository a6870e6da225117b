"""Rearrangements of elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import reshape

__all__ = ["fold_to_transpose", "pool_over_channels", "shuffles_to_transpose"]


@rule(ops=("fold",), because="Lite has no kernel for fold")
def fold_to_transpose(op: Op, site: Site) -> Iterator[str]:
    """fold of patches that neither overlap nor leave gaps -> a transposition between reshapes.
    [N, C*kh*kw, L] is [N, C, kh, kw, rows, columns], L = rows*columns."""
    x, out = op.inputs["X"][0], op.outputs["Y"][0]
    (high, wide), kernel = op.get("output_sizes"), op.get("kernel_sizes")
    batch, depth = site.program.var(x).shape[:2]
    if op.get("strides") != kernel or any(op.get("paddings")) or set(op.get("dilations")) != {1}:
        return
    if depth < 0 or high % kernel[0] or wide % kernel[1]:
        return
    channels = int(depth // np.prod(kernel))
    parts = (batch, channels, *kernel, high // kernel[0], wide // kernel[1])
    order = [0, 1, 4, 2, 5, 3]
    dtype = site.program.var(out).dtype
    patches = site.new_var(f"{out}.patches", dtype, parts)
    places = site.new_var(f"{out}.places", dtype, tuple(parts[i] for i in order))
    transpose = Op("transpose2", {"X": [patches]}, {"Out": [places]})
    transpose.set("axis", order)
    site.replace(
        reshape(x, patches, list(parts)),
        transpose,
        reshape(places, out, [batch, channels, high, wide]),
    )
    yield "became a transposition"


@rule(
    ops=("pixel_unshuffle", "channel_shuffle"),
    because="Lite has no kernel for them",
)
def shuffles_to_transpose(op: Op, site: Site) -> Iterator[str]:
    """pixel_unshuffle and channel_shuffle of [N,C,H,W] -> a transposition between reshapes."""
    chain = Chain(op, site)
    x = chain.var()
    if op.get("data_format", "NCHW") != "NCHW" or -1 in x.shape[1:]:
        return
    n, c, h, w = x.shape
    parts: tuple[int, ...]
    if op.type == "channel_shuffle":
        groups = op.get("groups")
        parts, order = (n, groups, c // groups, h * w), [0, 2, 1, 3]
    else:
        r = op.get("downscale_factor")
        parts, order = (n, c, h // r, r, w // r, r), [0, 1, 3, 5, 2, 4]
    moved = chain.transpose(chain.reshape(x.name, parts), order)
    chain.reshape(moved, (n, *chain.out.shape[1:]))
    chain.end()
    yield "became a transposition"


@rule(ops=("pool3d",), because="Lite has no kernel for pool3d")
def pool_over_channels(op: Op, site: Site) -> Iterator[str]:
    """pool3d by [k,1,1] of stride 1, as local_response_norm has it -> pool2d by [k,1] with the
    last two axes in one."""
    chain = Chain(op, site)
    x, out, kernel = chain.var(), chain.out, op.get("ksize")
    if kernel[1:] != [1, 1] or set(op.get("strides")) != {1} or any(op.get("paddings")):
        return
    if op.get("adaptive") or op.get("global_pooling") or -1 in x.shape[1:]:
        return
    if op.get("padding_algorithm", "EXPLICIT") != "EXPLICIT" or op.get("data_format") != "NCDHW":
        return
    n, c, d, h, w = x.shape
    flat = chain.reshape(x.name, (n, c, d, h * w))
    pooled = chain("pool2d", flat, shape=(n, c, out.shape[2], h * w), ksize=[kernel[0], 1])
    pool = chain.ops[-1]
    for name in ("pooling_type", "exclusive", "padding_algorithm"):
        pool.attrs[name] = op.attrs[name]
    for name, value in (("strides", [1, 1]), ("paddings", [0, 0]), ("data_format", "NCHW")):
        pool.set(name, value)
    for name in ("global_pooling", "ceil_mode", "adaptive"):
        pool.set(name, False)
    chain.reshape(pooled, (n, *out.shape[1:]))
    chain.end()
    yield "became a pool2d"
