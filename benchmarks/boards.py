"""Writes what int8 gives on a Raspberry Pi 4 and a Pi 5, counted and checked on emulated boards.

    python benchmarks/boards.py --work FOLDER [--only SqueezeNet1_1,cls]

Needs an emulated board with a real Paddle Lite (docs/cross-compiling.md). Each model is converted
in fp32 and int8; the instructions of one inference are counted on both boards, with the CPU's
identity as it is by default ("auto") and off (LR_CPU=off). Then it is shown that the answers stand:
the direction classifier labels 320 text lines as the server does on either board, and every recipe
runs on every kind of core, on one thread and on several, with the same answers.

Bundles and results stay in FOLDER: started again, only what is missing is done. The tables replace
what stands between the marks in docs/raspberry-pi.md and docs/quantising.md; with --only they are
printed instead. Exits 1 where something is not as WANTED and the other limits here say.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from lite_opt.bench import count
from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_model
from lite_opt.demo.text_lines import write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.judge.numbers import Energies
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.recipes import RECIPES, recipe
from py_runner.errors import EngineError
from py_runner.formats.bundle import Bundle
from py_runner.inference import run

DOCS = Path(__file__).parents[1] / "docs"
MARKS = "<!-- measured by benchmarks/boards.py: -->", "<!-- until here -->"
KIND = "qemu-aarch64"
BOARDS = {"pi4": "Pi 4", "pi5": "Pi 5"}
# Most instructions of int8 by those of fp32, on the Pi 5.
WANTED = {
    "SqueezeNet1_1": 0.60,
    "MobileNetV1_x0_5": 0.60,
    "MobileNetV3_small_x1_0": 0.75,
    "cls": 1.0,
}
NAMES = {"cls": "PP-OCR direction classifier"}
CALIBRATION, LINES = 16, 320
CORES = ("a53", "a55", "a72", "a76", "max")
THREADS = (1, 4)
MORE_THREADS = (1, 2, 4)  # on the last of the cores
# Where nothing else is chosen by it, the engine's tiles of Winograd's are chosen by the number of
# threads; the identity of the CPU is a file that is read once and no part of an inference, but its
# name in the environment moves what lies in memory.
FLOAT_APART, INT8_APART, COUNTS_APART = 1e-5, 1e-4, 1e-3
LEAST_DB = 80.0  # of fp32 by the server's answer, as a part of a network alone


@dataclass
class Bench:
    """A folder of bundles and results, and what in it is not as it has to be."""

    work: Path
    failures: list[str] = field(default_factory=list)

    def known(self, key: str, measure: Callable[[], Any]) -> Any:
        """What was measured under a key, now or before."""
        store = self.work / "results.json"
        results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
        if key not in results:
            results[key] = measure()
            print(f"{key}: {results[key]}", file=sys.stderr, flush=True)
            store.write_text(json.dumps(results, indent=1), encoding="utf-8")
        return results[key]

    def fail(self, text: str) -> None:
        """Keep what is not as it has to be."""
        print(f"FAILED: {text}", file=sys.stderr, flush=True)
        self.failures.append(text)

    def bundle(self, name: str, how: str) -> Path:
        """A model in a recipe, made once. Nobody judges it but this script: random weights have
        no say in what a network costs."""
        work, out = self.work, self.work / f"{name}.{how}.bundle"
        if out.exists():
            return out
        chosen = recipe(how, samples=CALIBRATION) if how == "int8" else recipe(how)
        if name == "cls":
            model, image, kept = ocr_model("cls"), "ppocr-cls", LINES
            judged = write_text_lines(work / "lines.judged", count=LINES, seed=2)
            lines = work / "lines.calibration"
            calibration = write_text_lines(lines, count=2 * CALIBRATION, seed=1)
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


def counted(bench: Bench, name: str, how: str, board: str, switch: str) -> int:
    """The instructions of one inference."""

    def measure() -> int:
        path, device = str(bench.bundle(name, how)), f"{KIND}:{board}"
        with identity(switch):
            return count([path], [device], engine="native").instructions[path][device]

    found: int = bench.known(f"instructions {name} {how} {board} {switch}", measure)
    return found


def costs(bench: Bench, names: list[str]) -> list[str]:
    """The table of instructions."""
    head = [f"{title} {what}" for title in BOARDS.values() for what in ("fp32", "int8", "ratio")]
    off = [f"{title} int8, `LR_CPU=off`" for title in BOARDS.values()]
    lines = [_row(["", *head, *off]), _row(["---", *["---:"] * 8])]
    for name in names:
        cells = []
        for board in BOARDS:
            whole, small = (counted(bench, name, how, board, "auto") for how in ("fp32", "int8"))
            cells += [f"{whole / 1e6:.1f} M", f"{small / 1e6:.1f} M", f"{small / whole:.2f}"]
            if board == "pi5" and small > WANTED[name] * whole:
                bench.fail(f"{name}: int8 is {small / whole:.2f} of fp32, wanted {WANTED[name]}")
        for board in BOARDS:
            number = counted(bench, name, "int8", board, "off")
            cells.append(f"{number / 1e6:.1f} M")
            auto = counted(bench, name, "int8", board, "auto")
            if board == "pi4" and abs(number - auto) > COUNTS_APART * auto:
                bench.fail(f"{name}: LR_CPU changes what a Pi 4 runs: {auto}, off {number}")
        lines.append(_row([NAMES.get(name, name), *cells]))
    return lines


def labels(bench: Bench) -> list[str]:
    """How the direction classifier labels text lines on either board."""

    def measure(how: str, board: str) -> dict[str, Any]:
        made = Bundle.open(bench.bundle("cls", how))
        device = f"{KIND}:{board}"
        answers = run(made.model("arm"), made.read_samples(), engine="native", device=device)
        report = compare(made.reference(), answers)
        used = (answers.cpu or {}).get("engine_features", [])
        return {
            "passed": bool(report),
            "agreement": report.top1_agreement,
            "largest": max(output.max_probability_diff for output in report.outputs),
            "kernels": " and ".join(used) or "neither dot product nor fp16",
        }

    lines = [
        _row(["text lines", "recipe", "the engine uses", "labels as the server's", "max \\|dp\\|"]),
        _row(["---", "---", "---", "---:", "---:"]),
    ]
    for how in ("fp32", "int8"):
        for board, title in BOARDS.items():
            key = f"labels {how} {board}"
            found = bench.known(key, lambda how=how, board=board: measure(how, board))
            if not found["passed"] or found["agreement"] != 1:
                bench.fail(f"{key}: {found}")
            agreement = f"{found['agreement']:.1%} of {LINES}"
            figures = [found["kernels"], agreement, f"{found['largest']:.1e}"]
            lines.append(_row([title, how, *figures]))
    return lines


def matrix(bench: Bench, names: list[str]) -> list[str]:
    """Every recipe on every kind of core and number of threads: what the answers are apart."""
    lines = [_row(["", "recipe", *CORES]), _row(["---", "---", *["---"] * len(CORES)])]
    for name in names:
        for how in RECIPES:
            cells = []
            for core in CORES:
                key = f"threads {name} {how} {core}"
                found = bench.known(key, lambda *_, a=(name, how, core): _on_threads(bench, *a))
                cells.append(_cell(bench, key, how, found))
            lines.append(_row([NAMES.get(name, name), how, *cells]))
    return lines


def _on_threads(bench: Bench, name: str, how: str, core: str) -> dict[str, Any]:
    """The answers to one sample, on several numbers of threads."""
    made = Bundle.open(bench.bundle(name, how))
    server = next(iter(made.reference().outputs.values()))
    # Probabilities of 1 and 0 would be so whatever the engine does.
    open_ = int(np.argmin([np.abs(value).max() for value in server]))
    samples, first, apart = [made.read_samples()[open_]], None, 0.0
    against_server = Energies()
    for number in MORE_THREADS if core == CORES[-1] else THREADS:
        try:
            answers = run(
                made.model("arm"), samples, engine="native", device=f"{KIND}:{core}",
                threads=number,
            )  # fmt: skip
        except EngineError as error:
            return {"refused": re.sub(r"\S*/", "", str(error)), "lacks": lacks_fp16(str(error))}
        (value,) = next(iter(answers.outputs.values()))
        if first is None:
            first = value
            against_server.add(server[open_].ravel().astype("f8"), value.ravel().astype("f8"))
        apart = max(apart, float(abs(first - value).max() / abs(first).max()))
    return {"apart": apart, "sqnr_db": against_server.sqnr_db}


def _cell(bench: Bench, key: str, how: str, found: dict[str, Any]) -> str:
    if "refused" in found:
        if how != "fp16" or not found["lacks"]:
            bench.fail(f"{key}: {found['refused']}")
        return "no, by the CPU" if "CPU" in found["lacks"] else "no, by the library"
    # Integers are the same in whatever order they are added; kernels without dot product are also
    # chosen by the number of threads, and may round a value to the next step.
    exact = how == "int8" and key.endswith(CORES[-1])
    if found["apart"] > (0 if exact else INT8_APART if how == "int8" else FLOAT_APART):
        bench.fail(f"{key}: answers are {found['apart']:.1e} apart by the number of threads")
    if how == "fp32" and found["sqnr_db"] < LEAST_DB:
        bench.fail(f"{key}: {found['sqnr_db']:.0f} dB from the server")
    if not found["apart"]:
        return "the same"
    return f"{found['apart']:.0e} apart"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _write(page: str, lines: list[str]) -> None:
    """Replace what stands between the marks."""
    place = DOCS / page
    before, mark, rest = place.read_text(encoding="utf-8").partition(MARKS[0])
    assert mark, f"{page}: where is {MARKS[0]}?"
    after = rest.partition(MARKS[1])[2]
    text = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
    place.write_text(before + text + after, encoding="utf-8")


def main() -> None:
    """Measure, and write or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep bundles and results here")
    parser.add_argument("--only", help="names, comma separated; tables are then printed instead")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WANTED)
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.work)
    by_cost = costs(bench, names)
    answers = labels(bench) if "cls" in names else []
    by_core = matrix(bench, names)
    if options.only:
        print("\n".join([*by_cost, "", *answers, "", *by_core]))
    else:
        _write("quantising.md", [*by_cost, "", *answers])
        _write("raspberry-pi.md", by_core)
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
