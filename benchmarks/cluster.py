"""What it costs to spread a data set over workers, and what that makes of a large one, on paper.

    python benchmarks/cluster.py BUNDLE --data PICTURES --work FOLDER [--limit 400]

Answers the samples, by turns, with one engine alone, and so with all its processes on one CPU; on
local[1] and on local[2]; with two runs of a half each at the same time, which is what the CPUs have
to give; and on Ray clusters of one and of two nodes with one CPU each, which are processes of this
machine. Rates are of what a run of all samples takes more than one of the first few: engines and
nodes are there by then. Measure on a machine that has two CPUs to spare: what others take, two
workers lack and one does not. Then what a part costs who keeps it is measured by itself. Writes its
tables into docs/scale.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ray_cluster import Cluster

from py_runner.cluster.processes import local
from py_runner.cluster.ray_nodes import ray_at
from py_runner.cluster.schedule import Open
from py_runner.cluster.task import Piece
from py_runner.data.dataset import Dataset, dataset
from py_runner.data.image_text import image_spec
from py_runner.evaluation import evaluate
from py_runner.formats.bundle import Bundle
from py_runner.formats.parts import Begun, UnderWay
from py_runner.formats.run import Run
from py_runner.inference import bundle_target
from py_runner.job import Job
from py_runner.watch import Watch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/cluster.py writes from here -->", "<!-- to here, cluster -->"
ALONE, PINNED = "one engine alone", "one engine alone, on one CPU"
APART = "two runs of a half, at once"
PART_S = 2.0  # of a short benchmark
FEW = 4  # a run of the first few: of one in so many
PAPER_SAMPLES, PAPER_NODES, PAPER_CPUS = 1_200_000, 100, 4
CLASSES = 1000


def rate(job: Job, data: Dataset, out: Path, on: Open | None) -> tuple[float, int]:
    """Samples a second once all are at work: of all samples, less a run of the first few; parts."""
    few = data.select(range(len(data) // FEW))
    took, parts = zip(*(timed(job, some, out, on) for some in (few, data)))
    return (len(data) - len(few)) / (took[1] - took[0]), parts[1]


def timed(job: Job, data: Dataset, out: Path, on: Open | None) -> tuple[float, int]:
    """Seconds and parts of a run."""
    stood = ["1 parts"]
    start = time.perf_counter()
    evaluate(job, data, out, command=(), force=True, on=on, watch=Watch(state=stood.append))
    return time.perf_counter() - start, int(stood[-1].partition(" parts")[0].split()[-1])


def apart(job: Job, data: Dataset, work: Path) -> tuple[float, int]:
    """Two runs of half of the samples each, at the same time, that know nothing of each other."""
    outs = [work / f"half{index}.run" for index in (1, 2)]
    half = len(data) // 2
    halves = [data.cut(0, half), data.cut(half, len(data))]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        both = pool.map(rate, [job, job], halves, outs, [None, None])
        return sum(one for one, _ in both), 2


def keeping(run: Run, work: Path) -> dict[str, float]:
    """What it costs whoever keeps them: seconds of a part of so many samples, and bytes."""
    costs = {}
    for samples in (16, 256, 4096):
        places = np.arange(samples) % len(run.samples)
        answers = {
            "scores": [np.random.default_rng(n).random((1, CLASSES), np.float32) for n in places]
        }
        infos = [replace(run.samples[n], id=f"{place:07d}.jpg") for place, n in enumerate(places)]
        latency = [[1.0]] * samples
        part = replace(run, samples=infos, outputs=answers, latency_ms=latency, side_by_side=None)
        piece = Piece.of(part, 0, samples)
        begun = Begun(1, "", {}, 100 * samples, ())
        out = work / "keeping.run"
        shutil.rmtree(out, ignore_errors=True)
        took = []
        with UnderWay.begin(out, begun, piece.write, (0, samples, samples), force=False) as way:
            for number in range(1, 12):
                start = time.perf_counter()
                way.add(piece.write, (number * samples, (number + 1) * samples, samples))
                took.append(time.perf_counter() - start)
        shutil.rmtree(out)
        costs[f"{samples}"] = statistics.median(took)
        costs[f"{samples} bytes"] = len(piece.packed)
    return costs


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--image", default="paddleclas")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    job = Job(bundle.model(bundle_target("lite")), "lite", part_s=PART_S)
    image = image_spec(asked.image)
    data = dataset(asked.data.absolute(), inputs=bundle.inputs, image=image, limit=asked.limit)
    found: dict[str, list[tuple[float, int]]] = {}
    asked.work.mkdir(parents=True, exist_ok=True)

    def measure(name: str, on: Open | None) -> None:
        found.setdefault(name, []).append(rate(job, data, asked.work / "edge.run", on))
        print(name, found[name][-1], flush=True)

    cpus = os.sched_getaffinity(0)
    # As this process, for Ray has its workers yield to all others.
    with Cluster(niceness=os.getpriority(os.PRIO_PROCESS, 0)) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        for _ in range(asked.turns):
            measure(ALONE, None)
            os.sched_setaffinity(0, {max(cpus)})
            measure(PINNED, None)
            os.sched_setaffinity(0, cpus)
            measure("`local[1]`", local(1))
            measure("`local[2]`", local(2))
            found.setdefault(APART, []).append(apart(job, data, asked.work))
            print(APART, found[APART][-1], flush=True)
            cluster.have(1)
            measure("Ray, 1 node", ray_at("ray"))
            cluster.have(2)
            measure("Ray, 2 nodes", ray_at("ray"))
            cluster.have(0)
    costs = keeping(Run.open(asked.work / "edge.run"), asked.work)
    print(costs)
    write(bundle.name, asked.limit, found, costs)


def write(
    name: str,
    limit: int,
    found: dict[str, list[tuple[float, int]]],
    costs: dict[str, float],
) -> None:
    """The tables of docs/scale.md."""
    middle = {way: statistics.median(one[0] for one in several) for way, several in found.items()}
    header = f"| {name}, {limit} pictures | a second | of linear | of two CPUs | of two at once |"
    lines = [header, "|---|---|---|---|---|"]
    linear = {
        APART: 2 * middle[ALONE],
        "`local[2]`": 2 * middle["`local[1]`"],
        "Ray, 2 nodes": 2 * middle["Ray, 1 node"],
    }
    for way, per_s in middle.items():
        of = [linear[way], 2 * middle[PINNED], middle[APART]] if way in linear else []
        shares = " | ".join(f"{per_s / one:.2f}" for one in of) or "- | - | -"
        lines.append(f"| {way} | {per_s:.2f} | {shares} |")
    lines += ["", "| a part, 1,000 classes | on its way | to keep it |", "|---|---|---|"]
    for samples in (16, 256, 4096):
        size, took = costs[f"{samples} bytes"], costs[f"{samples}"]
        lines.append(f"| {samples:,} samples | {size / 1e6:.2f} MB | {took * 1e3:.1f} ms |")
    lines += ["", paper(middle["Ray, 1 node"], costs)]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


def paper(per_s: float, costs: dict[str, float]) -> str:
    """1.2 M pictures on 100 nodes, by what was measured."""
    workers = PAPER_NODES * PAPER_CPUS
    part_s = max(10.0, 0.5 * workers)
    ideal_s = PAPER_SAMPLES / (per_s * workers)
    each, bytes_each = costs["4096"] / 4096, costs["4096 bytes"] / 4096
    one = costs["16"] - 16 * each
    # Shares of what is left, a third of each worker's, until a part would be its least.
    rounds = 1 + ideal_s / part_s + 3 * max(1.0, -(-part_s // max(ideal_s / 3, 1)))
    parts = int(rounds * workers)
    keep_s = parts * one + PAPER_SAMPLES * each
    tail_s = 0.1 * part_s
    whole_s = max(ideal_s + tail_s, keep_s)
    return (
        f"On paper, {PAPER_SAMPLES / 1e6:.1f} M pictures on {PAPER_NODES} nodes of {PAPER_CPUS} "
        f"CPUs, each worker at {per_s:.1f} a second as here: {ideal_s:,.0f} s if nothing else cost "
        f"anything. Parts take {part_s:.0f} s at most, some {parts:,} in all. To keep one costs "
        f"the head {one * 1e3:.0f} ms, and {each * 1e6:.0f} us a sample: {keep_s:.0f} s in all, "
        f"{keep_s / ideal_s:.0%} of the run, while the nodes work; it receives "
        f"{PAPER_SAMPLES * bytes_each / ideal_s / 1e6:.1f} MB/s. At the end workers wait for the "
        f"last part, {tail_s:.0f} s at most: {whole_s:,.0f} s, {ideal_s / whole_s:.2f} of linear, "
        "and to start engines and to merge beside."
    )


if __name__ == "__main__":
    main()
