"""What a pipeline reads is judged: end to end, by labels, and step by step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from test_cli import Command, command, one_object  # noqa: F401  a fixture

from lite_opt.judge.pages import compare_pages
from lite_opt.judge.steps import guilty, steps_of
from lite_opt.views.pictures import DIFFERENT
from py_runner.data.image import PRESETS
from py_runner.errors import DataError, UsageError
from py_runner.formats.pages import Fed, Line, Page, Pages, StageInfo, Turn
from py_runner.formats.pipeline import OcrOptions
from py_runner.pipeline.fed import STEPS

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


def fed(first: Pages, **alike: float) -> Fed:
    names = {name.replace(": ", "_").replace("-", "_"): name for name in STEPS}
    share = {names[key]: value for key, value in alike.items()}
    rows = {step: tuple(share.get(step, 1.0) * 4 for _ in first.pages) for step in STEPS}
    counts = {step: (4.0,) * len(first.pages) for step in STEPS}
    return Fed(first.key, tuple(p.id for p in first.pages), rows, counts, {})


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


def test_a_pipeline_is_a_gate_too(
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    first = pages(200)
    for name, run in (("a", first), ("b", other_run(first)), ("c", other_run(first, text="z"))):
        run.save(tmp_path / f"{name}.run")
    out = ["--junit", tmp_path / "x.xml", "--markdown", tmp_path / "c.md", "--force"]
    assert command("compare", tmp_path / "a.run", tmp_path / "b.run", *out)[0] == 0
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    names = [case.attrib["name"] for case in suite]
    assert suite.attrib["failures"] == "0"
    assert {"lines equal", "recognition: graph", "verdict"} <= set(names)
    assert command("compare", tmp_path / "a.run", tmp_path / "c.run", *out)[0] == 1
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert "lines equal" in failed and failed[-1] == "verdict"
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "It does not hold its limits, on 200 pages" in text
    assert "what differs: recognition: post-processing" in text and "Disagree: " in text


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


def test_the_html_page_marks_what_differs_and_names_the_step(
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    first = pages(2)
    page = first.pages[1]
    lines = (replace(page.lines[0], text="a<b", classes=(9,)), *page.lines[1:3])  # one is missing
    second = replace(first, created="later", pages=(first.pages[0], replace(page, lines=lines)))
    for name, run_ in (("server", first), ("edge", second)):
        run_.save(tmp_path / f"{name}.run")
    html, drawn, photos = (tmp_path / name for name in ("page.html", "drawn", "photos"))
    photos.mkdir()
    for sheet in first.pages:
        Image.new("RGB", (sheet.width, sheet.height), "grey").save(photos / sheet.id)
    runs = [tmp_path / "server.run", tmp_path / "edge.run"]
    draw = ["--html", html, "--draw", drawn, "--data", photos]
    assert command("compare", *runs, *draw)[0] == 1
    text = html.read_text(encoding="utf-8")
    assert "FAILED" in text and "recognition: graph" in text and "Steps on the same input" in text
    assert "0.png: 4 of 4 lines equal" in text and "1.png: 2 of 4 lines equal" in text
    assert "ab<mark>0</mark>" in text and "a<mark>&lt;</mark>b" in text
    assert "<mark>ab3</mark>" in text  # a line that one run alone has
    pictures = sorted(drawn.glob("*.png"))
    assert [file.name for file in pictures] == ["000000_0.png", "000001_1.png"]
    for file, red in zip(pictures, (False, True)):
        with Image.open(file) as picture:
            marked = (np.asarray(picture) == DIFFERENT).all(-1)
        assert marked.any() == red
    assert marked[:, :300].any() and marked[:, 300:].any()
