"""Weights that are rounded for what their layers put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from make_int8 import on_server, repaired, samples_of
from numpy.lib.stride_tricks import sliding_window_view

from lite_opt.judge.compare import compare
from lite_opt.model.program import Op, Program
from lite_opt.quant import reconstruct
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.reconstruct import reconstructed, round_weights_for, rounded_for
from lite_opt.quant.rounding import round_weights
from lite_opt.quant.simulate import dequantized
from lite_opt.recipes import Calibration, recipe
from py_runner.errors import UsageError


def network() -> Program:
    """A convolution, a depthwise one with a stride, one of groups, a narrow one, and a linear
    layer: inputs that go together, as everything behind the first layer has few sources."""
    b = make_model.Builder(5)
    x = b.input("x", (-1, 3, 12, 12))
    for name, shape in (("w0", (32, 3, 3, 3)), ("w1", (32, 1, 3, 3)), ("w2", (32, 16, 1, 1)),
                        ("w3", (48, 32, 1, 1)), ("w4", (48 * 36, 10))):  # fmt: skip
        b.param(name, shape)
    x = b.conv2d(x, "w0", "conv0", (-1, 32, 12, 12))
    x = b.op("relu", {"X": [x]}, "act0", (-1, 32, 12, 12))
    x = b.conv2d(x, "w1", "dw", (-1, 32, 6, 6))
    b.ops[-1].set("groups", 32)
    b.ops[-1].set("strides", [2, 2])
    x = b.conv2d(x, "w2", "grouped", (-1, 32, 6, 6))
    b.ops[-1].set("groups", 2)
    b.ops[-1].set("paddings", [0, 0])
    x = b.op("relu", {"X": [x]}, "act1", (-1, 32, 6, 6))
    x = b.conv2d(x, "w3", "narrow", (-1, 48, 6, 6))
    b.ops[-1].set("paddings", [0, 0])
    x = b.op("relu", {"X": [x]}, "act2", (-1, 48, 6, 6))
    x = b.op("flatten_contiguous_range", {"X": [x]}, "flat", (-1, 48 * 36), start_axis=1,
             stop_axis=3)  # fmt: skip
    x = b.op("mul", {"X": [x], "Y": ["w4"]}, "fc", (-1, 10), x_num_col_dims=1, y_num_col_dims=1)
    return repaired(b.program(x))


def sqnr(quantized: Quantized, folder: Path) -> float:
    """Of the weights alone: activations are not rounded."""
    samples = samples_of(quantized.source, 16, seed=7)
    runs = []
    for number, program in enumerate((quantized.source, dequantized(quantized.program))):
        (folder / str(number)).mkdir(parents=True)
        runs.append(on_server(program, samples, folder / str(number), "fp32"))
    return compare(*runs).outputs[0].sqnr_db


@pytest.mark.parametrize("per_channel", [True, False])
def test_it_loses_less_on_samples_it_has_not_seen(per_channel: bool, tmp_path: Path) -> None:
    program = network()
    samples = samples_of(program, 16)
    settings = Calibration(per_channel=per_channel)
    plain = Quantized.of(calibrate(program, samples, settings), program)
    better, count = reconstructed(plain, samples)
    assert count == 5
    assert sqnr(better, tmp_path / "better") > sqnr(plain, tmp_path / "plain") + 1
    for layer in plain.layers:
        weight, before = (q.program.params[layer.weight] for q in (better, plain))
        assert weight.dtype == before.dtype and weight.shape == before.shape
        assert np.array_equal(weight, np.rint(weight)) and np.abs(weight).max() <= 127
        assert np.abs(weight - before).max() < 20  # the same scales


def test_weights_of_a_float_model_are_rounded_on_the_grid_that_the_optimizer_finds(
    tmp_path: Path,
) -> None:
    program = network()
    samples = samples_of(program, 16)
    better, count = round_weights_for(program, samples)
    assert count == 5
    plain = round_weights(program)
    fresh = samples_of(program, 16, seed=7)
    runs = [
        on_server(made, fresh, tmp_path / name, "fp32")
        for name, made in (("source", program), ("plain", plain), ("better", better))
    ]
    least, most = (compare(runs[0], run).outputs[0].sqnr_db for run in runs[1:])
    assert most > least + 1
    for op in program.ops:
        if op.type not in ("conv2d", "mul"):
            continue
        name = op.inputs["Y" if op.type == "mul" else "Filter"][0]
        rows, exact = (
            v.T if op.type == "mul" else v.reshape(len(v), -1)
            for v in (better.params[name], program.params[name])
        )
        largest = np.abs(exact).max(axis=1, keepdims=True)
        assert np.allclose(np.abs(rows).max(axis=1, keepdims=True), largest, rtol=1e-6)
        steps = rows / largest * 127
        assert np.abs(steps - np.rint(steps)).max() < 1e-3


def error(off: np.ndarray[Any, Any], inputs: np.ndarray[Any, Any]) -> float:
    return float(np.square(off @ inputs).sum())


def test_the_error_of_the_output_is_least_and_not_that_of_each_weight() -> None:
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(2, 24, 6)) @ generator.normal(size=(2, 6, 400))
    inputs = mixed + 0.1 * generator.normal(size=(2, 24, 400))
    exact = generator.uniform(-127, 127, size=(2, 8, 24))
    nearest = np.rint(exact)
    moment = inputs @ inputs.transpose(0, 2, 1) / 400
    found = rounded_for(exact, moment, nearest)
    assert np.array_equal(found, np.rint(found)) and np.abs(found).max() <= 127
    assert error(found - exact, inputs) < error(nearest - exact, inputs) / 5
    # Errors that are handed on are less than those that single steps leave.
    damped = moment + reconstruct._damping(moment)
    rows = exact.swapaxes(1, 2)
    stepped = reconstruct._swept(nearest.swapaxes(1, 2), rows, damped)
    ways = (stepped, found.swapaxes(1, 2))
    before, after = (reconstruct._error(way - rows, damped) for way in ways)
    assert (after <= before + 1e-9).all() and after.sum() < 0.8 * before.sum()
    # Nothing goes together: nothing is better than the nearest.
    apart = np.tile(np.eye(24), (2, 1, 1))
    assert np.array_equal(rounded_for(exact, apart, nearest), nearest)
    # A group that was never fed.
    assert np.abs(rounded_for(exact, np.zeros_like(apart), nearest) - exact).max() <= 0.5


def damped_moment(generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """How 24 inputs that depend on 9 go together, of two groups."""
    inputs = generator.normal(size=(2, 24, 9)) @ generator.normal(size=(2, 9, 300))
    moment = inputs @ inputs.transpose(0, 2, 1) / 300
    return np.asarray(moment + reconstruct._damping(moment))


def handed_on_by_inverse(exact: np.ndarray[Any, Any], moment: np.ndarray[Any, Any]) -> Any:
    """GPTQ as its paper has it: (outputs, inputs) of one group, by the inverse, one by one."""
    order = np.argsort(np.diagonal(moment), kind="stable")[::-1]
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    left, rounded = exact[:, order].copy(), np.empty_like(exact)
    for _ in order:
        place = len(exact[0]) - len(inverse)
        whole = np.where(
            np.abs(exact[:, order[place]]) > 126.999, exact[:, order[place]], left[:, 0]
        )
        rounded[:, order[place]] = np.clip(np.rint(whole), -127, 127)
        error = (left[:, 0] - rounded[:, order[place]]) / inverse[0, 0]
        left = (left - error[:, None] * inverse[0])[:, 1:]
        inverse = inverse[1:, 1:] - np.outer(inverse[1:, 0], inverse[0, 1:]) / inverse[0, 0]
    return rounded


@pytest.mark.parametrize("block", [1, 5, 128])
def test_errors_are_handed_on_as_by_the_inverse(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_BLOCK", block)
    generator = np.random.default_rng(2)
    moment = damped_moment(generator)
    exact = generator.uniform(-127, 127, size=(2, 8, 24))
    exact[:, :, 3] = 127
    handed = reconstruct._handed_on(exact.swapaxes(1, 2), moment).swapaxes(1, 2)
    for group in range(2):
        assert np.array_equal(handed[group], handed_on_by_inverse(exact[group], moment[group]))


@pytest.mark.parametrize("block", [1, 7, 128])
def test_in_the_end_no_single_step_lessens_the_error(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_BLOCK", block)
    generator = np.random.default_rng(3)
    moment = damped_moment(generator)
    exact = generator.uniform(-127, 127, size=(2, 24, 8))
    exact[:, 3], exact[:, 4:8] = 127, 126.6
    start = np.rint(exact) + generator.integers(-3, 1, size=exact.shape)
    start[:, 3] = 127
    once = reconstruct._swept(start, exact, moment)
    monkeypatch.setattr(reconstruct, "_SWEEPS", 100)
    found = reconstruct._swept(start, exact, moment)
    assert np.abs(found).max() <= 127 and (found[:, 3] == 127).all()
    errors = [reconstruct._error(way - exact, moment) for way in (start, once, found)]
    assert (errors[1] < errors[0] / 4).all() and (errors[2] <= errors[1]).all()
    for place in set(range(24)) - {3}:
        for step in (-1, 1):
            other = found.copy()
            other[:, place] = np.clip(other[:, place] + step, -127, 127)
            assert (reconstruct._error(other - exact, moment) >= errors[2] - 1e-6).all()


@pytest.mark.parametrize(
    ("attrs", "padding"),
    [
        ({"paddings": [1, 2]}, ((1, 1), (2, 2))),
        ({"paddings": [0, 1, 2, 0]}, ((0, 1), (2, 0))),
        ({"paddings": [9, 9], "padding_algorithm": "VALID"}, ((0, 0), (0, 0))),
        ({"padding_algorithm": "SAME", "strides": [2, 2]}, ((0, 1), (1, 1))),
    ],
)
def test_inputs_are_those_that_a_filter_meets(
    attrs: dict[str, Any], padding: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_PLACES", 1 << 20)
    op = Op("conv2d", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["y"]})
    for key, value in attrs.items():
        op.set(key, value)
    value = np.random.default_rng(1).normal(size=(2, 4, 8, 7)).astype(np.float32)
    padded = np.pad(value, [(0, 0), (0, 0), *padding])
    step = attrs.get("strides", [1, 1])[0]
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::step, ::step]
    columns = reconstruct._columns(op, value, (6, 4, 3, 3))
    wanted = windows.transpose(1, 4, 5, 0, 2, 3).reshape(1, 36, -1)
    assert np.array_equal(np.sort(columns, axis=-1), np.sort(wanted, axis=-1))
    weight = np.ones((6, 36), np.float32)
    assert np.allclose((weight @ columns[0]).sum(), (weight @ wanted[0]).sum(), rtol=1e-3)


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown effort 'most': choose fast, good, best"):
        recipe("int8", effort="most")
