"""What large Runs cost to read: memory and time of compare, merge and save, by number of samples.

    python benchmarks/scale.py --work FOLDER [--samples 2000,50000] [--classes 1000]
    python benchmarks/scale.py --work FOLDER --baseline CHECKOUT

Makes two Runs of so many samples (answers of a classifier and the same with noise, in FOLDER) and
asks `paddle-edge` for each thing in a process of its own: peak memory is that process's VmHWM,
pages of files that it mapped included, and time is of the processor. Writes the table into
docs/scale.md. With `--baseline` compare runs in another checkout too, in turns, on Runs in the
format that it reads, and the page says how the two compare.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path

import numpy as np
from used import used

from py_runner.formats.lazy import Made
from py_runner.formats.run import Run, SampleInfo

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/scale.py writes from here -->", "<!-- to here -->"
PARTS = 16


def made(count: int, classes: int, *, candidate: bool) -> Run:
    """Answers of a classifier: probabilities with one class ahead, the candidate's with noise."""

    def answer(number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        scores = random.standard_normal((1, classes)).astype(np.float32)
        scores[0, number % classes] += 6
        if candidate:
            scores += np.random.default_rng(-1 - number + 2**40).normal(0, 0.02, (1, classes))
        shares = np.exp(scores - scores.max())
        return (shares / shares.sum()).astype(np.float32)

    numbers = range(count)
    return Run(
        engine="lite" if candidate else "paddle",
        engine_version="made",
        device="cpu",
        machine="Linux x86_64",
        threads=1,
        precision="int8" if candidate else "fp32",
        model={"name": "made", "sha256": "0" * 64},
        samples=Made(
            lambda n: SampleInfo(f"{n % 1000:03d}/{n}.jpg", f"{n:064x}", n % classes), numbers
        ),
        outputs={"scores": Made(answer, numbers)},
        latency_ms=Made(lambda n: [5 + n % 7 / 10], numbers),
        warmup=1,
        peak_memory_bytes=1 << 20,
        wall_s=1.0,
        created=f"2026-11-30T00:00:0{int(candidate)}+00:00",
    )


def runs(work: Path, count: int, classes: int) -> dict[str, Path]:
    """The Runs of so many samples: as they are written, in format 1, and in parts."""
    found = {}
    for candidate in (False, True):
        name = f"{'edge' if candidate else 'server'}-{count}x{classes}"
        run = None
        for kind, most in (("", 1000), ("-format1", 10**9)):
            found[name.split("-")[0] + kind] = folder = work / f"{name}{kind}.run"
            if not (folder / "run.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                run = run or made(count, classes, candidate=candidate)
                run.write(folder, most_inline=most)
    opened = Run.open(found["edge"])
    for part in range(PARTS):
        found[f"part{part}"] = folder = work / f"edge-{count}x{classes}-part{part}.run"
        if not folder.exists():
            opened.select(range(part * count // PARTS, (part + 1) * count // PARTS)).save(folder)
    return found


def commands(found: dict[str, Path], out: Path) -> dict[str, list[str]]:
    """What is measured, by the name that it has in the table."""
    both = [str(found["server"]), str(found["edge"])]
    parts = [str(found[f"part{part}"]) for part in range(PARTS)]
    return {
        "`compare`": ["compare", *both, "--json"],
        "`compare --html`": [
            "compare",
            *both,
            "--json",
            "--html",
            str(out / "page.html"),
            "--force",
        ],
        f"`merge` of {PARTS} parts": ["merge", *parts, "-o", str(out / "all.run"), "--force"],
        "`inspect`": ["inspect", both[1], "--json"],
    }


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", default="2000,50000")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    asked_for = parser.parse_args()
    counts = [int(count) for count in asked_for.samples.split(",")]
    made_of = {count: runs(asked_for.work, count, asked_for.classes) for count in counts}
    rows = []
    for name in commands(made_of[counts[0]], asked_for.work):
        cells = []
        for count in counts:
            several = [
                used(ROOT, *commands(made_of[count], asked_for.work)[name])
                for _ in range(asked_for.turns)
            ]
            seconds = statistics.median(one.cpu_s for one in several)
            cells.append((seconds, max(one.peak_mb for one in several)))
            print(name, count, cells[-1], flush=True)
        rows.append((name, cells))
    told = ""
    if asked_for.baseline:
        found = made_of[counts[-1]]
        told = against(found, asked_for.baseline, asked_for.turns, counts[-1])
    write(counts, asked_for.classes, rows, told)


def against(found: dict[str, Path], baseline: Path, turns: int, count: int) -> str:
    """compare here and in another checkout, in turns, in words."""
    old = ["compare", str(found["server-format1"]), str(found["edge-format1"]), "--json"]
    new = ["compare", str(found["server"]), str(found["edge"]), "--json"]
    ratios, memory = [], []
    for turn in range(turns):
        before, now = used(baseline, *old), used(ROOT, *new)
        ratios.append(now.cpu_s / before.cpu_s)
        memory.append(before.peak_mb)
        print(f"turn {turn}: {before} before, {now} now")
    return (
        f"Before runs were read bit by bit, `compare` of {count:,} samples took {max(memory):.0f} "
        "MB, pages of its files mostly; it takes "
        f"{statistics.median(ratios):.2f} of the time now."
    )


def write(
    counts: list[int], classes: int, rows: list[tuple[str, list[tuple[float, float]]]], told: str
) -> None:
    """The table of docs/scale.md, and what else was measured."""
    header = " | ".join(f"{count:,} samples" for count in counts)
    lines = [
        f"| {classes:,} classes, float32 | {header} | memory more |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for name, cells in rows:
        measured = " | ".join(f"{seconds:.1f} s, {mb:.0f} MB" for seconds, mb in cells)
        lines.append(f"| {name} | {measured} | {cells[-1][1] - cells[0][1]:+.1f} MB |")
    lines += ["", told] if told else []
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(
        before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2],
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
