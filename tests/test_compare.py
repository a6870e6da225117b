"""compare: what it measures, and that it sees failures that softmax hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import (
    LAYER_LIMITS,
    LIMITS,
    LayerLimits,
    Limits,
    layer_limits_for,
    limits_for,
)
from lite_opt.judge.ranking import _top
from lite_opt.views.comparison import rows_of, verdict
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import FailedSample, Run, SampleInfo
from py_runner.tasks.classification import decode

RANDOM = np.random.default_rng(0)
NUMBERS = count()


def made(
    values: np.ndarray | Sequence[np.ndarray],
    labels: Sequence[int | None] | None = None,
    **fields: Any,
) -> Run:
    """A Run that answered `values`, one array a sample."""
    rows = [np.asarray(v) for v in values]
    labels = labels or [None] * len(rows)
    samples = tuple(SampleInfo(f"s{i}", f"hash{i}", label) for i, label in enumerate(labels))
    plain: dict[str, Any] = {
        "engine": "paddle", "engine_version": "3.3.1", "device": "cpu", "machine": "Linux",
        "threads": 1, "precision": "fp32", "model": {"name": "m", "sha256": "0"},
        "samples": samples, "outputs": {"out": rows}, "latency_ms": [[1.0, 3.0]] * len(rows),
        "warmup": 1, "peak_memory_bytes": 1000, "wall_s": 1.0, "created": f"run {next(NUMBERS)}",
    }  # fmt: skip
    return Run(**{**plain, **fields})


def page_of(reference: Run, candidate: Run, report: Report | None = None, **options: Any) -> str:
    """The page of one run against another."""
    report = report or compare(reference, candidate)
    return html_page(reference, [Judged(candidate, report)], **options)


def softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return (scores / scores.sum(-1, keepdims=True)).astype("float32")


LOGITS = RANDOM.standard_normal((20, 1, 50)).astype("float32") * 3


def test_numbers_of_one_output_against_numpy() -> None:
    other = LOGITS + RANDOM.normal(0, 1e-3, LOGITS.shape).astype("float32")
    report = compare(made(LOGITS), made(other))
    (output,) = report.outputs
    gap = np.abs(LOGITS.astype("float64") - other)
    assert output.kind == "logits"
    assert output.max_abs_diff == pytest.approx(gap.max())
    assert output.mean_abs_diff == pytest.approx(gap.mean())
    probability = np.abs(softmax(LOGITS.astype("float64")) - softmax(other.astype("float64"))).max()
    assert output.max_probability_diff == pytest.approx(probability, rel=1e-2)
    a, b = (
        v.astype("float64") - v.mean(-1, keepdims=True, dtype="float64") for v in (LOGITS, other)
    )
    assert output.cosine == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    rows = [(x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()) for x, y in zip(a, b)]
    assert output.cosine_min == pytest.approx(min(rows))
    assert output.worst == f"s{int(np.argmin(rows))}"


def test_equal_runs_pass_and_say_so() -> None:
    report = compare(made(LOGITS), made(LOGITS))
    assert report
    assert report.top1_agreement == report.top5_agreement == 1.0
    assert report.disagreeing == ()
    assert verdict(report) == "PASSED on 20 samples"


def test_a_constant_softmax_does_not_pass_for_agreement() -> None:
    """Nearly flat probabilities: the plain cosine is near 1 whatever the network says."""
    flat = softmax(LOGITS * 0.01)
    constant = np.repeat(flat.mean(0, keepdims=True), len(flat), axis=0)
    plain = (flat * constant).sum() / np.sqrt((flat**2).sum() * (constant**2).sum())
    assert plain > 0.999
    report = compare(made(flat), made(constant))
    assert not report
    assert any("does not move" in text for text in report.failures)
    assert any("cosine" in text for text in report.failures)


def test_a_reference_that_does_not_move_is_reported() -> None:
    still = np.repeat(LOGITS[:1], 20, axis=0)
    report = compare(made(still), made(still))
    assert report and "proves little" in report.warnings[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_always_fail(bad: float) -> None:
    other = LOGITS.copy()
    other[7, 0, 3] = bad
    loose = Limits(cosine=-1.0)
    report = compare(made(LOGITS), made(other), limits=loose)
    assert not report and "'s7'" in report.failures[0]
    (output,) = report.outputs
    assert (output.not_finite, output.worst, output.response) == (1, "s7", None)
    assert (output.cosine, output.cosine_min, output.sqnr_db) == (0.0, 0.0, -np.inf)
    assert output.max_abs_diff == output.max_probability_diff == output.mean_abs_diff == np.inf
    assert "FAILED" in page_of(made(LOGITS), made(other), report)
    with pytest.raises(DataError, match="not finite"):
        compare(made(other), made(LOGITS))


def test_agreement_and_accuracy() -> None:
    labels = [int(row.argmax()) for row in LOGITS]
    other = LOGITS.copy()
    for index in (2, 5):  # the right class becomes second
        other[index, 0, labels[index]] = np.sort(other[index, 0])[-2] - 1e-3
    for index in (9,):  # and here it becomes last
        other[index, 0, labels[index]] = -100
    report = compare(made(LOGITS, labels), made(other, labels), limits=Limits(cosine=0.0))
    assert report.top1_agreement == pytest.approx(17 / 20)
    assert report.top5_agreement == pytest.approx(19 / 20)
    assert report.disagreeing == ("s2", "s5", "s9")
    assert report.accuracy == pytest.approx(
        {
            "reference_top1": 1.0, "reference_top5": 1.0, "candidate_top1": 0.85,
            "candidate_top5": 0.95, "drop": 15.0, "labelled": 20,
        }
    )  # fmt: skip
    assert not compare(
        made(LOGITS, labels), made(other, labels), limits=Limits(0.0, top1_drop=14.9)
    )


def test_sequences_agree_when_every_position_does() -> None:
    values = softmax(RANDOM.standard_normal((6, 1, 12, 30)))
    other = values.copy()
    other[3, 0, 5] = np.roll(other[3, 0, 5], 1)
    report = compare(made(values), made(other))
    assert report.outputs[0].kind == "probabilities"
    assert report.disagreeing == ("s3",)
    assert report.accuracy is None


def test_outputs_that_are_no_scores_have_no_ranking() -> None:
    maps = RANDOM.random((3, 1, 1, 8, 8)).astype("float32")
    report = compare(made(maps), made(maps + 1e-3))
    assert report.outputs[0].kind == "tensor"
    assert report.top1_agreement is None
    assert report.outputs[0].max_probability_diff == pytest.approx(1e-3 / maps.max(), rel=1e-3)
    assert "Answers" not in rows_of(report)


def test_limits_follow_the_precision_of_the_candidate() -> None:
    other = LOGITS + RANDOM.normal(0, 0.05, LOGITS.shape).astype("float32")
    assert not compare(made(LOGITS), made(other))
    assert compare(made(LOGITS), made(other, precision="int8-weights"))
    assert limits_for("int8", cosine=None, top1_drop=0.5) == Limits(0.99, None, 0.5)
    assert limits_for("unheard-of") == LIMITS["fp32"]


def test_the_limits_are_those_that_were_measured() -> None:
    assert {
        "fp32": Limits(0.99999, 1e-4, None, 8.0),
        "fp16": Limits(0.999, None, None, 8.0),
        "int16-weights": Limits(0.99999, None, None, 8.0),
        "int8-weights": Limits(0.99, None, None, 8.0),
        "int8": Limits(0.99, None, 1.0, 8.0),
    } == LIMITS
    assert LayerLimits(1.0, 2.0) == LayerLimits(1.0, 2.0, 10.0)


def test_limits_that_are_just_held() -> None:
    labels = [int(row.argmax()) for row in LOGITS]
    other = LOGITS + RANDOM.normal(0, 1, LOGITS.shape).astype("float32")
    runs = made(LOGITS, labels), made(other, labels)
    measured = compare(*runs)
    (output,), drop = measured.outputs, measured.accuracy["drop"] if measured.accuracy else 0.0
    assert drop > 0 and output.cosine < 1 and output.max_probability_diff > 0
    held = Limits(output.cosine, output.max_probability_diff, drop)
    assert compare(*runs, limits=held).failures == ()
    for broken, words in (
        (replace(held, cosine=np.nextafter(output.cosine, 1)), "cosine"),
        (replace(held, max_abs_diff=np.nextafter(output.max_probability_diff, 0)), "max |dp|"),
        (replace(held, top1_drop=np.nextafter(drop, 0)), "accuracy falls"),
    ):
        (failure,) = compare(*runs, limits=broken).failures
        assert words in failure
    assert compare(*runs, limits=Limits(output.cosine))  # without a limit all else is allowed


def test_a_limit_of_zero_is_a_limit() -> None:
    assert Limits(0.5) == Limits(0.5, None, None)
    assert limits_for("fp32", cosine=0.0, max_abs_diff=0.0) == Limits(0.0, 0.0, None, 0.0)
    assert layer_limits_for("int8") == LAYER_LIMITS["int8"] != LAYER_LIMITS["fp32"]
    assert layer_limits_for("unheard-of") == LAYER_LIMITS["fp32"]


@pytest.mark.parametrize(("classes", "counted"), [(2, False), (5, False), (6, True)])
def test_top_five_needs_more_than_five_classes(classes: int, counted: bool) -> None:
    values = LOGITS[:, :, :classes]
    report = compare(made(values, [0] * 20), made(values, [0] * 20))
    assert report.top1_agreement == 1.0
    assert report.top5_agreement == (1.0 if counted else None)
    assert report.accuracy is not None
    assert ("reference_top5" in report.accuracy, "candidate_top5" in report.accuracy) == (
        counted, counted,
    )  # fmt: skip


def test_the_fifth_class_counts_and_the_sixth_does_not() -> None:
    scores = np.arange(8, 0, -1, dtype="float32")[None, None]
    order = [[1, 2, 3, 4, 0, 5, 6, 7], [1, 2, 3, 4, 5, 0, 6, 7]]
    others = np.empty((2, 1, 8), "float32")
    for other, places in zip(others, order):
        other[0, places] = scores[0, 0]
    report = compare(made(np.repeat(scores, 2, axis=0), [0, 0]), made(others, [0, 0]))
    assert (report.top1_agreement, report.top5_agreement) == (0.0, 0.5)
    assert report.accuracy is not None
    assert (report.accuracy["reference_top5"], report.accuracy["candidate_top5"]) == (1.0, 0.5)


def test_of_equal_scores_the_first_class_is_the_best() -> None:
    tied = np.array([[[1, 3, 3, 0]]], "float32")
    report = compare(made(tied, [1]), made(tied, [1]))
    assert report.accuracy is not None and report.accuracy["reference_top1"] == 1.0


def test_each_run_has_an_accuracy_of_its_own() -> None:
    labels = [int(np.argsort(row[0])[-2]) for row in LOGITS]  # the reference's second class
    right = LOGITS.copy()
    for row, label in zip(right[:5], labels):
        row[0, label] = 100
    report = compare(made(LOGITS, labels), made(right, labels))
    assert report.accuracy == pytest.approx(
        {
            "reference_top1": 0.0, "reference_top5": 1.0, "candidate_top1": 0.25,
            "candidate_top5": 1.0, "drop": -25.0, "labelled": 20,
        }
    )  # fmt: skip


def test_labels_of_some_samples_and_of_sequences() -> None:
    labels = [int(LOGITS[0].argmax()), *[None] * 19]
    report = compare(made(LOGITS, labels), made(LOGITS, labels))
    assert report.accuracy is not None and report.accuracy["labelled"] == 1
    rows = softmax(RANDOM.standard_normal((3, 1, 12, 30)))
    assert compare(made(rows, [1] * 3), made(rows, [1] * 3)).accuracy is None


def test_the_first_output_of_scores_is_ranked() -> None:
    maps = list(RANDOM.random((20, 1, 1, 8, 8)).astype("float32"))
    first, second = list(LOGITS), list(LOGITS[:, :, ::-1])
    reference = made(LOGITS, outputs={"map": maps, "a": first, "b": first})
    candidate = made(LOGITS, outputs={"map": maps, "a": first, "b": second})
    assert compare(reference, candidate).top1_agreement == 1.0


@pytest.mark.parametrize(("part", "stuck"), [(0.02, False), (0.005, True)])
def test_a_candidate_that_moves_a_hundredth_is_stuck(part: float, stuck: bool) -> None:
    mean = LOGITS.mean(0, keepdims=True)
    report = compare(made(LOGITS), made(mean + (LOGITS - mean) * np.float32(part)))
    assert report.outputs[0].response == pytest.approx(part, rel=1e-3)
    assert any("does not move" in text for text in report.failures) == stuck


@pytest.mark.parametrize(("part", "moves"), [(0.7e-6, False), (1.4e-6, True)])
def test_a_reference_that_moves_a_millionth_proves_little(part: float, moves: bool) -> None:
    """Of its own magnitude, that is; two samples are enough to tell."""
    centre = np.array([[-2e3, 0, 2e3]])
    values = np.stack([centre * (1 - part), centre * (1 + part)])
    report = compare(made(values), made(values))
    assert report.outputs[0].response == (1.0 if moves else None)
    assert len(report.warnings) == (0 if moves else 1)


def test_one_sample_has_no_response() -> None:
    report = compare(made(LOGITS[:1]), made(LOGITS[:1]))
    assert report.outputs[0].response is None and report.warnings == ()


@pytest.mark.parametrize(("precision", "floor"), [("fp16", 6.1e-5), ("fp32", 1e-12)])
def test_probabilities_below_the_floor_are_noise(precision: str, floor: float) -> None:
    """fp16 holds few bits of those below 6.1e-5, fp32 holds many."""
    reference = np.array([[[1e-7, 0.4, 0.6]], [[1e-4, 0.5, 0.5]]])
    candidate = reference * [0, 1, 1]
    logs = [np.log(np.maximum(v[:, 0], floor)) for v in (reference, candidate)]
    a, b = (v - v.mean(-1, keepdims=True) for v in logs)
    (output,) = compare(made(reference), made(candidate, precision=precision)).outputs
    assert output.kind == "probabilities"
    assert output.cosine == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    signal, noise = (a * a).sum(), ((a - b) ** 2).sum()
    assert output.sqnr_db == pytest.approx(10 * np.log10(signal / noise))


def test_samples_without_values_say_nothing() -> None:
    """Such as pictures in which nothing was detected."""
    boxes = [np.empty((0, 6), "float32"), np.ones((2, 6), "float32"), np.ones((1, 1), "float32")]
    other = [boxes[0], boxes[1] * 1.5, boxes[2] * 1.25]
    (output,) = compare(made(boxes), made(other)).outputs
    assert (output.kind, output.max_abs_diff, output.worst) == ("tensor", 0.5, "s1")
    assert output.mean_abs_diff == pytest.approx((12 * 0.5 + 0.25) / 13)
    (nothing,) = compare(made(boxes[:1]), made(boxes[:1])).outputs
    assert (nothing.cosine, nothing.cosine_min, nothing.worst) == (1.0, 1.0, "s0")
    (single,) = compare(made(boxes[2:]), made(other[2:])).outputs
    assert single.max_abs_diff == 0.25


def test_no_sample_is_more_than_alike() -> None:
    """Whatever the rounding of sums makes of a cosine."""
    for row in LOGITS:
        exact = row.astype("float64")
        assert compare(made([exact]), made([exact * 1.3])).outputs[0].cosine_min <= 1


def test_the_first_of_the_worst_samples_is_named() -> None:
    other = LOGITS.copy()
    other[4] = -LOGITS[4]
    (output,) = compare(made(LOGITS), made(other)).outputs
    assert (output.cosine_min, output.worst) == (pytest.approx(-1), "s4")
    (same,) = compare(made(LOGITS), made(np.zeros_like(LOGITS))).outputs
    assert (same.cosine_min, same.worst, same.sqnr_db) == (0.0, "s0", pytest.approx(0.0))


def test_runs_that_cannot_be_compared() -> None:
    run = made(LOGITS)
    others = tuple(SampleInfo(f"t{i}", f"hash{i}", None) for i in range(20))
    with pytest.raises(DataError, match="no sample in common"):
        compare(run, made(LOGITS, samples=others))
    altered = tuple(SampleInfo(s.id, "other", None) for s in run.samples)
    with pytest.raises(DataError, match="different tensors"):
        compare(run, made(LOGITS, samples=altered))
    with pytest.raises(DataError, match="shape"):
        compare(run, made(LOGITS[:, :, :40]))
    two = made(LOGITS, outputs={"a": list(LOGITS), "b": list(LOGITS)})
    for pair in ((run, two), (two, run)):
        with pytest.raises(DataError, match="outputs"):
            compare(*pair)


def test_a_subset_is_compared_with_a_warning() -> None:
    for runs in ((made(LOGITS), made(LOGITS[:5])), (made(LOGITS[:5]), made(LOGITS))):
        report = compare(*runs, common=True)
        assert report and report.samples == 5
        assert report.warnings == ("only 5 of 20 samples are in both runs",)
    assert compare(made(LOGITS[:5]), made(LOGITS))


def test_a_sample_that_failed_is_told_with_its_reason() -> None:
    failed = tuple(FailedSample(f"s{n}", f"signal {n}") for n in (12, 17))
    lacking = replace(made(LOGITS).select([n for n in range(20) if n not in (5, 12, 17)]))
    report = compare(made(LOGITS), replace(lacking, failed=failed))
    assert not report and report.failures[0].startswith(
        "3 of 20 samples of the reference are not in the candidate, first 's5'; its engine failed "
        "on 2 of them, first on 's12': signal 12: run it on all"
    )
    allowed = compare(made(LOGITS), replace(lacking, failed=failed), common=True)
    assert allowed and any("first on 's12': signal 12" in text for text in allowed.warnings)
    assert not any("first" in text for text in compare(made(LOGITS), lacking, common=True).warnings)


@pytest.mark.parametrize("large", [False, True])
def test_samples_are_paired_whatever_their_order(tmp_path: Path, large: bool) -> None:
    """Of files as in memory, those that one of the runs lacks left out."""
    edge = replace(made(LOGITS * 1.001), created="edge")
    (tmp_path / "a").mkdir()
    edge.write(tmp_path / "a", most_inline=1 if large else 100)
    moved = Run.open(tmp_path / "a").select(RANDOM.permutation(20))
    wanted, found = (compare(made(LOGITS), run).to_json() for run in (edge, moved))
    for report in (wanted, found):
        for about in ("reference", "candidate"):
            report[about].pop("created")
    assert found == wanted
    some = moved.select([3, 7, 11])
    lacking = compare(made(LOGITS), some, common=True)
    places = sorted(int(info.id[1:]) for info in some.samples)
    again = compare(made(LOGITS), edge.select(places), common=True)
    assert lacking.outputs == again.outputs and lacking.samples == 3


def test_the_five_best_are_those_of_a_whole_order() -> None:
    """Of few classes, many, equal scores and NaN."""
    for row in (
        RANDOM.integers(0, 4, (1, 200)),
        RANDOM.standard_normal((1, 60)),
        np.zeros((1, 99)),
    ):
        values = row.astype("float32")
        assert _top(values).tolist() == np.argsort(-values, kind="stable")[:, :5].tolist()
    values = np.full((1, 80), np.nan, "float32")
    values[0, [7, 3]] = 1, 2
    assert _top(values).tolist() == np.argsort(-values, kind="stable")[:, :5].tolist()


def test_a_candidate_that_lacks_samples_fails() -> None:
    report = compare(made(LOGITS), made(LOGITS[:5]))
    assert not report and report.samples == 5
    assert len(report.failures) == 1
    assert "15 of 20 samples of the reference are not in the candidate" in report.failures[0]
    assert "first 's5'" in report.failures[0] and "--common" in report.failures[0]


def test_a_run_against_itself_warns() -> None:
    run = made(LOGITS)
    warned = "one and the same run"
    assert any(warned in text for text in compare(run, run).warnings)
    other = replace(run, latency_ms=[[7.0]] * 20)
    assert not any(warned in text for text in compare(run, other).warnings)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"cosine": v} for v in (float("nan"), float("inf"), 1.01, -1.01)),
        *({"max_abs_diff": v} for v in (float("nan"), float("inf"), -1e-9)),
        *({"top1_drop": v} for v in (float("nan"), -101.0, 101.0)),
    ],
)
def test_limits_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"the limit {next(iter(wrong))} is a number"):
        limits_for("fp32", **wrong)
    for edge in (
        {"cosine": 1.0}, {"cosine": -1.0}, {"max_abs_diff": 0.0}, {"max_abs_diff": 7.0},
        {"top1_drop": 100.0}, {"top1_drop": -100.0},
    ):  # fmt: skip
        limits_for("int8", **edge)
    with pytest.raises(UsageError, match="alone_db is a number"):
        LayerLimits(float("nan"), 1.0)


def test_runs_are_saved_opened_and_merged(tmp_path: Path) -> None:
    varying = [RANDOM.random((1, n)).astype("float32") for n in range(3, 23)]
    run = made(LOGITS, [1] * 20, outputs={"a/b": list(LOGITS), "c": varying})
    opened = Run.open(run.save(tmp_path / "run"))
    assert opened.summary() == run.summary()
    for name in run.outputs:
        assert all(np.array_equal(a, b) for a, b in zip(run.outputs[name], opened.outputs[name]))
    parts = [
        made(
            LOGITS[part],
            samples=run.samples[part],
            outputs={n: v[part] for n, v in run.outputs.items()},
            latency_ms=run.latency_ms[part],
        )
        for part in (slice(0, 8), slice(8, 20))
    ]
    merged = Run.merge(parts)
    assert merged.samples == run.samples and merged.latency == run.latency
    assert bool(compare(run, merged))


def test_latency_statistics() -> None:
    run = made(LOGITS, latency_ms=[[float(i)] for i in range(1, 21)])
    assert run.latency == pytest.approx(
        {
            "count": 20, "mean_ms": 10.5, "p50_ms": 10.5, "p90_ms": 18.1, "p99_ms": 19.81,
            "min_ms": 1.0, "max_ms": 20.0, "throughput_per_s": 1000 / 10.5,
        }
    )  # fmt: skip


def test_the_page_escapes_what_models_and_files_are_called() -> None:
    run = made(LOGITS, outputs={"<script>": list(LOGITS)}, model={"name": "<b>", "sha256": "0"})
    page = page_of(run, run)
    assert page.count("<script>") == 1 and "&lt;script&gt;" in page and "&lt;b&gt;" in page
    assert "<b></h1>" not in page and "(<b>)" not in page


def test_predictions_name_the_best_classes() -> None:
    answers = decode(made(LOGITS[:2]), [f"class {i}" for i in range(50)], top=3)
    best = np.argsort(-LOGITS[1, 0])[:3]
    assert [c["name"] for c in answers[1]["top"]] == [f"class {i}" for i in best]
    one_score = np.ones((2, 1), "float32")
    assert decode(made(one_score)) == decode(made(np.ones((2, 3, 4), "float32"))) == []
    with pytest.raises(UsageError, match="at least 1"):
        decode(made(LOGITS), top=0)


def test_runs_are_called_what_they_are() -> None:
    lite = made(LOGITS, engine="lite", engine_version="v2.13-rc")
    for runs, names in (
        ((lite, made(LOGITS)), ["lite v2.13-rc (cpu, fp32)", "paddle 3.3.1 (cpu, fp32)"]),
        ((lite, lite), [f"{who}: lite v2.13-rc (cpu, fp32)" for who in ("reference", "candidate")]),
    ):
        assert [row[0] for row in rows_of(compare(*runs))["Latency"][1]] == names


def test_truth_values_are_compared() -> None:
    values = [np.array([[True, False, n % 2 == 0]]) for n in range(4)]
    assert compare(made(values), made(values))
    turned = [~value for value in values]
    assert not compare(made(values), made(turned))
