"""A real adbd, adb's part on a device, in a network of its own, with the programs of an Android:
mksh as its shell, and toybox for all else. It answers to whoever reaches its port."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import need
from test_native import BUILD, only_one

SERIAL = "127.0.0.1:5555"
OTHER = "127.0.0.2:5555"  # the same adbd: to adb it is another device


@dataclass
class Device:
    """The device, and the variables with which adb here finds the server that sees it."""

    environment: Mapping[str, str]
    programs: Path  # all that its commands find
    log: Path

    def url(self, folder: Path) -> str:
        """The device, with its files in a folder."""
        return f"adb://{SERIAL}{quote(str(folder))}"

    def adb(self, *words: str) -> str:
        """What adb says here."""
        argv = ["adb", *words]
        env = {**os.environ, **self.environment}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    def connect(self, serial: str = SERIAL) -> None:
        """Until it is there: after a cut adb's server may still be busy with the old connection."""
        for _ in range(100):
            self.adb("connect", serial)
            if f"{serial}\tdevice" in self.adb("devices"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.adb('devices')}{self.log.read_text()}")

    def cut(self) -> None:
        """End every connection, as a cable that is pulled out does."""
        self.adb("disconnect")


def android_programs(folder: Path) -> Path:
    """A folder for PATH with what an Android has: toybox's programs, and mksh as `sh`."""
    programs = {name: shutil.which(name) for name in ("toybox", "mksh")}
    need(all(programs.values()), "toybox, mksh")
    folder.mkdir()
    for name in subprocess.check_output(["toybox"], text=True).split():
        (folder / name).symlink_to(str(programs["toybox"]))
    (folder / "sh").symlink_to(str(programs["mksh"]))
    return folder


def busybox_programs(folder: Path) -> Path:
    """A folder for PATH with busybox alone."""
    need(shutil.which("busybox") is not None, "busybox")
    folder.mkdir()
    subprocess.run(["busybox", "--install", "-s", folder], check=True)
    return folder


def fetched() -> Path:
    """The script that starts adbd, fetched where it is missing."""
    need(shutil.which("apt-get") is not None, "apt-get, which fetches adbd")
    with only_one():
        script = Path(__file__).with_name("get_adbd.sh")
        subprocess.run([script, BUILD / "adbd"], check=True, capture_output=True)
    return BUILD / "adbd" / "adbd"


@contextmanager
def attached(folder: Path, **environment: str) -> Iterator[Device]:
    """A device as long as the block lasts; its commands have these variables."""
    need(shutil.which("adb") is not None, "adb")
    own = ["--user", "--map-root-user"] if os.geteuid() != 0 else []
    unshare = ["unshare", *own, "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine gives nobody a network of their own, which adbd has to have")
    programs = android_programs(folder / "programs")
    log = folder / "log"
    # Short: the path of a socket has a hundred characters.
    with tempfile.TemporaryDirectory(prefix="pe-") as place, log.open("wb") as file:
        client = {"ADB_SERVER_SOCKET": f"localfilesystem:{place}/adb"}
        # Ports where an emulator may be are not looked at.
        server = {"HOME": str(folder), "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553", **client}
        there = {"PATH": str(programs), "HOME": str(folder), **environment}
        start = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in there.items()), str(fetched())])
        line = f"toybox ifconfig lo up && {{ {start} & exec adb server nodaemon; }}"
        process = subprocess.Popen(
            [*unshare, "sh", "-c", line],
            env={**os.environ, **server},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            for _ in range(100):
                if (Path(place) / "adb").exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
            assert process.poll() is None, log.read_text()
            device = Device(client, programs, log)
            device.connect()
            yield device
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
