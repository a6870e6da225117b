"""What the integers fed to a model stand for, read off its operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from py_runner.data.random_samples import Draws

__all__ = ["draws_of"]

# What hands its values on as they are, by the slots that are handed on. (A cast to float is no
# harm: no index is read from it.)
_HANDS_ON = {
    "assign": ("X",),
    "cast": ("X",),
    "concat": ("X",),
    "expand_as_v2": ("X",),
    "expand_v2": ("X",),
    "flatten_contiguous_range": ("X",),
    "gather": ("X",),
    "reshape2": ("X",),
    "slice": ("Input",),
    "split": ("X",),
    "squeeze2": ("X",),
    "stack": ("X",),
    "strided_slice": ("Input",),
    "tile": ("X",),
    "transpose2": ("X",),
    "unbind": ("X",),
    "unsqueeze2": ("X",),
}


def _axis(op: Op, name: str, default: int) -> int:
    value = op.get(name, default)
    return int(value if isinstance(value, int) else default)


# What takes an index: the slot that is one, the slot of what it picks from, and its axis there.
_PICKS: dict[str, tuple[str, str, Callable[[Op], int]]] = {
    "gather": ("Index", "X", lambda op: _axis(op, "axis", 0)),
    "gather_nd": ("Index", "X", lambda _: 0),
    "index_sample": ("Index", "X", lambda _: 1),
    "index_select": ("Index", "X", lambda op: _axis(op, "dim", 0)),
    "lookup_table": ("Ids", "W", lambda _: 0),
    "lookup_table_v2": ("Ids", "W", lambda _: 0),
    "put_along_axis": ("Index", "Input", lambda op: _axis(op, "Axis", 0)),
    "scatter": ("Ids", "X", lambda _: 0),
    "take_along_axis": ("Index", "Input", lambda op: _axis(op, "Axis", 0)),
}
_LENGTHS = {"rnn": "SequenceLength", "sequence_mask": "X"}


def draws_of(program: Program) -> Draws:
    """Which inputs are indices, and below what; which are lengths of sequences.

    An index into a dimension that is not known before the model runs can only be 0.
    """
    below: dict[str, int] = {}
    lengths = set()
    consumers = program.consumers()
    for spec in program.inputs:
        if not np.issubdtype(np.dtype(_plain(spec.dtype)), np.integer):
            continue
        for op, slot in _readers(spec.name, consumers):
            bound = _bound(program, op, slot)
            if bound is not None:
                below[spec.name] = min(bound, below.get(spec.name, bound))
            if _LENGTHS.get(op.type) == slot:
                lengths.add(spec.name)
    return Draws(below, frozenset(lengths))


def _plain(dtype: str) -> str:
    """A dtype that NumPy knows; what it does not know is no integer."""
    return "float32" if dtype == "bfloat16" else dtype


def _readers(name: str, consumers: dict[str, list[Op]]) -> Iterator[tuple[Op, str]]:
    """The operators that read the values of a variable, and the slot at which each does."""
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        for op in consumers.get(current, ()):
            for slot, names in op.inputs.items():
                if current not in names:
                    continue
                yield op, slot
                if slot in _HANDS_ON.get(op.type, ()):
                    new = {n for out in op.outputs.values() for n in out} - seen
                    seen |= new
                    pending += sorted(new)


def _bound(program: Program, op: Op, slot: str) -> int | None:
    """Below what an index at this slot has to be; None where it is none."""
    if op.type in ("one_hot", "one_hot_v2") and slot == "X":
        depth = op.get("depth", 0)
        return int(depth) if depth > 0 else None
    index, source, axis = _PICKS.get(op.type, ("", "", lambda _: 0))
    if slot != index:
        return None
    shape = program.var(op.inputs[source][0]).shape
    if op.type == "gather_nd":
        # Each column indexes a dimension of its own.
        columns = program.var(op.inputs[index][0]).shape[-1]
        sides = shape[: columns if columns > 0 else len(shape)]
    else:
        sides = (shape[axis(op)],) if -len(shape) <= axis(op) < len(shape) else ()
    return max(1, min(sides)) if sides else None
