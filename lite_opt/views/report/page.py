"""One Run against another, or many against one, as a page of its own: nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lite_opt.judge.by_sample import Apartness, apart
from lite_opt.judge.compare import Report
from lite_opt.judge.evidence import emulated
from lite_opt.judge.recommend import frontier
from lite_opt.views import comparison
from lite_opt.views.checks import Check, checks
from lite_opt.views.report import charts, runs, words
from lite_opt.views.report.gallery import Gallery, gallery
from lite_opt.views.report.inside import Inside
from lite_opt.views.report.judged import NOTHING, Judged, loss, offers, recommendation
from lite_opt.views.report.names import names_of
from lite_opt.views.templates import filled
from py_runner.formats.run import Run
from py_runner.formats.run_latency import flat

__all__ = ["html_page"]

_ENTRIES = 200  # of all galleries together
_PICTURES = 100
_POINTS = 2000  # of all scatters together
_LEAST = 12  # of each, whatever there is
_CHARTED = 12  # candidates that have charts of their own


@dataclass(frozen=True)
class _Section:
    """What the page shows of one candidate."""

    name: str
    judged: Judged
    headline: str
    checks: list[Check]
    gallery: Gallery
    charts: list[charts.Chart]
    tables: Mapping[str, Any]
    notes: list[str]


def html_page(
    reference: Run,
    judged: Sequence[Judged],
    *,
    folder: str = "",
    data: str | Path | None = None,
    command: str = "",
    besides: Sequence[str] = (),
    insides: Sequence[Inside] = (),
) -> str:
    """A page for one candidate or many: verdict and what it rests on, every figure beside its
    limit, samples that disagree, charts, the environment of each run.

    Args:
        folder: where the reference was read from.
        data: the pictures that the runs were fed, to show those that disagree.
        command: the command line that made the page.
        besides: sentences on what is not judged here.
        insides: what was found inside the models.
    """
    abouts = [judged[0].report.reference, *(one.report.candidate for one in judged)]
    folders = [folder, *(one.folder for one in judged)]
    names = names_of(abouts, folders)
    sections = [
        _section(name, names[0], one, reference, data, len(judged))
        for name, one in zip(names[1:], judged)
    ]
    chosen = recommendation(judged)
    return filled(
        "report.html",
        title=words.title(folders, judged),
        status=words.status(judged),
        headline=words.headline(judged, names[1:], chosen),
        basis=[*words.basis(names[0], judged, names[1:]), *besides],
        chosen=None if chosen is None else chosen[0],
        why=None if chosen is None else chosen[1],
        reference=names[0],
        sections=sections,
        overview=runs.overview(names, abouts, judged),
        charts=_of_all(names, reference, judged, chosen),
        insides=insides,
        missing=charts.MISSING,
        environment=runs.environment(names, abouts, folders, [NOTHING, *(j.known for j in judged)]),
        command=command,
        verdict=comparison.verdict,
    )


def _section(
    name: str, reference_name: str, one: Judged, reference: Run, data: Any, count: int
) -> _Section:
    report = one.report
    found = apart(reference, one.run)
    shown = gallery(
        reference,
        one.run,
        found,
        report.disagreeing or _furthest(found, report),
        data=data,
        most=max(_LEAST, _ENTRIES // count),
        pictures=max(_LEAST, _PICTURES // count) if count <= _CHARTED else 1,
    )
    limit = next((output.limit for output in report.outputs if output.limit is not None), None)
    points = max(_LEAST, _POINTS // count)
    names = (reference_name, name)
    drawn = (
        [
            charts.histogram(found, limit),
            charts.scatter(found, names, report.disagreeing, min(points, 600)),
        ]
        if count <= _CHARTED
        else []
    )
    tables = comparison.rows_of(report)
    return _Section(
        name=name,
        judged=one,
        headline=words.one_said(one),
        checks=list(checks(report)),
        gallery=shown,
        charts=drawn,
        tables={title: rows for title, rows in tables.items() if title.startswith(_DETAILS)},
        notes=[
            *comparison.noise_of(report),
            *comparison.figures_of(report),
            *([f"What makes the difference: {report.culprit}"] if report.culprit else []),
        ],
    )


_DETAILS = ("Differences", "Task", "Rates", "Steps")


def _furthest(found: Apartness, report: Report) -> list[str]:
    """Where no answer is another and limits are broken all the same: who is furthest off."""
    if not report.failures:
        return []
    return [one.id for one in found.worst_first()[:_LEAST]]


def _of_all(
    names: Sequence[str],
    reference: Run,
    judged: Sequence[Judged],
    chosen: tuple[int, str] | None,
) -> list[charts.Chart]:
    """Charts that show all runs together; those that have nothing to show are left out, as are the
    latencies of emulators."""
    result = []
    all_runs = dict(zip(names, [reference, *(one.run for one in judged)]))
    times = {
        name: own
        for name, run in all_runs.items()
        if len(own := flat(run.latency_ms)) and not emulated({"device": run.device})
    }
    if times:
        result.append(charts.ecdf(times))
    counts = {n: o.known.instructions for n, o in zip(names[1:], judged) if o.known.instructions}
    if counts:
        result.append(charts.by_board(counts))
    offered = offers(judged)
    best = set(frontier(offered))
    unit = next((offer.unit for offer in offered if offer.cost is not None), "")
    rows = [
        {"name": name, "cost": offer.cost, "loss": offer.loss, "best": place in best,
         "mb": None if offer.bytes is None else offer.bytes / 1e6}
        for place, (name, offer) in enumerate(zip(names[1:], offered))
        if offer.cost is not None and offer.unit == unit and _finite(offer.loss)
    ]  # fmt: skip
    if len(rows) > 1:
        of = loss(judged[0].report)[1]
        result.append(charts.trade(rows, unit, of, names[1 + chosen[0]] if chosen else None))
    return result


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
