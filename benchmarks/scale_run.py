"""What a large run costs while it is made: the command's memory, and its speed against before.

    python benchmarks/scale_run.py --work FOLDER [--samples 2000,50000]
    python benchmarks/scale_run.py --work FOLDER --baseline CHECKOUT [--samples 10000] [--turns 7]
    python benchmarks/scale_run.py --work FOLDER --resume [--samples 20000]

A tiny classifier, so that all but the engine counts, answers pictures of 20x20 that are made in
FOLDER, by `paddle-edge run` in a process of its own. Memory is the peak (VmHWM) of that process
alone, without its engine. With `--baseline` the same command runs in another checkout too, in
turns, each time the other first, and the ratios of the speeds are printed: of the clock, and of the
CPU time of the command and its engine; the median of the turns, and of the best of each, which says
more on a machine that others use as well. With `--resume` a run is stopped near its end and gone
on with: with pictures as they were, and with all of them touched. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from used import used

from lite_opt.conversion.convert import convert
from py_runner.data.dataset import dataset
from py_runner.errors import StoppedError
from py_runner.evaluation import evaluate
from py_runner.formats.bundle import Bundle
from py_runner.job import Job
from py_runner.watch import Watch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import make_model  # noqa: E402

SIDE = 20


def pictures(work: Path, count: int) -> Path:
    """A folder of so many, each its own noise."""
    folder = work / f"pictures{count}"
    if not folder.exists():
        folder.mkdir(parents=True)
        draw = np.random.default_rng(count)
        for number in range(count):
            pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"p{number:06d}.png")
    return folder


def bundle(work: Path) -> Path:
    """The tiny classifier's."""
    out = work / "tiny.bundle"
    if not out.exists():
        model = make_model.save(make_model.classifier(), work / "tiny")
        image = f"resize=short:{SIDE},crop={make_model.SIDE}"
        if not convert(model, out, image=image, samples=pictures(work, 6)):
            sys.exit("the bundle fails its check")
    return out


def measured(work: Path, count: int, checkout: Path) -> dict[str, float]:
    """Seconds by the clock and of CPUs, and MB, of a run of so many samples."""
    data = pictures(work, count)
    found = used(checkout, "run", bundle(work), "--data", data, "-o", work / "out.run", "--force")
    return {name: round(value, 2) for name, value in asdict(found).items()}


def against(work: Path, count: int, baseline: Path, turns: int) -> None:
    """The run here and in another checkout, in turns."""
    places = {"before": baseline, "now": ROOT}
    turned: list[dict[str, dict[str, float]]] = []
    for turn in range(turns):
        order = list(places)[:: 1 if turn % 2 else -1]
        turned.append({name: measured(work, count, places[name]) for name in order})
        print(json.dumps({"turn": turn, **turned[-1]}), flush=True)
    told = {}
    for what in ("wall_s", "cpu_s"):
        before, now = ([one[name][what] for one in turned] for name in places)
        ratios = [a / b for a, b in zip(before, now)]
        told[what] = {
            "median": round(statistics.median(ratios), 3),
            "of the best": round(min(before) / min(now), 3),
        }
    print(json.dumps({"samples": count, "speed of before": told}))


def resumed(work: Path, count: int) -> dict[str, float]:
    """Seconds by the clock that it takes to go on with a run whose last samples are missing."""
    opened, out = Bundle.open(bundle(work)), work / "resumed.run"
    data = dataset(pictures(work, count), inputs=opened.inputs, image=opened.image)
    job = Job(opened.model("x86"), "lite")
    asked = itertools.count(1)
    stop = Watch(enough=lambda: next(asked) > count - 100)
    with suppress(StoppedError):
        evaluate(job, data, out, command=(), force=True, watch=stop)
    found = {}
    for what in ("as they were", "touched"):
        if what == "touched":
            for file in pictures(work, count).iterdir():
                os.utime(file)
        copy = shutil.copytree(out, work / "copy.run", dirs_exist_ok=True)
        start = time.perf_counter()
        evaluate(job, data, copy, command=(), resume=True)
        found[what] = round(time.perf_counter() - start, 2)
        shutil.rmtree(copy)
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", default="2000,50000")
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    work = asked.work.absolute()
    for count in map(int, asked.samples.split(",")):
        if asked.resume:
            print(json.dumps({"samples": count, **resumed(work, count)}), flush=True)
        elif asked.baseline:
            against(work, count, asked.baseline.absolute(), asked.turns)
        else:
            print(json.dumps({"samples": count, **measured(work, count, ROOT)}), flush=True)


if __name__ == "__main__":
    main()
