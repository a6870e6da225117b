"""What the kit costs over the bare engine, as ratios in one run: medians of interleaved repeats.

    python benchmarks/overhead.py convert|run|images|pir|quantize|sensitivity [--work FOLDER]
                                  [--repeats N]

convert   `paddle-edge convert --no-check --target arm` of AlexNet, against a process that runs
          Paddle Lite's optimizer on the same repaired files: time, and memory of the largest
          process of each
run       `run()` of SqueezeNet1_1 over one sample many times, against a loop round the predictor
pir       `load` and `repair` of SENet154_vd from Paddle 3's inference.json, against a
          process that runs the optimizer on the result: time; and the peak of the former in
          parameters' sizes
images    `run()` over 200 JPEG images of SqueezeNet1_1, against decoding, preprocessing and
          inference in one thread
quantize  calibrating SqueezeNet1_1 for recipe int8 with 100 JPEG images, from the model's files to
          the quantized one's, against a process that runs Paddle's PostTrainingQuantization on
          the same images: time, and the peak memory of all processes together
sensitivity   `quantize.sensitivity` of SqueezeNet1_1's 26 layers over 32 images, against a process
          that runs the float model 26 times over them: time, once with the start of either side's
          paddle and once against the passes alone

Prints one JSON object. Machines are noisy: a ratio is to be read with its spread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
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

from lite_opt.conversion.convert import convert
from lite_opt.judge.sensitivity import sensitivity
from lite_opt.model.load import load, stage
from lite_opt.passes.repair import repair
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import Calibration
from py_runner.data.dataset import dataset
from py_runner.data.decode import open_image
from py_runner.data.random_samples import random_samples
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Sample
from py_runner.watch import Watch

IMAGES = 200
CALIBRATION_IMAGES = 100
SENSITIVITY_IMAGES = 32
# Large enough that decoding and preprocessing take most of what an inference does: a camera's.
IMAGE_SIZE = (2048, 1536)
SMALL_IMAGE_SIZE = (500, 375)  # as in ImageNet

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


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[Any]]:
    """What each side answered in each round, the first of which is thrown away."""
    answers: dict[str, list[Any]] = {name: [] for name in sides}
    for index in range(repeats + 1):
        names = list(sides)
        for name in names if index % 2 else reversed(names):
            answer = sides[name]()
            if index:
                answers[name].append(answer)
    return answers


def compare(ours: Callable[[], Any], bare: Callable[[], Any], repeats: int) -> list[tuple]:
    """(ours, bare) results of interleaved rounds."""
    sides = interleaved({"ours": ours, "bare": bare}, repeats)
    return list(zip(sides["ours"], sides["bare"]))


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
    program = load(folder)
    repair(program)
    staged = work / "alexnet.repaired"
    staged.mkdir(exist_ok=True)
    files = stage(program, staged)
    out, bare_out = work / "alexnet.bundle", work / "bare.nb"
    command = [
        sys.executable, "-m", "lite_opt.cli.main", "convert", str(folder), "-o", str(out),
        "--no-check", "--target", "arm",
    ]  # fmt: skip
    bare = [
        sys.executable, "-c", BARE_OPT, str(files.model), str(files.params),
        str(bare_out.with_suffix("")),
    ]  # fmt: skip

    def process(argv: list[str]) -> tuple[float, int, str]:
        # Either makes a new file: a bare optimizer that writes over its old one finds the memory
        # of that one's pages at hand.
        shutil.rmtree(out, ignore_errors=True)
        bare_out.unlink(missing_ok=True)
        return measured_process(argv)

    pairs = compare(lambda: process(command), lambda: process(bare), repeats)
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
        run(model, samples, watch=Watch(step=lambda *_: times.append(time.perf_counter())))
        return (times[-1] - times[0]) / count

    def bare_loop() -> float:
        return float(measured_process(bare, **env)[2])

    return {
        "one_sample_repeated": ratio(compare(ours_repeating, bare_loop, repeats)),
        "samples_streamed": ratio(compare(ours_streaming, bare_loop, repeats)),
    }


def jpegs(work: Path, count: int = IMAGES, size: tuple[int, int] = IMAGE_SIZE) -> Path:
    """A folder of seeded photographs-like JPEG images."""
    from PIL import Image

    folder = work / f"jpegs{count}"
    if folder.exists():
        return folder
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
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
            watch=Watch(step=lambda *_: times.append(time.perf_counter())),
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
from lite_opt.model.load import load, stage
from lite_opt.passes.repair import repair
program = load(sys.argv[1])
repair(program)
stage(program, sys.argv[2])
print(json.dumps([time.perf_counter() - start, program.param_bytes]))
"""


def bench_pir(work: Path, repeats: int) -> dict[str, Any]:
    """Reading and repairing a large model, against optimizing it."""
    folder = work / "SENet154_vd.pir"
    if not (folder / "inference.json").exists():
        zoo.export("SENet154_vd", folder, export="pir")
    staged = work / "senet.repaired"
    staged.mkdir(exist_ok=True)
    ours = [sys.executable, "-c", LOAD, str(folder), str(staged)]

    def bare() -> tuple[float, int, str]:
        # Where no rule touched a parameter, they were not copied.
        own = staged / "inference.pdiparams"
        params = own if own.exists() else folder / "inference.pdiparams"
        argv = [sys.executable, "-c", BARE_OPT, str(staged / "inference.pdmodel")]
        return measured_process([*argv, str(params), str(work / "bare")])

    pairs = compare(lambda: measured_process(ours), bare, repeats)
    seconds = [(json.loads(a[2])[0], b[0]) for a, b in pairs]
    peaks = [(float(a[1]), float(json.loads(a[2])[1])) for a, _ in pairs]
    return {"seconds": ratio(seconds), "peak_memory_to_parameters": ratio(peaks)}


# The path of `convert --recipe int8` up to the quantized program.
QUANTIZE = """
import os, sys
from lite_opt.conversion.plan import Material
from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import calibrated
from py_runner.watch import QUIET
from lite_opt.model.load import load, save
from lite_opt.recipes import RECIPES
from lite_opt.passes.repair import repair
model, images, out = sys.argv[1:]
program = load(model)
data = Material.for_calibration(Source.of(program), RECIPES["int8"], images)
repair(program)
quantized = calibrated(program, RECIPES["int8"], data, QUIET)
os.makedirs(out, exist_ok=True)
save(quantized.program, out)
"""

BARE_QUANTIZE = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"
import paddle
from paddle.static.quantization import PostTrainingQuantization
from py_runner.data.decode import open_image
from py_runner.data.image_text import image_spec
model, images, out = sys.argv[1:]
paddle.enable_static()
image = image_spec(model + "/inference.yml")
files = sorted(os.scandir(images), key=lambda file: file.name)
quantization = PostTrainingQuantization(
    executor=paddle.static.Executor(paddle.CPUPlace()),
    model_dir=model,
    model_filename="inference.pdmodel",
    params_filename="inference.pdiparams",
    data_loader=lambda: ({"x": image.apply(open_image(file))} for file in files),
    batch_nums=len(files),
    algo="hist",
)
quantization.quantize()
quantization.save_quantized_model(out)
"""


def tree_process(argv: list[str]) -> tuple[float, float]:
    """Seconds, and the peak memory in bytes of a process and its descendants together."""

    def memory(pid: int) -> int:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        except OSError:  # it has ended
            return 0
        # The proportional set size: a page that n processes share counts 1/n in each. Resident
        # sizes would count all of a process twice whenever it forks.
        own = next((int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:"), 0)
        return own * 1024 + sum(memory(int(child)) for child in children.split())

    start, peak = time.perf_counter(), 0
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.2)  # reading it takes milliseconds of the machine that is measured
    if process.returncode:
        raise SystemExit(f"{argv[-3:]} exited with {process.returncode}")
    return time.perf_counter() - start, float(peak)


def bench_quantize(work: Path, repeats: int) -> dict[str, Any]:
    """The calibration of recipe int8, against Paddle's own on the same images."""
    folder = model_files("SqueezeNet1_1", work)
    images = jpegs(work, CALIBRATION_IMAGES, SMALL_IMAGE_SIZE)

    def process(script: str, out: str) -> tuple[float, float]:
        argv = [sys.executable, "-W", "ignore", "-c", script, str(folder), str(images)]
        return tree_process([*argv, str(work / out)])

    pairs = compare(
        lambda: process(QUANTIZE, "quantized"),
        lambda: process(BARE_QUANTIZE, "bare-quantized"),
        repeats,
    )
    return {
        "seconds": ratio([(a[0], b[0]) for a, b in pairs]),
        "peak_memory_bytes": ratio([(a[1], b[1]) for a, b in pairs]),
    }


PASSES = """
import os, sys, time
os.environ["FLAGS_enable_pir_api"] = "0"
import numpy as np
import paddle
model, images, count = sys.argv[1:]
paddle.enable_static()
executor = paddle.static.Executor(paddle.CPUPlace())
program, feeds, fetches = paddle.static.load_inference_model(
    model + "/inference", executor
)
images = np.load(images)
start = time.perf_counter()
for _ in range(int(count)):
    for image in images:
        executor.run(program, feed={feeds[0]: image[None]}, fetch_list=fetches)
print(time.perf_counter() - start)
"""


def bench_sensitivity(work: Path, repeats: int) -> dict[str, Any]:
    """Each layer alone in int8, against as many passes of the float model."""
    folder = model_files("SqueezeNet1_1", work)
    program = load(folder)
    images = zoo._images(zoo.FIVE["SqueezeNet1_1"], SENSITIVITY_IMAGES, seed=300)
    samples = [Sample(f"image[{i}]", {"x": image[None]}) for i, image in enumerate(images)]
    file = work / "sensitivity.npy"
    np.save(file, images)
    repair(program)
    quantized = Quantized.of(calibrate(program, samples[:8], Calibration()), program)
    layers = len(quantized.layers)
    passes = [sys.executable, "-W", "ignore", "-c", PASSES, str(folder), str(file), str(layers)]

    def ours() -> float:
        start = time.perf_counter()
        sensitivity(quantized, samples)
        return time.perf_counter() - start

    def bare() -> tuple[float, float]:
        seconds, _, text = measured_process(passes)
        return seconds, float(text)

    pairs = compare(ours, bare, repeats)
    return {
        "layers": layers,
        "samples": len(samples),
        "seconds": ratio([(a, b[0]) for a, b in pairs]),
        "seconds_to_passes_alone": ratio([(a, b[1]) for a, b in pairs]),
    }


BENCHMARKS = {
    "convert": bench_convert,
    "run": bench_run,
    "images": bench_images,
    "pir": bench_pir,
    "quantize": bench_quantize,
    "sensitivity": bench_sensitivity,
}


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
        # Compiled modules, as after `pip install`, also where the environment forbids them.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str((work / "pycache").absolute())
        result = BENCHMARKS[options.benchmark](work, options.repeats)
    load = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps({"benchmark": options.benchmark, "loadavg": load, **result}, indent=1))


if __name__ == "__main__":
    main()
