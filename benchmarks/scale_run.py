"""What a large run costs while it is made: the command's memory, and its speed against before.

    python benchmarks/scale_run.py --work FOLDER [--samples 2000,50000]
    python benchmarks/scale_run.py --work FOLDER --baseline CHECKOUT [--samples 10000] [--turns 7]
    python benchmarks/scale_run.py --work FOLDER --cloud [--samples 2000] [--turns 3]
    python benchmarks/scale_run.py --work FOLDER --resume [--samples 20000]

A tiny classifier, so that all but the engine counts, answers pictures of 20x20 that are made in
FOLDER, by `paddle-edge run` in a process of its own. Memory is the peak (VmHWM) of that process
alone, without its engine. With `--baseline` the same command runs in another checkout too, in
turns, each time the other first, and the ratios of the speeds are printed: of the clock, and of the
CPU time of the command and its engine; the median of the turns, and of the best of each, which says
more on a machine that others use as well. Prints one JSON object a line.

With `--cloud` pictures and run are in a bucket of a server of S3's protocol on this machine,
moto's, which is one process of Python, and the table in docs/scale.md is written. With `--resume`
a run is stopped near its end and gone on with: with pictures as they were, and with all touched.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from lite_opt.conversion.convert import convert
from py_runner.data.dataset import dataset
from py_runner.errors import StoppedError
from py_runner.evaluation import evaluate
from py_runner.formats.bundle import Bundle
from py_runner.job import Job
from py_runner.watch import Watch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/scale_run.py writes from here -->", "<!-- to here, cloud -->"
sys.path.insert(0, str(ROOT / "tests"))
import make_model  # noqa: E402

SIDE = 20
PORT = 5599
_CHILD = """
import sys
from lite_opt.cli.main import main
sys.argv = ["paddle-edge", *sys.argv[1:]]
try:
    main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak", peak.split()[1], file=sys.stderr)
"""


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


def measured(
    work: Path, count: int, checkout: Path, *, data: str = "", out: str = ""
) -> dict[str, float]:
    """Seconds by the clock and of CPUs, and MB, of a run of so many samples: those of a folder, or
    of `data`, into one, or `out`."""
    words = [bundle(work), "--data", data or pictures(work, count)]
    words += ["-o", out or work / "out.run", "--force"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "run", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or "peak" not in done.stderr:
        sys.exit(done.stderr)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_mb = int(done.stderr.split("peak ")[1].split()[0]) / 1024
    return {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "peak_mb": round(peak_mb, 1)}


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


def in_a_bucket(work: Path, count: int, turns: int) -> None:
    """The run with pictures and answers here and there, in turns; the table."""
    import s3fs

    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "mine",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(PORT)], **quiet)
    try:
        time.sleep(3)
        there = s3fs.S3FileSystem()
        there.mkdir("bucket")
        there.put(str(pictures(work, count)), "bucket/pictures", recursive=True)
        files = [f"bucket/pictures/{file.name}" for file in pictures(work, count).iterdir()]
        start = time.perf_counter()
        there.cat(files)
        alone_s = time.perf_counter() - start
        places = {
            "pictures and run here": ("", ""),
            "pictures in the bucket": ("s3://bucket/pictures", ""),
            "run in the bucket": ("", "s3://bucket/out.run"),
            "both in the bucket": ("s3://bucket/pictures", "s3://bucket/out.run"),
        }
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in places}
        for turn in range(turns):
            for name in list(places)[:: 1 if turn % 2 else -1]:
                data, out = places[name]
                taken[name].append(measured(work, count, ROOT, data=data, out=out))
                print(json.dumps({name: taken[name][-1]}), flush=True)
    finally:
        server.kill()
        server.wait()
    lines = [f"| {count:,} pictures of 20x20 | seconds | a second | CPU s | MB |", "|---" * 5 + "|"]
    for name, several in taken.items():
        wall_s, cpu_s, mb = (
            statistics.median(one[what] for one in several)
            for what in ("wall_s", "cpu_s", "peak_mb")
        )
        lines.append(f"| {name} | {wall_s:.1f} | {count / wall_s:,.0f} | {cpu_s:.1f} | {mb:.0f} |")
    lines += ["", f"The server hands the same pictures out in {alone_s:.1f} s to whoever asks for "
              "all at once and does nothing with them."]  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    whole = before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2]
    PAGE.write_text(whole, encoding="utf-8")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", default="2000,50000")
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cloud", action="store_true")
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    work = asked.work.absolute()
    for count in map(int, asked.samples.split(",")):
        if asked.cloud:
            in_a_bucket(work, count, asked.turns)
        elif asked.resume:
            print(json.dumps({"samples": count, **resumed(work, count)}), flush=True)
        elif asked.baseline:
            against(work, count, asked.baseline.absolute(), asked.turns)
        else:
            print(json.dumps({"samples": count, **measured(work, count, ROOT)}), flush=True)


if __name__ == "__main__":
    main()
