"""A detector of three inputs: from pictures and the file beside it to answers of both engines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need
from PIL import Image

from lite_opt.cli.main import main
from lite_opt.conversion.convert import convert
from lite_opt.model.program import Program
from py_runner.engines import lite
from py_runner.errors import EngineError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run

YML = """
draw_threshold: 0.5
arch: YOLO
Preprocess:
- {type: Resize, interp: 2, keep_ratio: true, target_size: [64, 96]}
- {type: NormalizeImage, is_scale: true, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
- {type: Permute}
- {type: PadStride, stride: 32}
label_list: [cat, dog]
"""
SIZES = [(40, 60), (120, 80), (64, 64), (300, 100)]


def detector() -> Program:
    """Says of a picture what it was fed beside it: (mean + 1) * im_shape / scale_factor."""
    b = make_model.Builder()
    size = b.input("im_shape", (-1, 2))
    image = b.input("image", (-1, 3, -1, -1))
    scale = b.input("scale_factor", (-1, 2))
    mean = b.op("reduce_mean", {"X": [image]}, "mean", (-1, 1), dim=[1, 2, 3], keep_dim=False,
                reduce_all=False)  # fmt: skip
    row = b.op("reshape2", {"X": [mean]}, "row", (-1, 1), shape=[-1, 1])
    more = b.op("scale", {"X": [row]}, "more", (-1, 1), scale=1.0, bias=1.0,
                bias_after_scale=True)  # fmt: skip
    original = b.op("elementwise_div", {"X": [size], "Y": [scale]}, "original", (-1, 2), axis=-1)
    out = b.op("elementwise_mul", {"X": [original], "Y": [more]}, "out", (-1, 2), axis=-1)
    return b.program(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The model with its infer_cfg.yml, pictures of several sizes, and the bundle."""
    try:
        lite.interpreter()
    except EngineError as error:
        need(False, str(error))
    folder = tmp_path_factory.mktemp("detector")
    model = make_model.save(detector(), folder / "model")
    (model / "infer_cfg.yml").write_text(YML)
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    assert convert(model, folder / "det.bundle", samples=folder / "photos")
    return model, folder / "photos", folder / "det.bundle"


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: (exit code, standard error)."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["paddle-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capfd.readouterr().err

    return call


def test_the_bundle_holds_what_the_file_says(made: tuple[Path, Path, Path]) -> None:
    bundle = Bundle.open(made[2])
    assert bundle.task == {"name": "detection", "arch": "YOLO", "threshold": 0.5}
    assert bundle.labels == ("cat", "dog")
    assert bundle.image is not None and bundle.image.resize == "fit"
    sides = [sample.feeds["image"].shape[2:] for sample in bundle.read_samples()]
    assert sides == [(64, 96), (96, 64), (64, 64), (96, 32)]


def test_pictures_are_fed_with_their_size_and_scale_on_both_engines(
    made: tuple[Path, Path, Path], tmp_path: Path, command: Command
) -> None:
    model, photos, bundle = made
    answers: list[np.ndarray[Any, Any]] = []
    for subject in (model, bundle):
        out = tmp_path / f"{len(answers)}.run"
        assert command("run", subject, "--data", photos, "-o", out)[0] == 0
        run = Run.open(out)
        answers.append(np.concatenate(next(iter(run.outputs.values()))))
    server, edge = answers
    np.testing.assert_allclose(edge, server, rtol=1e-5)
    # im_shape / scale_factor is the picture's own size, as far as the resize rounded it.
    ratio = server[:, 0] / server[:, 1]
    np.testing.assert_allclose(ratio, [h / w for h, w in SIZES], rtol=0.02)


def test_random_tensors_of_a_detector_mean_something(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    assert convert(made[0], tmp_path / "random.bundle", target=["x86"])
    for sample in Bundle.open(tmp_path / "random.bundle").read_samples():
        assert sample.feeds["image"].shape == (1, 3, 64, 96)
        assert sample.feeds["im_shape"].tolist() == [[64, 96]]
        assert np.abs(sample.feeds["scale_factor"] - 1).max() <= 0.1


def test_a_task_that_is_told_wins_over_the_file(
    made: tuple[Path, Path, Path], tmp_path: Path, command: Command
) -> None:
    model, photos, _ = made
    out = tmp_path / "told.bundle"
    told = ["--task", "detection,threshold=0.25", "--samples", photos, "--target", "x86"]
    assert command("convert", model, "-o", out, *told)[0] == 0
    assert Bundle.open(out).task == {"name": "detection", "threshold": 0.25}
    code, error = command("convert", model, "-o", tmp_path / "no", "--task", "detektion")
    assert code == 2 and "'detektion' is not known" in error


def test_pictures_say_why_nothing_tells_how_to_feed_them(
    made: tuple[Path, Path, Path], tmp_path: Path, command: Command
) -> None:
    model, photos, _ = made
    text = (model / "infer_cfg.yml").read_text()
    (model / "infer_cfg.yml").write_text(text.replace("Permute", "WarpAffine"))
    try:
        code, error = command("run", model, "--data", photos, "-o", tmp_path / "x.run")
    finally:
        (model / "infer_cfg.yml").write_text(text)
    assert code == 2 and "say how images become tensors" in error
    assert "step 'WarpAffine' is not supported" in error
