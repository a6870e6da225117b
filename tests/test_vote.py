"""A vote: which of several engines stands alone, planted wrong runs and ties."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite_opt.cli.main import main
from lite_opt.judge.vote import Vote, vote
from py_runner.errors import UsageError
from py_runner.formats.run import Run, SampleInfo

ENGINES = ("paddle", "onnx", "lite", "native")


def answers(engine: str, offset: float = 0.0, *, precision: str = "fp32", samples: int = 6) -> Run:
    """Logits of six samples; an offset is what the engine adds to the first class of each."""
    values = np.random.default_rng(0).standard_normal((6, 10)).astype("float32")
    values[:, 0] += np.float32(offset)
    return Run(
        engine=engine,
        engine_version="1",
        device="cpu",
        machine="",
        threads=1,
        precision=precision,
        model={"name": "m", "sha256": engine},
        samples=tuple(SampleInfo(str(i), "", None) for i in range(samples)),
        outputs={f"out of {engine}": [value[None] for value in values[:samples]]},
        latency_ms=[[1.0]] * samples,
        warmup=0,
        peak_memory_bytes=0,
        wall_s=0.0,
        created=engine,
    )


def voted(*offsets: float, **options: Any) -> Vote:
    return vote([answers(e, o) for e, o in zip(ENGINES, offsets)], **options)


def name(engine: str) -> str:
    return f"{engine} 1 (cpu, fp32)"


def test_all_agree() -> None:
    found = voted(0.0, 1e-6, 2e-6, 0.0)
    assert found and found.alone == () and found.groups == (tuple(map(name, ENGINES)),)
    assert found.verdict.startswith("all 4 agree within ")
    assert float(found.verdict.rpartition(" ")[2]) < 1e-6


@pytest.mark.parametrize("wrong", range(4))
def test_the_one_that_stands_alone_is_named_whoever_it_is(wrong: int) -> None:
    found = voted(*(0.5 if place == wrong else place * 1e-6 for place in range(4)))
    assert not found and found.alone == (name(ENGINES[wrong]),)
    assert found.verdict.startswith(
        f"{name(ENGINES[wrong])} stands alone: the other 3 agree within "
    )
    assert [pair.agree for pair in found.pairs].count(False) == 3
    whys = [pair.why for pair in found.pairs if name(ENGINES[wrong]) in (pair.left, pair.right)]
    assert all("max |dp|" in why for why in whys)


def test_two_against_two_is_said_so() -> None:
    found = voted(0.0, 0.5, 1e-6, 0.5)
    assert not found and found.alone == ()
    assert found.verdict == (
        f"no majority: {name('paddle')} and {name('lite')} against {name('onnx')} and "
        f"{name('native')}; each side agrees with itself alone"
    )


def test_with_three_one_is_named_and_with_none_agreeing_nobody() -> None:
    assert voted(0.0, 0.0, 0.5).alone == (name("lite"),)
    scattered = voted(0.0, 0.5, 1.0)
    assert scattered.alone == () and scattered.verdict == "no two of the 3 agree"
    assert voted(0.0, 0.0, 0.5, 1.0).verdict.endswith(
        f"2 of 4, no majority, but the most; not with them: {name('lite')}, {name('native')}"
    )


def test_a_limit_between_two_of_three_is_no_verdict() -> None:
    step = 0.7e-3  # of the first class's logit: half of it is within the limit, all of it is not
    found = voted(0.0, step, 2 * step)
    assert [pair.agree for pair in found.pairs] == [True, False, True]
    assert found.groups is None and found.alone == () and not found
    assert found.verdict.startswith(f"no verdict: {name('paddle')} and {name('lite')} differ")


def test_limits_are_those_of_the_less_exact_of_two() -> None:
    runs = [answers("paddle"), answers("onnx"), answers("native", 0.05, precision="int8")]
    assert vote(runs)
    assert not vote(runs, limits={"cosine": 0.9999999})
    assert not vote([*runs[:2], replace(runs[2], precision="fp32")])


def test_noise_that_one_run_knows_of_holds_for_all() -> None:
    runs = [answers(e, o) for e, o in zip(ENGINES, (0.0, 0.0, 2e-3))]
    assert vote(runs).alone == (name("lite"),)
    assert vote([replace(runs[0], noise={"out of paddle": 1e-3}), *runs[1:]])


def test_a_run_that_lacks_samples_does_not_pass() -> None:
    runs = [answers("paddle"), answers("onnx"), answers("lite", samples=4)]
    found = vote(runs)
    assert not found and found.alone == () and found.samples == 4
    assert found.lacking == (
        f"{name('lite')}: 2 of 6 samples of the reference are not in the candidate, first '4': "
        "run it on all of them, or pass --common",
    )
    assert vote(runs, common=True)


def test_runs_of_one_engine_are_numbered() -> None:
    found = vote([answers("lite"), answers("lite", 0.5), answers("lite")])
    assert found.alone == (f"{name('lite')} #2",)
    with pytest.raises(UsageError, match="3 runs or more"):
        vote([answers("lite"), answers("onnx")])


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["paddle-edge", "compare", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capsys.readouterr().out

    paths = []
    for engine, offset in zip(ENGINES, (0.0, 0.0, 0.5, 0.0)):
        paths.append(str(tmp_path / engine))
        answers(engine, offset).save(paths[-1])
    code, shown = command(*paths)
    told = f"FAILED on 6 samples: {name('lite')} stands alone: the other 3 agree within"
    assert code == 1 and told in " ".join(shown.split())
    code, shown = command(*paths, "--json")
    document = json.loads(shown)
    assert code == 1 and document["passed"] is False and len(document["pairs"]) == 6
    assert document["alone"] == [name("lite")]
    assert command(*(path for path in paths if not path.endswith("lite")))[0] == 0
    assert command(*paths, "--html", str(tmp_path / "page.html"))[0] == 2
    # What is read is not overwritten, whichever of the runs it is.
    assert command(*paths, "--html", str(tmp_path / "onnx" / "run.json"), "--force")[0] == 2
