"""What the kit costs over the bare engine, as ratios in one run: medians of interleaved repeats.

    python benchmarks/overhead.py convert|run|images|pir [--work FOLDER] [--repeats N]

convert   `paddle-edge convert --no-check --target arm` of AlexNet, against a process that runs
          Paddle Lite's optimizer on the same repaired files: time, and memory of the largest
          process of each
run       `run()` of SqueezeNet1_1 over one sample many times, against a loop round the predictor
pir       `Program.load` and `repair` of SENet154_vd from Paddle 3's inference.json, against a
          process that runs the optimizer on the result: time; and the peak of the former in
          parameters' sizes
images    `run()` over 200 JPEG images of SqueezeNet1_1, against decoding, preprocessing and
          inference in one thread

Prints one JSON object. Machines are noisy: a ratio is to be read with its spread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from lite_opt.convert import convert, random_samples
from lite_opt.program import Program
from lite_opt.repair import repair
from py_runner.bundle import Bundle
from py_runner.dataset import dataset
from py_runner.image import open_image
from py_runner.run import run

IMAGES = 200
# Large enough that decoding and preprocessing take most of what an inference does: a camera's.
IMAGE_SIZE = (2048, 1536)

BARE_OPT = """
import sys
from paddlelite.lite import Opt
model, params, out = sys.argv[1:]
opt = Opt()
opt.set_model_file(model)
opt.set_param_file(params)
opt.set_valid_places("arm")
opt.set_model_type("naive_buffer")
opt.set_optimize_out(out)
opt.run()
"""

BARE_LOOP = """
import sys, time
import numpy as np
from paddlelite import lite
model, sample, count = sys.argv[1:]
config = lite.MobileConfig()
config.set_model_from_file(model)
predictor = lite.create_paddle_predictor(config)
value = np.load(sample)
def once():
    predictor.get_input(0).from_numpy(value)
    predictor.run()
    return predictor.get_output(0).numpy().copy()
once()
start = time.perf_counter()
for _ in range(int(count)):
    once()
print((time.perf_counter() - start) / int(count))
"""


def model_files(name: str, work: Path) -> Path:
    """An export of a network, made once."""
    folder = work / name
    if not (folder / "inference.pdmodel").exists():
        zoo.export(name, folder, export="legacy")
    return folder


def measured_process(argv: list[str], **env: str) -> tuple[float, int, str]:
    """Seconds, peak memory in bytes of the largest process, and standard output."""
    # A process of its own for each, so that the peaks of earlier children do not count.
    wrapper = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "spent = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(json.dumps([done.returncode, spent, peak, done.stdout.decode()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *argv],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    code, seconds, peak, text = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{argv[:4]} exited with {code}")
    return seconds, peak, text


def compare(ours: Callable[[], Any], bare: Callable[[], Any], repeats: int) -> list[tuple]:
    """(ours, bare) results, interleaved, the first of each thrown away; order alternates."""
    ours(), bare()
    pairs = []
    for index in range(repeats):
        if index % 2:
            second, first = bare(), ours()
        else:
            first, second = ours(), bare()
        pairs.append((first, second))
    return pairs


def ratio(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Median of each side, the ratio of the medians, and the spread of the single ratios."""
    ours, bare = (statistics.median(values) for values in zip(*pairs))
    single = sorted(a / b for a, b in pairs)
    return {
        "ours": ours,
        "bare": bare,
        "ratio": round(ours / bare, 4),
        "ratios": [round(single[0], 4), round(single[-1], 4)],
        "repeats": len(pairs),
    }


def bench_convert(work: Path, repeats: int) -> dict[str, Any]:
    """The command against a bare optimizer process on the files it would be given."""
    folder = model_files("AlexNet", work)
    program = Program.load(folder)
    repair(program)
    staged = work / "alexnet.repaired"
    staged.mkdir(exist_ok=True)
    files = program.stage(staged)
    out = work / "alexnet.bundle"
    command = [
        sys.executable, "-m", "lite_opt.cli", "convert", str(folder), "-o", str(out),
        "--no-check", "--target", "arm", "--force",
    ]  # fmt: skip
    bare = [
        sys.executable, "-c", BARE_OPT, str(files.model), str(files.params), str(work / "bare"),
    ]  # fmt: skip
    pairs = compare(lambda: measured_process(command), lambda: measured_process(bare), repeats)
    return {
        "seconds": ratio([(a[0], b[0]) for a, b in pairs]),
        "peak_memory_bytes": ratio([(float(a[1]), float(b[1])) for a, b in pairs]),
    }


def squeezenet(work: Path) -> Bundle:
    """SqueezeNet1_1 as a bundle."""
    out = work / "squeezenet.bundle"
    if not out.exists():
        convert(model_files("SqueezeNet1_1", work), out, target=["x86"], check=False)
    return Bundle.open(out)


def bench_run(work: Path, repeats: int) -> dict[str, Any]:
    """Seconds an inference: the whole of run() without the start, against a bare loop."""
    bundle = squeezenet(work)
    model = bundle.model("x86")
    (sample,) = random_samples(model.inputs, count=1, image=bundle.image)
    file = work / "sample.npy"
    np.save(file, sample.feeds["x"])
    count = 100
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    bare = [sys.executable, "-c", BARE_LOOP, str(model.files[0]), str(file), str(count)]

    def ours_repeating() -> float:
        return run(model, [sample], repeat=count).latency["mean_ms"] / 1e3

    def ours_streaming() -> float:
        """Time from the first answer to the last: sending, hashing and receiving included."""
        samples = [type(sample)(str(i), sample.feeds) for i in range(count + 1)]
        times: list[float] = []
        run(model, samples, progress=lambda _: times.append(time.perf_counter()))
        return (times[-1] - times[0]) / count

    def bare_loop() -> float:
        return float(measured_process(bare, **env)[2])

    return {
        "one_sample_repeated": ratio(compare(ours_repeating, bare_loop, repeats)),
        "samples_streamed": ratio(compare(ours_streaming, bare_loop, repeats)),
    }


def jpegs(work: Path) -> Path:
    """A folder of seeded photographs-like JPEG images."""
    from PIL import Image

    folder = work / "jpegs"
    if folder.exists():
        return folder
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)
        image.save(folder / f"{index:04d}.jpg", quality=90)
    return folder


def bench_images(work: Path, repeats: int) -> dict[str, Any]:
    """Seconds for the whole data set, without starting the engine."""
    bundle = squeezenet(work)
    model, image = bundle.model("x86"), bundle.image
    assert image is not None
    folder = jpegs(work)
    files = sorted(folder.iterdir())
    parts: dict[str, float] = {}

    def ours() -> float:
        times: list[float] = []
        done = run(
            model,
            dataset(folder, inputs=model.inputs, image=image),
            progress=lambda _: times.append(time.perf_counter()),
        )
        parts["inference_s"] = sum(ms for (ms,) in done.latency_ms) / 1e3
        return (times[-1] - times[0]) * len(files) / (len(files) - 1)

    def bare() -> float:
        from paddlelite import lite

        config = lite.MobileConfig()
        config.set_model_from_file(str(model.files[0]))
        predictor = lite.create_paddle_predictor(config)
        prepared = 0.0
        start = time.perf_counter()
        for file in files:
            before = time.perf_counter()
            tensor = image.apply(open_image(file))
            prepared += time.perf_counter() - before
            predictor.get_input(0).from_numpy(tensor)
            predictor.run()
            predictor.get_output(0).numpy().copy()
        parts["bare_decode_and_preprocess_s"] = prepared
        return time.perf_counter() - start

    pairs = compare(ours, bare, repeats)
    result = ratio(pairs)
    result["speedup"] = round(1 / result["ratio"], 4)
    return {"seconds": result, "parts": {k: round(v, 3) for k, v in parts.items()}}


LOAD = """
import json, sys, time
start = time.perf_counter()
from lite_opt.program import Program
from lite_opt.repair import repair
program = Program.load(sys.argv[1])
repair(program)
program.stage(sys.argv[2])
print(json.dumps([time.perf_counter() - start, program.param_bytes]))
"""


def bench_pir(work: Path, repeats: int) -> dict[str, Any]:
    """Reading and repairing a large model, against optimizing it."""
    folder = work / "SENet154_vd.pir"
    if not (folder / "inference.json").exists():
        zoo.export("SENet154_vd", folder, export="pir")
    staged = work / "senet.repaired"
    staged.mkdir(exist_ok=True)
    load = [sys.executable, "-c", LOAD, str(folder), str(staged)]

    def bare() -> tuple[float, int, str]:
        # Where no rule touched a parameter, they were not copied.
        own = staged / "inference.pdiparams"
        params = own if own.exists() else folder / "inference.pdiparams"
        argv = [sys.executable, "-c", BARE_OPT, str(staged / "inference.pdmodel")]
        return measured_process([*argv, str(params), str(work / "bare")])

    pairs = compare(lambda: measured_process(load), bare, repeats)
    seconds = [(json.loads(a[2])[0], b[0]) for a, b in pairs]
    peaks = [(float(a[1]), float(json.loads(a[2])[1])) for a, _ in pairs]
    return {"seconds": ratio(seconds), "peak_memory_to_parameters": ratio(peaks)}


BENCHMARKS = {"convert": bench_convert, "run": bench_run, "images": bench_images, "pir": bench_pir}


def main() -> None:
    """Run one benchmark and print its JSON."""
    # The bare side of `images` runs in this process: one thread, like the engine child of run().
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--work", type=Path, help="keep models and images here")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = BENCHMARKS[options.benchmark](work, options.repeats)
    load = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps({"benchmark": options.benchmark, "loadavg": load, **result}, indent=1))


if __name__ == "__main__":
    main()
