"""Writes the table of docs/tasks.md: what the trained detector and segmenter find on each engine.

    python benchmarks/shapes.py [--pictures 200]

The models are those of `train_shapes.py` in tests/shapes, the pictures rendered by
`lite_opt/demo/shapes.py`, none of which they were trained on. The server is Paddle Inference on the
source models. int8 is calibrated by 64 other pictures and computed by its arithmetic on the server,
because x86 has no right kernels for it; with a board (PADDLE_EDGE_LITE_RUN_AARCH64) the ARM engine
under QEMU computes it as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lite_opt.conversion.convert import convert
from lite_opt.demo.shapes import write_shape_pictures
from lite_opt.judge.compare import Report, compare
from lite_opt.subject import opened
from lite_opt.views.table import percent
from py_runner.devices import BOARDS
from py_runner.formats.run import Run
from py_runner.inference import run

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "tests" / "shapes"
PAGE = ROOT / "docs" / "tasks.md"
MARK = "<!-- measured by benchmarks/shapes.py: -->"
ARM = "qemu-aarch64"
CALIBRATION = 64
# By model: its labels, and the rates of the table.
KINDS = {
    "detector": ("instances.json", "boxes at IoU 0.9", "mAP"),
    "segmenter": ("masks.txt", "pixels", "mIoU by labels"),
}


def main() -> None:
    """Render, convert, run and judge, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_shape_pictures(work / "data", count=options.pictures, seed=1)
        write_shape_pictures(work / "calibration", count=CALIBRATION, seed=3)
        rows = [row for kind in KINDS for row in measured(kind, work)]
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [HEADER, ["---"] * len(HEADER), *rows])
    PAGE.write_text(f"{head}{MARK}\n\n{table}\n", encoding="utf-8")


HEADER = ["model", "edge", "found alike", "95 % interval", "by labels, server", "edge", "lost"]


def measured(kind: str, work: Path) -> Iterator[list[str]]:
    """A row for each way to run a model."""
    truth, alike, figure = KINDS[kind]
    server = answers(MODELS / kind, work, engine="paddle")
    for what, edge in edges(kind, work):
        report = compare(server, edge, truth=work / "data" / truth)
        print(f"{kind}, {what}: {report.failures} {report.culprit}", file=sys.stderr, flush=True)
        yield row(f"{kind}", what, report, alike, figure)


def edges(kind: str, work: Path) -> Iterator[tuple[str, Run]]:
    """What runs the model, in words, and what it answers."""
    board = not BOARDS[ARM].missing()
    for recipe in ("fp32", "int8-weights", "int8"):
        bundle, quantized = work / f"{kind}.{recipe}.bundle", work / f"{kind}.quantized"
        how: dict[str, Any] = {"samples": work / "calibration" / "images"}
        if recipe == "int8":
            how = {"calibration": work / "calibration" / "images", "save_quantized": quantized}
        convert(MODELS / kind, bundle, recipe=recipe, check=False, **how)
        if recipe == "int8":
            yield "int8, on the server", answers(quantized, work, engine="paddle")
        else:
            yield f"x86, {recipe}", answers(bundle, work, engine="lite")
        if board:
            yield f"ARM, {recipe}", answers(bundle, work, engine="native", device=ARM)


def answers(model: Path, work: Path, **how: str) -> Run:
    """What an engine finds on the pictures."""
    with opened(model, engine=how["engine"], device=how.get("device", "cpu")) as subject:
        return run(subject.model, subject.samples(work / "data" / "images"), **how)


def row(kind: str, what: str, report: Report, alike: str, figure: str) -> list[str]:
    """One line of the table."""
    rates = {rate.name: rate for rate in report.rates}
    same, lost = rates[alike], rates[f"{figure}, points lost"]
    return [
        kind,
        what,
        f"{percent(same.value)} of {same.units} {same.unit}",
        f"{percent(same.low)} to {percent(same.high)}",
        *(f"{rates[f'{figure}, {who}'].value:.4f}" for who in ("reference", "candidate")),
        f"{lost.value:.2f} points",
    ]


if __name__ == "__main__":
    main()
