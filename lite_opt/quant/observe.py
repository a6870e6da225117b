"""What flows through a program, and through variants of it, on the server engine.

with Executor(program, samples) as executor:
    (largest,) = executor.run(probed).outputs        # of each output, an array a sample
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from lite_opt.model.program import FETCH, Op, Program, Var

__all__ = ["Probes"]


class Probes:
    """A copy of a program that answers figures of its variables in place of its outputs."""

    def __init__(self, program: Program) -> None:
        self.program = program.copy()
        self.program.blocks[0].ops = [op for op in self.program.ops if op.type != "fetch"]
        self._fetched: list[str] = []

    def op(self, kind: str, inputs: Mapping[str, str], **attrs: Any) -> str:
        """Append an operator of one output, "Out"; the name of what it writes."""
        name = self.program.new_name(f"probe.{kind}")
        self.program.vars[name] = Var(name)
        made = Op(kind, {slot: [value] for slot, value in inputs.items()}, {"Out": [name]})
        for key, value in attrs.items():
            made.set(key, value)
        self.program.ops.append(made)
        return name

    def keep(self, name: str, other: Program) -> None:
        """Take a parameter of another program over, under its name."""
        self.program.set_param(name, other.params[name])

    def copied(self, op: Op, other: Program, names: dict[str, str]) -> None:
        """Append a copy of another program's operator. `names` says what its variables are called
        here, and learns what the copy writes; parameters are taken over, also those that it writes
        itself (a BatchNorm its mean)."""
        made = deepcopy(op)
        made.rename_inputs(names)
        for name in {n for inputs in made.inputs.values() for n in inputs}:
            if name in other.params:
                self.keep(name, other)
        for outputs in made.outputs.values():
            for place, name in enumerate(outputs):
                if name in other.params and name in made.reads:
                    continue
                fresh = self.program.new_name(f"probe.{name}")
                self.program.vars[fresh] = Var(fresh, other.var(name).dtype, other.var(name).shape)
                outputs[place] = fresh
        for slot, outputs in op.outputs.items():
            if slot != "OutScale":
                names |= dict(zip(outputs, made.outputs[slot]))
        self.program.ops.append(made)

    def reduce(self, kind: str, name: str, axis: int) -> str:
        """`reduce_max` or `reduce_mean` over all axes of a variable but one."""
        dims = len(self.program.var(name).shape)
        others = [i for i in range(dims) if i != axis % dims]
        reduced = self.op(kind, {"X": name}, dim=others, keep_dim=False, reduce_all=False)
        return reduced

    def like(self, name: str, other: str) -> str:
        """Say that what a probe writes has the shape of another variable."""
        self.program.vars[name].shape = self.program.var(other).shape
        return name

    def answer(self, name: str) -> int:
        """Have a variable answered; the column it has in what `Executor.run` returns."""
        self._fetched.append(name)
        return len(self._fetched) - 1

    def done(self) -> Program:
        """The program that answers what was asked for."""
        holder = next(var.name for var in self.program.vars.values() if var.kind == FETCH)
        for column, name in enumerate(self._fetched):
            fetch = Op("fetch", {"X": [name]}, {"Out": [holder]})
            fetch.set("col", column)
            self.program.ops.append(fetch)
        return self.program
