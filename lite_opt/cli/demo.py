"""`paddle-edge demo`: the whole path on real models and images."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.demo.demo import Demo, demo
from lite_opt.views import answers, comparison, pages
from lite_opt.views.table import Item

__all__ = ["command"]


@click.command("demo", cls=opt.Command)
@click.option(
    "-o",
    "--out",
    type=opt.Writes(),
    default="paddle-edge-demo",
    show_default=True,
    help="Where bundles, runs and reports are left.",
)
@click.option("--lines", type=int, default=200, show_default=True, help="Text lines to render.")
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(out: str, lines: int, force: bool, as_json: bool) -> bool:
    """Show the whole path on real models: convert, run on edge and server, compare.

    PP-OCR's text direction classifier on rendered text lines; a rendered page that PP-OCRv4 reads,
    drawn as both engines read it; EfficientNet-Lite0, trained on ImageNet, on photographs.

    \b
    Example:
      paddle-edge demo --lines 50 -o demo
    """
    with watching(as_json) as watch:
        done = demo(out, lines=lines, force=force, watch=watch)
    tell(done.to_json(), _view(done), as_json=as_json)
    return bool(done)


def _view(done: Demo) -> Iterator[Item]:
    yield from comparison.tables(done.text_lines, of="Text direction")
    yield comparison.verdict(done.text_lines)
    yield ""
    yield pages.side_by_side("A page of text: its lines", done.page.server, done.page.edge)
    (equal,) = (rate for rate in done.page.report.rates if rate.name == "lines equal")
    yield f"lines equal: {equal.value * equal.units:.0f} of {equal.units}"
    yield pages.verdict(done.page.report)
    yield ""
    yield answers.side_by_side("Photographs: the five best classes", done.photos)
    yield comparison.verdict(done.photo_report)
    yield ""
    yield from (f"{what}: {path}" for what, path in done.paths.items())
