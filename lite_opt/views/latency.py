"""Latencies and memory of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lite_opt.views.table import Item, Row, size, table, warnings

if TYPE_CHECKING:
    from lite_opt.bench import Bench, Counts

__all__ = ["LATENCY_HEADER", "counts", "latency_rows", "view"]

LATENCY_HEADER = (
    "latency", "p50 ms", "p90 ms", "p99 ms", "mean ms", "per second", "count", "threads", "memory",
)  # fmt: skip


def latency_rows(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row for each run summary (`Run.summary()`), by the names given."""
    return [
        (
            name,
            *(f"{run['latency'][key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")),
            f"{run['latency']['throughput_per_s']:.1f}",
            str(run["latency"]["count"]),
            str(run["threads"]),
            size(run["peak_memory_bytes"]),
        )
        for name, run in runs.items()
    ]


def view(found: Bench) -> Iterator[Item]:
    """What was measured: a row for each thread count, or the instructions that were counted."""
    if found.arm_instructions is not None:
        yield (
            f"{found.arm_instructions / 1e6:.2f} M ARM instructions per inference of {found.model} "
            f"({found.device}): a model of the cost, not a latency"
        )
        return
    yield from warnings(found.warnings)
    rows = latency_rows({f"{r['engine']}, {r['threads']} threads": r for r in found.runs})
    yield table(f"Latency of {found.model}", LATENCY_HEADER, rows)


def counts(found: Counts) -> Iterator[Item]:
    """Bundles x boards: a row for each bundle, a column for each board."""
    rows = [
        (model, *(f"{by_device[device] / 1e6:.2f}" for device in found.devices))
        for model, by_device in found.instructions.items()
    ]
    title = "Millions of ARM instructions per inference: a model of the cost, not a latency"
    yield table(title, ("bundle", *found.devices), rows)
