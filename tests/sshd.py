"""A real OpenSSH server on loopback, with keys, configuration and a home folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import need


@dataclass
class Server:
    """The server: its folder, its port, and its process."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        """For `ssh -F`: the client's key, and the hosts that it knows."""
        return self.folder / "client.conf"

    def url(self, folder: Path) -> str:
        """The device, with its files in a folder."""
        return f"ssh://board{folder}"

    def sessions(self) -> list[int]:
        """The processes that serve connections."""
        return [pid for pid in children(self.process.pid) if pid != self.process.pid]

    def cut(self) -> int:
        """Kill every connection, as a cable that is pulled out does; how many there were."""
        found = self.sessions()
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    place = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in place.read_text().split()] if place.exists() else []


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """A server as long as the block lasts; its commands have these variables, and a home folder
    where no shell finds anything to read."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    need(sshd is not None and shutil.which("ssh") is not None, "openssh-server, openssh-client")
    assert sshd is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "home").mkdir()
    variables = {"HOME": str(folder / "home"), **environment}
    settings = " ".join(f'"{name}={value}"' for name, value in variables.items())
    (folder / "server.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\nPrintMotd no\n"
        f"SetEnv {settings}\n"
    )
    (folder / "client.conf").write_text(
        f"Host board stranger\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  GlobalKnownHostsFile none\n"
        f"Host board\n  UserKnownHostsFile {folder}/known_hosts\n"
        "Host stranger\n  UserKnownHostsFile none\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "server.conf"], stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
