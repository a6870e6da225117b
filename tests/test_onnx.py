"""ONNX: what Paddle2ONNX makes of a model, judged by ONNX Runtime, and run as any other engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need

from lite_opt.conversion import convert as conversion
from lite_opt.conversion.convert import Conversion, convert
from lite_opt.judge.compare import compare
from lite_opt.model.load import load, save
from lite_opt.onnx import exporter
from lite_opt.passes.rule import Change
from py_runner.engines import onnx
from py_runner.errors import ConvertError, EngineError, UsageError
from py_runner.files import checksum
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Model, Sample

CHECKED = "onnx 1."


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    try:
        exporter.check_installed(runs=True)
    except EngineError as error:
        need(False, str(error))


@pytest.fixture(scope="session")
def sloped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PIR export of a leaky_relu and a nearest_interp, whose attributes have 64 bits."""
    out = tmp_path_factory.mktemp("sloped")
    script = """
import sys, paddle
from paddle import nn
paddle.seed(0)
net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.LeakyReLU(0.3), nn.Upsample(scale_factor=2))
paddle.jit.save(net, sys.argv[1], [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")])
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(out / "inference")], check=True
    )
    assert (out / "inference.json").is_file()
    return out


@pytest.fixture(scope="session")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier as a bundle for all three targets."""
    out = tmp_path_factory.mktemp("whole") / "tiny.bundle"
    assert convert(model, out, target=["onnx", "arm", "x86"])
    return out


def answers_of(bundle: Path, samples: list[Sample] | None = None, **options: Any) -> Any:
    opened = Bundle.open(bundle)
    return run(opened.model("onnx"), samples or opened.read_samples(), engine="onnx", **options)


def test_a_bundle_holds_an_onnx_file_judged_as_the_others(whole: Path) -> None:
    opened = Bundle.open(whole)
    assert list(opened.targets) == ["arm", "x86", "onnx"]
    made = opened.targets["onnx"]
    assert (made.file, made.precision) == ("model.onnx", "fp32")
    assert made.bytes == (whole / "model.onnx").stat().st_size
    assert made.opt_version.startswith("Paddle2ONNX 2.")
    assert made.onnx is not None and made.onnx.made_from == "the repaired model"
    params = load_bytes(opened)
    assert sum(made.weights.values()) >= params
    assert opened.check["targets"]["onnx"].startswith(f"passed on {CHECKED}")
    assert [j["passed"] for j in opened.check["judges"] if j["engine"].startswith(CHECKED)] == [
        True
    ]
    entries = json.loads((whole / "bundle.json").read_text(encoding="utf-8"))["targets"]
    assert ["onnx" in entry for entry in entries.values()] == [False, False, True]


def load_bytes(bundle: Bundle) -> int:
    """Bytes of the float weights that Paddle Lite's file has."""
    return bundle.targets["x86"].weights["float32"]


def test_engine_onnx_says_what_the_server_says(whole: Path) -> None:
    answers = answers_of(whole, threads=2, repeat=3)
    assert answers.engine == "onnx" and answers.engine_version[0].isdigit()
    assert (answers.precision, answers.threads) == ("fp32", 2)
    report = compare(Bundle.open(whole).reference(), answers)
    assert report and report.outputs[0].max_probability_diff < 1e-6


def test_its_batch_is_free_where_the_models_is(whole: Path) -> None:
    samples = Bundle.open(whole).read_samples()
    batch = Sample("all", {"x": np.concatenate([s.feeds["x"] for s in samples])})
    together = next(iter(answers_of(whole, [batch]).outputs.values()))[0]
    apart = next(iter(Bundle.open(whole).reference().outputs.values()))
    assert np.abs(together - np.concatenate(apart)).max() < 1e-6


@pytest.mark.parametrize("form", ["the repaired model", "the source model"])
def test_attributes_of_64_bits_are_read_as_they_are(
    sloped: Path, tmp_path: Path, form: str
) -> None:
    """Paddle2ONNX 2.1.0 alone makes 2.5e-43 or 1.7e22 of the slope, and dies of the scale."""
    program = load(sloped)
    files = program.files if form == "the source model" else save(program, tmp_path)
    made = exporter.export_onnx(exporter.Form(form, files), tmp_path / "model.onnx")
    assert made.onnx is not None and made.onnx.made_from == form
    sample = Sample("x", {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)})
    inputs = tuple(program.inputs)
    answers = run(
        Model("m", "", "fp32", (tmp_path / "model.onnx",), inputs), [sample], engine="onnx"
    )
    files = program.files
    assert files.params is not None
    server = run(
        Model("m", "", "fp32", (files.model, files.params), inputs), [sample], engine="paddle"
    )
    assert compare(server, answers)


def sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repairs that change the numbers."""
    honest = conversion.repair

    def repair(program: Any, **options: Any) -> list[Change]:
        changes = honest(program, **options)
        program.set_param("fc.w", program.params["fc.w"] * np.float32(1.1))
        return changes

    monkeypatch.setattr(conversion, "repair", repair)


def test_the_form_that_is_right_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    done = convert(model, tmp_path / "b", target=["onnx"])
    assert done and done.bundle is not None and done.report is not None
    assert list(done.bundle.targets) == ["onnx"]
    made = done.bundle.targets["onnx"].onnx
    assert made is not None and made.made_from == "the source model"
    assert done.bundle.check["engine"].startswith(CHECKED)
    assert compare(done.bundle.reference(), answers_of(tmp_path / "b"))


def test_wrong_in_every_form_is_no_bundle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    monkeypatch.setattr("lite_opt.conversion.onnx._forms", only_the_repaired)
    done: Conversion = convert(model, tmp_path / "b", target=["onnx"])
    assert not done and done.bundle is None and done.report is not None
    assert done.report.candidate["engine"] == "onnx" and done.report.failures
    assert not (tmp_path / "b").exists()


def only_the_repaired(models: Any, source: Any, folder: Path) -> Any:
    yield exporter.Form("the repaired model", save(models.program, folder))


def test_what_paddle2onnx_refuses_is_told_in_words(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (1, 4, 8, 8))
    b.op("affine_channel", {"X": [x], "Scale": [b.param("s", (4,))], "Bias": [b.param("b", (4,))]},
         "y", (1, 4, 8, 8), data_layout="NCHW")  # fmt: skip
    folder = make_model.save(b.program("y"), tmp_path / "model")
    with pytest.raises(ConvertError) as caught:
        convert(folder, tmp_path / "b", target=["onnx"], check=False)
    words = str(caught.value)
    told = "Paddle2ONNX has no form in ONNX for affine_channel"
    assert f"from the repaired model: {told}; from the source model: {told}" in words
    assert words.endswith("leave onnx out of --target")
    assert "\n" not in words and not (tmp_path / "b").exists()


def test_only_fp32_is_made(model: Path, tmp_path: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="fp32 only"):
        convert(model, tmp_path / "b", target=["onnx"], recipe="int8-weights")
    done = convert(model, tmp_path / "b", target=["arm", "onnx"], recipe="int8-weights")
    assert done and done.bundle is not None
    precisions = {name: made.precision for name, made in done.bundle.targets.items()}
    assert precisions == {"arm": "int8-weights", "onnx": "fp32"}
    assert done.bundle.check["targets"]["onnx"].startswith(f"passed on {CHECKED}")


def test_a_damaged_file_is_told_in_one_line(whole: Path, tmp_path: Path) -> None:
    with temporary_folder() as folder:
        copy = folder / "copy.onnx"
        data = bytearray((whole / "model.onnx").read_bytes())
        for start in range(0, len(data), 97):
            data[start] ^= 0xFF
        copy.write_bytes(data)
        model = replace(Bundle.open(whole).model("onnx"), files=(copy,))
        with pytest.raises(EngineError) as caught:
            run(model, Bundle.open(whole).read_samples(), engine="onnx")
    assert "ONNX Runtime refuses it" in str(caught.value) and "\n" not in str(caught.value)


def test_an_altered_file_is_not_run(whole: Path, tmp_path: Path) -> None:
    opened = Bundle.open(whole)
    file = tmp_path / "model.onnx"
    file.write_bytes((whole / "model.onnx").read_bytes()[:-1] + b"!")
    assert checksum.sha256(file) != opened.targets["onnx"].sha256
    replace(opened, targets={"onnx": opened.targets["onnx"]}).write(tmp_path)
    argv = ["run", str(tmp_path), "-o", str(tmp_path / "run"), "--engine", "onnx"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "lite_opt.cli.main", *argv],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.strip().endswith("damaged: its checksum is not the bundle's; copy it again")
    assert len(done.stderr.strip().splitlines()) == 1


def test_each_engine_runs_its_own_file(whole: Path, bundle: Path) -> None:
    opened = Bundle.open(whole)
    samples = opened.read_samples()
    with pytest.raises(UsageError, match=r"engine onnx runs the \.onnx file of a bundle"):
        run(opened.model("x86"), samples, engine="onnx")
    with pytest.raises(UsageError, match=r"engine lite runs the \.nb file of a bundle"):
        run(opened.model("onnx"), samples, engine="lite")
    with pytest.raises(UsageError, match="convert with --target onnx as well"):
        Bundle.open(bundle).model("onnx")
    with pytest.raises(UsageError, match="engine onnx runs on device cpu only"):
        run(opened.model("onnx"), samples, engine="onnx", device="qemu-aarch64")


def test_what_is_missing_is_named_before_long_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, words in (("onnxruntime", "pip install onnxruntime"), ("paddle2onnx", "[onnx]")):
        hide(monkeypatch, package)
        with pytest.raises(EngineError) as caught:
            convert(model, tmp_path / "b", target=["onnx"])
        assert package in str(caught.value) and words in str(caught.value)
    assert onnx.missing()


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if a package were not installed, the others being as they are."""
    import importlib.util

    honest = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == package else honest(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find)
