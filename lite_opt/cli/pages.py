"""What `paddle-edge run` and `compare` do where it is a pipeline that is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lite_opt.cli.output import tell, watching, write
from lite_opt.judge.pages import compare_pages
from lite_opt.subject import source_models
from lite_opt.views import pages as view
from lite_opt.views.outcome import Outcome, of_pages
from lite_opt.views.page_pictures import beside_each_other, with_lines
from lite_opt.views.pictures import save_pictures, source_of
from py_runner.errors import UsageError
from py_runner.formats.pages import Pages
from py_runner.formats.pipeline import Pipeline
from py_runner.pipeline.ocr import read_pages

__all__ = ["compare", "refuse", "run"]


def refuse(path: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for options that were given and that pipelines do not take."""
    given = [name.replace("_", "-") for name, value in options.items() if value is not None]
    if given:
        raise UsageError(
            f"{path}: {given[0]} is not for pipelines: their stages say that themselves"
        )


def run(
    model: str,
    out: str,
    data: str | None,
    *,
    engine: str,
    device: str,
    servers: Mapping[str, str],
    against: str | None,
    draw: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Read pages, save the run, draw it where that is asked for, and show it."""
    if data is None:
        raise UsageError(f"{model}: a pipeline reads pages: give --data")
    if servers and engine != "paddle":
        raise UsageError("--server names what engine paddle runs: add --engine paddle")
    pipeline = Pipeline.open(model)
    other = Pages.open(against) if against else None
    warnings: list[str] = []
    with source_models(pipeline, servers) as models, watching(as_json) as watch:
        done = read_pages(
            pipeline,
            data,
            models=models,
            engine=engine,
            device=device,
            against=other,
            watch=replace(watch, warn=warnings.append),
            **options,
        )
    done.save(out, force=force)
    if draw:
        drawn = ((p.id, with_lines(source_of(data, p.id), p, done)) for p in done.pages)
        save_pictures(drawn, draw, force=force)
    document = {"run": out, **done.to_json(), "warnings": warnings}
    tell(document, view.answers(done, out, warnings), as_json=as_json)


def compare(
    reference: str,
    candidate: str,
    *,
    common: bool,
    task_limits: Mapping[str, float],
    truth: str | None,
    html: Path | None,
    draw: str | None,
    data: str | None,
    force: bool,
    as_json: bool,
    gates: Callable[[Outcome], None],
) -> bool:
    """Judge one run of a pipeline against another, draw both side by side where that is asked for,
    write what `gates` writes, and show the verdict."""
    left, right = Pages.open(reference), Pages.open(candidate)
    report = compare_pages(left, right, common=common, task_limits=task_limits, truth=truth)
    gates(of_pages(report))
    if html:
        write(html, view.html_page(report, left, right))
    if draw:
        there = {page.id for page in right.pages}
        drawn = (
            (page.id, beside_each_other(source_of(str(data), page.id), page.id, left, right))
            for page in left.pages
            if page.id in there
        )
        save_pictures(drawn, draw, force=force)
    tell(report.to_json(), view.verdict_view(report), as_json=as_json)
    return bool(report)
