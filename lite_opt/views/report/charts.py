"""Charts of a report: Vega-Lite's, drawn to SVG here, so that a page needs no script to show them.

Colours come from the page's style, light or dark; what a mark stands for is its aria-label, which
the page shows as a tip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.by_sample import Apartness
from lite_opt.views.text import one_line

__all__ = [
    "MISSING",
    "Chart",
    "bars",
    "by_board",
    "ecdf",
    "histogram",
    "over_time",
    "scatter",
    "trade",
]

MISSING = "Charts need vl-convert-python: pip install 'paddle-edge[report]'"

_WIDTH, _HEIGHT = 460, 230  # pixels
_INKS = (
    "#2f6fd0", "#c2571a", "#2e8540", "#8a4fbf", "#a3781a", "#c23b6b", "#147d8a", "#6b6f76",
)  # fmt: skip
_MOST_LINES = 8  # of one chart that can be told apart
_STEPS = 200  # of a curve
_BINS = 30
_LETTERS, _NAME = 38, 24  # of the title of an axis, and of a name beside it
_LEAST, _LOWEST = 1e-8, -8  # what is less apart stands there, and its logarithm


@dataclass(frozen=True)
class Chart:
    """A drawing, and what it shows: `svg` is None where the library is not installed."""

    title: str
    said: str
    svg: str | None


def histogram(found: Apartness, limit: float | None) -> Chart:
    """How many samples differ by how much; the axis is logarithmic."""
    finite = np.maximum(found.differences[np.isfinite(found.differences)], _LEAST)
    low = min(math.floor(math.log10(finite.min(initial=1.0))) if len(finite) else _LOWEST, -1)
    high = max(math.ceil(math.log10(finite.max(initial=_LEAST))) if len(finite) else 0, 0)
    edges = np.logspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    rows = [
        {"from": float(a), "to": float(b), "samples": int(n),
         "said": f"{n} samples differ by {a:.1e} to {b:.1e}"}
        for a, b, n in zip(edges, edges[1:], counts) if n
    ]  # fmt: skip
    scale = {"type": "log", "domain": [float(edges[0]), float(edges[-1])]}
    x = {"field": "from", "type": "quantitative", "title": "difference of a sample (max |dp|)",
         "scale": scale, "axis": {"format": ".0e", "tickCount": 6}}  # fmt: skip
    layers = [
        {
            "data": {"values": rows},
            "mark": {"type": "bar", "color": _INKS[0]},
            "encoding": {
                "x": x, "x2": {"field": "to"},
                "y": {"field": "samples", "type": "quantitative", "title": "samples"},
                "y2": {"datum": 0},
                "description": {"field": "said"},
            },
        }
    ]  # fmt: skip
    said = f"{len(found)} samples by how far their answers are apart"
    infinite = len(found) - len(finite)
    if infinite:
        said += f"; {infinite} are not shown: NaN, Inf or of another shape"
    if limit is not None and low <= math.log10(max(limit, _LEAST)) <= high:
        layers.append(_rule("x", limit, x))
        said += f"; the line is the limit, {limit:.3g}"
    return _chart("Differences", said, {"layer": layers})


def scatter(
    found: Apartness, names: tuple[str, str], disagreeing: Sequence[str], most: int
) -> Chart:
    """Both sides' values where they matter; at most so many samples, the worst ones first."""
    shown = list(islice((one for one in found.worst_first() if one.values is not None), most))
    differ = set(disagreeing)
    rows: list[dict[str, Any]] = [
        {"left": one.values[0], "right": one.values[1], "other": one.id in differ,
         "said": f"{one_line(one.id)}: {one.values[0]:.4g} and {one.values[1]:.4g}"}
        for one in shown if one.values is not None
    ]  # fmt: skip
    ends = [row[side] for row in rows for side in ("left", "right")] or [0.0, 1.0]
    line = [{"left": value, "right": value} for value in (min(ends), max(ends))]
    x = {"field": "left", "type": "quantitative", "title": _short(names[0]), "scale": _TIGHT}
    y = {"field": "right", "type": "quantitative", "title": _short(names[1]), "scale": _TIGHT}
    layers = [
        {"data": {"values": line}, "mark": {"type": "line", "color": "#888", "strokeDash": [4, 4]},
         "encoding": {"x": x, "y": y}},
        {"data": {"values": rows},
         "mark": {"type": "point", "filled": True, "size": 45},
         "encoding": {
             "x": x, "y": y, "description": {"field": "said"},
             "color": {"condition": {"test": "datum.other", "value": _INKS[1]}, "value": _INKS[0]},
             "shape": {"condition": {"test": "datum.other", "value": "triangle-up"},
                       "value": "circle"}}},
    ]  # fmt: skip
    said = f"What either side says of the same sample ({len(rows)} of {len(found)}, the worst first"
    said += "; triangles disagree): on the line they say the same"
    return _chart("Side against side", said, {"layer": layers})


def ecdf(latencies: Mapping[str, npt.ArrayLike]) -> Chart:
    """The share of inferences that are done after so many milliseconds, by run."""
    rows: list[dict[str, Any]] = [
        {"run": one_line(name), "ms": float(ms), "share": float(share), "order": order}
        for name, measured in list(latencies.items())[:_MOST_LINES]
        for order, (ms, share) in enumerate(_curve(measured))
    ]
    times = [row["ms"] for row in rows]
    kind = "log" if times and min(times) > 0 and max(times) > 10 * min(times) else "linear"
    axis = {"type": kind, "zero": False, "nice": kind == "linear"}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "ms", "type": "quantitative", "title": "latency (ms)", "scale": axis},
            "y": {"field": "share", "type": "quantitative", "title": "share of inferences",
                  "axis": {"format": "%"}},
            "order": {"field": "order"},
            "color": _colour("run"),
            "strokeDash": {"field": "run", "type": "nominal", "sort": None, "legend": None},
        },
    }  # fmt: skip
    more = len(latencies) - _MOST_LINES
    said = "The share of inferences that are done within so many milliseconds"
    return _chart("Latency", said + (f" (the first {_MOST_LINES} runs)" if more > 0 else ""), spec)


def by_board(counts: Mapping[str, Mapping[str, int]]) -> Chart:
    """Executed ARM instructions an inference: of each run, by board."""
    rows = [
        {"run": one_line(name), "board": one_line(board), "millions": number / 1e6,
         "said": f"{one_line(name)} on {one_line(board)}: {number / 1e6:.2f} M"}
        for name, boards in counts.items()
        for board, number in boards.items()
    ]  # fmt: skip
    spec = {
        "data": {"values": rows},
        "height": {"step": 16},
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "millions", "type": "quantitative",
                  "title": "ARM instructions an inference (millions)"},
            "y": {"field": "board", "type": "nominal", "title": "board"},
            "yOffset": {"field": "run", "sort": None},
            "color": _colour("run"),
            "description": {"field": "said"},
        },
    }  # fmt: skip
    return _chart("ARM instructions", "A model of the cost, not a latency", spec)


def bars(title: str, said: str, axis: str, values: Sequence[tuple[str, float]]) -> Chart:
    """A bar for each name, in the order given."""
    rows = [
        {
            "name": f"{place}. {_short(name)}",
            "value": value,
            "said": f"{one_line(name)}: {value:.4g}",
        }
        for place, (name, value) in enumerate(values, start=1)
    ]
    spec = {
        "data": {"values": rows},
        "height": {"step": 18},
        "mark": {"type": "bar", "color": _INKS[0]},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": axis},
            "y": {"field": "name", "type": "nominal", "sort": None, "title": "layer",
                  "axis": {"titlePadding": 24}},
            "description": {"field": "said"},
        },
    }  # fmt: skip
    return _chart(title, said, spec)


def trade(rows: Sequence[Mapping[str, Any]], cost: str, loss: str, chosen: str | None) -> Chart:
    """Cost against loss: `rows` have "name", "cost", "loss", "mb" (or None) and "best", whether
    none is better in all."""
    shown = [
        {**row, "chosen": row["name"] == chosen, "name": one_line(row["name"]),
         "said": f"{one_line(row['name'])}: {row['cost']:.4g}, {row['loss']:.3g}"
         + (f", {row['mb']:.2f} MB" if row["mb"] is not None else "")}
        for row in rows
    ]  # fmt: skip
    sized = any(row["mb"] is not None for row in shown)
    x = {"field": "cost", "type": "quantitative", "title": cost, "scale": _TIGHT}
    y = {"field": "loss", "type": "quantitative", "title": loss, "scale": {"zero": False}}
    size = {
        "field": "mb",
        "type": "quantitative",
        "title": "MB",
        "legend": None,
        "scale": {"range": [60, 400]},
    }
    points: dict[str, Any] = {
        "x": x, "y": y, "color": _colour("name", few=len(shown) <= _MOST_LINES),
        "description": {"field": "said"},
        "shape": {"condition": {"test": "datum.chosen", "value": "diamond"}, "value": "circle"},
        "opacity": {"condition": {"test": "datum.best", "value": 1.0}, "value": 0.45},
        **({"size": size} if sized else {"size": {"value": 120}}),
    }  # fmt: skip
    on_top = sorted(shown, key=lambda row: bool(row["chosen"]))
    front = sorted((row for row in shown if row["best"]), key=lambda row: float(row["cost"]))
    layers = [
        {"data": {"values": front}, "mark": {"type": "line", "color": "#888"},
         "encoding": {"x": x, "y": y}},
        {"data": {"values": on_top}, "mark": {"type": "point", "filled": True}, "encoding": points},
    ]  # fmt: skip
    said = (
        "Cost against loss, the size of a mark is the file's; those on the line are bettered by "
        "none, the diamond is the recommended one"
    )
    return _chart("Size, cost and accuracy", said, {"layer": layers})


def over_time(series: Mapping[str, Sequence[tuple[str, float, str]]], metric: str) -> Chart:
    """A metric in the order of its comparisons, by name: when, the value, and the verdict."""
    rows = [
        {"of": one_line(name), "number": number, "value": float(value), "red": verdict == "failed",
         "said": f"{one_line(name)}, {one_line(time)}: {value:.6g}, {one_line(verdict)}"}
        for name, values in list(series.items())[:_MOST_LINES]
        for number, (time, value, verdict) in enumerate(values, start=1)
    ]  # fmt: skip
    x = {"field": "number", "type": "quantitative", "title": "comparison, oldest first",
         "axis": {"tickMinStep": 1, "format": "d"}, "scale": _TIGHT}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": _short(metric), "scale": _TIGHT}
    form = {"condition": {"test": "datum.red", "value": "triangle-up"}, "value": "circle"}
    points = {"x": x, "y": y, "color": _colour("of"), "description": {"field": "said"},
              "shape": form}  # fmt: skip
    layers = [
        {"mark": {"type": "line", "strokeWidth": 2},
         "encoding": {"x": x, "y": y, "color": _colour("of")}},
        {"mark": {"type": "point", "filled": True, "size": 50}, "encoding": points},
    ]  # fmt: skip
    said = "From comparison to comparison; triangles failed"
    if len(series) > _MOST_LINES:
        said += f" (the first {_MOST_LINES} of {len(series)})"
    return _chart(one_line(metric), said, {"data": {"values": rows}, "layer": layers})


_TIGHT = {"zero": False, "nice": True}


def _curve(measured: npt.ArrayLike) -> list[tuple[float, float]]:
    """Milliseconds and the share that took no longer."""
    values = np.sort(np.asarray(measured, np.float64))
    places = np.unique(np.linspace(0, len(values) - 1, min(_STEPS, len(values))).astype(int))
    return [(float(values[0]), 0.0)] + [(float(values[i]), (i + 1) / len(values)) for i in places]


def _rule(axis: str, at: float, like: Mapping[str, Any]) -> dict[str, Any]:
    there = {**like, "field": "at"}
    return {
        "data": {"values": [{"at": at}]},
        "mark": {"type": "rule", "color": _INKS[5], "strokeWidth": 2, "strokeDash": [5, 3]},
        "encoding": {axis: there},
    }


def _colour(field: str, *, few: bool = True) -> dict[str, Any]:
    legend = {"orient": "bottom", "columns": 1, "title": None, "labelLimit": 430}
    scale = {"range": list(_INKS)}
    return {
        "field": field, "type": "nominal", "sort": None, "scale": scale,
        "legend": legend if few else None,
    }  # fmt: skip


def _short(name: str, most: int = _LETTERS) -> str:
    """A name beside an axis, in which Vega takes a backslash for the beginning of a character."""
    name = one_line(name).replace("\\", "/")
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _chart(title: str, said: str, spec: dict[str, Any]) -> Chart:
    from markupsafe import Markup, escape

    draw = _drawer()
    if draw is None:
        return Chart(title, said, None)
    config = {"background": None, "font": "system-ui, sans-serif", "view": {"stroke": None},
              "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
                       "gridColor": "#8885"},
              "legend": {"labelFontSize": 12, "symbolStrokeWidth": 3}}  # fmt: skip
    whole = {"width": _WIDTH, "height": _HEIGHT, "config": config, **spec}
    svg = draw(whole)
    named = f'<svg role="img" aria-label="{escape(f"{title}: {said}")}" '
    return Chart(title, said, Markup(svg.replace("<svg ", named, 1)))


@lru_cache
def _drawer() -> Any:
    """From a specification to SVG, or None."""
    try:
        import vl_convert
    except ImportError:
        return None
    return vl_convert.vegalite_to_svg
