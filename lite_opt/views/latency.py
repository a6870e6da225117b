"""Latencies and memory of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lite_opt.views.table import Item, Remark, Row, percent, size, table, warnings

if TYPE_CHECKING:
    from lite_opt.bench import Bench, Counts
    from lite_opt.conversion.costs import LayerCost

__all__ = ["LATENCY_HEADER", "counts", "latency_rows", "layers", "view"]

LATENCY_HEADER = (
    "latency", "p50 ms", "p90 ms", "p99 ms", "mean ms", "per second", "count", "threads", "memory",
)  # fmt: skip


def latency_rows(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row for each run summary (`Run.summary()`), by the names given."""
    return [
        (
            name,
            *(_figure(run, key, 2) for key in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")),
            _figure(run, "throughput_per_s", 1),
            str(run["latency"]["count"]),
            str(run["threads"]),
            size(run["peak_memory_bytes"]),
        )
        for name, run in runs.items()
    ]


def _figure(run: Mapping[str, Any], key: str, digits: int) -> str:
    value = run["latency"].get(key)
    return "-" if value is None else f"{value:.{digits}f}"


def view(found: Bench) -> Iterator[Item]:
    """What was measured: a row for each engine, batch and thread count, or the instructions that
    were counted."""
    if found.arm_instructions is not None:
        yield (
            f"{found.arm_instructions / 1e6:.2f} M ARM instructions per inference of {found.model} "
            f"({found.device}): a model of the cost, not a latency"
        )
        return
    yield from warnings(found.warnings)
    rows = [
        _with_intervals(row, run)
        for run in found.runs
        for row in latency_rows({_cell(run, found.runs): run})
    ]
    yield table(f"Latency of {found.model}", LATENCY_HEADER, rows)
    yield from _weather(found.runs[0].get("sensors"))


def _weather(sensors: Mapping[str, Any] | None) -> Iterator[Item]:
    """Temperatures and frequencies before and after, where the machine has sensors."""
    if not sensors:
        return
    before, after = sensors["before"], sensors["after"]
    degrees = [
        f"{name} {before['celsius'].get(name, now):.0f} to {now:.0f} C"
        for name, now in after["celsius"].items()
    ]
    clocks = [
        f"{least:.0f} to {most:.0f} MHz {when}"
        for when, one in (("before", before), ("after", after))
        if one["cpu_mhz"]
        for least, most in [(min(one["cpu_mhz"].values()), max(one["cpu_mhz"].values()))]
    ]
    said = "; ".join([", ".join(part) for part in (degrees, clocks) if part])
    if said:
        yield f"while measuring: {said}"


def _with_intervals(row: Row, run: Mapping[str, Any]) -> Row:
    """The row with the 95 % intervals of its percentiles."""
    cells = list(row)
    for place, (low, high) in enumerate(run.get("latency_interval", {}).values(), start=1):
        cells[place] += f" ({low:.2f} to {high:.2f})"
    return cells


def _cell(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """A row's name: the engine and its threads, and of what else differs, what this run has."""
    name = f"{run['engine']}, {run['threads']} threads"
    if len({other["batch"] for other in runs}) > 1:
        name += f", batch {run['batch']}"
    if len({other["precision"] for other in runs}) > 1:
        name += f", {run['precision']}"
    return name


def counts(found: Counts) -> Iterator[Item]:
    """Bundles x boards: a row for each bundle and engine, a column for each board."""
    rows = [
        (model, *(f"{by_device[device] / 1e6:.2f}" for device in found.devices))
        for model, by_device in found.instructions.items()
    ]
    title = "Millions of ARM instructions per inference: a model of the cost, not a latency"
    yield table(title, ("bundle", *found.devices), rows)


_SHOWN = 20


def layers(costs: list[LayerCost], device: str) -> Iterator[Item]:
    """The dearest layers, those that are alike in one row, with their share of the sum."""
    total = sum(cost.instructions or 0 for cost in costs)
    rows = [
        (
            " ".join(cost.ops),
            "x".join(map(str, cost.shape)),
            str(len(cost.layers)),
            f"{cost.instructions / 1e6:.2f}",
            percent(cost.instructions / total),
            cost.layers[0],
        )
        for cost in costs[:_SHOWN]
        if cost.instructions is not None
    ]
    header = ("layer", "result", "alike", "M instructions", "share", "the first")
    yield table(f"The dearest layers on {device}", header, rows, left=1)
    yield (
        f"{total / 1e6:.1f} M ARM instructions in {len(costs)} kinds of layers, each measured by "
        "itself, copying its inputs and results included: a model of the cost, not a latency"
    )
    without = [cost for cost in costs if cost.instructions is None]
    if without:
        yield Remark(
            f"not measured: {', '.join(c.layers[0] for c in without)}: {without[0].reason}"
        )
