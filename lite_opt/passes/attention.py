"""Attention: how queries, keys and values come to their products.

matmul_v2 takes its operands transposed as well as not, so what lies before it or behind it can be
moved in either of two orders; and what a split parts can be moved before it, all parts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.axes import KINDS, Path, follow
from lite_opt.passes.chain import Chain
from lite_opt.passes.moves import Moves, cost, elements, moves, work
from lite_opt.passes.rearrange import chain_after, chain_of, only_reader, own_of, put, weight
from lite_opt.passes.rule import Site, place, program_rule

__all__ = ["flip_operands", "flip_products", "layers_apart", "move_before_split"]

_FLAGS = {"X": "trans_x", "Y": "trans_y"}
# A change has to save more than numbers are rounded by.
_GAIN = 1.0


def _each(program: Program, types: Collection[str]) -> Iterator[tuple[Op, Site]]:
    """Operators of some types, each with the program as it is by then."""
    present = program.ops
    site, ids = Site(program, program.blocks[0]), {id(op) for op in present}
    for op in list(present):
        if program.ops is not present:
            present = program.ops
            site, ids = Site(program, program.blocks[0]), {id(other) for other in present}
        if op.type in types and id(op) in ids:
            yield op, site


def _replace(program: Program, instead: dict[int, list[Op]]) -> None:
    program.blocks[0].ops = [new for op in program.ops for new in instead.get(id(op), [op])]


def _is_flippable(site: Site, name: str) -> bool:
    """Whether only products of matrices read a variable."""
    readers = site.consumers.get(name, [])
    return bool(readers) and all(
        op.type == "matmul_v2" and min(len(site.program.var(n).shape) for n in op.reads) > 1
        for op in readers
    )


def _flip_readers(site: Site, name: str, to: str) -> None:
    """Have products read `to`, which is `name` transposed."""
    for op in site.consumers[name]:
        for slot, flag in _FLAGS.items():
            if op.inputs[slot] == [name]:
                op.inputs[slot] = [to]
                op.set(flag, not op.get(flag, False))


def _along(ops: list[Op]) -> list[tuple[Op, str]]:
    return [(op, op.layer) for op in ops]


@dataclass
class _Flip:
    """A tensor that would come transposed: what that saves, and what to put in whose place."""

    gain: float
    apply: Callable[[], str]  # gives the name of the transposed tensor


def _flip_chain(site: Site, op: Op) -> _Flip | None:
    """The end of a chain of reshapes and transpositions, with its last two dimensions transposed;
    None where nothing else would be cheaper."""
    program, found = site.program, None
    chain = chain_of(site, op)
    count = weight(program, chain)
    while chain:
        x, own = chain[0].inputs["X"][0], own_of(site, chain)
        path = follow(program, x, _along(chain))
        if path is not None and len(path.end) > 1:
            flipped = path.flipped()
            plan = moves(flipped, count)
            gain = -1.0 if plan is None else work(own, count) - plan[0]
            if plan is not None and (found is None or gain > found.gain):
                found = _Flip(gain, _putter(site, op, x, flipped, plan[1]))
        chain = chain[1:]
    return found


def _putter(site: Site, op: Op, x: str, path: Path, plan: Moves) -> Callable[[], str]:
    def apply() -> str:
        steps = Chain(op, site)
        out = put(steps, x, plan)
        site.program.var(out).shape = path.end
        _replace(site.program, {id(op): steps.ops})
        return out

    return apply


@program_rule(
    because="matmul_v2 reads an operand by columns as cheaply as by rows, and the kernel that "
    "transposes matrices is the fastest of those that move elements"
)
def flip_operands(program: Program) -> Iterator[tuple[str, str]]:
    """What only products of matrices read -> the same transposed, where it comes cheaper so, and
    the flags of the products."""
    for op, site in _each(program, KINDS):
        if set(op.inputs) != {"X"} or not _is_flippable(site, op.layer):
            continue
        flip = _flip_chain(site, op)
        if flip is not None and flip.gain > _GAIN:
            out, name = op.layer, flip.apply()
            _flip_readers(site, out, name)
            yield place(op), "comes transposed"


def _flip_product(site: Site, op: Op) -> _Flip | None:
    """A product of stacks of matrices as the product of the transposed."""
    x, y = (site.program.var(op.inputs[slot][0]).shape for slot in _FLAGS)
    if len(x) != len(y) or len(x) < 2:
        return None

    def apply() -> str:
        flags = {slot: not op.get(flag, False) for slot, flag in _FLAGS.items()}
        op.inputs = {"X": op.inputs["Y"], "Y": op.inputs["X"]}
        op.set(_FLAGS["X"], flags["Y"])
        op.set(_FLAGS["Y"], flags["X"])
        var = site.program.var(op.layer)
        var.shape = (*var.shape[:-2], var.shape[-1], var.shape[-2])
        return op.layer

    return _Flip(0.0, apply)


def _flip_summand(site: Site, name: str) -> _Flip | None:
    """What is added to a product, transposed."""
    op = site.producers.get(name)
    if op is None or only_reader(site, name) is None:
        return None
    if op.type == "matmul_v2":
        return _flip_product(site, op)
    return _flip_chain(site, op) if op.type in KINDS and set(op.inputs) == {"X"} else None


@program_rule(because="a product of matrices comes transposed for nothing, as that of the others")
def flip_products(program: Program) -> Iterator[tuple[str, str]]:
    """A product of matrices that is transposed afterwards, or added to what is, -> the product of
    the transposed in the other order."""
    for op, site in _each(program, ("matmul_v2",)):
        product = _flip_product(site, op)
        if product is None:
            continue
        flips, sums, name = [product], [], op.layer
        while (reader := only_reader(site, name)) and reader.type == "elementwise_add":
            others = [n for n in reader.reads if n != name]
            shapes = {program.var(n).shape for n in (*reader.reads, reader.layer)}
            other = _flip_summand(site, others[0]) if len(others) == len(shapes) == 1 else None
            if other is None:
                break
            flips.append(other)
            sums.append((reader, others[0]))
            name = reader.layer
        chain = chain_after(site, name)
        path = follow(program, name, _along(chain)) if chain else None
        back = path and path.backwards()
        count = weight(program, chain) if chain else 0
        plan = back and moves(back, count)
        if not back or not plan:
            continue
        gain = work(chain, count) - plan[0] + sum(flip.gain for flip in flips)
        if gain <= _GAIN or program.var(name).shape[-2:].count(-1):
            continue
        flips[0].apply()
        for flip, (add, other_name) in zip(flips[1:], sums):
            add.rename_inputs({other_name: flip.apply()})
            program.var(add.layer).shape = program.var(add.reads[0]).shape
        steps = Chain(chain[-1], site)
        put(steps, name, plan[1] or [("reshape2", list(back.end))])
        steps.end()
        gone: dict[int, list[Op]] = {id(each): [] for each in chain}
        _replace(program, {**gone, id(chain[-1]): steps.ops})
        yield place(op), "is computed transposed"


@dataclass
class _Part:
    """A part of a split: its name, where its elements end up, and what that would be transposed,
    where only products read it."""

    name: str
    chain: list[Op]
    path: Path
    is_flippable: bool

    @property
    def end(self) -> str:
        return self.chain[-1].layer if self.chain else self.name

    def options(self) -> list[Path]:
        return [self.path, self.path.flipped()] if self.is_flippable else [self.path]

    def like(self, key: tuple[list[int], list[int]]) -> Path | None:
        """The path by which its elements move in a certain way."""
        return next((path for path in self.options() if path.key() == key), None)


def _parts(site: Site, above: list[Op], split: Op) -> list[_Part]:
    """The parts of a split, with the chains behind them; none where one is not known well
    enough."""
    start = (above[0] if above else split).inputs["X"][0]
    found = []
    for name in split.outputs["Out"]:
        chain = chain_after(site, name)
        end = chain[-1].layer if chain else name
        steps = [*_along(above), (split, name), *_along(chain)]
        path = follow(site.program, start, steps)
        readers = site.consumers.get(end, [])
        if path is None or not readers or any(op.type == "fetch" for op in readers):
            return []
        if not site.changing.isdisjoint((start, name, end)) or len(path.end) < 2:
            return []
        found.append(_Part(name, chain, path, _is_flippable(site, end)))
    return found


def _chain_before(site: Site, op: Op) -> list[Op]:
    """The reshapes and transpositions whose result is for one operator alone."""
    before = site.producers.get(op.inputs["X"][0])
    if before is None or before.type not in KINDS or set(before.inputs) != {"X"}:
        return []
    chain = chain_of(site, before)
    own = own_of(site, chain) if len(site.readers(before)) == 1 else []
    return own[::-1]


def _together(parts: list[_Part], count: float) -> tuple[float, Moves, Path, list[Path]] | None:
    """One way for all parts of a split that comes cheapest: what it takes, its operators, the path
    of all and the path of each."""
    best = None
    for option in (path for part in parts for path in part.options()):
        each = [part.like(option.key()) for part in parts]
        whole = option.whole()
        plan = moves(whole, count) if whole is not None else None
        if whole is None or plan is None or None in each:
            continue
        paths = [path for path in each if path is not None]
        more = sum(cost("reshape2", 0) for path in paths if path.end != option.end)
        if best is None or plan[0] + more < best[0]:
            best = plan[0] + more, plan[1], whole, paths
    return best


@program_rule(because="one rearrangement of all moves as many elements as one for each part does")
def move_before_split(program: Program) -> Iterator[tuple[str, str]]:
    """A split whose parts are rearranged alike, as queries, keys and values are, perhaps some of
    them transposed for a product -> one rearrangement, and a split of its result."""
    for split, site in _each(program, ("split",)):
        if set(split.inputs) != {"X"}:
            continue
        above = _chain_before(site, split)
        parts = _parts(site, above, split)
        x = (above[0] if above else split).inputs["X"][0]
        count = elements(program, x)
        found = _together(parts, count) if len(parts) > 1 else None
        if found is None:
            continue
        price, plan, whole, paths = found
        old = [*above, split, *(op for part in parts for op in part.chain)]
        present = work([*above, split], count) + sum(
            work(part.chain, count / len(parts)) for part in parts
        )
        if price + cost("split", count) >= present - _GAIN:
            continue
        gone: dict[int, list[Op]] = {id(op): [] for op in old}
        made = _moved(site, split, x, plan, whole, parts, paths)
        _replace(program, {**gone, id(split): made})
        yield place(split), f"{len(old)} operators became {len(plan) + 1}"


def _moved(
    site: Site, split: Op, x: str, plan: Moves, whole: Path, parts: list[_Part], paths: list[Path]
) -> list[Op]:
    """The rearrangement and the split, with the readers of the parts on what they give."""
    program, axis = site.program, whole.axis()
    steps = Chain(split, site)
    made = Op("split", {"X": [put(steps, x, plan)]}, {"Out": []})
    reshapes: list[Op] = []
    sections = []
    for part, path in zip(parts, paths):
        taken = program.var(part.name).shape[split.get("axis", 0)]
        size = whole.end[axis] // len(parts) if path.equal else taken
        shape = tuple(size if i == axis else d for i, d in enumerate(whole.end))
        name = site.new_var(f"{part.end}.part", program.var(part.end).dtype, shape)
        made.outputs["Out"].append(name)
        sections.append(size)
        if path.end != shape:
            step = Chain(split, site)
            name = step.reshape(name, path.end)
            reshapes += step.ops
        if path is part.path:
            for op in site.consumers[part.end]:
                op.rename_inputs({part.end: name})
        else:
            _flip_readers(site, part.end, name)
    for attr, value in (("axis", axis), ("num", 0), ("sections", sections)):
        made.set(attr, value)
    return [*steps.ops, made, *reshapes]


@program_rule(
    because="parts that go the same way can be moved together only where they lie together"
)
def layers_apart(program: Program) -> Iterator[tuple[str, str]]:
    """A linear layer whose result is split into parts that are rearranged in different ways -> one
    layer for each way."""
    for split, site in _each(program, ("split",)):
        layer = _layer(site, split)
        parts = _parts(site, [], split) if layer else []
        ways = _ways(parts)
        if len(ways) < 2 or any(len(way) < 2 or _together(way, 1) is None for way in ways):
            continue
        assert layer is not None
        made = [op for way in ways for op in _layer_of(site, layer, split, way)]
        _replace(program, {**{id(op): [] for op in layer}, id(split): made})
        yield place(split), f"its layer became {len(ways)}"


def _ways(parts: list[_Part]) -> list[list[_Part]]:
    """Parts by how they are moved; those that stay in place are no way."""
    ways: list[list[_Part]] = []
    rest = [part for part in parts if part.chain]
    if len(rest) < len(parts):
        return []
    while rest:
        way = max(
            ([p for p in rest if p.like(option.key())] for option in rest[0].options()), key=len
        )
        ways.append(way)
        rest = [part for part in rest if part not in way]
    return ways


def _layer(site: Site, split: Op) -> list[Op] | None:
    """The product and the sum with a bias that a split alone takes apart by columns."""
    if set(split.inputs) != {"X"}:
        return None
    params, x = site.program.params, split.inputs["X"][0]
    add = site.producers.get(x)
    made = site.producers.get(add.inputs["X"][0]) if add and add.type == "elementwise_add" else None
    rank = len(site.program.var(x).shape)
    if add is None or made is None or made.type != "mul":
        return None
    if made.get("x_num_col_dims") != rank - 1 or split.get("axis", 0) not in (-1, rank - 1):
        return None
    if only_reader(site, x) is None or only_reader(site, made.layer) is None:
        return None
    weight, bias = (params.get(op.inputs["Y"][0]) for op in (made, add))
    width = site.program.var(x).shape[-1]
    if weight is None or bias is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    return [made, add] if bias.shape == (width,) == weight.shape[1:] else None


def _layer_of(site: Site, layer: list[Op], split: Op, way: list[_Part]) -> list[Op]:
    """The layer that makes some of the parts, and the split of these."""
    program = site.program
    names = split.outputs["Out"]
    sizes = [program.var(name).shape[-1] for name in names]
    starts = dict(zip(names, np.cumsum([0, *sizes])))
    sections = [program.var(part.name).shape[-1] for part in way]
    columns = np.concatenate(
        [np.arange(size) + starts[part.name] for part, size in zip(way, sections)]
    )
    made, x = [], layer[0].inputs["X"]
    for op in layer:
        value = program.params[op.inputs["Y"][0]]
        name = program.new_name(f"{op.inputs['Y'][0]}.way")
        program.set_param(name, np.ascontiguousarray(value[..., columns]))
        out = program.var(op.layer)
        new = site.new_var(f"{out.name}.way", out.dtype, (*out.shape[:-1], len(columns)))
        made.append(Op(op.type, {"X": x, "Y": [name]}, {"Out": [new]}, dict(op.attrs)))
        x = [new]
    last = Op("split", {"X": x}, {"Out": [part.name for part in way]})
    for attr, given in (("axis", split.get("axis")), ("num", 0), ("sections", sections)):
        last.set(attr, given)
    return [*made, last]
