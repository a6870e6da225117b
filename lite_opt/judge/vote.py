"""A vote of several engines: which answers agree, and which stand alone.

Where two engines differ, nobody knows which is wrong. A third that shares no code with either
tells: with three or more runs the one that stands alone is named, the reference too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import limits_for
from lite_opt.judge.pairs import lacking
from py_runner.errors import UsageError
from py_runner.formats.lazy import chosen, joined
from py_runner.formats.run import Run, SampleInfo
from py_runner.formats.run_samples import keys_of

__all__ = ["Pair", "Vote", "vote"]

_LEAST = 3


@dataclass(frozen=True)
class Pair:
    """Two runs by their names. `apart` is the largest `max_probability_diff` of their outputs,
    `cosine` the least cosine, `why` the limits that they do not hold, or why nothing could be
    judged; empty where they agree."""

    left: str
    right: str
    agree: bool
    apart: float
    cosine: float
    why: str


@dataclass(frozen=True)
class Vote:
    """What several runs say of each other. `bool(vote)` is whether all agree.

    `groups` are the runs that agree with each other, the largest group first; None where agreement
    is not transitive, because a limit lies between two of three. `alone` are those that agree with
    nobody where others do, `verdict` is the outcome in words. `lacking` says which run lacks
    samples of another's.
    """

    names: tuple[str, ...]
    runs: dict[str, dict[str, Any]]
    samples: int
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...] | None
    alone: tuple[str, ...]
    verdict: str
    lacking: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(pair.agree for pair in self.pairs) and not self.lacking

    def to_json(self) -> dict[str, Any]:
        """All of it, with the verdict as "passed" as well."""
        return {"passed": bool(self), **asdict(self)}


def vote(
    runs: Sequence[Run],
    *,
    limits: Mapping[str, float | None] | None = None,
    common: bool = False,
    task_limits: Mapping[str, float] | None = None,
    truth: str | Path | None = None,
) -> Vote:
    """Compare three or more runs pairwise, on the samples that each two have.

    The limits of a pair are those of the less exact precision of the two, with those given
    replaced. The noise that one run says of its model (`Run.noise`) holds for every pair. Other
    arguments and errors are those of `compare`; UsageError for fewer runs.
    """
    if len(runs) < _LEAST:
        raise UsageError(f"a vote takes {_LEAST} runs or more, not {len(runs)}")
    names = _names(runs)
    noise = next((list(run.noise.values()) for run in runs if run.noise), [])
    runs = [replace(run, noise=dict(zip(run.outputs, noise))) for run in runs]
    pairs, reports = [], []
    for (left, a), (right, b) in combinations(zip(names, runs), 2):
        of_each = [limits_for(run.precision, **(limits or {})) for run in (a, b)]
        wanted = min(of_each, key=lambda limits_of_one: limits_of_one.cosine)
        report = compare(a, b, limits=wanted, common=True, task_limits=task_limits, truth=truth)
        reports.append(report)
        pairs.append(_pair(left, right, report))
    every = _every([run.samples for run in runs])
    lacks = [
        f"{name}: {words}"
        for name, run in zip(names, () if common else runs)
        for words in lacking(every, run)
    ]
    groups = _groups(names, pairs)
    return Vote(
        names,
        _abouts(names, reports),
        min(report.samples for report in reports),
        tuple(pairs),
        groups,
        _alone(groups),
        _verdict(names, pairs, groups),
        tuple(lacks),
        tuple(dict.fromkeys(text for report in reports for text in report.warnings)),
    )


def _every(several: Sequence[Sequence[SampleInfo]]) -> Sequence[SampleInfo]:
    """The samples that any run has, each once."""
    samples = joined(several)
    _, places = np.unique(keys_of(samples), return_index=True)
    return chosen(samples, np.sort(places))


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Each run by its engine, device and precision; those that are alike are numbered."""
    plain = [f"{r.engine} {r.engine_version} ({r.device}, {r.precision})" for r in runs]
    return tuple(
        name if plain.count(name) == 1 else f"{name} #{plain[: place + 1].count(name)}"
        for place, name in enumerate(plain)
    )


def _abouts(names: Sequence[str], reports: Sequence[Report]) -> dict[str, dict[str, Any]]:
    """The summary of each run: the first pairs are those of the first run with each other."""
    others = [report.candidate for report in reports[: len(names) - 1]]
    return dict(zip(names, [reports[0].reference, *others]))


def _pair(left: str, right: str, report: Report) -> Pair:
    return Pair(
        left,
        right,
        bool(report),
        max(output.max_probability_diff for output in report.outputs),
        min(output.cosine for output in report.outputs),
        "; ".join(report.failures or report.unjudged),
    )


def _groups(names: Sequence[str], pairs: Sequence[Pair]) -> tuple[tuple[str, ...], ...] | None:
    """The runs that agree with each other; None where that is not transitive."""
    agree = {frozenset((pair.left, pair.right)) for pair in pairs if pair.agree}
    peers = {
        name: tuple(n for n in names if n == name or frozenset((n, name)) in agree)
        for name in names
    }
    if any(peers[peer] != group for group in peers.values() for peer in group):
        return None
    return tuple(sorted(dict.fromkeys(peers.values()), key=lambda group: -len(group)))


def _alone(groups: Sequence[tuple[str, ...]] | None) -> tuple[str, ...]:
    if groups is None or len(groups[0]) == 1:
        return ()
    return tuple(group[0] for group in groups if len(group) == 1)


def _verdict(
    names: Sequence[str], pairs: Sequence[Pair], groups: Sequence[tuple[str, ...]] | None
) -> str:
    """Who agrees with whom, in one sentence."""
    if groups is None:
        return _not_transitive(pairs)
    largest, others = groups[0], groups[1:]
    within = f"within {_apart(pairs, largest):.1e}"
    if not others:
        return f"all {len(names)} agree {within}"
    if len(largest) == 1:
        return f"no two of the {len(names)} agree"
    if len(others[0]) == len(largest):
        sides = " against ".join(_joined(g) for g in groups if len(g) == len(largest))
        return f"no majority: {sides}; each side agrees with itself alone"
    alone = _alone(groups)
    if len(others) == len(alone) == 1:
        return f"{alone[0]} stands alone: the other {len(largest)} agree {within}"
    against = ", ".join(_joined(group) for group in others)
    most = "a majority" if 2 * len(largest) > len(names) else "no majority, but the most"
    return (
        f"{_joined(largest)} agree {within}: {len(largest)} of {len(names)}, {most}; not with "
        f"them: {against}"
    )


def _not_transitive(pairs: Sequence[Pair]) -> str:
    apart = min((pair for pair in pairs if not pair.agree), key=lambda pair: pair.apart)
    return (
        f"no verdict: {apart.left} and {apart.right} differ, but one of them agrees with a third "
        "that agrees with the other: a limit lies between them"
    )


def _apart(pairs: Sequence[Pair], group: Sequence[str]) -> float:
    """The most that two of a group differ."""
    return max((p.apart for p in pairs if p.left in group and p.right in group), default=0.0)


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
