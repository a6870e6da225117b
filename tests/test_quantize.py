"""Recipes beyond fp32: what they make, what judges it, and which layers they cost most."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import make_model
import numpy as np
import pytest
from click.testing import CliRunner

from lite_opt.cli import cli
from lite_opt.conversion.convert import Source, convert, layer_losses, random_samples
from lite_opt.judge.compare import compare
from lite_opt.lite.optimizer import Optimizer, optimize
from lite_opt.model.load import load, save, stage
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.quant import quantize
from lite_opt.quant.quantize import (
    Quantized,
    calibrate,
    calibration_warnings,
    choose_float_layers,
    dequantized,
    fake_fp16,
    is_quantized,
    quantized_layers,
    sensitivity,
)
from lite_opt.recipes import ALGORITHMS, RECIPES, Calibration, recipe
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import read_nb
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

ARM_ONLY = ("fp16", "int8")


def samples_of(program: Program, count: int = 8, *, seed: int = 0) -> list[Sample]:
    return random_samples(program.inputs, count=count, seed=seed)


def on_server(
    program: Program, samples: list[Sample], folder: Path, precision: str = "int8"
) -> Run:
    folder.mkdir(exist_ok=True)
    files = save(program, folder)
    assert files.params is not None
    model = Model("model", "", precision, (files.model, files.params), tuple(program.inputs))
    return run(model, samples, engine="paddle")


def repaired(program: Program) -> Program:
    repair(program)
    return program


def deep(*, outlier: str = "") -> Program:
    """Four convolutions, a linear layer; `outlier` (w1 to w3) has a weight that swamps the rest."""
    b = make_model.Builder(3)
    x = b.input("x", (-1, 3, 8, 8))
    channels = 3
    for index in range(4):
        weight = b.param(f"w{index}", (16, channels, 3, 3), 1.5)
        x = b.conv2d(x, weight, f"conv{index}", (-1, 16, 8, 8))
        x = b.op("relu", {"X": [x]}, f"relu{index}", (-1, 16, 8, 8))
        channels = 16
    flat = b.op(
        "flatten_contiguous_range", {"X": [x]}, "flat", (-1, 1024), start_axis=1, stop_axis=3
    )
    y = b.op(
        "matmul_v2",
        {"X": [flat], "Y": [b.param("fc.w", (1024, 10))]},
        "fc",
        (-1, 10),
        trans_x=False,
        trans_y=False,
    )
    if outlier:
        # One scale for the tensor: 300 times the others rounds them to nothing. What it is
        # multiplied with is small, so the numbers of the float model stay what they were.
        before = f"w{int(outlier[1:]) - 1}"
        b.params[before] = b.params[before].copy()
        b.params[before][0] /= 300
        value = b.params[outlier].copy()
        value[0, 0, 0, 0] = np.abs(value).max() * 300
        b.params[outlier] = value
    return b.program(y)


@pytest.fixture(scope="session")
def calibrated(model: Path) -> Quantized:
    """The tiny classifier in int8, next to its repaired float form."""
    program = repaired(load(model))
    return Quantized.of(calibrate(program, samples_of(program), Calibration()), program)


@pytest.fixture(scope="session")
def calibration_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve random tensors for the tiny classifier, and their first classes as labels."""
    path = tmp_path_factory.mktemp("calibration") / "data.npy"
    shape = (12, 3, make_model.SIDE, make_model.SIDE)
    np.save(path, np.random.default_rng(0).standard_normal(shape).astype("float32"))
    return path


@pytest.fixture(scope="session")
def int8(model: Path, calibration_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static int8 bundle of the tiny classifier, and its quantized Paddle model beside it."""
    folder = tmp_path_factory.mktemp("int8")
    assert convert(
        model,
        folder / "int8.bundle",
        recipe=recipe("int8", samples=8),
        calibration=calibration_data,
        save_quantized=folder / "quantized",
    )
    return folder


# -- recipes and the combinations that make no sense


def test_every_recipe_makes_what_it_says(model: Path, int8: Path, tmp_path: Path) -> None:
    dtypes = {"int16-weights": "int16", "int8-weights": "int8"}
    for name in ("fp16", "int16-weights", "int8-weights"):
        done = convert(model, tmp_path / name, recipe=name)
        assert done and done.bundle is not None
        assert done.bundle.recipe["name"] == name
        arm, x86 = done.bundle.targets["arm"], done.bundle.targets["x86"]
        assert arm.precision == name
        assert x86.precision == ("fp32" if name in ARM_ONLY else name)
        if name == "fp16":
            assert arm.kernels["arm/fp16"] >= 4
            assert done.bundle.check["engine"].startswith("paddle")
        else:
            assert arm.weights[dtypes[name]] > 0
            assert done.bundle.check["engine"].startswith("lite")
    bundle = Bundle.open(int8 / "int8.bundle")
    assert bundle.targets["arm"].kernels["arm/int8"] >= 2
    assert bundle.targets["arm"].calib >= 1


def test_an_int8_bundle_says_what_it_is_and_who_judged_it(int8: Path) -> None:
    bundle = Bundle.open(int8 / "int8.bundle")
    assert bundle.recipe["calibration"] == {
        "algorithm": "hist", "per_channel": True, "samples": 8, "seed": 0, "max_drop": None,
        "float_layers": [],
    }  # fmt: skip
    assert bundle.recipe["limits"] == {"cosine": 0.99, "max_abs_diff": None, "top1_drop": 1.0}
    assert bundle.targets["x86"].precision == "fp32"
    assert bundle.check["status"] == "passed"
    assert bundle.check["engine"].startswith("paddle ")
    assert bundle.check["targets"]["x86"] == "passed, as an fp32 twin"
    assert "not run" in bundle.check["targets"]["arm"]
    assert bundle.check["samples"] == 4  # 12 tensors, 8 of them calibrated
    # The twin is right, and the quantized model is what the server engine ran.
    samples = bundle.read_samples()
    assert compare(bundle.reference(), run(bundle.model("x86"), samples))
    program = load(int8 / "quantized")
    assert is_quantized(program)
    source = Source.of(program).model(int8)
    assert source.precision == "int8"
    assert compare(bundle.reference(), run(source, samples, engine="paddle"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "fp16", "target": ["x86"]}, "fp16 kernels for ARM only"),
        ({"recipe": "int8", "target": ["x86"], "calibration": "data"}, "wrong numbers"),
        ({"recipe": "int8"}, "--calibration"),
        ({"calibration": "data"}, "leave --calibration out"),
        ({"recipe": "int8-weights", "save_quantized": "q"}, "leave --save-quantized out"),
        ({"recipe": "int4"}, "unknown recipe 'int4': choose fp32, fp16, int16-weights"),
    ],
)
def test_impossible_combinations_are_refused(
    model: Path, tmp_path: Path, options: dict, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        convert(model, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_settings_belong_to_int8_and_are_checked() -> None:
    with pytest.raises(UsageError, match="recipe fp16 is not calibrated: algorithm"):
        recipe("fp16", algorithm="hist")
    with pytest.raises(UsageError, match="min_max makes a float model and says nothing"):
        recipe("int8", algorithm="min_max")
    with pytest.raises(UsageError, match="at least 1"):
        recipe("int8", samples=0)
    with pytest.raises(UsageError, match="0 to 100"):
        recipe("int8", max_drop=-1.0)
    assert recipe("int8", seed=None) is RECIPES["int8"]


def test_what_is_quantized_already_is_not_quantized_again(int8: Path, tmp_path: Path) -> None:
    for name in ("fp16", "int16-weights", "int8-weights"):
        with pytest.raises(UsageError, match="is quantized already"):
            convert(int8 / "quantized", tmp_path / "out", recipe=name)
    program = load(int8 / "quantized")
    with pytest.raises(UsageError, match="is quantized already"):
        calibrate(program, samples_of(program), Calibration())


# -- calibration


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
    nb = optimize(stage(made, tmp_path), "arm", tmp_path / "model.nb", recipe=RECIPES["int8"])
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


def test_without_int8_kernels_there_is_no_int8_bundle(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 4))
    y = b.op("relu", {"X": [x]}, "y", (-1, 4))
    folder = make_model.save(b.program(y), tmp_path / "plain")
    np.save(tmp_path / "data.npy", np.eye(4, dtype=np.float32))
    with pytest.raises(ConvertError, match="no layer has an int8 kernel"):
        convert(folder, tmp_path / "out", recipe="int8", calibration=tmp_path / "data.npy")
    with pytest.raises(ConvertError, match="no int8 weights"):
        convert(folder, tmp_path / "out", recipe="int8-weights")


def test_a_silent_float_file_is_a_failure(
    model: Path, calibration_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What algorithm min_max does: the "quantized" model has no quantization in it.
    monkeypatch.setattr(Quantized, "with_float", lambda self, layers: self.source)
    with pytest.raises(ConvertError, match=r"recipe int8 was asked for.*has no int8 kernels"):
        convert(model, tmp_path / "out", recipe="int8", calibration=calibration_data)
    assert not (tmp_path / "out").exists()


# -- which layers lose


def test_layers_go_back_to_float_exactly(calibrated: Quantized, tmp_path: Path) -> None:
    program = calibrated.source
    samples = samples_of(program, 3, seed=5)
    source = on_server(program, samples, tmp_path / "float", "fp32")
    names = [layer.layer for layer in calibrated.layers]
    for kept in ([], names[:1], names[1:], names):
        mixed = calibrated.with_float(kept)
        assert [layer.layer for layer in quantized_layers(mixed)] == [
            name for name in names if name not in kept
        ]
        answers = on_server(mixed, samples, tmp_path / "mixed")
        same = all(
            np.array_equal(a, b)
            for a, b in zip(*(next(iter(r.outputs.values())) for r in (source, answers)))
        )
        assert same == (kept == names)
    assert set(calibrated.with_float(names).params) == {
        f"{name}.float" if name in calibrated.floats else name for name in program.params
    }
    with pytest.raises(UsageError, match="no quantized layer is called 'nope'"):
        calibrated.check(["nope"])


def test_the_bad_layer_is_the_worst_and_is_kept_in_float(tmp_path: Path) -> None:
    program = repaired(deep(outlier="w2"))
    samples = samples_of(program, 24)
    settings = Calibration(algorithm="abs_max", per_channel=False)
    quantized = Quantized.of(calibrate(program, samples[:8], settings), program)
    assert len(quantized.layers) == 5
    done: list[int] = []
    losses = sensitivity(
        quantized, samples[8:], watch=Watch(step=lambda _, n, total: done.append(total - n))
    )
    assert done == [4, 3, 2, 1, 0]
    assert losses[0].weight == "w2"
    assert losses[0].sqnr_db < losses[1].sqnr_db - 6
    assert losses[0].parameters == 16 * 16 * 9
    easy = choose_float_layers(quantized, samples[8:], 100.0)
    assert easy.layers == ()
    assert easy.drop_int8 == easy.drop > 20
    limit = easy.drop_int8 / 2
    found = choose_float_layers(quantized, samples[8:], limit)
    assert losses[0].layer in found.layers
    assert found.drop <= limit
    # Fewest: without any one of them the limit is broken.
    for layer in found.layers:
        fewer = [name for name in found.layers if name != layer]
        assert choose_float_layers(quantized, samples[8:], 100.0, always=fewer).drop > limit


def test_labels_turn_agreement_into_accuracy(calibrated: Quantized) -> None:
    samples = samples_of(calibrated.source, 6)
    found = choose_float_layers(calibrated, [replace(sample, label=0) for sample in samples], 100.0)
    assert (found.measure, found.samples) == ("top-1 accuracy", 6)
    assert choose_float_layers(calibrated, samples, 100.0).measure == "top-1 agreement"


def test_losses_cannot_be_measured_where_the_float_model_has_no_numbers(
    calibrated: Quantized,
) -> None:
    good, bad = samples_of(calibrated.source, 2)
    bad.feeds["x"][...] = np.nan
    for measure in (sensitivity, partial(choose_float_layers, max_drop=1.0)):
        with pytest.raises(DataError, match=rf"sample '{re.escape(bad.id)}': the float model"):
            measure(calibrated, [good, bad])


def test_outputs_that_are_no_scores_cannot_be_ranked() -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 3, 8, 8))
    y = b.conv2d(x, b.param("w", (4, 3, 3, 3)), "y", (-1, 4, 6, 6), padding=0)
    program = b.program(y)
    samples = samples_of(program, 2)
    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    with pytest.raises(UsageError, match="max_drop needs scores of classes"):
        choose_float_layers(quantized, samples, 1.0)
    assert sensitivity(quantized, samples)[0].top1_agreement is None


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


def test_max_drop_ends_up_in_the_bundle(tmp_path: Path) -> None:
    folder = make_model.save(deep(outlier="w1"), tmp_path / "model")
    data = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype("float32")
    np.save(tmp_path / "data.npy", data)
    done = convert(
        folder,
        tmp_path / "out",
        recipe=recipe("int8", algorithm="abs_max", per_channel=False, max_drop=10.0),
        calibration=tmp_path / "data.npy",
    )
    assert done.float_layers is not None
    assert done.float_layers.layers
    assert done.bundle is not None
    settings = done.bundle.recipe["calibration"]
    assert settings["float_layers"] == list(done.float_layers.layers)
    assert settings["max_drop"] == 10.0
    nb = read_nb(done.bundle.path / "model.arm.nb")
    convolutions = [op.precision for op in nb.ops if op.type == "conv2d"]
    assert 0 < convolutions.count("int8") < 4


def test_float_layers_are_named_or_refused(
    model: Path, calibration_data: Path, calibrated: Quantized, tmp_path: Path
) -> None:
    first, second = (layer.layer for layer in calibrated.layers)
    done = convert(
        model, tmp_path / "out", recipe=recipe("int8", float_layers=(first,)),
        calibration=calibration_data,
    )  # fmt: skip
    assert done.bundle is not None
    nb = read_nb(done.bundle.path / "model.arm.nb")
    assert [op.precision for op in nb.ops if op.type == "conv2d"] == ["float"]
    with pytest.raises(UsageError, match="no quantized layer is called 'x'"):
        convert(
            model, tmp_path / "x", recipe=recipe("int8", float_layers=("x",)),
            calibration=calibration_data,
        )  # fmt: skip
    with pytest.raises(ConvertError, match="no layer is left in int8"):
        convert(
            model, tmp_path / "none", recipe=recipe("int8", float_layers=(first, second)),
            calibration=calibration_data,
        )  # fmt: skip


# -- what judges


def test_the_x86_engine_refuses_int8_kernels(int8: Path, tmp_path: Path) -> None:
    program = load(int8 / "quantized")
    optimize(stage(program, tmp_path), "x86", tmp_path / "m.nb", recipe=RECIPES["int8"])
    model = Model("m", "", "int8", (tmp_path / "m.nb",), tuple(program.inputs))
    samples = samples_of(program, 2)
    with pytest.raises(EngineError, match="has int8 kernels, which compute wrong numbers on x86"):
        run(model, samples)
    assert run(model, samples, unsafe_int8=True).samples  # wrong, but as asked


def test_wrong_weights_leave_no_bundle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where fp32 is right on x86 and the quantized weights are not, quantization is to blame."""
    original = Optimizer.run

    def wrong(self, files, target, out, *, recipe, **rest):  # type: ignore[no-untyped-def]
        if recipe.quant_type:
            program = load(files.model, params=files.params)
            program.set_param("conv.w", program.params["conv.w"] * np.float32(-1))
            files = save(program, tmp_path)
        return original(self, files, target, out, recipe=recipe, **rest)

    monkeypatch.setattr(Optimizer, "run", wrong)
    done = convert(model, tmp_path / "out", recipe="int8-weights")
    assert not done
    assert done.report is not None
    assert done.report.candidate["precision"] == "int8-weights"
    assert not (tmp_path / "out").exists()


def test_wrong_int8_arithmetic_leaves_no_bundle(
    model: Path, calibration_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Quantized.with_float

    def wrong(self, layers):  # type: ignore[no-untyped-def]
        program = original(self, layers)
        scale = next(op for op in program.ops if op.type.startswith("fake_quantize"))
        name = scale.inputs["InScale"][0]
        program.params[name] = program.params[name] / np.float32(50)
        return program

    monkeypatch.setattr(Quantized, "with_float", wrong)
    done = convert(model, tmp_path / "out", recipe="int8", calibration=calibration_data)
    assert not done
    assert done.report is not None
    assert done.report.candidate["engine"] == "paddle"
    assert not (tmp_path / "out").exists()


def test_what_overflows_in_fp16_is_no_fp16_bundle(model: Path, tmp_path: Path) -> None:
    program = load(model)
    program.set_param("fc.w", program.params["fc.w"] * np.float32(1e5))
    folder = make_model.save(program, tmp_path / "large")
    assert convert(folder, tmp_path / "fp32")
    done = convert(folder, tmp_path / "fp16", recipe="fp16")
    assert not done
    assert done.report is not None
    assert any("NaN or Inf" in text for text in done.report.failures)
    assert not (tmp_path / "fp16").exists()


def test_fake_fp16_rounds_to_16_bits(model: Path, tmp_path: Path) -> None:
    program = repaired(load(model))
    samples = samples_of(program, 2)
    answers = on_server(fake_fp16(program), samples, tmp_path / "h", "fp16")
    exact = on_server(program, samples, tmp_path / "f", "fp32")
    for half, full in zip(*(next(iter(r.outputs.values())) for r in (answers, exact))):
        assert np.array_equal(half, half.astype(np.float16).astype(np.float32))
        assert 0 < np.abs(half - full).max() < 2e-3


# -- models that come quantized


@pytest.mark.parametrize("form", ["fake", "linear"])
def test_a_model_trained_with_quantization_goes_through(form: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("make_quantized.py")
    source = tmp_path / "qat"
    source.mkdir()
    made = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(source), form],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(made.stdout.split()[-1]) > 0.9
    program = load(source)
    assert is_quantized(program)
    assert len(quantized_layers(program)) == 3
    done = convert(source, tmp_path / "out")
    assert done and done.bundle is not None
    assert done.bundle.recipe["name"] == "int8"
    assert done.bundle.recipe["calibration"] is None
    arm, x86 = done.bundle.targets["arm"], done.bundle.targets["x86"]
    assert (arm.precision, x86.precision) == ("int8", "fp32")
    nb = read_nb(done.bundle.path / arm.file)
    assert [op.precision for op in nb.ops if op.type in ("conv2d", "fc")] == ["int8"] * 3
    assert not {k for k in x86.kernels if k.endswith("int8")}
    # The twin stands for the same numbers, without the rounding of activations.
    samples = done.bundle.read_samples()
    twin = run(done.bundle.model("x86"), samples)
    assert compare(done.bundle.reference(), twin, limits=RECIPES["int8"].limits)
    plain = dequantized(program)
    assert not is_quantized(plain)


# -- the command


def test_the_command_quantizes_and_says_what_it_made(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    ask = [
        "convert", str(model), "-o", str(tmp_path / "out"), "--recipe", "int8", "--calibration",
        str(calibration_data), "--calibration-samples", "6", "--algorithm", "mse",
    ]  # fmt: skip
    done = CliRunner().invoke(cli._paddle_edge, [*ask, "--json"], standalone_mode=False)
    document = json.loads(done.stdout)
    assert document["check"]["status"] == "passed"
    assert document["targets"]["arm"]["kernels"]["arm/int8"] >= 2
    assert document["report"]["candidate"]["precision"] == "int8"
    assert Bundle.open(tmp_path / "out").recipe["calibration"]["algorithm"] == "mse"
    shown = CliRunner().invoke(cli._paddle_edge, [*ask, "--force"], standalone_mode=False)
    assert "fp32 twin" in shown.stdout
    assert "calib" in shown.stdout


def test_the_command_ranks_layers_and_draws_them(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "losses.svg"
    ask = ["sensitivity", str(model), "--calibration", str(calibration_data)]
    done = CliRunner().invoke(
        cli._paddle_edge, [*ask, "--plot", str(plot), "--json"], standalone_mode=False
    )
    layers = json.loads(done.stdout)["layers"]
    assert {layer["weight"] for layer in layers} == {"conv.w", "fc.w"}
    assert layers == sorted(layers, key=lambda layer: layer["sqnr_db"])
    drawing = ElementTree.fromstring(plot.read_text(encoding="utf-8"))
    bars = [e for e in drawing.iter() if e.tag.endswith("rect")]
    assert len(bars) == 1 + len(layers)
    shown = CliRunner().invoke(cli._paddle_edge, ask, standalone_mode=False)
    assert "worst first" in shown.stdout
    again = CliRunner().invoke(cli._paddle_edge, [*ask, "--plot", str(plot)], standalone_mode=False)
    assert isinstance(again.exception, UsageError)


def test_losses_need_a_float_model(int8: Path, calibration_data: Path) -> None:
    with pytest.raises(UsageError, match="is quantized already"):
        layer_losses(int8 / "quantized", calibration=calibration_data)


def test_an_engine_that_dies_is_a_sentence(
    calibrated: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize.sys, "executable", "/bin/false")
    program = calibrated.source
    with pytest.raises(ConvertError, match="Paddle's quantization exited with code 1"):
        calibrate(program, samples_of(program), Calibration())
    with pytest.raises(EngineError, match="engine paddle exited with code 1"):
        sensitivity(calibrated, samples_of(program))
