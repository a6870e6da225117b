"""Writes docs/models.md: the five classifiers of PaddleClas' page "other models", measured.

    python benchmarks/models.py [--work FOLDER] [--only SqueezeNet1_1,AlexNet]

Each is built from paddleclas with settled statistics, exported by Paddle, converted for arm and
x86 with the self-check, and measured on both engines here. Exits 1 where one does not agree.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import zoo

from lite_opt.convert import Source, convert, random_samples
from lite_opt.describe import describe
from lite_opt.program import Program
from lite_opt.report import size
from py_runner.run import run

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
REPEATS = 10

INTRODUCTION = """# Five classifiers, measured

Written by `python benchmarks/models.py`. Networks of PaddleClas with random weights and settled
statistics, exported by Paddle {paddle} and converted with recipe fp32. Agreement is with the
source model on the server engine, on {samples} random images, over logits. Latencies are medians
of {repeats} inferences on one thread of the machine that wrote this page, an x86-64: the x86
engine of Paddle Lite is the checker, not the product, no ARM device was measured, and Paddle ran
its plain kernels, which are slower than oneDNN's. Memory is the peak of the whole engine
process. SENet154_vd needs more than a board with 1 GB has.

| model | parameters | GFLOPs | arm .nb | x86 .nb | operators | cosine | max \\|dp\\| | \
Lite x86 ms | Paddle ms | Lite memory | Paddle memory |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def measure(name: str, work: Path) -> dict[str, Any]:
    """Export, convert, check and time one network."""
    folder = work / name
    if not (folder / "inference.pdmodel").exists():
        zoo.export(name, folder, export="legacy")
    facts = describe(folder)
    done = convert(folder, work / f"{name}.bundle", force=True)
    if done.bundle is None:
        assert done.report is not None
        raise SystemExit(f"{name}: {'; '.join(done.report.failures)}")
    assert done.report is not None
    samples = random_samples(done.bundle.inputs, count=1, image=done.bundle.image)
    edge = run(done.bundle.model("x86"), samples, warmup=2, repeat=REPEATS)
    source = Source.of(Program.load(folder)).model(work)
    server = run(source, samples, engine="paddle", warmup=2, repeat=REPEATS)
    return {
        "facts": facts,
        "bundle": done.bundle,
        "output": done.report.outputs[0],
        "samples": done.report.samples,
        "edge": edge,
        "server": server,
    }


def row(name: str, m: dict[str, Any]) -> str:
    """One line of the table."""
    targets, facts, output = m["bundle"].targets, m["facts"], m["output"]
    cells = [
        name,
        f"{facts['parameters'] / 1e6:.2f} M",
        f"{facts['flops'] / 1e9:.2f}",
        size(targets["arm"].bytes),
        size(targets["x86"].bytes),
        f"{facts['op_count']} -> {targets['arm'].ops}",
        f"{output.cosine:.9f}",
        f"{output.max_probability_diff:.1e}",
        f"{m['edge'].latency['p50_ms']:.1f}",
        f"{m['server'].latency['p50_ms']:.1f}",
        size(m["edge"].peak_memory_bytes),
        size(m["server"].peak_memory_bytes),
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep exports and bundles here")
    parser.add_argument("--only", help="names, comma separated; the page is then printed instead")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(zoo.FIVE)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        measured = {}
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            measured[name] = measure(name, work)
    first = next(iter(measured.values()))
    page = INTRODUCTION.format(
        paddle=first["facts"]["paddle_version"], samples=first["samples"], repeats=REPEATS
    ) + "".join(row(name, m) for name, m in measured.items())
    if options.only:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")
        print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
