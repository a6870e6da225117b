"""Reshapes and transpositions, seen as what they are: one permutation of small axes.

Every reshape splits or joins axes. Where all axes of a path are split as finely as any of its
reshapes does, each reshape changes nothing and the transpositions multiply to one: the path is
then a reshape, a transposition and a reshape, or less. A split along an axis takes its part of one
small axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from lite_opt.model.program import Op, Program

__all__ = [
    "BATCH",
    "KINDS",
    "Path",
    "Shape",
    "follow",
    "joined",
    "numbers_by_dimension",
    "sized",
    "split",
]

KINDS = ("reshape2", "transpose2")
# What stands for the batch, which is dynamic, while axes are split: a prime that no axis has.
BATCH = 1_000_003

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """Where the elements of a tensor end up. `sizes` are those of its small axes, the dynamic one a
    multiple of a large prime; `order` are their numbers in the order of the end, and `ends` the
    same by dimension. Where a split took equal parts of an axis, `part` is the number of the axis
    that counts them, which is not in `order`; of unequal parts, of the axis they are parts of."""

    start: Shape
    end: Shape
    sizes: list[int]
    ends: list[list[int]]
    part: int | None = None

    @property
    def order(self) -> list[int]:
        """The small axes at the end."""
        return list(chain.from_iterable(self.ends))

    @property
    def equal(self) -> bool:
        """Whether a split of equal parts is on it."""
        return self.part is not None and self.part not in self.order

    def flipped(self) -> Path:
        """The same with the last two dimensions of the end transposed."""
        (*before, a, b), (*outer, rows, columns) = self.end, self.ends
        return replace(self, end=(*before, b, a), ends=[*outer, columns, rows])

    def backwards(self) -> Path | None:
        """From the start with its last two dimensions transposed, to the same end; None where the
        start cuts an axis."""
        groups = split(self.sizes, sized(self.start, math.prod(self.sizes)) or ())
        if groups is None or len(groups) < 2:
            return None
        numbers = numbers_by_dimension(groups)
        (*before, a, b), (*outer, rows, columns) = self.start, numbers
        old = [*chain.from_iterable(outer), *columns, *rows]
        new = {number: n for n, number in enumerate(old)}
        return replace(
            self,
            start=(*before, b, a),
            sizes=[self.sizes[n] for n in old],
            ends=[[new[n] for n in group] for group in self.ends],
        )

    def starting(self, shape: Shape) -> Path:
        """The same from another shape of as many elements."""
        return replace(self, start=shape)

    def ending(self, shape: Shape) -> Path | None:
        """The same to another shape of as many elements; None where that cuts an axis."""
        groups, rest = self.cuts(shape, self.order), iter(self.order)
        if groups is None:
            return None
        return replace(self, end=shape, ends=[[next(rest) for _ in group] for group in groups])

    def cuts(self, shape: Shape, order: list[int]) -> list[list[int]] | None:
        """The sizes of small axes in an order, by dimension of a shape; None where it cuts one."""
        sizes = [self.sizes[number] for number in order]
        return split(sizes, sized(shape, math.prod(sizes)) or ())

    def whole(self) -> Path | None:
        """The same of all parts of a split: the axis that counts them comes before the one that it
        came before. None where that one is not the first of a dimension."""
        assert self.part is not None
        if not self.equal:
            at = next(i for i, group in enumerate(self.ends) if self.part in group)
            end = [*self.end]
            end[at] = self.sizes[self.part]
            return replace(self, end=tuple(end)) if self.ends[at] == [self.part] else None
        for at, group in enumerate(self.ends):
            if group[:1] == [self.part + 1] and self.end[at] > 0:
                ends, end = [*self.ends], [*self.end]
                ends[at], end[at] = [self.part, *group], self.sizes[self.part] * end[at]
                return replace(self, end=tuple(end), ends=ends)
        return None

    def axis(self) -> int:
        """The dimension of the end of `whole` that a split takes the parts of."""
        return next(i for i, group in enumerate(self.ends) if self.part in group)

    def key(self) -> tuple[list[int], list[int]]:
        """Equal for paths that move elements alike, whatever the shapes at their ends."""
        order = self.order
        if self.equal and self.part is not None:
            after = self.part + 1
            order.insert(order.index(after) if after in order else len(order), self.part)
        return joined(self.sizes, order)


def sized(shape: Shape, elements: int) -> Shape | None:
    """A shape whose one dynamic dimension is written as a number; `elements` is how many there
    are in all."""
    known = math.prod(d for d in shape if d >= 0)
    if sum(d < 0 for d in shape) > 1 or known == 0 or elements % known:
        return None
    return tuple(elements // known if d < 0 else d for d in shape)


def _cuts(shape: Shape) -> set[int]:
    """Where a shape can be cut: products of its last dimensions."""
    cuts, product = {1}, 1
    for d in reversed(shape):
        product *= d
        cuts.add(product)
    return cuts


def split(axes: list[int], shape: Shape) -> list[list[int]] | None:
    """The small axes of each dimension of a shape, or None where a dimension cuts one."""
    groups, rest = [], list(axes)
    for d in shape:
        group, product = [], 1
        while product < d and rest:
            group.append(rest.pop(0))
            product *= group[-1]
        if product != d:
            return None
        groups.append(group)
    return None if any(a != 1 for a in rest) else groups


def numbers_by_dimension(groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """The numbers of small axes, which `split` grouped by dimension."""
    rest = iter(range(sum(map(len, groups))))
    return [[next(rest) for _ in group] for group in groups]


def _cut(axes: list[tuple[int, int]], shape: Shape) -> list[tuple[int, int]] | None:
    """Axes, each as (its number at the beginning, its size), split as finely as a shape wants; None
    where sizes have no common cut."""
    wanted = _cuts(shape)
    result: list[tuple[int, int]] = []
    product = 1
    for number, size in reversed(axes):
        inner = sorted(w for w in wanted if product < w < product * size)
        before, parts = product, []
        for w in [*inner, product * size]:
            if w % before:
                return None
            parts.append(w // before)
            before = w
        result += [(number, part) for part in parts]
        product *= size
    return result[::-1]


@dataclass
class _Walk:
    """Small axes on their way: `present` has the number and the size of each."""

    sizes: list[int]
    present: list[tuple[int, int]]
    part: int | None = None

    def groups(self, shape: Shape) -> list[list[tuple[int, int]]] | None:
        """The axes by dimension of a shape, which cuts none of them."""
        found = split([size for _, size in self.present], shape)
        if found is None:
            return None
        rest = iter(self.present)
        return [[next(rest) for _ in group] for group in found]

    def finer(self, shape: Shape) -> list[int] | None:
        """Sizes of the beginning of which a shape cuts none; [] where the present ones are such,
        and None where there are none."""
        cut = _cut(self.present, shape)
        if cut is None or len(cut) == len(self.present):
            return None if cut is None else []
        parts: dict[int, list[int]] = {}
        for number, size in cut:
            parts.setdefault(number, []).append(size)
        if len(parts.get(self.part if self.part is not None else -1, [])) > 1:
            return None  # its size is not that of the beginning
        return [
            part
            for number, size in enumerate(self.sizes)
            for part in (parts[number] if len(parts.get(number, [])) > 1 else [size])
        ]

    def take(self, shape: Shape, axis: int, size: int, *, equal: bool) -> bool:
        """Take one part along an axis, of a tensor of `shape`; False where it is not of whole
        axes."""
        groups = self.groups(shape)
        if groups is None or not groups[axis]:
            return False
        number, whole = groups[axis][0]
        if equal and whole * size == shape[axis]:
            self.present = [each for each in self.present if each[0] != number]
        elif not equal and len(groups[axis]) == 1 and size > 1:
            self.present = [(n, size if n == number else s) for n, s in self.present]
        else:
            return False
        self.part = number
        return True


def follow(program: Program, x: str, steps: Sequence[tuple[Op, str]]) -> Path | None:
    """The path of the elements of a variable through operators, each with the output of it that is
    followed: those of KINDS, and one split of a static axis. None where shapes are not known well
    enough, or have no common cut."""
    start, end = program.var(x).shape, program.var(steps[-1][1]).shape
    # Where a reshape follows another, only the last one's shape matters.
    steps = [
        each
        for each, after in zip(steps, [*steps[1:], None])
        if after is None or {each[0].type, after[0].type} != {"reshape2"}
    ]
    first = _numbered(program, start, steps)
    if first is None:
        return None
    sizes = [d for d in first if d != 1]
    for _ in range(8):  # splitting an axis late may cut one that moved before
        walk = _Walk(sizes, list(enumerate(sizes)))
        finer = _walked(program, walk, steps, first)
        if finer is None:
            return None
        if not finer:
            groups = walk.groups(sized(end, math.prod(s for _, s in walk.present)) or ())
            if groups is None:
                return None
            ends = [[number for number, _ in group] for group in groups]
            return Path(start, end, walk.sizes, ends, walk.part)
        sizes = finer
    return None


def _numbered(program: Program, start: Shape, steps: Sequence[tuple[Op, str]]) -> Shape | None:
    """The shape at the beginning with a number for its dynamic dimension, which is a multiple of
    what any later shape makes of it."""
    if sum(d < 0 for d in start) > 1 or 0 in start:
        return None
    first = math.prod(d for d in start if d > 0)
    known, batch = first, 1
    shape = start
    for op, out in steps:
        after = program.var(out).shape
        if op.type == "split":
            axis = op.get("axis", 0) % len(shape)
            if min(shape[axis], after[axis]) < 1:
                return None
            known = known * after[axis] // shape[axis]
        part = math.prod(d for d in after if d > 0)
        batch = math.lcm(batch, part // math.gcd(part, known))
        shape = after
    return sized(start, BATCH * batch * first)


def _walked(
    program: Program, walk: _Walk, steps: Sequence[tuple[Op, str]], shape: Shape
) -> list[int] | None:
    """Go all the way; the finer sizes to begin with again, [] at the end, None where there is no
    way."""
    for op, out in steps:
        if op.type == "transpose2":
            groups = walk.groups(shape)
            if groups is None:
                return None
            walk.present = [axis for i in op.get("axis") for axis in groups[i]]
            shape = tuple(shape[i] for i in op.get("axis"))
            continue
        count = math.prod(shape)
        wanted = program.var(out).shape
        if op.type == "split":
            axis = op.get("axis", 0) % len(shape)
            size, parts = wanted[axis], op.outputs["Out"]
            sections = {program.var(part).shape[axis] for part in parts}
            equal = len(sections) == 1
            parted = (*shape[:axis], len(parts), size, *shape[axis + 1 :]) if equal else shape
            if walk.part is not None or shape[axis] % BATCH == 0:
                return None
            if equal and size * len(parts) != shape[axis]:
                return None
        else:
            equal, parted = False, sized(wanted, count) or ()
            if math.prod(parted) != count:
                return None
        finer = walk.finer(parted)
        if finer or finer is None:
            return finer
        if op.type == "split":
            if not walk.take(shape, axis, size, equal=equal):
                return None
            shape = tuple(size if i == axis else d for i, d in enumerate(shape))
        else:
            shape = parted
    return []


def joined(sizes: list[int], order: list[int]) -> tuple[list[int], list[int]]:
    """The same with neighbours that stay neighbours as one axis."""
    runs: list[list[int]] = []
    for axis in order:
        if runs and runs[-1][-1] + 1 == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    by_start = sorted(runs, key=lambda run: run[0])
    numbers = {run[0]: n for n, run in enumerate(by_start)}
    return [math.prod(sizes[a] for a in run) for run in by_start], [numbers[r[0]] for r in runs]
