"""The operators of a model or of a `.nb` file in the order of execution: a row each, what they
cost, and the lines between them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lite_opt.model.cost import multiply_adds
from lite_opt.model.program import Program
from py_runner.formats.nb import NbFile

__all__ = ["Counted", "OpGraph", "OpNode", "Wire", "counted_layers", "of_model", "of_nb"]

# ARM instructions of a layer, and the kinds of its operators, by its last result.
Counted = Mapping[str, "tuple[int, tuple[str, ...]]"]

_SILENT = ("feed", "fetch")


@dataclass(frozen=True)
class OpNode:
    """One operator. `name` is its first result, `shape` that of it; `fused` are the kinds of the
    operators whose cost is counted here, too; `kernel` and `precision` are what runs it, "" where
    nobody said; `weights` are the bytes of its parameters; `cost` is in the unit of the graph, None
    where unknown."""

    op: str
    fused: str
    name: str
    shape: str
    kernel: str
    precision: str
    weights: int
    cost: float | None


@dataclass(frozen=True)
class Wire:
    """A result that is read further down than in the next row: from row `start` to `ends`, in a
    `lane` beside the rows, 0 nearest to them, that it shares with none that runs beside it."""

    start: int
    ends: tuple[int, ...]
    lane: int


@dataclass(frozen=True)
class OpGraph:
    """Rows, the wires beside them, for which rows the next one reads their result (`chained`), and
    what `OpNode.cost` counts, in words."""

    nodes: tuple[OpNode, ...]
    wires: tuple[Wire, ...]
    chained: tuple[bool, ...]
    unit: str

    @property
    def total(self) -> float:
        """The sum of all costs."""
        return sum(node.cost or 0 for node in self.nodes)

    @property
    def lanes(self) -> int:
        """How many lanes the wires take."""
        return 1 + max((wire.lane for wire in self.wires), default=-1)


def of_model(
    program: Program, *, kernels: Collection[str] | None, counted: Counted | None
) -> OpGraph:
    """The operators of a program's first block.

    Args:
        kernels: the kinds of operators that a target has kernels for, None where none was asked.
        counted: what `counted_layers` read; by default the cost is the multiply-adds for a batch
            of 1.
    """
    adds = multiply_adds(program)
    params = program.params
    nodes, edges = [], []
    for place, op in enumerate(program.ops):
        if op.type in _SILENT:
            continue
        var = program.vars.get(op.layer)
        cost, fused = _of_layer(op.type, op.writes, counted)
        nodes.append(
            OpNode(
                op=op.type,
                fused=fused,
                name=op.layer,
                shape="x".join(map(str, var.shape)) if var else "",
                kernel="" if kernels is None else "yes" if op.type in kernels else "none",
                precision="",
                weights=sum(params[name].nbytes for name in op.reads if name in params),
                cost=adds[place] if adds and counted is None else cost,
            )
        )
        edges.append((op.reads, op.writes))
    return _graph(nodes, edges, "multiply-adds" if counted is None else "ARM instructions")


def of_nb(nb: NbFile, *, counted: Counted | None) -> OpGraph:
    """The operators of a `.nb` file, by the kernels that the optimizer chose; what they cost is the
    bytes of their parameters, where nobody counted."""
    sizes = {param.name: param.bytes for param in nb.params}
    nodes, edges = [], []
    for op in nb.ops:
        if op.type in _SILENT:
            continue
        reads = [name for names in op.inputs.values() for name in names]
        writes = [name for names in op.outputs.values() for name in names]
        weights = sum(sizes.get(name, 0) for name in reads)
        cost, fused = _of_layer(op.type, writes, counted)
        nodes.append(
            OpNode(
                op=op.type,
                fused=fused,
                name=writes[0] if writes else "",
                shape="",
                kernel=f"{op.target} {op.kernel}".strip(),
                precision=op.precision,
                weights=weights,
                cost=weights if counted is None else cost,
            )
        )
        edges.append((reads, writes))
    return _graph(nodes, edges, "bytes of parameters" if counted is None else "ARM instructions")


def _of_layer(kind: str, writes: Sequence[str], counted: Counted | None) -> tuple[int | None, str]:
    """The cost of the layer that ends with these results, and its other operators."""
    cost, kinds = next(
        (counted[name] for name in writes if counted and name in counted), (None, ())
    )
    others = list(kinds)
    if kind in others:
        others.remove(kind)
    return cost, " ".join(others)


def _graph(
    nodes: Sequence[OpNode], edges: Sequence[tuple[Sequence[str], Sequence[str]]], unit: str
) -> OpGraph:
    """With the wires of all results: those that several rows write begin at the last one above."""
    maker: dict[str, int] = {}
    readers: dict[int, list[int]] = {}
    for row, (reads, writes) in enumerate(edges):
        for start in {maker[name] for name in reads if name in maker}:
            readers.setdefault(start, []).append(row)
        maker.update(dict.fromkeys(writes, row))
    chained = tuple(row + 1 in readers.get(row, ()) for row in range(len(nodes)))
    return OpGraph(tuple(nodes), tuple(_wires(readers)), chained, unit)


def _wires(readers: Mapping[int, Sequence[int]]) -> Iterator[Wire]:
    busy: list[int] = []  # by lane, the last row of the wire in it
    for start in sorted(readers):
        ends = tuple(end for end in readers[start] if end > start + 1)
        if not ends:
            continue
        lane = next((n for n, last in enumerate(busy) if last <= start), len(busy))
        busy[lane : lane + 1] = [max(ends)]
        yield Wire(start, ends, lane)


def counted_layers(document: Mapping[str, Any]) -> Counted:
    """What `bench --by-layer --json` printed. Raises KeyError, TypeError, ValueError or
    ZeroDivisionError where it is something else."""
    counted = {}
    for layer in document["layers"]:
        if layer["instructions"] is None:
            continue
        each = math.ceil(int(layer["instructions"]) / len(layer["layers"]))
        kinds = tuple(map(str, layer["ops"]))
        counted.update({str(name): (each, kinds) for name in layer["layers"]})
    return counted
