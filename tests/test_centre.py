"""Activations that are never negative, on all 255 steps of int8."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest
from make_int8 import off_on_board, on_server, repaired, samples_of

from lite_opt.judge.compare import compare
from lite_opt.judge.variants import Variants
from lite_opt.model.executor import Executor
from lite_opt.model.program import Program
from lite_opt.quant.beside import outputs
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.centre import centred, lowered
from lite_opt.quant.correct import corrected
from lite_opt.quant.mixed import CENTRED, CORRECTED, Quantized
from lite_opt.quant.observe import Probes
from lite_opt.recipes import Calibration

CHANNELS = 8


def network(tail: str, activation: str = "relu6") -> Program:
    """Convolution, bias, activation; and what reads that, by the name of a test."""
    b = make_model.Builder(5)
    wide = (-1, CHANNELS, 8, 8)
    x = b.input("x", (-1, 3, 8, 8))
    x = b.conv2d(x, b.param("w0", (CHANNELS, 3, 3, 3), 3.0), "conv0", wide)
    bias = b.param("b0", (CHANNELS,), 2.0)
    x = b.op("elementwise_add", {"X": [x], "Y": [bias]}, "sum0", wide, axis=1)
    x = act = b.op(activation, {"X": [x]}, "act", wide)
    if tail == "concat":
        y = b.conv2d("x", b.param("w9", (CHANNELS, 3, 3, 3), 3.0), "conv9", wide)
        y = b.op("elementwise_add", {"X": [y], "Y": [b.param("b9", (CHANNELS,))]}, "sum9", wide)
        b.ops[-1].set("axis", 1)
        y = b.op("relu6", {"X": [y]}, "act9", wide)
        x = b.op("concat", {"X": [x, y]}, "both", (-1, 2 * CHANNELS, 8, 8), axis=1)
        x = b.op(
            "pool2d", {"X": [x]}, "most", (-1, 2 * CHANNELS, 4, 4),
            pooling_type="max", ksize=[2, 2], strides=[2, 2], paddings=[0, 0],
            global_pooling=False, exclusive=True, adaptive=False, ceil_mode=False,
        )  # fmt: skip
        wide = (-1, CHANNELS, 4, 4)
    if tail == "pooled":
        small = (-1, CHANNELS, 1, 1)
        x = b.op(
            "pool2d", {"X": [x]}, "pool", small,
            pooling_type="avg", global_pooling=True, ksize=[1, 1], strides=[1, 1], paddings=[0, 0],
        )  # fmt: skip
        x = b.op(
            "flatten_contiguous_range", {"X": [x]}, "flat", (-1, CHANNELS),
            start_axis=1, stop_axis=3,
        )  # fmt: skip
        weight = b.param("w1", (CHANNELS, CHANNELS))
        x = b.op(
            "mul", {"X": [x], "Y": [weight]}, "out", (-1, CHANNELS),
            x_num_col_dims=1, y_num_col_dims=1,
        )  # fmt: skip
    elif tail == "depthwise":
        x = b.conv2d(x, b.param("w1", (CHANNELS, 1, 3, 3)), "out", wide)
        b.ops[-1].set("groups", CHANNELS)
    else:
        inputs = 2 * CHANNELS if tail == "concat" else CHANNELS
        x = b.conv2d(x, b.param("w1", (CHANNELS, inputs, 1, 1)), "out", wide, padding=0)
    shape = (-1, CHANNELS) if tail == "pooled" else wide
    axis = -1 if tail == "pooled" else 1
    bias = b.param("b1", (CHANNELS,))
    x = b.op("elementwise_add", {"X": [x], "Y": [bias]}, "sum1", shape, axis=axis)
    if tail == "row":
        x = b.op(activation, {"X": [x]}, "act1", wide)
        x = b.conv2d(x, b.param("w2", (CHANNELS, CHANNELS, 1, 1)), "out2", wide, padding=0)
        x = b.op("elementwise_add", {"X": [x], "Y": [b.param("b2", (CHANNELS,))]}, "sum2", wide)
        b.ops[-1].set("axis", 1)
    if tail == "read in float":
        act = b.op("sigmoid", {"X": [act]}, "sigmoid", wide)
        x = b.op("elementwise_add", {"X": [x], "Y": [act]}, "sum2", wide, axis=-1)
    program = b.program(x)
    program.set_param("w1", np.sign(program.params["w1"]))  # int8 loses nothing of them
    return repaired(program)


def quantized(program: Program) -> Quantized:
    settings = Calibration(algorithm="abs_max")
    return Quantized.of(calibrate(program, samples_of(program, 8), settings), program)


@pytest.fixture(scope="module")
def pointwise() -> Quantized:
    return quantized(network("pointwise"))


def sqnr(model: Quantized) -> float:
    with Variants(model, samples_of(model.source, 8, seed=7)) as variants:
        return compare(variants.reference(), variants.run(())).outputs[0].sqnr_db


def test_the_integers_are_those_of_the_moved_values(pointwise: Quantized, tmp_path: Path) -> None:
    moved, count = centred(pointwise)
    assert count == 1
    program = lowered(moved.program)
    assert not {"relu6", "scale"} & {op.type for op in program.ops}
    samples = samples_of(pointwise.source, 4, seed=3)
    (answer,) = on_server(program, samples, tmp_path).outputs.values()
    # By hand: what the first convolution puts out in int8, moved; integers; what is absorbed.
    first, last = pointwise.layers
    probes = Probes(pointwise.with_float([last.layer]))
    probes.answer("act")
    with Executor(pointwise.palette(), samples) as executor:
        (values,) = executor.run(probes.done()).outputs
    (quantize,) = [op for op in program.ops if op.inputs.get("X") == [f"act{CENTRED}"]]
    half = program.params[quantize.inputs["InScale"][0]].item()
    assert 2.9 < half <= 3
    weights = pointwise.program.params[last.weight].astype(np.float64)[:, :, 0, 0]
    dequantize = pointwise.program.consumers()[last.layer][0]
    step = pointwise.program.params[dequantize.inputs["Scales"][0]].astype(np.float64) / 127
    bias = pointwise.source.params["b1"].astype(np.float64)
    for value, found in zip(values, answer):
        integers = np.clip(np.rint((value[0].astype(np.float64) - half) / half * 127), -127, 127)
        sums = np.einsum("oi,ihw->ohw", weights, integers) * half / 127
        wanted = (sums + half * weights.sum(1)[:, None, None]) * step[:, None, None]
        off = np.abs(found[0] - wanted - bias[:, None, None])
        # A value half-way between two steps may go either way.
        one = half / 127 * np.abs(weights).max() * step.max()
        assert off.max() <= one * 1.001 and np.mean(off > 1e-5) < 0.01
    assert first.layer not in moved.biases


def test_steps_half_as_wide_make_a_quarter_of_the_noise(pointwise: Quantized) -> None:
    moved, _ = centred(pointwise)
    with Variants(pointwise, samples_of(pointwise.source, 8, seed=7)) as variants:
        reference = variants.reference()
        first = pointwise.layers[0].layer
        before = compare(reference, variants.run([first])).outputs[0].sqnr_db
    with Variants(moved, samples_of(pointwise.source, 8, seed=7)) as variants:
        after = compare(reference, variants.run([first])).outputs[0].sqnr_db
    assert 5 < after - before < 7
    assert sqnr(corrected(moved, samples_of(pointwise.source, 8))) > sqnr(pointwise) + 0.5


def test_a_layer_in_float_is_what_it_was(pointwise: Quantized) -> None:
    moved, _ = centred(pointwise)
    first, last = (layer.layer for layer in pointwise.layers)
    for floats in ([last], [first, last]):
        program = moved.with_float(floats)
        assert not [name for name in program.vars if name.endswith((CENTRED, CORRECTED))]
        assert [op.type for op in program.ops] == [
            op.type for op in pointwise.with_float(floats).ops
        ]
    # In front of it a layer in float saturates where its values become integers.
    assert "relu6" not in {op.type for op in lowered(moved.with_float([first])).ops}


def assert_alike(moved: Program, low: Program, folder: Path) -> None:
    """But where a value lies between two steps, and rounds to the other one."""
    samples = samples_of(moved, 4, seed=3)
    answers = [
        np.concatenate(next(iter(on_server(each, samples, folder / name).outputs.values())))
        for name, each in (("moved", moved), ("lowered", low))
    ]
    off = np.abs(answers[0] - answers[1])
    assert np.mean(off > 1e-4 * np.abs(answers[0]).max()) < 0.02


def test_a_bias_may_absorb_one_move_and_make_another(tmp_path: Path) -> None:
    model = quantized(network("row"))
    moved, count = centred(model)
    assert count == 2 and set(moved.biases.values()) == {"b1", "b2"}
    assert sqnr(moved) > sqnr(model) + 0.5
    program = lowered(moved.program)
    assert "relu6" not in {op.type for op in program.ops}
    assert_alike(moved.program, program, tmp_path)


def test_a_concat_and_a_max_pooling_pass_the_move_on(tmp_path: Path) -> None:
    model = quantized(network("concat"))
    moved, count = centred(model)
    assert count == 1 and sqnr(moved) > sqnr(model) + 0.5
    program = lowered(moved.program)
    types = [op.type for op in program.ops]
    assert "relu6" not in types and "scale" not in types and {"concat", "pool2d"} <= set(types)
    assert not {"act", "act9", "both", "most"} & set(program.vars)  # as they were in float
    assert_alike(moved.program, program, tmp_path)


@pytest.mark.parametrize("tail", ["depthwise", "read in float"])
def test_what_would_cost_or_not_be_exact_is_left_alone(tail: str) -> None:
    model = quantized(network(tail))
    moved, count = centred(model)
    assert count == 0
    assert [op.type for op in moved.program.ops] == [op.type for op in model.program.ops]


def test_few_values_behind_a_pooling_are_moved_by_an_operator(tmp_path: Path) -> None:
    model = quantized(network("pooled", "relu"))
    moved, count = centred(model)
    assert count == 1
    program = lowered(moved.program)
    types = [op.type for op in program.ops]
    assert "relu" in types and types.count("scale") == 1
    assert sqnr(moved) > sqnr(model)
    assert outputs(moved) == outputs(model)


@pytest.mark.parametrize("device", ["qemu-aarch64:pi4", "qemu-aarch64:pi5"])
@pytest.mark.parametrize("tail", ["pointwise", "pooled", "concat"])
def test_arm_saturates_as_the_simulation_does(device: str, tail: str, tmp_path: Path) -> None:
    program = network(tail)
    moved, _ = centred(quantized(program))
    made = lowered(moved.program)
    samples = samples_of(program, 4, seed=3)
    assert np.mean(off_on_board(made, samples, device, tmp_path) > 1e-4) < 0.02
