"""Devices far away, by ssh: a real server on loopback, lite_run on the real engine behind it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from adbd import android_programs, busybox_programs
from conftest import same
from far import (
    HOSTILE,
    LONG,
    answered,
    at_the_same_time,
    at_work,
    bit_equal_by_command,
    find_planted_fault,
    held,
    nothing_left,
    once_at_work,
    put_there,
    pwned,
    samples,
    x86_model,
)
from sshd import Server, serving
from test_cli import Command, command  # noqa: F401

from lite_opt import fleet
from lite_opt.conversion.convert import convert
from py_runner.devices import BOARDS, remote, sensors
from py_runner.devices.facts import _facts, built_for
from py_runner.devices.install import check, install
from py_runner.devices.known import DEVICES_VARIABLE, known
from py_runner.devices.ssh import CONFIG_VARIABLE, Address
from py_runner.engines.native import LIBRARY_VARIABLE
from py_runner.errors import EngineError, RefusedError, UsageError
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.watch import Watch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(autouse=True)
def here(server: Server, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This end: the server is known, and the build named."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(server.config))
    monkeypatch.setenv(LIBRARY_VARIABLE, str(build))


@pytest.fixture(scope="module")
def home(server: Server, build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the device, with lite_run in it."""
    folder = tmp_path_factory.mktemp("device") / HOSTILE
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, str(server.config))
        patch.setenv(LIBRARY_VARIABLE, str(build))
        install(url(server, folder))
    return folder


@pytest.fixture
def device(server: Server, home: Path) -> str:
    return url(server, home)


def url(server: Server, folder: Path) -> str:
    """Percent signs keep a device's name a URL."""
    return server.url(Path(quote(str(folder))))


def test_answers_are_those_of_this_machine_bit_by_bit(
    device: str,
    server: Server,
    home: Path,
    bundle: Path,
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    """200 samples, by the command; a second time nothing of the bundle is sent."""
    document = bit_equal_by_command(command, device, bundle, tmp_path)
    assert document["sensors"]["throttled"] == []
    there = put_there(home)
    before = there.stat().st_ino
    assert same(
        answered(device, bundle, samples(3)), run(x86_model(bundle), samples(3), engine="native")
    )
    assert there.stat().st_ino == before
    assert nothing_left(home) and home.stat().st_mode & 0o777 == 0o700
    assert not pwned(server.folder / "home", home)


def test_bench_measures_there(device: str, bundle: Path, command: Command) -> None:  # noqa: F811
    line = ("bench", bundle, "--device", device, "--threads", "1,2", "--repeat", 7, "--json")
    code, text, error = command(*line)
    assert code == 0, error
    runs = json.loads(text)["runs"]
    assert [(r["threads"], r["latency"]["count"], r["device"]) for r in runs] == [
        (1, 7, device),
        (2, 7, device),
    ]


def test_what_a_device_is(device: str, server: Server, tmp_path: Path, command: Command) -> None:  # noqa: F811
    empty = url(server, tmp_path / "empty")
    code, text, error = command("device", "check", device, empty, "--json")
    assert code == 0, error
    full, bare = json.loads(text)["devices"]
    assert full["machine"] == os.uname().machine and full["bits"] == 64
    assert full["cores"] == os.cpu_count() and full["page_bytes"] == os.sysconf("SC_PAGESIZE")
    assert full["build"] == "x86-64" and "int8 is wrong on x86" in full["advice"][-1]
    assert 0 < full["free_memory_bytes"] < full["memory_bytes"] and full["free_disk_bytes"] > 0
    assert full["libc"].startswith("glibc ")
    assert (full["lite_run"], bare["lite_run"]) == ("0.1.0", "")
    code, text, error = command("device", "check", device)
    assert code == 0 and "x86_64" in text and "0.1.0" in text
    assert f"{device}: build x86-64" in error
    code, text, error = command("device", "check", device, "ssh://stranger", "--json")
    document = json.loads(text)
    assert code == 1 and [one["url"] for one in document["devices"]] == [device]
    assert [one["url"] for one in document["failed"]] == ["ssh://stranger"]
    code, text, error = command("device", "check", "ssh://stranger")
    assert code == 3 and "Host key verification failed" in error


def test_only_what_changed_is_copied(server: Server, build: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    first = install(url(server, there))
    assert (first.copied, first.files, first.version) == (2, 2, "0.1.0")
    assert (
        first.sent_bytes
        == sum(p.stat().st_size for p in build.glob("*/*") if p.is_file() and not p.is_symlink())
        - (build / "include/lite_run.h").stat().st_size
    )
    assert install(url(server, there)).copied == 0
    (runner,) = (there / "runners").iterdir()
    (runner / "bin/lite_run").write_bytes(b"damaged")
    again = install(url(server, there))
    assert again.copied == 1 and not list((there / "partial").iterdir())
    assert check(url(server, there)).lite_run == "0.1.0"


def test_a_connection_that_is_cut_is_resumed(
    device: str, server: Server, home: Path, bundle: Path
) -> None:
    """What was answered is not asked again."""
    told: list[int] = []
    said: list[str] = []
    given = samples(40)
    watch = Watch(say=said.append, step=lambda what, done, _: told.append(done))
    with once_at_work(home, server.cut):
        far = answered(device, bundle, given, repeat=LONG, watch=watch)
    assert len(said) == 1 and said[0].endswith("trying again")
    assert told == [16, 40]
    assert same(far, run(x86_model(bundle), given, engine="native"))
    assert far.latency["count"] == 40 * LONG
    assert nothing_left(home)


def test_a_runner_that_is_killed_is_started_again(device: str, home: Path, bundle: Path) -> None:
    said: list[str] = []

    def kill() -> None:
        for pid in at_work(home):
            os.kill(pid, signal.SIGKILL)

    with once_at_work(home, kill):
        far = answered(device, bundle, samples(8), repeat=LONG, watch=Watch(say=said.append))
    assert len(said) == 1 and "lite_run was killed there: trying again" in said[0]
    assert same(far, run(x86_model(bundle), samples(8), engine="native"))


def test_who_keeps_cutting_is_given_up_on(
    device: str, home: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_WAIT_S", 0.01)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            for pid in at_work(home):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(EngineError, match="was killed there; gave up after 5 tries"):
            answered(device, bundle, samples(2), repeat=10**7)
    finally:
        over.set()
        thread.join()
    assert nothing_left(home)


@contextmanager
def at_a_terminal(*line: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a group of its own, as Ctrl-C reaches all of it."""
    script = "import sys; from lite_opt.cli.main import main; sys.argv[0] = 'paddle-edge'; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, line)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # What starts the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("devices", [1, 2])
def test_nothing_is_left_running_there(
    sent: signal.Signals,
    devices: int,
    device: str,
    server: Server,
    home: Path,
    bundle: Path,
    tmp_path: Path,
) -> None:
    """By Ctrl-C twice, and where this end vanishes; all devices of a fleet end at once."""
    folders = [home, tmp_path / "other"][:devices]
    for folder in folders[1:]:
        shutil.copytree(home, folder, symlinks=True)
    each = [word for folder in folders for word in ("--device", url(server, folder))]
    line = ["run", bundle, *each, "--repeat", 10**7, "-o", tmp_path / "out.run"]
    with at_a_terminal(*line) as process:
        _until(lambda: all(at_work(folder) for folder in folders))
        os.killpg(process.pid, sent)
        if sent == signal.SIGINT:
            _heard(process)
            time.sleep(1)
            os.killpg(process.pid, sent)
        start = time.monotonic()
        _, error = process.communicate(timeout=30)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)
    assert sent != signal.SIGINT or error.endswith(b"paddle-edge: interrupted\n")
    assert time.monotonic() - start < 8  # not one after another
    assert all(map(nothing_left, folders))


def _heard(process: subprocess.Popen[bytes]) -> bytes:
    """What the command says until it has heard the first Ctrl-C."""
    assert process.stderr is not None
    said = b""
    while b"stopping after" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def _until(true: Callable[[], bool]) -> None:
    assert any(true() or time.sleep(0.02) for _ in range(1500))


def test_ctrl_c_leaves_the_connection(
    device: str, home: Path, bundle: Path, tmp_path: Path
) -> None:
    """The batch that is at work is not lost by it."""
    out = tmp_path / "out.run"
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(1).standard_normal((48, 3, 16, 16)).astype("float32"))
    line = ("run", bundle, "--data", data, "--device", device, "--repeat", 3000, "-o", out)
    with at_a_terminal(*line) as process:
        with held(home):
            os.killpg(process.pid, signal.SIGINT)
            heard = _heard(process)
        _, error = process.communicate(timeout=60)
    error = heard + error
    assert process.returncode == 130 and b"trying again" not in error, error
    assert b"stopped: " in error and b"16 of 48" in error
    assert nothing_left(home)


def test_a_fleet_that_is_stopped_goes_on(
    device: str,
    server: Server,
    home: Path,
    bundle: Path,
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Ctrl-C once: what is at work ends, what was answered is kept, and is not asked again."""
    other = tmp_path / "other"
    shutil.copytree(home, other, symlinks=True)
    data, out = tmp_path / "data.npy", tmp_path / "fleet"
    np.save(data, np.random.default_rng(1).standard_normal((48, 3, 16, 16)).astype("float32"))
    line = ["run", bundle, "--data", data, "--device", device, "--device", url(server, other)]
    line += ["--repeat", 2000, "--keep-every", 0.01, "-o", out]
    with at_a_terminal(*line) as process:
        with held(home, other):
            process.send_signal(signal.SIGINT)
            heard = _heard(process)
        _, error = process.communicate(timeout=60)
    error = heard + error
    assert process.returncode == 130, error
    assert b"go on with --resume" in error
    assert nothing_left(home) and nothing_left(other)
    code, _, error = command(*line[:-1], out, "--resume", "--json")
    assert code == 0, error
    local = tmp_path / "local.run"
    code, _, error = command("run", bundle, "--data", data, "--engine", "native", "-o", local)
    assert code == 0, error
    runs = [Run.open(place) for place in out.glob("*.run")]
    assert len(runs) == 2 and all(same(Run.open(local), done) for done in runs)


def test_time_limits_hold(device: str, home: Path, bundle: Path) -> None:
    with pytest.raises(RefusedError, match=r"0\.3 s"):
        answered(device, bundle, samples(1), repeat=10**7, time_limit_s=0.3)
    assert nothing_left(home)


def test_a_host_that_is_not_known_is_refused(home: Path, bundle: Path, server: Server) -> None:
    stranger = url(server, home).replace("board", "stranger")
    with pytest.raises(EngineError, match="Host key verification failed: its key is not"):
        check(stranger)
    with pytest.raises(EngineError, match="Host key verification failed"):
        answered(stranger, bundle, samples(1))


def test_a_device_that_cannot_be_reached(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"ssh://board:1: ssh: connect to host .* refused"):
        check("ssh://board:1")
    config = tmp_path / "config"
    text = server.config.read_text().replace(f"{server.folder}/user", f"{server.folder}/host")
    config.write_text(text)
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    with pytest.raises(EngineError, match="Permission denied: your keys do not open it"):
        check("ssh://board")


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="ssh is not installed: `apt install openssh-client`"):
        check("ssh://board")


@pytest.mark.parametrize(
    "wrong",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h:0", "ssh://h:99999", "ssh://u@-h",
     "ssh://-u@h", "ssh://h\n", "ssh://h/%00"],
)  # fmt: skip
def test_what_is_no_device(wrong: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(wrong)


def test_addresses_and_engines(bundle: Path) -> None:
    def folder(text: str) -> tuple[str, str, str]:
        found = Address.parse(text)
        return found.host, found.port, found.folder

    assert folder("ssh://pi@rasp") == ("pi@rasp", "", ".paddle-edge")
    assert folder("ssh://pi@rasp:22/opt/a%20b") == ("pi@rasp", "22", "/opt/a b")
    assert folder("ssh://[fe80::1%25eth0]:22/~/-x") == ("fe80::1%25eth0", "22", "./-x")
    with pytest.raises(UsageError, match="engine lite runs on device cpu only"):
        run(x86_model(bundle), samples(1), engine="lite", device="ssh://pi")


def test_folders_are_private(server: Server, tmp_path: Path) -> None:
    """One that others may look into is refused, not changed."""
    tmp_path.chmod(0o755)
    with pytest.raises(EngineError, match="others may look into it"):
        check(url(server, tmp_path))
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    if os.geteuid() == 0:
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        os.chown(other, 12345, -1)
        with pytest.raises(EngineError, match="belongs to another user"):
            check(url(server, other))


def test_without_a_runner_or_without_permission(
    server: Server, home: Path, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="not there: install it by `paddle-edge device install`"):
        answered(url(server, tmp_path / "none"), bundle, samples(1))
    there = tmp_path / "there"
    shutil.copytree(home, there, symlinks=True)
    (runner,) = (there / "runners").iterdir()
    (runner / "bin/lite_run").chmod(0o600)
    with pytest.raises(EngineError, match=r"cannot be started there: .*denied: install it again"):
        answered(url(server, there), bundle, samples(1))


def test_a_build_of_another_kind(
    server: Server, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path))
    (tmp_path / "bin").mkdir()
    with pytest.raises(EngineError, match="holds no bin/lite_run: build it for x86-64"):
        install(url(server, tmp_path / "there"))
    head = bytearray((build / "bin/lite_run").read_bytes())
    head[18] = 183  # EM_AARCH64
    (tmp_path / "bin/lite_run").write_bytes(head)
    with pytest.raises(EngineError, match="is built for aarch64, and the device takes x86-64"):
        install(url(server, tmp_path / "there"))
    monkeypatch.delenv(LIBRARY_VARIABLE)
    with pytest.raises(EngineError, match=f"lite_run for x86-64 is not here: .*{LIBRARY_VARIABLE}"):
        install(url(server, tmp_path / "there"))
    assert not (tmp_path / "there/current").exists()


def test_hostile_names_stay_names(
    device: str, server: Server, home: Path, bundle: Path, tmp_path: Path
) -> None:
    """Of a bundle's folder, of its model's file, of its samples: here as there."""
    given = samples(2)
    wanted = run(x86_model(bundle), given, engine="native")
    for place, name in enumerate((f"{HOSTILE}.nb", "--checkpoint-action=exec=x\n.nb")):
        folder = tmp_path / f"--exclude={place} {HOSTILE}\n"
        shutil.copytree(bundle, folder)
        (folder / "model.x86.nb").rename(folder / name)
        document = json.loads((folder / "bundle.json").read_text())
        document["targets"]["x86"]["file"] = name
        document["name"] = HOSTILE
        (folder / "bundle.json").write_text(json.dumps(document))
        far = answered(device, folder, given)
        assert all(
            a.tobytes() == b.tobytes()
            for output in far.outputs
            for a, b in zip(far.outputs[output], wanted.outputs[output])
        )
    assert not pwned(server.folder / "home", home)


def test_a_bundle_that_is_damaged_there_is_copied_again(
    device: str, home: Path, bundle: Path
) -> None:
    answered(device, bundle, samples(1))
    files = list((home / "bundles").glob("*/model.x86.nb"))
    for file in files:
        file.write_bytes(b"x" * file.stat().st_size)
    assert answered(device, bundle, samples(1))
    assert any(file.read_bytes() == (bundle / "model.x86.nb").read_bytes() for file in files)


def test_what_lite_run_refuses_is_said_of_the_file_here(
    device: str, bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "damaged.bundle"
    shutil.copytree(bundle, copy)
    file, was_sound = copy / "model.x86.nb", x86_model(copy)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(RefusedError, match=f"{copy}/model.x86.nb: damaged: its checksum"):
        run(was_sound, samples(1), engine="native", device=device)


def test_a_fleet(
    device: str,
    server: Server,
    home: Path,
    bundle: Path,
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Eight devices, two with a lite_run that says another version, one with a damaged bundle: both
    commands name the three. One more cannot run: the others are not stopped by it."""
    shutil.rmtree(home / "bundles", ignore_errors=True)  # other tests damage theirs
    answered(device, bundle, samples(1))
    folders = [tmp_path / f"board{n}" for n in range(8)]
    for folder in folders:
        shutil.copytree(home, folder, symlinks=True)
    for folder in folders[2:4]:
        (runner,) = (folder / "runners").iterdir()
        for file in (runner / "bin/lite_run", *runner.glob("lib*/**/liblite_run.so.0.1.0")):
            file.write_bytes(file.read_bytes().replace(b"0.1.0", b"0.0.9"))
    for file in (folders[5] / "bundles").glob("*/model.x86.nb"):
        file.write_bytes(b"x" * file.stat().st_size)
    urls = [url(server, folder) for folder in folders]
    code, text, error = command("device", "check", *urls, "--json")
    assert code == 0, error
    found = json.loads(text)
    assert [one["url"] for one in found["devices"]] == urls
    assert sorted(found["unlike"]) == [urls[2], urls[3], urls[5]]
    assert found["unlike"][urls[2]] == ["lite_run 0.0.9: most have 0.1.0"]
    assert "damaged there" in found["unlike"][urls[5]][0]
    code, text, error = command("device", "check", *urls)
    table = text[text.index("Unlike the others") :]
    assert [n for n, one in enumerate(urls) if one in table] == [2, 3, 5]

    data, out = tmp_path / "data.npy", tmp_path / "fleet"
    np.save(data, np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype("float32"))
    (runner,) = (folders[7] / "runners").iterdir()
    (runner / "bin/lite_run").chmod(0o600)
    line = ["run", bundle, "--data", data]
    each = [word for one in urls for word in ("--device", one)]
    code, text, error = command(*line, "--json", "-o", out, *each)
    document = json.loads(text)
    assert code == 1 and not document["passed"], error
    rows = document["devices"]
    assert [bool(row["unlike"]) for row in rows] == [n in (2, 3, 5, 7) for n in range(8)]
    assert [row["passed"] for row in rows] == [True] * 7 + [False]
    assert "install it again by" in rows[7]["error"] and rows[7]["run"] is None
    local = tmp_path / "local.run"
    code, _, error = command(*line, "--engine", "native", "-o", local)
    assert code == 0, error
    assert all(same(Run.open(local), Run.open(row["run"])) for row in rows[:7])
    assert len(list(out.glob("*.run"))) == 7
    code, text, error = command("compare", local, out, "--json")
    judged = json.loads(text)["devices"]
    assert code == 1 and [row["passed"] for row in judged] == [True] * 7 + [False], error
    assert [row["answers"] for row in judged] == ["agree within 0.0e+00"] * 7 + ["failed"]
    code, text, error = command("compare", local, out)
    named = ",".join(urls[n] for n in (2, 3, 5, 7))
    assert f"FAILED:unliketheothers:{named}" in "".join(text.split())
    code, _, error = command("compare", local, out, "--html", tmp_path / "x.html")
    assert code == 2 and "--html is of two runs: name one of" in error
    wrong = Run.open(local)
    turned = {name: [v[..., ::-1] for v in values] for name, values in wrong.outputs.items()}
    replace(wrong, outputs=turned).save(tmp_path / "wrong.run")
    code, text, error = command("compare", tmp_path / "wrong.run", out, "--json")
    assert code == 1 and "differ" in json.loads(text)["devices"][0]["answers"]
    (out / "fleet.json").write_text("{}")
    code, _, error = command("compare", local, out)
    assert code == 3 and "fleet.json: damaged" in error
    code, _, error = command(*line, "-o", out, *each)
    assert code == 2 and "exists already" in error
    (out / "letters").mkdir()
    code, _, error = command(*line, "-o", out, *each, "--force")
    assert code == 2 and "holds other things than runs" in error
    code, _, error = command(*line, "-o", tmp_path / "x", "--device", device, "--device", device)
    assert code == 2 and "given twice" in error and not (tmp_path / "x").exists()


def test_a_run_that_is_unlike_the_others_is_named(bundle: Path) -> None:
    """By its answers: those of a device whose engine computes otherwise."""
    sound = run(x86_model(bundle), samples(3), engine="native")
    close = {k: [np.nextafter(v, np.float32(9)) for v in vs] for k, vs in sound.outputs.items()}
    wrong = {k: [v[..., ::-1].copy() for v in vs] for k, vs in sound.outputs.items()}
    runs = {"a": replace(sound, outputs=wrong), "b": sound, "c": sound}
    found = fleet._answers({**runs, "d": replace(sound, outputs=close)})
    assert [found[name][0] for name in "abcd"] == [False, True, True, True]
    assert found["a"][1].startswith("differ: ") and found["d"][1].startswith("agree within ")


def test_two_commands_at_once(
    device: str, home: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are right, and one at least says that its latencies are of both."""
    at_the_same_time(monkeypatch)
    warned: list[str] = []
    given = [samples(8, seed) for seed in range(2)]
    with ThreadPoolExecutor() as pool:
        runs = list(
            pool.map(
                lambda own: answered(
                    device, bundle, own, repeat=5000, watch=Watch(warn=warned.append)
                ),
                given,
            )
        )
    for own, far in zip(given, runs):
        assert same(far, run(x86_model(bundle), own, engine="native"))
    assert warned and all("another job runs there" in text for text in warned)
    assert nothing_left(home)


def test_a_disk_that_is_full(server: Server, home: Path, bundle: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    large = [replace(s, feeds={"x": np.repeat(s.feeds["x"], 200, 0)}) for s in samples(2)]
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", disk])
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        there = url(server, disk)
        (disk / "filler").write_bytes(bytes(600_000))
        with pytest.raises(EngineError, match="its disk is full: make room"):
            install(there)
        assert not list((disk / "partial").iterdir())
        (disk / "filler").unlink()
        assert install(there).version == "0.1.0"
        with pytest.raises(EngineError, match="its disk is full"):
            answered(there, bundle, large)
        assert nothing_left(disk)
        assert same(
            answered(there, bundle, samples(1)), answered(url(server, home), bundle, samples(1))
        )
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("tools", [busybox_programs, android_programs])
def test_other_shells(
    tools: Callable[[Path], Path],
    build: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing of GNU's is: install, check, a connection that is cut, and the answers."""
    there, said = tmp_path / "there", []
    (tmp_path / "sshd").mkdir()
    with serving(tmp_path / "sshd", PATH=str(tools(tmp_path / "programs"))) as small:
        monkeypatch.setenv(CONFIG_VARIABLE, str(small.config))
        place = url(small, there)
        assert (install(place).copied, install(place).copied) == (2, 0)
        facts = check(place)
        assert (facts.bits, facts.lite_run, facts.damaged) == (64, "0.1.0", ())
        assert facts.memory_bytes and facts.free_disk_bytes
        watch = Watch(say=said.append)
        with once_at_work(there, small.cut):
            far = answered(place, bundle, samples(40), repeat=LONG, watch=watch)
        assert len(said) == 1 and same(far, run(x86_model(bundle), samples(40), engine="native"))
        assert nothing_left(there)
        for file in (there / "bundles").glob("*/model.x86.nb"):
            file.write_bytes(b"x" * file.stat().st_size)
        assert len(check(place).damaged) == 1


def test_throttling_is_told(build: Path, bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The sensors are files of ours: no loopback has a board's. The reading of them is the real
    one, there and here."""
    sysfs = tmp_path / "sys"
    zone, core = sysfs / "class/thermal/thermal_zone0", sysfs / "devices/system/cpu/cpu0/cpufreq"
    firmware = sysfs / "devices/platform/soc/soc:firmware"
    for folder in (zone, core, firmware):
        folder.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("61500\n")
    (firmware / "get_throttled").write_text("0\n")
    files = {"cur": 1800000, "max": 1800000}
    for name, khz in files.items():
        (core / f"scaling_{name}_freq").write_text(f"{khz}\n")
    (core / "cpuinfo_max_freq").write_text("1800000\n")
    (core / "scaling_governor").write_text("performance\n")
    there = tmp_path / "there"
    (tmp_path / "sshd").mkdir()
    warned: list[str] = []

    def heat() -> None:
        (zone / "temp").write_text("82300\n")
        (core / "scaling_max_freq").write_text("1200000\n")
        (core / "scaling_cur_freq").write_text("1100000\n")
        (firmware / "get_throttled").write_text("e0008\n")

    with serving(tmp_path / "sshd", PADDLE_EDGE_SYSFS=str(sysfs)) as hot:
        monkeypatch.setenv(CONFIG_VARIABLE, str(hot.config))
        install(url(hot, there))
        facts = check(url(hot, there))
        assert facts.mhz == (1800.0,) and facts.governors == ("performance",)
        assert facts.sensors["celsius"] == {"cpu-thermal": 61.5}
        with once_at_work(there, heat):
            far = answered(
                url(hot, there), bundle, samples(1), repeat=200_000, watch=Watch(warn=warned.append)
            )
    assert far.sensors is not None
    assert far.sensors["before"]["celsius"] == {"cpu-thermal": 61.5}
    assert far.sensors["after"]["celsius"] == {"cpu-thermal": 82.3}
    assert far.sensors["throttled"] == [
        "cpu0 may run at 1200 MHz, 1800 MHz before",
        "cpu0 runs at 1100 MHz, 1800 MHz before",
        "firmware: frequency capped",
        "firmware: throttled",
        "firmware: soft temperature limit",
    ]
    assert len(warned) == 5 and all("was throttled" in text for text in warned)
    far.save(tmp_path / "hot.run")
    assert Run.open(tmp_path / "hot.run").sensors == far.sensors


def test_boards_are_told_by_what_they_say() -> None:
    """Of boards that are not here: what their files hold."""
    pi5 = "processor: 0\nFeatures: fp asimd asimdhp asimddp\nCPU part: 0xd0b\n"
    facts = _facts("ssh://pi5", {"machine": "aarch64", "elf": "7f 45 4c 46 02", "cpuinfo": pi5,
                                 "page_bytes": "16384", "libc": "glibc 2.36"})  # fmt: skip
    assert (facts.build, facts.features) == ("aarch64", ("dot product", "fp16"))
    advice = " ".join(facts.advice())
    assert "int8: the cores have the dot product" in advice and "16384 bytes" in advice
    old = replace(facts, bits=32, features=())
    assert old.build == "armv7hf" and "not recipe fp16" in " ".join(old.advice())
    assert replace(facts, machine="riscv64").build == ""
    assert replace(facts, libc="musl libc (aarch64)").advice()[1].startswith("musl libc")
    assert built_for(b"\x7fELF\x01" + bytes(13) + b"\x28\x00") == "armv7hf"
    assert built_for(b"#!/bin/sh") == ""
    assert sensors.parse("/sys/class/thermal/thermal_zone0/temp\tnothing")["celsius"] == {}


def test_devices_that_are_known(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,  # noqa: F811
) -> None:
    # No server of adb's is there, and none can be started.
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{tmp_path}/none/socket")
    listed = tmp_path / "fleet.txt"
    listed.write_text("# ours\nssh://pi@line-3:2222/opt/edge  # the third\n\nssh://board\n")
    monkeypatch.setenv(DEVICES_VARIABLE, str(listed))
    assert [one.url for one in known()] == [
        "ssh://pi@line-3:2222/opt/edge",
        "ssh://board",
        "ssh://stranger",
    ]
    code, text, _ = command("device", "list", "--json")
    assert code == 0 and json.loads(text)["devices"][1]["url"] == "ssh://board"
    listed.write_text("adb:x\n")
    code, _, error = command("device", "list")
    assert code == 2 and "adb:x" in error


def test_only_an_arm_judges_a_file_for_arm(device: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no ARM: it cannot judge the file for arm"):
        convert(model, tmp_path / "b", device=device)
    with pytest.raises(UsageError, match="a device judges the file for arm: make and check that"):
        convert(model, tmp_path / "b", device=device, check=False)
    assert not (tmp_path / "b").exists()


def test_layers_are_looked_at_there(device: str, model: Path, bundle: Path) -> None:
    """A planted fault, in the model that the device gets, is found at its layer."""
    find_planted_fault(device, model, bundle)


def test_an_arm_board_far_away_judges(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ARM engine, emulated on the other side of the connection: `uname` and `lite_run`
    there are scripts, because the machine behind the loopback is no board."""
    pi4 = BOARDS["qemu-aarch64:pi4"]
    if pi4.missing():
        pytest.skip(pi4.missing())
    there, programs = tmp_path / "there", tmp_path / "programs"
    runner = there / "runners/emulated/bin/lite_run"
    for folder in (programs, runner.parent, tmp_path / "sshd", tmp_path / "root"):
        folder.mkdir(parents=True)
    there.chmod(0o700)
    (there / "current").write_text("emulated\n")
    emulator = shlex.join(pi4._argv(tmp_path / "root"))
    scripts = {programs / "uname": "echo aarch64", runner: f'exec {emulator} "$@"'}
    for script, text in scripts.items():
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o700)
    with serving(tmp_path / "sshd", PATH=f"{programs}:{os.environ['PATH']}") as far:
        monkeypatch.setenv(CONFIG_VARIABLE, str(far.config))
        place = url(far, there)
        facts = check(place)
        assert (facts.build, facts.lite_run) == ("aarch64", "0.1.0")
        assert facts.engine_features == ()
        done = convert(model, tmp_path / "b", device=place)
        assert done and f"({place})" in json.dumps(done.bundle.check)
        arm = done.bundle.model("arm")
        assert same(
            run(arm, samples(9), engine="native", device=place),
            run(arm, samples(9), engine="native", device="qemu-aarch64:pi4"),
        )
