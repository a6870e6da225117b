"""The reference's own noise as a limit, and answers that say nothing or have another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_compare import page_of

from lite_opt.judge.compare import compare
from lite_opt.judge.limits import LIMITS, MOST_NOISE, Limits, limits_for
from lite_opt.judge.noise import jittered, noise_of_server
from lite_opt.views.comparison import noise_of, verdict
from py_runner.errors import DataError, EngineError, UsageError
from py_runner.formats.run import Run, SampleInfo
from py_runner.tensors import Sample

MAPS = np.random.default_rng(0).standard_normal((3, 1, 2, 8, 8)).astype("float32")
BOXES = np.random.default_rng(1).random((9, 6)).astype("float32")


def made(values: Sequence[np.ndarray], noise: dict[str, float] | None = None) -> Run:
    """A Run that answered `values`, one array a sample."""
    rows = list(values)
    return Run(
        engine="paddle", engine_version="3", device="cpu", machine="", threads=1, precision="fp32",
        model={"name": "m", "sha256": "0"},
        samples=tuple(SampleInfo(f"s{i}", str(i), None) for i in range(len(rows))),
        outputs={"out": rows}, latency_ms=[[1.0]] * len(rows), warmup=0, peak_memory_bytes=0,
        wall_s=1.0, created=str(id(values)), noise=noise or {},
    )  # fmt: skip


def off(by: float) -> np.ndarray:
    """MAPS with one value that is off by so much of the largest."""
    other = MAPS.astype("float64")
    other[1, 0, 0, 3, 3] += by * np.abs(MAPS).max()
    return other


@pytest.mark.parametrize(
    ("noise", "by", "passes"),
    [
        (0.0, 0.99e-4, True),
        (0.0, 1.01e-4, False),
        (1.2e-5, 1.01e-4, False),  # 8 x 1.2e-5 is less than the limit
        (1e-3, 7.99e-3, True),
        (1e-3, 8.01e-3, False),
    ],
)
def test_eight_times_the_noise_is_allowed(noise: float, by: float, passes: bool) -> None:
    report = compare(made(MAPS, {"out": noise}), made(off(by)), limits=limits_for("fp32", cosine=0))
    assert bool(report) == passes
    (output,) = report.outputs
    assert (output.noise, output.limit) == (noise, max(1e-4, 8 * noise))
    assert any("is above" in text for text in report.failures) != passes


def test_the_limit_says_where_it_comes_from() -> None:
    runs = made(MAPS, {"out": 1.04e-4}), made(off(3e-4))
    report = compare(*runs)
    sentence = "output 'out': limit 8.3e-04: 8 x the reference's own noise of 1.0e-04"
    assert report and list(noise_of(report)) == [sentence]
    assert sentence.replace("'", "&#39;") in page_of(*runs)
    assert report.to_json()["outputs"][0]["noise"] == 1.04e-4
    assert report.to_json()["outputs"][0]["limit"] == pytest.approx(8.32e-4)
    for quiet in ({}, {"out": 1.2e-5}, {"another": 1.0}):
        assert list(noise_of(compare(made(MAPS, quiet), made(MAPS + 0)))) == []


def test_a_limit_that_is_given_is_meant() -> None:
    runs = made(MAPS, {"out": 1e-3}), made(off(2e-3))
    assert compare(*runs)
    assert not compare(*runs, limits=limits_for("fp32", max_abs_diff=1e-4))
    assert compare(*runs, limits=limits_for("fp32", max_abs_diff=1e-4, noise_times=2.1))
    assert limits_for("fp32", cosine=0.5).noise_times == 8


def test_cosine_is_not_excused_by_noise() -> None:
    other = MAPS + np.random.default_rng(2).normal(0, 6e-3, MAPS.shape)
    report = compare(made(MAPS, {"out": MOST_NOISE}), made(other))
    assert not report and "cosine" in report.failures[0] and len(report.failures) == 1


@pytest.mark.parametrize(
    ("noise", "by", "outcome"),
    [
        (MOST_NOISE, 7e-2, "PASSED"),
        (1.01 * MOST_NOISE, 1e-4, "PASSED"),  # within the plain limit, whatever it does itself
        (1.01 * MOST_NOISE, 1.1e-4, "UNJUDGED"),
        (1.0, 1.1e-4, "UNJUDGED"),
    ],
)
def test_chaos_is_neither_right_nor_wrong(noise: float, by: float, outcome: str) -> None:
    report = compare(made(MAPS, {"out": noise}), made(off(by)), limits=limits_for("fp32", cosine=0))
    assert verdict(report).startswith(outcome)
    assert bool(report) == (outcome == "PASSED") and not report.failures
    assert report.to_json()["passed"] == bool(report)
    assert any("chaotic" in text for text in report.unjudged) == (outcome == "UNJUDGED")


def test_the_largest_difference_allowed() -> None:
    assert MOST_NOISE == 1e-2
    assert not any(limits.difference(1.0) for limits in LIMITS.values() if not limits.max_abs_diff)
    assert Limits(0.9, 1e-4).difference(None) == 1e-4
    assert Limits(0.9, 1e-4).difference(float("nan")) == np.inf
    assert Limits(0.9, 1e-4, noise_times=0.0).difference(1.0) == 1e-4
    assert Limits(0.9, 1e-4, noise_times=1e12).difference(1e-12) == 1.0
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="noise_times is a number, 0 or more"):
            Limits(0.9, noise_times=wrong)


def test_noise_travels_with_a_run(tmp_path: Path) -> None:
    run = made(MAPS, {"out": 3e-4})
    assert Run.open(run.save(tmp_path / "a")).noise == {"out": 3e-4}
    quiet = made(MAPS)
    assert "noise" not in quiet.summary()
    assert Run.open(quiet.save(tmp_path / "b")).noise == {}
    assert run.first(1).noise == {"out": 3e-4}
    other = replace(run, samples=(SampleInfo("t", "t", None),), noise={"out": 5e-4, "b": 1e-5})
    assert Run.merge([run, other]).noise == {"out": 5e-4, "b": 1e-5}


@pytest.mark.parametrize("empty", [np.empty((0, 6), "float32"), np.array([[-1]], "float32")])
def test_a_detector_that_found_nothing_is_not_right(empty: np.ndarray) -> None:
    report = compare(made([empty, empty]), made([empty, empty]))
    assert not report and not report.failures
    assert report.outputs[0].kind == "tensor" and report.top1_agreement is None
    assert verdict(report) == (
        "UNJUDGED on 2 samples: output 'out' is empty for every sample: give samples on which the "
        "model finds something"
    )
    assert compare(made([empty, BOXES]), made([empty, BOXES]))


def test_two_words_for_nothing_are_alike() -> None:
    rows, one = np.empty((0, 6), "float32"), np.array([[-1]], "float32")
    for left, right in ((rows, one), (one, rows)):
        assert compare(made([left, BOXES]), made([right, BOXES]))
        assert verdict(compare(made([left]), made([right]))).startswith("UNJUDGED")


@pytest.mark.parametrize("nothing", [np.empty((0, 6), "float32"), np.array([[-1]], "float32")])
def test_what_the_reference_did_not_find_is_too_much(nothing: np.ndarray) -> None:
    report = compare(made([nothing]), made([BOXES]))
    told = "9 rows (boxes, say) against 0 of the reference for 's0'"
    assert report.failures == (f"output 'out': {told}",) and report.unjudged == ()


def test_rows_of_scores_that_differ_in_number_are_not_ranked() -> None:
    scores = np.full((4, 5), 0.2, "float32")
    report = compare(made([scores, scores]), made([scores, scores[:3]]))
    assert report.outputs[0].kind == "probabilities" and report.top1_agreement is None
    assert compare(made([scores]), made([scores + 0])).outputs[0].misshapen == ()


@pytest.mark.parametrize(
    ("candidate", "told"),
    [
        (np.concatenate([BOXES, BOXES[:1]]), "10 rows (boxes, say) against 9 of the reference"),
        (BOXES[:0], "0 rows (boxes, say) against 9 of the reference"),
        (np.array([[-1]], "float32"), "0 rows (boxes, say) against 9 of the reference"),
    ],
)
def test_one_box_more_is_a_wrong_answer(candidate: np.ndarray, told: str) -> None:
    """Not another model."""
    for more in ([], [BOXES[:4]]):
        report = compare(made([BOXES, *more]), made([candidate, *more]))
        assert not report and report.outputs[0].misshapen == ("s0",)
        assert report.failures == (f"output 'out': {told} for 's0'",)
        assert (report.outputs[0].max_abs_diff == np.inf) != bool(more)
    three = compare(made([BOXES] * 3), made([candidate, candidate, BOXES]))
    assert three.failures[0].endswith("for 's0', and other numbers for 1 more")


def test_other_shapes_are_of_other_models() -> None:
    wide, flat = np.ones((9, 7), "float32"), np.ones(9, "float32")
    for other in (wide, flat):
        with pytest.raises(DataError, match="different models"):
            compare(made([BOXES]), made([other]))
    with pytest.raises(DataError, match="different models"):
        compare(made([BOXES, BOXES[:3]]), made([flat, flat[:3]]))
    # Where they vary, in either, any of them is an answer.
    for shape in (BOXES[:, :3], BOXES):
        report = compare(made([BOXES, shape]), made([BOXES, BOXES[:, :4]]))
        told = f"shape [9, 4] against [9, {shape.shape[1]}] of the reference for 's1'"
        assert told in report.failures[0]
    # A number of rows that is chaos is wrong all the same.
    chaos = compare(made([BOXES], {"out": 1.0}), made([BOXES[:3]]))
    assert chaos.failures and not chaos.unjudged


def test_an_answer_that_is_not_finite_says_so_whatever_its_shape() -> None:
    report = compare(made([BOXES]), made([np.full((2, 6), np.nan, "float32")]))
    assert "2 rows" in report.failures[0] and "NaN or Inf" in report.failures[1]


def test_jitter_moves_floats_to_a_neighbour() -> None:
    value = np.linspace(-2, 2, 1000, dtype="float32").reshape(1, -1)
    moved = jittered(Sample("s", {"x": value, "ids": np.arange(5)}, 3))
    assert (moved.id, moved.label) == ("s", 3) and np.array_equal(moved.feeds["ids"], np.arange(5))
    up = moved.feeds["x"] == np.nextafter(value, np.float32(np.inf))
    down = moved.feeds["x"] == np.nextafter(value, np.float32(-np.inf))
    assert np.all(up | down) and 400 < up.sum() < 600
    assert moved.feeds["x"].dtype == np.float32
    again, other = (jittered(Sample("s", {"x": value}), seed).feeds["x"] for seed in (0, 1))
    assert np.array_equal(again, moved.feeds["x"]) and not np.array_equal(again, other)


def test_noise_is_the_largest_that_the_server_makes() -> None:
    samples = [Sample(f"s{i}", {"x": value}) for i, value in enumerate(MAPS)]
    by = {"cpu": 2e-4, "cpu+onednn": 5e-4}
    fed = []

    def answer(given: Sequence[Sample], device: str) -> Run:
        fed.append((device, all(np.array_equal(a.feeds["x"], b) for a, b in zip(given, MAPS))))
        # That the samples are others is no obstacle.
        return replace(made(off(by[device])), samples=(SampleInfo("t", "t", None),) * 1)

    def dies(given: Sequence[Sample], device: str) -> Run:
        if device != "cpu":
            raise EngineError("oneDNN segfaults on it")
        return answer(given, device)

    assert noise_of_server(samples, made(MAPS), answer) == {"out": pytest.approx(5e-4, rel=1e-3)}
    assert fed == [("cpu", False), ("cpu+onednn", True)]
    assert noise_of_server(samples, made(MAPS), dies) == {"out": pytest.approx(2e-4, rel=1e-3)}
    by["cpu+onednn"] = 1.01 * MOST_NOISE  # wrong kernels are no noise
    assert noise_of_server(samples, made(MAPS), answer) == {"out": pytest.approx(2e-4, rel=1e-3)}
    by["cpu"] = 7.0  # but chaos is
    assert noise_of_server(samples, made(MAPS), answer) == {"out": 1.0}


def test_what_cannot_be_compared_is_no_noise() -> None:
    whole = made([np.arange(6).reshape(1, 6)])
    assert noise_of_server([], whole, lambda fed, device: whole) == {}
    other = made([np.zeros(4, "float32")])
    assert noise_of_server([], made([BOXES]), lambda fed, device: other) == {}
    # Boxes that come and go with the last bit are chaos.
    fewer = made([BOXES[:8]])
    assert noise_of_server([], made([BOXES]), lambda fed, device: fewer) == {"out": 1.0}


def test_an_estimate_of_kernels_is_noise() -> None:
    def estimated() -> tuple[Run, Run]:
        other = 2 * MAPS  # of another model: what that does is no noise
        return made(other), made(other + (off(3e-4) - MAPS) * 2)

    def answer(given: Sequence[Sample], device: str) -> Run:
        return made(off(1e-4))

    found = noise_of_server([], made(MAPS), answer, estimated)
    assert found == {"out": pytest.approx(3e-4, rel=1e-3)}
