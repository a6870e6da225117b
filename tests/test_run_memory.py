"""Runs of any length in the same memory: what reads one keeps a few bytes a sample of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from py_runner.formats.lazy import Made
from py_runner.formats.run import Run, SampleInfo

FEW, MANY = 1_500, 11_500  # both in files of their own
_SCRIPT = """
import sys
from pathlib import Path
from lite_opt.judge.by_sample import apart
from lite_opt.judge.compare import compare
from lite_opt.views.report.gallery import gallery
from py_runner.formats.run import Run

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

server, edge, task, out = sys.argv[1:]
runs = Run.open(server), Run.open(edge)
print("open", peak())
Run.merge([Run.open(part) for part in sorted(Path(out).glob("*.part"))]).save(Path(out, "all"))
print("merge", peak())
report = compare(*runs)
print("compare", peak())
if not task:
    assert report.disagreeing
    found = apart(*runs)
    assert gallery(*runs, found, report.disagreeing, data=None, most=20, pictures=0).total
    print("page", peak())
"""


def saved(folder: Path, count: int, task: str) -> list[str]:
    """Two runs of so many samples, of which one in a hundred is answered otherwise."""
    shape = (1, 2, 6, 6) if task else (1, 10)

    def answer(number: int, other: bool) -> np.ndarray:
        scores = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        return -scores if other and number % 100 == 0 else scores

    paths = []
    for other in (False, True):
        run = Run(
            engine="lite",
            engine_version="v2.13",
            device="cpu",
            machine="Linux x86_64",
            threads=1,
            precision="fp32",
            model={"name": "net", "sha256": "00ff"},
            samples=Made(lambda n: SampleInfo(f"{n}.png", f"{n:064x}", n % 10), range(count)),
            outputs={"out": Made(lambda n, other=other: answer(n, other), range(count))},  # type: ignore[misc]
            latency_ms=Made(lambda n: [1.0 + n % 3], range(count)),
            warmup=0,
            peak_memory_bytes=0,
            wall_s=1.0,
            created=str(other),
            task={"name": task} if task else None,
        )
        paths.append(str(run.save(folder / f"{count}-{other}")))
    parts = folder / f"{count}-parts"
    parts.mkdir()
    for start in range(0, count, 500):
        places = range(start, min(start + 500, count))
        run.select(places).save(parts / f"{start:06d}.part")
    return [*paths, task, str(parts)]


def peaks(folder: Path, count: int, task: str) -> dict[str, int]:
    """KB that a process had at most after each step."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *saved(folder, count, task)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: int(kb) for name, kb in (line.split() for line in done.stdout.splitlines())}


@pytest.mark.parametrize("task", ["", "segmentation"])
def test_ten_thousand_samples_more_cost_no_memory(tmp_path: Path, task: str) -> None:
    few, many = (peaks(tmp_path, count, task) for count in (FEW, MANY))
    more = {name: many[name] - few[name] for name in few}
    # Some 200 bytes a sample for the sums, ids and rates of both runs: an object for each
    # sample, or its answer, would be several times as much.
    assert all(kb < 3_500 for kb in more.values()), more
