"""Rearrangements of elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import MAX_RANK, TO_THE_END, reshape

__all__ = [
    "fold_to_transpose",
    "patches_to_transpose",
    "pool_over_channels",
    "shuffles_to_transpose",
]


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


@rule(
    ops=("concat",),
    because="lite/kernels/host/strided_slice_compute.cc copies an element at a time, as often as "
    "there are slices",
)
def patches_to_transpose(op: Op, site: Site) -> Iterator[str]:
    """concat of all strided slices of one tensor (patch merging, a detector's focus) -> a
    transposition between reshapes."""
    chain = Chain(op, site)
    slices = [site.producers.get(name) for name in op.inputs["X"]]
    if op.inputs.get("AxisTensor") or len(slices) < 2:
        return
    first = slices[0]
    if first is None or any(part is None or not _is_like(part, first) for part in slices):
        return
    axes, strides, shape = (
        first.get("axes"),
        first.get("strides"),
        site.program.var(first.inputs["Input"][0]).shape,
    )
    starts = [tuple(part.get("starts")) for part in slices if part is not None]
    if -1 in shape[1:] or 0 in axes or any(shape[a] % s for a, s in zip(axes, strides)):
        return
    if len(starts) != np.prod(strides) or not _is_whole(first, shape):
        return
    # Which of the sliced axes runs through its starts fastest, and which slowest.
    order = sorted(range(len(axes)), key=lambda i: _first_change(starts, i), reverse=True)
    counted = list(np.ndindex(*(strides[i] for i in order)))
    if [tuple(start[i] for i in order) for start in starts] != counted:
        return
    parts: list[int] = []
    place: dict[int, tuple[int, ...]] = {}  # axis -> its places among the parts
    for axis, size in enumerate(shape):
        by = strides[axes.index(axis)] if axis in axes else 1
        place[axis] = (len(parts), len(parts) + 1) if axis in axes else (len(parts),)
        parts += [size // by, by] if axis in axes else [size]
    if len(parts) > MAX_RANK:
        return
    moved: list[int] = []
    for axis in range(len(shape)):
        if axis == op.get("axis", 0) % len(shape):
            moved += [place[axes[i]][1] for i in order]
        moved.append(place[axis][0])
    patches = chain.transpose(chain.reshape(first.inputs["Input"][0], tuple(parts)), moved)
    chain.reshape(patches, (shape[0], *chain.out.shape[1:]))
    chain.end()
    yield "became a transposition"


def _is_like(op: Op, other: Op) -> bool:
    same = all(op.get(name) == other.get(name) for name in ("axes", "ends", "strides"))
    return op.type == "strided_slice" and same and op.inputs == other.inputs


def _is_whole(op: Op, shape: tuple[int, ...]) -> bool:
    ends = zip(op.get("axes"), op.get("ends"))
    to_the_end = all(end >= TO_THE_END or end >= shape[axis] for axis, end in ends)
    return to_the_end and not op.get("decrease_axis") and set(op.inputs) == {"Input"}


def _first_change(starts: list[tuple[int, ...]], axis: int) -> int:
    return next((n for n, start in enumerate(starts) if start[axis]), len(starts))
