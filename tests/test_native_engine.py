"""Engine native: liblite_run by ctypes, on this machine and on emulated ARM boards."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import need
from test_native import SDK, built, cross_built, edit, equal, hands_on, trained  # noqa: F401
from test_wheel import call, interpreter, uv

from lite_opt.cli.main import paddle_edge
from lite_opt.conversion.convert import convert
from lite_opt.judge.compare import compare
from py_runner.data.random_samples import random_samples
from py_runner.devices import BOARDS
from py_runner.engines import native
from py_runner.errors import DataError, EngineError, ModelError, UsageError
from py_runner.files.checksum import Checksums
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import NbFile
from py_runner.formats.run import Run
from py_runner.inference import bundle_target, run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

ROOT = Path(__file__).parents[1]
PRESETS = {"qemu-aarch64": "aarch64", "qemu-arm": "armv7hf"}  # device: preset
MACHINES = {"qemu-aarch64": "aarch64", "qemu-arm": "armv7l"}


@pytest.fixture(scope="module")
def library() -> Path:
    """The folder of a build for this machine, on the engine of the wheel."""
    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    return built("host", PADDLE_EDGE_LITE_PYTHON=sys.executable)


@pytest.fixture
def here(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(library))
    return library


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny classifier's bundle, to be spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))


def board(device: str, monkeypatch: pytest.MonkeyPatch, *, stand_in: bool = True) -> Path:
    """Set what names a build for an emulated board, and return its folder."""
    folder = cross_built(PRESETS[device], stand_in=stand_in)
    arch = device.removeprefix("qemu-").upper()
    monkeypatch.setenv(f"PADDLE_EDGE_LITE_RUN_{arch}", str(folder))
    sysroot = ROOT / "build" / "sysroot" / PRESETS[device]
    monkeypatch.setenv(f"PADDLE_EDGE_SYSROOT_{arch}", str(sysroot))
    return folder


def plain(folder: Path) -> Model:
    """The model for this machine of a bundle."""
    return Bundle.open(folder).model(bundle_target("native"))


def answer(folder: Path, **options: Any) -> Run:
    """What engine native answers to a bundle's own samples."""
    opened = Bundle.open(folder)
    model = opened.model(bundle_target("native", options.get("device", "cpu")))
    return run(model, opened.read_samples(), engine="native", **options)


def refused(message: str, error: type[Exception] = EngineError) -> Any:
    return pytest.raises(error, match=message)


def test_answers_are_those_of_engine_lite_bit_by_bit(here: Path, bundle: Path) -> None:
    opened = Bundle.open(bundle)
    samples = [
        *opened.read_samples(),
        *random_samples(opened.inputs, count=3, shapes={"x": [(1, 3, 16, 16), (2, 3, 16, 16)]}),
    ]
    seen: list[int] = []
    done = run(
        plain(bundle),
        samples,
        engine="native",
        repeat=3,
        watch=Watch(step=lambda _, done, __: seen.append(done)),
    )
    assert equal(run(opened.model("x86"), samples), done)
    assert [v.shape[0] for v in next(iter(done.outputs.values()))] == [1, 1, 1, 1, 1, 2, 1]
    assert compare(opened.reference(), done.first(4))
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (done.engine, done.engine_version, done.device) == ("native", "v2.13-rc", "cpu")
    assert done.model == {"name": "tiny", "sha256": opened.sha256}
    assert [len(repeats) for repeats in done.latency_ms] == [3] * 7
    assert 10e6 < done.peak_memory_bytes < 400e6
    assert list(done.outputs) == [spec.name for spec in opened.outputs]


def test_limits_of_time_and_memory_hold(here: Path, bundle: Path) -> None:
    opened = Bundle.open(bundle)
    model, samples = opened.model("x86"), opened.read_samples()
    with pytest.raises(EngineError, match=r"gave no answer within 0\.5 s"):
        run(model, samples, engine="native", repeat=10_000_000, time_limit_s=0.5)
    with pytest.raises(EngineError):
        run(model, samples, engine="native", memory_limit_gb=0.05)
    assert len(run(model, samples, engine="native", memory_limit_gb=4).samples) == len(samples)


def test_threads_do_not_change_answers(here: Path, bundle: Path) -> None:
    assert equal(answer(bundle), answer(bundle, threads=2))


@pytest.mark.slow
def test_a_trained_model_answers_as_on_engine_lite_at_any_shape(here: Path, tmp_path: Path) -> None:
    assert convert(trained("ch_ppocr_mobile_v2_cls_infer"), tmp_path / "cls", image="ppocr-cls")
    shapes = [(1, 3, 320, 320), (1, 3, 160, 256), (1, 3, 320, 192)]
    detector = trained("ch_PP-OCRv4_det_infer")
    assert convert(detector, tmp_path / "det", check_shape={"x": shapes})
    for name in ("cls", "det"):
        opened = Bundle.open(tmp_path / name)
        assert equal(run(opened.model("x86"), opened.read_samples()), answer(tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.11", "3.12", "3.13"])
def test_any_python_and_numpy_run_it(
    version: str, here: Path, bundle: Path, tmp_path: Path
) -> None:
    """No package is installed there but NumPy and Pillow: what runs is py_runner alone."""
    python = tmp_path / "venv" / "bin" / "python"
    call(uv(), "venv", "--no-project", "--python", interpreter(version), tmp_path / "venv")
    call(uv(), "pip", "install", "--python", python, "numpy", "pillow")
    script = (
        "import sys, numpy; from py_runner import Bundle, run\n"
        "b = Bundle.open(sys.argv[1])\n"
        "r = run(b.model('x86'), b.read_samples(), engine='native').save(sys.argv[2])\n"
        "print(sys.version_info[:2], numpy.__version__)"
    )
    asked = call(python, "-c", script, bundle, tmp_path / "r", PYTHONPATH=str(ROOT))
    assert asked.stdout.startswith(f"({version.replace('.', ', ')}) 2.")
    assert equal(answer(bundle), Run.open(tmp_path / "r"))


def test_an_installed_library_is_found_without_a_word(
    library: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment of the interpreter, where `cmake --install --prefix` put it."""
    monkeypatch.delenv(native.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert "liblite_run.so is not installed here" in native.missing()
    subprocess.run(
        ["cmake", "--install", library, "--prefix", tmp_path / "prefix"],
        check=True,
        capture_output=True,
    )
    assert native.missing() == ""
    monkeypatch.undo()
    (file,) = (tmp_path / "prefix").glob("lib*/**/liblite_run.so")
    for named in (tmp_path / "prefix", file.parent, file):
        monkeypatch.setenv(native.LIBRARY_VARIABLE, str(named))
        assert native.missing() == ""
        assert answer(bundle).samples


def test_a_library_that_is_not_there(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = native.LIBRARY_VARIABLE
    for named, telling in (
        (tmp_path / "none", "none: no such file or folder"),
        (tmp_path, f"holds no liblite_run.so: .*set {variable}"),
    ):
        monkeypatch.setenv(variable, str(named))
        assert native.missing().startswith(f"{variable}={named}: ")
        with refused(telling):
            answer(bundle)


def test_a_file_that_is_no_liblite_run(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(shutil.which("cc") is not None, "gcc")
    text = tmp_path / "liblite_run.so"
    text.write_text("not a library")

    def made(name: str, source: str) -> Path:
        (tmp_path / "x.c").write_text(source)
        out = tmp_path / name
        subprocess.run(["cc", "-shared", "-fPIC", "-o", out, tmp_path / "x.c"], check=True)
        return out

    names = ("error", "open", "close", "count", "spec", "set_input", "run", "output")
    api = "".join(f"void lr_{name}(void) {{}}\n" for name in names)
    newer = api + 'const char* lr_info(void* s) { return "{\\"lite_run\\": \\"7.1.0\\"}"; }\n'
    machine = bytearray(made("foreign.so", "int x;").read_bytes())
    machine[18] = 2  # e_machine: SPARC
    (tmp_path / "foreign.so").write_bytes(machine)
    for file, telling in (
        (text, "cannot be loaded on this .* machine: "),
        (tmp_path / "foreign.so", "cannot be loaded on this .*: it is built for another one"),
        (made("other.so", "int x;"), "is no liblite_run.so, or one of another version"),
        (made("newer.so", newer), r"is lite_run 7\.1\.0, and this version of paddle-edge takes 0"),
    ):
        monkeypatch.setenv(native.LIBRARY_VARIABLE, str(file))
        with refused(f"{file.name}: {telling}") as caught:
            answer(bundle)
        assert "\n" not in str(caught.value)


def test_damaged_bundles_are_refused(here: Path, copy: Path) -> None:
    opened = Bundle.open(copy)
    model, samples = plain(copy), opened.read_samples()
    data = model.files[0].read_bytes()
    model.files[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # after it was opened
    with refused(r"^\S*model\.x86\.nb: .*its checksum is not the bundle's"):
        run(model, samples, engine="native")
    with refused("its checksum is not the bundle's", ModelError):
        answer(copy)
    (copy / "bundle.json").write_text("{}")
    model.files[0].write_bytes(data)
    with refused("not the manifest of a bundle"):
        run(model, samples, engine="native")


def test_a_library_of_another_version_is_mentioned(here: Path, copy: Path) -> None:
    said: list[str] = []
    answer(copy, watch=Watch(warn=said.append))
    assert said == []
    model = copy / "model.x86.nb"
    data = model.read_bytes()
    model.write_bytes(data[:2] + b"v2.12".ljust(16, b"\0") + data[18:])
    sums = Checksums(model).read_on()
    of_it = {"opt_version": "v2.12", "sha256": sums.sha256, "crc32": sums.crc32}
    edit(copy, lambda document: document["targets"]["x86"].update(of_it))
    answer(copy, watch=Watch(warn=said.append))
    (text,) = said
    assert text.startswith(
        "the Paddle Lite library is v2.13-rc, and model.x86.nb was made for v2.12"
    )
    result = CliRunner().invoke(
        paddle_edge,
        ["bench", str(copy), "--engine", "native", "--threads", "1,2", "--json"],
    )
    assert json.loads(result.stdout)["warnings"] == [text]


def test_a_bundle_that_has_nothing_for_this_machine(here: Path, copy: Path) -> None:
    edit(copy, lambda document: document["targets"].pop("x86"))
    with refused("has no x86 model, only arm: convert with --target x86", UsageError):
        answer(copy)
    opened = Bundle.open(copy)
    with refused("is made for arm, and the engine here is x86"):
        run(opened.model("arm"), opened.read_samples(), engine="native")


def test_another_file_of_the_bundle_is_not_run_in_its_place(here: Path, copy: Path) -> None:
    model = plain(copy)
    other = Path(shutil.copy(model.files[0], copy / "other.nb"))
    with refused(r"this machine runs model\.x86\.nb of the bundle, not other\.nb"):
        run(replace(model, files=(other,)), Bundle.open(copy).read_samples(), engine="native")


def test_int8_kernels_are_refused_on_x86(
    here: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Counter({("x86", "float"): 5, ("x86", "int8"): 1})
    monkeypatch.setattr(NbFile, "kernels", property(lambda _: found))
    with refused("has int8 kernels, which compute wrong numbers on x86"):
        answer(bundle)
    assert answer(bundle, unsafe_int8=True).samples


def fatal(folder: Path, target: str) -> None:
    """Make a model file that is whole, but whose topology is not: the engine kills its process."""
    nb = folder / f"model.{target}.nb"
    data = bytearray(nb.read_bytes())
    size = int.from_bytes(data[18:26], "little")
    data[26 : 26 + size] = bytes(size)
    nb.write_bytes(data)

    def keep_sums(document: dict[str, Any]) -> None:
        document["targets"][target]["sha256"] = hashlib.sha256(data).hexdigest()
        document["targets"][target]["crc32"] = f"{zlib.crc32(data):08x}"

    edit(folder, keep_sums)


def test_an_engine_that_dies_takes_nothing_with_it(
    here: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from py_runner.job import Job

    fatal(copy, "x86")
    opened = Bundle.open(copy)
    with refused("model.x86.nb: ", ModelError):  # what is seen of it before the engine
        answer(copy)
    monkeypatch.setattr(Job, "check_file", lambda *_: None)
    with refused(r"model\.x86\.nb: engine native was killed by SIG(SEGV|ABRT); its last words: "):
        run(opened.model("x86"), opened.read_samples(), engine="native")


def test_an_engine_that_dies_in_the_middle_names_the_sample(
    here: Path, bundle: Path, tmp_path: Path
) -> None:
    """A reshape to 6 elements that is fed 8: the engine ends the process at that sample."""
    import make_model

    builder = make_model.Builder()
    x = builder.input("x", (-1, 2))
    out = builder.op("reshape2", {"X": [x]}, "out", (3, 2), shape=[3, 2])
    source = make_model.save(builder.program(out), tmp_path / "m")
    assert convert(source, tmp_path / "b", check_shape={"x": [(3, 2)]})
    fits, odd = (np.ones((rows, 2), "float32") for rows in (3, 4))
    samples = [Sample("fits", {"x": fits}), Sample("odd", {"x": odd}), Sample("no", {"x": fits})]
    seen: list[int] = []
    with refused("sample 'odd': engine native was killed by SIGABRT"):
        run(
            plain(tmp_path / "b"),
            samples,
            engine="native",
            watch=Watch(step=lambda _, done, __: seen.append(done)),
        )
    assert seen == [1]


def test_tensors_and_options_that_do_not_fit(here: Path, bundle: Path) -> None:
    model = plain(bundle)
    with refused("takes float32", DataError):
        run(model, [Sample("s", {"x": np.zeros((1, 3, 16, 16))})], engine="native")
    samples = random_samples(model.inputs)
    for options, telling in (
        ({"device": "gpu"}, "engine native runs on device cpu, qemu-aarch64, qemu-aarch64:pi3"),
        ({"device": "qemu-sparc"}, "unknown device 'qemu-sparc'"),
        ({"precision": "fp16"}, "belong to engine paddle"),
        ({"device": "qemu-arm", "tensorrt": True}, "belong to engine paddle"),
        ({"engine": "lite", "device": "qemu-arm"}, "engine lite runs on device cpu only"),
        ({"engine": "paddle"}, "runs the source model"),
    ):
        with refused(telling, UsageError):
            run(model, samples, **{"engine": "native", **options})  # type: ignore[arg-type]
    with refused("threads", EngineError):
        run(model, samples, engine="native", threads=1000)
    source = Model("m", "", "fp32", (bundle / "m.pdmodel",), model.inputs)
    with refused("engine native runs bundles", UsageError):
        run(source, samples, engine="native")


def test_which_model_of_a_bundle_runs_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, expected in (
        ("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "arm"), ("armv7l", "arm"),
        ("armv8l", "arm"), ("arm64", "arm"),
    ):  # fmt: skip
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert bundle_target("native") == expected
        assert bundle_target("native", "qemu-aarch64") == "arm"
        assert bundle_target("lite") == "x86"


def test_a_board_that_is_not_set_up(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device, arch in (("qemu-aarch64", "AARCH64"), ("qemu-arm", "ARM")):
        variable = f"PADDLE_EDGE_LITE_RUN_{arch}"
        monkeypatch.delenv(variable, raising=False)
        assert f"set {variable} to it" in BOARDS[device].missing()
        with refused(f"device {device} needs lite_run, .* set {variable} to it"):
            answer(bundle, device=device)
        for named, telling in (
            (tmp_path, "holds no lite_run"), (tmp_path / "none", "no such file or folder"),
        ):  # fmt: skip
            monkeypatch.setenv(variable, str(named))
            with refused(f"^{variable}={named}: {telling}$"):
                answer(bundle, device=device)
        program = tmp_path / "lite_run"
        program.write_text("#!/bin/sh\n")
        monkeypatch.setenv(variable, str(program))
        monkeypatch.setenv(f"PADDLE_EDGE_SYSROOT_{arch}", str(tmp_path))
        if shutil.which(device) or shutil.which(f"{device}-static"):
            with refused(f"^PADDLE_EDGE_SYSROOT_{arch}={tmp_path}: holds no libraries"):
                answer(bundle, device=device)
            monkeypatch.delenv(f"PADDLE_EDGE_SYSROOT_{arch}")
            with refused(f"{device}.*{program}.*; {variable} names it"):
                answer(bundle, device=device)
        program.unlink()
        program.write_bytes(b"")
        monkeypatch.setenv("PATH", str(tmp_path))
        with refused(f"^{device} is not installed: `apt install qemu-user"):
            answer(bundle, device=device)
        monkeypatch.undo()
        program.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("device", PRESETS)
def test_an_emulated_board_answers(
    device: str,
    hands_on: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the stand-in engine, which hands its input on: what is shown is the way there."""
    board(device, monkeypatch)
    assert BOARDS[device].missing() == ""
    model = Bundle.open(hands_on).model("arm")
    random = np.random.default_rng(0)
    samples = [
        Sample(f"né {i}", {"x": random.standard_normal((1 + i % 3, 10)).astype("float32")}, i)
        for i in range(12)
    ]
    seen: list[int] = []
    done = run(
        model,
        iter(samples),
        engine="native",
        device=device,
        repeat=2,
        watch=Watch(step=lambda _, done, __: seen.append(done)),
    )
    (values,) = done.outputs.values()
    assert all(np.array_equal(v, s.feeds["x"]) for v, s in zip(values, samples))
    assert equal(run(Bundle.open(hands_on).model("x86"), samples), done)  # hashes, labels, order
    assert seen == sorted(set(seen)) and seen[0] == 1 and seen[-1] == 12
    monkeypatch.setenv("LITE_RUN_STAND_IN_VERSION", "v2.12")
    said: list[str] = []
    run(model, samples[:3], engine="native", device=device, watch=Watch(warn=said.append))
    (text,) = said
    assert text.startswith("the Paddle Lite library is v2.12, and model.arm.nb was made for v2.13")
    assert (done.engine, done.engine_version, done.device) == ("native", "stand-in", device)
    assert done.machine.split()[:2] == ["Linux", MACHINES[device]]
    assert done.model == {"name": model.name, "sha256": model.sha256}
    assert [len(repeats) for repeats in done.latency_ms] == [2] * 12
    assert Run.open(done.save(tmp_path / "run")).summary() == done.summary()


@pytest.mark.slow
def test_what_goes_wrong_on_an_emulated_board(
    bundle: Path,
    hands_on: Path,  # noqa: F811
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = "qemu-aarch64"
    folder = board(device, monkeypatch)
    with refused("sample 'picture_0.png': .*the engine ended the process: stand-in engine: this"):
        answer(bundle, device=device)
    with refused(r"qemu-aarch64 took longer than 0\.01 s"):
        answer(hands_on, device=device, time_limit_s=0.01)
    edit(copy, lambda document: document["targets"].pop("arm"))
    with refused("has no arm model, only x86", UsageError):
        answer(copy, device=device)
    model = Bundle.open(hands_on).model("arm")
    same = [Sample("s", {"x": np.zeros((1, 10), "float32")})] * 2
    with refused("both hold sample 's'", UsageError):
        run(model, same, engine="native", device=device)
    with refused("nothing for input 'x'", DataError):
        run(model, [Sample("s", {})], engine="native", device=device)
    with monkeypatch.context() as patch:
        patch.setenv("QEMU_LD_PREFIX", str(tmp_path))
        with refused("set QEMU_LD_PREFIX to the C library of aarch64-linux-gnu"):
            answer(hands_on, device=device)
    lonely = Path(shutil.copy(folder / "armlinux" / "lite_run", tmp_path / "lite_run"))
    subprocess.run(["sed", "-i", "s/liblite_run.so.0/liblite_nun.so.0/", lonely], check=True)
    monkeypatch.setenv("PADDLE_EDGE_LITE_RUN_AARCH64", str(lonely))
    with refused("liblite_nun.so.0: cannot open shared .*: set PADDLE_EDGE_SYSROOT_AARCH64"):
        answer(hands_on, device=device)


def test_a_model_that_the_board_refuses_makes_no_bundle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board("qemu-aarch64", monkeypatch)
    done = convert(model, tmp_path / "b")
    assert not done and done.bundle is None and done.report is None
    assert "the engine ended the process: stand-in engine: this" in done.refused
    assert done.refused.startswith(
        "the ARM engine on qemu-aarch64 cannot run conv2d in layer 'conv.out': "
    )
    assert str(tmp_path) not in done.refused and not list(tmp_path.iterdir())


def test_a_board_that_is_set_up_wrongly_is_no_verdict(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board("qemu-aarch64", monkeypatch)
    monkeypatch.setenv("QEMU_LD_PREFIX", str(tmp_path))
    warned: list[str] = []
    done = convert(model, tmp_path / "b", watch=Watch(warn=warned.append))
    assert done and done.bundle is not None
    assert len(warned) == 1 and "set QEMU_LD_PREFIX" in warned[0]
    assert done.bundle.check["targets"]["arm"].startswith(f"{warned[0]}; ")


def counts() -> None:
    need(shutil.which("cc") is not None, "gcc")
    need(shutil.which("qemu-aarch64") is not None, "qemu-user, the dynamic build")


def hungry(columns: int, folder: Path) -> tuple[Model, Sample]:
    """The network that hands its input on, with as many columns."""
    import make_model

    builder = make_model.Builder()
    program = builder.program(builder.input("x", (-1, columns)))
    assert convert(make_model.save(program, folder / "m"), folder / "b", check=False)
    sample = Sample("s", {"x": np.zeros((1, columns), "float32")})
    return Bundle.open(folder / "b").model("arm"), sample


@pytest.mark.slow
@pytest.mark.parametrize("device", PRESETS)
def test_instructions_are_counted_and_always_the_same(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts()
    board(device, monkeypatch)
    folder = tmp_path / "with, comma"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    found = []
    for columns in (64, 64, 1 << 16, 1 << 16, 1 << 17):
        place = Path(tmp_path, str(len(found)))
        place.mkdir()
        model, sample = hungry(columns, place)
        found.append(BOARDS[device].count_instructions(model, sample))
    assert list(folder.iterdir()) == []
    small, again, large, large_again, larger = found
    # Of 32-bit ARM, counts of 5,235 and 5,244 were seen once; why is not known.
    most = 0 if device == "qemu-aarch64" else 40
    assert abs(small - again) <= most and abs(large - large_again) <= most
    assert 100 < small < 20_000
    # Three copies of 4 bytes a column, by some 64 bytes in a few instructions.
    assert 1.6 < (larger - small) / (large - small) < 2.4
    assert (1 << 16) * 4 / 64 < large - small < (1 << 16) * 12


@pytest.mark.slow
def test_counting_without_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts()
    board("qemu-aarch64", monkeypatch)
    model, sample = hungry(4, tmp_path)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", str(bin_))
    with refused("needs a C compiler"):
        BOARDS["qemu-aarch64"].count_instructions(model, sample)
    (bin_ / "cc").symlink_to("/bin/false")
    with refused(r"count_instructions\.c: .*cc fails"):
        BOARDS["qemu-aarch64"].count_instructions(model, sample)
    monkeypatch.undo()
    board("qemu-aarch64", monkeypatch)
    (bin_ / "qemu-aarch64").symlink_to(shutil.which("qemu-aarch64-static") or "")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    (bin_ / "cc").unlink()
    with refused("counting needs the dynamic build of QEMU"):
        BOARDS["qemu-aarch64"].count_instructions(model, sample)
    (bin_ / "qemu-aarch64").unlink()
    monkeypatch.setenv("QEMU_CPU", "nonsense")
    with refused("nonsense': correct QEMU_CPU"):
        BOARDS["qemu-aarch64"].count_instructions(model, sample)


@pytest.mark.slow
def test_a_real_arm_engine_agrees_with_the_server_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if SDK is None:
        pytest.skip("needs PADDLE_LITE_DIR, the folder of an aarch64 SDK of Paddle Lite")
    board("qemu-aarch64", monkeypatch, stand_in=False)
    from lite_opt.demo.text_lines import write_text_lines

    source = trained("ch_ppocr_mobile_v2_cls_infer")
    lines = write_text_lines(tmp_path / "lines", count=40)
    for recipe in ("fp32", "int8-weights", "int8"):
        out = tmp_path / recipe
        needed = {"calibration": lines} if recipe == "int8" else {"samples": lines}
        assert convert(source, out, recipe=recipe, image="ppocr-cls", **needed)
        done = answer(out, device="qemu-aarch64")
        assert compare(Bundle.open(out).reference(), done)
        assert done.precision == recipe
    opened = Bundle.open(tmp_path / "fp32")
    model, sample = opened.model("arm"), opened.read_samples()[0]
    counted = {BOARDS["qemu-aarch64"].count_instructions(model, sample) for _ in range(2)}
    assert len(counted) == 1 and 20e6 < counted.pop() < 27e6  # measured: 23.3 million
