"""ONNX: what Paddle2ONNX makes of a model, judged by ONNX Runtime, and run as any other engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need

from lite_opt.bench import bench
from lite_opt.conversion import convert as conversion
from lite_opt.conversion import onnx as making
from lite_opt.conversion.convert import convert
from lite_opt.conversion.steps import Models
from lite_opt.judge.compare import compare
from lite_opt.model.load import load, save
from lite_opt.onnx import exporter
from lite_opt.passes.rule import Change
from lite_opt.recipes import RECIPES
from py_runner.engines import onnx
from py_runner.errors import ConvertError, EngineError, UsageError
from py_runner.files import checksum
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

CHECKED = "onnx 1."
BOARD = "qemu-aarch64:pi4"


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    try:
        exporter.check_installed(runs=True)
    except EngineError as error:
        need(False, str(error))


@pytest.fixture(scope="session")
def sloped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PIR export of a leaky_relu and a nearest_interp, whose attributes have 64 bits, with a
    tensor and what paddle makes of it."""
    out = tmp_path_factory.mktemp("sloped")
    script = """
import sys, numpy, paddle
from paddle import nn
paddle.seed(0)
net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.LeakyReLU(0.3), nn.Upsample(scale_factor=2))
net.eval()
x = paddle.randn([2, 3, 8, 8])
numpy.savez(f"{sys.argv[1]}/fed.npz", x=x.numpy(), y=net(x).numpy())
spec = paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")
paddle.jit.save(net, f"{sys.argv[1]}/inference", [spec])
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(out)], check=True)
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
    fed = np.load(sloped / "fed.npz")
    model = Model("m", "", "fp32", (tmp_path / "model.onnx",), tuple(program.inputs))
    answers = run(model, [Sample("x", {"x": fed["x"]})], engine="onnx")
    (answer,) = next(iter(answers.outputs.values()))
    assert np.abs(answer - fed["y"]).max() < 1e-5 and (fed["y"] < 0).any()


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
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: another network's file, which ONNX Runtime runs as well as the right one."""

    def planted(form: exporter.Form, out: Path) -> Any:
        out.write_bytes((whole / "model.onnx").read_bytes())
        return Bundle.open(whole).targets["onnx"]

    monkeypatch.setattr(making, "export_onnx", planted)
    model = make_model.save(make_model.classifier(seed=1), tmp_path / "other")
    said: list[str] = []
    done = convert(model, tmp_path / "b", target=["onnx"], watch=Watch(say=said.append))
    assert not done and done.bundle is None and done.report is not None
    assert done.report.candidate["engine"] == "onnx" and done.report.failures
    forms = [line.rpartition("made from ")[2] for line in said if "is wrong on" in line]
    assert forms == ["the repaired model", "the source model"]
    assert not (tmp_path / "b").exists()


def test_what_paddle2onnx_refuses_is_told_in_words(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (1, 4, 8, 8))
    b.op("affine_channel", {"X": [x], "Scale": [b.param("s", (4,))], "Bias": [b.param("b", (4,))]},
         "y", (1, 4, 8, 8), data_layout="NCHW")  # fmt: skip
    folder = make_model.save(b.program("y"), tmp_path / "model")
    with pytest.raises(ConvertError) as caught:
        exporter.export_onnx(exporter.Form("it", load(folder).files), tmp_path / "model.onnx")
    assert str(caught.value) == "Paddle2ONNX has no form in ONNX for affine_channel"
    assert not (tmp_path / "model.onnx").exists()


def test_refused_in_every_form_says_so_of_each(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(form: exporter.Form, out: Path) -> Any:
        raise ConvertError(f"Paddle2ONNX hates {form.files.model.name}")

    monkeypatch.setattr(making, "export_onnx", refused)
    with pytest.raises(ConvertError) as caught:
        convert(model, tmp_path / "b", target=["onnx"], check=False)
    told = "Paddle2ONNX hates inference.pdmodel"
    assert f"from the repaired model: {told}; from the source model: {told}" in str(caught.value)
    assert str(caught.value).endswith("leave onnx out of --target")
    assert not (tmp_path / "b").exists()


def test_of_which_operator_it_died_is_told() -> None:
    log = "[Paddle2ONNX] Start export pd_op.add, op_id: 1\n[Paddle2ONNX] Finish export pd_op.add, "
    log += "op_id: 1\n[Paddle2ONNX] Start export pd_op.roll, op_id: 2\n\x1b[31mno such thing\x1b[0m"
    assert (
        exporter._ended(255, log) == "exited with code 255 at roll; its last words: no such thing"
    )
    assert exporter._ended(None, log).endswith("and was stopped at roll")
    assert exporter._ended(-6, "") == "was killed by SIGABRT; its last words: (no output)"


def test_only_fp32_is_made(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32 only"):
        convert(model, tmp_path / "b", target=["onnx"], recipe="int8-weights")
    program, rounded = load(model), load(model)
    models = Models(program, rounded, RECIPES["int8-weights"])
    assert models.of("onnx") == (program, RECIPES["fp32"])
    assert models.of("arm") == (rounded, RECIPES["int8-weights"])


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
    with pytest.raises(
        UsageError, match="engine onnx runs on device cpu, qemu-aarch64, "
    ) as caught:
        run(opened.model("onnx"), samples, engine="onnx", device="gpu")
    assert "qemu-arm" not in str(caught.value)


def test_an_emulated_board_needs_an_interpreter_for_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Bundle.open(whole)
    for named, words in (
        ("", "make_python.sh FOLDER, and set PADDLE_EDGE"),
        (tmp_path, "holds no"),
    ):
        monkeypatch.setenv("PADDLE_EDGE_PYTHON_AARCH64", str(named))
        for act in (
            lambda: run(opened.model("onnx"), opened.read_samples(), engine="onnx", device=BOARD),
            lambda: bench(whole, engine="onnx", device=BOARD),
        ):
            with pytest.raises(EngineError, match=words):
                act()


@pytest.mark.slow
def test_on_an_emulated_board_it_says_what_the_server_says(whole: Path) -> None:
    """As on a board: CPython for ARM with NumPy and ONNX Runtime, and nothing else."""
    if not os.environ.get("PADDLE_EDGE_PYTHON_AARCH64"):
        pytest.skip("needs PADDLE_EDGE_PYTHON_AARCH64: armlinux/toolchains/make_python.sh")
    answers = answers_of(whole, device=BOARD)
    assert (answers.machine, answers.device) == ("Linux aarch64", BOARD)
    assert compare(Bundle.open(whole).reference(), answers)
    counted = bench(whole, engine="onnx", device=BOARD).arm_instructions
    assert (
        counted is not None
        and counted == bench(whole, engine="onnx", device=BOARD).arm_instructions
    )
    assert 10_000 < counted < 1_000_000


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
