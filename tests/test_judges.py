"""Who judged a conversion, what is said of it, and which operator an engine cannot run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import make_model
import numpy as np
import pytest

from lite_opt.conversion import judges
from lite_opt.conversion.judges import Verdict, Verdicts
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.layers.culprit import culprit
from lite_opt.judge.limits import limits_for
from lite_opt.model.program import Op, Program
from lite_opt.recipes import RECIPES
from py_runner.errors import RefusedError
from py_runner.formats.run import Run, SampleInfo
from py_runner.watch import QUIET


def run(values: list[list[float]]) -> Run:
    return Run(
        engine="paddle",
        engine_version="3",
        device="cpu",
        machine="",
        threads=1,
        precision="fp32",
        model={"name": "", "sha256": ""},
        samples=tuple(SampleInfo(str(i), "", None) for i in range(len(values))),
        outputs={"out": [np.array([value], np.float32) for value in values]},
        latency_ms=[[1.0]] * len(values),
        warmup=0,
        peak_memory_bytes=0,
        wall_s=0.0,
        created="",
    )


@pytest.fixture
def right() -> Report:
    answers = run([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    return compare(answers, answers)


def said(verdicts: Verdicts, recipe: str = "fp32", targets: Any = ("arm", "x86")) -> dict[str, Any]:
    return verdicts.to_json(recipe, targets, ["of the conversion"])


def test_without_a_judge_a_bundle_is_unchecked() -> None:
    assert said(Verdicts()) == {"status": "skipped", "warnings": ["of the conversion"]}
    assert Verdicts().report is None


def test_what_x86_saw_is_not_said_of_arm(right: Report) -> None:
    verdicts = Verdicts(x86=Verdict("lite v2", right, warnings=("of x86",)))
    check = said(verdicts)
    assert (check["status"], check["engine"], check["samples"]) == ("passed", "lite v2", 2)
    assert check["targets"] == {
        "x86": "passed",
        "arm": "not run: no ARM engine here; the same repaired model passed on x86",
    }
    assert check["warnings"] == ["of the conversion", "of x86"]
    assert verdicts.report is right


def test_arithmetic_counts_more_than_its_twin(right: Report) -> None:
    worse = replace(right, samples=1)
    verdicts = Verdicts(x86=Verdict("lite v2", worse), simulation=Verdict("paddle 3", right))
    check = said(verdicts, "int8")
    assert (check["engine"], check["samples"]) == ("paddle 3", 2)
    assert check["targets"]["x86"] == "passed, as an fp32 twin"
    assert check["targets"]["arm"] == (
        "its int8 arithmetic passed on paddle 3; not run: no ARM engine here"
    )
    assert verdicts.report is right


def test_a_board_has_the_last_word(right: Report) -> None:
    verdicts = Verdicts(
        x86=Verdict("lite v2", None, doubt="x86 died"),
        board=Verdict("native v3 (qemu-aarch64)", right, warnings=("of the board",)),
    )
    check = said(verdicts, targets=("arm",))
    assert (check["status"], check["engine"]) == ("passed", "native v3 (qemu-aarch64)")
    assert check["targets"] == {"arm": "passed on native v3 (qemu-aarch64)"}
    # It was in doubt, and is not any more.
    assert "reason" not in check
    assert check["warnings"] == ["of the conversion", "of the board"]


def test_doubts_are_told_as_they_are(right: Report) -> None:
    x86 = Verdict("lite v2", replace(right, failures=("wrong",)), doubt="x86 is wrong")
    check = said(Verdicts(x86=x86), targets=("arm",))
    assert check["status"] == "unjudged" and check["reason"] == "x86 is wrong"
    assert check["targets"] == {"arm": "not run: no ARM engine here"}
    assert "engine" not in check and "samples" not in check
    board = Verdict("native", None, doubt="no ARM verdict: QEMU lacks its libraries")
    check = said(Verdicts(x86=Verdict("lite v2", right), board=board))
    assert check["targets"]["arm"].startswith("no ARM verdict: QEMU lacks its libraries; ")
    assert check["status"] == "passed" and check["engine"] == "lite v2"


def test_what_found_nothing_is_unjudged_and_keeps_its_files(right: Report) -> None:
    """It is no engine's fault."""
    empty = replace(right, unjudged=("output 'out' is empty",))
    x86 = Verdict("lite v2", empty, doubt="output 'out' is empty")
    check = said(Verdicts(x86=x86))
    assert check["status"] == "unjudged" and check["reason"] == "output 'out' is empty"
    assert check["targets"] == {"arm": "not run: no ARM engine here", "x86": "unjudged"}
    check = said(Verdicts(x86=x86, simulation=replace(x86, engine="paddle 3")), "int8")
    assert check["reason"] == "output 'out' is empty"
    assert check["targets"]["arm"] == "not run: no ARM engine here"
    # An int8 model may find nothing where its fp32 twin does.
    check = said(Verdicts(x86=Verdict("lite v2", right), simulation=x86), "int8")
    assert check["status"] == "unjudged"
    assert not x86.fails and not Verdict("lite v2", right).fails
    assert Verdict("", None, doubt="died").fails
    assert Verdict("", replace(empty, failures=("wrong",)), doubt="wrong").fails


def test_a_board_whose_answers_say_nothing_leaves_the_model_unjudged(right: Report) -> None:
    """Whatever x86 says: the board was asked."""
    chaos = replace(right, unjudged=("too chaotic",))
    board = Verdict("native v3 (qemu-aarch64)", chaos, doubt="too chaotic")
    check = said(Verdicts(x86=Verdict("lite v2", right), board=board))
    assert (check["status"], check["reason"]) == ("unjudged", "too chaotic")
    assert check["targets"]["arm"].startswith("too chaotic; ")


def test_a_verdict_is_true_only_if_it_was_made(right: Report) -> None:
    assert Verdict("", right)
    assert not Verdict("", right, doubt="why")
    assert not Verdict("", None)
    assert not Verdict("", replace(right, failures=("wrong",)))


def layers(count: int) -> Program:
    """relu, relu6, relu, ... and in the middle of them two that both are read."""
    builder = make_model.Builder()
    name = builder.input("x", (1, 4))
    for index in range(count):
        name = builder.op("relu6" if index % 2 else "relu", {"X": [name]}, f"v{index}", (1, 4))
    return builder.program(name)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_operator_that_does_not_run_is_found(count: int) -> None:
    program = layers(count)
    for bad in range(count):
        asked: list[int] = []

        def ends(beginning: Program, bad: int = bad, asked: list[int] = asked) -> str:
            written = {op.layer for op in beginning.ops if op.type not in ("feed", "fetch")}
            asked.append(len(written))
            assert [spec.name for spec in beginning.outputs] == [f"v{len(written) - 1}"]
            return "it died at 12:07" if f"v{bad}" in written else ""

        found = culprit(program, ends, "it died at 11:59")
        assert found is not None and found.layer == f"v{bad}"
        assert len(asked) <= 3


def test_what_nobody_reads_is_an_output_of_a_beginning() -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 4))
    builder.op("relu", {"X": [x]}, "a", (1, 4))
    builder.op("relu", {"X": [x]}, "b", (1, 4))
    builder.op("elementwise_add", {"X": ["a"], "Y": ["b"]}, "c", (1, 4), axis=-1)
    seen = []

    def runs(beginning: Program) -> str:
        seen.append([spec.name for spec in beginning.outputs])
        return ""

    found = culprit(builder.program("c"), runs, "it died")
    assert found is not None and found.layer == "c"
    assert seen[:2] == [["a"], ["a", "b"]]


def _count(program: Program) -> int:
    return len([op for op in program.ops if op.type not in ("feed", "fetch")])


def test_a_beginning_that_dies_of_something_else_is_not_blamed() -> None:
    """Of v1 no engine can make an output: of that the whole program does not die."""

    def ends(beginning: Program) -> str:
        count = _count(beginning)
        return "no fetch of this type" if count == 2 else "no kernel" if count > 4 else ""

    found = culprit(layers(7), ends, "no kernel")
    assert found is not None and found.layer == "v4"
    # Where the last words are another each time, any death counts.
    words = iter(["free()", "malloc()", "corrupted"] * 3)
    found = culprit(layers(7), lambda b: next(words) if _count(b) > 4 else "", "heap")
    assert found is not None and found.layer == "v4"


def test_an_operator_that_the_words_name_is_blamed() -> None:
    program = layers(2)
    for words in ("operator 'relu6' is not supported", "lite/operators/relu6_op.cc:40 CheckShape"):
        found = culprit(program, lambda _: "unasked", words)
        assert found is not None and found.type == "relu6"
    # Of three of its type, the first that dies.
    program = layers(6)
    words, cut = (
        "[F 12:07 .../lite/arm/relu6_compute.cc:76 Run",
        "[F 9:1 ...e/arm/relu6_compute.cc:76 Run",
    )
    found = culprit(program, lambda b: cut if _count(b) >= 4 else "", words)
    assert found is not None and found.layer == "v3"


def test_control_flow_has_no_culprit() -> None:
    program = layers(2)
    loop = Op("while", {"X": ["v0"]}, {"Out": ["v1"]})
    loop.set("sub_block", 1, "BLOCK")
    program.blocks[0].ops.insert(2, loop)
    assert culprit(program, lambda _: "it died", "it died") is None


def test_every_judge_is_listed_with_its_cpu(right: Report) -> None:
    check = said(
        Verdicts(
            simulation=Verdict("paddle 3", right, cpu="Linux x86_64"),
            x86=Verdict("lite v2", None, doubt="x86 died"),
            board=Verdict("native v3 (qemu-aarch64)", right, cpu="with dot product"),
            other=Verdict("native v3 (qemu-aarch64:a72)", right, warnings=("of the other",)),
        ),
        "int8",
    )
    assert check["judges"] == [
        {"engine": "lite v2", "cpu": "", "passed": False},
        {"engine": "paddle 3", "cpu": "Linux x86_64", "passed": True},
        {"engine": "native v3 (qemu-aarch64)", "cpu": "with dot product", "passed": True},
        {"engine": "native v3 (qemu-aarch64:a72)", "cpu": "", "passed": True},
    ]
    assert check["targets"]["arm"] == (
        "passed on native v3 (qemu-aarch64) and native v3 (qemu-aarch64:a72)"
    )
    assert "of the other" in check["warnings"]


@pytest.mark.parametrize(
    ("device", "features", "other"),
    [
        ("qemu-aarch64", ["dot product", "fp16"], "qemu-aarch64:a72"),
        ("qemu-aarch64:pi4", [], "qemu-aarch64:a76"),
        ("qemu-aarch64", ["fp16"], "qemu-aarch64:a76"),
        ("qemu-arm", [], None),
        ("cpu", ["dot product"], None),
    ],
)
def test_int8_is_judged_on_both_families_of_kernels(
    device: str, features: list[str], other: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(*_: Any, device: str, **__: Any) -> Run:
        asked.append(device)
        cpu = {"engine_features": features if len(asked) == 1 else []}
        answered = replace(run([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]]), cpu=cpu, device=device)
        return replace(answered, machine="Linux aarch64", precision=precision)

    monkeypatch.setattr(judges, "run", answers)
    monkeypatch.setattr(judges, "arm_device", lambda: device)
    reference = run([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    models: Any = SimpleNamespace(recipe=RECIPES["fp32"])
    case = judges.Case(Any, models, [], 2, reference, QUIET, limits_for("fp32"))  # type: ignore[arg-type]
    bundle: Any = SimpleNamespace(targets={"arm": None}, name="b")
    monkeypatch.setattr(judges, "Bundle", SimpleNamespace(open=lambda _: Opened()))
    precision = "int8"
    first, second = judges.board(case, Path("b"), bundle)
    assert asked == [name for name in (device, other) if name is not None]
    assert first and first.engine.endswith(f"({device})") and bool(second) == (other is not None)
    words = ", ".join(features) or "neither dot product nor fp16"
    assert first.cpu == f"Linux aarch64, kernels with {words}"
    precision = "fp32"
    asked.clear()
    assert judges.board(case, Path("b"), bundle)[1] is None and asked == [device]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("m.nb: computes in fp16, which this CPU lacks: convert with", "its CPU has no fp16"),
        (
            "Error: This model is not supported, because kernel for 'calib' is not supported",
            "arm82",
        ),
    ],
)
@pytest.mark.parametrize("recipe", ["fp16", "fp32"])
def test_a_board_without_fp16_says_nothing_of_it(
    words: str, told: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> Run:
        raise RefusedError(words)

    monkeypatch.setattr(judges, "run", refuses)
    monkeypatch.setattr(judges, "arm_device", lambda: "qemu-aarch64")
    monkeypatch.setattr(judges, "_blame", lambda *given: str(given[-1]))
    monkeypatch.setattr(judges, "Bundle", SimpleNamespace(open=lambda _: Opened()))
    models: Any = SimpleNamespace(recipe=RECIPES[recipe])
    reference = run([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    case = judges.Case(Any, models, [], 2, reference, QUIET, limits_for(recipe))  # type: ignore[arg-type]
    bundle: Any = SimpleNamespace(targets={"arm": None}, name="b")
    if recipe == "fp32":
        with pytest.raises(judges.CheckFailedError):
            judges.board(case, Path("/made/b"), bundle)
        return
    verdict, other = judges.board(case, Path("/made/b"), bundle)
    assert verdict is not None and not verdict and verdict.report is None and other is None
    assert verdict.doubt.startswith("no ARM verdict: on device qemu-aarch64 ")
    assert told in verdict.doubt and verdict.warnings == (verdict.doubt,)


class Opened:
    def model(self, _: str) -> None:
        """No model: nobody runs it."""
