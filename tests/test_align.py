"""Channels of an activation moved and stretched to the same range, by an operator in front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from make_int8 import off_on_board, on_server, repaired, samples_of

from lite_opt.judge.compare import compare
from lite_opt.judge.variants import Variants
from lite_opt.model.program import Program
from lite_opt.quant.align import aligned
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.centre import centred, lowered
from lite_opt.quant.correct import corrected
from lite_opt.quant.mixed import CENTRED, CORRECTED, Quantized
from lite_opt.quant.ranges import searched
from lite_opt.quant.reconstruct import reconstructed
from lite_opt.recipes import Calibration

CHANNELS = 16


def network(between: str = "swish", *, outputs: int = 32, kernel: int = 1) -> Program:
    """A convolution, `between` and a multiplication by a number in front of another convolution;
    the channels lie in ranges up to 64 times apart, on one side of 0."""
    b = make_model.Builder(5)
    wide, out = (-1, CHANNELS, 8, 8), (-1, outputs, 8, 8)
    x = b.input("x", (-1, 3, 8, 8))
    x = b.conv2d(x, b.param("w0", (CHANNELS, 3, 3, 3), 3.0), "conv0", wide)
    x = b.op("elementwise_add", {"X": [x], "Y": [b.param("b0", (CHANNELS,))]}, "sum0", wide, axis=1)
    x = b.op(between, {"X": [x]}, "act", wide)
    if between == "swish":
        b.ops[-1].set("beta", 1.0)
        x = b.op(
            "scale", {"X": [x]}, "scaled", wide, scale=0.5, bias=0.1, bias_after_scale=True
        )  # fmt: skip
    weight = b.param("w1", (outputs, CHANNELS, kernel, kernel))
    x = b.conv2d(x, weight, "out", out, padding=kernel // 2)
    x = b.op(
        "elementwise_add", {"X": [x], "Y": [b.param("b1", (outputs,))]}, "sum1", out, axis=1
    )  # fmt: skip
    program = b.program(x)
    apart = np.geomspace(1, 64, CHANNELS).astype(np.float32)
    program.set_param("w0", program.params["w0"] * apart.reshape(-1, 1, 1, 1))
    program.set_param("w1", program.params["w1"] / apart.reshape(1, -1, 1, 1))
    return repaired(program)


def linear() -> Program:
    """A swish in front of a linear layer, with the channels last."""
    b = make_model.Builder(6)
    x = b.input("x", (-1, 12, CHANNELS))
    numbers = {"x_num_col_dims": 2, "y_num_col_dims": 1}
    for name, activation in (("0", "swish"), ("1", "")):
        weight = b.param(f"w{name}", (CHANNELS, 48 if name == "1" else CHANNELS), 3.0)
        shape = (-1, 12, 48 if name == "1" else CHANNELS)
        x = b.op("mul", {"X": [x], "Y": [weight]}, f"linear{name}", shape, **numbers)
        bias = b.param(f"b{name}", shape[2:])
        x = b.op("elementwise_add", {"X": [x], "Y": [bias]}, f"sum{name}", shape, axis=2)
        x = b.op(activation, {"X": [x]}, "act", shape, beta=1.0) if activation else x
    return repaired(b.program(x))


def quantized(program: Program, *, align: bool) -> Quantized:
    samples = samples_of(program, 8)
    settings = Calibration(algorithm="abs_max")
    if not align:
        return Quantized.of(calibrate(program, samples, settings), program)
    moved, count, biases = aligned(program, samples)
    assert count == 1
    return Quantized.of(calibrate(moved, samples, settings), program, moved, biases)


@pytest.fixture(scope="module")
def program() -> Program:
    return network()


@pytest.fixture(scope="module")
def model(program: Program) -> Quantized:
    return quantized(program, align=True)


def second_alone(model: Quantized) -> float:
    """The SQNR with the second layer alone in int8, in dB."""
    with Variants(model, samples_of(model.source, 8, seed=7)) as variants:
        answer = variants.run([model.layers[0].layer])
        return compare(variants.reference(), answer).outputs[0].sqnr_db


def answers(program: Program, folder: Path) -> np.ndarray[Any, Any]:
    run = on_server(program, samples_of(program, 4, seed=9), folder, "fp32")
    return np.concatenate(next(iter(run.outputs.values())))


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_float_model_computes_what_it_did(kernel: int, tmp_path: Path) -> None:
    program = network(kernel=kernel)
    moved, count, biases = aligned(program, samples_of(program, 8))
    (align,) = [op for op in moved.ops if op.layer.endswith(CENTRED)]
    assert count == 1 and align.type == "batch_norm"
    # At borders of zeros a move would not be the same: only 1x1 absorbs it.
    assert biases == ({"out": "b1"} if kernel == 1 else {})
    assert np.any(moved.params[align.inputs["Bias"][0]]) == (kernel == 1)
    before, after = answers(program, tmp_path / "a"), answers(moved, tmp_path / "b")
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()


def test_it_helps_int8(program: Program, model: Quantized) -> None:
    plain = quantized(program, align=False)
    assert second_alone(model) > second_alone(plain) + 10
    samples = samples_of(program, 8)
    moved, count = centred(model)
    assert count == 0
    good, _ = reconstructed(moved, samples, corrected=True)
    good = corrected(good, samples)
    assert second_alone(good) > second_alone(model)
    # The same scales: what was rounded are the divided weights.
    weights = [each.program.params["w1"].astype(np.float64) for each in (good, model)]
    assert 0 < np.abs(weights[0] - weights[1]).max() < 20
    wider, _ = searched(model, samples)
    assert second_alone(corrected(wider, samples)) > second_alone(plain) + 10


def test_the_input_of_a_linear_layer_is_moved(tmp_path: Path) -> None:
    program = linear()
    moved, count, biases = aligned(program, samples_of(program, 8))
    assert count == 1 and biases == {"linear1": "b1"}
    before, after = answers(program, tmp_path / "a"), answers(moved, tmp_path / "b")
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()
    better = corrected(quantized(program, align=True), samples_of(program, 8))
    plain = corrected(quantized(program, align=False), samples_of(program, 8))
    assert second_alone(better) > second_alone(plain) + 2
    left = better.with_float(["linear1"])
    assert not [name for name in left.vars if name.endswith(CENTRED)]


def test_without_a_bias_to_correct_the_mean_counts(program: Program, model: Quantized) -> None:
    samples = samples_of(program, 8)
    free, bound = (reconstructed(model, samples, corrected=c)[0] for c in (True, False))
    assert second_alone(bound) > second_alone(free)
    assert second_alone(corrected(free, samples)) > second_alone(bound) - 0.5


def test_a_layer_in_float_is_what_it_was(program: Program, model: Quantized) -> None:
    left = model.with_float(["conv0", "out"])
    assert not [name for name in left.vars if name.endswith((CENTRED, CORRECTED))]
    assert [op.type for op in left.ops] == [op.type for op in program.ops]
    (last,) = [op for op in left.ops if op.layer == "out"]
    assert last.inputs["Input"] == ["scaled"]
    assert np.array_equal(left.params[last.inputs["Filter"][0]], program.params["w1"])


def test_a_multiplication_by_a_number_is_taken_over(model: Quantized, tmp_path: Path) -> None:
    program = corrected(model, samples_of(model.source, 8)).program
    low = lowered(program)
    assert "scale" in {op.type for op in program.ops}
    assert "scale" not in {op.type for op in low.ops}
    before, after = answers(program, tmp_path / "a"), answers(low, tmp_path / "b")
    # But where a value lies between two steps, and rounds to the other one.
    assert np.mean(np.abs(after - before) > 1e-4 * np.abs(before).max()) < 0.02


@pytest.mark.parametrize(
    "alone",
    [
        {"between": "relu"},  # never leaves int8 in front of the second
        {"outputs": 16},  # the pass would cost too much of what the layer takes
    ],
)
def test_what_costs_too_much_is_left_alone(alone: dict[str, Any]) -> None:
    program = network(**alone)
    moved, count, biases = aligned(program, samples_of(program, 4))
    assert count == 0 and not biases
    assert [op.type for op in moved.ops] == [op.type for op in program.ops]


@pytest.mark.parametrize("device", ["qemu-aarch64:pi4", "qemu-aarch64:pi5"])
@pytest.mark.parametrize("kernel", [0, 1, 3])
def test_arm_computes_what_the_simulation_does(device: str, kernel: int, tmp_path: Path) -> None:
    program = network(kernel=kernel) if kernel else linear()
    samples = samples_of(program, 4, seed=3)
    made = lowered(corrected(quantized(program, align=True), samples).program)
    # But where a value lies between two steps, and rounds to the other one.
    assert np.mean(off_on_board(made, samples, device, tmp_path) > 1e-3) < 0.05
