"""Which step of one model's run makes a difference: each is judged on the same input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import page_of
from test_tasks import of

from lite_opt.judge.attribution import steps_of_runs
from lite_opt.judge.compare import Report, compare
from lite_opt.views.comparison import view
from py_runner.data.image import PRESETS
from py_runner.errors import DataError
from py_runner.formats.run import Run

SPEC = PRESETS["paddleclas"].to_json()


def run(*rows: Any, score: float = 0.9, **options: Any) -> Run:
    """Of three pictures with one box each, moved by what the rows say."""
    moves = rows or (0, 0, 0)
    boxes = [np.array([[0, score, 10 + m, 10, 50 + m, 50]], "float32") for m in moves]
    made = of("detection", boxes, **options)
    samples = tuple(replace(s, pixels=f"pixels {i}") for i, s in enumerate(made.samples))
    return replace(made, samples=samples, image=SPEC, inputs=("image",), labels=("cat", "dog"))


def fed_otherwise(made: Run, **image: Any) -> Run:
    samples = tuple(replace(s, sha256=f"other {s.sha256}") for s in made.samples)
    return replace(made, samples=samples, image={**SPEC, **image})


def culprit(report: Report) -> str:
    assert not report
    return report.culprit


def test_runs_that_agree_need_no_culprit() -> None:
    report = compare(run(), run())
    assert report and report.steps == () and report.culprit == ""


def test_a_picture_that_is_decoded_otherwise() -> None:
    other = fed_otherwise(run())
    first, *rest = other.samples
    other = replace(other, samples=(replace(first, pixels="turned"), *rest))
    said = culprit(compare(run(), other))
    assert said.startswith("decode (1 of 3 samples come out otherwise: by the same settings")


def test_preprocessing_is_named_with_its_setting() -> None:
    report = compare(run(), fed_otherwise(run(0, 9, 0), color="BGR"))
    said = "color is RGB in the reference and BGR in the candidate"
    assert culprit(report).startswith("preprocessing (3 of 3 samples") and said in report.culprit
    assert any(text.startswith("preprocessing: 0 is below 1") for text in report.failures)
    assert any("run the candidate with --against" in text for text in report.warnings)
    assert report.steps[2].rate is None  # nothing was fed the same


def test_the_graph_is_judged_on_the_reference_s_own_tensors() -> None:
    candidate = fed_otherwise(run(0, 9, 0), color="BGR")
    right = compare(run(), replace(candidate, fed=run(0, 0, 0)))
    assert [step.broken for step in right.steps] == [False, True, False, False]
    wrong = compare(run(), replace(candidate, fed=run(9, 9, 9)))
    assert [step.broken for step in wrong.steps] == [False, True, True, False]
    assert not any("--against" in text for text in right.warnings)
    # Fed something else once more: that says nothing of the graph.
    nothing = compare(run(), replace(candidate, fed=fed_otherwise(run())))
    assert nothing.steps[2].rate is None


def test_the_graph_is_named_by_boxes_and_by_scores() -> None:
    said = culprit(compare(run(), run(9, 0, 0)))
    assert said.startswith("graph (2 of 4 boxes come out otherwise")
    report = compare(run(), run(score=0.899), task_limits={"boxes": 0.5})
    assert report.culprit == "" and report  # limits hold: nothing was asked
    steps = {step.name: step for step in steps_of_runs(run(), run(score=0.7))}
    assert steps["graph"].moves and steps["graph"].largest == pytest.approx(0.2, abs=1e-6)


def test_another_threshold_is_post_processing() -> None:
    report = compare(run(), run(threshold=0.95))
    assert culprit(report).startswith("post-processing (3 of 3 samples come out otherwise")
    assert "threshold is by default in the reference and 0.95 in the candidate" in report.culprit
    assert [step.broken for step in report.steps] == [False, False, False, True]


def test_a_classifier_s_graph_and_labels() -> None:
    scores = [np.array([[0.8, 0.2]], "float32"), np.array([[0.3, 0.7]], "float32")]
    left = of("classification", scores, labels=("cat", "dog"))
    turned = replace(left, outputs={"out 0": [scores[1], scores[1]]})
    assert culprit(compare(left, turned)).startswith("graph (a score moves by")
    steps = {step.name: step for step in steps_of_runs(left, replace(left, labels=("dog", "cat")))}
    assert steps["post-processing"].broken and not steps["graph"].broken
    assert "the labels are others" in steps["post-processing"].why


def test_tensors_that_nobody_can_make_again_are_an_error() -> None:
    plain = replace(run(), image=None)
    with pytest.raises(DataError, match="use the same preprocessing for both"):
        compare(plain, replace(fed_otherwise(plain), image=None))


def test_what_was_fed_again_is_kept_and_shown(tmp_path: Path) -> None:
    candidate = replace(fed_otherwise(run(0, 9, 0), color="BGR"), fed=run())
    candidate.save(tmp_path / "edge.run")
    opened = Run.open(tmp_path / "edge.run")
    assert opened.fed is not None and opened.fed.samples == run().samples
    assert opened.samples[0].pixels == "pixels 0"
    report = compare(run(), opened)
    shown = [item for item in view(report) if isinstance(item, str)]
    assert any(text.startswith("what makes the difference: preprocessing") for text in shown)
    page = page_of(run(), opened, report)
    assert "Steps on the same input" in page and "What makes the difference" in page
