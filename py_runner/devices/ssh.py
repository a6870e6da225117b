"""A machine far away, reached by the user's own OpenSSH client.

`ssh://[user@]host[:port][/folder]`: the host is what `ssh` takes, an alias of its configuration
too; keys, agents, jump hosts and known hosts are those of the user, nothing is asked, and a host
whose key is not known is refused. The folder is where this kit keeps its files there, by default
`.paddle-edge` in the home folder; `/~/folder` is below that, `/folder` is absolute. It is private
to the user, mode 0700.

A command there is a script of ours, which is a constant, and words that are quoted in one place.
Names of files are no words: files travel in archives, by standard input and output.

Environment:
    PADDLE_EDGE_SSH_CONFIG   a configuration for `ssh -F`, in place of the user's
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from py_runner.errors import EngineError, UsageError
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child
from py_runner.files.regular import read_bytes

__all__ = ["CONFIG_VARIABLE", "SCHEME", "Address", "Begun", "Connection", "DroppedError", "archive"]

SCHEME = "ssh://"
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
_AFTERWORD = "tar: Exiting with failure status"  # after the line that says why
_DISK_FULL = ("No space left", "Wrote only", "short write")  # of GNU's and busybox's tar
# Reasons that another try does not mend, and what to do.
_FINAL = {
    "Host key verification failed": "its key is not the one you know: connect once by `ssh`, and "
    "compare the fingerprint",
    "Permission denied": "your keys do not open it: put one there with `ssh-copy-id`",
    "Could not resolve hostname": "is the name right?",
    "Bad configuration option": "correct ssh's configuration",
}
# What every script begins with: our folder, which nobody else may look into.
_ENTER = r"""
umask 077; LC_ALL=C; export LC_ALL
[ -d "$1" ] || mkdir -p -m 700 -- "$1" || exit 70
[ -O "$1" ] || { printf '%s: belongs to another user: name a folder of yours\n' "$1" >&2; exit 70; }
case $(ls -ldn -- "$1") in
  drwx------*) ;;
  *) printf '%s: others may look into it: choose a folder of its own, or chmod 700\n' "$1" >&2
     exit 70 ;;
esac
cd -- "$1" || exit 70
shift
"""
_PIECE = 1 << 20
_LOOK_EVERY_S = 0.01


class DroppedError(EngineError):
    """The connection was not to be had, or was lost: another try may have better luck."""


@dataclass(frozen=True)
class Address:
    """Where a device is: `host` as ssh takes it, its port or "", and our folder there."""

    url: str
    host: str
    port: str
    folder: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises UsageError for what is none."""
        found = _URL.fullmatch(url)
        port = (found and found["port"]) or ""
        if not found or (port and not 0 < int(port) < 1 << 16):
            raise UsageError(
                f"device '{url}': is not of the form ssh://[user@]host[:port][/folder]"
            )
        folder = unquote(found["folder"] or "").rstrip("/")
        if "\0" in folder:
            raise UsageError(f"device '{url}': a folder's name holds no NUL")
        below_home = folder.startswith("/~/")
        folder = f"./{folder[3:]}" if below_home else folder or _FOLDER
        return cls(url, found["host"].replace("[", "").replace("]", ""), port, folder)


@dataclass
class Connection:
    """A connection that many commands share. Use as a context manager.

    It is opened with the first command, and again where it was lost. A master connection that the
    user's configuration sets up is used, and left as it is.
    """

    address: Address
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _shared: list[str] = field(default_factory=list, repr=False)

    def __enter__(self) -> Connection:
        if not re.search(rb"^controlpath (?!none$)", self._ssh("-G"), re.MULTILINE):
            # Short: the path of a socket has a hundred characters.
            folder = self._stack.enter_context(temporary_folder("pe-"))
            options = ("ControlMaster=auto", f"ControlPath={folder}/c")
            self._shared = _options((*options, f"ControlPersist={_PERSIST_S}"))
            self._stack.callback(self._leave)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(
        self,
        script: str,
        *words: object,
        data: bytes = b"",
        sent: Callable[[int], object] = lambda _: None,
    ) -> bytes:
        """What a script says there, which runs in our folder with the words as $1, $2 ...

        `data` is its standard input. `sent` is told how many bytes have gone.

        Raises DroppedError where the connection fails, and EngineError where the script does.
        """
        return self._ssh("-T", command=self._command(script, words), data=data, sent=sent)

    def begin(self, script: str, *words: object, data: bytes) -> Begun:
        """Have a script begin as `call` does, and send it its data meanwhile. Errors are those of
        `Begun.finish`, but for an EngineError where there is no ssh."""
        argv = self._argv("-T", command=self._command(script, words))
        return Begun(argv, data, self.address.url, self._check)

    def _command(self, script: str, words: Iterable[object]) -> str:
        """Words for the shell there: all quoting is here."""
        command = ["sh", "-c", _ENTER + script, "sh", self.address.folder, *map(str, words)]
        return shlex.join(command)

    def _argv(self, *flags: str, command: str = "") -> list[str]:
        if shutil.which("ssh") is None:
            raise EngineError("ssh is not installed: `apt install openssh-client`")
        config = os.environ.get(CONFIG_VARIABLE)
        argv = ["ssh", *(("-F", config) if config else ()), *_options(_OPTIONS), *self._shared]
        argv += ["-p", self.address.port] if self.address.port else []
        return [*argv, *flags, "--", self.address.host, *((command,) if command else ())]

    def _ssh(
        self,
        *flags: str,
        command: str = "",
        data: bytes = b"",
        time_limit_s: float | None = None,
        sent: Callable[[int], object] = lambda _: None,
    ) -> bytes:
        with Child(self._argv(*flags, command=command), output="lines") as child:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                child.tell(piece, close=False)
                sent(start + len(piece))
            child.tell()
            said = b"".join(child.lines())
            code = child.wait(time_limit_s)
            if code is None:
                raise EngineError(f"{self.address.url}: took longer than {time_limit_s:g} s")
            self._check(child, code)
        return said

    def _check(self, child: Child, code: int) -> None:
        """Raise what the end of a command means."""
        if code != 0:
            lines = child.log().decode("utf-8", "replace").split("\n")
            said_there = [word.strip() for word in lines if word.strip()]
            raise self._error(code, [word for word in said_there if _AFTERWORD not in word])

    def _error(self, code: int, words: list[str]) -> EngineError:
        last = words[-1] if words else f"ended with code {code}"
        if code != _CONNECTION_FAILED:
            full = any(mark in word for word in words for mark in _DISK_FULL)
            room = ": its disk is full: make room, or choose another folder: ssh://HOST/FOLDER"
            return EngineError(f"{self.address.url}: {last}{room if full else ''}")
        for reason, advice in _FINAL.items():
            if any(reason in word for word in words):
                return EngineError(f"{self.address.url}: {reason}: {advice}")
        return DroppedError(f"{self.address.url}: {last if words else 'the connection was lost'}")

    def _leave(self) -> None:
        with suppress(EngineError):
            self._ssh("-O", "exit", time_limit_s=5)


class Begun:
    """A command that has begun there, and is being sent its data. Use as a context manager: leaving
    ends it, which the script sees by the end of its standard input.

    Once the script has all its data it says `READY` in a line, and reads a line: with that it may
    go on. Only then: a shell's tools may read further than they were told to.
    """

    READY = b"ready\n"

    def __init__(
        self,
        argv: Sequence[str],
        data: bytes,
        url: str,
        check: Callable[[Child, int], None],
    ) -> None:
        self._url, self._check = url, check
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        self._child = Child(argv, output=self._said)
        self._feeder = threading.Thread(target=self._feed, args=(data,), daemon=True)
        self._feeder.start()

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            self._child.tell(bytes(view[start : start + _PIECE]), close=False)

    def arrived(self, time_limit_s: float | None = None) -> bool:
        """Wait until all data is there; whether it is, and the command has not failed before."""
        stop_at = None if time_limit_s is None else time.monotonic() + time_limit_s
        while os.fstat(self._said.fileno()).st_size < len(self.READY):
            if self._child.ended:
                return False
            if stop_at is not None and time.monotonic() > stop_at:
                raise self._late(time_limit_s)
            time.sleep(_LOOK_EVERY_S)
        return True

    def go(self) -> None:
        """Let it go on, once its data has arrived."""
        self._feeder.join()
        self._child.tell(b"\n", close=False)

    def finish(self, time_limit_s: float | None = None) -> BinaryIO:
        """Wait for its end; return what it said after READY: a file, there until this is left.

        Raises DroppedError where the connection fails, and EngineError where the script does, or
        takes longer than the limit.
        """
        code = self._child.wait(time_limit_s)
        if code is None:
            raise self._late(time_limit_s)
        self._check(self._child, code)
        self._said.seek(len(self.READY))
        return self._said

    def _late(self, time_limit_s: float | None) -> EngineError:
        return EngineError(f"{self._url}: took longer than {time_limit_s:g} s")

    def __enter__(self) -> Begun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and release everything."""
        self._child.kill()  # a thread that still writes gets a broken pipe
        self._feeder.join()
        self._child.close()
        self._said.close()


def archive(files: Mapping[str, Path | bytes], *, links: Iterable[tuple[str, str]] = ()) -> bytes:
    """A tar archive of files, or their contents, under these names, and of symbolic links, for
    `tar -x` there. What may be executed here may be so there, and only the user may anything."""
    buffer = io.BytesIO()
    with tarfile.open(None, "w", buffer, format=tarfile.PAX_FORMAT) as tar:
        for name, source in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(source, Path):
                entry.mode = 0o700 if os.access(source, os.X_OK) else 0o600
                source = read_bytes(source)
            else:
                entry.mode = 0o600
            entry.size = len(source)
            tar.addfile(entry, io.BytesIO(source))
        for name, leads_to in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, leads_to
            tar.addfile(entry)
    return buffer.getvalue()


def _options(options: Iterable[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]
