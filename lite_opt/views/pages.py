"""What a pipeline read on pages, and one run of it judged against another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lite_opt.judge.pages import PagesReport, paired
from lite_opt.views.comparison import RATES_HEADER, about, rate_row, steps_table
from lite_opt.views.table import Item, Remark, Row, percent, table, warnings
from lite_opt.views.templates import filled
from py_runner.formats.pages import Line, Page, Pages

__all__ = [
    "answers",
    "differing",
    "html_page",
    "made_by",
    "shares",
    "side_by_side",
    "verdict",
    "verdict_view",
]

_SHOWN = 20


def answers(run: Pages, path: str, notes: Sequence[str]) -> Iterator[Item]:
    """The first lines, and where the time went."""
    yield from warnings(notes)
    for entry in run.skipped:
        yield Remark(f"skipped {entry[0]}: {entry[1]}")
    lines = [(page.id, line) for page in run.pages for line in page.text]
    rows = [
        (id_, repr(line.text), f"{line.score:.3f}", _corner(line.points), "yes" * line.turned)
        for id_, line in lines[:_SHOWN]
    ]
    title = f"Lines (first {len(rows)} of {len(lines)})"
    yield table(title, ("page", "text", "score", "at", "turned"), rows, left=2)
    title = f"Run {path}: {len(run.pages)} pages in {run.wall_s:.1f} s"
    yield table(title, ("step", "engine", "ms a page", "share"), _times(run), left=2)


def side_by_side(title: str, server: Pages, edge: Pages) -> Item:
    """A table of what two runs read, a line a row."""
    rows: list[Row] = []
    for left, right in zip(server.pages, edge.pages):
        rows += [(left.id, *(_said(line) for line in pair)) for pair in paired(left, right)]
    return table(title, ("page", "server", "edge"), rows, left=3)


def _said(line: Line | None) -> str:
    return "-" if line is None else f"{line.text} {line.score:.3f}"


def shares(run: Pages) -> dict[str, float]:
    """The milliseconds a page of each step: decoding, cutting out, and of each stage making
    tensors, the graph and post-processing."""
    count = len(run.pages)
    spent = {"decode": run.decode_ms / count}
    for name, stage in run.stages.items():
        spent[f"{name}: preprocessing"] = stage.prepare_ms / count
        spent[f"{name}: graph"] = stage.graph_ms / count
        spent[f"{name}: post-processing"] = stage.answer_ms / count
        if name == "detection":
            spent["crop"] = run.crop_ms / count
    return spent


def verdict_view(report: PagesReport) -> Iterator[Item]:
    """All of a comparison."""
    for title, (header, rows) in _tables(report).items():
        yield table(title, header, rows)
    yield _figures(report)
    if report.differing:
        more = len(report.differing) - _SHOWN
        names = ", ".join(report.differing[:_SHOWN])
        yield f"differ: {names}" + (f" and {more} more" if more > 0 else "")
    for who, run in (("reference", report.reference), ("candidate", report.candidate)):
        yield f"{who}: {made_by(run)}"
    yield from warnings(report.warnings)
    if report.culprit:
        yield f"what makes the difference: {report.culprit}"
    yield verdict(report)


def verdict(report: PagesReport) -> str:
    """The outcome in one line."""
    pages = f"{report.pages} page{'s' * (report.pages != 1)}"
    if report:
        return f"PASSED on {pages}"
    return f"FAILED on {pages}: " + "; ".join(report.failures)


def html_page(report: PagesReport, reference: Pages, candidate: Pages) -> str:
    """A page of its own (no scripts, nothing loaded): the verdict, the step that makes the
    difference, and the lines of each page with the characters that differ marked."""
    theirs = {page.id: page for page in candidate.pages}
    pages = [(page, theirs[page.id]) for page in reference.pages if page.id in theirs]
    made = [
        f"{who}: {made_by(run)}"
        for who, run in (("reference", report.reference), ("candidate", report.candidate))
    ]
    return filled(
        "pages.html",
        report=report,
        verdict=verdict(report),
        tables=_tables(report),
        notes=[_figures(report), *made],
        pages=[_lines_of(left, right) for left, right in pages],
    )


def _tables(report: PagesReport) -> dict[str, tuple[Row, list[Row]]]:
    """A report as named tables: title -> (header, rows)."""
    return {
        "Pages, end to end": (RATES_HEADER, [rate_row(rate) for rate in report.rates]),
        "Steps on the same input": steps_table(report.steps),
    }


def _figures(report: PagesReport) -> str:
    return "; ".join(f"{name} {value:.4g}" for name, value in report.figures.items())


def _lines_of(left: Page, right: Page) -> dict[str, Any]:
    """The lines of two runs of a page, side by side."""
    pairs = paired(left, right)
    lines = []
    for pair in pairs:
        a, b = ("" if line is None else line.text for line in pair)
        scores = ["-" if line is None else f"{line.score:.3f}" for line in pair]
        line = next(line for line in pair if line is not None)
        sides = [{"text": text, "score": score} for text, score in zip(differing(a, b), scores)]
        lines.append({"at": _corner(line.points), "sides": sides})
    equal = sum(a is not None and b is not None and a.text == b.text for a, b in pairs)
    return {"id": left.id, "equal": equal, "lines": lines}


def differing(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in parts, and whether each is another than the other text has there."""
    from difflib import SequenceMatcher

    parts: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, i, j, k, n in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, text in zip(parts, (left[i:j], right[k:n])):
            if text:
                side.append((text, tag != "equal"))
    return parts


def _times(run: Pages) -> list[Row]:
    spent = shares(run)
    total = sum(spent.values()) or 1.0
    return [
        (name, _engine(run, name), f"{value:.1f}", percent(value / total))
        for name, value in spent.items()
    ]


def _engine(run: Pages, step: str) -> str:
    stage, _, what = step.partition(": ")
    if what != "graph":
        return "-"
    made = run.stages[stage]
    return f"{made.engine} {made.engine_version} ({made.device}, {made.precision})"


def _corner(points: Sequence[Sequence[float]]) -> str:
    return f"{points[0][0]:.0f}, {points[0][1]:.0f}"


def made_by(run: Mapping[str, Any]) -> str:
    stages = {about(stage): None for stage in run["stages"].values() if stage["engine_version"]}
    return f"{run['pipeline']['name']} on {', '.join(stages)}"
