"""What a rule is: one edit of a program, made in place and told change by change.

A rule changes no number that the program computes, and finds nothing to do on its own result.
Which rules there are, and their order, is in repair.py. What Paddle Lite does is read in its
sources (tag v2.13-rc); `because` names the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lite_opt.model.program import Block, Op, Program, Var
from py_runner.errors import ModelError

__all__ = ["Change", "Rule", "Site", "place", "program_rule", "rewritten", "rule", "until_settled"]


# More than any network needs: rules that undo each other would go on for ever.
_ROUNDS = 20


@dataclass(frozen=True)
class Change:
    """What a rule did: the rule's name, the operator ("conv2d 'relu_0.tmp_0'"), and the edit."""

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Rule:
    """A function `rule(program) -> changes`; `what` is what it does, `because` why Paddle Lite
    needs it."""

    name: str
    what: str
    because: str
    _edit: Callable[[Program], Iterator[Change]]

    def __call__(self, program: Program) -> list[Change]:
        return list(self._edit(program))


@dataclass
class Site:
    """Where a rule works: a block of a program, during one walk over its operators."""

    program: Program
    block: Block
    # For rules that make one thing for several operators: what they made, by what it is made of.
    made: dict[str, str] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)  # what will stand in place of the operator at hand

    @cached_property
    def producers(self) -> dict[str, Op]:
        """`Program.producers`, as it was when first asked for."""
        return self.program.producers()

    @cached_property
    def consumers(self) -> dict[str, list[Op]]:
        """`Program.consumers`, as it was when first asked for."""
        return self.program.consumers()

    @cached_property
    def changing(self) -> set[str]:
        """`rewritten`, as it was when first asked for."""
        return rewritten(self.program)

    def readers(self, op: Op) -> list[Op]:
        """The operators that read any output of one."""
        return [
            user
            for names in op.outputs.values()
            for name in names
            for user in self.consumers.get(name, [])
        ]

    def replace(self, *ops: Op) -> None:
        """Put these operators in the place of the one at hand, which may be among them."""
        self.ops[:] = ops

    def new_var(self, stem: str, dtype: str, shape: tuple[int, ...]) -> str:
        """Add a variable to the block; returns its name."""
        name = self.program.new_name(stem)
        self.block.vars[name] = Var(name, dtype, shape)
        return name


def rewritten(program: Program) -> set[str]:
    """Variables that change: written by a loop or branch, or more than once."""
    written = [n for op in program.ops for n in op.writes]
    bodies = (op for block in program.blocks[1:] for op in block.ops)
    inner = {n for op in bodies for n in op.writes}
    return inner | {name for name, count in Counter(written).items() if count > 1}


def place(op: Op) -> str:
    """An operator as a Change names it."""
    return f"{op.type} '{op.layer}'"


def program_rule(
    *, because: str
) -> Callable[[Callable[[Program], Iterator[tuple[str, str]]]], Rule]:
    """A rule that looks at the whole program; it yields (where, what) of each change."""

    def decorate(edit: Callable[[Program], Iterator[tuple[str, str]]]) -> Rule:
        def changes(program: Program) -> Iterator[Change]:
            return (Change(edit.__name__, where, what) for where, what in edit(program))

        return Rule(edit.__name__, edit.__doc__ or "", because, changes)

    return decorate


def rule(
    *, ops: Collection[str] | None = None, because: str, everywhere: bool = False
) -> Callable[[Callable[[Op, Site], Iterator[str]]], Rule]:
    """A rule that looks at one operator after another; it yields each change in words.

    ops: the types of operators that it takes; None for all.
    everywhere: in the bodies of loops and branches, too, rather than in block 0 only.

    The rule raises ModelError for an operator that lacks what every one of its type has.
    """

    def decorate(edit: Callable[[Op, Site], Iterator[str]]) -> Rule:
        def walk(program: Program) -> Iterator[Change]:
            for block in program.blocks if everywhere else program.blocks[:1]:
                site = Site(program, block)
                result: list[Op] = []
                for op in block.ops:
                    site.replace(op)
                    if ops is None or op.type in ops:
                        where = place(op)
                        try:
                            yield from (
                                Change(edit.__name__, where, what) for what in edit(op, site)
                            )
                        except (IndexError, KeyError, TypeError, ValueError) as error:
                            raise ModelError(
                                f"{program.files.model}: {where} is not as Paddle writes it "
                                f"({type(error).__name__} in {edit.__name__}: {error})"
                            ) from error
                    result += site.ops
                block.ops = result

        return Rule(edit.__name__, edit.__doc__ or "", because, walk)

    return decorate


def until_settled(name: str, rules: Sequence[Rule], *, because: str) -> Rule:
    """A rule that applies others in order, again and again, until none of them finds any work."""

    def changes(program: Program) -> Iterator[Change]:
        for _ in range(_ROUNDS):
            found = [change for each in rules for change in each(program)]
            yield from found
            if not found:
                return

    return Rule(name, "The passes below.", because, changes)
