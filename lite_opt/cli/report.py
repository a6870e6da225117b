"""`paddle-edge report`: many runs against one, on a page, and which to ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.memory import keep_freed
from lite_opt.cli.output import new_file, tell, write
from lite_opt.judge.compare import compare
from lite_opt.judge.limits import limits_for
from lite_opt.views.report import runs as table_of
from lite_opt.views.report.inside import inside
from lite_opt.views.report.judged import Judged, recommendation
from lite_opt.views.report.names import names_of
from lite_opt.views.report.page import html_page
from lite_opt.views.report.sources import counted, known_of
from lite_opt.views.report.words import headline
from lite_opt.views.table import Item, table
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run

__all__ = ["command"]


@click.command("report", cls=opt.Command)
@click.argument("candidates", metavar="RUN...", nargs=-1, required=True, type=opt.Reads())
@click.option(
    "--reference", required=True, type=opt.Reads(), help="The run that all others are judged by."
)
@click.option("-o", "--out", required=True, type=opt.Writes(), help="The page to write, in HTML.")
@click.option("--data", type=opt.Reads(), help="The pictures that the runs were fed.")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=opt.Reads(),
    help="A bundle that was run: for the size of its file, and its self-check. Several options "
    "for several.",
)
@click.option(
    "--counts",
    multiple=True,
    type=opt.Reads(),
    help="What `bench --json` printed on emulated boards: ARM instructions of the bundles.",
)
@click.option(
    "--inside",
    "insides",
    multiple=True,
    type=opt.Reads(),
    help="What `layers`, `sensitivity` or `bench --by-layer` printed with --json: a section each.",
)
@opt.LIMITS
@opt.TRUTH
@opt.TASK_LIMITS
@opt.COMMON
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    candidates: tuple[str, ...],
    reference: str,
    out: str,
    data: str | None,
    bundles: tuple[str, ...],
    counts: tuple[str, ...],
    insides: tuple[str, ...],
    truth: str | None,
    task_limits: Sequence[tuple[str, float]],
    common: bool,
    force: bool,
    as_json: bool,
    limits: dict[str, float | None],
) -> bool:
    """Judge many runs by one, and write a page: recipes, engines, devices, threads.

    The page opens without a network: the verdict and what it rests on, every figure beside its
    limit, pictures that are answered differently, latency, size and cost, and the run to ship. With
    --bundle it knows sizes, with --counts what an inference costs on boards. Exits 1 where no run
    holds its limits.

    \b
    Examples:
      paddle-edge report fp32.run int8.run pi.run --reference server.run -o report.html
      paddle-edge report *.run --reference server.run --data photos/ -o report.html
      paddle-edge bench fp32.bundle int8.bundle --engine native --device qemu-aarch64:pi4 \\
          --json > counts.json
      paddle-edge report fp32.run int8.run --reference server.run --bundle fp32.bundle \\
          --bundle int8.bundle --counts counts.json -o report.html
      paddle-edge layers inference/ int8.bundle --quantized quantized/ --json > layers.json
      paddle-edge report int8.run --reference server.run --inside layers.json -o report.html
    """
    keep_freed()
    page = new_file(out, force=force)
    assert page is not None
    server = Run.open(reference)
    known = [Bundle.open(path) for path in bundles]
    rows = [row for path in counts for row in counted(path)]
    found = [inside(path) for path in insides]
    judged = []
    for path in candidates:
        run = Run.open(path)
        report = compare(
            server,
            run,
            limits=limits_for(run.precision, **limits),
            common=common,
            task_limits=dict(task_limits),
            truth=truth,
        )
        judged.append(Judged(run, report, path, known_of(report.candidate, known, rows)))
    again = opt.again([], ["--debug"])
    write(
        page,
        html_page(server, judged, folder=reference, data=data, command=again, insides=found),
    )
    chosen = recommendation(judged)
    document = {
        "page": out,
        "recommended": None if chosen is None else {"run": candidates[chosen[0]], "why": chosen[1]},
        "reports": [
            {"run": path, "status": one.seen.status, "unseen": one.seen.unseen}
            | one.report.to_json()
            for path, one in zip(candidates, judged)
        ],
    }
    tell(document, _view(reference, judged, chosen, Path(out)), as_json=as_json)
    return any(one.seen.status != "failed" for one in judged)


def _view(
    reference: str, judged: Sequence[Judged], chosen: tuple[int, str] | None, out: Path
) -> Iterator[Item]:
    abouts: list[Mapping[str, Any]] = [judged[0].report.reference]
    abouts += [one.report.candidate for one in judged]
    names = names_of(abouts, [reference, *(one.folder for one in judged)])
    shown = table_of.overview(names, abouts, judged)
    yield table("Runs", shown["header"], shown["rows"])
    for name, one in zip(names[1:], judged):
        for text in one.report.failures:
            yield f"{name}: {text}"
    yield headline(judged, names[1:], chosen)
    yield f"page: {out}"
