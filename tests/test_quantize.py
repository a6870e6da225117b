"""Recipes beyond fp32: what they make, and what judges it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from click.testing import CliRunner
from make_int8 import samples_of
from make_model import SIDE

from lite_opt.cli.main import paddle_edge
from lite_opt.conversion.convert import convert
from lite_opt.conversion.losses import layer_losses
from lite_opt.conversion.plan import Material, Plan
from lite_opt.conversion.source import Source
from lite_opt.judge.compare import compare
from lite_opt.judge.limits import LIMITS, limits_for
from lite_opt.judge.sensitivity import sensitivity
from lite_opt.lite.optimizer import Optimizer, optimize
from lite_opt.model.load import load
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized, quantized_layers
from lite_opt.quant.operators import is_quantized
from lite_opt.quant.simulate import dequantized
from lite_opt.recipes import RECIPES, Calibration, recipe
from py_runner.errors import ConvertError, EngineError, UsageError
from py_runner.files.folder import check_free
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import read_nb
from py_runner.inference import run
from py_runner.tensors import Model

ARM_ONLY = ("fp16", "int8")


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
    check_free(int8 / "quantized", force=True)  # may be written again
    assert bundle.recipe["calibration"] == {
        "algorithm": "hist", "per_channel": True, "samples": 8, "seed": 0, "max_drop": None,
        "max_float": None, "equalise": True, "centre": True, "align": True,
        "correct_bias": True, "effort": "good", "float_layers": [],
    }  # fmt: skip
    assert bundle.recipe["limits"] == asdict(LIMITS["int8"])
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


def test_paddle_reads_the_quantized_model_that_is_saved(int8: Path) -> None:
    """In the older form, by the function that Paddle documents for it, with the same answers."""
    samples = Bundle.open(int8 / "int8.bundle").read_samples()
    np.save(int8 / "x.npy", samples[0].feeds["x"])
    script = (
        "import numpy as np, paddle\n"
        "paddle.enable_static()\n"
        "executor = paddle.static.Executor(paddle.CPUPlace())\n"
        "prefix = 'quantized/inference'\n"
        "program, _, fetched = paddle.static.load_inference_model(prefix, executor)\n"
        "(answer,) = executor.run(program, {'x': np.load('x.npy')}, fetched)\n"
        "np.save('answer.npy', answer)\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=int8, check=True, capture_output=True,
        env={**os.environ, "FLAGS_enable_pir_api": "0"},
    )  # fmt: skip
    source = Source.of(load(int8 / "quantized")).model(int8)
    (ours,) = run(source, samples[:1], engine="paddle").outputs.values()
    assert np.allclose(np.load(int8 / "answer.npy"), ours[0], atol=1e-5)


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


def test_int8_weights_are_rounded_for_data_where_there_is_some(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    weights = {}
    for name, options in (("plain", {}), ("rounded", {"calibration": calibration_data})):
        done = convert(model, tmp_path / name, recipe="int8-weights", **options)
        assert done and done.bundle is not None
        weights[name] = (done.bundle.path / "model.x86.nb").read_bytes()
        assert (done.bundle.recipe["rounded_for"] > 0) == (name == "rounded")
    assert len(weights["plain"]) == len(weights["rounded"])
    assert weights["plain"] != weights["rounded"]


@pytest.mark.parametrize(("given", "rounded_for"), [(20, 16), (19, 0), (150, 128)])
def test_int8_weights_are_rounded_for_the_samples_that_do_not_check(
    model: Path, tmp_path: Path, given: int, rounded_for: int
) -> None:
    data = np.random.default_rng(1).standard_normal((given, 3, SIDE, SIDE)).astype("float32")
    np.save(tmp_path / "data.npy", data)
    source = Source.of(load(model))
    plan = plan_of(tmp_path, recipe=RECIPES["int8-weights"], samples=tmp_path / "data.npy")
    found = Material.gather(plan, source, plan.recipe, None)
    assert len(found.calibration) == rounded_for and not found.drawn
    checking = {sample.id for sample in found.judged}
    assert len(checking) == 4 and not checking & {sample.id for sample in found.calibration}
    exact = plan_of(tmp_path, recipe=RECIPES["int16-weights"], samples=tmp_path / "data.npy")
    assert Material.gather(exact, source, exact.recipe, None).calibration == []


def plan_of(folder: Path, **settings: Any) -> Plan:
    nothing: dict[str, Any] = dict.fromkeys(("calibration", "samples", "save_quantized"))
    return Plan(
        **{**nothing, **settings}, target=["arm"], out=folder / "out", check_samples=4, check=True,
        force=False, reads=(),
    )  # fmt: skip


def test_settings_belong_to_int8_and_are_checked() -> None:
    with pytest.raises(UsageError, match="recipe fp16 is not calibrated: algorithm"):
        recipe("fp16", algorithm="hist")
    with pytest.raises(UsageError, match="min_max makes a float model and says nothing"):
        recipe("int8", algorithm="min_max")
    with pytest.raises(UsageError, match="at least 1"):
        recipe("int8", samples=0)
    with pytest.raises(UsageError, match="0 to 100"):
        recipe("int8", max_drop=-1.0)
    with pytest.raises(UsageError, match="max_float is 0 to 100 percent, not 101"):
        recipe("int8", max_float=101.0)
    assert recipe("int8", seed=None) is RECIPES["int8"]


def test_what_is_quantized_already_is_not_quantized_again(int8: Path, tmp_path: Path) -> None:
    for name in ("fp16", "int16-weights", "int8-weights"):
        with pytest.raises(UsageError, match="is quantized already"):
            convert(int8 / "quantized", tmp_path / "out", recipe=name)
    program = load(int8 / "quantized")
    with pytest.raises(UsageError, match="is quantized already"):
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


def test_the_x86_engine_refuses_int8_kernels(int8: Path, tmp_path: Path) -> None:
    program = load(int8 / "quantized")
    optimize(program, "x86", tmp_path / "m.nb", recipe=RECIPES["int8"])
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

    def wrong(self, program, target, out, *, recipe, **rest):  # type: ignore[no-untyped-def]
        if recipe.quant_type:
            program = program.copy()
            program.set_param("conv.w", program.params["conv.w"] * np.float32(-1))
        return original(self, program, target, out, recipe=recipe, **rest)

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
        scale = next((op for op in program.ops if op.type.startswith("fake_quantize")), None)
        if scale is None:  # every layer in float
            return program
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
    assert compare(done.bundle.reference(), twin, limits=limits_for("int8"))
    plain = dequantized(program)
    assert not is_quantized(plain)


def test_the_command_quantizes_and_says_what_it_made(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    ask = [
        "convert", str(model), "-o", str(tmp_path / "out"), "--recipe", "int8", "--calibration",
        str(calibration_data), "--calibration-samples", "6", "--algorithm", "mse",
    ]  # fmt: skip
    done = CliRunner().invoke(paddle_edge, [*ask, "--json"], standalone_mode=False)
    document = json.loads(done.stdout)
    assert document["check"]["status"] == "passed"
    assert document["targets"]["arm"]["kernels"]["arm/int8"] >= 2
    assert document["report"]["candidate"]["precision"] == "int8"
    assert Bundle.open(tmp_path / "out").recipe["calibration"]["algorithm"] == "mse"
    shown = CliRunner().invoke(paddle_edge, [*ask, "--force"], standalone_mode=False)
    assert "fp32 twin" in shown.stdout
    assert "calib" in shown.stdout


def test_losses_need_a_float_model(int8: Path, calibration_data: Path) -> None:
    with pytest.raises(UsageError, match="is quantized already"):
        layer_losses(int8 / "quantized", calibration=calibration_data)


def test_an_engine_that_dies_is_a_sentence(
    calibrated: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    program = calibrated.source
    with pytest.raises(ConvertError, match="Paddle's quantization exited with code 1"):
        calibrate(program, samples_of(program), Calibration())
    with pytest.raises(EngineError, match="engine paddle exited with code 1"):
        sensitivity(calibrated, samples_of(program))
