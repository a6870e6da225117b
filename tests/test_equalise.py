"""What makes int8 better around calibration: equal channels before it, corrected biases after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from make_int8 import on_server, repaired, samples_of

from lite_opt.judge.compare import compare
from lite_opt.judge.layers import first_difference
from lite_opt.judge.variants import Variants
from lite_opt.model.program import Program
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.correct import corrected
from lite_opt.quant.equalise import equalise, read_equalised, write_equalised
from lite_opt.quant.mixed import CORRECTED, Quantized
from lite_opt.recipes import RECIPES, Calibration
from py_runner.errors import ModelError


def uneven(activation: str = "relu") -> Program:
    """Convolution, bias, activation, depthwise convolution, bias: channels of magnitudes that are
    up to 200 times apart, which the depthwise weights make even again."""
    b = make_model.Builder(3)
    x = b.input("x", (-1, 3, 8, 8))
    apart = np.geomspace(1, 200, 16).astype(np.float32)
    for name, shape in (("w0", (16, 3, 3, 3)), ("b0", (16,)), ("w1", (16, 1, 3, 3)), ("b1", (16,))):
        b.param(name, shape)
    x = b.conv2d(x, "w0", "conv0", (-1, 16, 8, 8))
    x = b.op("elementwise_add", {"X": [x], "Y": ["b0"]}, "bias0", (-1, 16, 8, 8), axis=1)
    x = b.op(activation, {"X": [x]}, "act", (-1, 16, 8, 8))
    x = b.conv2d(x, "w1", "dw", (-1, 16, 8, 8))
    b.ops[-1].set("groups", 16)
    x = b.op("elementwise_add", {"X": [x], "Y": ["b1"]}, "bias1", (-1, 16, 8, 8), axis=1)
    program = b.program(x)
    column = apart.reshape(-1, 1, 1, 1)
    program.set_param("w0", program.params["w0"] * column)
    program.set_param("b0", program.params["b0"] * apart)
    program.set_param("w1", program.params["w1"] / column)
    return repaired(program)


def answers(program: Program, folder: Path) -> np.ndarray[Any, Any]:
    run = on_server(program, samples_of(program, 4, seed=9), folder, "fp32")
    return np.stack(next(iter(run.outputs.values())))


def sqnr(quantized: Quantized) -> float:
    with Variants(quantized, samples_of(quantized.source, 8, seed=7)) as variants:
        return compare(variants.reference(), variants.run(())).outputs[0].sqnr_db


def test_equalising_changes_no_answer_and_helps_int8(tmp_path: Path) -> None:
    program = uneven()
    samples = samples_of(program, 16)
    equal, changed = equalise(program, samples)
    assert len(changed) == 1
    before, after = answers(program, tmp_path / "a"), answers(equal, tmp_path / "b")
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
    settings = Calibration(algorithm="abs_max")
    plain = Quantized.of(calibrate(program, samples, settings), program)
    better = Quantized.of(calibrate(equal, samples, settings), equal)
    assert sqnr(better) > sqnr(plain) + 6


def test_channels_below_the_bound_of_a_relu6_come_near_to_it(tmp_path: Path) -> None:
    program = uneven("relu6")
    for name in ("w0", "b0"):  # from one fiftieth of the bound to four times it
        program.set_param(name, program.params[name] / np.float32(20))
    samples = samples_of(program, 32)
    equal, (changed,) = equalise(program, samples)
    factors = np.array(changed.factors)
    assert factors.min() == 1 and factors[0] > 4 and (factors[-4:] == 1).all()
    before, after = answers(program, tmp_path / "a"), answers(equal, tmp_path / "b")
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
    settings = Calibration(algorithm="abs_max")
    plain = Quantized.of(calibrate(program, samples, settings), program)
    better = Quantized.of(calibrate(equal, samples, settings), equal)
    assert sqnr(better) > sqnr(plain) + 3


def test_what_a_factor_does_not_pass_is_left_alone() -> None:
    program = uneven("sigmoid")
    equal, changed = equalise(program, samples_of(program, 4))
    assert changed == []
    assert all(equal.params[name] is value for name, value in program.params.items())


def test_corrected_biases_take_the_mean_error_and_go_with_the_layer(tmp_path: Path) -> None:
    program = uneven()
    samples = samples_of(program, 16)
    full = calibrate(program, samples, Calibration(algorithm="abs_max"))
    # Scales that cut off: the mean of what the depthwise layer computes falls.
    scale = next(o for o in full.ops if o.type.startswith("fake_quantize") and o.get("is_test"))
    name = scale.inputs["InScale"][0]
    full.params[name] = full.params[name] * np.float32(0.4)
    plain = Quantized.of(full, program)
    better = corrected(plain, samples)
    assert set(better.biases.values()) == {"b0", "b1"}
    assert sqnr(better) > sqnr(plain)
    names = [layer.layer for layer in better.layers]
    assert not any(n.endswith(CORRECTED) for n in better.with_float(names).params)
    assert [n for n in better.with_float(names[:1]).params if n.endswith(CORRECTED)] == [
        f"b1{CORRECTED}"
    ]
    floats = better.with_float(names)
    assert np.array_equal(answers(floats, tmp_path / "a"), answers(program, tmp_path / "b"))


def test_channels_that_are_multiplied_are_no_difference_of_layers(tmp_path: Path) -> None:
    program = uneven()
    samples = samples_of(program, 16)
    equal, changed = equalise(program, samples)
    made = calibrate(equal, samples, Calibration(algorithm="abs_max"))
    options: dict[str, Any] = {"engine": "paddle", "recipe": RECIPES["int8"], "taps": None}
    wrong = first_difference(program, made, samples[:4], **options)
    assert wrong.divergence is not None and wrong.divergence.name in changed[0].names
    report = first_difference(program, made, samples[:4], **options, equalised=changed)
    assert report, report.verdict
    write_equalised(tmp_path, changed)
    assert read_equalised(tmp_path) == changed
    (tmp_path / "equalised.json").write_text('[{"names": ["x"], "axis": 1}]')
    with pytest.raises(ModelError, match="damaged: 'factors'; convert the model again"):
        read_equalised(tmp_path)
