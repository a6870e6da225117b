"""Devices far away, by adb: a real adbd with Android's shell and tools, lite_run on the real engine
behind it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import adbd
import numpy as np
import pytest
from conftest import same
from far import (
    HOSTILE,
    LONG,
    answered,
    at_the_same_time,
    bit_equal_by_command,
    find_planted_fault,
    nothing_left,
    once_at_work,
    put_there,
    pwned,
    samples,
    x86_model,
)
from test_cli import Command, command  # noqa: F401

from py_runner.devices import adb, connection, sensors
from py_runner.devices.facts import _facts, built_for
from py_runner.devices.install import check, install
from py_runner.engines.native import LIBRARY_VARIABLE
from py_runner.errors import EngineError, UsageError
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.watch import Watch


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[adbd.Device]:
    with adbd.attached(tmp_path_factory.mktemp("adbd")) as found:
        yield found


@pytest.fixture
def here(phone: adbd.Device, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This end: adb knows the device, and the build is named."""
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setenv(LIBRARY_VARIABLE, str(build))
    for name, value in phone.environment.items():
        monkeypatch.setenv(name, value)
    phone.connect()


@pytest.fixture(scope="module")
def home(phone: adbd.Device, build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the device, with lite_run in it."""
    folder = tmp_path_factory.mktemp("device") / HOSTILE
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LIBRARY_VARIABLE, str(build))
        for name, value in phone.environment.items():
            patch.setenv(name, value)
        install(phone.url(folder))
    return folder


@pytest.fixture
def device(phone: adbd.Device, home: Path, here: None) -> str:
    return phone.url(home)


def test_answers_are_those_of_this_machine_bit_by_bit(
    device: str,
    phone: adbd.Device,
    home: Path,
    bundle: Path,
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Install, check, a run of 200 samples, compare and bench, by the command."""
    code, text, error = command("device", "install", device, "--json")
    assert code == 0, error
    (done,) = json.loads(text)["devices"]
    assert (done["build"], done["version"], done["copied"]) == ("x86-64", "0.1.0", 0)
    code, text, error = command("device", "check", device, "--json")
    assert code == 0, error
    (found,) = json.loads(text)["devices"]
    assert (found["build"], found["bits"], found["lite_run"]) == ("x86-64", 64, "0.1.0")
    assert found["cores"] == os.cpu_count() and found["page_bytes"] == os.sysconf("SC_PAGESIZE")
    assert found["free_disk_bytes"] > 0 and 0 < found["free_memory_bytes"] < found["memory_bytes"]

    bit_equal_by_command(command, device, bundle, tmp_path)
    line = ("bench", bundle, "--device", device, "--threads", "1,2", "--repeat", 7, "--json")
    code, text, error = command(*line)
    assert code == 0, error
    counts = [(r["threads"], r["latency"]["count"]) for r in json.loads(text)["runs"]]
    assert counts == [(1, 7), (2, 7)]
    put_there(home)
    assert nothing_left(home) and home.stat().st_mode & 0o777 == 0o700
    assert not pwned(home)


def test_streams_are_clean(device: str) -> None:
    """Every byte goes there and back, and the errors' stream and the exit code stay apart."""
    data = np.random.default_rng(0).bytes(9_000_001) + bytes(range(256))
    with adb.Address.parse(device).connection() as there:
        assert there.call("cat >noise", data=data) == b""
        assert there.call("cat noise; rm noise; echo noise >&2") == data
        assert there.call('printf %s "$1"', HOSTILE + "\n\t\\ \x7f").decode() == (
            HOSTILE + "\n\t\\ \x7f"
        )
        with pytest.raises(EngineError, match=f"{adbd.SERIAL}.*: it failed$"):
            there.call("echo it failed >&2; exit 255")
        with pytest.raises(EngineError, match="ended with code 3"):
            there.call("exit 3")


def test_a_connection_that_is_cut_is_resumed(
    device: str, phone: adbd.Device, home: Path, bundle: Path
) -> None:
    """What was answered is not asked again; a device of the network is connected to again."""
    told: list[int] = []
    said: list[str] = []
    given = samples(40)

    def step(what: str, done: int, _: int | None) -> None:
        if not what.startswith("sending"):  # the bundle, unless a test before has had it sent
            told.append(done)

    watch = Watch(say=said.append, step=step)
    with once_at_work(home, phone.cut):
        far = answered(device, bundle, given, repeat=LONG, watch=watch)
    # Twice where adb's server still has the old connection when the next begins.
    assert 1 <= len(said) <= 2
    assert all(text.endswith("the connection was lost: trying again") for text in said)
    assert told == [16, 40]
    assert same(far, run(x86_model(bundle), given, engine="native"))
    assert nothing_left(home)


def test_nothing_is_left_running_there(
    device: str, home: Path, bundle: Path, tmp_path: Path
) -> None:
    """Where this end vanishes."""
    script = "import sys; from lite_opt.cli.main import main; sys.argv[0] = 'paddle-edge'; main()"
    line = ["run", bundle, "--device", device, "--repeat", 10**7, "-o", tmp_path / "out.run"]
    argv = [sys.executable, "-c", script, *map(str, line)]
    with (
        subprocess.Popen(argv, stderr=subprocess.PIPE) as process,
        once_at_work(home, process.kill),
    ):
        process.communicate(timeout=60)
    assert nothing_left(home) and not (tmp_path / "out.run").exists()


def test_layers_are_looked_at_there(device: str, model: Path, bundle: Path) -> None:
    find_planted_fault(device, model, bundle)


def test_what_has_failed_is_not_sent_on() -> None:
    """Its data had arrived, and then the connection was cut."""
    argv = ["sh", "-c", "echo ready; exit 255"]
    with connection.Begun(argv, b"", "adb://x", lambda *_: None) as begun:
        assert any(begun._child.ended or time.sleep(0.01) for _ in range(6000))
        assert not begun.arrived()


@pytest.mark.parametrize("tools", [adbd.android_programs, adbd.busybox_programs])
@pytest.mark.parametrize("how", ["nobody listens", "all are signalled"])
def test_what_is_made_there_goes(tools: Callable[[Path], Path], how: str, tmp_path: Path) -> None:
    """However a connection ends: whoever speaks into it dies, or everybody is sent a signal."""
    programs = tools(tmp_path / "programs")
    script = "fleeting $PWD/made; mkdir made; echo ready; read -r _; echo spoken; read -r _"
    argv = [programs / "sh", "-c", f"{connection._ENTER}{script}", "sh", tmp_path / "there"]
    for _ in range(1 if how == "nobody listens" else 25):
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": str(programs)},
            start_new_session=True,
        ) as process:
            assert process.stdin and process.stdout
            assert process.stdout.readline() == b"ready\n"
            assert (tmp_path / "there" / "made").exists()
            if how == "nobody listens":
                process.stdout.close()
                process.stdin.write(b"\n")
            else:
                process.stdin.close()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGHUP)
        assert not (tmp_path / "there" / "made").exists()


def test_hostile_names_stay_names(device: str, home: Path, bundle: Path, tmp_path: Path) -> None:
    """Of a bundle's folder, of its model's file, of its samples: here as there."""
    given = samples(2)
    wanted = run(x86_model(bundle), given, engine="native")
    for place, name in enumerate((f"{HOSTILE}.nb", "--checkpoint-action=exec=x\n.nb")):
        folder = tmp_path / f"--exclude={place} {HOSTILE}\n"
        shutil.copytree(bundle, folder)
        (folder / "model.x86.nb").rename(folder / name)
        document = json.loads((folder / "bundle.json").read_text())
        document["targets"]["x86"]["file"] = name
        (folder / "bundle.json").write_text(json.dumps(document))
        before = len(list(home.glob("bundles/*")))
        assert same(answered(device, folder, given), wanted)
        assert len(list(home.glob("bundles/*"))) == before + 1
        answered(device, folder, given)
        assert not list((home / "partial").iterdir())
    assert not pwned(home)


def test_two_commands_at_once(
    device: str, home: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are right, and one at least says that its latencies are of both."""
    at_the_same_time(monkeypatch)
    warned: list[str] = []
    given = [samples(8, seed) for seed in range(2)]

    def one(own: list[Any]) -> Run:
        return answered(device, bundle, own, repeat=5000, watch=Watch(warn=warned.append))

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(one, given))
    for own, far in zip(given, runs):
        assert same(far, run(x86_model(bundle), own, engine="native"))
    assert warned and all("another job runs there" in text for text in warned)
    assert nothing_left(home)


def test_a_disk_that_is_full(phone: adbd.Device, here: None, bundle: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        there = phone.url(disk)
        (disk / "filler").write_bytes(bytes(600_000))
        with pytest.raises(EngineError, match=f"its disk is full: .*: adb://{adbd.SERIAL}/FOLDER"):
            install(there)
        assert not list((disk / "partial").iterdir())
        (disk / "filler").unlink()
        assert install(there).version == "0.1.0"
        large = [replace(s, feeds={"x": np.repeat(s.feeds["x"], 200, 0)}) for s in samples(2)]
        with pytest.raises(EngineError, match="its disk is full"):
            answered(there, bundle, large)
        assert nothing_left(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_which_device_is_meant(
    device: str, phone: adbd.Device, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a serial it is the one that is attached, or the one that adb's variable names."""
    alone = f"adb://{device.partition(adbd.SERIAL)[2]}"
    assert check(alone).lite_run == "0.1.0"
    phone.connect(adbd.OTHER)
    try:
        with pytest.raises(EngineError, match="several devices are attached: name one: ") as told:
            check(alone)
        assert f"adb://{adbd.SERIAL}, adb://{adbd.OTHER}" in str(told.value)
        monkeypatch.setenv("ANDROID_SERIAL", adbd.OTHER)
        assert check(alone).lite_run == "0.1.0"
        monkeypatch.delenv("ANDROID_SERIAL")
    finally:
        phone.adb("disconnect", adbd.OTHER)
    with pytest.raises(EngineError, match=f"is not attached; attached is adb://{adbd.SERIAL}"):
        check("adb://emulator-9998")
    with pytest.raises(EngineError, match=r"failed to connect to '127\.0\.0\.1:99'"):
        check("adb://127.0.0.1:99")
    phone.cut()
    with pytest.raises(EngineError, match="no device is attached: plug one in"):
        check("adb://")
    assert check(device).lite_run == "0.1.0"  # of the network: it is connected to


def test_devices_that_are_attached(device: str, command: Command) -> None:  # noqa: F811
    code, text, _ = command("device", "list", "--json")
    found = {one["url"]: one["named_in"] for one in json.loads(text)["devices"]}
    assert code == 0 and found[f"adb://{adbd.SERIAL}"] == "adb: device"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("unauthorized", "unauthorized: allow this computer on its screen"),
        ("offline", "offline: it does not answer"),
        ("no permissions (user in plugdev group?); see [http://...]", "does not let you use it"),
        ("recovery", "recovery$"),
    ],
)
def test_a_device_that_is_not_ready(
    state: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No device here is so: a script says what adb prints of one."""
    said = f"List of devices attached\n0123\t{state}\n\n"
    (tmp_path / "adb").write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    (tmp_path / "adb").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EngineError, match=words):
        check("adb://0123")


def test_without_adb_or_its_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{tmp_path}/none/socket")
    with pytest.raises(EngineError, match=r"adb devices: .*cannot connect to daemon"):
        check("adb://0123")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "adbutils", None)
    with pytest.raises(EngineError, match="adb is not installed: `apt install adb`, or `pip inst"):
        check("adb://0123")


@pytest.mark.parametrize("wrong", ["adb:x", "adb://a b", "adb://-s", "adb://x%00", "adb://x/%00"])
def test_what_is_no_device(wrong: str) -> None:
    with pytest.raises(UsageError):
        check(wrong)


def test_addresses() -> None:
    def parts(text: str) -> tuple[str, str]:
        found = adb.Address.parse(text)
        return found.host, found.folder

    assert parts("adb://") == ("", "/data/local/tmp/paddle-edge")
    assert parts("adb:///data/local/tmp/a%20b/") == ("", "/data/local/tmp/a b")
    assert parts("adb://[fe80::1]:5555/x") == ("[fe80::1]:5555", "/x")
    serial = "adb-1 (2)._adb-tls-connect._tcp"
    assert parts(adb.url_of(serial)) == (serial, "/data/local/tmp/paddle-edge")


def test_an_android_is_asked(device: str, phone: adbd.Device, command: Command) -> None:  # noqa: F811
    """No Android is here: scripts say what `getprop` and `dumpsys` print of one."""
    thermal = (
        "Thermal Status: 2\nCached temperatures:\n"
        "\tTemperature{mValue=1.0, mType=0, mName=CPU0, mStatus=0}\n"
        "Current temperatures from HAL:\n"
        "\tTemperature{mValue=54.6, mType=0, mName=CPU0, mStatus=0}\n"
        "\tTemperature{mValue=3900.0, mType=6, mName=vbat, mStatus=0}\n"
    )
    props = {"version.sdk": "34", "cpu.abilist": "arm64-v8a,armeabi-v7a", "manufacturer": "Google"}
    says = "".join(f"*.{name}) echo {value};;\n" for name, value in props.items())
    scripts = {"getprop": f"case $1 in\n{says}esac", "dumpsys": f"cat <<'END'\n{thermal}END"}
    try:
        for name, text in scripts.items():
            (phone.programs / name).write_text(f"#!{phone.programs}/sh\n{text}\n")
            (phone.programs / name).chmod(0o700)
        facts = check(device)
        code, text, _ = command("device", "check", device)
        with pytest.raises(EngineError, match="lite_run for android-arm64-v8a is not here: "):
            install(device)
    finally:
        for name in scripts:
            (phone.programs / name).unlink()
    assert (facts.android_api, facts.build, facts.model) == (34, "android-arm64-v8a", "Google")
    assert facts.sensors["celsius"]["CPU0"] == 54.6 and "vbat" not in facts.sensors["celsius"]
    assert facts.sensors["android"] == 2
    said = sensors.between(facts.sensors, facts.sensors)["throttled"]
    assert said == ["Android: thermal status moderate"]
    assert code == 0 and "bionic, Android API 34" in text


def test_androids_are_told_by_what_they_say() -> None:
    """Of phones that are not here: what `getprop` and their files say."""
    cpuinfo = "processor: 0\nFeatures: fp asimd asimdhp asimddp\nCPU part: 0xd41\n"
    said = {"machine": "aarch64", "elf": "7f 45 4c 46 02", "cpuinfo": cpuinfo, "android": "34",
            "abis": "arm64-v8a,armeabi-v7a,armeabi", "product": "Google\nPixel 6",
            "page_bytes": "16384"}  # fmt: skip
    facts = _facts("adb://0123", said)
    assert (facts.build, facts.libc) == ("android-arm64-v8a", "bionic, Android API 34")
    assert (facts.model, facts.features) == ("Google Pixel 6", ("dot product", "fp16"))
    assert "16384 bytes" in " ".join(facts.advice())
    assert _facts("x", {**said, "abis": "armeabi-v7a"}).build == "android-armeabi-v7a"
    emulated = _facts("x", {**said, "abis": "x86_64", "machine": "x86_64"})
    assert emulated.build == "" and "Android with ABI x86_64" in emulated.advice()[0]
    head = b"\x7fELF\x02" + bytes(13) + b"\xb7\x00" + bytes(44)
    assert built_for(head) == "aarch64"
    assert built_for(head + b"/system/bin/linker64\0") == "android-arm64-v8a"
