"""A machine far away, reached by the user's own OpenSSH client.

`ssh://[user@]host[:port][/folder]`: the host is what `ssh` takes, an alias of its configuration
too; keys, agents, jump hosts and known hosts are those of the user, nothing is asked, and a host
whose key is not known is refused. The folder is where this kit keeps its files there, by default
`.paddle-edge` in the home folder; `/~/folder` is below that, `/folder` is absolute. It is private
to the user, mode 0700.

Environment:
    PADDLE_EDGE_SSH_CONFIG   a configuration for `ssh -F`, in place of the user's
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

from py_runner.devices import connection
from py_runner.devices.connection import DroppedError
from py_runner.errors import EngineError, UsageError
from py_runner.files.folder import temporary_folder

__all__ = ["CONFIG_VARIABLE", "FORM", "SCHEME", "Address", "Connection"]

SCHEME = "ssh://"
FORM = "ssh://[user@]host[:port][/folder]"
CONFIG_VARIABLE = "PADDLE_EDGE_SSH_CONFIG"
_URL = re.compile(
    r"ssh://(?P<host>([^\s@/:-][^\s@/:]*@)?([^\s@/:\[\]-][^\s@/:\[\]]*|\[[0-9a-fA-F:.%\w]+\]))"
    r"(:(?P<port>[0-9]{1,5}))?(?P<folder>/.*)?",
    re.DOTALL,
)
_FOLDER = ".paddle-edge"
_CONNECTION_FAILED = 255
_PERSIST_S = 30
_OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=3",
    "LogLevel=ERROR", "RemoteCommand=none", "ClearAllForwardings=yes", "PermitLocalCommand=no",
)  # fmt: skip
# Reasons that another try does not mend, and what to do.
_FINAL = {
    "Host key verification failed": "its key is not the one you know: connect once by `ssh`, and "
    "compare the fingerprint",
    "Permission denied": "your keys do not open it: put one there with `ssh-copy-id`",
    "Could not resolve hostname": "is the name right?",
    "Bad configuration option": "correct ssh's configuration",
}


@dataclass(frozen=True)
class Address(connection.Address):
    """Where a device is: `host` as ssh takes it, and its port or ""."""

    port: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises UsageError for what is none."""
        found = _URL.fullmatch(url)
        port = (found and found["port"]) or ""
        if not found or (port and not 0 < int(port) < 1 << 16):
            raise UsageError(f"device '{url}': is not of the form {FORM}")
        folder = unquote(found["folder"] or "").rstrip("/")
        if "\0" in folder:
            raise UsageError(f"device '{url}': a folder's name holds no NUL")
        below_home = folder.startswith("/~/")
        folder = f"./{folder[3:]}" if below_home else folder or _FOLDER
        return cls(url, found["host"].replace("[", "").replace("]", ""), folder, port)

    def connection(self) -> Connection:
        """By ssh."""
        return Connection(self)


class Connection(connection.Connection):
    """One connection of ssh. It is opened with the first command, and again where it was lost. A
    master connection that the user's configuration sets up is used, and left as it is."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._port = ["-p", address.port] if address.port else []
        self._shared: list[str] = []

    def __enter__(self) -> Connection:
        if not re.search(rb"^controlpath (?!none$)", self._say(self._ssh("-G")), re.MULTILINE):
            # Short: the path of a socket has a hundred characters.
            folder = self._stack.enter_context(temporary_folder("pe-"))
            options = ("ControlMaster=auto", f"ControlPath={folder}/c")
            self._shared = _options((*options, f"ControlPersist={_PERSIST_S}"))
            self._stack.callback(self._leave)
        return self

    def _argv(self, command: str) -> list[str]:
        return [*self._ssh("-T"), command]

    def _ssh(self, *flags: str) -> list[str]:
        if shutil.which("ssh") is None:
            raise EngineError("ssh is not installed: `apt install openssh-client`")
        config = os.environ.get(CONFIG_VARIABLE)
        argv = ["ssh", *(("-F", config) if config else ()), *_options(_OPTIONS), *self._shared]
        return [*argv, *self._port, *flags, "--", self.address.host]

    def _ended(self, code: int, words: list[str]) -> tuple[int, list[str]]:
        if code != _CONNECTION_FAILED:
            return code, words
        for reason, advice in _FINAL.items():
            if any(reason in word for word in words):
                raise EngineError(f"{self.address.url}: {reason}: {advice}")
        last = words[-1] if words else "the connection was lost"
        raise DroppedError(f"{self.address.url}: {last}")

    def _leave(self) -> None:
        with suppress(EngineError):
            self._say(self._ssh("-O", "exit"), time_limit_s=5)


def _options(options: Iterable[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]
