"""What a command of the kit used: time, and memory of its own process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Used:
    """Seconds by the clock and of CPUs, those of its engine included; MB at the most (VmHWM), pages
    of files that it mapped included and its engine's not."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def used(checkout: Path, *words: object) -> Used:
    """Of a command, in a checkout of the kit. Ends this process where the command fails; a
    comparison that finds a difference does not."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    cpu_s, start = _cpu_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, words)],
        env=environment, cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    took = time.perf_counter() - start
    if done.returncode not in (0, 1) or "peak" not in done.stderr:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    peak_mb = int(done.stderr.split("peak ")[1].split()[0]) / 1024
    return Used(took, _cpu_s() - cpu_s, peak_mb)


def _cpu_s() -> float:
    """Of all children that have ended."""
    all_of_them = resource.getrusage(resource.RUSAGE_CHILDREN)
    return all_of_them.ru_utime + all_of_them.ru_stime
