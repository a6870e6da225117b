"""Boards by name under QEMU: what a process finds on them, and which kernels the engine takes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import need
from test_compare import LOGITS, made

from py_runner.devices import BOARDS, batches, board_words, boards
from py_runner.devices.boards import Board, Cores
from py_runner.devices.qemu import Emulated
from py_runner.formats.run import Run
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch


def root_of(board: Board, tmp_path: Path, system: Path | None = None) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    board.write_root(root, system or tmp_path)
    return root


def text(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="ascii")


def test_a_board_has_its_own_cores(tmp_path: Path) -> None:
    root = root_of(boards.ARM64["rk3588"], tmp_path)
    lines = text(root, "proc/cpuinfo").splitlines()
    parts = [line.split("\t: ")[1] for line in lines if line.startswith("CPU part\t: ")]
    assert parts == ["0xd05"] * 4 + ["0xd0b"] * 4
    assert sum(line.startswith("processor\t: ") for line in lines) == 8
    cpus = root / "sys/devices/system/cpu"
    assert (cpus / "online").read_text() == "0-7\n"
    assert (cpus / "cpu0/cpufreq/cpuinfo_max_freq").read_text() == "1800000\n"
    assert (cpus / "cpu7/cpufreq/cpuinfo_max_freq").read_text() == "2400000\n"
    caches = sorted((cpus / "cpu7/cache").glob("index?/size"))
    assert [path.read_text() for path in caches] == ["64K\n", "64K\n", "512K\n", "3072K\n"]
    levels = [path.with_name("level").read_text() for path in caches]
    assert levels == ["1\n", "1\n", "2\n", "3\n"]
    assert text(root, "proc/device-tree/model") == "Radxa ROCK 5 Model B\0"


def test_the_rest_is_the_systems(tmp_path: Path) -> None:
    system = tmp_path / "system"
    for name in ("lib", "proc", "sys"):
        (system / name).mkdir(parents=True)
    root = root_of(boards.ARM64["pi5"], tmp_path, system)
    assert (root / "lib").resolve() == system / "lib"
    assert not (root / "proc").is_symlink() and not (root / "sys").is_symlink()


def test_what_only_this_machine_has_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    exists = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda self: str(self).startswith("/sys/devices") or exists(self)
    )
    root = root_of(Board("max", (Cores(2, "0xd03", 1000, (32, 32, 512)),), ""), tmp_path)
    cpus = root / "sys/devices/system/cpu"
    for hidden in ("cpu2/uevent", "cpu0/cache/index3/level", "cpu1/cpufreq/stats/time_in_state"):
        assert stat.S_ISSOCK((cpus / hidden).stat().st_mode)
        with pytest.raises(OSError, match="No such device or address"):
            (cpus / hidden).open()
    assert (cpus / "cpu1/uevent").is_file()
    assert (cpus / "cpu0/cache/index2/level").is_file()


def test_every_board_is_a_device() -> None:
    assert {"qemu-aarch64", "qemu-aarch64:pi5", "qemu-arm", "qemu-arm:pi2"} <= set(BOARDS)
    words = board_words()
    assert words[0] == "qemu-aarch64" and words[1].startswith("qemu-aarch64:pi3|pi4|pi5|")
    assert BOARDS["qemu-aarch64"].board is None


@pytest.mark.parametrize("name", BOARDS)
def test_qemu_is_told_the_board(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = BOARDS[name]
    need(shutil.which(device.emulator) is not None, "qemu-user")
    command = tmp_path / "lite_run"
    command.touch()
    system = tmp_path / "system"
    system.mkdir()
    monkeypatch.setenv(device.command_variable, str(command))
    monkeypatch.delenv(device.sysroot_variable, raising=False)
    monkeypatch.setenv("QEMU_LD_PREFIX", str(system))
    monkeypatch.setenv("QEMU_CPU", "cortex-a57")
    argv = device._argv(tmp_path)
    counting = device._argv(tmp_path, plugin="p.so")
    place = argv[argv.index("-L") + 1]
    if device.board is None:
        assert "-cpu" not in argv and "-cpu" not in counting  # QEMU_CPU says
        assert place == str(system)
    else:
        for given in (argv, counting):
            assert given[given.index("-cpu") + 1] == device.board.cpu
        assert Path(place, "proc/cpuinfo").is_file()


@pytest.mark.parametrize("name", ["qemu-aarch64:pi5", "qemu-aarch64:pi4", "qemu-arm:pi2"])
def test_an_emulated_process_reads_the_files_of_the_board(name: str, tmp_path: Path) -> None:
    device: Emulated = BOARDS[name]
    emulator, compiler = shutil.which(device.emulator), shutil.which(f"{device.triplet}-gcc")
    need(emulator is not None and compiler is not None, "qemu-user and a cross compiler")
    source = tmp_path / "cat.c"
    source.write_text(
        "#include <stdio.h>\nint main(int n, char** v) { for (int i = 1; i < n; ++i) {"
        'FILE* f = fopen(v[i], "rb"); int c; while (f && (c = getc(f)) > 0) putchar(c);'
        'if (!f) puts("none"); } }\n'
    )
    assert emulator and compiler and device.board
    subprocess.run([compiler, "-o", tmp_path / "cat", source], check=True)
    root = root_of(device.board, tmp_path, Path(f"/usr/{device.triplet}"))
    cpus = "/sys/devices/system/cpu"
    asked = ["/proc/device-tree/model", f"{cpus}/online", f"{cpus}/cpu3/cache/index2/size"]
    asked += [f"{cpus}/cpu0/cache/index4/level", f"{cpus}/cpu4/uevent", "/proc/cpuinfo"]
    done = subprocess.run(
        [emulator, "-cpu", device.board.cpu, "-L", root, tmp_path / "cat", *asked],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    expected = "".join(text(root, name.lstrip("/")) for name in asked[:3]).replace("\0", "")
    assert done.stdout.startswith(expected + "none\nnone\nprocessor\t: 0\n")
    assert done.stdout.count(f"CPU part\t: {device.board.cores[0].part}\n") == 4


def test_batches_grow_however_busy_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator is stood in for by a wait: what took long of the clock and little of a CPU."""
    whole, sizes = made(LOGITS), []

    def answer(_: Emulated, job: object, batch: list[Sample], watch: Watch) -> Run:
        sizes.append(len(batch))
        time.sleep(0.03)
        end = sum(sizes)
        return whole.select(range(end - len(batch), end))

    monkeypatch.setattr(batches, "_BATCH_S", 0.01)
    monkeypatch.setattr(Emulated, "_argv", lambda *_: [])
    monkeypatch.setattr(Emulated, "_answer", answer)
    job: Any = SimpleNamespace(engine="native", device="qemu-aarch64", warmup=0, failed=None)
    job.ends_part = lambda _, samples, __: samples >= 7
    job.check_feeds, job.model = (lambda _: None), SimpleNamespace(precision="fp32")
    samples = [Sample(str(i), {}) for i in range(len(LOGITS))]
    device: Emulated = BOARDS["qemu-aarch64"]
    parts = list(device.parts(job, iter(samples), None, QUIET))
    assert [len(part.samples) for part in parts] == [7, 8, 5]
    assert sizes == [1, 2, 4, 8, 5]
