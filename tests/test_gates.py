"""Gates: limits of a comparison in CI, as JUnit's XML and as a comment of a pull request."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from test_cli import Command, command  # noqa: F401  a fixture
from test_report import ARM, EVIL, LABELS, LOGITS, X86, flipped, run, samples

from lite_opt.judge.compare import compare
from lite_opt.judge.speed import intervals, slowdown, until_steady
from lite_opt.views.checks import checks
from lite_opt.views.junit import junit
from lite_opt.views.markdown import code, markdown
from lite_opt.views.outcome import of_report
from py_runner.errors import UsageError
from py_runner.formats.run import Run

RANDOM = np.random.default_rng(5)
OLD = RANDOM.gamma(50, 0.2, (len(LOGITS), 3))


def timed(times: float, **fields: Any) -> Run:
    return run(latency_ms=(OLD * times).tolist(), **{**ARM, **fields})


@pytest.mark.parametrize(("times", "holds"), [(1.0, True), (1.09, True), (1.11, False), (2, False)])
def test_a_run_that_is_too_slow_fails(times: float, holds: bool) -> None:
    report = compare(timed(1.0), timed(times), max_latency_regression=10)
    assert bool(report) == holds
    rate = report.rates[-1]
    assert rate.value == pytest.approx((times - 1) * 100) and rate.units == OLD.size
    assert rate.low <= rate.value <= rate.high
    assert any("latency, percent more" in text for text in report.failures) != holds
    assert compare(timed(1.0), timed(2.0))  # nobody asked


def test_the_interval_is_of_pairs_and_holds_the_true_ratio() -> None:
    noisy = OLD * RANDOM.normal(1.05, 0.01, OLD.shape)
    rate = slowdown(timed(1.0), run(latency_ms=noisy.tolist(), **ARM), 10)
    assert rate.low < 5 < rate.high and rate.high - rate.low < 5
    more = run(latency_ms=[[*row, 1e9] for row in OLD], **ARM)  # one that the other lacks
    assert slowdown(timed(1.0), more, 10).value == 0
    few = slowdown(timed(1.0).first(2), timed(1.2).first(2), 10)
    assert few.broken and few.units == 6


@pytest.mark.parametrize(
    "other", [{"threads": 2}, {"machine": "Linux x86_64"}, {"device": "cpu+onednn"}]
)
def test_latencies_that_say_nothing_of_each_other(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="say nothing of each other"):
        slowdown(timed(1.0), timed(1.0, **other), 10)


def test_an_emulator_is_no_clock() -> None:
    emulated = timed(1.0, device="qemu-aarch64:pi5")
    with pytest.raises(UsageError, match="emulator"):
        slowdown(emulated, emulated, 10)
    unmeasured = run(**ARM, latency_ms=[[] for _ in LOGITS])
    with pytest.raises(UsageError, match="nobody measured"):
        slowdown(unmeasured, unmeasured, 10)


def test_checks_agree_with_the_verdict() -> None:
    assert all(check.passed is not False for check in checks(compare(run(), run(**ARM))))
    report = compare(run(), run(flipped(range(9)), **ARM))
    failed = {check.name for check in checks(report) if check.passed is False}
    assert failed == {"cosine", "largest difference"} and len(report.failures) == 2
    values = LOGITS.copy()
    values[0, 0, 0] = np.nan
    nan = compare(run(), run(values, **ARM))
    assert "NaN or Inf" in {check.name for check in checks(nan) if check.passed is False}


def test_junit_has_a_case_for_each_check_and_the_verdict() -> None:
    report = compare(run(), run(flipped([4, 5, 6]), **ARM))
    suite = ElementTree.fromstring(junit(of_report(report), "edge against server"))
    cases = {case.attrib["name"]: case for case in suite}
    assert int(suite.attrib["tests"]) == len(cases) == len(list(checks(report))) + 1
    failed = [name for name, case in cases.items() if case.find("failure") is not None]
    assert len(failed) == int(suite.attrib["failures"]) and failed[-1] == "verdict"
    assert set(failed) == {"cosine", "largest difference", "verdict"}
    skipped = [name for name, case in cases.items() if case.find("skipped") is not None]
    assert len(skipped) == int(suite.attrib["skipped"]) and "top-1 agreement" in skipped
    good = ElementTree.fromstring(junit(of_report(compare(run(), run(**ARM))), "x"))
    assert good.attrib["failures"] == "0" and good.find(".//failure") is None
    # What no single check says fails all the same.
    lacking = ElementTree.fromstring(junit(of_report(compare(run(), run(**ARM).first(9))), "x"))
    assert lacking.attrib["failures"] == "1"


def test_a_comment_says_the_verdict_and_who_disagrees() -> None:
    text = markdown(of_report(compare(run(), run(flipped([4]), **ARM))))
    assert text.startswith("### \N{LARGE RED CIRCLE} It does not hold its limits, on 60 samples\n")
    assert "**FAIL**" in text and "Disagree: `004.png`" in text
    assert markdown(of_report(compare(run(), run(**X86)))).startswith(
        "### \N{LARGE YELLOW CIRCLE} "
    )
    good = markdown(of_report(compare(run(), run(**ARM))))
    assert good.startswith("### \N{LARGE GREEN CIRCLE} ") and "**FAIL**" not in good
    rows = [line for line in good.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {5, 10}  # two tables, none torn


def hostile() -> tuple[Run, Run]:
    named = samples([f"{EVIL}{n}" for n in range(60)], LABELS)
    edge = run(flipped([3, 5]), **{**ARM, "engine_version": EVIL})
    return (
        Run(**{**vars(run()), "samples": named}),
        Run(**{**vars(edge), "samples": named, "outputs": {EVIL: edge.outputs["out"]}}),
    )


def test_hostile_names_are_text_in_xml_and_markdown() -> None:
    report = compare(*hostile())
    xml = junit(of_report(report), EVIL)
    suite = ElementTree.fromstring(xml.encode())
    assert not set(xml) & set("\x1b\u202e\ud800")
    assert suite.attrib["name"].startswith("\"'><script>alert(1)</script>\\n\\x1b[31m\\u202ex")
    text = markdown(of_report(report, [EVIL, EVIL]))
    text.encode()
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # all but what stands in code
    assert "script" not in outside and "&amp;" not in outside and not set(text) & set("\x1b\u202e")
    assert "script" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a", "`a`"), ("", "`  `"), ("a|b", r"`a\|b`"), ("a`b", "`` a`b ``"),
        ("``", "``` `` ```"), ("a\nb", r"`a\nb`"), ("@you <b>", "`@you <b>`"),
    ],
)  # fmt: skip
def test_names_in_code(name: str, shown: str) -> None:
    assert code(name) == shown


def test_hostile_names_in_a_spreadsheet_and_a_terminal(
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    plain = [f"=x{n}{EVIL}".replace("\ud800", "") for n in range(60)]
    edge = run(flipped([3]), **ARM)
    for name, one in (("old", run()), ("new", edge)):
        Run(**{**vars(one), "samples": samples(plain, LABELS)}).save(tmp_path / f"{name}.run")
    with (tmp_path / "new.run" / "latency.csv").open(newline="") as file:
        assert {row["sample"][0] for row in csv.DictReader(file)} == {"'"}
    code_, text, _ = command("compare", tmp_path / "old.run", tmp_path / "new.run")
    assert code_ == 1 and not set(text) & set("\x1b\u202e") and r"\x1b[31m\u202ex" in text


def test_the_command_is_a_gate(
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    timed(1.0).save(tmp_path / "old.run")
    timed(1.3).save(tmp_path / "new.run")
    runs = [tmp_path / "old.run", tmp_path / "new.run"]
    out = ["--junit", tmp_path / "x.xml", "--markdown", tmp_path / "c.md"]
    gate = ["--max-top1-drop", "0.5", "--max-latency-regression"]
    assert command("compare", *runs, *gate, "50%")[0] == 0
    code_, text, _ = command("compare", *runs, *gate, "10%", *out, "--json")
    assert code_ == 1 and json.loads(text)["limits"]["top1_drop"] == 0.5
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    names = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert names == ["latency, percent more", "verdict"]
    assert "30.00" in (tmp_path / "c.md").read_text(encoding="utf-8")
    for wrong in ("-1", "nan", "x%"):
        code_, _, error = command("compare", *runs, "--max-latency-regression", wrong)
        assert code_ == 2 and "such as 10%" in error


def test_a_vote_is_a_gate_too(
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    for name, one in (("a", run()), ("b", run(**ARM)), ("odd", run(flipped(range(9)), **X86))):
        one.save(tmp_path / f"{name}.run")
    out = ["--junit", tmp_path / "x.xml", "--markdown", tmp_path / "c.md"]
    names = ("a", "b", "odd")
    assert command("compare", *(tmp_path / f"{name}.run" for name in names), *out)[0] == 1
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert len(suite) == 4 and len(failed) == 3 and failed[-1] == "verdict"
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert text.startswith("### \N{LARGE RED CIRCLE} ") and text.count("**FAIL**") == 2
    assert "stands alone" in text


def test_inferences_count_once_the_engine_is_warm() -> None:
    steady = RANDOM.normal(10, 0.2, 40).tolist()
    assert until_steady([90, 40, 20, 15, *steady]) in range(4, 8)
    assert until_steady(steady) <= 20  # never more than half
    assert until_steady([90, *[10.0] * 8]) == 0  # too few to tell
    assert until_steady([10.0] * 50) == 0


def test_percentiles_are_as_certain_as_the_inferences_are_many() -> None:
    """The interval holds the true median of 19 in 20 experiments, or nearly."""
    hits, widths = 0, []
    for seed in range(60):
        low, high = intervals(np.random.default_rng(seed).exponential(1, 60).tolist())["p50_ms"]
        hits += low <= np.log(2) <= high
        widths.append(high - low)
    assert 53 <= hits <= 60 and np.mean(widths) < 0.7
    few, many = (intervals(OLD.ravel()[:n].tolist())["p90_ms"] for n in (20, 180))
    assert many[1] - many[0] < few[1] - few[0]
    assert intervals([2.0, 2.0]) == dict.fromkeys(("p50_ms", "p90_ms", "p99_ms"), (2.0, 2.0))
