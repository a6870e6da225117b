"""`paddle-edge matrix`: models, recipes, engines, devices and data, each with each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import say, tell, watching
from lite_opt.cli.recording import end, record_all
from lite_opt.trial.cells import Result
from lite_opt.trial.matrix import Matrix, run_matrix
from lite_opt.trial.plan import Plan
from lite_opt.views import matrix as view_of
from py_runner.errors import PaddleEdgeError

__all__ = ["command"]


@click.command("matrix", cls=opt.Command)
@click.argument("plan", metavar="PLAN.yml", type=opt.Reads())
@click.option(
    "-o",
    "--out",
    type=opt.Writes(),
    help="The folder of bundles, runs and pages; where it is there already, the matrix goes on.  "
    "[default: the plan's name, .matrix]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Work at cells that have all of these names, such as squeezenet,fp32; several options for "
    "several. What is done of the others is shown.",
)
@click.option("--dry-run", "dry", is_flag=True, help="Make nothing: show what would be done.")
@opt.HISTORY
@opt.JSON
@opt.DEBUG
def command(
    plan: str, out: str | None, only: tuple[str, ...], dry: bool, history: str | None, as_json: bool
) -> bool:
    """Convert, run and judge every model of PLAN.yml by every recipe, on every engine and device,
    with all data.

    Each cell ends as "done", "kept" (it was done before, of the same things), "failed" with the
    reason, or "impossible", such as int8 on engine lite. A cell that fails does not stop the
    others, and the same command tries it again. The folder's report.html leads to a report a model
    and data set.

    Interrupted, the same command goes on. Exits 1 where a cell failed, or a verdict is red.

    \b
    Examples:
      paddle-edge matrix plan.yml --dry-run
      paddle-edge matrix plan.yml -o nightly.matrix
      paddle-edge matrix plan.yml -o nightly.matrix --only squeezenet,int8 --only squeezenet,fp16
    """
    read = Plan.open(plan)
    place = Path(out or f"{Path(plan).stem}.matrix")
    try:
        with watching(as_json) as watch:
            done = run_matrix(
                read, place, only=only, dry=dry, command=opt.again([], ["--debug", "--json"]),
                tell=_nothing if as_json or dry else _say, watch=watch,
            )  # fmt: skip
    except (KeyboardInterrupt, SystemExit):
        say(f"what is done lies in {place}; this goes on from there: {opt.again([], [])}")
        raise
    fault = None if dry else _record(history, read, done)
    page = None if done.page is None else str(done.page)
    document = _document(done, place, page)
    tell(document, view_of.view(document["cells"], page), as_json=as_json)
    end(fault, as_json=as_json)
    return bool(done) or dry


def _record(history: str | None, plan: Plan, done: Matrix) -> PaddleEdgeError | None:
    """Add what was judged; of models in one folder after the other."""
    for model in plan.models:
        own = [one.judged for one in done.results if one.cell.model == model.name]
        fault = record_all(history, [one for one in own if one is not None], model.path)
        if fault is not None:
            return fault
    return None


def _say(result: Result, number: int, total: int) -> None:
    say(view_of.line(result.to_json(), number, total))


def _nothing(*_: Any) -> None:
    pass


def _document(done: Matrix, place: Path, page: str | None) -> dict[str, Any]:
    def cell(one: Result) -> dict[str, Any]:
        own = done.pages.get((one.cell.model, one.cell.data))
        return {
            **one.to_json(),
            "page": None if own is None else str(own),
            "report": None if one.judged is None else one.judged.report.to_json(),
        }

    return {
        "folder": str(place),
        "page": page,
        "passed": bool(done),
        "cells": [cell(one) for one in done.results],
    }
