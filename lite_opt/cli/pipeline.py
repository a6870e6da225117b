"""`paddle-edge pipeline`: several bundles, each of which takes what another found, become one."""

from __future__ import annotations

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.views import facts
from lite_opt.views.describe import describe
from py_runner.formats.pipeline import OcrOptions, Pipeline

__all__ = ["command"]

_BUNDLE = {"type": opt.Reads(), "metavar": "BUNDLE"}
_DEFAULT = OcrOptions()


@click.group("pipeline")
def command() -> None:
    """Make one bundle of several, each of which takes what another found.

    \b
    Example:
      paddle-edge pipeline ocr --det det.bundle --rec rec.bundle -o ocr.bundle
    """


@command.command("ocr", cls=opt.Command)
@click.option("-o", "--out", type=opt.Writes(), required=True, help="The pipeline to write.")
@click.option("--det", required=True, help="Where is text on a page.", **_BUNDLE)  # type: ignore[arg-type]
@click.option("--cls", help="Which lines stand on their heads.", **_BUNDLE)  # type: ignore[arg-type]
@click.option("--rec", required=True, help="What does a line say.", **_BUNDLE)  # type: ignore[arg-type]
@click.option(
    "--turn-score",
    type=float,
    default=_DEFAULT.turn_score,
    show_default=True,
    help="Turn lines of which --cls is surer than this.",
)
@click.option(
    "--line-score",
    type=float,
    default=_DEFAULT.line_score,
    show_default=True,
    help="Leave out lines that are read less surely.",
)
@click.option(
    "--batch",
    type=opt.COUNT,
    default=_DEFAULT.batch,
    show_default=True,
    help="Lines of like widths that are padded to the widest of them.",
)
@opt.FORCE
@opt.JSON
@opt.DEBUG
def ocr(
    out: str,
    det: str,
    cls: str | None,
    rec: str,
    turn_score: float,
    line_score: float,
    batch: int,
    force: bool,
    as_json: bool,
) -> None:
    """Make a pipeline that reads pages: a detector, a classifier of directions, a recognizer.

    The stages are bundles that `convert` made, with their preprocessing, thresholds and dictionary;
    they are copied. Lines go from one to the next as in PaddleOCR.

    \b
    Examples:
      paddle-edge convert det/ -o det.bundle --image ppocr-det --task text-detection
      paddle-edge convert cls/ -o cls.bundle --image ppocr-cls --labels directions.txt
      paddle-edge convert rec/ -o rec.bundle --image ppocr-rec --task text-recognition \\
        --labels ppocr_keys_v1.txt
      paddle-edge pipeline ocr --det det.bundle --cls cls.bundle --rec rec.bundle -o ocr.bundle
      paddle-edge run ocr.bundle --data pages/ -o edge.run --draw drawn/
    """
    stages = {"detection": det, "recognition": rec, **({"direction": cls} if cls else {})}
    options = OcrOptions(turn_score, line_score, batch)
    Pipeline.make(stages, out, options=options, force=force)
    document = describe(out)
    tell(document, facts.view(document, f"pipeline {out}"), as_json=as_json)
