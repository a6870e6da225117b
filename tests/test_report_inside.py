"""What was found inside a model, as sections of the report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from test_compare import made
from test_report import Page

from lite_opt.conversion.costs import LayerCost
from lite_opt.judge.compare import compare
from lite_opt.judge.layers.result import LayersReport, Tap, numbers
from lite_opt.judge.limits import LayerLimits
from lite_opt.judge.sensitivity import LayerLoss
from lite_opt.views.report.inside import Inside, inside
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from py_runner.errors import DataError


def told(path: Path, document: object) -> Inside:
    path.write_text(json.dumps(document), encoding="utf-8")
    return inside(str(path))


def losses(*points: float | None) -> dict[str, object]:
    layers = [
        LayerLoss(f"layer {n}", "conv2d", "w", 9, 20.0 + n, 0.99, "top-1", lost, 0.25)
        for n, lost in enumerate(points)
    ]
    return {"model": "net", "layers": [asdict(layer) for layer in layers]}


def taps() -> LayersReport:
    ones = np.ones((1, 4), "float32")
    found = [
        Tap(name, "conv2d", None, numbers(name, [ones], [ones * factor]), None, 1)
        for name, factor in (("equal", 1), ("near", 1.001), ("far", 1.1))
    ]
    return LayersReport(
        None, "native", "qemu-arm", "int8", LayerLimits(1, 1, 1), 9, 3, 3, 1, ("s",), (*found,), ()
    )


def test_layers_come_the_noisiest_first_and_those_that_are_equal_last(tmp_path: Path) -> None:
    found = told(tmp_path / "layers.json", json.loads(json.dumps(taps().to_json())))
    assert [row[0] for row in found.rows] == ["far", "near", "equal"]
    assert [row[3] for row in found.rows[:2]] == ["20.0", "60.0"]
    assert "3 of 3 layers were looked at. int8 on engine native (qemu-arm), 1 samples" in found.said
    assert "far: 20" in str(found.chart.svg)


def test_losses_are_points_or_decibels_where_none_is_lost(tmp_path: Path) -> None:
    lost = told(tmp_path / "sensitivity.json", losses(2.5, 1.0))
    assert "points lost (top-1)" in str(lost.chart.svg) and "layer 0: 2.5" in str(lost.chart.svg)
    assert lost.rows[0] == ("layer 0", "conv2d", "20.0", "2.50", "25.00%")
    for points in ((0.0, 0.0), (None, None)):
        none = told(tmp_path / "sensitivity.json", losses(*points))
        assert "SQNR (dB)" in str(none.chart.svg) and "layer 1: 21" in str(none.chart.svg)


def test_layers_by_their_cost(tmp_path: Path) -> None:
    costs = [
        LayerCost(("a", "b"), ("conv2d", "relu"), (1, 8, 4, 4), 3_000_000),
        LayerCost(("c",), ("softmax",), (1, 8), 1_000_000),
        LayerCost(("d",), ("while",), (1,), None, "cannot run alone"),
    ]
    document = {"device": "qemu-aarch64:pi4", "layers": [asdict(cost) for cost in costs]}
    found = told(tmp_path / "costs.json", document)
    assert found.said.startswith("4.0 M ARM instructions on qemu-aarch64:pi4")
    assert found.rows == [
        ("conv2d relu", "1x8x4x4", "2", "3.00", "75.00%", "a"),
        ("softmax", "1x8", "1", "1.00", "25.00%", "c"),
    ]


@pytest.mark.parametrize("document", [[], {}, {"taps": 1}, {"device": "x"}, {"layers": []}, 7])
def test_what_is_something_else_is_told(tmp_path: Path, document: object) -> None:
    with pytest.raises(DataError, match="is not what layers, sensitivity or bench --by-layer"):
        told(tmp_path / "other.json", document)
    with pytest.raises(DataError, match="cannot be read"):
        inside(str(tmp_path / "missing.json"))


def test_the_page_shows_them_as_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    document = losses(2.5)
    document["model"] = evil
    runs = [made(np.random.default_rng(0).standard_normal((8, 1, 5)).astype("float32"))] * 2
    text = html_page(
        runs[0],
        [Judged(runs[1], compare(*runs))],
        insides=[told(tmp_path / "sensitivity.json", document)],
    )
    page = Page(text)
    assert "What each layer loses in int8" in page.text and f"Each layer of {evil}" in page.text
    assert not [attrs for tag, attrs in page.tags if tag == "img"]
