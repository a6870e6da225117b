"""`paddle-edge inspect`: what a path holds."""

from __future__ import annotations

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.views import facts
from lite_opt.views.describe import describe
from py_runner.files.url import Url

__all__ = ["command"]


@click.command("inspect", cls=opt.Command)
@click.argument("path", type=opt.Reads(urls=True))
@click.option("--target", help="arm or x86: which operators of a model have kernels there.")
@opt.PARAMS
@opt.JSON
@opt.DEBUG
def command(path: str | Url, target: str | None, params: str | None, as_json: bool) -> None:
    """Say what a model, a .nb file, a bundle or a run is, without running it.

    \b
    Examples:
      paddle-edge inspect inference/
      paddle-edge inspect inference/ --target arm
      paddle-edge inspect cat.bundle/model.arm.nb
      paddle-edge inspect s3://bucket/edge.run
    """
    document = describe(path, params=params, target=target)
    tell(document, facts.view(document, f"{document['kind']} {path}"), as_json=as_json)
