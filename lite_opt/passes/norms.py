"""Normalisations of tensors that are not of four dimensions."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Rule, Site, rule
from lite_opt.passes.shapes import product, reshape

__all__ = ["about_the_mean", "norms_about_the_mean", "norms_in_4d", "norms_with_scales"]


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


@rule(
    ops=("instance_norm", "group_norm"),
    because="their kernels (lite/backends/{arm,x86}/math) compute a variance as E[x^2] - E[x]^2, "
    "of which nothing is left where the mean is large",
)
def norms_about_the_mean(op: Op, site: Site) -> Iterator[str]:
    """A normalisation of x -> of x less the mean, which is the same and has none."""
    chain = Chain(op, site, slot="Y")
    x = chain.var()
    groups = op.get("groups", 1) if op.type == "group_norm" else x.shape[1] if x.shape else 0
    if len(x.shape) != 4 or x.shape[1] < 1 or _is_centred(op, site):
        return
    if op.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
        return
    n, c = x.shape[:2]
    mean = _mean(chain, x.name, (n, c, 1, 1), [2, 3])
    if groups != c:
        parts = (n, groups, c // groups)
        each = chain.reshape(mean, parts)
        whole = _mean(chain, each, (n, groups, 1), [2])
        apart = chain("elementwise_sub", each, whole, shape=parts)
        spread = chain("elementwise_sub", each, apart, shape=parts)  # to every channel of a group
        mean = chain.reshape(spread, (n, c, 1, 1))
    centred = chain("elementwise_sub", x.name, mean, shape=x.shape)
    op.inputs["X"] = [centred]
    site.replace(*chain.ops, op)
    yield "of its input less the mean"


def _mean(chain: Chain, x: str, shape: tuple[int, ...], dims: list[int]) -> str:
    return chain("reduce_mean", x, shape=shape, dim=dims, keep_dim=True, reduce_all=False)


def _is_centred(op: Op, site: Site) -> bool:
    """Whether the mean is taken off already, by this rule."""
    made = site.producers.get(op.inputs["X"][0])
    if made is None or made.type != "elementwise_sub":
        return False
    mean = site.producers.get(made.inputs["Y"][0])
    return mean is not None and mean.type in ("reduce_mean", "pool2d", "reshape2")


def about_the_mean(layers: Collection[str]) -> Rule:
    """A rule for these layer_norms: conversion/offsets.py finds those that need it."""

    @rule(
        ops=("layer_norm",),
        because="lite/backends/arm/math/norm.cc computes a variance as E[x^2] - E[x]^2",
    )
    def layer_norms_about_the_mean(op: Op, site: Site) -> Iterator[str]:
        """A layer_norm of x -> of x less the mean."""
        if op.layer not in layers or _is_centred(op, site):
            return
        chain = Chain(op, site, slot="Y")
        x = chain.var()
        begin, rank = op.get("begin_norm_axis", 1), len(x.shape)
        shape = (*x.shape[:begin], *(1,) * (rank - begin))
        mean = _mean(chain, x.name, shape, list(range(begin, rank)))
        op.inputs["X"] = [chain("elementwise_sub", x.name, mean, shape=x.shape)]
        site.replace(*chain.ops, op)
        yield "of its input less the mean"

    return layer_norms_about_the_mean


@rule(
    ops=("layer_norm",),
    because="lite/kernels/x86/layer_norm_compute.h reads Scale and Bias whether they are there "
    "or not: a segmentation fault",
)
def norms_with_scales(op: Op, site: Site) -> Iterator[str]:
    """A layer_norm without a scale or a bias gets ones or zeros."""
    shape = site.program.var(op.inputs["X"][0]).shape
    begin = op.get("begin_norm_axis", 1)
    size = product(shape[begin if begin >= 0 else begin + len(shape) :])
    if size < 0:
        return
    for slot, value in (("Scale", 1.0), ("Bias", 0.0)):
        if not op.inputs.get(slot):
            name = site.program.new_name(f"{op.layer}.{slot.lower()}")
            site.program.set_param(name, np.full(size, value, np.float32))
            op.inputs[slot] = [name]
            yield f"got a {slot}"
