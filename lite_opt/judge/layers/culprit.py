"""Which operator an engine that refuses a model, or dies of it, cannot run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from lite_opt.judge.layers.graph import Graph
from lite_opt.model.program import Op, Program
from py_runner.errors import ConvertError, ModelError, RefusedError
from py_runner.tensors import Sample

__all__ = ["culprit", "culprit_on"]

_ENDS = ("feed", "fetch")


def culprit(program: Program, last_words: Callable[[Program], str], words: str) -> Op | None:
    """The operator of which an engine that ended with `words` on a program has died.

    That is the one that the words name, where there is one of it only. Otherwise it is the first
    without which the engine does not end so: `last_words` says how it ends on a program, "" where
    it runs. It is asked of beginnings of this one, about log2 of the number of operators times. A
    beginning that ends otherwise says nothing of this death: a result which only the cut has made
    an output may be of a type that cannot be one. None for a program with control flow, which has
    no beginnings.
    """
    ops = [op for op in program.ops if op.type not in _ENDS]
    named = _named(ops, words)
    if len(named) == 1:
        return named[0]
    try:
        graph = Graph(program)
    except ModelError:
        return None
    if not ops:
        return None
    ends = [i + 1 for i, op in enumerate(ops) if op in named] or list(range(1, len(ops) + 1))

    @cache
    def last_words_of(count: int) -> str:
        return last_words(_beginning(graph, ops[:count]))

    def dies(count: int, *, alike: bool) -> bool:
        found = last_words_of(count)
        return bool(found) and (not alike or _letters(found) == _letters(words))

    last = _first(ends, lambda count: dies(count, alike=True))
    if last == ends[-1]:
        # Nothing before the end died so. Where the words are another each time, any will do.
        last = _first(ends, lambda count: dies(count, alike=False))
    return ops[last - 1]


def culprit_on(
    program: Program, sample: Sample, answer: Callable[[Program, Sample], object], words: str
) -> Op | None:
    """The culprit of an engine that ended with `words`; `answer` has it run a beginning of the
    program on what that takes of a sample."""

    def last_words(beginning: Program) -> str:
        names = {spec.name for spec in beginning.inputs}
        feeds = {name: value for name, value in sample.feeds.items() if name in names}
        try:
            answer(beginning, replace(sample, feeds=feeds))
        except (RefusedError, ConvertError) as error:
            return str(error)
        return ""

    return culprit(program, last_words, words)


def _first(ends: Sequence[int], dies: Callable[[int], bool]) -> int:
    """The first of some lengths of a program that dies, if the last does and what follows one that
    dies does so, too."""
    runs, dead = -1, len(ends) - 1
    while dead - runs > 1:
        middle = (runs + dead) // 2
        if dies(ends[middle]):
            dead = middle
        else:
            runs = middle
    return ends[dead]


def _named(ops: list[Op], words: str) -> list[Op]:
    """The operators of the one type that an engine's words name, as 'pad' or by a source file
    (reduce_mean_compute.cc, grid_sampler_op.cc); none where they name none, or several."""
    found = set(re.findall(r"'(\w+)'|\b(\w+?)_(?:op|compute)\.(?:cc|h)\b", words))
    told = {name for pair in found for name in pair if name}
    types = {op.type for op in ops if op.type in told or op.type.removesuffix("2") in told}
    return [op for op in ops if op.type in types] if len(types) == 1 else []


def _letters(words: str) -> str:
    """Last words without what differs from one death to the next: times, sizes, addresses, and
    folders, which are cut to a width that depends on the time."""
    return re.sub(r"\S*/|0x[0-9a-f]+|[^A-Za-z]+", " ", words)


def _beginning(graph: Graph, ops: list[Op]) -> Program:
    """The program of these operators. Its outputs are the results that none of them reads."""
    read = {name for op in ops for name in op.reads}
    ends = [op.layer for op in ops if read.isdisjoint(op.writes)]
    return graph.tapped(ends, {})
