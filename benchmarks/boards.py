"""What int8 costs on a Raspberry Pi 4 and a Pi 5, in executed ARM instructions, emulated.

    python benchmarks/boards.py [--work FOLDER] [--only SqueezeNet1_1,cls]

Needs an emulated board (docs/cross-compiling.md). Each model is converted in fp32 and int8; the
instructions of one inference are counted on both boards, with the CPU's identity as it is by
default ("auto") and off (LR_CPU=off). Then it is shown that the answers stand: the direction
classifier labels 320 text lines as the server does on either board, every recipe runs on CPUs
without dot product and fp16, and the number of threads changes no answer of int8, and those of
fp32 in their last bits. Prints tables, and exits 1 where something is not as WANTED says.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zoo

from lite_opt.bench import count
from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_model
from lite_opt.demo.text_lines import write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.recipes import RECIPES, recipe
from py_runner.errors import EngineError
from py_runner.formats.bundle import Bundle
from py_runner.inference import run

BOARDS = ("qemu-aarch64:pi4", "qemu-aarch64:pi5")
# Most instructions of int8 by those of fp32, on the Pi 5.
WANTED = {
    "SqueezeNet1_1": 0.60,
    "MobileNetV1_x0_5": 0.60,
    "MobileNetV3_small_x1_0": 0.75,
    "cls": 1.0,
}
NAMES = {"cls": "PP-OCR direction classifier"}
CALIBRATION, LINES = 16, 320
PLAIN = ("qemu-aarch64:a53", "qemu-aarch64:a72")
THREADS = (1, 2, 4)
FLOAT_APART = 1e-6


@contextmanager
def identity(switch: str) -> Iterator[None]:
    """LR_CPU for the processes that are started meanwhile."""
    before = os.environ.get("LR_CPU")
    os.environ["LR_CPU"] = switch
    try:
        yield
    finally:
        os.environ.pop("LR_CPU")
        if before is not None:
            os.environ["LR_CPU"] = before


def bundle(name: str, how: str, work: Path) -> Path:
    """A model in a recipe, made once. Nobody judges it but this script: random weights have
    no say in what a network costs."""
    out = work / f"{name}.{how}.bundle"
    if out.exists():
        return out
    chosen = recipe(how, samples=CALIBRATION) if how == "int8" else recipe(how)
    if name == "cls":
        model, image, kept = ocr_model("cls"), "ppocr-cls", LINES
        judged = write_text_lines(work / "lines.judged", count=LINES, seed=2)
        calibration = write_text_lines(work / "lines.calibration", count=2 * CALIBRATION, seed=1)
    else:
        model, image, kept = work / name, None, 4
        if not model.exists():
            zoo.export(name, model, export="legacy")
        spec = zoo.PUBLISHED.get(name) or zoo.NETWORKS[name]
        judged, calibration = work / f"{name}.judged.npy", work / f"{name}.calibration.npy"
        np.save(judged, zoo._images(spec, kept, seed=301))
        np.save(calibration, zoo._images(spec, CALIBRATION, seed=300))
    convert(
        model, out, recipe=chosen, image=image, samples=judged, check_samples=kept,
        calibration=calibration if how == "int8" else None, target=["arm"], check=False,
    )  # fmt: skip
    return out


def costs(names: list[str], work: Path) -> Iterator[str]:
    """The table of instructions; a line that begins with "FAILED" is not as wanted."""
    head = "Pi 4 fp32 | Pi 4 int8 | Pi 5 fp32 | Pi 5 int8 | int8 / fp32, Pi 4 | Pi 5"
    yield f"| | {head} | Pi 5 int8, `LR_CPU=off` |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name in names:
        made = {how: str(bundle(name, how, work)) for how in ("fp32", "int8")}
        found: dict[tuple[str, str, str], float] = {}
        for switch, recipes in (("auto", ("fp32", "int8")), ("off", ("int8",))):
            with identity(switch):
                paths = [made[how] for how in recipes]
                counted = count(paths, BOARDS, engine="native").instructions
            for how in recipes:
                for board, number in counted[made[how]].items():
                    found[board[-3:], how, switch] = number / 1e6
        if found["pi4", "int8", "off"] != found["pi4", "int8", "auto"]:
            yield f"FAILED: {name}: LR_CPU changes what a Pi 4 runs"
        cells = [
            f"{found[board, how, 'auto']:.2f} M"
            for board in ("pi4", "pi5")
            for how in ("fp32", "int8")
        ]
        ratios = [
            found[board, "int8", "auto"] / found[board, "fp32", "auto"] for board in ("pi4", "pi5")
        ]
        cells += [f"{ratio:.2f}" for ratio in ratios]
        cells.append(f"{found['pi5', 'int8', 'off']:.2f} M")
        yield f"| {NAMES.get(name, name)} | {' | '.join(cells)} |"
        if ratios[1] > WANTED[name]:
            yield f"FAILED: {name}: int8 is {ratios[1]:.2f} of fp32, wanted {WANTED[name]}"


def labels(work: Path) -> Iterator[str]:
    """How the direction classifier labels text lines on either board."""
    for how in ("fp32", "int8"):
        made = Bundle.open(bundle("cls", how, work))
        for board in BOARDS:
            samples = made.read_samples()
            answers = run(made.model("arm"), samples, engine="native", device=board)
            report = compare(made.reference(), answers)
            assert report.top1_agreement is not None
            failed = "" if report and report.top1_agreement == 1 else "FAILED: "
            yield (
                f"{failed}{how} on {board}: {report.top1_agreement:.1%} of {report.samples} labels "
                f"as on the server, engine uses {(answers.cpu or {}).get('engine_features')}"
            )


def plain(work: Path) -> Iterator[str]:
    """Every recipe on CPUs that have nothing but what all have. fp16 is refused, in words."""
    for how in RECIPES:
        made = Bundle.open(bundle("cls", how, work))
        for board in PLAIN:
            try:
                run(made.model("arm"), made.read_samples()[:1], engine="native", device=board)
                yield f"{'FAILED: ' if how == 'fp16' else ''}{how} runs on {board}"
            except EngineError as error:
                refused = how == "fp16" and "which this CPU lacks" in str(error)
                yield f"{'' if refused else 'FAILED: '}{how} on {board}: {error}"


def threads(work: Path) -> Iterator[str]:
    """How far answers are apart by the number of threads, on a CPU that has everything."""
    for how in ("fp32", "int8"):
        made = Bundle.open(bundle("SqueezeNet1_1", how, work))
        first = None
        for number in THREADS:
            answers = run(
                made.model("arm"), made.read_samples()[:2], engine="native",
                device="qemu-aarch64:max", threads=number,
            )  # fmt: skip
            values = next(iter(answers.outputs.values()))
            first = first or values
            largest = max(float(abs(a).max()) for a in first)
            apart = max(float(abs(a - b).max()) for a, b in zip(first, values)) / largest
            # In float the engine chooses tiles of Winograd's by the number of threads.
            failed = apart > (0 if how == "int8" else FLOAT_APART)
            yield (
                f"{'FAILED: ' if failed else ''}{how}, {number} threads: answers are "
                f"{apart:.1e} of the largest apart from those of one"
            )


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep exports and bundles here")
    parser.add_argument("--only", help="names, comma separated: their costs, nothing else")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WANTED)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        parts = [costs(names, work)]
        if not options.only:
            parts += [labels(work), plain(work), threads(work)]
        for part in parts:
            for line in part:
                failed |= line.startswith("FAILED")
                print(line, flush=True)
            print()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
