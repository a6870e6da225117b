"""What is wrong is said in one line, with exit code 2 or 3, and nothing is left behind.

Every case starts from a folder where all is right (`stage`), breaks one thing, and runs the
command: the folder must be the same afterwards, byte for byte, and so must the temporary folder.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need
from PIL import Image

from lite_opt.cli.main import main
from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.judge.compare import compare
from lite_opt.lite.optimizer import Optimizer
from lite_opt.model.load import load, save
from lite_opt.model.program import Program
from lite_opt.passes import repair
from lite_opt.passes.attributes import fill_defaults
from lite_opt.recipes import RECIPES
from lite_opt.views.describe import describe
from lite_opt.views.report import charts
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from py_runner.data.random_samples import random_samples
from py_runner.engines.lite import PYTHON_VARIABLE
from py_runner.errors import ConvertError, EngineError, ModelError, PaddleEdgeError, UsageError
from py_runner.files.checksum import Checksums
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Sample, TensorSpec
from py_runner.watch import Watch

COMMAND = str(Path(sys.executable).with_name("paddle-edge"))
SHAPE = (1, 3, make_model.SIDE, make_model.SIDE)
ZEROS = np.zeros(SHAPE, "float32")
# Inferences of the tiny model that take about half a second; and that never end.
SOME, ENDLESS = 10_000, 1_000_000_000
PATIENCE_S = 60.0

Damage = Callable[[Path], None]
# A command line -> exit code, standard output, standard error.
Command = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="session")
def pristine(
    model: Path, image_spec: str, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """model/ other/ pics/ labels.txt, and of them cat.bundle, arm.bundle and edge.run."""
    stage = tmp_path_factory.mktemp("pristine") / "stage"
    shutil.copytree(model, stage / "model")
    shutil.copytree(photos, stage / "pics")
    make_model.save(make_model.classifier(transposed=True), stage / "other")
    labels = stage / "labels.txt"
    labels.write_text("".join(f"kind {n}\n" for n in range(make_model.CLASSES)))
    made = convert(
        stage / "model",
        stage / "cat.bundle",
        image=image_spec,
        labels=labels,
        samples=stage / "pics",
        check_samples=2,
    )
    assert made.bundle
    convert(stage / "model", stage / "arm.bundle", target=["arm"], check=False)
    done = run(made.bundle.model("x86"), made.bundle.read_samples(), engine="lite")
    done.save(stage / "edge.run")
    return stage


@pytest.fixture
def stage(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `pristine` to break, which is the current folder. Temporary files go beside it."""
    shutil.copytree(pristine, tmp_path / "stage")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "stage")
    return tmp_path / "stage"


@pytest.fixture
def paddle_edge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["paddle-edge", *shlex.split(line)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


def files(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, every folder with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def gone(file: str) -> Damage:
    def damage(stage: Path) -> None:
        path = stage / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def holds(file: str, data: bytes | str) -> Damage:
    def damage(stage: Path) -> None:
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        (stage / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return damage


def empty(file: str) -> Damage:
    return holds(file, b"")


def text(file: str) -> Damage:
    return holds(file, "This is not what you are looking for.\n" * 50)


def cut(file: str) -> Damage:
    def damage(stage: Path) -> None:
        data = (stage / file).read_bytes()
        (stage / file).write_bytes(data[: len(data) * 2 // 3])

    return damage


def noise(file: str) -> Damage:
    """As many random bytes as the file had, or 2000."""

    def damage(stage: Path) -> None:
        path = stage / file
        size = path.stat().st_size if path.exists() else 2000
        path.write_bytes(np.random.default_rng(0).bytes(size))

    return damage


def swapped(left: str, right: str) -> Damage:
    def damage(stage: Path) -> None:
        (stage / left).rename(stage / "aside")
        (stage / right).rename(stage / left)
        (stage / "aside").rename(stage / right)

    return damage


def array(file: str, shape: tuple[int, ...], dtype: str = "float32") -> Damage:
    return lambda stage: np.save(stage / file, np.zeros(shape, dtype))


def arrays(file: str, **named: np.ndarray[Any, Any]) -> Damage:
    def damage(stage: Path) -> None:
        np.savez(stage / file, **named)

    return damage


def objects(file: str) -> Damage:
    return lambda stage: np.save(stage / file, np.array([{"a": 1}], object), allow_pickle=True)


def manifest(**fields: Any) -> Damage:
    """Replaces fields of the bundle's manifest; None removes one."""

    def damage(stage: Path) -> None:
        path = stage / "cat.bundle" / "bundle.json"
        document = {**json.loads(path.read_text()), **fields}
        path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))

    return damage


def nb_of(target: str, change: Callable[[bytes], bytes]) -> Damage:
    """Gives the bundle, for x86, changed bytes of a target's `.nb`, and the checksums of them."""

    def damage(stage: Path) -> None:
        folder = stage / "cat.bundle"
        file = folder / "model.x86.nb"
        file.write_bytes(change((folder / f"model.{target}.nb").read_bytes()))
        targets = json.loads((folder / "bundle.json").read_text())["targets"]
        sums = Checksums(file).read_on()
        targets["x86"].update(sha256=sums.sha256, crc32=sums.crc32, bytes=sums.bytes)
        manifest(targets=targets)(stage)

    return damage


def program(folder: str, change: Callable[[Program], None]) -> Damage:
    """Changes the graph of a model."""

    def damage(stage: Path) -> None:
        model = load(stage / folder)
        change(model)
        save(model, stage / folder)

    return damage


def without_fetch(model: Program) -> None:
    model.blocks[0].ops = [op for op in model.ops if op.type != "fetch"]


def with_unknown_op(model: Program) -> None:
    softmax = next(op for op in model.ops if op.type == "softmax")
    softmax.type = "softmax_of_tomorrow"


def with_open_sides(model: Program) -> None:
    model.var("x").shape = (-1, 3, -1, -1)


def picture(file: str, size: tuple[int, int], mode: str = "RGB") -> Damage:
    def damage(stage: Path) -> None:
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(stage / file)

    return damage


def both(*damages: Damage) -> Damage:
    def damage(stage: Path) -> None:
        for one in damages:
            one(stage)

    return damage


def nothing(stage: Path) -> None:
    """All is right but the command line."""


Case = tuple[Damage, str, int, str]

MODEL = "model/inference.pdmodel"
PARAMS = "model/inference.pdiparams"
CONVERT = "convert model -o new"

MODELS: dict[str, Case] = {
    "missing": (nothing, "convert nowhere -o new", 3, "nowhere: no such file or folder"),
    "folder-without": (nothing, "convert pics -o new", 3, "pics: no Paddle inference model here"),
    "graph-missing": (gone(MODEL), CONVERT, 3, "model: no Paddle inference model here"),
    "graph-empty": (empty(MODEL), CONVERT, 3, f"{MODEL}: the file is empty"),
    "graph-cut": (cut(MODEL), CONVERT, 3, f"{MODEL}: not a Paddle model, or damaged"),
    "graph-text": (text(MODEL), CONVERT, 3, f"{MODEL}: not a Paddle model, or damaged"),
    "graph-noise": (noise(MODEL), CONVERT, 3, f"{MODEL}: not a Paddle model, or damaged"),
    "graph-and-params-swapped": (
        swapped(MODEL, PARAMS), CONVERT, 3, f"{MODEL}: not a Paddle model, or damaged",
    ),
    "graph-of-training": (
        program("model", without_fetch), CONVERT, 3, f"{MODEL}: no fetch operator",
    ),
    "params-missing": (gone(PARAMS), CONVERT, 3, "4 parameters are missing: no .pdiparams file"),
    "params-not-there": (
        nothing, f"{CONVERT} --params nowhere", 3, "nowhere: no such file or folder",
    ),
    "params-empty": (empty(PARAMS), CONVERT, 3, f"{PARAMS}: the file is empty"),
    "params-cut": (cut(PARAMS), CONVERT, 3, f"{PARAMS}: damaged, truncated or of another model"),
    "params-text": (text(PARAMS), CONVERT, 3, f"{PARAMS}: damaged, truncated or of another model"),
    "params-noise": (
        noise(PARAMS), CONVERT, 3, f"{PARAMS}: damaged, truncated or of another model",
    ),
    "params-swapped": (
        swapped(PARAMS, "other/inference.pdiparams"), CONVERT, 3,
        f"{PARAMS}: of another model: parameter 'fc.w' should be float32[32, 10]",
    ),
    "params-too-long": (
        lambda stage: holds(PARAMS, (stage / PARAMS).read_bytes() + b"more")(stage), CONVERT, 3,
        f"{PARAMS}: of another model: 4 bytes are left",
    ),
    "a-nb-file": (
        nothing, "convert cat.bundle/model.arm.nb -o new", 3, "is a Paddle Lite file",
    ),
    "a-bundle": (nothing, "convert cat.bundle -o new", 3, "cat.bundle: is a bundle"),
    "onnx": (noise("net.onnx"), "convert net.onnx -o new", 3, "net.onnx: is an ONNX model"),
    "an-image": (
        nothing, "convert pics/picture_0.png -o new", 3,
        "pics/picture_0.png: not a Paddle model, or damaged",
    ),
    "an-unknown-operator": (
        program("model", with_unknown_op), CONVERT, 3, "softmax_of_tomorrow",
    ),
    "open-sides": (
        program("model", with_open_sides), CONVERT, 2, "--check-shape x=1,3,224,224",
    ),
    "inspect-text": (
        text("notes.txt"), "inspect notes.txt", 3, "notes.txt: not a Paddle model, or damaged",
    ),
    "inspect-nothing": (nothing, "inspect nowhere", 3, "nowhere: no such file or folder"),
    "run-missing": (nothing, "run nowhere -o new", 3, "nowhere: no such file or folder"),
    "run-graph-cut": (cut(MODEL), "run model -o new", 3, f"{MODEL}: not a Paddle model"),
    "run-a-nb-file": (
        nothing, "run cat.bundle/model.x86.nb -o new", 3,
        "is a Paddle Lite file: run takes the bundle",
    ),
}  # fmt: skip

MANIFEST = "cat.bundle/bundle.json"
X86, ARM = "cat.bundle/model.x86.nb", "cat.bundle/model.arm.nb"
RUN = "run cat.bundle -o new"
SPEC = {"name": "x", "dtype": "float32", "shape": [-1, 3, 16, 16]}

BUNDLES: dict[str, Case] = {
    "manifest-missing": (gone(MANIFEST), RUN, 3, "cat.bundle: holds .nb files and no bundle.json"),
    "manifest-empty": (empty(MANIFEST), RUN, 3, f"{MANIFEST}: damaged: not JSON"),
    "manifest-cut": (cut(MANIFEST), RUN, 3, f"{MANIFEST}: damaged: not JSON"),
    "manifest-text": (text(MANIFEST), RUN, 3, f"{MANIFEST}: damaged: not JSON"),
    "manifest-noise": (noise(MANIFEST), RUN, 3, f"{MANIFEST}: damaged: not JSON"),
    "manifest-nested": (holds(MANIFEST, "[" * 100_000), RUN, 3, f"{MANIFEST}: damaged: not JSON"),
    "manifest-list": (holds(MANIFEST, "[1]"), RUN, 3, f"{MANIFEST}: not the manifest of a bundle"),
    "manifest-swapped": (
        swapped(MANIFEST, "edge.run/run.json"), RUN, 3, f"{MANIFEST}: damaged: field ",
    ),
    "manifest-of-the-future": (
        manifest(format=99), "inspect cat.bundle", 3, f"{MANIFEST}: is of format 99",
    ),
    "manifest-without-inputs": (
        manifest(inputs=None), RUN, 3, f"{MANIFEST}: damaged: field 'inputs' is missing",
    ),
    "manifest-of-no-dtype": (
        manifest(inputs=[{**SPEC, "dtype": "float31"}]), RUN, 3, f"{MANIFEST}: damaged: ",
    ),
    "manifest-of-no-shape": (
        manifest(inputs=[{**SPEC, "shape": "wide"}]), RUN, 3, f"{MANIFEST}: damaged: ",
    ),
    "manifest-leads-out": (
        manifest(targets={"x86": {
            "file": "../other.nb", "sha256": "", "crc32": "", "bytes": 1, "opt_version": "",
            "ops": 1, "kernels": {}, "calib": 0, "weights": {}, "precision": "fp32",
        }}), RUN, 3, "'../other.nb' leads out of the bundle",
    ),
    "manifest-named": (
        nothing, f"inspect {MANIFEST}", 3, f"{MANIFEST}: name the folder that holds it",
    ),
    "nb-missing": (gone(X86), RUN, 3, f"{X86}: cannot be read: No such file or directory"),
    "nb-empty": (empty(X86), RUN, 3, f"{X86}: damaged: 0 bytes, the bundle says"),
    "nb-cut": (cut(X86), RUN, 3, f"{X86}: damaged: "),
    "nb-text": (text(X86), RUN, 3, f"{X86}: damaged: 1900 bytes, the bundle says"),
    "nb-noise": (noise(X86), RUN, 3, f"{X86}: damaged: its checksum is not the bundle's"),
    "nb-swapped": (swapped(X86, ARM), RUN, 3, f"{X86}: damaged: "),
    "nb-for-arm-as-x86": (
        nb_of("arm", lambda data: data), RUN, 3,
        f"{X86}: is made for arm, and the engine here is x86",
    ),
    "nb-text-with-checksum": (
        nb_of("x86", lambda data: b"text " * 999), RUN, 3, f"{X86}: ",
    ),
    "nb-cut-with-checksum": (
        nb_of("x86", lambda data: data[:-99]), RUN, 3, f"{X86}: ",
    ),
    "nb-operator-unknown-to-the-engine": (
        nb_of("x86", lambda data: data.replace(b"softmax\0", b"sofamax\0")), RUN, 3,
        f"{X86}: engine lite was killed by SIG",
    ),
    "nb-input-unknown-to-the-engine": (
        both(manifest(inputs=[SPEC, {**SPEC, "name": "y"}]), arrays("x.npz", x=ZEROS, y=ZEROS)),
        f"{RUN} --data x.npz", 3, f"{X86}: the .nb file has the inputs ['x'], not ['x', 'y']",
    ),
    "inspect-nb-missing": (gone(X86), f"inspect {X86}", 3, f"{X86}: "),
    "inspect-nb-empty": (empty(X86), f"inspect {X86}", 3, f"{X86}: "),
    "inspect-nb-cut": (cut(X86), f"inspect {X86}", 3, f"{X86}: "),
    "inspect-nb-text": (text(X86), f"inspect {X86}", 3, f"{X86}: "),
    "inspect-nb-noise": (noise(X86), f"inspect {X86}", 3, f"{X86}: "),
    "arm-only": (
        nothing, "run arm.bundle -o new", 2,
        "arm.bundle: has no x86 model, only arm: convert with --target x86 as well",
    ),
    "sample-missing": (
        gone("cat.bundle/samples/0001.0.npy"), RUN, 3, "samples/0001.0.npy: missing or damaged",
    ),
    "sample-text": (
        text("cat.bundle/samples/0001.0.npy"), RUN, 3, "samples/0001.0.npy: missing or damaged",
    ),
    "samples-swapped": (
        swapped("cat.bundle/samples/0000.0.npy", "cat.bundle/samples/0001.0.npy"), RUN, 3,
        "cat.bundle: the tensors of sample 'picture_0.png' were altered",
    ),
}  # fmt: skip

PICTURE = "pics/picture_3.png"
DATA = f"{RUN} --data"

DATA_SETS: dict[str, Case] = {
    "missing": (nothing, f"{DATA} nowhere", 3, "nowhere: no such data set"),
    "of-another-kind": (nothing, f"{DATA} {MODEL}", 3, f"{MODEL}: not a data set"),
    "empty-folder": (lambda stage: (stage / "void").mkdir(), f"{DATA} void", 3, "void: holds no"),
    "image-missing": (
        holds("list.txt", f"{PICTURE} 1\npics/none.png 2\n"), f"{DATA} list.txt", 3,
        "pics/none.png: ",
    ),
    "image-empty": (empty(PICTURE), f"{DATA} pics", 3, f"{PICTURE}: "),
    "image-cut": (cut(PICTURE), f"{DATA} pics", 3, f"{PICTURE}: "),
    "image-text": (text(PICTURE), f"{DATA} pics", 3, f"{PICTURE}: "),
    "image-noise": (noise(PICTURE), f"{DATA} pics", 3, f"{PICTURE}: "),
    "image-swapped": (swapped(PICTURE, MODEL), f"{DATA} pics", 3, f"{PICTURE}: "),
    "image-of-floats": (
        picture("pics/deep.tif", (24, 24), "F"), f"{DATA} pics", 3, "pics/deep.tif: ",
    ),
    "image-too-small": (
        picture("dot.png", (8, 8)), f"{DATA} dot.png --image resize=none,crop=16", 3,
        "dot.png: the crop 16x16 (height x width) is larger than the image",
    ),
    "all-images-bad": (
        both(*(text(f"pics/picture_{n}.png") for n in range(6))), f"{DATA} pics --skip-bad", 3,
        "all 6 samples are bad; the first: ",
    ),
    "images-without-spec": (
        nothing, "run model --data pics -o new", 2, "pics: say how images become tensors: --image",
    ),
    "spec-of-another-size": (
        nothing, f"{DATA} pics --image resize=exact:8x8", 3,
        "input 'x' expects float32 [-1, 3, 16, 16], but a sample is float32 [1, 3, 8, 8]",
    ),
    "image-name-not-utf-8": (
        picture("pics/caf\udce9.png", (24, 24)), f"{DATA} pics", 3,
        r"pics: the file name 'caf\udce9.png' is not UTF-8: rename it",
    ),
    "list-empty": (empty("list.txt"), f"{DATA} list.txt", 3, "list.txt: holds no samples"),
    "list-noise": (noise("list.txt"), f"{DATA} list.txt", 3, "list.txt: not a text file in UTF-8"),
    "list-label": (
        holds("list.csv", f"{PICTURE},cat\n"), f"{DATA} list.csv", 3,
        "list.csv: line 1: the label 'cat' is not an integer",
    ),
    "list-label-too-large": (
        holds("list.txt", f"{PICTURE} 10\n"), f"{DATA} list.txt", 3,
        f"list.txt: {PICTURE} has the label 10, but there are 10 labels",
    ),
    "list-twice": (
        holds("list.txt", f"{PICTURE} 1\n{PICTURE} 2\n"), f"{DATA} list.txt", 3, "list twice",
    ),
    "folder-of-no-label": (
        picture("sorted/dogs/a.png", (24, 24)), f"{DATA} sorted", 3,
        "the folder 'dogs' is not exactly one of the 10 labels",
    ),
    "array-float64": (
        array("a.npy", SHAPE, "float64"), f"{DATA} a.npy", 3,
        "a.npy: input 'x' expects float32 [-1, 3, 16, 16], but a sample is float64",
    ),
    "array-uint8": (array("a.npy", SHAPE, "uint8"), f"{DATA} a.npy", 3, "a sample is uint8"),
    "array-big-endian": (array("a.npy", SHAPE, ">f4"), f"{DATA} a.npy", 3, "a sample is >f4"),
    "array-channels": (
        array("a.npy", (2, 1, 16, 16)), f"{DATA} a.npy", 3, "a sample is float32 [1, 1, 16, 16]",
    ),
    "array-of-another-size": (
        array("a.npy", (2, 3, 15, 16)), f"{DATA} a.npy", 3, "a sample is float32 [1, 3, 15, 16]",
    ),
    "array-rank": (
        array("a.npy", (2, 768)), f"{DATA} a.npy", 3, "a sample is float32 [1, 768]",
    ),
    "array-number": (array("a.npy", ()), f"{DATA} a.npy", 3, "a.npy: holds a single number"),
    "array-of-no-samples": (
        array("a.npy", (0, 3, 16, 16)), f"{DATA} a.npy", 3, "a.npy: holds no samples",
    ),
    "array-of-objects": (objects("a.npy"), f"{DATA} a.npy", 3, "a.npy: not a readable .npy file"),
    "array-empty": (empty("a.npy"), f"{DATA} a.npy", 3, "a.npy: not a readable .npy file"),
    "array-cut": (
        both(array("a.npy", SHAPE), cut("a.npy")), f"{DATA} a.npy", 3,
        "a.npy: not a readable .npy file",
    ),
    "array-text": (text("a.npy"), f"{DATA} a.npy", 3, "a.npy: not a readable .npy file"),
    "array-noise": (noise("a.npy"), f"{DATA} a.npy", 3, "a.npy: not a readable .npy file"),
    "arrays-text": (text("a.npz"), f"{DATA} a.npz", 3, "a.npz: not a readable .npz file"),
    "arrays-cut": (
        both(arrays("a.npz", x=np.zeros(SHAPE, "float32")), cut("a.npz")), f"{DATA} a.npz", 3,
        "a.npz: not a readable .npz file",
    ),
    "arrays-of-another-input": (
        arrays("a.npz", y=np.zeros(SHAPE, "float32")), f"{DATA} a.npz", 3,
        "a.npz: holds the arrays ['y'], but the model's inputs are ['x']",
    ),
    "labels-missing": (
        nothing, f"{CONVERT} --labels nowhere.txt", 3, "nowhere.txt: No such file or directory",
    ),
    "labels-empty": (
        empty("labels.txt"), f"{CONVERT} --labels labels.txt", 3, "labels.txt: holds no labels",
    ),
    "labels-noise": (
        noise("labels.txt"), f"{CONVERT} --labels labels.txt", 3, "labels.txt: not a text file",
    ),
    "labels-with-a-gap": (
        holds("labels.txt", "a\n\nc\n"), f"{CONVERT} --labels labels.txt", 3,
        "labels.txt: line 2 is empty",
    ),
    "labels-too-few": (
        holds("labels.txt", "a\nb\nc\n"), f"{CONVERT} --labels labels.txt", 2,
        "3 labels for a model of 10 classes",
    ),
    "labels-too-few-to-run-a-bundle": (
        holds("labels.txt", "a\nb\nc\n"), f"{RUN} --labels labels.txt", 2,
        "3 labels for a model of 10 classes",
    ),
    "labels-too-few-to-run-a-model": (
        holds("labels.txt", "a\nb\nc\n"), "run model -o new --labels labels.txt", 2,
        "3 labels for a model of 10 classes",
    ),
    "yml-text": (
        text("net.yml"), f"{CONVERT} --image net.yml", 3,
        "net.yml: not an inference.yml: it has no sections",
    ),
    "yml-noise": (
        noise("net.yml"), f"{CONVERT} --image net.yml", 3, "net.yml: not a YAML file",
    ),
    "yml-of-detection": (
        holds("net.yml", "Preprocess:\n- type: Resize\n"), f"{CONVERT} --image net.yml", 3,
        "without the step 'Permute' the tensor is NHWC",
    ),
}  # fmt: skip

COMPARE = "compare cat.bundle/reference edge.run"
RUN_JSON = "edge.run/run.json"

RUNS: dict[str, Case] = {
    "missing": (nothing, "compare nowhere edge.run", 3, "nowhere: not a run: no such folder"),
    "a-bundle": (nothing, "compare cat.bundle edge.run", 3, "cat.bundle: not a run: no run.json"),
    "manifest-empty": (empty(RUN_JSON), COMPARE, 3, f"{RUN_JSON}: damaged: not JSON"),
    "manifest-cut": (cut(RUN_JSON), COMPARE, 3, f"{RUN_JSON}: damaged: not JSON"),
    "manifest-noise": (noise(RUN_JSON), COMPARE, 3, f"{RUN_JSON}: damaged: not JSON"),
    "manifest-swapped": (swapped(MANIFEST, RUN_JSON), COMPARE, 3, "edge.run: damaged run: "),
    "answers-missing": (gone("edge.run/output_0.npy"), COMPARE, 3, "edge.run: damaged run: "),
    "answers-cut": (cut("edge.run/output_0.npy"), COMPARE, 3, "edge.run: damaged run: "),
    "answers-noise": (noise("edge.run/output_0.npy"), COMPARE, 3, "edge.run: damaged run: "),
    "answers-of-others": (
        array("edge.run/output_0.npy", (3, 1, 10)), COMPARE, 3,
        "edge.run/output_0.npy: damaged: does not hold the 2 samples",
    ),
    "latency-missing": (gone("edge.run/latency.csv"), COMPARE, 3, "edge.run: damaged run: "),
    "latency-text": (text("edge.run/latency.csv"), COMPARE, 3, "edge.run"),
    "latency-empty": (empty("edge.run/latency.csv"), COMPARE, 3, "latency.csv: damaged"),
    "no-samples": (
        lambda stage: no_samples(stage / RUN_JSON), "inspect edge.run", 3, "edge.run: damaged run",
    ),
    "other-samples": (
        lambda stage: random_run(stage / "random.run"), "compare edge.run random.run", 3,
        "no sample in common",
    ),
    "samples-altered": (
        lambda stage: alter(stage / RUN_JSON), COMPARE, 3,
        "sample 'picture_0.png' was fed as different tensors",
    ),
}  # fmt: skip

OPTIONS: dict[str, Case] = {
    "name-too-long": (nothing, f"run {'x' * 300} -o new", 3, ".json: File name too long"),
    "name-not-utf-8": (
        nothing, "convert caf\udce9 -o new", 2, r"'caf\udce9': this name is not UTF-8: rename it",
    ),
    "command": (nothing, "covnert model -o new", 2, "covnert"),
    "option": (nothing, f"{CONVERT} --recip fp32", 2, "--recip"),
    "argument": (nothing, "convert -o new", 2, "MODEL"),
    "out-not-given": (nothing, "convert model", 2, "--out"),
    "too-many": (nothing, "convert model other -o new", 2, "other"),
    "recipe": (nothing, f"{CONVERT} --recipe fp33", 2, "unknown recipe 'fp33': choose fp32"),
    "target": (nothing, f"{CONVERT} --target arm,riscv", 2, "unknown target 'riscv': choose arm"),
    "no-target": (nothing, f"{CONVERT} --target ''", 2, "unknown target ''"),
    "engine": (nothing, f"{RUN} --engine tvm", 2, "'tvm': choose lite, native, onnx, paddle"),
    "engine-of-models": (nothing, f"{RUN} --engine paddle", 2, "cat.bundle: engine paddle runs"),
    "engine-of-bundles": (
        nothing, "run model -o new --engine lite", 2, f"{MODEL}: engine lite runs bundles",
    ),
    "device": (nothing, f"{RUN} --device tpu", 2, "unknown device 'tpu': engine lite runs on"),
    "device-of-lite": (nothing, f"{RUN} --device gpu", 2, "engine lite runs on device cpu only"),
    "precision": (nothing, "run model -o new --precision fp8", 2, "unknown precision 'fp8'"),
    "tensorrt": (nothing, "run model -o new --tensorrt", 2, "add --device gpu"),
    "gpu": (nothing, "run model -o new --device gpu", 3, "paddlepaddle-gpu"),
    "threads": (nothing, f"{RUN} --threads many", 2, "--threads"),
    "no-threads": (nothing, f"{RUN} --threads 0", 2, "threads and repeat are at least 1"),
    "no-repeat": (nothing, f"{RUN} --repeat 0", 2, "threads and repeat are at least 1"),
    "warmup": (nothing, f"{RUN} --warmup -1", 2, "warmup at least 0"),
    "limit": (nothing, f"{RUN} --limit 0", 2, "limit"),
    "limit-below": (nothing, f"{RUN} --limit -1", 2, "limit"),
    "top": (nothing, f"{RUN} --top 0", 2, "top"),
    "time-limit": (nothing, f"{RUN} --time-limit -1", 2, "the time limit is above 0 s"),
    "time-limit-nan": (nothing, f"{RUN} --time-limit nan", 2, "the time limit is above 0 s"),
    "bench-threads": (nothing, "bench cat.bundle --threads 1,none", 2, "'1,none' is not a list"),
    "check-samples": (nothing, f"{CONVERT} --check-samples 0", 2, "--check-samples"),
    "shape": (nothing, f"{CONVERT} --input-shape 1,3", 2, "'1,3' is not of the form"),
    "shape-of-nothing": (
        nothing, f"{CONVERT} --input-shape y=1,3", 2, "the model has no input 'y', only x",
    ),
    "shape-channels": (
        nothing, f"{CONVERT} --input-shape x=1,4,16,16", 2,
        "input 'x' is float32[?, 3, 16, 16]: it cannot be fixed to [1, 4, 16, 16]",
    ),
    "check-shape": (
        nothing, f"{CONVERT} --check-shape x=1,1,16,16", 2,
        "input 'x' takes float32[?, 3, 16, 16], not float32[1, 1, 16, 16]",
    ),
    "check-shape-of-nothing": (nothing, f"{CONVERT} --check-shape y=1,3,16,16", 2, "input 'y'"),
    "image-preset": (nothing, f"{CONVERT} --image paddledogs", 2, "'paddledogs' is no preset"),
    "image-key": (nothing, f"{CONVERT} --image resize=short:20,corp=9", 2, "unknown key 'corp'"),
    "image-size": (nothing, f"{CONVERT} --image resize=short:big", 2, "'big' is no size"),
    "image-mean": (nothing, f"{CONVERT} --image resize=none,mean=127", 2, "set scale"),
    "cosine": (nothing, f"{COMPARE} --cosine near", 2, "--cosine"),
}  # fmt: skip

OUTPUTS: dict[str, Case] = {
    "bundle-exists": (
        nothing, "convert model -o cat.bundle", 2, "cat.bundle: exists already; choose another",
    ),
    "run-exists": (nothing, "run cat.bundle -o edge.run", 2, "edge.run: exists already"),
    "page-exists": (
        text("page.html"), f"{COMPARE} --html page.html", 2, "page.html: exists already",
    ),
    "demo-exists": (nothing, "demo -o cat.bundle", 2, "cat.bundle: exists already"),
    "is-a-file": (
        text("new"), f"{CONVERT} --force", 2, "new: is a file, and a folder is to be written",
    ),
    "is-a-dangling-link": (
        lambda stage: (stage / "new").symlink_to("nowhere"), CONVERT, 2, "new: exists already",
    ),
    "parent-missing": (nothing, "convert model -o far/new", 2, "far/new: there is no folder"),
    "parent-is-a-file": (
        nothing, "run cat.bundle -o labels.txt/new", 2, "labels.txt/new: there is no folder",
    ),
    "parent-refuses": (nothing, "convert model -o /proc/new", 2, "cannot be written"),
    "page-parent-missing": (
        nothing, f"{COMPARE} --html far/page.html", 2, "far/page.html: there is no folder",
    ),
    "page-is-a-folder": (nothing, f"{COMPARE} --html pics --force", 2, "pics: is a folder"),
    "no-room-for-the-page": (
        nothing, f"{COMPARE} --html /dev/full --force", 2, "/dev/full: cannot be written",
    ),
    "holds-the-model": (nothing, "convert model -o model --force", 2, "model: "),
    "holds-the-bundle": (nothing, "run cat.bundle -o cat.bundle --force", 2, "cat.bundle: "),
    "holds-the-data": (nothing, f"{DATA} pics -o pics --force", 2, "pics: "),
    "is-this-folder": (nothing, "convert model -o . --force", 2, ".: "),
}  # fmt: skip

CASES = {
    f"{group}-{name}": case
    for group, cases in {
        "model": MODELS,
        "bundle": BUNDLES,
        "data": DATA_SETS,
        "run": RUNS,
        "option": OPTIONS,
        "output": OUTPUTS,
    }.items()
    for name, case in cases.items()
}


def no_samples(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "samples": []}))
    np.save(path.with_name("output_0.npy"), np.zeros((0, 1, 10), "float32"))
    path.with_name("latency.csv").write_text("sample,repeat,ms\n")


def alter(path: Path) -> None:
    document = json.loads(path.read_text())
    document["samples"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))


def random_run(path: Path) -> None:
    shutil.copytree("edge.run", path)
    for name in ("run.json", "latency.csv"):
        file = path / name
        file.write_text(file.read_text().replace("picture_", "photo_"))


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_left(name: str, stage: Path, paddle_edge: Command) -> None:
    damage, line, exit_code, words = CASES[name]
    damage(stage)
    before = files(stage.parent)
    code, out, err = paddle_edge(f"{line} --json")
    assert "Traceback" not in err
    assert "internal error" not in err
    assert err.startswith("paddle-edge: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert words in err
    assert code == exit_code
    assert json.loads(out) == {"error": err[len("paddle-edge: ") : -1], "exit_code": exit_code}
    assert files(stage.parent) == before
    assert not children(os.getpid())


@pytest.mark.parametrize(
    "name", ["model-graph-cut", "model-an-unknown-operator", "data-image-cut", "option-option"]
)
def test_without_json_the_last_line_says_it(name: str, stage: Path) -> None:
    need(Path(COMMAND).exists(), "the installed command paddle-edge")
    damage, line, exit_code, words = CASES[name]
    damage(stage)
    before = files(stage.parent)
    done = subprocess.run(
        [COMMAND, *shlex.split(line)], capture_output=True, text=True, check=False
    )
    *progress, last = done.stderr.splitlines()
    assert last.startswith("paddle-edge: ")
    assert words in last
    assert not any("paddle-edge: " in text or "Traceback" in text for text in progress)
    assert done.stdout == ""
    assert done.returncode == exit_code
    assert files(stage.parent) == before


def test_debug_adds_the_traceback_and_changes_nothing_else(
    stage: Path, paddle_edge: Command
) -> None:
    code, out, err = paddle_edge("convert nowhere -o new")
    debug_code, debug_out, debug_err = paddle_edge("convert nowhere -o new --debug")
    assert (code, out) == (debug_code, debug_out) == (3, "")
    assert "Traceback" in debug_err
    assert debug_err.endswith(err.splitlines()[-1] + "\n")


@pytest.mark.parametrize("line", [CONVERT.replace("new", "shut/new"), f"{RUN[:-3]}shut/new"])
def test_a_folder_without_permission(line: str, stage: Path, paddle_edge: Command) -> None:
    (stage / "shut").mkdir(mode=0o555)
    if os.access("shut", os.W_OK):
        pytest.skip("root may write anywhere")
    code, _, err = paddle_edge(f"{line} --json")
    assert code == 2
    assert "shut cannot be written to" in err
    assert not list((stage / "shut").iterdir())


def test_paths_with_spaces_and_letters_of_any_language(stage: Path, paddle_edge: Command) -> None:
    place = stage / "Mein Modell für 猫 & собака's"
    shutil.copytree(stage / "pics", place / "Bilder 写真")
    (place / "Bilder 写真" / "picture_0.png").rename(place / "Bilder 写真" / "кот è ☕.png")
    (place / "modèle").mkdir()
    for suffix in (".pdmodel", ".pdiparams"):
        shutil.copy(stage / f"model/inference{suffix}", place / "modèle" / f"été 1{suffix}")
    (place / "étiquettes.txt").write_text("".join(f"кот {n}\n" for n in range(10)), "utf-8")

    def call(line: str) -> dict[str, Any]:
        code, out, err = paddle_edge(f"{line} --json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert isinstance(document, dict)
        return document

    def path(name: str) -> str:
        return shlex.quote(str(place / name))

    data = f"--data {path('Bilder 写真')}"
    made = call(
        f"convert {path('modèle/été 1.pdmodel')} -o {path('猫.bundle')} --samples "
        f"{path('Bilder 写真')} --image resize=short:20,crop=16 --labels {path('étiquettes.txt')}"
    )
    assert made["bundle"] == str(place / "猫.bundle")
    edge = call(f"run {path('猫.bundle')} {data} -o {path('bord è.run')}")
    assert edge["predictions"][-1]["id"] == "кот è ☕.png"
    assert edge["predictions"][-1]["top"][0]["name"].startswith("кот ")
    call(f"run {path('modèle')} {data} -o {path('serveur è.run')} --image resize=short:20,crop=16")
    page = place / "rapport ☕.html"
    call(f"compare {path('serveur è.run')} {path('bord è.run')} --html {shlex.quote(str(page))}")
    assert "été 1" in page.read_text("utf-8")
    assert call(f"inspect {path('猫.bundle/model.arm.nb')}")["target"] == "arm"
    assert call(f"inspect {path('bord è.run')}")["samples"][-1]["id"] == "кот è ☕.png"


def test_graphs_cut_anywhere_or_with_wrong_bytes(stage: Path) -> None:
    data = (stage / MODEL).read_bytes()
    random = np.random.default_rng(0)
    for length in range(0, len(data), 7):
        (stage / MODEL).write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"^model/inference"):
            load("model")
    refused = 0
    for _ in range(500):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
        (stage / MODEL).write_bytes(damaged.tobytes())
        try:
            json.dumps(describe("model"))
            loaded = load("model")
            random_samples(loaded.inputs)
            repair.repair(loaded)
            save(loaded, stage / "other")
        except PaddleEdgeError:
            refused += 1
    assert refused > 100


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON document."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from fields(item, (*path, key))


@pytest.mark.parametrize("name", [MANIFEST, RUN_JSON])
def test_manifests_with_a_wrong_value_anywhere(
    name: str, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "_drawer", lambda: None)  # hundreds of pages, each without charts
    original = (stage / name).read_text()
    reference = Run.open("cat.bundle/reference")
    refused = 0
    for path in fields(json.loads(original)):
        wrong: Any
        for wrong in (None, -1, "x", [], {}):
            document = json.loads(original)
            inner = document
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            (stage / name).write_text(json.dumps(document))
            try:
                if name == MANIFEST:
                    bundle = Bundle.open("cat.bundle")
                    bundle.model("x86")
                    random_samples(bundle.inputs, image=bundle.image)
                    bundle.read_samples()
                else:
                    edge = Run.open("edge.run")
                    judged = compare(reference, edge)
                    html_page(reference, [Judged(edge, judged)])
                    json.dumps(judged.to_json())
            except PaddleEdgeError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


def children(parent: int, script: str = "") -> list[int]:
    """The processes that `parent` started, zombies too, whose command line names `script`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and script in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def wait_for(found: Callable[[], Any]) -> Any:
    """What `found` returns as soon as it is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.002)
    raise AssertionError(f"not seen within {PATIENCE_S:g} s")


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real command, which is not left running."""
    need(Path(COMMAND).exists(), "the installed command paddle-edge")
    pipe = subprocess.PIPE
    # A shell's background jobs, such as this test run may be one of, ignore Ctrl-C.
    with subprocess.Popen(
        [COMMAND, *arguments],
        stdout=pipe,
        stderr=pipe,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def many_samples(produced: list[int]) -> Iterator[Sample]:
    random = np.random.default_rng(0)
    for number in range(100_000):
        produced.append(number)
        feeds = {"x": random.standard_normal(SHAPE, "float32")}
        yield Sample(f"sample {number}", feeds)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSTOP])
def test_an_engine_that_ends_in_mid_run(number: signal.Signals, pristine: Path) -> None:
    edge = Bundle.open(pristine / "cat.bundle").model("x86")
    produced: list[int] = []

    def strike(_: str, answered: int, __: int | None) -> None:
        if answered == 2:
            (engine,) = children(os.getpid(), "serve.py")
            os.kill(engine, number)

    limit = 1.0 if number == signal.SIGSTOP else None
    repeat = SOME // 5 if limit else SOME
    with pytest.raises(EngineError, match=r"sample 'sample \d+': ") as caught:
        run(
            edge,
            many_samples(produced),
            repeat=repeat,
            watch=Watch(step=strike),
            time_limit_s=limit,
        )
    ended = "gave no answer within 1 s" if limit else f"was killed by {number.name}; its last words"
    assert f"engine lite {ended}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(produced) < 10_000  # nobody reads on for a dead engine
    assert not children(os.getpid())
    assert run(edge, [next(many_samples([]))]).samples  # and here life goes on


def test_the_server_engine_killed_in_mid_run(pristine: Path, tmp_path: Path) -> None:
    source = Source.of(load(pristine / "model")).model(tmp_path)

    def strike(_: str, answered: int, __: int | None) -> None:
        if answered == 2:
            (engine,) = children(os.getpid(), "serve.py")
            os.kill(engine, signal.SIGSEGV)

    with pytest.raises(EngineError, match=r"sample 'sample \d+': engine paddle was killed by SIG"):
        run(source, many_samples([]), engine="paddle", repeat=SOME // 10, watch=Watch(step=strike))
    assert not children(os.getpid())


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_command_survives_its_engine(stage: Path) -> None:
    before = files(stage.parent)
    line = f"{DATA} pics --repeat {ENDLESS} --json"
    with started(*shlex.split(line)) as command:
        (engine,) = wait_for(lambda: children(command.pid, "serve.py"))
        wait_for(lambda: cpu_seconds(engine) > 1.5)  # it starts in much less
        os.kill(engine, signal.SIGKILL)
        out, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 3
    assert err.decode() == f"paddle-edge: {json.loads(out)['error']}\n"
    assert b"sample 'picture_0.png': engine lite was killed by SIGKILL" in err
    assert files(stage.parent) == before


def test_an_engine_slower_than_the_time_limit(stage: Path, paddle_edge: Command) -> None:
    before = files(stage.parent)
    code, _, err = paddle_edge(f"{RUN} --repeat {ENDLESS} --time-limit 1 --json")
    assert code == 3
    assert "sample 'picture_0.png': engine lite gave no answer within 1 s" in err
    assert err.count("\n") == 1
    assert files(stage.parent) == before
    assert not children(os.getpid())


@pytest.mark.slow
def test_failing_leaks_nothing(pristine: Path, stage: Path) -> None:
    nb_of("x86", lambda data: data.replace(b"softmax\0", b"sofamax\0"))(stage)
    aborts = Bundle.open(stage / "cat.bundle").model("x86")
    right = Bundle.open(pristine / "cat.bundle").model("x86")
    fits = next(many_samples([]))
    wrong = Sample("wrong", {"x": np.zeros((1, 1, 16, 16), "float32")})
    unknown = replace(right, inputs=(*right.inputs, TensorSpec("y", "float32", SHAPE)))

    def fail(turn: int) -> None:
        kinds: list[Callable[[], Any]] = [
            lambda: run(aborts, [fits]),
            lambda: run(right, [fits, wrong, fits]),
            lambda: run(unknown, [Sample("y", {"x": ZEROS, "y": ZEROS})]),
            lambda: run(right, []),
            lambda: run(right, [fits], repeat=ENDLESS, time_limit_s=0.01),
        ]
        with pytest.raises(PaddleEdgeError):
            kinds[turn % len(kinds)]()

    def held() -> tuple[int, list[int], int]:
        gc.collect()  # what tests before left
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            children(os.getpid()),
            threading.active_count(),
        )

    fail(1)  # what is imported late stays
    before = held()
    for turn in range(20):
        fail(turn)
    assert held() == before


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 60 MB of parameters, so that its conversion takes a second or two."""
    builder = make_model.Builder()
    weight = builder.param("w", (3000, 5000))
    inputs = {"X": [builder.input("x", (-1, 3000))], "Y": [weight]}
    y = builder.op("matmul_v2", inputs, "y", (-1, 5000), trans_x=False, trans_y=False)
    return make_model.save(builder.program(y), tmp_path_factory.mktemp("big") / "big")


def test_a_model_that_no_rule_repairs(
    stage: Path,
    paddle_edge: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = tuple(rule for rule in repair.RULES if rule is not fill_defaults)
    monkeypatch.setattr(repair, "RULES", rules)
    before = files(stage.parent)
    code, _, err = paddle_edge(f"{CONVERT} --json")
    assert code == 3
    assert f"{MODEL}: Paddle Lite's optimizer for arm was killed by SIGABRT" in err
    assert "No attributes called threshold found for relu6" in err
    assert "relu6 'conv.relu6'" in err
    assert err.count("\n") == 1
    assert files(stage.parent) == before


def test_an_optimizer_that_is_killed(big: Path, tmp_path: Path) -> None:
    def strike() -> None:
        os.kill(wait_for(lambda: children(os.getpid(), "opt_child.py"))[0], signal.SIGKILL)

    assassin = threading.Thread(target=strike)
    assassin.start()
    with pytest.raises(ConvertError, match=r"was killed by SIGKILL.* want of memory"):
        convert(big, tmp_path / "new")
    assassin.join()
    assert not list(tmp_path.iterdir())


def test_an_optimizer_that_hangs(big: Path, tmp_path: Path) -> None:
    model, out = load(big), tmp_path / "a.nb"
    with (
        Optimizer() as optimizer,
        pytest.raises(ConvertError, match=r"for arm took longer than 0.001 s and was stopped"),
    ):
        optimizer.run(model, "arm", out, recipe=RECIPES["fp32"], time_limit_s=0.001)
    assert not children(os.getpid())


@pytest.mark.parametrize(
    "moment", ["", "model.arm.nb", pytest.param("reference", marks=pytest.mark.slow)]
)
def test_kill_9_in_mid_conversion_leaves_no_bundle_that_opens(
    moment: str, big: Path, stage: Path
) -> None:
    with started("convert", str(big), "-o", "new", "--json") as command:
        wait_for(lambda: list(stage.glob(f".new.partial-*/{moment}")))
        orphans = children(command.pid)
        command.kill()
    assert command.returncode == -signal.SIGKILL
    wait_for(lambda: not any(Path(f"/proc/{orphan}/exe").exists() for orphan in orphans))
    left = list(stage.glob(".new.partial-*"))
    assert left
    for folder in [stage / "new", *left]:
        with pytest.raises(ModelError, match="not a bundle"):
            Bundle.open(folder)
    assert convert(stage / "model", stage / "new", check=False)
    assert Bundle.open(stage / "new").model("x86")


def test_ctrl_c_in_mid_conversion_leaves_nothing(big: Path, stage: Path) -> None:
    before = files(stage.parent)
    with started("convert", str(big), "-o", "new", "--json") as command:
        wait_for(lambda: list(stage.glob(".new.partial-*/model.arm.nb")))
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, err) == (130, b"\npaddle-edge: interrupted\n")
    assert json.loads(out) == {"error": "interrupted", "exit_code": 130}
    assert files(stage.parent) == before


def test_sigterm_in_mid_conversion_leaves_nothing(big: Path, stage: Path) -> None:
    before = files(stage.parent)
    with started("convert", str(big), "-o", "new") as command:
        wait_for(lambda: list(stage.glob(".new.partial-*")))
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 143
    assert files(stage.parent) == before


def test_force_replaces_only_what_paddle_edge_made(model: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="not a folder that paddle-edge made"):
        convert(model, tmp_path / "precious", check=False, force=True)
    assert (tmp_path / "precious" / "letter.txt").read_text() == "dear"
    for _ in range(2):
        assert convert(model, tmp_path / "empty", check=False, force=True)


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter without any package."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def numpy_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with NumPy, but without paddlelite."""
    folder = tmp_path_factory.mktemp("with-numpy")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in Path(np.__file__).parents[1].glob("numpy*"):
        (site / package.name).symlink_to(package)
    return folder / "bin" / "python"


@pytest.mark.parametrize("line", [CONVERT, RUN])
@pytest.mark.parametrize("kind", ["missing", "bare_python", "numpy_python", "unset"])
def test_an_interpreter_without_paddlelite(
    kind: str,
    line: str,
    stage: Path,
    paddle_edge: Command,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if kind == "unset":  # the kit itself on CPython 3.11, say
        monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
        monkeypatch.setitem(sys.modules, "paddlelite", None)
        named = sys.executable
    else:
        named = "no-python" if kind == "missing" else str(request.getfixturevalue(kind))
        monkeypatch.setenv(PYTHON_VARIABLE, named)
    before = files(stage.parent)
    code, out, err = paddle_edge(f"{line} --json")
    assert code == 3
    assert named in err
    assert "paddlelite==2.13rc0" in err
    assert PYTHON_VARIABLE in err
    assert err.count("\n") == 1
    assert json.loads(out)["exit_code"] == 3
    assert files(stage.parent) == before
