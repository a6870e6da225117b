"""Chains of reshapes and transpositions."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.axes import KINDS, follow
from lite_opt.passes.chain import Chain
from lite_opt.passes.moves import Moves, elements, moves, work
from lite_opt.passes.rule import Site, rule

__all__ = [
    "chain_after",
    "chain_of",
    "join_rearrangements",
    "only_reader",
    "own_of",
    "put",
    "weight",
]


def chain_of(site: Site, op: Op) -> list[Op]:
    """The reshapes and transpositions that end with an operator, the first one first."""
    chain = [op]
    while True:
        before = site.producers.get(chain[0].inputs["X"][0])
        if before is None or before.type not in KINDS or set(before.inputs) != {"X"}:
            return chain
        if not site.changing.isdisjoint((*before.reads, *before.writes)):
            return chain
        chain.insert(0, before)


def only_reader(site: Site, name: str) -> Op | None:
    """The operator that alone reads a variable."""
    readers = site.consumers.get(name, [])
    return readers[0] if len(readers) == 1 and name not in site.changing else None


def chain_after(site: Site, name: str) -> list[Op]:
    """The reshapes and transpositions that a variable alone goes through."""
    chain: list[Op] = []
    while True:
        reader = only_reader(site, name)
        if reader is None or reader.type not in KINDS or set(reader.inputs) != {"X"}:
            return chain
        chain.append(reader)
        name = reader.layer


def weight(program: Program, chain: list[Op]) -> int:
    """By how many elements a chain is weighed, whichever part of it is looked at: where counts
    differ, as they do where the batch holds windows, rules would undo each other."""
    return elements(program, chain[0].inputs["X"][0])


def own_of(site: Site, chain: list[Op]) -> list[Op]:
    """The end of a chain that nobody else reads: what is saved where it is replaced."""
    own = chain[-1:]
    for before in reversed(chain[:-1]):
        if len(site.readers(before)) > 1:
            break
        own.append(before)
    return own


def put(steps: Chain, x: str, plan: Moves) -> str:
    """Add the operators of a plan to a chain; the name of the last one's output."""
    for kind, numbers in plan:
        again = kind == "reshape2"
        x = steps.reshape(x, tuple(numbers)) if again else steps.transpose(x, numbers)
    return x


@rule(
    ops=KINDS,
    because="Lite moves the elements at each of them, and joins none; its kernel for matrices "
    "takes 1.5 instructions an element, that for other orders of axes 10",
)
def join_rearrangements(op: Op, site: Site) -> Iterator[str]:
    """A chain of reshapes and transpositions -> at most a reshape, a transposition, a reshape."""
    program = site.program
    if set(op.inputs) != {"X"}:
        return
    chain = chain_of(site, op)
    count = weight(program, chain)
    while chain:
        # What others read, too, is computed anyway: only what is ours alone is saved.
        own = own_of(site, chain)
        x = chain[0].inputs["X"][0]
        plan = _plan(program, x, chain, count)
        if plan is not None and plan[0] < work(own, count) - 1:
            steps = Chain(op, site)
            put(steps, x, plan[1] or [("reshape2", list(steps.out.shape))])
            steps.end()
            names = " ".join(kind for kind, _ in plan[1]) or "nothing"
            yield f"{' '.join(each.type for each in chain)} became {names}"
            return
        chain = chain[1:]


def _plan(program: Program, x: str, chain: list[Op], count: float) -> tuple[float, Moves] | None:
    """What a chain comes to: what it takes, and the operators; None where that is not known."""
    start, end = program.var(x).shape, program.var(chain[-1].layer).shape
    if all(op.type == "reshape2" for op in chain):
        if max(start.count(-1), end.count(-1)) > 1:
            return None
        plan: Moves = [] if start == end else [("reshape2", list(end))]
        return work(chain[: len(plan)], 0), plan
    path = follow(program, x, [(op, op.layer) for op in chain])
    return None if path is None else moves(path, count)
