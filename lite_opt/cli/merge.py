"""`paddle-edge merge`: runs of the parts of a data set become one."""

from __future__ import annotations

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.views import merged
from py_runner.errors import UsageError
from py_runner.files.folder import check_free
from py_runner.files.url import Url
from py_runner.formats.run import Run

__all__ = ["command"]


@click.command("merge", cls=opt.Command)
@click.argument("parts", metavar="RUN...", nargs=-1, required=True, type=opt.Reads(urls=True))
@click.option(
    "-o", "--out", required=True, type=opt.Writes(urls=True), help="The run to write, also a URL."
)
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(parts: tuple[str | Url, ...], out: str | Url, force: bool, as_json: bool) -> None:
    """Make one run of those of the parts of a data set, which different devices may have answered.

    Refused where they are of different models, precisions, tasks or preprocessing, where two hold
    the same sample, where one is not complete, and where a shard of `run --shard` is missing.
    Shards are put in their order, other runs in that of the command.

    \b
    Examples:
      paddle-edge merge pi-1.run pi-2.run -o all.run
      paddle-edge merge part-*.run -o imagenet.run
      paddle-edge merge s3://bucket/part-1.run s3://bucket/part-2.run -o imagenet.run
    """
    if len(parts) < 2:
        raise UsageError(f"{parts[0]}: is one run alone: merge takes two or more")
    check_free(out, force=force, keep=parts)
    runs = [Run.open(part) for part in parts]
    names = [str(part) for part in parts]
    whole = Run.merge(runs, names=names)
    whole.save(out, force=force)
    document = {
        **whole.about(),
        "run": str(out),
        "samples": len(whole.samples),
        "parts": [{"run": part, "samples": len(run.samples)} for part, run in zip(names, runs)],
    }
    tell(document, merged.view(document), as_json=as_json)
