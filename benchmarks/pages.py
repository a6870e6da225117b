"""Writes the tables of docs/ocr.md: what the trained PP-OCRv4 reads on rendered pages.

    python benchmarks/pages.py [--work FOLDER] [--pages 200] [--rounded-pages N] [--arm-pages N]
        [--edge "ARM, fp32"]...

Pages of `lite_opt/demo/text_pages.py`: mixed fonts (Roboto, Source Sans, Source Serif from their
packages, and Pillow's own), sizes, colours, rotations and noise, whose every line is known. The
server is Paddle Inference on the source models; the edge is Paddle Lite's x86 engine, and with a
board (PADDLE_EDGE_LITE_RUN_AARCH64) the ARM engine under QEMU. int8 is computed by its arithmetic
on the server: x86 has no right kernels for it. What is in FOLDER already is not run again, and
edges that are not asked for keep their rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.text_lines import TEXT_LINE_LABELS, write_text_lines
from lite_opt.demo.text_pages import write_text_pages
from lite_opt.judge.pages import PagesReport, compare_pages
from lite_opt.model.load import load
from lite_opt.views.pages import shares
from lite_opt.views.table import percent
from py_runner.devices import BOARDS
from py_runner.formats.pages import Pages
from py_runner.formats.pipeline import Pipeline
from py_runner.pipeline.ocr import read_pages
from py_runner.tensors import Model
from py_runner.watch import Watch

PAGE = Path(__file__).parents[1] / "docs" / "ocr.md"
MARK = "<!-- measured by benchmarks/pages.py: -->"
STAGES = {"detection": "det", "direction": "cls", "recognition": "rec"}
CALIBRATED_WITH = {"det": "calibration", "cls": "lines/list.txt", "rec": "lines/upright.txt"}
PART, ARM_PART = 20, 5  # pages that are run at a time
CALIBRATION_PAGES, CALIBRATION_LINES = 24, 128
ARM = "qemu-aarch64"
# By the row of an edge: the file of its run, the recipe, and whether ARM runs it.
EDGES = {
    "x86, fp32": ("fp32", "fp32", False),
    "x86, int8-weights": ("weights", "int8-weights", False),
    "int8, on the server": ("int8", "int8", False),
    "ARM, fp32": ("arm-fp32", "fp32", True),
    "ARM, int8-weights": ("arm-weights", "int8-weights", True),
    "ARM, int8": ("arm-int8", "int8", True),
}


def main() -> None:
    """Render, convert, run and judge, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--rounded-pages", type=int)
    parser.add_argument("--arm-pages", type=int, default=10)
    parser.add_argument("--edge", dest="edges", action="append", choices=EDGES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(exist_ok=True)
        rounded = options.rounded_pages or options.pages
        limits = {
            what: options.arm_pages if arm else options.pages if recipe == "fp32" else rounded
            for what, (_, recipe, arm) in EDGES.items()
            if what in (options.edges or EDGES)
        }
        rows = measured(work, options.pages, limits)
    head, _, old = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(f"{head}{MARK}\n\n{merged(old, tables(rows))}", encoding="utf-8")


def measured(
    work: Path, pages: int, limits: Mapping[str, int]
) -> dict[str, tuple[Pages, PagesReport]]:
    """By what ran, on so many of the pages: its run, and how it compares with the server's."""
    data = work / "pages"
    if not data.exists():
        write_text_pages(data, count=pages)
    names = beside(work)
    source = servers(work)
    exact = pipeline(work, "fp32", names)
    most = max(limits.values())
    server = in_parts(work / "server.run", data, most, PART, lambda part: read(exact, part, source))
    rows = {}
    for what, limit in limits.items():
        name, recipe, arm = EDGES[what]
        if arm and BOARDS[ARM].missing():
            say(f"{what}: no ARM engine: {BOARDS[ARM].missing()}")
            continue
        made = pipeline(work, recipe, names)
        models = quantized(work) if what == "int8, on the server" else None
        device = ARM if arm else "cpu"
        run = in_parts(
            work / f"{name}.run", data, limit, ARM_PART if arm else PART,
            lambda part, made=made, models=models, device=device: read(  # type: ignore[misc]
                made, part, models, server, device
            ),
        )  # fmt: skip
        report = compare_pages(server, run, common=True, truth=data / "labels.txt")
        rows[what] = (run, report)
        say(f"{what}: {report.rates[0].value:.4%} {report.culprit}")
    return rows


def in_parts(path: Path, data: Path, limit: int, size: int, make: Callable[[Path], Pages]) -> Pages:
    """A run of the first pages, made in parts that are kept beside a path, so that it can go on."""
    names = sorted(file.name for file in data.glob("*.png"))[:limit]
    parts = []
    for begin in range(0, len(names), size):
        some = names[begin : begin + size]
        part = path.with_name(f"{path.stem}.{begin:04d}-{begin + len(some):04d}.run")
        if not part.exists():
            listed = data / f".{path.stem}.txt"
            listed.write_text("".join(f"{name}\n" for name in some))
            make(listed).save(part)
        parts.append(Pages.open(part))
    return Pages.merge(parts)


def read(
    made: Pipeline,
    data: Path,
    models: Mapping[str, Model] | None = None,
    against: Pages | None = None,
    device: str = "cpu",
) -> Pages:
    """Read pages: on the server where there are models, else on an edge engine."""
    engine = "paddle" if models else "lite" if device == "cpu" else "native"
    how: dict[str, Any] = {"models": models, "engine": engine, "device": device}
    if device != "cpu":
        how["warmup"] = 0  # an emulator's times mean nothing
    watch = Watch(step=lambda what, done, total: say(f"{made.name} {device}: {done} of {total}"))
    return read_pages(made, data, against=against, watch=watch, **how)


def beside(work: Path) -> dict[str, Path]:
    """The files of labels, and what is calibrated with."""
    files = {"direction": work / "directions.txt", "recognition": work / "keys.txt"}
    for stage, labels in (("direction", TEXT_LINE_LABELS), ("recognition", ocr_characters()[:-1])):
        files[stage].write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    if not (work / "calibration").exists():
        write_text_pages(work / "calibration", count=CALIBRATION_PAGES, seed=1)
        listed = write_text_lines(work / "lines", count=CALIBRATION_LINES, seed=1)
        rows = listed.read_text(encoding="utf-8").splitlines(keepends=True)
        upright = [row for row in rows if row.split()[-1] == "0"]
        (work / "lines" / "upright.txt").write_text("".join(upright), encoding="utf-8")
    return files


def pipeline(work: Path, recipe: str, names: Mapping[str, Path]) -> Pipeline:
    """The three models in a precision, put together."""
    made = work / f"{recipe}.bundle"
    if made.exists():
        return Pipeline.open(made)
    stages = {}
    for stage, kind in STAGES.items():
        stages[stage] = work / f"{kind}.{recipe}.bundle"
        if stages[stage].exists():
            continue
        say(f"converting {kind} to {recipe}")
        whole = {
            "calibration": work / CALIBRATED_WITH[kind],
            "save_quantized": work / f"{kind}.quantized",
        }
        tasks = {"det": "text-detection", "rec": "text-recognition"}
        convert(
            ocr_model(kind),
            stages[stage],
            recipe=recipe,
            image=f"ppocr-{kind}",
            task=tasks.get(kind),
            labels=names.get(stage),
            check=recipe == "fp32",
            **(whole if recipe == "int8" else {}),
        )
    return Pipeline.make(stages, made)


def servers(work: Path) -> dict[str, Model]:
    """The source models, for engine paddle."""
    return {stage: Source.of(load(ocr_model(kind))).model(work) for stage, kind in STAGES.items()}


def quantized(work: Path) -> dict[str, Model]:
    """The quantized Paddle models."""
    return {
        stage: Source.of(load(work / f"{kind}.quantized")).model(work)
        for stage, kind in STAGES.items()
    }


def tables(rows: Mapping[str, tuple[Pages, PagesReport]]) -> str:
    """The page's tables."""
    lines = [
        "| edge | pages | lines | lines equal | 95 % interval | characters | boxes at IoU 0.5 | "
        "right lines, server | edge | hmean, server | edge | what differs first |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for what, (_, report) in rows.items():
        rates = {rate.name: rate for rate in report.rates}
        equal = rates["lines equal"]
        cells = [
            what,
            str(report.pages),
            str(equal.units),
            percent(equal.value),
            f"{percent(equal.low)} to {percent(equal.high)}",
            percent(rates["characters"].value),
            percent(rates["boxes at IoU 0.5"].value),
            *(percent(rates[f"right lines, {who}"].value) for who in ("reference", "candidate")),
            *(
                percent(rates[f"hmean by labels, {who}"].value)
                for who in ("reference", "candidate")
            ),
            report.culprit.split(" (", 1)[0] or "nothing",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Steps fed the server's own input, the share that comes out alike:", ""]
    names = [step.name for step in next(iter(rows.values()))[1].steps if step.rate is not None]
    lines += [f"| edge | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for what, (_, report) in rows.items():
        found = {step.name: step.rate for step in report.steps}
        cells = [percent(rate.value) if (rate := found[name]) else "-" for name in names]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += ["", "Share of the time of a page, one thread, as far as this machine tells:", ""]
    steps = list(shares(next(iter(rows.values()))[0]))
    lines += [f"| edge | {' | '.join(steps)} |", "|---" * (len(steps) + 1) + "|"]
    for what, (run, _) in rows.items():
        if not EDGES[what][2]:  # an emulator's times mean nothing
            times = shares(run)
            cells = [percent(times[step] / sum(times.values())) for step in steps]
            lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def merged(old: str, new: str) -> str:
    """The new tables, with the rows of the old ones whose edges were not measured again."""
    result = []
    for before, now in zip(old.strip().split("\n\n"), new.strip().split("\n\n")):
        head = now.splitlines()[:2]
        if not now.startswith("| edge"):
            result.append(now)
            continue
        lines = [*before.splitlines()[2:], *now.splitlines()[2:]]
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
        result.append("\n".join([*head, *(rows[what] for what in EDGES if what in rows)]))
    return "\n\n".join(result) + "\n"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
