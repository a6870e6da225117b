"""What a comparison comes to, whatever it was of: two runs, two runs of a pipeline, or a vote.

CI and pull requests show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lite_opt.judge.compare import Report
from lite_opt.judge.evidence import evidence
from lite_opt.judge.pages import PagesReport
from lite_opt.judge.steps import Step
from lite_opt.judge.vote import Vote
from lite_opt.views import comparison, pages
from lite_opt.views.checks import Check, check_of_rate, checks
from lite_opt.views.report.names import names_of

__all__ = ["Outcome", "of_pages", "of_report", "of_vote"]


@dataclass(frozen=True)
class Outcome:
    """`status` is "passed", "failed", or "unsure": no limit is broken, and not enough was seen;
    `passed` is the exit code's view. `units` are what was judged, such as "60 samples".

    `reasons` say why it is no pass, `unseen` what the verdict does not rest on, `differing` which
    samples are answered otherwise; `latencies` are summaries of runs by their names, and `headline`
    says who stands against whom.
    """

    status: str
    passed: bool
    verdict: str
    units: str
    headline: str
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    latencies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def of_report(report: Report, folders: Sequence[str] = ()) -> Outcome:
    """Of one run against another, which were read from these folders."""
    seen = evidence(report)
    abouts = [report.reference, report.candidate]
    names = names_of(abouts, folders)
    return Outcome(
        status=seen.status,
        passed=bool(report),
        verdict=comparison.verdict(report),
        units=f"{report.samples} samples",
        headline=f"{names[1]} against {names[0]}",
        checks=tuple(checks(report)),
        reasons=report.failures or report.unjudged,
        unseen=seen.unseen,
        differing=report.disagreeing,
        latencies=dict(zip(names, abouts)),
    )


def of_pages(report: PagesReport) -> Outcome:
    """Of one run of a pipeline against another: end to end, then step by step."""
    sides = [pages.made_by(run) for run in (report.candidate, report.reference)]
    culprit = [f"what differs: {report.culprit}"] if report.culprit else []
    return Outcome(
        status="passed" if report else "failed",
        passed=bool(report),
        verdict=pages.verdict(report),
        units=f"{report.pages} pages",
        headline=" against ".join(sides),
        checks=(*map(check_of_rate, report.rates), *map(_step, report.steps)),
        reasons=(*report.failures, *culprit),
        unseen=report.warnings,
        differing=report.differing,
    )


def _step(step: Step) -> Check:
    why = "What this step makes of the reference's own input, alike on both sides."
    if step.rate is None:
        return Check(step.name, "not seen on the same input", "", None, why)
    rate = check_of_rate(step.rate)
    moved = "" if step.largest is None else f"; a score moves by {step.largest:.2g}"
    limited = rate.passed is not None or step.most is not None
    return Check(
        step.name, rate.value + moved, rate.limit, not step.broken if limited else None, why,
        rate.interval,
    )  # fmt: skip


def of_vote(found: Vote) -> Outcome:
    """Of several runs, each against each."""
    return Outcome(
        status="passed" if found else "failed",
        passed=bool(found),
        verdict=found.verdict,
        units=f"{found.samples} samples",
        headline=", ".join(found.names),
        checks=tuple(
            Check(
                f"{pair.left} and {pair.right}",
                f"max |dp| {pair.apart:.2e}, cosine {pair.cosine:.7f}",
                "the less exact one's",
                pair.agree,
                pair.why or "They agree.",
            )
            for pair in found.pairs
        ),
        reasons=(*([] if found else [found.verdict]), *found.lacking),
        unseen=found.warnings,
        latencies=found.runs,
    )
