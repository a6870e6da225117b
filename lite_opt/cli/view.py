"""`paddle-edge view`: the page of a thing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import new_file, tell, write
from lite_opt.views.view import page_of

__all__ = ["command"]


@click.command("view", cls=opt.Command)
@click.argument("path", type=opt.Reads())
@click.option("-o", "--out", type=opt.Writes(), help="The page to write, instead of opening it.")
@click.option("--target", help="arm or x86: a model as it is repaired for it, and its kernels.")
@click.option(
    "--counts",
    type=opt.Reads(),
    help="What `bench MODEL --by-layer --json` printed: colour by executed ARM instructions.",
)
@opt.PARAMS
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    path: str,
    out: str | None,
    target: str | None,
    counts: str | None,
    params: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show a model, a .nb file, a bundle or a run on a page, and open it.

    Operators are listed in the order of execution, with the lines between them, by kernel and
    precision, coloured by what they cost: multiply-adds of a model, bytes of parameters of a file
    for a device, or counted instructions. A run shows its answers and latencies.

    \b
    Examples:
      paddle-edge view inference/
      paddle-edge view cat.bundle -o cat.html
      paddle-edge bench inference/ --by-layer --device qemu-aarch64:pi4 --json > layers.json
      paddle-edge view inference/ --counts layers.json
    """
    page = new_file(out, force=force)
    text = page_of(path, params=params, target=target, counts=counts)
    if page is None:
        page = Path(tempfile.mkdtemp(prefix="paddle-edge-view-")) / "index.html"
    write(page, text)
    opened = out is None and not as_json and click.launch(page.absolute().as_uri()) == 0
    tell({"page": str(page)}, [f"page: {page}" + (", opened" if opened else "")], as_json=as_json)
