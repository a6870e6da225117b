"""Which operator an engine that refuses a model, or dies of it, cannot run."""

from __future__ import annotations

from collections.abc import Callable

from lite_opt.judge.layers.graph import Graph, written
from lite_opt.model.program import Op, Program
from py_runner.errors import ModelError

__all__ = ["culprit"]

_ENDS = ("feed", "fetch")


def culprit(program: Program, fails: Callable[[Program], bool]) -> Op | None:
    """The first operator without which a program that fails would run.

    `fails` says whether an engine fails on a program. It is asked of beginnings of this one, about
    log2 of the number of operators times. None for a program with control flow, which has no
    beginnings.
    """
    try:
        graph = Graph(program)
    except ModelError:
        return None
    ops = [op for op in program.ops if op.type not in _ENDS]
    runs, failing = 0, len(ops)  # how many operators run, and how many do not
    while failing - runs > 1:
        middle = (runs + failing) // 2
        if fails(_beginning(graph, ops[:middle])):
            failing = middle
        else:
            runs = middle
    return ops[failing - 1] if ops else None


def _beginning(graph: Graph, ops: list[Op]) -> Program:
    """The program of these operators. Its outputs are the results that none of them reads."""
    read = {name for op in ops for names in op.inputs.values() for name in names}
    ends = [op.layer for op in ops if read.isdisjoint(written(op))]
    return graph.tapped(ends, {})
