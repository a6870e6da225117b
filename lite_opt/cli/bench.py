"""`paddle-edge bench`: latency, for one or more thread counts."""

from __future__ import annotations

from typing import Any

import click

from lite_opt.bench import bench
from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.views import latency

__all__ = ["command"]


@click.command("bench", cls=opt.Command)
@click.argument("model", metavar="BUNDLE|MODEL", type=opt.Reads())
@opt.ENGINE
@opt.ON_SERVER
@click.option(
    "--threads",
    type=opt.NUMBERS,
    default="1",
    show_default=True,
    help="Thread counts to compare.",
)
@click.option("--warmup", type=int, default=5, show_default=True, help="Unmeasured inferences.")
@click.option("--repeat", type=int, default=50, show_default=True, help="Measured inferences.")
@opt.PARAMS
@opt.check_shape("Shape of the random tensor.")
@opt.JSON
@opt.DEBUG
def command(model: str, as_json: bool, **options: Any) -> None:
    """Measure the latency of one sample, for one or more thread counts.

    On an emulated board (--device qemu-aarch64, qemu-arm) latencies are the emulator's and say
    nothing: executed ARM instructions are counted instead, on one thread. They are a model of the
    cost, the same number each time, and not a latency.

    \b
    Examples:
      paddle-edge bench cat.bundle --threads 1,2,4
      paddle-edge bench inference/ --engine paddle --repeat 200
      paddle-edge bench cat.bundle --engine native --device qemu-aarch64
    """
    with watching(as_json) as watch:
        found = bench(model, watch=watch, **options)
    tell(found.to_json(), latency.view(found), as_json=as_json)
