"""Weights rounded to 8 bits with balanced errors, and what the quantizers then make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.model.load import load
from lite_opt.model.program import Op, Program
from lite_opt.passes.repair import repair
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.operators import LAYERS
from lite_opt.quant.rounding import BALANCED, round_weights
from lite_opt.recipes import Calibration
from py_runner.data.random_samples import random_samples
from py_runner.formats.nb import read_nb

SHAPES = {"conv2d": (6, 5, 3, 3), "depthwise_conv2d": (7, 1, 5, 5), "mul": (40, 9)}
SLOTS = {"conv2d": "Filter", "depthwise_conv2d": "Filter", "mul": "Y"}


def one_layer(kind: str, weight: np.ndarray[Any, Any]) -> Program:
    """A program of that operator alone; nobody runs it."""
    program = make_model.classifier()
    program.blocks[0].ops = [Op(kind, {SLOTS[kind]: ["w"]}, {"Output": ["y"]})]
    program.set_param("w", weight)
    return program


def rows(kind: str, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A row for each output channel."""
    channels = weight.T if kind == "mul" else weight
    return channels.reshape(len(channels), -1).astype(np.float64)


@pytest.mark.parametrize("kind", SHAPES)
def test_errors_are_in_balance(kind: str) -> None:
    weight = np.random.default_rng(3).standard_normal(SHAPES[kind]).astype(np.float32)
    rounded = round_weights(one_layer(kind, weight), BALANCED).params["w"]
    assert rounded.dtype == np.float32 and rounded.shape == weight.shape
    exact, made = rows(kind, weight), rows(kind, rounded)
    step = np.abs(exact).max(axis=1, keepdims=True) / 127
    steps = made / step
    assert np.allclose(steps, np.rint(steps), atol=1e-4)
    assert np.allclose(np.abs(steps).max(axis=1), 127)
    assert (abs(steps - exact / step) < 1).all()
    tolerance = 0.5001
    assert (abs((steps - exact / step).sum(axis=1)) <= tolerance).all()
    # The nearest steps are not in balance: the assertion above can fail.
    assert (abs((np.rint(exact / step) - exact / step).sum(axis=1)) > tolerance).any()


def test_kernels_are_in_balance_too() -> None:
    weight = np.random.default_rng(4).standard_normal((64, 32, 3, 3)).astype(np.float32)
    rounded = round_weights(one_layer("conv2d", weight)).params["w"]
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    off = abs(((rounded - weight) / step).sum(axis=(2, 3)))
    # Few kernels give a step to the balance of their channel.
    assert (off <= 0.5001).mean() > 0.9


def test_inputs_that_are_not_centred_lose_less() -> None:
    generator = np.random.default_rng(5)
    weight = generator.standard_normal((96, 24)).astype(np.float32)
    inputs = np.maximum(generator.standard_normal((1000, 96)) + 0.5, 0)
    step = np.abs(weight).max(axis=0) / 127
    nearest = np.rint(weight / step) * step
    balanced = round_weights(one_layer("mul", weight)).params["w"]
    assert np.square(inputs @ (balanced - weight)).mean() < 0.7 * (
        np.square(inputs @ (nearest - weight)).mean()
    )


def test_what_is_left_alone() -> None:
    weight = np.random.default_rng(6).standard_normal((4, 3, 3, 3)).astype(np.float32)
    assert round_weights(one_layer("depthwise_conv2d", weight)).params["w"] is weight

    shared = one_layer("conv2d", weight)
    shared.ops.append(Op("scale", {"X": ["w"]}, {"Out": ["z"]}))
    assert round_weights(shared).params["w"] is weight

    broken = weight.copy()
    broken[0, 0, 0, 0] = np.nan
    assert round_weights(one_layer("conv2d", broken)).params["w"] is broken

    zero = np.zeros_like(weight)
    assert not round_weights(one_layer("conv2d", zero)).params["w"].any()


def test_the_source_stays_as_it_is() -> None:
    weight = np.random.default_rng(7).standard_normal((4, 3, 3, 3)).astype(np.float32)
    program = one_layer("conv2d", weight.copy())
    rounded = round_weights(program)
    assert np.array_equal(program.params["w"], weight)
    assert not np.array_equal(rounded.params["w"], weight)


def test_the_optimizer_keeps_it(model: Path, tmp_path: Path) -> None:
    bundle = convert(model, tmp_path / "b", recipe="int8-weights", check=False).bundle
    assert bundle is not None
    program = load(model)
    repair(program)
    expected = round_weights(program).params
    compared = 0
    for target in ("arm", "x86"):
        file = read_nb(bundle.path / f"model.{target}.nb")
        for op in file.ops:
            (slot, axis) = {"conv2d": ("Filter", 0), "fc": ("W", 1)}.get(op.type, ("", 0))
            if not slot:
                continue
            (name,) = op.inputs[slot]
            shape = [1] * expected[name].ndim
            shape[axis] = -1
            scale = np.array(op.quant[f"{name}_quant_scale"]).reshape(shape)
            stored = file.param(name)
            assert stored.dtype == np.int8
            assert np.allclose(stored * scale, expected[name], rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared >= 4


def test_paddle_keeps_it(model: Path) -> None:
    program = load(model)
    repair(program)
    samples = random_samples(program.inputs, count=4)
    quantized = calibrate(program, samples, Calibration(algorithm="abs_max"))
    expected = round_weights(program, BALANCED).params
    compared = 0
    for op in quantized.ops:
        if op.type != "conv2d":
            continue
        (name,) = op.inputs["Filter"]
        step = np.abs(expected[name]).max(axis=(1, 2, 3), keepdims=True) / 127
        assert np.allclose(quantized.params[name], np.rint(expected[name] / step), atol=1e-3)
        compared += 1
    assert compared


def test_paddle_rounds_the_kernels_of_transposed_convolutions() -> None:
    """To the nearest, with a scale for each output channel: there is nothing to balance."""
    b = make_model.Builder(3)
    x = b.input("x", (-1, 6, 8, 8))
    y = b.op(
        "conv2d_transpose", {"Input": [x], "Filter": [b.param("w", (6, 10, 2, 2))]}, "y",
        (-1, 10, 16, 16), slot="Output", strides=[2, 2], paddings=[0, 0], dilations=[1, 1],
        groups=1, padding_algorithm="EXPLICIT", data_format="NCHW", output_padding=[],
        output_size=[],
    )  # fmt: skip
    program = b.program(b.op("relu", {"X": [y]}, "z", (-1, 10, 16, 16)))
    weight = program.params["w"]
    samples = random_samples(program.inputs, count=4)
    quantized = calibrate(program, samples, Calibration(algorithm="abs_max"))
    step = np.abs(weight).max(axis=(0, 2, 3), keepdims=True) / 127
    assert np.array_equal(quantized.params["w"], np.rint(weight / step))
    (dequantize,) = (op for op in quantized.ops if op.input("X") == "y")
    assert dequantize.get("quant_axis") == LAYERS["conv2d_transpose"].channels
