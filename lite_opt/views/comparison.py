"""One run judged against another: tables and the verdict in one line; votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lite_opt.views.checks import figures
from lite_opt.views.latency import LATENCY_HEADER, latency_rows
from lite_opt.views.table import Item, Row, percent, table, warnings

if TYPE_CHECKING:
    from lite_opt.judge.compare import Report
    from lite_opt.judge.differences import OutputDifference
    from lite_opt.judge.rates import Rate
    from lite_opt.judge.steps import Step
    from lite_opt.judge.vote import Vote

__all__ = [
    "RATES_HEADER",
    "about",
    "figures_of",
    "noise_of",
    "of_vote",
    "rate_row",
    "rows_of",
    "steps_table",
    "tables",
    "verdict",
    "view",
]

RATES_HEADER = ("rate", "value", "95 % interval", "of", "limit", "more needed")

_SHOWN = 20  # of those that disagree


def view(report: Report) -> Iterator[Item]:
    """All of it; of the samples that disagree the first."""
    yield from tables(report)
    yield from noise_of(report)
    yield from figures_of(report)
    if report.disagreeing:
        names = ", ".join(report.disagreeing[:_SHOWN])
        more = len(report.disagreeing) - _SHOWN
        yield f"disagree: {names}" + (f" and {more} more" if more > 0 else "")
    yield from warnings(report.warnings)
    if report.culprit:
        yield f"what makes the difference: {report.culprit}"
    yield verdict(report)


def tables(report: Report, of: str = "") -> Iterator[Item]:
    """The tables of `rows_of`; `of` says what they are of, where that is not plain."""
    for title, (header, rows) in rows_of(report).items():
        yield table(f"{of}: {title.lower()}" if of else title, header, rows)


def noise_of(report: Report) -> Iterator[str]:
    """A sentence for each output whose limit follows from the reference's own noise."""
    for output in report.outputs:
        if output.noise is None or output.limit in (None, report.limits.max_abs_diff):
            continue
        yield (
            f"output '{output.name}': limit {output.limit:.1e}: {report.limits.noise_times:g} x "
            f"the reference's own noise of {output.noise:.1e}"
        )


def figures_of(report: Report) -> Iterator[str]:
    """A sentence of the task's figures that have no limit."""
    if report.scores is not None and report.scores.figures:
        figures = report.scores.figures.items()
        yield "; ".join(f"{name} {value:.4g}" for name, value in figures)


def about(run: Mapping[str, Any]) -> str:
    """What made a run, in words: engine, device, precision."""
    return f"{run['engine']} {run['engine_version']} ({run['device']}, {run['precision']})"


def rows_of(report: Report) -> dict[str, tuple[Row, list[Row]]]:
    """A report as named tables: title -> (header, rows)."""
    names = [about(report.reference), about(report.candidate)]
    if names[0] == names[1]:
        names = [f"reference: {names[0]}", f"candidate: {names[1]}"]
    tables: dict[str, tuple[Row, list[Row]]] = {
        "Differences": (
            ("output", "kind", "max |d|", "max |dp|", "cosine", "SQNR dB", "worst", "moves"),
            [_differences(output) for output in report.outputs],
        )
    }
    if report.top1_agreement is not None:
        accuracy = report.accuracy or {}
        top5 = [percent(accuracy.get(f"{who}_top5")) for who in ("reference", "candidate")]
        tables["Answers"] = (
            ("accuracy", "top-1", "top-5"),
            [
                (names[0], percent(accuracy.get("reference_top1")), top5[0]),
                (names[1], percent(accuracy.get("candidate_top1")), top5[1]),
                ("agreement", percent(report.top1_agreement), percent(report.top5_agreement)),
            ],
        )
    if report.rates:
        title = "Rates" if report.scores is None else f"Task: {report.scores.task}"
        tables[title] = (
            RATES_HEADER,
            [rate_row(rate) for rate in report.rates],
        )
    if report.steps:
        tables["Steps on the same input"] = steps_table(report.steps)
    tables["Latency"] = (
        LATENCY_HEADER,
        latency_rows(dict(zip(names, (report.reference, report.candidate)))),
    )
    return tables


def _differences(output: OutputDifference) -> Row:
    return (
        output.name,
        output.kind,
        f"{output.max_abs_diff:.2e}",
        f"{output.max_probability_diff:.2e}",
        f"{output.cosine:.7f}",
        f"{output.sqnr_db:.1f}",
        f"{output.cosine_min:.5f} {output.worst}",
        "-" if output.response is None else f"{output.response:.3f}",
    )


def rate_row(rate: Rate) -> Row:
    """A rate in the columns of RATES_HEADER."""
    value, low, high = figures(rate)
    limit = "-"
    if rate.limit is not None:
        limit = f"<= {rate.limit:g}" if rate.at_most else f">= {percent(rate.limit)}"
    more = "-" if rate.limit is None else "none" if rate.decided else str(rate.more or "-")
    return rate.name, value, f"{low} to {high}", f"{rate.units} {rate.unit}", limit, more


def steps_table(steps: Sequence[Step]) -> tuple[Row, list[Row]]:
    """How the steps of two runs answer to the same input: (header, rows)."""
    header = ("step", "alike", "95 % interval", "of", "limit", "largest |d score|", "")
    return header, [_step(step, step.rate) for step in steps if step.rate is not None]


def _step(step: Step, rate: Rate) -> Row:
    name, value, interval, of, limit, _ = rate_row(rate)
    largest = "-" if step.largest is None else f"{step.largest:.1e}"
    return name, value, interval, of, limit, largest, "OTHERWISE" if step.broken else ""


def verdict(report: Report) -> str:
    """The outcome in one line."""
    if report:
        return f"PASSED on {report.samples} samples"
    if not report.failures:
        return f"UNJUDGED on {report.samples} samples: " + "; ".join(report.unjudged)
    return f"FAILED on {report.samples} samples: " + "; ".join(report.failures)


def of_vote(found: Vote) -> Iterator[Item]:
    """A row for each two runs, their latencies, and the outcome in one line."""
    rows = [
        (p.left, p.right, "agree" if p.agree else "differ", f"{p.apart:.2e}", f"{p.cosine:.7f}")
        for p in found.pairs
    ]
    yield table("Each against each", ("run", "and", "", "max |dp|", "cosine"), rows, left=3)
    yield table("Latency", LATENCY_HEADER, latency_rows(found.runs))
    yield from warnings(found.warnings)
    for pair in found.pairs:
        if pair.why:
            yield f"{pair.left} and {pair.right}: {pair.why}"
    yield from found.lacking
    outcome = "PASSED" if found else "FAILED"
    yield f"{outcome} on {found.samples} samples: {found.verdict}"
