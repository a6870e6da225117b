"""Pipelines: bundles put together, lines cut out of pages and handed from stage to stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_cli import Command, command, one_object  # noqa: F401  a fixture
from test_pages import corners, pages

from lite_opt.demo.text_pages import text_pages, write_text_pages
from py_runner.data.crop import cut, on_page, reading_order, upside_down
from py_runner.data.image import PRESETS
from py_runner.data.image_files import pictures
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.pages import Fed, Pages
from py_runner.formats.pipeline import OcrOptions, Pipeline
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.pipeline.fed import same_lines
from py_runner.pipeline.stages import (
    Stage,
    fitted,
    group_width,
    is_turn,
    lines_in,
    read,
    text_of,
)
from py_runner.watch import Watch


def test_a_line_is_cut_out_level_and_what_is_written_downwards_is_turned() -> None:
    page = np.zeros((200, 300, 3), np.uint8)
    page[50:70, 100:180] = (255, 0, 0)
    page[50:70, 100:110] = (0, 0, 255)  # where it begins
    level = cut(page, corners(100, 50, 80, 20))
    assert level.shape == (20, 80, 3) and (level[10, 5] == (0, 0, 255)).all()
    turned = cv2.rotate(page, cv2.ROTATE_90_CLOCKWISE)  # the line now runs downwards
    y, x = np.nonzero(turned.any(-1))
    box = corners(x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())
    upright = cut(turned, box)
    assert upright.shape == level.shape
    assert np.abs(upright.astype(int) - level).mean() < 3
    assert (upside_down(level)[10, -6] == (0, 0, 255)).all()


def test_a_tilted_line_becomes_level() -> None:
    page = np.full((300, 300, 3), 255, np.uint8)
    middle, angle = np.array([150.0, 150.0]), np.radians(20)
    about = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    tilted = ((corners(0, 0, 100, 24) - (50, 12)) @ about + middle).astype(np.float32)
    cv2.fillPoly(page, [np.round(tilted).astype(np.int32)], (0, 0, 0))
    level = cut(page, tilted)
    assert level.shape[1] / level.shape[0] > 3.9 and (level < 60).mean() > 0.93


def test_corners_are_in_order_on_the_page_and_specks_are_left_out() -> None:
    shuffled = corners(-5, 10)[[2, 0, 3, 1]]
    placed = on_page(shuffled, 25, 300)
    assert placed is not None
    assert placed.tolist() == [[0, 10], [55, 10], [55, 24], [0, 24]]
    assert on_page(corners(10, 10, 3.9, 20), 100, 100) is None
    assert on_page(corners(10, 10, 4, 4), 100, 100) is not None
    assert on_page(np.zeros((4, 2)), 100, 100) is None


def test_lines_are_read_from_top_to_bottom_and_in_a_row_from_left_to_right() -> None:
    lines = [corners(200, 12), corners(10, 19), corners(100, 16), corners(10, 60), corners(5, 0)]
    assert reading_order(lines) == [4, 1, 2, 0, 3]
    assert reading_order([]) == []


def test_lines_that_are_fed_together_have_the_width_of_the_widest() -> None:
    spec = PRESETS["ppocr-rec"]
    short, long = np.zeros((20, 100, 3), np.uint8), np.full((20, 333, 3), 200, np.uint8)
    width = group_width(spec, [short, long])
    assert width == int(48 * 333 / 20)
    tensor = fitted(spec, width).apply(short)
    assert tensor.shape == (1, 3, 48, width)
    assert (tensor[..., 240:] == 0).all() and (tensor[..., :240] == -1).all()
    assert group_width(spec, [short]) == 320
    assert group_width(PRESETS["ppocr-cls"], [short, long]) is None
    assert fitted(PRESETS["ppocr-cls"], width) == PRESETS["ppocr-cls"]


def test_polygons_are_rounded_once_on_the_page() -> None:
    scores = np.zeros((1, 1, 64, 64), np.float32)
    cv2.fillPoly(scores[0, 0], [np.array([[10, 20], [40, 27], [38, 36], [8, 29]])], 0.9)
    (small,) = lines_in({"map": scores}, None, (64, 64), "det")
    (large,) = lines_in({"map": scores}, None, (640, 960), "det")
    assert np.abs(large.corners / (15, 10) - small.corners).max() <= 1
    assert (large.corners % (15, 10)).any()  # finer than the map's own pixels
    assert large.score == small.score
    with pytest.raises(DataError, match="det: task text-detection needs an output"):
        lines_in({"x": scores[0]}, {"name": "text-detection"}, (64, 64), "det")


def test_a_line_is_read_with_its_dictionary() -> None:
    steps = np.zeros((1, 4, 4), np.float32)
    for at, index in enumerate((1, 1, 0, 3)):
        steps[0, at, index] = 0.9
    said = read({"out": steps}, ("a", "b"), "rec")
    assert (said.text, said.classes) == ("a ", (1, 3))
    assert text_of((1, 2, 3), ("x", "y")) == "xy "
    assert is_turn("180_degree", 0.95, 0.9)
    assert not is_turn("180_degree", 0.9, 0.9) and not is_turn("0_degree", 1.0, 0.9)


def test_what_is_kept_of_the_answers_is_asked_sample_by_sample(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    samples = opened.read_samples()
    whole = run(opened.model("x86"), samples)
    (name,) = whole.outputs
    seen = []

    def keep(id_: str, outputs: Any) -> dict[str, Any]:
        seen.append(id_)
        return {"sum": outputs[name].sum(keepdims=True)}

    kept = run(opened.model("x86"), samples, keep=keep)
    assert seen == [sample.id for sample in samples]
    assert list(kept.outputs) == ["sum"]
    assert [float(v[0, 0]) for v in kept.outputs["sum"]] == pytest.approx(
        [float(v.sum()) for v in whole.outputs[name]]
    )


def test_pages_are_found_as_samples_are(photos: Path, tmp_path: Path) -> None:
    assert [id_ for id_, _ in pictures(photos)] == sorted(p.name for p in photos.iterdir())
    one = next(photos.iterdir())
    assert pictures(one) == [(one.name, one)]
    with pytest.raises(DataError, match="is given pictures of pages"):
        pictures(tmp_path)
    with pytest.raises(DataError, match="no such data set"):
        pictures(tmp_path / "none")


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = replace(pages(), fed=Fed("k", ("0.png",), {"decode": (1.0,)}, {"decode": (1.0,)}, {}))
    assert Pages.open(made.save(tmp_path / "a.run")) == made
    text = (tmp_path / "a.run" / "pages.json").read_text(encoding="utf-8")
    (tmp_path / "a.run" / "pages.json").write_text(text.replace('"height": 400', '"height": "x"'))
    with pytest.raises(ModelError, match=r"damaged: field 'pages.height'"):
        Pages.open(tmp_path / "a.run")


@pytest.fixture(scope="module")
def stages(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles that say they are a pipeline's stages; their network is none."""
    folder = tmp_path_factory.mktemp("stages")
    made = {}
    for name, changes in {
        "detection": {"task": {"name": "text-detection"}, "labels": None},
        "direction": {"labels": ["0_degree", "180_degree"]},
        "recognition": {"task": {"name": "text-recognition"}, "labels": ["a", "b"]},
    }.items():
        made[name] = folder / name
        shutil.copytree(bundle, made[name])
        rewrite(made[name] / "bundle.json", **changes)
    return made


def rewrite(file: Path, **changes: Any) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**document, **changes}), encoding="utf-8")


def test_bundles_become_a_pipeline(stages: dict[str, Path], tmp_path: Path) -> None:
    made = Pipeline.make(stages, tmp_path / "ocr.bundle", options=OcrOptions(batch=2))
    assert list(made.stages) == ["detection", "direction", "recognition"]
    assert (made.options.batch, made.options.turn_score, made.name) == (2, 0.9, "ocr")
    again = Pipeline.open(tmp_path / "ocr.bundle")
    assert again.sha256 == made.sha256 and again.options == made.options
    with pytest.raises(UsageError, match=r"exists already"):
        Pipeline.make(stages, tmp_path / "ocr.bundle")
    two = {name: stages[name] for name in ("recognition", "detection")}
    assert list(Pipeline.make(two, tmp_path / "two.bundle").stages) == ["detection", "recognition"]


def test_an_altered_stage_is_refused(stages: dict[str, Path], tmp_path: Path) -> None:
    Pipeline.make(stages, tmp_path / "ocr.bundle")
    rewrite(tmp_path / "ocr.bundle" / "recognition" / "bundle.json", labels=["b", "a"])
    with pytest.raises(ModelError, match="recognition: is not the bundle that the pipeline was"):
        Pipeline.open(tmp_path / "ocr.bundle")
    rewrite(tmp_path / "ocr.bundle" / "pipeline.json", kind="table")
    with pytest.raises(ModelError, match="damaged: the kind 'table' of pipelines is not known"):
        Pipeline.open(tmp_path / "ocr.bundle")


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("detection", {"task": {"name": "segmentation"}}, "stage detection takes text-detection"),
        ("direction", {"image": None}, "stage direction is fed pictures"),
        ("direction", {"labels": ["up", "down"]}, "needs a class with '180'"),
        ("recognition", {"labels": None}, "stage recognition needs the dictionary"),
    ],
)
def test_what_is_no_stage_is_refused(
    stages: dict[str, Path], tmp_path: Path, name: str, changes: dict[str, Any], told: str
) -> None:
    shutil.copytree(stages[name], tmp_path / name)
    rewrite(tmp_path / name / "bundle.json", **changes)
    with pytest.raises(UsageError, match=told):
        Pipeline.make({**stages, name: tmp_path / name}, tmp_path / "ocr.bundle")
    assert not (tmp_path / "ocr.bundle").exists()


def test_a_stage_that_is_missing_or_unknown_is_said(
    stages: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="stage recognition is missing"):
        Pipeline.make({"detection": stages["detection"]}, tmp_path / "ocr.bundle")
    for wrong in ({"turn_score": 1.5}, {"batch": 0}):
        with pytest.raises(UsageError):
            OcrOptions(**wrong)  # type: ignore[arg-type]


def test_commands_say_what_they_do_not_take(
    command: Command,  # noqa: F811
    stages: dict[str, Path],
    bundle: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    ocr, read_ = tmp_path / "ocr.bundle", tmp_path / "pages.run"
    det, rec = stages["detection"], stages["recognition"]
    code, text, _ = command("pipeline", "ocr", "--det", det, "--rec", rec, "-o", ocr, "--json")
    assert code == 0 and one_object(text)["kind"] == "pipeline"
    pages().save(read_)
    code, text, _ = command("inspect", read_, "--json")
    assert code == 0 and (one_object(text)["pages"], one_object(text)["lines"]) == (4, 16)
    out = tmp_path / "out"
    for arguments, expected, told in (
        (("bench", ocr), 3, "is a pipeline: name a stage"),
        (("layers", ocr, bundle), 3, "is a pipeline"),
        (("convert", ocr, "-o", out), 3, "is a pipeline"),
        (("compare", read_, bundle / "reference"), 3, "is the run of a pipeline"),
        (("run", ocr, "-o", out), 2, "give --data"),
        (("run", ocr, "-o", out, "--data", photos, "--image", "ppocr-det"), 2, "--image is not"),
        (("run", ocr, "-o", out, "--data", photos, "--engine", "paddle"), 2, "--server detection"),
        (("run", bundle, "-o", out, "--against", read_), 2, "give --data"),
        (("run", bundle, "-o", out, "--server", "a=b"), 2, "--server is for pipelines"),
        (("compare", read_, read_, "--cosine", 1), 2, "--cosine is not for pipelines"),
        (("compare", read_, read_, "--draw", out), 2, "give --data"),
    ):
        code, _, error = command(*arguments)
        assert (code, told in error) == (expected, True), (arguments, code, error)
    assert not out.exists()


def test_lines_are_the_same_where_their_corners_are() -> None:
    left = [corners(10, 10), corners(10, 50)]
    assert same_lines(left, [corners(11, 51), corners(10, 12)]) == [(0, 1), (1, 0)]
    assert same_lines(left, [corners(13, 10)]) == []
    large = [corners(0, 0, 300, 80)]
    assert same_lines(large, [corners(7, 7, 300, 80)]) == [(0, 0)]
    assert same_lines([], left) == []


def test_rendered_pages_are_the_same_each_time_and_their_lines_lie_on_them(tmp_path: Path) -> None:
    first, second = (list(text_pages(3, seed=5)) for _ in range(2))
    for a, b in zip(first, second):
        assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
        assert [text for text, _ in a.lines] == [text for text, _ in b.lines]
    for page in first:
        assert page.lines
        for _, points in page.lines:
            assert (points >= 0).all() and (points <= page.image.size).all()
    labels = write_text_pages(tmp_path / "pages", count=2, seed=5)
    rows = labels.read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith("0001.png\t[") and (tmp_path / "pages" / "0001.png").exists()


def test_a_run_of_samples_is_no_run_of_pages(bundle: Path) -> None:
    with pytest.raises(ModelError, match="not a run of a pipeline"):
        Pages.open(bundle / "reference")
    assert Run.open(bundle / "reference")


def test_a_stage_tells_how_many_it_has_answered_in_all(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    told: list[tuple[str, int, int | None]] = []
    watch = Watch(step=lambda *step: told.append(step))
    made = Stage(
        "direction", opened, opened.model("x86"), {"engine": "lite", "device": "cpu"}, watch
    )
    (spec,) = opened.inputs
    tensors = [(s.id, s.feeds[spec.name]) for s in opened.read_samples()]
    seen: list[str] = []
    for count in (True, False):
        made.answer(iter(tensors), lambda id_, _: seen.append(id_), count=count)
    made.answer(iter(()), lambda *_: None, count=True)  # nothing starts no engine
    assert seen == 2 * [id_ for id_, _ in tensors]
    assert told[0] == ("direction", 1, None) and told[-1][1] == 2 * len(tensors)
    info = made.info()
    assert info.inferences == len(tensors) and info.engine_version and info.graph_ms > 0
