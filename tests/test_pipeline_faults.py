"""Faults planted in a pipeline of the trained PP-OCRv4: each is found, and its step is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.text_lines import TEXT_LINE_LABELS
from lite_opt.demo.text_pages import text_pages
from lite_opt.judge.pages import PagesReport, compare_pages
from lite_opt.model.load import load, save
from lite_opt.subject import source_models
from py_runner.data import image
from py_runner.data.resize import resize_cv2_linear
from py_runner.formats.pages import Pages
from py_runner.formats.pipeline import OcrOptions, Pipeline
from py_runner.pipeline.ocr import read_pages

pytestmark = pytest.mark.slow
KINDS = {"detection": "det", "direction": "cls", "recognition": "rec"}


@dataclass(frozen=True)
class Setting:
    """Pages, the stages' bundles, the pipeline of them and what the server reads."""

    data: Path
    truth: Path
    stages: dict[str, Path]
    server: Pages
    folder: Path

    def judged(self, place: Path, **stages: Path) -> PagesReport:
        """How the edge reads with other stages, against the server."""
        made = Pipeline.make({**self.stages, **stages}, place)
        edge = read_pages(made, self.data, against=self.server, warmup=0)
        return compare_pages(self.server, edge, truth=self.truth)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("ocr")
    data, truth = folder / "pages", folder / "labels.txt"
    data.mkdir()
    rows = []
    for number, page in enumerate(text_pages(12, seed=9)):
        if number != 11:  # it stands on its head
            continue
        # The upper left, with lines of which some are cut off.
        side = 400
        page.image.crop((0, 0, side, side)).save(data / f"{number}.png")
        entries = [
            {"transcription": text, "points": points.tolist()}
            for text, points in page.lines
            if (points < side).all()
        ]
        rows.append(f"{number}.png\t{json.dumps(entries)}\n")
    truth.write_text("".join(rows), encoding="utf-8")
    for stage, labels in (("direction", TEXT_LINE_LABELS), ("recognition", ocr_characters()[:-1])):
        (folder / stage).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    stages = {stage: converted(stage, folder, folder) for stage in KINDS}
    made = Pipeline.make(stages, folder / "ocr.bundle")
    with source_models(made, {stage: ocr_model(kind) for stage, kind in KINDS.items()}) as models:
        server = read_pages(made, data, models=models, engine="paddle", warmup=0)
    return Setting(data, truth, stages, server, folder)


def converted(stage: str, labels: Path, out: Path, model: Path | None = None) -> Path:
    kind = KINDS[stage]
    bundle = out / f"{kind}.bundle"
    tasks = {"det": "text-detection", "rec": "text-recognition"}
    convert(
        model or ocr_model(kind),
        bundle,
        image=f"ppocr-{kind}",
        task=tasks.get(kind),
        labels=labels / stage if stage != "detection" else None,
        target=("x86",),
        check=False,
    )
    return bundle


def altered(bundle: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle whose manifest says something else."""
    copy = out / bundle.name
    shutil.copytree(bundle, copy)
    document = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    change(document)
    (copy / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    return copy


def test_server_and_edge_read_the_same_and_mostly_what_is_written(
    setting: Setting, tmp_path: Path
) -> None:
    report = setting.judged(tmp_path / "ocr.bundle")
    assert report and report.fed and not report.culprit, report.failures
    rates = {rate.name: rate for rate in report.rates}
    assert rates["lines equal"].value == 1.0 and rates["lines equal"].units >= 3
    assert rates["right lines, candidate"].value > 0.6
    assert rates["right lines, points lost"].value == 0
    assert all(step.rate is not None and step.rate.value == 1 for step in report.steps)


def test_the_server_reads_what_another_port_of_paddleocr_does(setting: Setting) -> None:
    """Corners to the pixel and every character, of the same models."""
    files = sorted(setting.data.glob("*.png"))
    script = Path(__file__).with_name("read_with_rapidocr.py")
    command = [sys.executable, "-W", "ignore", str(script), *map(str, files)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = json.loads(told.splitlines()[-1])
    ours = {page.id: page.lines for page in setting.server.pages}
    for file, lines in zip(files, theirs):
        read = ours[file.name]
        assert [text for _, text, _ in lines] == [line.text for line in read]
        for (points, _, score), line in zip(lines, read):
            assert np.array_equal(points, line.points)
            assert abs(score - line.score) < 1e-3


@pytest.mark.parametrize("stage", ["detection", "recognition"])
def test_another_order_of_the_colours(setting: Setting, tmp_path: Path, stage: str) -> None:
    wrong = altered(setting.stages[stage], tmp_path, lambda d: d["image"].update(color="RGB"))
    report = setting.judged(tmp_path / "ocr.bundle", **{stage: wrong})
    assert not report
    assert report.culprit.startswith(f"{stage}: preprocessing (")
    assert "color is BGR in the reference and RGB in the candidate" in report.culprit
    only = [step.name for step in report.steps if step.broken]
    assert only == [f"{stage}: preprocessing"]  # the graphs are right on the server's own input


def test_a_resize_that_is_half_a_pixel_off(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(pixels: Any, height: int, width: int, **options: Any) -> Any:
        moved = (pixels[:, :-1].astype(int) + pixels[:, 1:]) // 2
        return resize_cv2_linear(
            np.concatenate([moved, pixels[:, -1:]], 1).astype(np.uint8), height, width, **options
        )

    monkeypatch.setattr(image, "resize_cv2_linear", shifted)
    report = setting.judged(tmp_path / "ocr.bundle")
    assert not report
    assert report.culprit.startswith("detection: preprocessing (")
    assert "the code or a library of it is another" in report.culprit


@pytest.mark.parametrize("by", [1, -1])
def test_a_dictionary_off_by_one(setting: Setting, tmp_path: Path, by: int) -> None:
    def turn(document: dict[str, Any]) -> None:
        labels = document["labels"]
        document["labels"] = labels[by:] + labels[:by]

    wrong = altered(setting.stages["recognition"], tmp_path, turn)
    report = setting.judged(tmp_path / "ocr.bundle", recognition=wrong)
    assert not report
    assert report.culprit.startswith("recognition: post-processing (")
    assert "the dictionary is another" in report.culprit
    assert [step.name for step in report.steps if step.broken] == ["recognition: post-processing"]


def test_another_threshold_of_the_detector(setting: Setting, tmp_path: Path) -> None:
    wrong = altered(
        setting.stages["detection"], tmp_path, lambda d: d["task"].update(threshold=0.6)
    )
    report = setting.judged(tmp_path / "ocr.bundle", detection=wrong)
    assert not report
    assert report.culprit.startswith("detection: post-processing (")
    assert "threshold is by default in the reference and 0.6 in the candidate" in report.culprit
    assert [step.name for step in report.steps if step.broken] == ["detection: post-processing"]


def test_another_threshold_of_the_direction(setting: Setting, tmp_path: Path) -> None:
    """The pipeline's own option: no line is as sure as that, and none is turned."""
    made = Pipeline.make(setting.stages, tmp_path / "ocr.bundle", options=OcrOptions(turn_score=1))
    report = compare_pages(
        setting.server, read_pages(made, setting.data, against=setting.server, warmup=0)
    )
    turned = sum(line.turned for page in setting.server.pages for line in page.lines)
    assert turned
    assert not report and report.culprit.startswith("direction: post-processing (")
    assert f"({turned} of " in report.culprit
    assert "the score from which a line is turned is another" in report.culprit


@pytest.mark.parametrize("stage", list(KINDS))
def test_a_wrong_weight(setting: Setting, tmp_path: Path, stage: str) -> None:
    program = load(ocr_model(KINDS[stage]))
    name = next(n for n, v in program.params.items() if v.ndim == 4 and v.shape[1] > 1)
    wrong = np.array(program.params[name])
    wrong[0] *= -1  # one channel of one convolution
    program.params[name] = wrong
    model = tmp_path / "model"
    model.mkdir()
    save(program, model)
    bundle = converted(stage, setting.folder, tmp_path, model)
    report = setting.judged(tmp_path / "ocr.bundle", **{stage: bundle})
    assert not report
    assert report.culprit.startswith(f"{stage}: graph (")
    assert [step.name for step in report.steps if step.broken] == [f"{stage}: graph"]
