"""What a path holds, as a page of its own: of a model or a bundle the operators with what they
cost, of a run its answers and latencies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lite_opt.judge.evidence import emulated
from lite_opt.lite.kernels import supported_ops
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.views import answers, facts
from lite_opt.views.describe import described, opened
from lite_opt.views.graph import Counted, OpGraph, OpNode, counted_layers, of_model, of_nb
from lite_opt.views.report import charts
from lite_opt.views.table import Row
from lite_opt.views.templates import filled
from py_runner.errors import DataError, PaddleEdgeError, UsageError
from py_runner.files import regular
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import NbFile, read_nb
from py_runner.formats.run import Run
from py_runner.tasks import decode

__all__ = ["page_of"]

_ROW, _HEAD, _LANE, _DOT = 24, 12, 9, 10  # pixels, as the page's style has them
_DEAREST = 12
_ANSWERS = 200
_GRAPHS = ("model", "nb", "bundle")


def page_of(
    path: str | Path,
    *,
    params: str | Path | None = None,
    target: str | None = None,
    counts: str | Path | None = None,
) -> str:
    """A page that opens without a network.

    Args:
        path: a model, a .nb file, a bundle, a run or a pipeline.
        target: of a model, "arm" or "x86": the operators as they are after the repairs, and which
            of them have kernels there.
        counts: what `bench --by-layer --json` printed of the model: operators are then coloured by
            executed ARM instructions, and a model is shown as repaired for arm, as it was counted.

    Raises what `describe` raises, UsageError where an option means nothing for what the path is,
    and DataError where `counts` is something else.
    """
    counted = None if counts is None else _counted(counts)
    found = opened(path, params=params)
    document = described(found, path, target=target)
    kind = document["kind"]
    if counted is not None and kind not in _GRAPHS:
        raise UsageError(f"{path}: is a {kind}: layers are counted of a model")
    tables: dict[str, tuple[Row, list[Row]]] = {
        "Facts": (("fact", "value"), facts.rows(_short(document)))
    }
    graphs: list[dict[str, Any]] = []
    drawn: list[Any] = []
    if isinstance(found, Program):
        graphs.append(_of_program(found, target, counted))
    elif isinstance(found, NbFile):
        graphs.append(_laid_out(Path(path).name, of_nb(found, counted=counted)))
    elif isinstance(found, Bundle):
        graphs += _of_bundle(found, counted)
    elif isinstance(found, Run):
        tables = {**_answered(found), **tables}
        times = [ms for repeats in found.latency_ms for ms in repeats]
        if times and not emulated({"device": found.device}):
            drawn.append(charts.ecdf({found.engine: times}))
    return filled(
        "view.html",
        title=f"{document.get('name') or Path(path).name}: {kind}",
        graphs=graphs,
        tables=tables,
        charts=drawn,
        missing=charts.MISSING,
    )


def _counted(path: str | Path) -> Counted:
    try:
        return counted_layers(json.loads(regular.read_bytes(path)))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, ZeroDivisionError):
        raise DataError(f"{path}: is not what bench --by-layer --json prints") from None


def _short(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the page shows otherwise, samples counted."""
    samples = document.get("samples", ())
    counted = {} if isinstance(samples, int) else {"samples": len(samples)}
    return {name: value for name, value in document.items() if name != "kind"} | counted


def _of_program(program: Program, target: str | None, counted: Counted | None) -> dict[str, Any]:
    """The graph of a program, which is repaired already where there is a target."""
    if counted is not None and target is None:
        repair(program)
    target = "arm" if counted is not None else target
    kernels = None if target is None else supported_ops(target)
    title = "The model" if target is None else f"The model as repaired for {target}"
    return _laid_out(title, of_model(program, kernels=kernels, counted=counted))


def _of_bundle(bundle: Bundle, counted: Counted | None) -> list[dict[str, Any]]:
    """A graph for each file of Paddle Lite that is there."""
    return [
        _laid_out(target.file, of_nb(read_nb(bundle.path / target.file), counted=counted))
        for target in bundle.targets.values()
        if target.onnx is None and (bundle.path / target.file).exists()
    ]


def _answered(run: Run) -> dict[str, tuple[Row, list[Row]]]:
    try:
        found = decode(run.first(_ANSWERS), run.labels, top=3)
    except PaddleEdgeError as error:
        return {"Answers": (("sample", "answer"), [("-", f"not decoded: {error}")])}
    title = f"Answers (first {len(found)} of {len(run.samples)})"
    return {title: answers.rows(found)} if found else {}


def _laid_out(title: str, graph: OpGraph) -> dict[str, Any]:
    """The graph for the template: cells, and where dots and wires are."""
    most = max((node.cost or 0 for node in graph.nodes), default=0)
    dot = graph.lanes * _LANE + _DOT
    middle = [_HEAD + row * _ROW for row in range(len(graph.nodes))]
    parts = [round(100 * (node.cost or 0) / most) if most else 0 for node in graph.nodes]
    chains = [f"M{dot} {y}v{_ROW}" for y, chained in zip(middle, graph.chained) if chained]
    wires = [
        f"M{dot} {middle[wire.start]}" + "".join(
            f"M{dot} {middle[wire.start]}C{x} {middle[wire.start]} {x} {middle[wire.start]} "
            f"{x} {middle[wire.start] + _HEAD}V{middle[end] - _HEAD}"
            f"C{x} {middle[end]} {x} {middle[end]} {dot} {middle[end]}"
            for end in wire.ends
        )
        for wire in graph.wires
        for x in [dot - _DOT - wire.lane * _LANE]
    ]  # fmt: skip
    known = any(node.cost for node in graph.nodes)
    said = f"{len(graph.nodes)} operators"
    said += f", coloured by {graph.unit}: {graph.total:,.0f} in all" if known else ""
    return {
        "title": title,
        "said": said,
        "width": dot + _DOT,
        "height": len(graph.nodes) * _ROW,
        "dot": dot,
        "paths": chains + wires,
        "dots": list(zip(middle, parts)),
        "header": ("operator", graph.unit, "result", "shape", "kernel", "precision", "weights"),
        "rows": [(_cells(node), part) for node, part in zip(graph.nodes, parts)],
        "dearest": _dearest(graph),
    }


def _cells(node: OpNode) -> Row:
    return (
        _kind(node),
        "" if node.cost is None else f"{node.cost:,.0f}",
        node.name,
        node.shape,
        node.kernel,
        node.precision,
        f"{node.weights:,}" if node.weights else "",
    )


def _kind(node: OpNode) -> str:
    return f"{node.op} with {node.fused}" if node.fused else node.op


def _dearest(graph: OpGraph) -> tuple[Row, list[Row]]:
    """The kinds of operators, by what all of a kind cost."""
    kinds: dict[tuple[str, str], list[float]] = {}
    for node in graph.nodes:
        kinds.setdefault((_kind(node), node.precision), []).append(node.cost or 0)
    total = graph.total
    rows: Sequence[Row] = [
        (op, precision, str(len(costs)), f"{sum(costs):,.0f}", f"{sum(costs) / total:.1%}")
        for (op, precision), costs in sorted(kinds.items(), key=lambda kind: -sum(kind[1]))
        if total and sum(costs)
    ]
    return ("operator", "precision", "count", graph.unit, "share"), list(rows[:_DEAREST])
