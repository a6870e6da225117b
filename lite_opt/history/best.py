"""A comparison held against the best of those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lite_opt.history.entry import Entry
from lite_opt.history.table import History
from lite_opt.judge.compare import Report
from py_runner.errors import UsageError

__all__ = ["Held", "against_best", "answers_of"]

_SAME = ("model", "recipe", "engine", "device", "data_sha256")
_AS_FAST = ("machine", "threads")  # without which latencies say nothing of each other


@dataclass(frozen=True)
class Held:
    """A metric, and the best of the last ones: `worse` is by how much it is worse, in `unit`, and
    `allowed` how much it may be. `best` is None where nothing was there to compare with."""

    metric: str
    value: float
    best: Entry | None
    worse: float
    allowed: float
    unit: str
    of: int

    def __bool__(self) -> bool:
        return self.worse <= self.allowed

    @property
    def said(self) -> str:
        """In a sentence."""
        if self.best is None:
            return f"history: nothing to hold {self.metric} against yet"
        at = self.best.time + (
            f", revision {self.best.revision[:10]}" if self.best.revision else ""
        )
        more = f"{self.worse:.2f} {self.unit} worse than" if self.worse > 0 else "no worse than"
        return (
            f"history: {self.metric} {self.value:.6g} is {more} the best of the last {self.of}, "
            f"{self.best.metrics[self.metric]:.6g} ({at}); {self.allowed:g} {self.unit} are allowed"
        )


def against_best(
    history: History,
    entry: Entry,
    last: int,
    *,
    answers: str | None,
    top1_drop: float | None = None,
    latency_regression: float | None = None,
) -> list[Held]:
    """Hold what an entry answers, and how fast, against the best of so many before it.

    Those are of the same model, recipe, engine, device and samples, and held their limits; for
    latency, of the same machine and number of threads as well.

    Args:
        answers: the metric, a share, that says how many answers are right: see `answers_of`.
        top1_drop: how many points less that may be.
        latency_regression: by how many percent the median inference may take longer.

    Raises UsageError where the entry has no such figure.
    """
    found = [
        one
        for one in history.entries(**{name: getattr(entry, name) for name in _SAME})
        if one.verdict == "passed" and one.id != entry.id
    ]
    held = []
    if top1_drop is not None:
        if answers is None:
            raise UsageError("--max-top1-drop: these runs have no answers that agree: leave it out")
        held.append(_held(entry, answers, found[-last:], top1_drop, "points", _points))
    if latency_regression is not None:
        if "p50_ms" not in entry.metrics:
            raise UsageError(
                "--max-latency-regression: this run has no latency of its own: nobody measured it, "
                "or an emulator ran it"
            )
        alike = [o for o in found if all(getattr(o, n) == getattr(entry, n) for n in _AS_FAST)]
        held.append(_held(entry, "p50_ms", alike[-last:], latency_regression, "percent", _percent))
    return held


def _points(value: float, best: float) -> float:
    return (best - value) * 100


def _percent(value: float, best: float) -> float:
    return (value / best - 1) * 100 if best else 0.0


def _held(
    entry: Entry,
    name: str,
    found: Sequence[Entry],
    allowed: float,
    unit: str,
    worse: Callable[[float, float], float],
) -> Held:
    having = [one for one in found if name in one.metrics]
    value = entry.metrics[name]
    best = max(having, key=lambda one: worse(value, one.metrics[name]), default=None)
    by = 0.0 if best is None else worse(value, best.metrics[name])
    return Held(name, value, best, by, allowed, unit, len(having))


def answers_of(report: Report) -> str | None:
    """What the share of right answers is called: by the labels, else those that agree with the
    reference's; None where a report has neither."""
    shares = [rate.name for rate in report.rates if not rate.at_most]
    return next((n for n in shares if n.endswith(", candidate")), next(iter(shares), None))
