"""Chains of reshapes and transpositions, seen as what they are: one permutation of small axes.

Every reshape splits or joins axes. Where all axes of a chain are split as finely as any of its
reshapes does, each reshape changes nothing and the transpositions multiply to one: the chain is
then a reshape, a transposition and a reshape, or less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lite_opt.model.program import Op, Program
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from lite_opt.passes.shapes import MAX_RANK

__all__ = ["join_rearrangements"]

_KINDS = ("reshape2", "transpose2")
# What stands for the batch, which is dynamic, while axes are split: a prime that no axis has.
_BATCH = 1_000_003

Shape = tuple[int, ...]


def _sized(shape: Shape, elements: int) -> Shape | None:
    """A shape whose one dynamic dimension is written as a number; `elements` is how many there
    are in all."""
    known = math.prod(d for d in shape if d >= 0)
    if sum(d < 0 for d in shape) > 1 or known == 0 or elements % known:
        return None
    return tuple(elements // known if d < 0 else d for d in shape)


def _steps(shape: Shape) -> set[int]:
    """Where a shape can be cut: products of its last dimensions."""
    cuts, product = {1}, 1
    for d in reversed(shape):
        product *= d
        cuts.add(product)
    return cuts


def _split(axes: list[int], shape: Shape) -> list[list[int]] | None:
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


@dataclass
class _Axes:
    """Small axes in their present order, each as (its number at the beginning, its size)."""

    order: list[tuple[int, int]]

    def cut(self, shape: Shape) -> bool:
        """Split axes as finely as a shape wants; False where sizes have no common cut."""
        wanted = _steps(shape)
        result: list[tuple[int, int]] = []
        product = 1
        for axis in reversed(self.order):
            number, size = axis
            inner = sorted(w for w in wanted if product < w < product * size)
            before, parts = product, []
            for w in [*inner, product * size]:
                if w % before:
                    return False
                parts.append(w // before)
                before = w
            result += [(number, part) for part in parts]
            product *= size
        self.order = result[::-1]
        return True


def _chain(site: Site, op: Op) -> list[Op]:
    """The reshapes and transpositions that end with an operator, the first one first."""
    chain = [op]
    while True:
        before = site.producers.get(chain[0].inputs["X"][0])
        if before is None or before.type not in _KINDS or set(before.inputs) != {"X"}:
            return chain
        if not site.changing.isdisjoint((*before.reads, *before.writes)):
            return chain
        chain.insert(0, before)


def _small(program: Program, chain: list[Op], x: str) -> tuple[list[int], list[int]] | None:
    """Sizes of the small axes of what a chain begins with, `x`, and their order at its end."""
    start = program.var(x).shape
    if sum(d < 0 for d in start) > 1 or 0 in start:
        return None
    ends = [program.var(op.outputs["Out"][0]).shape for op in chain]
    # The dynamic dimension is a multiple of what any of the shapes makes of it: a part is one.
    known = math.prod(d for d in start if d > 0)
    parts = [math.prod(d for d in end if d > 0) for end in ends]
    batch = _BATCH * math.lcm(*(part // math.gcd(part, known) for part in parts))
    first = tuple(batch if d < 0 else d for d in start)
    elements = math.prod(first)
    shapes = [_sized(end, elements) for end in ends]
    if any(s is None or math.prod(s) != elements for s in shapes):
        return None
    if all(op.type == "reshape2" for op in chain):
        return [elements], [0]  # wherever they cut
    # Splitting an axis late may cut one that moved before: until nothing is cut any more.
    sizes = [d for d in first if d != 1]
    for _ in range(8):
        axes, again = list(enumerate(sizes)), False
        present = axes
        for op, shape in zip(chain, shapes):
            assert shape is not None
            if op.type == "transpose2":
                before = _sized(program.var(op.inputs["X"][0]).shape, elements)
                groups = None if before is None else _split([s for _, s in present], before)
                if groups is None:
                    return None
                rest = iter(present)
                moved = [[next(rest) for _ in group] for group in groups]
                present = [axis for i in op.get("axis") for axis in moved[i]]
                continue
            cut = _Axes(present)
            if not cut.cut(shape):
                return None
            if len(cut.order) != len(present):
                finer: dict[int, list[int]] = {}
                for number, size in cut.order:
                    finer.setdefault(number, []).append(size)
                sizes = [s for number, size in axes for s in finer.get(number, [size])]
                again = True
                break
            present = cut.order
        if not again:
            return sizes, [number for number, _ in present]
    return None


def _joined(sizes: list[int], order: list[int]) -> tuple[list[int], list[int]]:
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


def _cost(types: list[str]) -> tuple[int, int]:
    return types.count("transpose2"), len(types)


@rule(
    ops=_KINDS,
    because="Lite moves the elements at each of them, and joins none",
)
def join_rearrangements(op: Op, site: Site) -> Iterator[str]:
    """A chain of reshapes and transpositions -> at most a reshape, a transposition, a reshape."""
    program = site.program
    if set(op.inputs) != {"X"}:
        return
    chain = _chain(site, op)
    while len(chain) > 1:
        # What others read, too, is computed anyway: only what is ours alone is saved.
        own = [op]
        for before in reversed(chain[:-1]):
            if len(site.readers(before)) > 1:
                break
            own.append(before)
        # Where a reshape follows another, only the last one's shape matters.
        pairs = zip(chain, [*chain[1:], None])
        found = _small(
            program,
            [a for a, b in pairs if b is None or {a.type, b.type} != {"reshape2"}],
            chain[0].inputs["X"][0],
        )
        if found is not None:
            made = _short(program, chain, *found)
            if made is not None and _cost([kind for kind, _ in made]) < _cost(
                [each.type for each in own]
            ):
                _replace(op, site, chain, made)
                names = " ".join(kind for kind, _ in made) or "nothing"
                yield f"{' '.join(each.type for each in chain)} became {names}"
                return
        chain = chain[1:]


def _short(
    program: Program, chain: list[Op], sizes: list[int], order: list[int]
) -> list[tuple[str, list[int]]] | None:
    """What a chain does, as operators with the shape or the order of axes that each is given."""
    start = list(program.var(chain[0].inputs["X"][0]).shape)
    end = list(program.var(chain[-1].outputs["Out"][0]).shape)
    if order == sorted(order):
        return [] if start == end else [("reshape2", end)]
    whole = _of_the_start(start, sizes, order)
    if whole is not None and [start[i] for i in whole] == end:
        return [("transpose2", whole)]
    sizes, order = _joined(sizes, order)
    if _is_shuffle(start, end, sizes, order):
        parts = [start[0], sizes[1], sizes[2], *start[2:]]
        return [("reshape2", parts), ("transpose2", [0, 2, 1, 3, 4]), ("reshape2", end)]
    if len(sizes) > MAX_RANK:
        return None
    between = [-1 if size % _BATCH == 0 else size for size in sizes]
    made: list[tuple[str, list[int]]] = []
    if start != between:
        made.append(("reshape2", between))
    made.append(("transpose2", order))
    if [between[i] for i in order] != end:
        made.append(("reshape2", end))
    return made


def _is_shuffle(start: list[int], end: list[int], sizes: list[int], order: list[int]) -> bool:
    """Whether channels of [N,C,H,W] are shuffled: shuffle_channel_fuser.cc knows that in 5-D."""
    if start != end or len(start) != 4 or order[:3] != [0, 2, 1] or len(sizes) > 4:
        return False
    of_batch = sizes[0] % _BATCH == 0 if start[0] < 0 else sizes[0] == start[0]
    return of_batch and sizes[1] * sizes[2] == start[1]


def _of_the_start(start: list[int], sizes: list[int], order: list[int]) -> list[int] | None:
    """The order of small axes as one of the dimensions that a chain begins with, those of one
    element in their places; None where it takes a dimension apart."""
    total = math.prod(sizes)
    groups = _split(sizes, _sized(tuple(start), total) or ())
    if groups is None:
        return None
    numbers, first = [], 0
    for group in groups:
        numbers.append(list(range(first, first + len(group))))
        first += len(group)
    moved, rest = [], list(order)
    while rest:
        axis = next((i for i, group in enumerate(numbers) if group[:1] == rest[:1]), None)
        if axis is None or rest[: len(numbers[axis])] != numbers[axis]:
            return None
        rest = rest[len(numbers[axis]) :]
        moved.append(axis)
    real = iter(moved)
    return [next(real) if numbers[i] else i for i in range(len(start))]


def _replace(op: Op, site: Site, chain: list[Op], made: list[tuple[str, list[int]]]) -> None:
    x = chain[0].inputs["X"][0]
    steps = Chain(op, site)
    for kind, numbers in made:
        again = kind == "reshape2"
        x = steps.reshape(x, tuple(numbers)) if again else steps.transpose(x, numbers)
    if not made:
        steps.reshape(x, steps.out.shape)
    steps.end()
