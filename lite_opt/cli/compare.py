"""`paddle-edge compare`: does the edge say what the server says?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli import pages
from lite_opt.cli.memory import keep_freed
from lite_opt.cli.output import new_file, tell, write
from lite_opt.cli.recording import Gate, end, record
from lite_opt.fleet import is_fleet, judge_each
from lite_opt.judge.compare import compare
from lite_opt.judge.limits import Limits, kept_limits, limits_for
from lite_opt.judge.vote import vote
from lite_opt.views import comparison, devices
from lite_opt.views.junit import junit as as_junit
from lite_opt.views.markdown import markdown as as_markdown
from lite_opt.views.outcome import Outcome, of_report, of_vote
from lite_opt.views.pictures import save_pictures
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from lite_opt.views.side_by_side import drawn_side_by_side
from py_runner.errors import UsageError
from py_runner.files.folder import check_free, temporary_folder
from py_runner.files.regular import read_bytes
from py_runner.files.url import Url
from py_runner.formats.bundle import Bundle
from py_runner.formats.pages import is_pages
from py_runner.formats.run import Run

__all__ = ["command"]


@click.command("compare", cls=opt.Command)
@click.argument("reference", metavar="REFERENCE_RUN", type=opt.Reads(urls=True))
@click.argument(
    "candidates",
    metavar="CANDIDATE_RUN...",
    nargs=-1,
    required=True,
    type=opt.Reads(urls=True),
)
@opt.LIMITS
@opt.TRUTH
@opt.TASK_LIMITS
@opt.COMMON
@click.option(
    "--html",
    type=opt.Writes(),
    help="Write the report as a page, too; with --data it shows the pictures that differ.",
)
@click.option("--junit", type=opt.Writes(), help="Write the checks as JUnit's XML, for CI.")
@click.option(
    "--markdown", type=opt.Writes(), help="Write the report as a comment of a pull request, too."
)
@click.option(
    "--max-latency-regression",
    type=opt.PERCENT,
    help="Fail where the median inference takes longer than the reference's by more than this.",
)
@opt.HISTORY
@click.option(
    "--against-best-of",
    type=opt.COUNT,
    metavar="N",
    help="Hold --max-top1-drop and --max-latency-regression against the best of the last N in "
    "--history, and not against the reference.",
)
@click.option(
    "--draw",
    type=opt.Writes(),
    help="Write the pictures here, the reference beside the candidate, differences marked.",
)
@click.option("--data", type=opt.Reads(), help="The pictures: what both runs were fed.")
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    reference: str | Url,
    candidates: tuple[str | Url, ...],
    common: bool,
    html: str | None,
    junit: str | None,
    markdown: str | None,
    max_latency_regression: float | None,
    history: str | None,
    against_best_of: int | None,
    draw: str | None,
    data: str | None,
    truth: str | None,
    task_limits: Sequence[tuple[str, float]],
    force: bool,
    as_json: bool,
    limits: dict[str, float | None],
) -> bool:
    """Judge one run against another: does the edge say what the server says?

    Exits 1 where a limit is broken, where the candidate lacks samples of its reference, or where
    nothing could be judged: a detector that found nothing. The default limits follow from the
    candidate's precision, or are those that the bundle was made with where the reference is a
    bundle's, and from the reference's own noise where that has it.
    Runs that know their task are judged by it: boxes, masks or lines that agree, each share with
    its 95 % interval and how many more samples its limit needs. Runs of a pipeline are
    judged by their lines and step by step: the one that makes a difference is named.

    Several candidates vote: every two runs are compared, and the engine that stands alone against
    the others is named, be it the reference. Exits 1 unless all agree. The folder of a run on
    several devices is a table of them: each against the reference, and what sets it apart.

    \b
    Examples:
      paddle-edge compare server.run edge.run
      paddle-edge compare server.run edge.run --top1-drop 0.5 --html report.html
      paddle-edge compare cat.bundle/reference edge.run
      paddle-edge compare server.run onnx.run x86.run arm.run
      paddle-edge compare server.run fleet/
      paddle-edge compare server.run s3://bucket/edge.run
      paddle-edge compare server.run edge.run --truth instances.json --task-limit map_drop=1
      paddle-edge compare server-pages.run edge-pages.run --truth Label.txt
      paddle-edge compare server.run edge.run --draw drawn/ --data photos/
      paddle-edge compare old.run new.run --max-top1-drop 0.5 --max-latency-regression 10% \\
          --junit compare.xml --markdown comment.md
      paddle-edge compare server.run edge.run --history history.sqlite --against-best-of 10 \\
          --max-top1-drop 0.5 --max-latency-regression 10%
    """
    keep_freed()
    page, xml, comment = (new_file(name, force=force) for name in (html, junit, markdown))
    of_two: dict[str, Any] = {"--html": html, "--draw": draw}
    no_pages: dict[str, Any] = {
        "--max-latency-regression": max_latency_regression,
        "--history": history,
    }
    gate = None
    if against_best_of is not None:
        if history is None:
            raise UsageError("--against-best-of: of which history? Add --history")
        gate = Gate(against_best_of, limits["top1_drop"], max_latency_regression)
        limits, max_latency_regression = {**limits, "top1_drop": None}, None
    if draw:
        check_free(draw, force=force)
    if draw and data is None:
        raise UsageError("drawing needs the pictures that both runs were fed: give --data")
    if len(candidates) > 1:
        return _vote(
            [reference, *candidates], of_two | no_pages, xml, comment, as_json, limits=limits,
            common=common, task_limits=dict(task_limits), truth=truth,
        )  # fmt: skip
    (candidate,) = candidates
    names = [str(reference), str(candidate)]
    if isinstance(candidate, str) and is_fleet(candidate):
        return _fleet(
            reference, candidate, of_two | no_pages | {"--junit": junit, "--markdown": markdown},
            as_json, limits, common=common, task_limits=dict(task_limits), truth=truth,
        )  # fmt: skip
    if (
        isinstance(reference, str)
        and isinstance(candidate, str)
        and is_pages(reference)
        and is_pages(candidate)
    ):
        pages.refuse(candidate, {f"--{name}": value for name, value in limits.items()} | no_pages)
        return pages.compare(
            reference,
            candidate,
            common=common,
            task_limits=dict(task_limits),
            truth=truth,
            html=page,
            draw=draw,
            data=data,
            force=force,
            as_json=as_json,
            gates=lambda outcome: _write_gates(outcome, names, xml, comment),
        )
    edge = Run.open(candidate)
    kept, of_task = kept_limits(_recipe_of(reference), edge.precision)
    wanted = limits_for(edge.precision, kept, **limits)
    server = Run.open(reference)
    report = compare(
        server,
        edge,
        limits=wanted,
        common=common,
        task_limits={**of_task, **dict(task_limits)},
        truth=truth,
        max_latency_regression=max_latency_regression,
    )
    done = record(history, Judged(edge, report, names[1]), gate)
    report = done.report
    _write_gates(of_report(report, names), names, xml, comment)
    if page:
        judged = Judged(edge, report, names[1])
        write(
            page,
            html_page(
                server, [judged], folder=names[0], data=data, command=opt.again([], ["--debug"])
            ),
        )
    if draw:
        save_pictures(drawn_side_by_side(server, edge, str(data)), draw, force=force)
    document = done.to_json() if history else report.to_json()
    tell(document, [*done.told, *comparison.view(report)], as_json=as_json)
    end(done.fault, as_json=as_json)
    return bool(report)


def _recipe_of(reference: str | Url) -> Mapping[str, Any]:
    """The recipe of the bundle whose reference a run is; nothing where it is none's."""
    folder = reference if isinstance(reference, Url) else Path(reference).absolute()
    described = folder.parent / "bundle.json"
    if folder.name != "reference" or not described.is_file():
        return {}
    if isinstance(described, Path):
        return Bundle.open(described.parent).recipe
    with temporary_folder() as here:
        (here / described.name).write_bytes(read_bytes(described))
        return Bundle.open(here).recipe


def _write_gates(
    outcome: Outcome, paths: Sequence[str], xml: Path | None, comment: Path | None
) -> None:
    """What CI and a pull request show, where that was asked for."""
    if xml:
        write(xml, as_junit(outcome, f"{', '.join(paths[1:])} against {paths[0]}"))
    if comment:
        write(comment, as_markdown(outcome))


def _fleet(
    reference: str | Url,
    folder: str,
    of_two: Mapping[str, Any],
    as_json: bool,
    limits: Mapping[str, float | None],
    *,
    task_limits: Mapping[str, float],
    **options: Any,
) -> bool:
    """The runs of several devices, each judged against one reference."""
    given = [name for name, value in of_two.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} is of two runs: name one of {folder}")
    recipe = _recipe_of(reference)

    def wanted(run: Run) -> Limits:
        return limits_for(run.precision, kept_limits(recipe, run.precision)[0], **limits)

    document = judge_each(
        Run.open(reference), Path(folder), wanted, task_limits=task_limits, **options
    )
    tell(document, devices.fleet(document), as_json=as_json)
    return bool(document["passed"])


def _vote(
    paths: Sequence[str | Url],
    of_two: Mapping[str, Any],
    xml: Path | None,
    comment: Path | None,
    as_json: bool,
    **options: Any,
) -> bool:
    """Several runs judged by each other; `of_two` are options that only two runs take."""
    given = [name for name, value in of_two.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} is of two runs: leave it out of a vote")
    pipelines = [path for path in paths if isinstance(path, str) and is_pages(path)]
    if pipelines:
        raise UsageError(f"{pipelines[0]}: is a run of a pipeline: those are compared by twos")
    found = vote([Run.open(path) for path in paths], **options)
    _write_gates(of_vote(found), [str(path) for path in paths], xml, comment)
    tell(found.to_json(), comparison.of_vote(found), as_json=as_json)
    return bool(found)
