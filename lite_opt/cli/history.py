"""`paddle-edge history`: what comparisons came to, and one metric over time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import new_file, tell, write
from lite_opt.history.mlflow_export import export
from lite_opt.history.table import History
from lite_opt.views import history as view_of
from lite_opt.views.report.charts import MISSING
from py_runner.errors import DataError, UsageError

__all__ = ["command"]

_FORMS = (".html", ".svg")


@click.command("history", cls=opt.Command)
@click.argument("path", type=opt.HistoryPath())
@click.option("--model", "model_name", metavar="NAME", help="Only of the model of this name.")
@click.option("--recipe", help="Only of this recipe.")
@click.option("--engine", help="Only of this engine.")
@click.option("--device", help="Only of this device.")
@click.option("--last", type=opt.COUNT, help="Only the last ones of these.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Show this metric; several options for several.",
)
@click.option("--plot", metavar="METRIC", help="Show how this metric went.")
@click.option("-o", "--out", type=opt.Writes(), help="Draw --plot into this .html or .svg.")
@click.option(
    "--mlflow",
    "uri",
    metavar="URI",
    help="Log what is not there yet in this MLflow: http://..., or sqlite:///mlflow.db.",
)
@click.option(
    "--experiment",
    default="paddle-edge",
    show_default=True,
    help="Of MLflow's, the one to log into.",
)
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    path: str,
    model_name: str | None,
    recipe: str | None,
    engine: str | None,
    device: str | None,
    last: int | None,
    metrics: tuple[str, ...],
    plot: str | None,
    out: str | None,
    uri: str | None,
    experiment: str,
    force: bool,
    as_json: bool,
) -> None:
    """List the comparisons in a history: a file, or the folder that it is in.

    `compare`, `try` and `matrix` add to it with --history. A metric has the name of the report's
    rate ("top-1 agreement"), or is cosine, max_abs_diff, sqnr_db, p50_ms, p90_ms, p99_ms,
    peak_memory_bytes, file_bytes, or "arm_instructions, BOARD".

    \b
    Examples:
      paddle-edge compare server.run edge.run --history history.sqlite
      paddle-edge history history.sqlite --recipe int8 --metric cosine --metric p50_ms
      paddle-edge history history.sqlite --plot p50_ms -o latency.html
      paddle-edge history history.sqlite --mlflow http://localhost:5000
    """
    drawn = new_file(out, force=force)
    if drawn and plot is None:
        raise UsageError("-o draws one metric: name it with --plot")
    if drawn and drawn.suffix not in _FORMS:
        raise UsageError(f"{out}: is drawn as {' or '.join(_FORMS)}: end its name so")
    history = History(path)
    if not history.file.exists():
        raise DataError(f"{history.file}: no such history")
    wanted = {"model": model_name, "recipe": recipe, "engine": engine, "device": device}
    given = {name: value for name, value in wanted.items() if value is not None}
    entries = history.entries(last=last, **given)
    known = sorted({name for entry in entries for name in entry.metrics})
    for name in filter(None, (*metrics, plot)):
        if entries and name not in known:
            raise UsageError(f"none of these has metric '{name}': they have {'; '.join(known)}")
    logged = None if uri is None else export(entries, uri, experiment=experiment)
    series = view_of.series_of(entries, plot) if plot else {}
    if drawn and plot:
        text: str | None
        if drawn.suffix == ".svg":
            text = view_of.drawing(series, plot)
        else:
            text = view_of.page(entries, series, plot, of=Path(path).name)
        if text is None:
            raise UsageError(MISSING)
        write(drawn, text)
    document = {
        "history": str(history.file),
        "entries": [asdict(entry) for entry in entries],
        "plot": out,
        "logged": logged,
    }
    view = view_of.sparklines(series, plot) if series and plot else view_of.view(entries, metrics)
    tell(document, [*view, *_done(out, uri, logged)], as_json=as_json)


def _done(out: str | None, uri: str | None, logged: int | None) -> list[str]:
    told = [] if out is None else [f"drawn: {out}"]
    return told + ([] if uri is None else [f"{logged} new in {uri}"])
