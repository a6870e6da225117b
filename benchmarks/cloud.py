"""What it costs to have pictures and a run in a bucket; the table is written to docs/scale.md.

    python benchmarks/cloud.py --work FOLDER [--samples 2000] [--turns 3]

The tiny classifier and the pictures of `scale_run.py`, so that all but the engine counts. The
bucket is that of a server of S3's protocol on this machine, moto's, which is one process of Python.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import s3fs
from scale_run import ROOT, bundle, pictures
from used import Used, used

PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/cloud.py writes from here -->", "<!-- to here, cloud -->"
PORT = 5599


def measure(work: Path, count: int, turns: int) -> None:
    """The run with pictures and answers here and there, in turns; the table."""
    here = pictures(work, count)
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
        there.put(str(here), "bucket/pictures", recursive=True)
        files = [f"bucket/pictures/{file.name}" for file in here.iterdir()]
        start = time.perf_counter()
        there.cat(files)
        alone_s = time.perf_counter() - start
        places = {
            "pictures and run here": ("", ""),
            "pictures in the bucket": ("s3://bucket/pictures", ""),
            "run in the bucket": ("", "s3://bucket/out.run"),
            "both in the bucket": ("s3://bucket/pictures", "s3://bucket/out.run"),
        }
        taken: dict[str, list[Used]] = {name: [] for name in places}
        for turn in range(turns):
            for name in list(places)[:: 1 if turn % 2 else -1]:
                data, out = places[name]
                words = [bundle(work), "--data", data or here, "-o", out or work / "out.run"]
                taken[name].append(used(ROOT, "run", *words, "--force"))
                print(name, taken[name][-1], flush=True)
    finally:
        server.kill()
        server.wait()
    lines = [f"| {count:,} pictures of 20x20 | seconds | a second | CPU s | MB |", "|---" * 5 + "|"]
    for name, several in taken.items():
        wall_s = statistics.median(one.wall_s for one in several)
        cpu_s = statistics.median(one.cpu_s for one in several)
        mb = max(one.peak_mb for one in several)
        lines.append(f"| {name} | {wall_s:.1f} | {count / wall_s:,.0f} | {cpu_s:.1f} | {mb:.0f} |")
    lines += ["", f"The server hands the same pictures out in {alone_s:.1f} s to whoever asks for "
              "all at once and does nothing with them."]  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    whole = before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2]
    PAGE.write_text(whole, encoding="utf-8")


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    measure(asked.work.absolute(), asked.samples, asked.turns)


if __name__ == "__main__":
    main()
