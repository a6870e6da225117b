"""The small layers that static int8 leaves in float by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from make_int8 import repaired, samples_of

from lite_opt.conversion.convert import Conversion, convert
from lite_opt.judge.spare import SPARED, cheap_layers, cheaper_in_float, spared_layers
from lite_opt.model.load import save
from lite_opt.model.program import Program
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import Calibration, recipe
from py_runner.watch import Watch


def differences(*, depthwise: bool = False) -> Program:
    """Large values, of which a small layer takes differences, two channels at a time; then two
    larger layers, and a linear one, which has most of the weights. Or, `depthwise`, values as large
    as others, and the small layer takes each channel alone."""
    b = make_model.Builder(3)
    x = b.input("x", (-1, 3, 8, 8))
    x = b.conv2d(x, b.param("w0", (8, 3, 3, 3)), "first", (-1, 8, 8, 8))
    b.param("b0", (8,))
    x = b.op("elementwise_add", {"X": [x], "Y": ["b0"]}, "large", (-1, 8, 8, 8), axis=1)
    x = b.op("relu", {"X": [x]}, "relu0", (-1, 8, 8, 8))
    each = 1 if depthwise else 2
    x = b.conv2d(x, b.param("w1", (8, each, 3, 3)), "small", (-1, 8, 6, 6), padding=0)
    b.ops[-1].set("groups", 8 // each)
    x = b.conv2d(x, b.param("w2", (64, 8, 3, 3)), "wide", (-1, 64, 6, 6))
    x = b.op("relu", {"X": [x]}, "relu1", (-1, 64, 6, 6))
    x = b.conv2d(x, b.param("w3", (64, 64, 3, 3)), "wider", (-1, 64, 6, 6))
    x = b.op(
        "pool2d", {"X": [x]}, "pool", (-1, 64, 1, 1),
        pooling_type="avg", global_pooling=True, ksize=[1, 1], strides=[1, 1], paddings=[0, 0],
    )  # fmt: skip
    x = b.op(
        "flatten_contiguous_range", {"X": [x]}, "flat", (-1, 64), start_axis=1, stop_axis=3
    )  # fmt: skip
    weight = b.param("fc.w", (64, 400))
    x = b.op("mul", {"X": [x], "Y": [weight]}, "fc", (-1, 400), x_num_col_dims=1, y_num_col_dims=1)
    program = b.program(x)
    if depthwise:
        return repaired(program)
    program.set_param("b0", np.full(8, 20, np.float32))
    weights = program.params["w1"]
    program.set_param("w1", weights - weights.mean(axis=(2, 3), keepdims=True))
    return repaired(program)


def test_a_small_layer_that_loses_most_stays_in_float() -> None:
    program = differences()
    samples = samples_of(program, 16)
    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    totals = set()
    watch = Watch(step=lambda what, done, total: totals.add((what.split()[0], total)))
    found = spared_layers(quantized, samples, watch=watch)
    assert found is not None
    assert found.layers == ("small",)
    assert found.sqnr_db > found.sqnr_db_int8 + 6
    assert found.share <= SPARED / 100
    # The linear layer has next to no multiply-adds, but weights; the wide ones have both.
    assert totals == {("looking", 2)}


@pytest.mark.parametrize(
    ("shape", "settings", "cheaper"),
    [
        ((8, 1, 3, 3), {}, True),
        ((8, 1, 5, 5), {"strides": [2, 2]}, True),
        ((8, 1, 3, 3), {"strides": [2, 1]}, True),
        ((8, 1, 3, 3), {"paddings": [0, 1, 0, 1]}, True),
        ((8, 1, 7, 7), {}, False),
        ((8, 1, 1, 1), {}, False),
        ((8, 1, 3, 3), {"dilations": [2, 2]}, False),
        ((16, 1, 3, 3), {}, False),  # two outputs of each channel
        ((8, 2, 3, 3), {"groups": 4}, False),
        ((8, 8, 3, 3), {"groups": 1}, False),
    ],
)
def test_depthwise_layers_take_fewer_instructions_in_float(
    shape: tuple[int, ...], settings: dict[str, Any], cheaper: bool
) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 8, 8, 8))
    b.conv2d(x, b.param("w", shape), "y", (-1, shape[0], -1, -1))
    for name, value in ({"groups": 8} | settings).items():
        b.ops[-1].set(name, value)
    program = b.program("y")
    (layer,) = [op for op in program.ops if op.layer == "y"]
    assert cheaper_in_float(program, layer) is cheaper


def test_they_stay_in_float_though_they_lose_little() -> None:
    program = differences(depthwise=True)
    samples = samples_of(program, 8)
    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    found = spared_layers(quantized, samples)
    assert found is not None and "small" in found.layers
    assert cheap_layers(quantized) == ["small"]


def test_they_stay_in_float_where_answers_cannot_be_compared(tmp_path: Path) -> None:
    program = differences(depthwise=True)
    b = make_model.Builder()
    b.vars, b.ops = program.blocks[0].vars, program.ops
    fetch = b.ops.pop()
    fetch.inputs["X"] = [b.op("log", {"X": fetch.inputs["X"]}, "logarithms", (-1, 400))]
    b.ops.append(fetch)
    done = small_bundle(program, tmp_path, effort="fast")
    assert done.bundle is not None and done.float_layers is None
    assert done.bundle.recipe["calibration"]["float_layers"] == ["small"]


def test_a_network_of_nothing_else_is_int8_all_the_same() -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 8, 8, 8))
    b.conv2d(x, b.param("w", (8, 1, 3, 3)), "y", (-1, 8, 8, 8))
    b.ops[-1].set("groups", 8)
    program = repaired(b.program("y"))
    samples = samples_of(program, 4)
    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    assert cheap_layers(quantized) == []
    assert spared_layers(quantized, samples) is None


def test_it_is_the_default_and_in_the_bundle(tmp_path: Path) -> None:
    kept = []
    for settings in ({}, {"max_float": 0.0}):
        done = small_bundle(differences(), tmp_path, **settings)
        assert done.bundle is not None
        kept.append(done.bundle.recipe["calibration"]["float_layers"])
    assert kept == [["small"], []]


def small_bundle(program: Program, folder: Path, **settings: Any) -> Conversion:
    save(program, folder)
    np.save(folder / "data.npy", np.concatenate([s.feeds["x"] for s in samples_of(program, 8)]))
    return convert(
        folder, folder / "out", recipe=recipe("int8", **settings), target=("arm",),
        calibration=folder / "data.npy", check=False, force=True,
    )  # fmt: skip
