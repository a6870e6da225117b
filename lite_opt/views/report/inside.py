"""What other commands found inside a model, from what they print with --json: where layers diverge,
what each loses in int8, and what each costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lite_opt.views.report.charts import Chart, bars
from lite_opt.views.table import Row, percent
from py_runner.errors import DataError
from py_runner.files import regular

__all__ = ["Inside", "inside"]

_MOST = 20  # layers that are shown


@dataclass(frozen=True)
class Inside:
    """A section of the page: what was found in a sentence, a chart, and a table."""

    title: str
    said: str
    chart: Chart
    header: Row
    rows: Sequence[Row]


def inside(path: str) -> Inside:
    """What `layers`, `sensitivity` or `bench --by-layer` printed with --json. Raises DataError
    where the file holds nothing of the kind."""
    try:
        document = json.loads(regular.read_bytes(path))
        if "taps" in document:
            return _diverging(document)
        if "device" in document:
            return _costs(document)
        return _losses(document)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
        raise DataError(
            f"{path}: is not what layers, sensitivity or bench --by-layer print with --json"
        ) from None


def _diverging(document: Mapping[str, Any]) -> Inside:
    taps = document["taps"]
    shown = [tap for tap in taps if tap["alone"] is not None] or taps
    found = sorted(shown, key=lambda tap: _decibels(tap["alone"] or tap["whole"]))[:_MOST]
    divergence = document["divergence"]
    said = (
        divergence["reason"]
        if divergence
        else f"no layer diverges: {len(taps)} of {document['layers']} layers were looked at"
    )
    where = f"{document['recipe']} on engine {document['engine']} ({document['device']})"
    return Inside(
        "Where layers diverge",
        f"{said}. {where}, {len(document['samples'])} samples.",
        bars(
            "Layers",
            "Signal to noise of each layer that is fed the server's own values: the shorter, the "
            "further from the server; the worst ones",
            "SQNR (dB)",
            [(tap["name"], _decibels(tap["alone"] or tap["whole"])) for tap in found],
        ),
        ("layer", "operator", "as it runs dB", "alone dB", "expected dB"),
        [
            (tap["name"], tap["op"], *(_told(tap[side]) for side in ("whole", "alone")),
             "-" if tap["expected_db"] is None else f"{tap['expected_db']:.1f}")
            for tap in found
        ],
    )  # fmt: skip


def _decibels(numbers: Mapping[str, Any] | None) -> float:
    """JSON has no infinity: without a number nothing differs."""
    value = None if numbers is None else numbers["sqnr_db"]
    return _EQUAL if value is None else float(value)


_EQUAL = 200.0  # dB: more than float32 can tell


def _told(numbers: Mapping[str, Any] | None) -> str:
    return "-" if numbers is None else f"{_decibels(numbers):.1f}"


def _losses(document: Mapping[str, Any]) -> Inside:
    layers = document["layers"]
    by_points = any(layer["points"] for layer in layers)  # where none loses one, decibels tell
    measure = next((layer["measure"] for layer in layers if layer["measure"]), "")
    found = layers[:_MOST]
    values = [
        (layer["layer"], float(layer["points"] or 0) if by_points else _decibels(layer))
        for layer in found
    ]
    what = f"points lost ({measure})" if by_points else "SQNR (dB)"
    return Inside(
        "What each layer loses in int8",
        f"Each layer of {document['model']} alone in int8; {found[0]['op']} "
        f"'{found[0]['layer']}' loses most.",
        bars("Sensitivity", "The worst layers" + ("" if by_points else ": the shorter, the worse"),
             what, values),
        ("layer", "operator", "SQNR dB", "points lost", "multiply-adds"),
        [
            (layer["layer"], layer["op"], _told(layer),
             "-" if layer["points"] is None else f"{layer['points']:.2f}", percent(layer["share"]))
            for layer in found
        ],
    )  # fmt: skip


def _costs(document: Mapping[str, Any]) -> Inside:
    layers = [layer for layer in document["layers"] if layer["instructions"] is not None]
    total = sum(layer["instructions"] for layer in layers)
    found = layers[:_MOST]
    kinds = [" ".join(layer["ops"]) for layer in found]
    shapes = ["x".join(map(str, layer["shape"])) for layer in found]
    return Inside(
        "The dearest layers",
        f"{total / 1e6:.1f} M ARM instructions on {document['device']}, each layer measured by "
        "itself, copying its inputs and results included: a model of the cost, not a latency.",
        bars(
            "Instructions",
            "The dearest layers, those that are alike together",
            "ARM instructions (millions)",
            [
                (f"{layer['ops'][0]} {shape}", layer["instructions"] / 1e6)
                for shape, layer in zip(shapes, found)
            ],
        ),
        ("layer", "result", "alike", "M instructions", "share", "the first"),
        [
            (kind, shape, str(len(layer["layers"])), f"{layer['instructions'] / 1e6:.2f}",
             percent(layer["instructions"] / total), layer["layers"][0])
            for kind, shape, layer in zip(kinds, shapes, found)
        ],
    )  # fmt: skip
