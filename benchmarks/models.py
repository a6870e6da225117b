"""Writes docs/models.md: the five classifiers of PaddleClas' page "other models", measured.

    python benchmarks/models.py [--work FOLDER] [--only SqueezeNet1_1,AlexNet]
                                [--table speed|recipes]

Each is built from paddleclas with settled statistics, exported by Paddle, converted for arm and
x86 with the self-check, and measured on both engines here; then converted in every recipe. The
two tables of the page can be written apart, so that one does not wait for the other. Exits 1 where
a network does not agree with its source, or SqueezeNet1_1 is not as small as WANTED says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.judge.compare import Report, compare
from lite_opt.model.load import load, save
from lite_opt.recipes import RECIPES, Recipe, recipe
from lite_opt.views.describe import describe
from lite_opt.views.table import size
from py_runner.data.dataset import dataset
from py_runner.data.random_samples import random_samples
from py_runner.errors import ConvertError
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import read_nb
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
REPEATS = 10
# Images to calibrate with, and others to judge by: few of the large networks, which take long.
CALIBRATION_IMAGES = {"DarkNet53": 8, "SENet154_vd": 4}
MOST_CALIBRATION_IMAGES = 32
JUDGED_IMAGES = 8
NOISE = 0.01  # of the RMS of a layer's weights: rounding them to int8 is 0.004 to 0.008
# Largest ratio of a recipe's arm file to that of fp32; most calib, least share of int8 layers.
WANTED_MODEL = "SqueezeNet1_1"
WANTED = {"int16-weights": 0.53, "int8-weights": 0.28, "int8": 0.29}
WANTED_CALIB = 10
WANTED_SHARE = 0.95
_LAYERS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "fc")

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

RECIPES_TITLE = "## In every recipe"
RECIPES_INTRODUCTION = f"""{RECIPES_TITLE}

The same networks, as files for arm. Kernels are counted in the file: int8 / fp16 / others (of
floats, or that only move data); `calib` are conversions between int8 and float among them; layers
are those with weights: {{layers}}.

Agreement is with the source model on the server engine, over logits, on {{judged}} seeded images
that took no part in calibration. Of fp32 and of weights alone it is the x86 engine's, on a file
of the same recipe; of fp16 and int8 it is that of a simulation on the server engine, because
Paddle Lite has no right kernels of theirs for x86. Where an ARM engine is installed it judges
instead, and the column says so. int8 was calibrated with {{calibration}} seeded images ({{few}}),
by `hist`.

The weights are random, so sizes, kernels and dtypes are those of the trained networks and the
agreement is not: to these networks images look much alike. Between the judged images a logit
moves by {{response}} of the spread of all logits, so top-1 agreement says little, and a loss
that is small in decibels may be as large as what tells one image from another. And what one layer
gets wrong, the next ones may amplify: with Gaussian noise of {{noise}} of a layer's RMS on its
weights, about what rounding to int8 is, the source models themselves come to {{shaken}}
on the server engine. That is what FAILED below means where the x86 engine passes in fp32: the
loss is more than the recipe's limit allows, so no bundle is left, and sizes are those of one made
with `--no-check`. Networks with trained weights are judged in [quantising.md](quantising.md).

| model | recipe | arm .nb | to fp32 | kernels int8 / fp16 / others | calib | layers in int8 | \
weights | judged by | cosine | SQNR dB | top-1 agreement | check |
|---|---|---:|---:|---:|---:|---:|---|---|---:|---:|---:|---|
"""


def network(name: str, work: Path) -> Path:
    """An export of a network, made once."""
    folder = work / name
    if not (folder / "inference.pdmodel").exists():
        zoo.export(name, folder, export="legacy")
    return folder


def measure(name: str, work: Path) -> dict[str, Any]:
    """Convert, check and time one network."""
    folder = network(name, work)
    facts = describe(folder)
    done = convert(folder, work / f"{name}.bundle", force=True)
    if done.bundle is None:
        assert done.report is not None
        raise SystemExit(f"{name}: {'; '.join(done.report.failures)}")
    assert done.report is not None
    samples = random_samples(done.bundle.inputs, count=1, image=done.bundle.image)
    edge = run(done.bundle.model("x86"), samples, warmup=2, repeat=REPEATS)
    source = Source.of(load(folder)).model(work)
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


@dataclass(frozen=True)
class Made:
    """One network in one recipe: the bundle, and how its self-check came out.

    `bundle` is None where none could be made, `report` where nothing judged it. `failure` is why
    it did not pass, or "".
    """

    bundle: Bundle | None
    report: Report | None
    failure: str

    @property
    def int8_layers(self) -> tuple[int, int]:
        """Of the layers with weights in the arm file: those on int8 kernels, and all."""
        assert self.bundle is not None
        ops = read_nb(self.bundle.path / self.bundle.targets["arm"].file).ops
        layers = [op.precision for op in ops if op.type in _LAYERS]
        return layers.count("int8"), len(layers)


def calibration_images(name: str) -> int:
    """How many images a network is calibrated with."""
    return CALIBRATION_IMAGES.get(name, MOST_CALIBRATION_IMAGES)


def make(name: str, how: Recipe, work: Path) -> Made:
    """Convert one network by a recipe and judge it. What fails is converted again unjudged, to
    say what the file would have been."""
    folder, out = network(name, work), work / f"{name}.{how.name}.bundle"
    calibration, judged = work / f"{name}.calibration.npy", work / f"{name}.judged.npy"
    spec = zoo.FIVE[name]
    np.save(calibration, zoo._images(spec, calibration_images(name), seed=300))
    np.save(judged, zoo._images(spec, JUDGED_IMAGES, seed=301))
    given = calibration if how.calibration else None
    try:
        done = convert(
            folder, out, recipe=how, calibration=given, samples=judged,
            check_samples=JUDGED_IMAGES, force=True,
        )  # fmt: skip
        if done.bundle is not None:
            return Made(done.bundle, done.report, done.bundle.check.get("reason", ""))
        assert done.report is not None
        failure = "; ".join(done.report.failures)
        unjudged = convert(
            folder, out, recipe=how, calibration=given, target=["arm"], check=False, force=True
        )
        return Made(unjudged.bundle, done.report, failure)
    except ConvertError as error:
        return Made(None, None, str(error).removeprefix(f"{folder / 'inference.pdmodel'}: "))


def shaken(name: str, work: Path, reference: Run) -> float:
    """SQNR in dB of the source model with noise on its weights, both on the server engine."""
    program = load(network(name, work))
    random = np.random.default_rng(0)
    for parameter, value in program.params.items():
        if value.ndim > 1:
            noise = NOISE * np.sqrt(np.mean(value**2)) * random.standard_normal(value.shape)
            program.set_param(parameter, (value + noise).astype(np.float32))
    inputs = tuple(program.inputs)
    samples = dataset(work / f"{name}.judged.npy", inputs=inputs)
    with tempfile.TemporaryDirectory() as temporary:
        files = save(program, temporary)
        assert files.params is not None
        model = Model(name, "", "int8-weights", (files.model, files.params), inputs)
        return compare(reference, run(model, samples, engine="paddle")).outputs[0].sqnr_db


def recipe_row(name: str, how: str, made: Made, fp32: Made) -> str:
    """One line of the second table."""
    # Without the names of the output and of the worst sample: they say nothing here.
    failure = made.failure.rpartition("': ")[2] if made.report else made.failure
    check = f"FAILED: {failure.partition(', worst')[0]}" if failure else "passed"
    cells = [name, how, *[""] * 10, check]
    if made.bundle is not None:
        arm = made.bundle.targets["arm"]
        counts: Counter[str] = Counter()
        for kernel, count in arm.kernels.items():
            precision = kernel.partition("/")[2]
            counts[precision if precision in ("int8", "fp16") else "others"] += count
        cells[2] = size(arm.bytes)
        cells[3] = f"{size_ratio(made, fp32):.4f}"
        cells[4] = f"{counts['int8']} / {counts['fp16']} / {counts['others']}"
        cells[5] = str(arm.calib)
        cells[6] = "{} of {}".format(*made.int8_layers)
        cells[7] = ", ".join(f"{dtype} {size(count)}" for dtype, count in arm.weights.items())
    if made.report is not None:
        output, engine = made.report.outputs[0], made.report.candidate["engine"]
        assert made.report.top1_agreement is not None
        cells[8] = {"lite": "x86 engine", "paddle": "simulation", "native": "ARM engine"}[engine]
        cells[9] = f"{output.cosine:.7f}"
        cells[10] = f"{output.sqnr_db:.1f}"
        cells[11] = f"{made.report.top1_agreement:.1%}"
    return f"| {' | '.join(cells)} |\n"


def size_ratio(made: Made, fp32: Made) -> float:
    """Bytes of the arm file, by those of fp32."""
    assert made.bundle is not None and fp32.bundle is not None
    return made.bundle.targets["arm"].bytes / fp32.bundle.targets["arm"].bytes


def missed(made: dict[str, Made]) -> list[str]:
    """What WANTED_MODEL is not, in words."""
    failures = []
    for how, limit in WANTED.items():
        ratio = size_ratio(made[how], made["fp32"])
        if ratio > limit:
            failures.append(f"{how} is {ratio:.4f} of fp32, wanted {limit}")
    bundle = made["int8"].bundle
    assert bundle is not None
    calib, (quantized, layers) = bundle.targets["arm"].calib, made["int8"].int8_layers
    if calib > WANTED_CALIB:
        failures.append(f"int8 has {calib} calib, wanted {WANTED_CALIB}")
    if quantized < WANTED_SHARE * layers:
        failures.append(f"{quantized} of {layers} layers are in int8, wanted {WANTED_SHARE:.0%}")
    return [f"{WANTED_MODEL}: {failure}" for failure in failures]


def speed_table(names: list[str], work: Path) -> tuple[str, list[str]]:
    """The first part of the page. The second value is empty: what fails ends the script."""
    measured = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measured[name] = measure(name, work)
    first = next(iter(measured.values()))
    head = INTRODUCTION.format(
        paddle=first["facts"]["paddle_version"], samples=first["samples"], repeats=REPEATS
    )
    return head + "".join(row(name, m) for name, m in measured.items()), []


def recipes_table(names: list[str], work: Path) -> tuple[str, list[str]]:
    """The second part of the page, and what failed."""
    rows, failures, responses, noisy = [], [], [], []
    for name in names:
        made: dict[str, Made] = {}
        for how in RECIPES:
            print(f"{name} {how} ...", file=sys.stderr, flush=True)
            settings = {"samples": calibration_images(name)} if how == "int8" else {}
            made[how] = make(name, recipe(how, **settings), work)
            rows.append(recipe_row(name, how, made[how], made["fp32"]))
            if made[how].failure:
                failures.append(f"{name} {how}: {made[how].failure}")
            print(rows[-1], file=sys.stderr, end="", flush=True)
        fp32 = made["fp32"].bundle
        assert fp32 is not None
        reference = fp32.reference()
        logits = np.concatenate(next(iter(reference.outputs.values())))
        responses.append(zoo._figures(logits.astype("float64"))[1])
        noisy.append(f"{shaken(name, work, reference):.1f} dB ({name})")
        if name == WANTED_MODEL:
            failures += missed(made)
    few = ", ".join(f"{name}: {count}" for name, count in CALIBRATION_IMAGES.items())
    head = RECIPES_INTRODUCTION.format(
        judged=JUDGED_IMAGES,
        calibration=MOST_CALIBRATION_IMAGES,
        few=few,
        layers=", ".join(_LAYERS),
        noise=f"{NOISE:.0%}",
        shaken=", ".join(noisy),
        response=f"{min(responses):.1%} to {max(responses):.1%}",
    )
    return head + "".join(rows), failures


TABLES = {"speed": speed_table, "recipes": recipes_table}


def main() -> None:
    """Measure and write the page, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep exports and bundles here")
    parser.add_argument("--only", help="names, comma separated; the page is then printed instead")
    parser.add_argument("--table", choices=list(TABLES), help="write only this one")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(zoo.FIVE)
    speed, _, recipes = PAGE.read_text(encoding="utf-8").partition(f"\n{RECIPES_TITLE}\n")
    parts = {"speed": speed, "recipes": f"{RECIPES_TITLE}\n{recipes}"}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        chosen = [options.table] if options.table else list(TABLES)
        for table in chosen:
            parts[table], failed = TABLES[table](names, work)
            failures += failed
    if options.only:
        print("\n".join(parts[table] for table in chosen))
    else:
        PAGE.write_text("\n".join(parts.values()), encoding="utf-8")
        print(f"wrote {PAGE.name}")
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
