"""What commands that compare leave in a history, and what they are held against there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lite_opt.cli.output import say
from lite_opt.history.best import Held, against_best, answers_of
from lite_opt.history.entry import Entry, revision_of
from lite_opt.history.table import History
from lite_opt.judge.compare import Report
from lite_opt.views.report.judged import Judged
from py_runner.errors import PaddleEdgeError, UsageError

__all__ = ["Gate", "Recorded", "end", "record", "record_all"]


@dataclass(frozen=True)
class Gate:
    """`--against-best-of`: what may be lost against the best of the `last` ones. Raises UsageError
    where that is not said."""

    last: int
    top1_drop: float | None
    latency_regression: float | None

    def __post_init__(self) -> None:
        if self.top1_drop is None and self.latency_regression is None:
            raise UsageError(
                "--against-best-of: say what may be lost: --max-top1-drop, or "
                "--max-latency-regression"
            )

    def held(self, history: History, entry: Entry, report: Report) -> list[Held]:
        """The metrics that are asked for, each against its best."""
        return against_best(
            history, entry, self.last, answers=answers_of(report), top1_drop=self.top1_drop,
            latency_regression=self.latency_regression,
        )  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """A report with what the gate found, sentences on what it held, and why nothing was kept, if
    so: a history that fails does not lose a comparison, whose own output comes first."""

    report: Report
    told: tuple[str, ...] = ()
    fault: PaddleEdgeError | None = None

    def to_json(self) -> dict[str, Any]:
        """The report, and what of the history came to."""
        fault = None if self.fault is None else str(self.fault)
        return {**self.report.to_json(), "history": {"held": list(self.told), "error": fault}}


def record(path: str | None, judged: Judged, gate: Gate | None) -> Recorded:
    """Hold a comparison against the history at `path`, if it is to be, and add it there."""
    report = judged.report
    if path is None:
        return Recorded(report)
    held: list[Held] = []
    fault: PaddleEdgeError | None = None
    history = History(path)
    entry = _entry(judged, revision_of(judged.folder), once=False)
    try:
        held = gate.held(history, entry, report) if gate else []
        broken = tuple(one.said for one in held if not one)
        if broken:
            report = replace(report, failures=(*report.failures, *broken))
            entry = replace(entry, verdict="failed", why="; ".join(report.failures))
        history.append([entry])
    except PaddleEdgeError as error:
        fault = error
    return Recorded(report, tuple(one.said for one in held if one), fault)


def record_all(
    path: str | None, judged: Sequence[Judged], folder: str | Path
) -> PaddleEdgeError | None:
    """Add comparisons on models of a folder to the history at `path`, those that are not there; why
    that failed, if it did."""
    if path is None or not judged:
        return None
    revision = revision_of(folder)
    try:
        History(path).append([_entry(one, revision, once=True) for one in judged])
    except PaddleEdgeError as error:
        return error
    return None


def _entry(judged: Judged, revision: str | None, *, once: bool) -> Entry:
    known = judged.known
    return Entry.of(
        judged.report, judged.run, revision=revision, file_bytes=known.bytes,
        instructions=known.instructions, once=once,
    )  # fmt: skip


def end(fault: PaddleEdgeError | None, *, as_json: bool) -> None:
    """End, where a history failed, after the output of a command: with --json that was the one
    object."""
    if fault is not None and as_json:
        say(f"paddle-edge: {fault}")
        raise SystemExit(fault.exit_code)
    if fault is not None:
        raise fault
