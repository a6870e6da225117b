"""Calibration: scales, what is refused, and what Paddle leaves to be put right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import make_model
import numpy as np
import pytest
from make_int8 import deep, on_server, repaired, samples_of

from lite_opt.conversion.convert import convert
from lite_opt.judge.compare import compare
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load
from lite_opt.quant.calibrate import calibrate, calibration_warnings
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import ALGORITHMS, RECIPES, Calibration, recipe
from py_runner.errors import ConvertError, DataError
from py_runner.tensors import Sample
from py_runner.watch import Watch


def test_scales_are_the_largest_magnitudes(calibrated: Quantized, model: Path) -> None:
    program = repaired(load(model))
    samples = samples_of(program)
    made = calibrate(program, samples, Calibration(algorithm="abs_max"))
    conv = next(op for op in made.ops if op.type == "conv2d")
    source = next(op for op in made.ops if op.outputs.get("Out") == conv.inputs["Input"])
    scale = made.params[source.inputs["InScale"][0]]
    assert scale.item() == pytest.approx(max(np.abs(s.feeds["x"]).max() for s in samples))
    weight = program.params["conv.w"]
    most = np.abs(weight).max((1, 2, 3), keepdims=True)
    stored = made.params["conv.w"]
    assert np.array_equal(stored, np.round(stored))
    assert np.abs(stored - weight / most * 127).max() < 1
    assert np.abs(stored).max((1, 2, 3)).tolist() == [127] * len(stored)
    assert [layer.weight for layer in calibrated.layers] == ["conv.w", "fc.w"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_gives_int8_kernels_and_like_answers(
    model: Path, algorithm: str, tmp_path: Path
) -> None:
    program = repaired(load(model))
    samples = samples_of(program, 4)
    done: list[int] = []
    made = calibrate(
        program,
        samples,
        Calibration(algorithm=algorithm, per_channel=algorithm != "avg"),
        watch=Watch(step=lambda _, count, total: done.append(total - count)),
    )
    assert done[-1] == 0
    assert done == sorted(done, reverse=True)
    report = compare(
        on_server(program, samples, tmp_path, "fp32"), on_server(made, samples, tmp_path / "q")
    )
    assert report.outputs[0].sqnr_db > 15
    nb = optimize(made, "arm", tmp_path / "model.nb", recipe=RECIPES["int8"])
    assert nb.kernels["arm", "int8"] >= 2


def test_the_seed_decides_what_calibrates(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    scales = []
    for index, seed in enumerate((0, 0, 1)):
        saved = tmp_path / f"q{index}"
        convert(
            model,
            tmp_path / f"b{index}",
            recipe=recipe("int8", samples=2, seed=seed),
            calibration=calibration_data,
            save_quantized=saved,
            target=["arm"],
            check=False,
        )
        params = load(saved).params
        scales.append({name: v.tolist() for name, v in params.items() if "scale" in name})
    assert scales[0] == scales[1] != scales[2]


def test_bad_calibration_data_is_refused_or_named() -> None:
    random = np.random.default_rng(0)
    good = [Sample(f"s{i}", {"x": random.random((1, 3, 8, 8), np.float32)}) for i in range(3)]
    assert calibration_warnings(good) == []
    nan = good[1].feeds["x"].copy()
    nan[0, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match="sample 'bad': input 'x' holds NaN"):
        calibration_warnings([good[0], Sample("bad", {"x": nan})])
    flat = np.ones((1, 3, 8, 8), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    constant = Sample("grey", {"x": flat})
    with pytest.raises(DataError, match="every calibration sample is constant, such as 'grey'"):
        calibration_warnings([constant, replace(constant, id="other")])
    assert calibration_warnings([*good, constant]) == [
        "1 calibration samples are constant, first 'grey'"
    ]
    assert "a single sample" in calibration_warnings(good[:1])[0]
    assert "are the same" in calibration_warnings([good[0], replace(good[0], id="copy")])[0]


def test_bad_calibration_data_ends_the_command(model: Path, tmp_path: Path) -> None:
    data = np.zeros((4, 3, make_model.SIDE, make_model.SIDE), np.float32)
    np.save(tmp_path / "constant.npy", data)
    data[2, 0, 0, 0] = np.inf
    np.save(tmp_path / "inf.npy", data)
    for name, words in (("constant", "is constant"), ("inf", "holds NaN or Inf")):
        with pytest.raises(DataError, match=words):
            convert(model, tmp_path / "out", recipe="int8", calibration=tmp_path / f"{name}.npy")
    assert not (tmp_path / "out").exists()


def test_one_sample_is_a_warning_in_the_bundle(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "one.npy", np.load(calibration_data)[:1])
    said: list[str] = []
    done = convert(
        model, tmp_path / "out", recipe="int8", calibration=tmp_path / "one.npy",
        watch=Watch(say=said.append, warn=said.append),
    )  # fmt: skip
    assert done.bundle is not None
    assert any("a single sample" in text for text in done.bundle.check["warnings"])
    assert any("judged on the samples of the calibration" in text for text in said)


def test_a_model_that_makes_nan_is_refused(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 4))
    root = b.op("sqrt", {"X": [x]}, "root", (-1, 4))  # of negative numbers
    y = b.op("mul", {"X": [root], "Y": [b.param("w", (4, 3))]}, "y", (-1, 3), x_num_col_dims=1,
             y_num_col_dims=1)  # fmt: skip
    program = b.program(y)
    with pytest.raises(ConvertError, match=r"NaN|finite|quantization"):
        calibrate(program, samples_of(program), Calibration())


def test_a_layer_that_is_the_output_keeps_its_scale(tmp_path: Path) -> None:
    """Paddle's own saving fetches the integers of such a layer."""
    program = repaired(deep())
    assert program.producers()[program.outputs[0].name].type == "mul"
    samples = samples_of(program, 4)
    made = calibrate(program, samples, Calibration())
    exact, rough = (
        np.stack(next(iter(r.outputs.values())))
        for r in (
            on_server(program, samples, tmp_path / "f", "fp32"),
            on_server(made, samples, tmp_path / "q"),
        )
    )
    assert np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()
