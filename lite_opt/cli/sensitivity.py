"""`paddle-edge sensitivity`: which layers lose most in int8."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import new_file, tell, watching, write
from lite_opt.conversion.losses import layer_losses
from lite_opt.recipes import recipe as find_recipe
from lite_opt.views import sensitivity

__all__ = ["command"]


@click.command("sensitivity", cls=opt.Command)
@click.argument("model", type=opt.Reads())
@click.option(
    "--calibration", type=opt.Reads(), required=True, help="Data to calibrate and to measure with."
)
@opt.CALIBRATION
@click.option(
    "--samples",
    type=opt.COUNT,
    default=32,
    show_default=True,
    help="How many to measure with, held out from calibration where there are enough.",
)
@click.option("--plot", type=opt.Writes(), help="Draw the losses into this SVG file.")
@opt.PARAMS
@opt.IMAGE
@opt.LABELS
@opt.TASK
@opt.TRUTH
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    model: str,
    calibrating: dict[str, Any],
    plot: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which layers lose most when they are computed in int8.

    Each layer alone is quantized, the others stay in float; what that costs is measured on the
    server engine, in points of what the model's task is judged by: boxes, masks, lines or classes
    that come out otherwise, or with --truth mAP, mIoU and accuracy. Layers come worst first: give
    their names to `convert --float-layer`, or let `convert --max-float` or `--max-drop` choose.

    \b
    Examples:
      paddle-edge sensitivity inference/ --calibration photos/
      paddle-edge sensitivity inference/ --calibration val.txt --plot losses.svg
    """
    page = new_file(plot, force=force)
    chosen = find_recipe("int8", **calibrating)
    with watching(as_json) as watch:
        losses = layer_losses(model, recipe=chosen, watch=watch, **options)
    if page:
        write(page, sensitivity.drawing(losses, title=model))
    document = {"model": model, "layers": [asdict(loss) for loss in losses]}
    tell(document, sensitivity.view(losses, model), as_json=as_json)
