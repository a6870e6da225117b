"""Reductions over axes that no kernel of Paddle Lite takes: the same in steps that one does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import product, reshape

__all__ = ["means_by_pooling", "split_reductions"]

_TYPES = ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod")


@dataclass(frozen=True)
class _Reduction:
    """What a reduction does: over which axes (sorted, from 0) of which shape."""

    type: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    keep_dim: bool

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_full(self) -> bool:
        return len(self.axes) == self.rank

    @property
    def runs(self) -> list[tuple[int, ...]]:
        """The axes in groups of neighbours."""
        found: list[tuple[int, ...]] = []
        for axis in self.axes:
            if found and found[-1][-1] == axis - 1:
                found[-1] += (axis,)
            else:
                found.append((axis,))
        return found

    @property
    def is_known_to_lite(self) -> bool:
        """Whether the kernels of ARM and x86 have it as it is: lite/kernels/arm/reduce_*_compute.cc
        know single axes and neighbouring pairs of 4-D, and fewer of lower ranks."""
        if self.type == "reduce_prod" and self.rank != 4:
            return False
        if self.rank > 4 or (self.is_full and self.rank > 1):
            return False
        if len(self.axes) == 1:
            return True
        return len(self.axes) == 2 and len(self.runs) == 1 and self.rank == 4


@rule(
    ops=_TYPES,
    because="lite/kernels/arm/reduce_*_compute.cc abort on axes that are not neighbours, on three "
    "of them and on axes out of order, and write past the end for rank 0 and ranks above 4; "
    "lite/kernels/x86/reduce_compute.h is silently wrong above 4",
)
def split_reductions(op: Op, site: Site) -> Iterator[str]:
    """A reduction that Lite has no kernel for -> several, between reshapes where its rank is too
    high; one over everything gives [1] and not a number without dimensions."""
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    shape = site.program.var(x).shape
    rank = len(shape)
    if not rank:
        return
    given = [] if op.get("reduce_all") else op.get("dim", [])
    axes = tuple(sorted({d % rank for d in given})) or tuple(range(rank))
    wanted = _Reduction(op.type, shape, axes, bool(op.get("keep_dim", False)))
    var = site.program.var(out)
    if not var.shape:
        var.shape = (1,)
        yield "its result is [1], not a number without dimensions"
    if wanted.is_known_to_lite:
        if op.get("dim") != list(axes) or op.get("reduce_all"):
            _over(op, axes)
            yield f"its axes are written as {list(axes)}"
        return
    steps = _steps(op, site, wanted, out)
    if steps is not None:
        site.replace(*steps)
        yield f"over {list(axes)} of rank {rank} in {sum(s.type == op.type for s in steps)} steps"


def _over(op: Op, axes: tuple[int, ...]) -> None:
    op.set("dim", list(axes))
    op.set("reduce_all", False)


def _steps(op: Op, site: Site, wanted: _Reduction, out: str) -> list[Op] | None:
    """The operators that compute it, or None where the dynamic shape does not allow it."""
    if wanted.rank <= 4 and not wanted.is_full and wanted.type != "reduce_prod":
        return _one_after_another(op, site, wanted, out)
    return _between_reshapes(op, site, wanted, out)


def _one_after_another(op: Op, site: Site, wanted: _Reduction, out: str) -> list[Op]:
    """Single axes and pairs, the last ones first; up to rank 4."""
    left, shape, x = list(wanted.axes), list(wanted.shape), op.inputs["X"][0]
    dtype, ops = site.program.var(out).dtype, []
    while left:
        pair = len(left) > 1 and left[-2] == left[-1] - 1 and len(shape) == 4
        axes = tuple(left[-2:] if pair else left[-1:])
        del left[-len(axes) :]
        for axis in reversed(axes):
            shape[axis : axis + 1] = [1] if wanted.keep_dim else []
        target = site.new_var(f"{out}.part", dtype, tuple(shape)) if left else out
        step = Op(op.type, {"X": [x]}, {"Out": [target]}, dict(op.attrs))
        _over(step, axes)
        ops.append(step)
        x = target
    return ops


def _between_reshapes(op: Op, site: Site, wanted: _Reduction, out: str) -> list[Op] | None:
    """Each group of neighbours, the last one first, as the middle axis of [before, over, after];
    a product wants a fourth axis."""
    result = list(site.program.var(out).shape)
    x, dtype, ops = op.inputs["X"][0], site.program.var(out).dtype, []
    shape = list(wanted.shape)
    for run in reversed(wanted.runs):
        over = slice(run[0], run[-1] + 1)
        flat = [product(shape[: run[0]]), product(shape[over]), product(shape[run[-1] + 1 :])]
        flat += [1] * (wanted.type == "reduce_prod")
        if flat.count(-1) > 1 or result.count(-1) > 1:
            return None
        shape[over] = [1] * len(run)
        flat_in = site.new_var(f"{out}.3d_in", dtype, tuple(flat))
        flat_out = site.new_var(f"{out}.3d_out", dtype, (flat[0], *flat[2:]))
        step = Op(op.type, {"X": [flat_in]}, {"Out": [flat_out]}, dict(op.attrs))
        _over(step, (1,))
        step.set("keep_dim", False)
        ops += [reshape(x, flat_in, flat), step]
        x = flat_out
    return [*ops, reshape(x, out, result)]


@rule(
    ops=("reduce_mean",),
    because="lite/backends/arm/math/reduce_mean.cc takes 10 instructions an element, and the "
    "global pooling 1",
)
def means_by_pooling(op: Op, site: Site) -> Iterator[str]:
    """The mean over the last two of four dimensions -> global pooling, and a reshape where these
    dimensions go."""
    chain = Chain(op, site)
    x = chain.var()
    if len(x.shape) != 4 or sorted(d % 4 for d in op.get("dim") or [0]) != [2, 3]:
        return
    if op.get("reduce_all") or x.dtype != "float32":
        return
    pooled = (*x.shape[:2], 1, 1)
    name = chain("pool2d", x.name, shape=pooled, pooling_type="avg", ksize=[1, 1], strides=[1, 1])
    pool = chain.ops[-1]
    for attribute, value in (
        ("paddings", [0, 0]), ("global_pooling", True), ("ceil_mode", False), ("adaptive", False),
        ("exclusive", True), ("data_format", "NCHW"), ("padding_algorithm", "EXPLICIT"),
    ):  # fmt: skip
        pool.set(attribute, value)
    if chain.out.shape != pooled:
        chain.reshape(name, (x.shape[0], x.shape[1]))
    chain.end()
    yield "became a global pooling"
