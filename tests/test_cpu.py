"""What the engine is shown of the CPU, on boards that QEMU emulates.

The stand-in engine reads /proc/cpuinfo as Paddle Lite does and says what it found there. The tests
at the end run a real ARM library where one is set up, and are skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need
from test_native import BUILD, CROSS, cross_built, hands_on  # noqa: F401  a fixture

from lite_opt.conversion.convert import convert
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.recipes import RECIPES
from py_runner.devices import BOARDS, boards
from py_runner.engines import native
from py_runner.errors import RefusedError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run

DOT, HALF = "dot product", "fp16"
# part numbers shown, features of the CPU, by the board
SHOWN: dict[str, tuple[list[str], list[str]]] = {
    "pi3": ([], []),
    "pi4": ([], []),
    "a53": ([], []),
    "a72": ([], []),
    "a55": ([], [DOT, HALF]),  # the engine knows its part
    "pi5": (["0xd40"], [DOT, HALF]),
    "a76": (["0xd40"], [DOT, HALF]),
    "rk3588": (["0xd05", "0xd40"], [DOT, HALF]),
    "max": (["0xd40"], [DOT, HALF]),
}
DLOPEN = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char** argv) {
  (void)count;
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == NULL) return puts(dlerror()), 1;
  const char* text = "";
  int (*cpu)(const char**) = (int (*)(const char**))dlsym(library, "lr_cpu");
  const int status = cpu(&text);
  return puts(text), status;
}
"""


def start(folder: Path, device: str, root: Path, **variables: str) -> list[str]:
    """QEMU as that board, with variables for the process in it."""
    board = BOARDS[device].board
    assert board is not None
    preset = "aarch64" if "64" in device else "armv7hf"
    _, triplet, emulator = CROSS[preset]
    if not root.exists():
        root.mkdir()
        board.write_root(root, Path(f"/usr/{triplet}"))
    places = [BUILD / "sysroot" / preset / place / triplet for place in ("usr/lib", "lib")]
    variables["LD_LIBRARY_PATH"] = ":".join(map(str, places))
    given = [f"{name}={value}" for name, value in variables.items()]
    return [emulator, "-cpu", board.cpu, "-L", str(root), *(x for g in given for x in ("-E", g))]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The build with the stand-in engine."""
    return cross_built("aarch64")


def about(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What was said of the CPU, and what the stand-in engine read of it."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    read = [line for line in done.stderr.splitlines() if "stand-in engine reads" in line]
    return json.loads(done.stdout), [line.split("reads ")[1].strip() for line in read]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_the_engine_reads_parts_that_have_what_the_cpu_has(
    name: str, folder: Path, tmp_path: Path
) -> None:
    shown, features = SHOWN[name]
    command = [str(folder / "armlinux" / "lite_run"), "--cpu", "--json", "--log"]
    device = f"qemu-aarch64:{name}"
    board = BOARDS[device].board
    assert board is not None
    real = [kind.part for kind in board.cores for _ in range(kind.count)]
    cpu, read = about([*start(folder, device, tmp_path / "root"), *command])
    assert cpu["parts"] == list(dict.fromkeys(real))
    assert cpu["mhz"] == [kind.mhz for kind in board.cores for _ in range(kind.count)]
    assert (cpu["features"], cpu["engine_features"], cpu["shown"]) == (features, features, shown)
    expected = [part if part in shown or not shown else "0xd40" for part in real]
    assert read == [f"CPU part\t: {part}" for part in expected]
    assert ("is shown part" in cpu["why"]) == bool(shown)
    off, read = about([*start(folder, device, tmp_path / "root", LR_CPU="off"), *command])
    assert read == [f"CPU part\t: {part}" for part in real] and off["shown"] == []
    assert (off["engine_features"] == features) == (not shown)
    assert ("LR_CPU=off" in off["why"]) == bool(shown)


@pytest.mark.slow
def test_the_engine_is_not_left_to_believe_what_the_cpu_lacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first Cortex-A55 had no dot product, which Paddle Lite takes for granted of that part."""
    a55, a72 = boards.ARM64["a55"], boards.ARM64["a72"]
    early = replace(BOARDS["qemu-aarch64:a72"], board=replace(a72, cores=a55.cores))
    monkeypatch.setitem(BOARDS, "qemu-aarch64:early", early)
    command = [str(folder / "armlinux" / "lite_run"), "--cpu", "--json", "--log"]
    emulated = start(folder, "qemu-aarch64:early", tmp_path / "root")
    cpu, read = about([*emulated, *command])
    assert cpu["parts"] == ["0xd05"] and cpu["shown"] == ["0xd08"]
    assert cpu["features"] == cpu["engine_features"] == []
    assert read == ["CPU part\t: 0xd08"] * 4
    off, _ = about([*emulated, *command, "--identity", "off"])
    assert off["engine_features"] == [DOT, HALF] and "dot product, fp16" in off["why"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGILL, "an instruction that this CPU lacks: `lite_run --cpu` says"),
        (signal.SIGSEGV, "may lack operators of this model"),
    ],
)
def test_how_an_engine_died_is_told_apart(
    number: signal.Signals,
    words: str,
    hands_on: Path,  # noqa: F811
    folder: Path,
    tmp_path: Path,
) -> None:
    variables = {"LITE_RUN_STAND_IN_SIGNAL": str(int(number))}
    emulated = start(folder, "qemu-aarch64:pi4", tmp_path / "root", **variables)
    done = subprocess.run(
        [*emulated, folder / "armlinux" / "lite_run", hands_on], capture_output=True, text=True
    )
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lite_run: the engine ended the process: ") and words in last


@pytest.mark.slow
def test_the_switch_is_auto_or_off(folder: Path, tmp_path: Path) -> None:
    command = str(folder / "armlinux" / "lite_run")
    emulated = start(folder, "qemu-aarch64:pi5", tmp_path / "root")
    off, _ = about([*emulated, command, "--cpu", "--json", "--identity", "off"])
    assert off["shown"] == off["engine_features"] == [] and off["features"] == [DOT, HALF]
    done = subprocess.run(
        [*emulated, command, "--cpu", "--identity", "on"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == (
        "lite_run: LR_CPU is 'auto' or 'off', not 'on'\n"
    )
    plain = subprocess.run([*emulated, command, "--cpu"], capture_output=True, text=True)
    assert plain.stdout.splitlines()[:4] == [
        "CPU part         0xd0b",
        "cores at MHz     2400, 2400, 2400, 2400",
        "it has           dot product, fp16",
        "the engine uses  dot product, fp16",
    ]


@pytest.mark.slow
def test_a_library_that_was_opened_says_that_it_is_not_asked(folder: Path, tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    need(compiler is not None, "g++-aarch64-linux-gnu")
    assert compiler is not None
    (tmp_path / "opens.c").write_text(DLOPEN)
    program = tmp_path / "opens"
    subprocess.run([compiler, "-o", program, tmp_path / "opens.c", "-ldl"], check=True)
    library = str(folder / "armlinux" / "liblite_run.so")
    device, root = "qemu-aarch64:pi5", tmp_path / "root"
    opened, read = about([*start(folder, device, root), str(program), library])
    assert read == ["CPU part\t: 0xd0b"] * 4
    assert opened["engine_features"] == [] and opened["shown"] == []
    assert "was opened by dlopen" in opened["why"] and "LD_PRELOAD" in opened["why"]
    preloaded = start(folder, device, root, LD_PRELOAD=library)
    opened, read = about([*preloaded, str(program), library])
    assert read == ["CPU part\t: 0xd40"] * 4
    assert opened["engine_features"] == [DOT, HALF] and opened["shown"] == ["0xd40"]


@pytest.mark.slow
def test_runs_say_what_the_engine_used(
    hands_on: Path,  # noqa: F811
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PADDLE_EDGE_LITE_RUN_AARCH64", str(folder))
    monkeypatch.setenv("PADDLE_EDGE_SYSROOT_AARCH64", str(BUILD / "sysroot" / "aarch64"))
    opened = Bundle.open(hands_on)
    for name, parts in (("pi4", ["0xd08"]), ("pi5", ["0xd0b"])):
        done = run(
            opened.model("arm"),
            opened.read_samples(),
            engine="native",
            device=f"qemu-aarch64:{name}",
        )
        again = Run.open(done.save(tmp_path / name))
        assert again.cpu == done.cpu is not None
        assert done.cpu["parts"] == parts
        assert done.cpu["features"] == done.cpu["engine_features"] == SHOWN[name][1]
        assert done.device == f"qemu-aarch64:{name}"
        assert f"Raspberry Pi {name[-1]}" in done.machine


def environment(monkeypatch: pytest.MonkeyPatch, target: str, library: str) -> dict[str, str]:
    monkeypatch.setattr(native, "target", lambda: target)
    monkeypatch.setattr(native, "_library", lambda: library)
    return native.environment()


def test_a_child_is_started_with_the_library_before_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert environment(monkeypatch, "arm", "/l/liblite_run.so") == {
        "LD_PRELOAD": "/l/liblite_run.so"
    }
    assert environment(monkeypatch, "x86", "/l/liblite_run.so") == {}
    for unfit in ("/a b/liblite_run.so", "/a:b/liblite_run.so"):
        assert environment(monkeypatch, "arm", unfit) == {}
    monkeypatch.setenv("LD_PRELOAD", "/other.so")
    both = environment(monkeypatch, "arm", "/l/liblite_run.so")
    assert both == {"LD_PRELOAD": "/l/liblite_run.so:/other.so"}

    def absent() -> str:
        raise ImportError("none")

    monkeypatch.setattr(native, "_library", absent)
    assert native.environment() == {}


@pytest.mark.parametrize("others", ["", "/other.so"])
def test_the_childs_own_children_do_not_get_it(
    others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", ":".join(filter(None, ("/l/liblite_run.so", others))))
    monkeypatch.setattr(native, "_library", lambda: "/l/liblite_run.so")
    monkeypatch.setattr(native, "_load", lambda _: None)
    native.load()
    assert os.environ.get("LD_PRELOAD", "") == others
    # What is not there the loader mentions, and goes on.
    asked = "import os; print(os.environ.get('LD_PRELOAD', ''))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert told.stdout == f"{others}\n"


Answer = Callable[[str, int], Run]


@pytest.fixture
def real(bundle: Path) -> Answer:
    """What a real ARM engine answers as a board."""
    if BOARDS["qemu-aarch64"].missing():
        pytest.skip(BOARDS["qemu-aarch64"].missing())

    def answer(name: str, threads: int = 1) -> Run:
        opened = Bundle.open(bundle)
        return run(
            opened.model("arm"),
            opened.read_samples()[:2],
            engine="native",
            device=f"qemu-aarch64:{name}",
            threads=threads,
        )

    return answer


@pytest.mark.slow
def test_a_real_engine_answers_alike_on_any_number_of_threads(real: Answer) -> None:
    one = real("max", 1)
    assert one.cpu is not None and one.cpu["engine_features"] == [DOT, HALF]
    for threads in (2, 4):
        several = real("max", threads)
        for name, values in one.outputs.items():
            for left, right in zip(values, several.outputs[name]):
                np.testing.assert_allclose(left, right, rtol=0, atol=1e-6 * abs(left).max())


@pytest.mark.slow
@pytest.mark.parametrize("how", RECIPES)
def test_a_real_engine_runs_every_recipe_on_every_core(
    how: str, model: Path, tmp_path: Path
) -> None:
    """Without an illegal instruction; half floats only where CPU and library have them."""
    if BOARDS["qemu-aarch64"].missing():
        pytest.skip(BOARDS["qemu-aarch64"].missing())
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype("float32"))
    given = {"calibration": data} if how == "int8" else {}
    convert(model, tmp_path / "b", recipe=how, samples=data, check=False, **given)
    opened = Bundle.open(tmp_path / "b")
    found = []
    for name in ("a53", "a55", "a72", "a76", "max"):
        try:
            done = run(
                opened.model("arm"),
                opened.read_samples()[:1],
                engine="native",
                device=f"qemu-aarch64:{name}",
            )
        except RefusedError as error:
            assert how == "fp16" and lacks_fp16(str(error)), f"{name}: {error}"
        else:
            assert how != "fp16" or name not in ("a53", "a72")
            found.append(next(iter(done.outputs.values()))[0])
    assert found or how == "fp16"
    for value in found:
        np.testing.assert_allclose(value, found[0], rtol=0, atol=2e-2)
