"""`paddle-edge layers`: the first layer at which edge and server diverge."""

from __future__ import annotations

from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.judge.layers import bundle_layers
from lite_opt.passes.repair import OPTIONAL
from lite_opt.subject import bundle_samples
from lite_opt.views import layers

__all__ = ["command"]


@click.command("layers", cls=opt.Command)
@click.argument("model", type=opt.Reads())
@click.argument("bundle", type=opt.Reads())
@click.option(
    "--quantized",
    type=opt.Reads(),
    help="Of a bundle of recipe int8: what convert --save-quantized wrote.",
)
@click.option(
    "--engine",
    type=click.Choice(("lite", "native")),
    default="lite",
    show_default=True,
    help="lite (x86; what that has no right kernels for is simulated on the server), or native: "
    "the engine of the device.",
)
@opt.DEVICE
@opt.no_passes(OPTIONAL)
@click.option("--samples", type=opt.Reads(), help="Data to run. Default: the bundle's samples.")
@click.option(
    "--limit", type=opt.COUNT, default=8, show_default=True, help="At most so many samples."
)
@click.option(
    "--taps", type=opt.COUNT, default=8, show_default=True, help="Variables to look at in a round."
)
@click.option("--all", "every", is_flag=True, help="Look at every layer in one round.")
@opt.PARAMS
@opt.JSON
@opt.DEBUG
def command(
    model: str,
    bundle: str,
    samples: str | None,
    limit: int,
    taps: int,
    every: bool,
    as_json: bool,
    **options: Any,
) -> bool:
    """Name the first layer at which the edge says something else than the server.

    MODEL is what BUNDLE was made from. Intermediate variables of both are compared, few at a time,
    because looking at one keeps the optimizer from fusing there. Exits 1 where a layer diverges,
    and where the engine refuses one or dies of it.

    \b
    Examples:
      paddle-edge layers inference/ cat.bundle
      paddle-edge layers inference/ cat8.bundle --quantized quantized/ --samples photos/
      paddle-edge layers inference/ cat.bundle --engine native --device qemu-aarch64:pi4
    """
    data = bundle_samples(bundle, samples, limit=limit)
    with watching(as_json) as watch:
        found = bundle_layers(
            model, bundle, samples=data, taps=None if every else taps, watch=watch, **options
        )
    tell(found.to_json(), layers.view(found, bundle), as_json=as_json)
    return bool(found)
