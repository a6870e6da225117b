"""Writes docs/tables.md: what PaddleClas' model pages have tables of, for five classifiers.

    python benchmarks/tables.py --work FOLDER [--only SqueezeNet1_1,AlexNet]
    python benchmarks/tables.py --work FOLDER --page

Accuracy is as published; parameters and operations are counted; the latency of the server engine
and of ONNX Runtime is measured here by batch and precision; executed ARM instructions of each
recipe are counted on emulated boards (docs/cross-compiling.md), of ONNX Runtime by the interpreter
that armlinux/toolchains/make_python.sh makes. Cells that need a GPU say so until this runs on a
machine that has one: started again there, with the same FOLDER, only those are measured.

Exports and results stay in FOLDER; an export that is there as FOLDER/NAME is taken.
`--page` writes the page of what was measured so far.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from lite_opt.bench import bench
from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from lite_opt.recipes import recipe
from lite_opt.views.describe import describe
from py_runner.data.random_samples import random_samples
from py_runner.errors import EngineError, PaddleEdgeError

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
BATCHES = (1, 4, 8)
REPEATS = 10
CALIBRATION = 8
BOARDS = {"pi4": "Pi 4", "pi5": "Pi 5"}
RECIPES = ("fp32", "int16-weights", "int8-weights", "int8")
# Device, whether with TensorRT, and precision -> how the column is called.
SERVERS = {
    ("cpu", False, "fp32"): "CPU, fp32",
    ("cpu+onednn", False, "fp32"): "CPU with oneDNN, fp32",
    ("gpu", False, "fp32"): "GPU, fp32",
    ("gpu", False, "fp16"): "GPU, fp16",
    ("gpu", True, "fp32"): "GPU with TensorRT, fp32",
    ("gpu", True, "fp16"): "GPU with TensorRT, fp16",
}
NEEDS_GPU = "needs a GPU"
NOT_YET = "not measured"
# Top-1 and top-5 of the trained weights, as PaddleClas publishes them.
_OTHERS = "docs/en/models/Others_en.md"
_SENET = "docs/en/models/SEResNext_and_Res2Net_en.md"
PUBLISHED = {
    "AlexNet": (0.567, 0.792, _OTHERS),
    "SqueezeNet1_0": (0.596, 0.817, _OTHERS),
    "SqueezeNet1_1": (0.601, 0.819, _OTHERS),
    "DarkNet53": (0.780, 0.941, _OTHERS),
    "SENet154_vd": (0.814, 0.955, _SENET),
}


class Results:
    """What was measured, by name and key, in a file of a folder."""

    def __init__(self, work: Path) -> None:
        self._store = work / "tables.json"
        self.all: dict[str, dict[str, Any]] = (
            json.loads(self._store.read_text(encoding="utf-8")) if self._store.exists() else {}
        )
        self._no_gpu = False  # on this machine, as the first cell that needs one has found

    def measure(self, name: str, key: str, act: Callable[[], Any]) -> None:
        """Measure unless that was done; why it cannot be, in words, is a result as well."""
        known = self.all.setdefault(name, {})
        if known.get(key) not in (None, NEEDS_GPU):
            return
        on_gpu = key.startswith("gpu")
        try:
            known[key] = NEEDS_GPU if on_gpu and self._no_gpu else act()
        except EngineError as error:
            known[key] = NEEDS_GPU if on_gpu else str(error)
            self._no_gpu |= on_gpu
        except PaddleEdgeError as error:
            known[key] = str(error)
        self._store.write_text(json.dumps(self.all, indent=1), encoding="utf-8")
        print(f"{name}: {key}: {known[key]}", file=sys.stderr, flush=True)


def cells(name: str, work: Path) -> dict[str, Callable[[], Any]]:
    """How each cell of a network is measured, the same for all in the same order."""
    folder, bundle = work / name, work / f"{name}.onnx.bundle"
    found: dict[str, Callable[[], Any]] = {"facts": partial(facts, folder)}
    for board in BOARDS:
        found[f"fp32 on {board}"] = partial(of_recipe, folder, work, "fp32", board)
        found[f"onnx on {board}"] = partial(of_onnx, folder, bundle, board)
    for kind in RECIPES[1:]:
        for board in BOARDS:
            found[f"{kind} on {board}"] = partial(of_recipe, folder, work, kind, board)
    for batch in BATCHES:
        for device, tensorrt, precision in SERVERS:
            found[server_key(device, tensorrt, precision, batch)] = partial(
                latency, folder, engine="paddle", device=device, tensorrt=tensorrt,
                precision=precision, batch=(batch,),
            )  # fmt: skip
        found[f"onnx, batch {batch}"] = partial(of_batch, folder, bundle, batch)
    return found


def of_recipe(folder: Path, work: Path, kind: str, board: str) -> int:
    """Instructions of the file for arm in a recipe."""
    bundle = made(folder, work / f"{folder.name}.{kind}.bundle", "arm", kind)
    return instructions(bundle, "native", board)


def of_onnx(folder: Path, bundle: Path, board: str) -> int:
    """Instructions of the ONNX file."""
    return instructions(made(folder, bundle, "onnx"), "onnx", board)


def of_batch(folder: Path, bundle: Path, batch: int) -> float:
    """Latency of the ONNX file."""
    return latency(made(folder, bundle, "onnx"), engine="onnx", batch=(batch,))


def server_key(device: str, tensorrt: bool, precision: str, batch: int) -> str:
    """What a cell of the server engine is stored under."""
    return f"{device}{'+tensorrt' if tensorrt else ''}, {precision}, batch {batch}"


def facts(folder: Path) -> dict[str, Any]:
    """Parameters and floating point operations, by the model's file."""
    told = describe(folder)
    return {name: told[name] for name in ("parameters", "flops", "paddle_version")}


def latency(subject: Path, **options: Any) -> float:
    """The least of one thread, in milliseconds a batch: what the machine does besides only adds."""
    found = bench(subject, warmup=1, repeat=REPEATS, **options)
    return float(found.runs[0]["latency"]["min_ms"])


def instructions(bundle: Path, engine: str, board: str) -> int:
    """Executed ARM instructions of one inference."""
    counted = bench(bundle, engine=engine, device=f"qemu-aarch64:{board}").arm_instructions
    assert counted is not None
    return counted


def made(folder: Path, bundle: Path, target: str, kind: str = "fp32") -> Path:
    """A bundle for one target, made once: what it says is judged by coverage.py and models.py."""
    if bundle.exists():
        return bundle
    options: dict[str, Any] = {"recipe": kind}
    if kind == "int8":
        source = Source.of(load(folder))
        samples = random_samples(source.inputs, count=CALIBRATION, image=source.image)
        data = bundle.with_suffix(".npy")
        np.save(data, np.concatenate([next(iter(sample.feeds.values())) for sample in samples]))
        options = {"recipe": recipe("int8", samples=CALIBRATION), "calibration": data}
    # The ONNX file is judged: of which form it is made is decided by that.
    convert(folder, bundle, target=[target], check=target == "onnx", check_samples=1, **options)
    return bundle


def page(results: dict[str, dict[str, Any]]) -> str:
    """The document, of what was measured so far."""
    names = [name for name in zoo.FIVE if name in results]
    lines = [
        "# Tables of five classifiers",
        "",
        "Written by `python benchmarks/tables.py`, but for the accuracies, which are those of the",
        "trained weights as PaddleClas publishes them: "
        + ", ".join(f"`{source}`" for source in (_OTHERS, _SENET))
        + " of its repository.",
        "The networks measured are its own, with random weights, exported by Paddle 3.3.1. A",
        "multiply-add is two operations.",
        "",
        "| model | top-1 | top-5 | parameters | GFLOPs |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in names:
        top1, top5, _ = PUBLISHED[name]
        told = results[name]["facts"]
        lines.append(
            f"| {name} | {100 * top1:.1f} % | {100 * top5:.1f} % | "
            f"{told['parameters'] / 1e6:.2f} M | {told['flops'] / 1e9:.2f} |"
        )
    lines += [
        "",
        "## Latency by batch and precision",
        "",
        f"Milliseconds a batch of {', '.join(map(str, BATCHES))}, the least of {REPEATS}, on one",
        "thread of an x86-64 that did other work as well: good for comparing columns roughly, no",
        f"benchmark of the processor. What says *{NEEDS_GPU}* the same script fills on a machine",
        "that has one.",
        "",
    ]
    columns = [*SERVERS.values(), "ONNX Runtime, CPU, fp32"]
    lines += [f"| model | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    for name in names:
        keys = [[server_key(*server, batch) for batch in BATCHES] for server in SERVERS]
        keys.append([f"onnx, batch {batch}" for batch in BATCHES])
        shown = [_together([_ms(results[name].get(key)) for key in group]) for group in keys]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += [
        "",
        "## ARM instructions by recipe and board",
        "",
        "Millions of executed instructions an inference of one image, one thread, counted under",
        "QEMU with the real engines: a model of the cost and not a latency. Paddle Lite is at",
        "commit 044ba5b. Weight-only recipes compute in float.",
        "",
    ]
    columns = [f"Lite {kind}" for kind in RECIPES] + ["ONNX Runtime fp32"]
    lines += [f"| model | board | {' | '.join(columns)} |", "|---|---" + "|---:" * 5 + "|"]
    for name in names:
        for board, called in BOARDS.items():
            keys = [f"{kind} on {board}" for kind in (*RECIPES, "onnx")]
            shown = [_millions(results[name].get(key)) for key in keys]
            lines.append(f"| {name} | {called} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _together(cells: list[str]) -> str:
    """One text for what is the same for all batches."""
    return cells[0] if len(set(cells)) == 1 else " / ".join(cells)


def _ms(value: float | str | None) -> str:
    return NOT_YET if value is None else value if isinstance(value, str) else f"{value:.1f}"


def _millions(value: int | str | None) -> str:
    return NOT_YET if value is None else value if isinstance(value, str) else f"{value / 1e6:.1f}"


def main() -> None:
    """Measure what is not known yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep everything here")
    parser.add_argument("--only", help="names, comma separated")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    results = Results(work)
    if not options.page:
        names = options.only.split(",") if options.only else list(zoo.FIVE)
        for name in names:
            if not (work / name / "inference.pdiparams").exists():
                zoo.export(name, work / name, export="pir")
        tables = [cells(name, work) for name in names]
        # Cell by cell and not network by network: what ends early has measured something of all.
        for key in tables[0]:
            for name, table in zip(names, tables):
                results.measure(name, key, table[key])
    PAGE.write_text(page(results.all), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
