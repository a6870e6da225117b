"""What operators a path of elements comes to, and what they cost on ARM.

The same path can be gone with the axes of its start, with those of its end, or with as few as can
be: `moves` takes the cheapest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lite_opt.model.program import Op, Program
from lite_opt.passes.axes import BATCH, Path, joined, numbers_by_dimension, sized, split
from lite_opt.passes.shapes import MAX_RANK

__all__ = ["Moves", "cost", "elements", "moves", "work"]

# Instructions on a Cortex-A72, of kernels under QEMU: an element by the loop over all axes of
# lite/kernels/arm/transpose_compute.cc, by its way for a matrix (which takes four by four), and by
# split; and what one operator less is worth, whatever it does.
_LOOP, _MATRIX, _COPY, _OPERATOR = 10.0, 1.5, 0.5, 115_000.0

Moves = list[tuple[str, list[int]]]  # reshape2 or transpose2, each with its shape or order of axes


def _is_matrix(order: Sequence[int]) -> bool:
    """Whether the kernel takes an order of axes for the transposition of matrices: one axis goes
    behind all that follow it."""
    behind, expected = 0, 0
    for axis in range(len(order)):
        if order[expected] == axis:
            expected += 1
        else:
            behind += 1
    return behind == 1


def cost(kind: str, elements: float, order: Sequence[int] = ()) -> float:
    """About how many instructions an operator takes that moves so many elements."""
    if kind == "transpose2" and list(order) != sorted(order):
        return _OPERATOR + (_MATRIX if _is_matrix(order) else _LOOP) * elements
    return _OPERATOR + (_COPY * elements if kind == "split" else 0.0)


def work(ops: Sequence[Op], elements: float) -> float:
    """About how many instructions operators take that each move so many elements."""
    return sum(cost(op.type, elements, op.get("axis") or ()) for op in ops)


def elements(program: Program, name: str) -> int:
    """How many elements a variable has, a dynamic dimension counted as 1."""
    return math.prod(max(d, 1) for d in program.var(name).shape)


def _plans(path: Path) -> list[Moves]:
    """Ways to go: with the axes of the start, with those of the end, and with as few as can be."""
    start, end, sizes, order = list(path.start), list(path.end), path.sizes, path.order
    if order == sorted(order):
        return [[] if start == end else [("reshape2", end)]]
    plans: list[Moves] = []
    whole = _of_the_start(start, sizes, order)
    if whole is not None and len(start) <= MAX_RANK:
        moved = [start[i] for i in whole]
        plans.append([("transpose2", whole), *([("reshape2", end)] if moved != end else [])])
    into = _of_the_end(path)
    if into is not None and len(end) <= MAX_RANK:
        plans.append(into)
    sizes, order = joined(sizes, order)
    if _is_shuffle(start, end, sizes, order):
        parts = [start[0], sizes[1], sizes[2], *start[2:]]
        return [[("reshape2", parts), ("transpose2", [0, 2, 1, 3, 4]), ("reshape2", end)]]
    if len(sizes) <= MAX_RANK:
        between = [-1 if size % BATCH == 0 else size for size in sizes]
        made: Moves = [] if start == between else [("reshape2", between)]
        made.append(("transpose2", order))
        plans.append([*made, *([("reshape2", end)] if [between[i] for i in order] != end else [])])
    return plans


def moves(path: Path, count: float) -> tuple[float, Moves] | None:
    """What a path of so many elements comes to: the cheapest operators, and what they take; None
    where there are too many axes."""

    def price(plan: Moves) -> float:
        return sum(cost(kind, count, numbers if kind == "transpose2" else ())
                   for kind, numbers in plan)  # fmt: skip

    found = [(price(plan), plan) for plan in _plans(path)]
    return min(found, key=lambda each: each[0], default=None)


def _is_shuffle(start: list[int], end: list[int], sizes: list[int], order: list[int]) -> bool:
    """Whether channels of [N,C,H,W] are shuffled: shuffle_channel_fuser.cc knows that in 5-D."""
    if start != end or len(start) != 4 or order[:3] != [0, 2, 1] or len(sizes) > 4:
        return False
    of_batch = sizes[0] % BATCH == 0 if start[0] < 0 else sizes[0] == start[0]
    return of_batch and sizes[1] * sizes[2] == start[1]


def _of_the_start(start: list[int], sizes: list[int], order: list[int]) -> list[int] | None:
    """The order of small axes as one of the dimensions that a chain begins with, those of one
    element in their places; None where it takes a dimension apart."""
    total = math.prod(sizes)
    groups = split(sizes, sized(tuple(start), total) or ())
    if groups is None:
        return None
    numbers = numbers_by_dimension(groups)
    moved, rest = [], list(order)
    while rest:
        axis = next((i for i, group in enumerate(numbers) if group[:1] == rest[:1]), None)
        if axis is None or rest[: len(numbers[axis])] != numbers[axis]:
            return None
        rest = rest[len(numbers[axis]) :]
        moved.append(axis)
    real = iter(moved)
    return [next(real) if numbers[i] else i for i in range(len(start))]


def _of_the_end(path: Path) -> Moves | None:
    """A reshape to the dimensions of the end in the order of the start, and a transposition; None
    where a dimension of the end is of axes that are no neighbours at the start."""
    if any(group != list(range(group[0], group[0] + len(group))) for group in path.ends if group):
        return None
    first = [group[0] if group else -1 for group in path.ends]
    filled = [  # a dimension of one element stays behind the one before it
        next((f for f in reversed(first[: i + 1]) if f >= 0), -1) for i in range(len(first))
    ]
    by_start = sorted(range(len(first)), key=lambda i: (filled[i], i))
    between = [path.end[i] for i in by_start]
    order = [by_start.index(i) for i in range(len(first))]
    made: Moves = [] if between == list(path.start) else [("reshape2", between)]
    return [*made, ("transpose2", order)]
