"""`paddle-edge try`: from a model and data to a decision, in one command."""  # noqa: N999  it is called so

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import say, tell, watching
from lite_opt.cli.recording import end, record_all
from lite_opt.model.load import find_model
from lite_opt.recipes import RECIPES
from lite_opt.trial.trial import Trial, boards_of, recipes_of, try_recipes
from lite_opt.views.report import runs as table_of
from lite_opt.views.report.names import place as place_of
from lite_opt.views.table import Item, Verbatim, table

__all__ = ["command"]


@click.command("try", cls=opt.Command)
@click.argument("model", type=opt.Reads())
@click.option(
    "--data",
    required=True,
    type=opt.Reads(),
    help="Data like those in use: images, a list file, a folder, .npy. About 100 or more, better "
    "with labels. A part calibrates, the rest judges.",
)
@click.option(
    "--recipes",
    default="all",
    show_default=True,
    help=f"Which to try, comma separated: {', '.join(RECIPES)}.",
)
@click.option(
    "--boards",
    help="Emulated boards that count instructions, comma separated; what is made for ARM runs on "
    "the first that can run it.  [default: pi4,pi5, where boards are set up]",
)
@click.option(
    "--device",
    help="What runs the files for ARM instead of an emulated board: ssh://... or "
    "adb://..., see `paddle-edge device`.",
)
@click.option(
    "-o",
    "--out",
    type=opt.Writes(),
    help="The folder of bundles, runs and the page; where it is there already, the trial goes on.  "
    "[default: the model's name, .trial]",
)
@click.option("--limit", type=click.IntRange(min=2), help="Use so many samples at most.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which samples calibrate, which judge."
)
@opt.PARAMS
@opt.IMAGE
@opt.LABELS
@opt.TASK
@opt.LIMITS
@opt.TRUTH
@opt.TASK_LIMITS
@opt.HISTORY
@opt.JSON
@opt.DEBUG
def command(
    model: str,
    data: str,
    recipes: str,
    boards: str | None,
    out: str | None,
    task_limits: Sequence[tuple[str, float]],
    history: str | None,
    as_json: bool,
    **options: Any,
) -> bool:
    """Try every recipe on a model, and say which one to ship.

    Converts by each recipe, runs what comes of it on the engine that judges it (an emulated board
    where one is set up, else x86; what x86 cannot compute, int8 and fp16, by its arithmetic on the
    server), counts ARM instructions on boards, and compares everything with what MODEL answers on
    the server. The page, bundles and runs are left in one folder.

    Samples that calibrate are not those that judge: half of them, at most 128, calibrate, and of
    the others at most 256 judge, drawn by --seed. A recipe that fails is a row of the table.

    Interrupted, the same command goes on: what is there, and was made of the same model, data and
    options, is not made again. Exits 1 where no recipe holds its limits.

    \b
    Examples:
      paddle-edge try inference/ --data photos/
      paddle-edge try inference/ --data val.txt --recipes fp32,int8 --boards pi4,pi5 -o cat.trial
      paddle-edge try det/ --data photos/ --truth instances.json --device ssh://pi@raspberrypi
    """
    place = Path(out or f"{find_model(model, params=options['params']).model.stem}.trial")
    if out is None and place.stem in ("inference", "model", "__model__"):
        place = Path(f"{Path(model).absolute().name}.trial")
    try:
        with watching(as_json) as watch:
            done = try_recipes(
                model,
                data,
                place,
                recipes=recipes_of(recipes),
                boards=boards_of(boards),
                task_limits=dict(task_limits),
                command=opt.again([], ["--debug"]),
                watch=watch,
                **options,
            )
    except KeyboardInterrupt:
        say(f"what is done lies in {place}; this goes on from there: {opt.again([], [])}")
        raise
    judged = [one.judged for one in done.tried if one.judged is not None]
    fault = record_all(history, judged, model)
    tell(_document(done, place), _view(done, place), as_json=as_json)
    end(fault, as_json=as_json)
    return bool(done)


def _document(done: Trial, place: Path) -> dict[str, Any]:
    chosen = done.chosen
    return {
        "folder": str(place),
        "page": None if done.page is None else str(done.page),
        "split": {"seed": done.seed, "calibration": done.calibrated, "judged": done.judged},
        "recommended": None
        if chosen is None
        else {"recipe": chosen[0].recipe, "why": chosen[1], "bundle": str(chosen[0].bundle),
              "command": chosen[0].command},
        "recipes": [
            {
                "recipe": one.recipe,
                "status": one.status,
                "why": one.why or None,
                "unseen": [] if one.judged is None else list(one.judged.seen.unseen),
                "bundle": None if one.bundle is None else str(one.bundle),
                "command": one.command,
                "bytes": None if one.judged is None else one.judged.known.bytes,
                "arm_instructions": {} if one.judged is None
                else dict(one.judged.known.instructions),
                "uncounted": dict(one.uncounted or {}),
                "report": None if one.judged is None else one.judged.report.to_json(),
            }
            for one in done.tried
        ],
    }  # fmt: skip


def _view(done: Trial, place: Path) -> Iterator[Item]:
    ran = [(one.recipe, one.judged) for one in done.tried if one.judged is not None]
    if ran:
        judged = [one for _, one in ran]
        abouts = [judged[0].report.reference, *(one.report.candidate for one in judged)]
        shown = table_of.overview(["server", *(name for name, _ in ran)], abouts, judged)
        header = ["recipe", *shown["header"][1:], "judged on"]
        rows = {
            row[0]: [*row, f"{about['engine']}, {place_of(about)}"]
            for row, about in zip(shown["rows"], abouts)
        }
        nothing = ["-"] * (len(header) - 2)
        names = ["server", *(one.recipe for one in done.tried)]
        cells = [rows.get(name, [name, "failed", *nothing]) for name in names]
        yield table("Recipes", header, cells)
    for one in done.tried:
        if one.why:
            yield f"{one.recipe}: {one.why}"
        for board, text in (one.uncounted or {}).items():
            yield f"{one.recipe}: not counted on {board}: {text}"
    yield (
        f"{done.calibrated} samples calibrate, {done.judged} others judge (drawn by seed "
        f"{done.seed})"
    )
    if done.page is not None:
        yield f"page: {done.page}"
    if done.chosen is None:
        yield "None of them holds its limits: ship none of them."
        return
    best, why = done.chosen
    yield f"Recommended: {best.recipe}, {why}."
    assert best.judged is not None
    yield from (f"not seen: {text}" for text in best.judged.seen.unseen)
    yield f"it lies in {best.bundle}, and this makes it again:"
    yield Verbatim(best.command)
