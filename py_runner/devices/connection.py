"""A machine far away: scripts of ours run by its shell, whichever way it is reached.

A command there is a script of ours, which is a constant, and words that are quoted in one place.
Names of files are no words: files travel in archives, by standard input and output. Scripts keep
to what busybox, Android's toybox and mksh have as well.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from py_runner.errors import EngineError
from py_runner.files.process import Child
from py_runner.files.regular import read_bytes

__all__ = ["Address", "Begun", "Connection", "DroppedError", "archive"]

_AFTERWORD = "tar: Exiting with failure status"  # after the line that says why
_DISK_FULL = ("No space left", "Wrote only", "short write")  # of GNU's and busybox's tar
# What every script begins with: our folder, which nobody else may look into, and a function.
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
# Have a folder removed in the end, however that comes. Where a connection is lost, whoever says
# something dies of it without a word, and all processes may be sent a signal: `rm` too, and a shell
# that is about to call it.
fleeting() {
  fleeting=$1
  trap removed EXIT
  trap 'removed; exit 143' HUP INT PIPE TERM
}
removed() { trap '' HUP INT PIPE TERM; rm -rf "$fleeting"; }
"""
_PIECE = 1 << 20
_LOOK_EVERY_S = 0.01


class DroppedError(EngineError):
    """The connection was not to be had, or was lost: another try may have better luck."""


@dataclass(frozen=True)
class Address(ABC):
    """Where a device is: `host` as the program that reaches it takes it, and our folder there."""

    url: str
    host: str
    folder: str

    @abstractmethod
    def connection(self) -> Connection:
        """A way to it, opened when it is used as a context manager."""

    @property
    def elsewhere(self) -> str:
        """What names another folder there, for advice."""
        return f"{self.url.partition('://')[0]}://{self.host}/FOLDER"


class Connection(ABC):
    """A way to a device, that many commands share. Use as a context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._stack = ExitStack()  # what is given back in the end

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @abstractmethod
    def _argv(self, command: str) -> list[str]:
        """What hands a command to the shell there, with its standard input and output and its
        errors apart. Raises EngineError where that is missing."""

    @abstractmethod
    def _ended(self, code: int, words: list[str]) -> tuple[int, list[str]]:
        """The exit code of the script there and the lines of its standard error, by those of the
        program. Raises EngineError where the connection failed, DroppedError where it may be made
        again."""

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
        return self._say(self._argv(self._command(script, words)), data=data, sent=sent)

    def begin(self, script: str, *words: object, data: bytes) -> Begun:
        """Have a script begin as `call` does, and send it its data meanwhile. Errors are those of
        `Begun.finish`, but for an EngineError where the program is missing that reaches it."""
        argv = self._argv(self._command(script, words))
        return Begun(argv, data, self.address.url, self._check)

    def _command(self, script: str, words: Iterable[object]) -> str:
        """Words for the shell there: all quoting is here."""
        command = ["sh", "-c", _ENTER + script, "sh", self.address.folder, *map(str, words)]
        return shlex.join(command)

    def _say(
        self,
        argv: Sequence[str],
        *,
        data: bytes = b"",
        time_limit_s: float | None = None,
        sent: Callable[[int], object] = lambda _: None,
    ) -> bytes:
        with Child(argv, output="lines", apart=True) as child:
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
        lines = child.log().decode("utf-8", "replace").split("\n")
        said = [word.strip() for word in lines if word.strip() and _AFTERWORD not in word]
        status, words = self._ended(code, said)
        if status != 0:
            last = words[-1] if words else f"ended with code {status}"
            full = any(mark in word for word in words for mark in _DISK_FULL)
            room = (
                f": its disk is full: make room, or choose another folder: {self.address.elsewhere}"
            )
            raise EngineError(f"{self.address.url}: {last}{room if full else ''}")


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
        self._child = Child(argv, output=self._said, apart=True)
        self._feeder = threading.Thread(target=self._feed, args=(data,), daemon=True)
        self._feeder.start()

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            self._child.tell(bytes(view[start : start + _PIECE]), close=False)

    def arrived(self, time_limit_s: float | None = None) -> bool:
        """Wait until all data is there; whether it is, and the command has not failed before."""
        stop_at = None if time_limit_s is None else time.monotonic() + time_limit_s
        while not self._child.ended:
            if os.fstat(self._said.fileno()).st_size >= len(self.READY):
                return True
            if stop_at is not None and time.monotonic() > stop_at:
                raise self._late(time_limit_s)
            time.sleep(_LOOK_EVERY_S)
        return False

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
