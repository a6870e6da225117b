"""Operators that pick elements by an index, or the places of the largest."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op, Var
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = [
    "argmin_to_argmax",
    "backward_slices",
    "masks_by_places",
    "picks_by_one_hot",
    "picks_by_select",
    "scatter_by_product",
    "select_to_gather",
]

_FAR = 1 << 30  # a bound of a slice beyond this is that of an open end


def _select(chain: Chain, x: str, axis: int, index: list[int], shape: tuple[int, ...]) -> str:
    """x at these places of an axis."""
    name = chain.site.program.new_name(f"{chain.out.name}.index")
    chain.site.program.set_param(name, np.array(index, np.int64))
    return chain("index_select", x, name, slots=("X", "Index", "Out"), shape=shape, dim=axis)


# Elements of a one_hot: the product with it is no longer cheap beyond.
_LARGEST = 1 << 22


@rule(
    ops=("repeat_interleave", "diagonal"),
    because="lite/kernels has none for them",
)
def picks_by_select(op: Op, site: Site) -> Iterator[str]:
    """repeat_interleave by a number, and diagonal -> index_select by a constant."""
    chain = Chain(op, site)
    if op.type == "repeat_interleave":
        x, axis, times = chain.var(), op.get("dim", 0), op.get("Repeats", 1)
        axis %= len(x.shape)
        if x.shape[axis] < 0 or op.input("RepeatsTensor"):
            return
        index = [place for place in range(x.shape[axis]) for _ in range(times)]
        _select(chain, x.name, axis, index, chain.out.shape)
    elif not _diagonal(chain, op, chain.var("Input")):
        return
    chain.end()
    yield "became an index_select"


@rule(
    ops=("strided_slice",),
    because="lite/operators/strided_slice_op.cc refuses steps that go backwards",
)
def backward_slices(op: Op, site: Site) -> Iterator[str]:
    """x[::-1] of a float -> flip, other slices that go backwards -> index_select; what goes
    forwards stays."""
    chain = Chain(op, site)
    x, names = chain.var("Input"), ("axes", "starts", "ends", "strides")
    given = [slot for slot, names in op.inputs.items() if names]
    if len(given) > 1 or op.get("decrease_axis"):
        return
    parts = list(zip(*(op.get(name) for name in names)))
    forward = [part for part in parts if part[3] > 0]
    shape = list(x.shape)
    last = x.name
    for axis, start, end, step in parts:
        if step > 0:
            continue
        size = shape[axis]
        index = _backwards(size, start, end, step)
        if index == list(range(size))[::-1] and (size < 0 or x.dtype == "float32"):
            last = chain("flip", last, shape=tuple(shape), axis=[axis])
            continue
        if size < 0:
            return
        shape[axis] = len(index)
        last = _select(chain, last, axis, index, tuple(shape))
    if not chain.ops:
        return
    if forward:
        made = Op("strided_slice", {"Input": [last]}, {}, dict(op.attrs))
        for at, name in enumerate(names):
            made.set(name, [part[at] for part in forward])
        made.set("infer_flags", [1] * len(forward))
        made.outputs["Out"] = [chain.out.name]
        chain.ops.append(made)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


@rule(
    ops=("index_select",),
    because="libraries older than v2.13 have no kernel for int64 (index_select_compute.cc)",
)
def select_to_gather(op: Op, site: Site) -> Iterator[str]:
    """index_select of int64 -> gather along the same axis, which knows every type."""
    x = site.program.var(op.inputs["X"][0])
    if x.dtype != "int64":
        return
    axis = op.get("dim", 0) % len(x.shape)
    op.type, op.attrs = "gather", {}
    op.set("axis", axis)
    yield "replaced by gather"


def _backwards(size: int, start: int, end: int, step: int) -> list[int]:
    """The places that such a slice takes. As in phi/kernels/funcs/strided_slice.h, an end of -1
    stands before the first place. Of a dynamic size (-1) it is [] where all are taken."""
    if size < 0:
        everything = step == -1 and (start == -1 or start >= _FAR) and (end == -1 or end <= -_FAR)
        return [] if everything else [-1]
    start = start + size if start < 0 else min(start, size - 1)
    end = -1 if end == -1 or end < -size else end + size if end < 0 else end
    return list(range(start, end, step))


def _diagonal(chain: Chain, op: Op, x: Var) -> bool:
    rank = len(x.shape)
    first, second = op.get("axis1", 0) % rank, op.get("axis2", 1) % rank
    high, wide, offset = x.shape[first], x.shape[second], op.get("offset", 0)
    others = [axis for axis in range(rank) if axis not in (first, second)]
    rest = tuple(x.shape[axis] for axis in others)
    if high < 0 or wide < 0 or sum(d < 0 for d in rest) > 1:
        return False
    index = [row * wide + row + offset for row in range(high) if 0 <= row + offset < wide]
    name = chain.transpose(x.name, [*others, first, second])
    name = chain.reshape(name, (*rest, high * wide))
    _select(chain, name, len(rest), index, (*rest, len(index)))
    return True


@rule(ops=("masked_select",), because="lite/kernels has none for it")
def masks_by_places(op: Op, site: Site) -> Iterator[str]:
    """masked_select -> where_index of the mask, and gather_nd of these places."""
    chain = Chain(op, site, slot="Y")
    mask = chain.var("Mask")
    if mask.shape != chain.var().shape:
        return
    places = chain(
        "where_index", mask.name, slots=("Condition", "Y", "Out"), dtype="int64",
        shape=(-1, len(mask.shape)),
    )  # fmt: skip
    chain("gather_nd", chain.var().name, places, slots=("X", "Index", "Out"))
    chain.end()
    yield "became where_index and gather_nd"


@rule(ops=("arg_min",), because="lite/kernels has arg_max only")
def argmin_to_argmax(op: Op, site: Site) -> Iterator[str]:
    """arg_min(x) -> arg_max(-x)."""
    x = site.program.var(op.inputs["X"][0])
    if x.dtype not in ("float32", "float64", "int32", "int64"):
        return
    chain = Chain(op, site)
    chain.scale(x.name, -1.0, shape=x.shape, dtype=x.dtype)
    largest = Op("arg_max", {"X": chain.ops[0].outputs["Out"]}, op.outputs, op.attrs)
    site.replace(chain.ops[0], largest)
    yield "became arg_max of the negative"


@rule(
    ops=("index_sample", "take_along_axis", "put_along_axis"),
    because="lite/kernels has none for them",
)
def picks_by_one_hot(op: Op, site: Site) -> Iterator[str]:
    """x[..., index] -> the sum of x * one_hot(index); a single element is put likewise."""
    put = op.type == "put_along_axis"
    chain = Chain(op, site, slot="Out" if op.type == "index_sample" else "Result")
    x = chain.var("X" if op.type == "index_sample" else "Input")
    index, rank = chain.var("Index"), len(x.shape)
    if put:
        op.inputs = {slot: [_before_expand(site, names[0])] for slot, names in op.inputs.items()}
        index = chain.var("Index")
    axis = (1 if op.type == "index_sample" else op.get("Axis", 0)) % rank
    depth, order = x.shape[axis], [a for a in range(rank) if a != axis] + [axis]
    others = [a for a in order if a != axis]
    if depth < 0 or x.dtype != "float32" or len(index.shape) != rank:
        return
    if any(x.shape[a] != index.shape[a] and not (put and index.shape[a] == 1) for a in others):
        return
    moved = axis != rank - 1
    back = [order.index(a) for a in range(rank)]
    value, where = x.name, index.name
    if moved:
        value, where = chain.transpose(value, order), chain.transpose(where, order)
        site.program.var(where).dtype = index.dtype
    last = site.program.var(where).shape
    hot = chain("one_hot_v2", where, shape=(*last, depth), depth=depth, allow_out_of_range=False)
    chain.ops[-1].set("dtype", DTYPE_NUMBERS["float32"])
    if put:
        if not _put(chain, op, value, hot, last):
            return
    else:
        rows = chain("unsqueeze2", value, shape=(*last[:-1], 1, depth), axes=[rank - 1])
        both = chain("elementwise_mul", hot, rows, shape=(*last, depth))
        chain("reduce_sum", both, shape=last, dim=[rank], keep_dim=False, reduce_all=False)
    if moved:
        chain.transpose(chain.ops[-1].outputs["Out"][0], back)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


def _before_expand(site: Site, name: str) -> str:
    """What a variable was spread out from, along axes that broadcasting spreads as well."""
    made = site.producers.get(name)
    if made is None or made.type != "expand_v2":
        return name
    source = site.program.var(made.inputs["X"][0]).shape
    wanted = site.program.var(name).shape
    return made.inputs["X"][0] if len(source) == len(wanted) or set(source) <= {1} else name


def _put(chain: Chain, op: Op, x: str, hot: str, last: tuple[int, ...]) -> bool:
    """x + one_hot * (value - x) at one place of each row, or x + one_hot * value."""
    given = chain.var("Value").shape
    if last[-1] != 1 or not (given == last == chain.var("Index").shape or set(given) <= {1}):
        return False
    place = chain("squeeze2", hot, shape=chain.site.program.var(x).shape, axes=[len(last) - 1])
    value, size = op.inputs["Value"][0], chain.site.program.var(x).shape
    reduce = op.get("Reduce", "assign")
    if reduce == "add":
        chain("elementwise_add", x, chain("elementwise_mul", place, value, shape=size), shape=size)
        return True
    if reduce != "assign":
        return False
    kept = chain("elementwise_mul", x, chain.scale(place, -1.0, 1.0, shape=size), shape=size)
    chain("elementwise_add", kept, chain("elementwise_mul", place, value, shape=size), shape=size)
    return True


@rule(
    ops=("scatter",),
    because="lite/kernels/arm/scatter_compute.cc does not read X, and lite/kernels/x86 has none",
)
def scatter_by_product(op: Op, site: Site) -> Iterator[str]:
    """x with rows replaced -> x without these rows, plus one_hot(ids) transposed times updates. Of
    equal ids the last one counts, or with overwrite=False all of them."""
    chain = Chain(op, site)
    x, ids, updates = chain.var(), chain.var("Ids"), chain.var("Updates")
    if x.dtype != "float32" or -1 in (*x.shape[:1], *ids.shape, *updates.shape) or not ids.shape:
        return
    depth, count = x.shape[0], math.prod(ids.shape)
    if -1 in x.shape or depth * count > _LARGEST:
        return
    where = ids.name
    if len(ids.shape) != 1:
        where = chain.reshape(where, (count,))
        site.program.var(where).dtype = ids.dtype
    hot = chain("one_hot_v2", where, shape=(count, depth), depth=depth, allow_out_of_range=False)
    chain.ops[-1].set("dtype", DTYPE_NUMBERS["float32"])
    if op.get("overwrite", True) and count > 1:
        hot = _last_of_each(chain, hot, count, depth)
    width = math.prod(x.shape[1:])
    places = chain.transpose(hot, [1, 0])
    rows = chain.reshape(updates.name, (count, width))
    put = chain("matmul_v2", places, rows, shape=(depth, width), trans_x=False, trans_y=False)
    taken = chain("reduce_sum", places, shape=(depth, 1), dim=[1], keep_dim=True, reduce_all=False)
    taken = chain("clip", taken, shape=(depth, 1), min=0.0, max=1.0)
    left = chain.scale(taken, -1.0, 1.0, shape=(depth, 1))
    flat = chain.reshape(x.name, (depth, width))
    kept = chain("elementwise_mul", flat, left, shape=(depth, width))
    chain.reshape(chain("elementwise_add", kept, put, shape=(depth, width)), x.shape)
    chain.end()
    yield "became a product with one_hot"


def _last_of_each(chain: Chain, hot: str, count: int, depth: int) -> str:
    """one_hot without the rows that a later one repeats."""
    name = chain.site.program.new_name(f"{chain.out.name}.later")
    chain.site.program.set_param(name, np.triu(np.ones((count, count), np.float32), 1))
    later = chain("matmul_v2", name, hot, shape=(count, depth), trans_x=False, trans_y=False)
    again = chain("elementwise_mul", later, hot, shape=(count, depth))
    again = chain("clip", again, shape=(count, depth), min=0.0, max=1.0)
    return chain("elementwise_sub", hot, again, shape=(count, depth))
