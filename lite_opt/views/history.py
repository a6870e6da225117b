"""Comparisons over time: a table, a line of one metric, and a page with its chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lite_opt.views.report import charts
from lite_opt.views.table import Item, Row, table
from lite_opt.views.templates import filled

if TYPE_CHECKING:
    from lite_opt.history.entry import Entry

__all__ = ["drawing", "page", "series_of", "sparkline", "sparklines", "view"]

_NAMES = ("model", "recipe", "engine", "device")
_HEADER = ("time", "revision", *_NAMES, "verdict")
# What is shown where nobody says which metrics, as far as there are any.
_FIRST = ("top-1 accuracy, candidate", "top-1 agreement", "cosine", "p50_ms")
_BLOCKS = " ▁▂▃▄▅▆▇█"[1:]

Series = Mapping[str, Sequence[tuple[str, float, str]]]


def view(entries: Sequence[Entry], metrics: Sequence[str]) -> Iterator[Item]:
    """A row for each comparison, oldest first."""
    if not entries:
        yield "no comparison is of this model, recipe, engine and device"
        return
    header, rows = _rows(entries, metrics)
    yield table("History", header, rows, left=len(_HEADER))
    failed = sum(entry.verdict == "failed" for entry in entries)
    yield f"{len(entries)} comparisons, {failed} of them failed"


def _rows(entries: Sequence[Entry], metrics: Sequence[str]) -> tuple[Row, list[Row]]:
    there = {name for entry in entries for name in entry.metrics}
    shown = metrics or [name for name in _FIRST if name in there]
    rows: list[Row] = [
        (
            entry.time,
            (entry.revision or "-")[:10],
            *(str(getattr(entry, name)) for name in _NAMES),
            entry.verdict,
            *(f"{entry.metrics[n]:.6g}" if n in entry.metrics else "-" for n in shown),
        )
        for entry in entries
    ]
    return (*_HEADER, *shown), rows


def series_of(entries: Sequence[Entry], metric: str) -> dict[str, list[tuple[str, float, str]]]:
    """When, the value and the verdict of those that have the metric, by model, recipe, engine and
    device."""
    found: dict[str, list[tuple[str, float, str]]] = {}
    for entry in entries:
        if metric in entry.metrics:
            name = ", ".join(str(getattr(entry, n)) for n in _NAMES)
            found.setdefault(name, []).append((entry.time, entry.metrics[metric], entry.verdict))
    return found


def sparklines(series: Series, metric: str) -> Iterator[Item]:
    """A line for each: how the metric went, where it began and where it is."""
    rows = []
    for name, values in series.items():
        numbers = [value for _, value, _ in values]
        told = (numbers[0], min(numbers), max(numbers), numbers[-1])
        rows.append((name, sparkline(numbers), *(f"{number:.6g}" for number in told)))
    yield table(metric, ("", "over time", "first", "least", "most", "last"), rows, left=2)


def sparkline(values: Sequence[float]) -> str:
    """A block a value, the least the lowest; the last ones, where there are many."""
    shown = values[-60:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] for value in shown)


def drawing(series: Series, metric: str) -> str | None:
    """An SVG of the metric; None where what draws it is not installed."""
    return charts.over_time(series, metric).svg


def page(entries: Sequence[Entry], series: Series, metric: str, *, of: str) -> str:
    """A page with the chart of a metric, and the comparisons that have it."""
    header, rows = _rows([entry for entry in entries if metric in entry.metrics], [metric])
    chart = charts.over_time(series, metric)
    return filled("history.html", title=f"{metric}: {of}", chart=chart, missing=charts.MISSING,
                  header=header, rows=rows)  # fmt: skip
