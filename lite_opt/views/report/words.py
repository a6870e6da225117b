"""A verdict in sentences, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lite_opt.judge.compare import Report
from lite_opt.judge.rates import Rate
from lite_opt.views.checks import figures
from lite_opt.views.report.judged import Judged, agreement, points_lost
from lite_opt.views.table import percent

__all__ = ["basis", "headline", "one_said", "status", "title"]


def title(folders: Sequence[str], judged: Sequence[Judged]) -> str:
    """The page's: by the folders' names, else by the model's."""
    name = judged[0].report.candidate["model"]["name"]
    files = [Path(folder).name for folder in folders if folder]
    if len(judged) > 1 or len(files) < len(folders):
        return f"{name}: {len(judged)} runs against one" if len(judged) > 1 else f"{name}, judged"
    return f"{files[1]} against {files[0]} ({name})"


def status(judged: Sequence[Judged]) -> str:
    """The best that there is."""
    found = {one.seen.status for one in judged}
    return next(status for status in ("passed", "unsure", "failed") if status in found)


def headline(judged: Sequence[Judged], names: Sequence[str], chosen: tuple[int, str] | None) -> str:
    """The verdict on all, in a few sentences."""
    if len(judged) == 1:
        return one_said(judged[0])
    if chosen is None:
        return f"None of the {len(judged)} runs holds its limits: ship none of them."
    statuses = [one.seen.status for one in judged]
    good = len(judged) - statuses.count("failed")
    place, why = chosen
    return (
        f"{good} of {len(judged)} hold their limits, {statuses.count('passed')} of them with "
        f"enough seen to ship. Recommended: {names[place]}, {why}. " + one_said(judged[place])
    )


def one_said(one: Judged) -> str:
    """The verdict on one candidate, in a sentence."""
    report, told = one.report, _answers(one.report)
    broken = len(report.failures)
    if broken:
        return f"Do not ship it: {told}; {broken} limit{'s are' if broken > 1 else ' is'} broken."
    if report.unjudged:
        return "Nothing could be judged."
    if one.seen.status == "unsure":
        return f"No fault was found, but not enough was seen to ship it: {told}."
    return f"It may ship: {told}, within all limits."


def _answers(report: Report) -> str:
    """How often both say the same, in words."""
    samples = f"{report.samples} sample{'s' * (report.samples != 1)}"
    if any(output.not_finite for output in report.outputs):
        return f"some of what it answers to {samples} is NaN or Inf"
    alike, lost = agreement(report), points_lost(report)
    if alike is None:
        apart = max(output.max_probability_diff for output in report.outputs)
        return f"on {samples} its answers are within {apart:.2g} of the reference's"
    told = f"on {samples}, {alike.name} is {percent(alike.value)}"
    if lost is not None:
        told += f", and {lost.value:.2f} points are lost by the labels"
    return told


def basis(reference: str, judged: Sequence[Judged], names: Sequence[str]) -> list[str]:
    """What the verdict rests on, a sentence each."""
    against = f"Judged against {reference}, by its answers to the same samples."
    if len(judged) > 1:
        return [against]
    (one,), (name,) = judged, names
    result = [f"Judged: {name}.", against]
    for rate in (agreement(one.report), points_lost(one.report)):
        result += [_with_interval(rate)] if rate is not None else []
    if one.report.accuracy is None and one.report.top1_agreement is not None:
        result.append("No labels were given: who is right was not seen, only who agrees.")
    bundle = one.known.bundle
    judges = bundle.check.get("judges", ()) if bundle is not None else ()
    if bundle is not None and judges:
        seen = ", ".join(f"{judge['engine']} ({judge['cpu']})" for judge in judges)
        samples = bundle.check.get("samples", "?")
        result.append(f"The bundle's self-check, on {samples} samples, was by {seen}.")
    return result


def _with_interval(rate: Rate) -> str:
    value, low, high = figures(rate)
    return f"{rate.name}: {value}, by 95 % between {low} and {high}."
