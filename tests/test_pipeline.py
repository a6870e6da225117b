"""Pipelines: bundles put together, lines cut out of pages, and which step makes a difference."""

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

from lite_opt.demo.text_pages import text_pages, write_text_pages
from lite_opt.judge.pages import compare_pages
from lite_opt.judge.steps import guilty, steps_of
from py_runner.data.crop import cut, on_page, reading_order, upside_down
from py_runner.data.image import PRESETS
from py_runner.data.image_files import pictures
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.pages import Fed, Line, Page, Pages, StageInfo, Turn
from py_runner.formats.pipeline import OcrOptions, Pipeline
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.pipeline.fed import STEPS, same_lines
from py_runner.pipeline.stages import fitted, group_width, is_turn, lines_in, read, text_of

LIMITS = {"lines": 0.99, "texts": 0.99, "turns": 0.99}


def corners(x: float, y: float, w: float = 60, h: float = 20) -> np.ndarray[Any, Any]:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


def line(number: int, **other: Any) -> Line:
    points = tuple(tuple(map(float, point)) for point in corners(10, 40 * number))
    turn = Turn(f"t{number}", 0, "0_degree", 0.99, False)
    line = Line(
        points=points,
        found=0.9,
        pixels=f"p{number}",
        turn=turn,
        tensor=f"r{number}",
        width=320,
        classes=(1, 2, number + 1),
        text=f"ab{number}",
        score=0.98,
        kept=True,
    )
    return replace(line, **other)


def stage(**other: Any) -> StageInfo:
    info = StageInfo(
        engine="lite",
        engine_version="v2.13-rc",
        device="cpu",
        precision="fp32",
        model={"name": "m", "sha256": "0"},
        image=PRESETS["ppocr-rec"].to_json(),
        task={"name": "text-recognition"},
        labels=2,
        labels_sha256="1",
    )
    return replace(info, **other)


def pages(count: int = 4, **other: Any) -> Pages:
    page = [Page(f"{n}.png", f"x{n}", f"d{n}", 400, 300, tuple(map(line, range(4)))) for n in
            range(count)]  # fmt: skip
    stages = {name: stage() for name in ("detection", "direction", "recognition")}
    run_ = Pages(
        pipeline={"name": "ocr", "sha256": "2"},
        kind="ocr",
        options=OcrOptions(),
        machine="Linux x86_64",
        created="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
        decode_ms=1.0,
        crop_ms=1.0,
        stages=stages,
        pages=tuple(page),
    )
    return replace(run_, **other)


def other_run(first: Pages, **changes: Any) -> Pages:
    """A later run in which every line is changed."""
    changed = [
        replace(page, lines=tuple(replace(one, **changes) for one in page.lines))
        for page in first.pages
    ]
    return replace(first, created="2026-01-02T00:00:00+00:00", pages=tuple(changed))


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
        (("run", bundle, "-o", out, "--against", read_), 2, "are for pipelines"),
        (("compare", read_, read_, "--cosine", 1), 2, "--cosine is not for pipelines"),
        (("compare", read_, read_, "--html", out), 2, "leave out --html"),
    ):
        code, _, error = command(*arguments)
        assert (code, told in error) == (expected, True), (arguments, code, error)
    assert not out.exists()


def test_runs_that_agree_pass_and_differences_fail() -> None:
    first = pages(200)
    report = compare_pages(first, other_run(first))
    assert report and not report.culprit and not report.differing, report.failures
    assert [rate.name for rate in report.rates][:2] == ["lines equal", "characters"]
    assert any("--against" in text for text in report.warnings)
    report = compare_pages(first, other_run(first, text="other"))
    assert not report and report.rates[0].value == 0
    assert len(report.differing) == 200
    assert report.culprit.startswith("recognition: post-processing (800 of 800 lines")


def test_one_and_the_same_run_and_missing_pages_are_said() -> None:
    first = pages()
    assert any("one and the same run" in text for text in compare_pages(first, first).warnings)
    fewer = replace(other_run(first), pages=first.pages[:3])
    report = compare_pages(first, fewer)
    assert not report and "1 of 4 pages of the reference are not" in report.failures[0]
    assert "not in the candidate" not in " ".join(compare_pages(first, fewer, common=True).failures)
    with pytest.raises(DataError, match="no page in common"):
        compare_pages(first, replace(fewer, pages=(replace(first.pages[0], id="z"),)))


def test_lines_that_are_not_kept_are_no_text_and_nothing_read_is_no_pass() -> None:
    first = pages()
    report = compare_pages(first, other_run(first, kept=False))
    assert not report and report.rates[0].value == 0
    silent = other_run(first, kept=False)
    report = compare_pages(silent, other_run(silent, score=0.1))
    assert not report and "nothing was judged" in report.failures[-1]


def test_characters_count_what_only_one_run_read() -> None:
    first = pages()
    lost = replace(
        other_run(first), pages=tuple(replace(p, lines=p.lines[:3]) for p in first.pages)
    )
    values = {rate.name: rate.value for rate in compare_pages(first, lost).rates}
    assert values["lines equal"] == values["characters"] == values["boxes at IoU 0.5"] == 0.75
    values = {rate.name: rate.value for rate in compare_pages(lost, first).rates}
    assert values["lines equal"] == 0.75 and values["characters"] == pytest.approx(2 / 3)
    report = compare_pages(first, lost)
    assert report.figures["hmean at IoU 0.5"] == pytest.approx(2 * 3 / 7)
    assert report.culprit.startswith("detection: graph")


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"pixels": "q"}, "crop"),
        ({"turn": Turn("u", 0, "0_degree", 0.99, False)}, "direction: preprocessing"),
        ({"turn": None}, None),
        ({"tensor": "s"}, "recognition: preprocessing"),
        ({"classes": (1, 1)}, "recognition: graph"),
        ({"text": "x"}, "recognition: post-processing"),
    ],
)
def test_the_step_is_found_by_what_is_recorded(changes: dict[str, Any], step: str | None) -> None:
    first = pages()
    found, fed = steps_of(first, other_run(first, **changes), LIMITS)
    blamed = guilty(found)
    assert not fed and (blamed.name if blamed else None) == step


def test_the_classifiers_graph_and_its_post_processing_are_told_apart() -> None:
    first = pages()
    own = [replace(page, lines=tuple(
        replace(one, turn=replace(one.turn, label="180_degree", turned=True)) for one in page.lines
    )) for page in first.pages]  # fmt: skip
    later = replace(first, created="later", pages=tuple(own))
    blamed = guilty(steps_of(first, later, LIMITS)[0])
    assert blamed is not None and blamed.name == "direction: post-processing"
    graph = other_run(first, turn=Turn("t0", 1, "180_degree", 0.99, True))
    found = {step.name: step for step in steps_of(first, graph, LIMITS)[0]}
    assert found["direction: graph"].broken
    assert found["direction: preprocessing"].rate.value < 1  # t1 to t3 are other tensors


def test_pages_that_were_decoded_or_resized_otherwise_are_found() -> None:
    first = pages()
    for what, step in (("pixels", "decode"), ("tensor", "detection: preprocessing")):
        changed = tuple(replace(page, **{what: "other"}) for page in first.pages)
        later = replace(first, created="later", pages=changed)
        blamed = guilty(steps_of(first, later, LIMITS)[0])
        assert blamed is not None and blamed.name == step


def fed(first: Pages, **alike: float) -> Fed:
    names = {name.replace(": ", "_").replace("-", "_"): name for name in STEPS}
    share = {names[key]: value for key, value in alike.items()}
    rows = {step: tuple(share.get(step, 1.0) * 4 for _ in first.pages) for step in STEPS}
    counts = {step: (4.0,) * len(first.pages) for step in STEPS}
    return Fed(first.key, tuple(p.id for p in first.pages), rows, counts, {})


def test_what_was_fed_counts_before_what_was_recorded() -> None:
    first = pages()
    later = replace(other_run(first, text="x"), fed=fed(first, detection_graph=0.5))
    report = compare_pages(first, later)
    assert report.fed and report.culprit.startswith("detection: graph (8 of 16 lines")
    elsewhere = replace(later, fed=replace(fed(first), against="another run"))
    report = compare_pages(first, elsewhere)
    assert not report.fed and report.culprit.startswith("recognition: post-processing")


def test_a_score_that_moves_is_a_wrong_weight_in_fp32_only() -> None:
    first = pages()
    told = replace(fed(first), largest={"recognition: graph": 0.0011})
    later = replace(other_run(first), fed=told)
    report = compare_pages(first, later)
    assert not report and report.culprit == "recognition: graph (a score moves by 0.0011)"
    little = replace(later, fed=replace(told, largest={"recognition: graph": 0.0009}))
    assert not compare_pages(first, little).culprit
    rounded = {**later.stages, "recognition": stage(precision="int8-weights")}
    report = compare_pages(first, replace(later, stages=rounded))
    assert not report.culprit


def test_the_reason_is_what_the_runs_say_of_themselves() -> None:
    first = pages()
    image = {**PRESETS["ppocr-rec"].to_json(), "color": "RGB"}
    later = replace(
        other_run(first, tensor="s"),
        stages={
            **first.stages,
            "recognition": stage(image=image, labels_sha256="9", task={"threshold": 1}),
        },
    )
    found = {step.name: step.why for step in steps_of(first, later, LIMITS)[0]}
    assert found["recognition: preprocessing"] == (
        "color is BGR in the reference and RGB in the candidate"
    )
    assert "the dictionary is another" in found["recognition: post-processing"]
    assert (
        "threshold is by default in the reference and 1 in"
        in (found["recognition: post-processing"])
    )
    assert found["detection: preprocessing"] == "" == found["recognition: graph"]
    assert "color is BGR" in compare_pages(first, later).culprit
    other = other_run(first, tensor="s")
    assert "the code or a library of it is another" in compare_pages(first, other).culprit


def test_both_runs_are_held_against_labels(tmp_path: Path) -> None:
    first = pages(8)
    truth = tmp_path / "Label.txt"
    entries = [
        {"transcription": f"a b{n}", "points": corners(10, 40 * n).tolist()} for n in range(4)
    ]
    rows = [f"{n}.png\t{json.dumps(entries)}\n" for n in range(8)]
    truth.write_text("".join(rows), encoding="utf-8")
    wrong = other_run(first, text="ab0")
    values = {r.name: r for r in compare_pages(first, wrong, truth=truth).rates}
    assert values["right lines, reference"].value == 1.0
    assert values["right lines, candidate"].value == 0.25
    assert (
        values["right lines, points lost"].value == 75 and values["right lines, points lost"].broken
    )
    assert values["hmean by labels, candidate"].value == 1.0
    with pytest.raises(UsageError, match="has no limit 'boxes'"):
        compare_pages(first, wrong, task_limits={"boxes": 1})


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


def test_runs_of_other_pages_merge() -> None:
    first = pages(3)
    rest = replace(
        pages(2),
        created="later",
        pages=tuple(replace(page, id=f"b{page.id}") for page in pages(2).pages),
        stages={name: stage(graph_ms=5.0, inferences=2) for name in first.stages},
    )
    parts = [replace(run_, fed=fed(first)) for run_ in (first, rest)]
    whole = Pages.merge(parts)
    assert [page.id for page in whole.pages] == ["0.png", "1.png", "2.png", "b0.png", "b1.png"]
    assert whole.stages["direction"].graph_ms == 5.0 and whole.wall_s == 2.0
    assert whole.fed is not None and len(whole.fed.alike["decode"]) == 6
    with pytest.raises(UsageError, match="a page twice"):
        Pages.merge([first, first])
    others = {**rest.stages, "detection": stage(precision="int8")}
    with pytest.raises(UsageError, match="different models or engines"):
        Pages.merge([first, replace(rest, stages=others)])


def test_arithmetic_on_the_same_input_comes_out_the_same_or_is_another_rule() -> None:
    """One line of 800 is too many there, and few enough for a graph."""
    first = pages(200)

    def one(**changes: Any) -> Pages:
        page = first.pages[7]
        lines = (replace(page.lines[0], **changes), *page.lines[1:])
        changed = replace(page, lines=lines)
        return replace(first, created="later", pages=(*first.pages[:7], changed, *first.pages[8:]))

    report = compare_pages(first, one(text="ab0!"))
    assert not report and report.culprit.startswith("recognition: post-processing (1 of 800")
    report = compare_pages(first, one(classes=(1, 2), text="ab"))
    assert report and report.culprit.startswith("recognition: graph (1 of 800")
    assert report.differing == ("7.png",)
