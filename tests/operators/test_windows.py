"""Convolutions and poolings with windows that ARM's kernels mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import pytest

from lite_opt.model.program import Program
from lite_opt.passes.repair import repair

from . import trial


def depthwise(side: tuple[int, int], *cases: tuple[int, list[int]], **attrs: Any) -> Program:
    """Depthwise 3x3 convolutions of one input, each with a stride and a padding."""
    b = make_model.Builder(2)
    x = b.input("x", (1, 6, *side))
    outs = []
    for n, (stride, pads) in enumerate(cases):
        high, wide = ((d + sum(p) - 3) // stride + 1 if d > 0 else -1
                      for d, p in zip(side, (pads[:2], pads[2:])))  # fmt: skip
        settings = {
            "strides": [stride, stride],
            "paddings": pads,
            "dilations": [1, 1],
            "groups": 6,
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        } | attrs
        inputs = {"Input": [x], "Filter": [b.param(f"w{n}", (6, 1, 3, 3))]}
        outs.append(
            b.op("depthwise_conv2d", inputs, f"y{n}", (1, 6, high, wide), slot="Output", **settings)
        )
    return b.program(*outs)


@pytest.mark.parametrize("side", [(4, 4), (6, 6), (8, 8), (7, 6), (5, 5)])
def test_narrow_depthwise_padded_on_one_side(side: tuple[int, int], tmp_path: Path) -> None:
    cases = [(s, p) for s in (1, 2) for p in ([0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1])]
    trial.check(depthwise(side, *cases), tmp_path)


def test_same_padding_of_an_even_side_is_by_two() -> None:
    program = depthwise((6, 8), (2, [0, 1, 0, 1]), padding_algorithm="SAME")
    repair(program)
    conv = next(op for op in program.ops if op.type == "depthwise_conv2d")
    assert conv.get("paddings") == [0, 2, 0, 2]
    assert conv.get("padding_algorithm") == "EXPLICIT"


@pytest.mark.parametrize(("side", "stride"), [((10, 10), 2), ((6, 6), 3)])
def test_what_is_right_keeps_its_padding(side: tuple[int, int], stride: int) -> None:
    program = depthwise(side, (stride, [0, 1, 0, 1]))
    repair(program)
    assert [op.get("paddings") for op in program.ops if op.type == "depthwise_conv2d"] == [
        [0, 1, 0, 1]
    ]


def test_of_a_dynamic_side_the_input_is_padded() -> None:
    program = depthwise((-1, -1), (2, [0, 1, 0, 1]))
    repair(program)
    types = [op.type for op in program.ops]
    assert types[1:5] == ["unsqueeze2", "pad3d", "squeeze2", "depthwise_conv2d"]


def pools(side: tuple[int, int], *cases: dict[str, Any]) -> Program:
    b = make_model.Builder(2)
    x = b.input("x", (1, 5, *side))
    outs = []
    for n, case in enumerate(cases):
        settings = {
            "pooling_type": "avg",
            "strides": [1, 1],
            "paddings": [0, 0],
            "global_pooling": False,
            "ceil_mode": False,
            "exclusive": True,
            "adaptive": False,
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        } | case
        out = settings.pop("out")
        outs.append(b.op("pool2d", {"X": [x]}, f"y{n}", (1, 5, *out), **settings))
    return b.program(*outs)


@pytest.mark.parametrize("side", [(8, 8), (9, 9), (3, 7), (4, 4)])
def test_adaptive_average_of_any_size(side: tuple[int, int], tmp_path: Path) -> None:
    sizes = [(1, 1), (2, 2), (3, 3), (2, 4), (7, 7), (3, 7), side]
    program = pools(side, *({"ksize": list(s), "out": s, "adaptive": True} for s in sizes))
    repaired = trial.check(program, tmp_path)
    strides = [op.get("strides") for op in repaired.ops if op.type == "pool2d"]
    assert strides == [[1, 1]] + [[1, 2]] * 6


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pads_that_differ_between_height_and_width(mode: str, tmp_path: Path) -> None:
    b = make_model.Builder(2)
    x = b.input("x", (1, 2, 5, 6))
    outs = []
    every = [[0, 1, 2, 0], [1, 1, 1, 1], [0, 0, 2, 1], [2, 1, 0, 0], [1, 2, 1, 2]]
    for n, (left, right, top, bottom) in enumerate(every):
        if mode == "replicate" and not top + bottom:
            continue
        high, wide = 5 + top + bottom, 6 + left + right
        b.op("unsqueeze2", {"X": [x]}, f"deep{n}", (1, 2, 1, 5, 6), axes=[2])
        b.op("pad3d", {"X": [f"deep{n}"]}, f"pad{n}", (1, 2, 1, high, wide), value=0.5, mode=mode,
             paddings=[left, right, top, bottom, 0, 0], data_format="NCDHW")  # fmt: skip
        outs.append(b.op("squeeze2", {"X": [f"pad{n}"]}, f"y{n}", (1, 2, high, wide), axes=[2]))
    trial.check(b.program(*outs), tmp_path)


@pytest.mark.parametrize("value", [0.5, -1.0e9])
def test_volumes_padded_by_a_value(value: float, tmp_path: Path) -> None:
    b = make_model.Builder(2)
    x = b.input("x", (2, 2, 3, 4, 5))
    y = b.op("pad3d", {"X": [x]}, "y", (2, 2, 6, 5, 8), value=value, mode="constant",
             paddings=[1, 2, 0, 1, 2, 1], data_format="NCDHW")  # fmt: skip
    trial.check(b.program(y), tmp_path)
