"""Which worker answers which samples, and what is done where one fails, dies or is slow.

Samples are given out in tasks of some seconds: by count first, then by how fast each worker was,
and smaller ones towards the end, so that nobody waits long for the last. Each place of the data set
is handed on once, whatever happens to the workers.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Optional, Protocol

from py_runner.cluster.task import Result, Task
from py_runner.data.dataset import Dataset
from py_runner.errors import DataError, EngineError, PaddleEdgeError, RefusedError
from py_runner.job import Job
from py_runner.watch import Watch

__all__ = ["Open", "Workers", "spread"]

_FIRST = 16  # samples of a worker's first task: nothing is known of its speed
_MOST = 4096  # samples of a task: those of a part
_EACH_S = 0.5  # of its own time: that a part comes to be kept no more often than this
_SHARE, _LEAST = 3, 0.1  # of what is left a worker gets one third of its share, and a tenth of a
# part at least
_ATTEMPTS = 3
_MOST_FAILED = 3  # parts that fail before all is given up
_TICK_S = 0.1
_SLOW, _SLOW_S = 3.0, 30.0  # so many times the median, and so long: another worker tries as well
_TO_STOP_S = 60.0  # for the sample that is at work


class Workers(Protocol):
    """Who does tasks, one at a time each, by name. Workers may come and go."""

    def names(self) -> list[str]:
        """Those that are ready for a task, or at one."""

    def count(self) -> int:
        """How many there are, those that are not ready yet included."""

    def give(self, name: str, task: Task) -> None:
        """Have one that is at none do a task."""

    def wait(self, limit_s: float) -> list[tuple[str, Result | str]]:
        """What has come of tasks by then, as soon as there is something: a result, or how the
        worker died, in words. Raises PaddleEdgeError where there can be no worker."""

    def stop(self) -> None:
        """Have those at work end after their sample."""


# What opens workers for a job, on a shard of a data set as a Run has it.
Open = Callable[[Job, Optional[dict[str, int]]], "AbstractContextManager[Workers]"]


@dataclass
class _Span:
    """Samples at neighbouring places that are given out together, and who failed at them, why."""

    first: int
    end: int
    failures: dict[str, PaddleEdgeError] = field(default_factory=dict)


@dataclass
class _Given:
    """What a worker is at, and since when; the span is None once another was faster."""

    span: _Span | None
    since_s: float


@dataclass
class _State:
    """What has become of the spans."""

    waiting: deque[_Span]
    given: dict[str, _Given] = field(default_factory=dict)
    lost: list[_Span] = field(default_factory=list)
    speeds: dict[str, float] = field(default_factory=dict)  # seconds a sample
    took_s: list[float] = field(default_factory=list)
    answered: int = 0
    failed: int = 0
    again: int = 0

    def at_work(self) -> list[_Given]:
        """What is waited for."""
        return [given for given in self.given.values() if given.span is not None]


def spread(
    workers: Workers, places: Sequence[tuple[int, int]], data: Dataset, job: Job, watch: Watch
) -> Generator[Result, None, None]:
    """The results of the samples at these places, as they come: each place in one of them.

    A task that fails is tried again, by others. Where it fails for good the rest is done all the
    same, and then what the last one said is raised; at once where nothing was answered, or several
    fail. `watch.enough` ends all after their sample, which are handed on.
    """
    state = _State(deque(_Span(first, end) for first, end in places))
    total = sum(end - first for first, end in places)
    part_s = job.part_s
    stopped_s: float | None = None
    handed: list[Result] = []
    while state.at_work() or (state.waiting and stopped_s is None):
        if stopped_s is None and (watch.enough() or _hopeless(state)):
            stopped_s = time.monotonic()
            workers.stop()
        if stopped_s is None:
            part_s = max(job.part_s, _EACH_S * workers.count())
            _give(workers, state, data, part_s)
        elif time.monotonic() - stopped_s > _TO_STOP_S:
            break
        yield from handed  # once those who made them have something else to do
        handed.clear()
        for name, outcome in workers.wait(_TICK_S):
            handed += _settled(name, outcome, state, data, watch)
            _refuse_dead(handed, state, job)
        _lose(workers, state)
        watch.step(f"engine {job.engine}", len(data) - total + state.answered, len(data))
        watch.state(f"{workers.count()} workers, {_in_words(state)}")
    yield from handed
    if state.lost and not watch.enough():
        raise _failure(state.lost, data, total)


def _hopeless(state: _State) -> bool:
    return bool(state.lost) and (not state.answered or len(state.lost) >= _MOST_FAILED)


def _give(workers: Workers, state: _State, data: Dataset, part_s: float) -> None:
    """Give what is waiting to those that are idle; where nothing is, the slowest of others."""
    everyone = max(1, workers.count())
    for name in workers.names():
        if name in state.given:
            continue
        span = _next(state, name, everyone, part_s)
        if span is None and not state.waiting:
            span = _slowest(state)
        if span is None:
            continue
        state.given[name] = _Given(span, time.monotonic())
        workers.give(name, Task(span.first, span.end, data.cut(span.first, span.end)))


def _next(state: _State, name: str, everyone: int, part_s: float) -> _Span | None:
    """What a worker gets: what others failed at comes before what nobody tried."""
    for span in state.waiting:
        if span.failures and name not in span.failures:
            state.waiting.remove(span)
            return span
    untried = next((span for span in state.waiting if not span.failures), None)
    if untried is None:
        return None
    left = sum(one.end - one.first for one in state.waiting)
    size = _size(left, everyone, state.speeds.get(name), part_s)
    cut = _Span(untried.first, min(untried.end, untried.first + size))
    untried.first = cut.end
    if untried.first == untried.end:
        state.waiting.remove(untried)
    return cut


def _size(left: int, everyone: int, speed: float | None, part_s: float) -> int:
    share = math.ceil(left / (_SHARE * everyone))
    few = min(_FIRST, share)  # and not fewer: what a task costs by itself would take over
    if speed is None:
        return few
    whole = part_s / max(speed, 1e-9)
    return max(few, int(min(whole, max(share, _LEAST * whole), _MOST)))


def _slowest(state: _State) -> _Span | None:
    """What another has been at for so long that it may hang; None where nobody has."""
    if not state.took_s:
        return None
    limit_s = max(_SLOW_S, _SLOW * statistics.median(state.took_s))
    spans = [id(given.span) for given in state.given.values()]
    for given in state.given.values():
        if time.monotonic() - given.since_s > limit_s and spans.count(id(given.span)) == 1:
            return given.span
    return None


def _settled(
    name: str, outcome: Result | str, state: _State, data: Dataset, watch: Watch
) -> list[Result]:
    """What is handed on of what came of a worker's task."""
    given = state.given.pop(name, None)
    if given is None or given.span is None:
        return []
    if isinstance(outcome, str):
        watch.say(f"{name}: {outcome}: its samples are given to another")
        outcome = Result(given.span.first, given.span.first, error=EngineError(outcome))
    result = _judged(outcome, data, name)
    for text in result.warnings:
        watch.warn(text)
    if not _take(name, given.span, result, state):
        return []
    state.took_s.append(time.monotonic() - given.since_s)
    for place, reason in result.bad:
        data.note_bad(place, reason)
    return [result]


def _judged(result: Result, data: Dataset, name: str) -> Result:
    """The result; an error where a sample that is bad there can be read here: the worker does not
    see the data."""
    for place, reason in result.bad:
        if data.can_be_read(place):
            error = DataError(f"{name} cannot read what can be read here: {reason}")
            return Result(result.first, result.first, error=error)
    return result


def _take(name: str, span: _Span, result: Result, state: _State) -> bool:
    """Whether a result is handed on. What is left of its span waits again, unless another is at the
    same one; then that one's result is what counts, where this one is an error."""
    others = [given for given in state.given.values() if given.span is span]
    if result.error is not None:
        span.failures[name] = result.error
        state.again += 1
        if others:
            return False
    for other in others:
        other.span = None
    if result.end < span.end:
        state.waiting.append(_Span(result.end, span.end, span.failures))
    if result.end == span.first:
        return False
    state.speeds[name] = result.took_s / (result.end - span.first)
    state.answered += result.answered
    state.failed += len(result.failed)
    return True


def _lose(workers: Workers, state: _State) -> None:
    """Give up what failed too often, or with all that there are."""
    names = set(workers.names())
    everyone = len(names) == workers.count()
    for span in [span for span in state.waiting if span.failures]:
        if len(span.failures) >= _ATTEMPTS or (everyone and names <= set(span.failures)):
            state.waiting.remove(span)
            state.lost.append(span)


def _refuse_dead(results: Sequence[Result], state: _State, job: Job) -> None:
    """Raise RefusedError where the engine fails at the first samples: it is not their fault."""
    failed = [one for result in results for one in result.failed]
    if failed and state.failed >= job.dead_after and not state.answered:
        raise RefusedError(
            f"{job.model.files[0]}: the first {state.failed} samples all fail; "
            f"the last, '{failed[-1].id}': {failed[-1].reason}"
        )


def _failure(lost: Sequence[_Span], data: Dataset, total: int) -> PaddleEdgeError:
    """The error of what failed for good."""
    error = list(lost[0].failures.values())[-1]
    count = sum(span.end - span.first for span in lost)
    ids = data.ids
    who = ", ".join(lost[0].failures)
    return type(error)(
        f"{error} ({count} of {total} samples are not answered, '{ids[lost[0].first]}' the first: "
        f"tried by {who})"
    )


def _in_words(state: _State) -> str:
    told = [f"{len(state.took_s)} parts done", f"{len(state.at_work())} at work"]
    told += [f"{state.again} tried again"] if state.again else []
    told += [f"{len(state.lost)} failed"] if state.lost else []
    if state.at_work() and state.took_s:
        slowest = time.monotonic() - min(given.since_s for given in state.at_work())
        told.append(f"slowest {slowest:.0f} s, median {statistics.median(state.took_s):.1f} s")
    return ", ".join(told)
