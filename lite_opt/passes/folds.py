"""Reductions that have no kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["folds_by_others", "sizes_by_shape"]


def _kept(chain: Chain, dims: list[int]) -> tuple[int, ...]:
    return tuple(1 if axis in dims else d for axis, d in enumerate(chain.var().shape))


def _reduce(chain: Chain, kind: str, x: str, dims: list[int], keep: bool) -> str:
    """One axis after another, the last first: kernels of ARM refuse some sets of axes."""
    shape = list(chain.var().shape)
    for axis in sorted(dims, reverse=True):
        shape[axis : axis + 1] = [1] if keep else []
        x = chain(kind, x, shape=tuple(shape), dim=[axis], keep_dim=keep, reduce_all=not shape)
    return x


def _logsumexp(chain: Chain, x: str, dims: list[int], keep: bool) -> None:
    largest = _reduce(chain, "reduce_max", x, dims, True)
    less = chain("elementwise_sub", x, largest, shape=chain.var().shape)
    powers = chain("exp", less, shape=chain.var().shape)
    total = _reduce(chain, "reduce_sum", powers, dims, True)
    log = chain("log", total, shape=_kept(chain, dims))
    result = chain("elementwise_add", log, largest, shape=_kept(chain, dims))
    if not keep:
        chain.reshape(result, chain.out.shape)


def _frobenius(chain: Chain, x: str, dims: list[int], keep: bool) -> None:
    squares = chain("elementwise_mul", x, x, shape=chain.var().shape)
    chain("sqrt", _reduce(chain, "reduce_sum", squares, dims, keep))


def _norm(chain: Chain, x: str, order: float, dims: list[int], keep: bool) -> bool:
    """The p-norm; False for 2, which has a kernel that is right, and for 0."""
    if order in (0, 2):
        return False
    shape = chain.var().shape
    size = chain("abs", x, shape=shape)
    if order == 1 or math.isinf(order):
        kind = "reduce_sum" if order == 1 else "reduce_max" if order > 0 else "reduce_min"
        _reduce(chain, kind, size, dims, keep)
        return True
    powers = chain("pow", size, shape=shape, factor=float(order))
    chain("pow", _reduce(chain, "reduce_sum", powers, dims, keep), factor=1 / order)
    return True


@rule(
    ops=("logsumexp", "frobenius_norm", "reduce_amax", "reduce_amin", "p_norm"),
    because="lite/kernels has none for them, and lite/kernels/x86/p_norm_compute.cc takes "
    "powers of negative numbers (NaN)",
)
def folds_by_others(op: Op, site: Site) -> Iterator[str]:
    """logsumexp, norms and amax -> reduce_max, reduce_sum, reduce_min of functions of elements."""
    chain = Chain(op, site)
    x = chain.var()
    rank = len(x.shape)
    slots = {"logsumexp": "axis", "p_norm": "axis"}
    dims = op.get(slots.get(op.type, "dim"), -1)
    dims = [dims] if isinstance(dims, int) else list(dims)
    keep = bool(op.get("keepdim", op.get("keep_dim", False)))
    dims = sorted({d % rank for d in dims}) if rank else []
    if op.get("reduce_all") or op.get("asvector") or not dims:
        dims = list(range(rank))
    open_dims = sum(d < 0 for d in chain.out.shape)
    if op.type == "logsumexp":
        if open_dims > 1 or not rank:
            return
        _logsumexp(chain, x.name, dims, keep)
    elif op.type == "frobenius_norm":
        _frobenius(chain, x.name, dims, keep)
    elif op.type == "p_norm":
        if not _norm(chain, x.name, op.get("porder", 2.0), dims, keep):
            return
    else:
        _reduce(chain, op.type.replace("_a", "_"), x.name, dims, keep)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


@rule(ops=("size",), because="lite/kernels has none for size")
def sizes_by_shape(op: Op, site: Site) -> Iterator[str]:
    """The number of elements -> the product of the dimensions that are open, times the others."""
    chain = Chain(op, site)
    x, dtype = chain.var("Input"), chain.out.dtype
    known, number = math.prod(d for d in x.shape if d >= 0), DTYPE_NUMBERS["float32"]
    shape = chain("shape", x.name, shape=(len(x.shape),), dtype="int32", slots=("Input", "", "Out"))
    size = ""
    for axis in [axis for axis, d in enumerate(x.shape) if d < 0] or [0]:
        one = chain(
            "slice", shape, shape=(1,), dtype="int32", slots=("Input", "", "Out"), axes=[0],
            starts=[axis], ends=[axis + 1], infer_flags=[1],
        )  # fmt: skip
        chain.ops[-1].set("decrease_axis", [], "INTS")
        one = chain("cast", one, shape=(1,), dtype="float32", in_dtype=2, out_dtype=number)
        if x.shape[axis] >= 0:  # none is open: the number itself, whatever this one is
            one = chain.scale(one, 0.0, 1.0, shape=(1,), dtype="float32")
        size = chain("elementwise_mul", size, one, shape=(1,), dtype="float32") if size else one
    size = chain.scale(size, float(known), shape=(1,), dtype="float32")
    chain("cast", size, in_dtype=number, out_dtype=DTYPE_NUMBERS[dtype])
    chain.end()
    if not chain.out.shape:
        chain.out.shape = (1,)
    yield "became a product of dimensions"
