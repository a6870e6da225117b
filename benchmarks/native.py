"""What the native runner costs, as ratios in one run: medians of interleaved repeats.

    python benchmarks/native.py [inference] [picture] [frame] [size] [memory] [--work FOLDER]
                                [--repeats N]

Without a name: all of them. Builds the preset `host`, on the engine of the installed wheel, and in
it the programs of tests/native that do the timing. All of it runs on one thread.

inference   SqueezeNet1_1 through lr_set_input, lr_run and lr_output, against a loop over the bare
            engine's C++ API on the same file: the two take turns in one process
picture     from a JPEG file of 12 megapixels to the tensor of 224 x 224, without and with `draft`,
            against OpenCV and py_runner. OpenCV is twice there: as C++ (imread, resize, crop,
            arithmetic) where CMake finds it, and as opencv-python, whose cv2 does the same by the
            same functions. Each process gives its best of some; processes take turns.
            `draft` saves no entropy decoding: the more bytes a file has, the less it gains
frame       from the decoded pixels of 640 x 480 to that tensor, against the same
size        of `lite_run` and liblite_run, stripped
memory      peak of the command `lite_run`, with an array and with that picture, against that of the
            bare loop's process. The picture's bytes are those of the decoded pixels and the file

Prints one JSON object; "wanted" says what a ratio or size should be. Machines are noisy: a ratio is
to be read with its spread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from overhead import interleaved, measured_process, ratio, squeezenet
from PIL import Image

from py_runner.data.random_samples import random_samples
from py_runner.formats.bundle import Bundle

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "host"
PROGRAMS = BUILD / "tests" / "native"
LITE_RUN = BUILD / "armlinux" / "lite_run"
INFERENCES = 50
BEST_OF = 5

# What both Python sides share: the spec, and the best milliseconds from decoded pixels and of the
# whole way from the file.
TIMED = """
import json, sys, time
import numpy as np
spec, path, repeats = sys.argv[1:]
with open(spec, encoding="utf-8") as file:
    spec = json.load(file)
def best(work):
    times = []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)
def tell(apply, total):
    print(json.dumps({"apply_ms": best(apply), "total_ms": best(total)}))
"""

PY_RUNNER = f"""{TIMED}
from py_runner.data.decode import open_image
from py_runner.data.image import ImageSpec
spec = ImageSpec.from_json(spec)
pixels = np.asarray(open_image(path, spec))
tell(lambda: spec.apply(pixels), lambda: spec.apply(open_image(path, spec)))
"""

CV2 = f"""{TIMED}
import cv2
cv2.setNumThreads(1)
mean, std = (np.array(spec[name], "float32") for name in ("mean", "std"))
def apply(image):
    scale = spec["size"] / min(image.shape[:2])
    size = [round(side * scale) for side in image.shape[1::-1]]
    resized = cv2.resize(image, size)
    crop = spec["crop"][0]
    top, left = ((side - crop) // 2 for side in resized.shape[:2])
    values = cv2.cvtColor(resized[top : top + crop, left : left + crop], cv2.COLOR_BGR2RGB)
    values = (values.astype("float32") * np.float32(1 / 255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]
pixels = cv2.imread(path)
tell(lambda: apply(pixels), lambda: apply(cv2.imread(path)))
"""


def built() -> None:
    """The preset `host` and the programs that do the timing, up to date."""
    env = {k: v for k, v in os.environ.items() if k != "PADDLE_LITE_DIR"}
    env.setdefault("PADDLE_EDGE_LITE_PYTHON", sys.executable)
    targets = ["all", "engine_bench", "image_bench"]
    for command in (["--preset", "host"], ["--build", "--preset", "host", "--target", *targets]):
        done = subprocess.run(
            ["cmake", *command], cwd=ROOT, env=env, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])


def picture(work: Path, size: tuple[int, int]) -> Path:
    """A seeded JPEG file that compresses as a photograph does: large shapes, detail and grain."""
    file = work / f"{size[0]}x{size[1]}.jpg"
    if not file.exists():
        random = np.random.default_rng(0)
        pixels = np.zeros((size[1], size[0], 3), np.float32)
        for step, strength in ((100, 90), (8, 25)):
            coarse = random.integers(0, 256, (size[1] // step, size[0] // step, 3), dtype=np.uint8)
            layer = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            pixels += (np.asarray(layer, np.float32) - 128) * (strength / 128)
        pixels += 128 + random.normal(0, 3, pixels.shape).astype("float32")
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(file, quality=90)
    return file


def prepared(work: Path, size: tuple[int, int], repeats: int, *, draft: bool) -> dict[str, Any]:
    """Each side's answers of all rounds, for a picture of a size: {side: [{figure: ms}]}."""
    image = squeezenet(work).image
    assert image is not None
    file = picture(work, size)
    specs = {}
    for on in (False, True):
        specs[on] = work / f"spec{on:d}.json"
        specs[on].write_text(json.dumps(image.to_json() | ({"draft": True} if on else {})))

    def process(*argv: object) -> dict[str, float]:
        argv = (*argv, file, BEST_OF)
        done = subprocess.run(
            [str(a) for a in argv], cwd=ROOT, capture_output=True, text=True, check=True
        )
        answer: dict[str, float] = json.loads(done.stdout)
        return answer

    sides: dict[str, Callable[[], Any]] = {
        "lite_run": lambda: process(PROGRAMS / "image_bench", specs[False]),
        "py_runner": lambda: process(sys.executable, "-c", PY_RUNNER, specs[False]),
        "cv2": lambda: process(sys.executable, "-c", CV2, specs[False]),
    }
    if draft:
        sides["lite_run_draft"] = lambda: process(PROGRAMS / "image_bench", specs[True])
        sides["py_runner_draft"] = lambda: process(sys.executable, "-c", PY_RUNNER, specs[True])
    return interleaved(sides, repeats)


def against(answers: dict[str, Any], figure: str) -> dict[str, Any]:
    """lite_run's ratio to each other side in one figure, and what it should be."""

    def of(side: str, name: str = figure) -> list[float]:
        return [answer[name] for answer in answers[side]]

    ours = of("lite_run")
    found: dict[str, Any] = {
        f"to_{side}": ratio(list(zip(ours, of(side)))) for side in ("py_runner", "cv2")
    }
    if f"opencv_{figure}" in answers["lite_run"][0]:
        found["to_opencv"] = ratio(list(zip(ours, of("lite_run", f"opencv_{figure}"))))
    return found


def bench_inference(work: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds an inference, by the C ABI and by the bare engine."""
    bundle, array = squeezenet(work), sample(work)
    argv = engine_bench("both", bundle, array)
    rounds = [json.loads(measured_process(argv)[2]) for _ in range(repeats + 1)][1:]
    found = {}
    for name, summary in (("median", statistics.median), ("best", min)):
        pairs = [(summary(r["ours_ms"]), summary(r["bare_ms"])) for r in rounds]
        found[f"{name}_ms"] = ratio(pairs)
    return {**found, "inferences": INFERENCES, "wanted": "<= 1.01"}


def sample(work: Path) -> Path:
    """The input of one inference, as a .npy file."""
    bundle, file = squeezenet(work), work / "sample.npy"
    (made,) = random_samples(bundle.model("x86").inputs, count=1, image=bundle.image)
    np.save(file, made.feeds["x"])
    return file


def engine_bench(mode: str, bundle: Bundle, array: Path) -> list[str]:
    """The arguments that run engine_bench."""
    model = bundle.model("x86").files[0]
    paths = map(str, (bundle.path, model, array))
    return [str(PROGRAMS / "engine_bench"), mode, *paths, str(INFERENCES)]


def bench_picture(work: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds from a file of 12 megapixels to the tensor."""
    size = (4000, 3000)
    answers = prepared(work, size, repeats, draft=True)

    def total(side: str) -> list[float]:
        return [answer["total_ms"] for answer in answers[side]]

    return {
        "file_bytes": picture(work, size).stat().st_size,
        **against(answers, "total_ms"),
        "wanted": "<= 1 to OpenCV, < 1 to py_runner",
        "draft": {
            **ratio(list(zip(total("lite_run_draft"), total("lite_run")))),
            "to_py_runner_draft": ratio(
                list(zip(total("lite_run_draft"), total("py_runner_draft")))
            ),
            "wanted": "<= 0.4",
        },
    }


def bench_frame(work: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds from a camera's pixels to the tensor."""
    found = against(prepared(work, (640, 480), repeats, draft=False), "apply_ms")
    return {**found, "wanted": "<= 0.333 to py_runner"}


def bench_size(work: Path, repeats: int) -> dict[str, Any]:
    """Bytes of what is installed, without the engine."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["cmake", "--install", BUILD, "--prefix", folder, "--strip"],
            check=True,
            capture_output=True,
        )
        program = Path(folder, "bin", "lite_run")
        (library,) = Path(folder).glob("lib*/**/liblite_run.so")
        sizes = {"lite_run": program.stat().st_size, "liblite_run": library.stat().st_size}
    return {**sizes, "bytes": sum(sizes.values()), "wanted": "<= 500000"}


def bench_memory(work: Path, repeats: int) -> dict[str, Any]:
    """Peak resident bytes of the command, over those of a process with the bare loop."""
    bundle, array, size = squeezenet(work), sample(work), (4000, 3000)
    file = picture(work, size)

    def peak(argv: list[str]) -> Callable[[], float]:
        return lambda: float(measured_process(argv)[1])

    ours = [str(LITE_RUN), str(bundle.path)]
    peaks = interleaved(
        {
            "bare": peak(engine_bench("bare", bundle, array)),
            "array": peak([*ours, str(array), "--bench", "--repeat", str(INFERENCES)]),
            "picture": peak([*ours, str(file)]),
        },
        repeats,
    )
    medians = {name: statistics.median(values) for name, values in peaks.items()}
    of_picture = size[0] * size[1] * 3 + file.stat().st_size
    return {
        "peak_bytes": medians,
        "spread_bytes": {name: max(values) - min(values) for name, values in peaks.items()},
        "over_bare_bytes": {
            "array": medians["array"] - medians["bare"],
            "picture": medians["picture"] - medians["bare"] - of_picture,
        },
        "picture_bytes": of_picture,
        "wanted": "<= 5000000 over bare",
    }


BENCHMARKS = {
    "inference": bench_inference,
    "picture": bench_picture,
    "frame": bench_frame,
    "size": bench_size,
    "memory": bench_memory,
}


def main() -> None:
    """Run the benchmarks and print their JSON."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmarks", nargs="*", metavar="|".join(BENCHMARKS))
    parser.add_argument("--work", type=Path, help="keep the model and pictures here")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if unknown := set(options.benchmarks) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    built()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        found = {
            name: BENCHMARKS[name](work, options.repeats)
            for name in options.benchmarks or BENCHMARKS
        }
    load = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps({"loadavg": load, **found}, indent=1))


if __name__ == "__main__":
    main()
