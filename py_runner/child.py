"""Engines in processes of their own, because they abort: a death becomes an error in words.

Parent and child exchange messages over two pipes: a u32 length, a JSON header of that length,
and the bytes of the arrays that the header's "arrays" lists as [name, dtype, shape]. The child
is `engines/serve.py`, a script that needs nothing of this package, so that it can run under
another interpreter.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from py_runner.errors import EngineError

__all__ = ["Worker", "how_it_ended", "last_words"]

# Room for a whole image tensor, so that the next sample waits in the pipe while the engine works.
_PIPE_BYTES = 1 << 20


def how_it_ended(returncode: int) -> str:
    """How a process ended, in words: "was killed by SIGSEGV", "exited with code 3"."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def last_words(log: bytes) -> str:
    """The line of an engine's log that says why it died, without time stamps and source paths.

    Paddle Lite and Paddle log with glog: a fatal line begins with F, or with "[F". Paddle's own
    errors carry the reason in a line that ends in "Error: ...".
    """
    lines = [line.strip() for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    marks = ("[F", "Check failed", "Error:", "ERROR:", "error:", "terminate called", "what():")
    telling = [line for line in lines if any(mark in line for mark in marks)]
    line = (telling or lines or ["(no output)"])[-1]
    for mark in ("] ", "]: "):
        if line.startswith("[") and mark in line:
            line = line.split(mark, 1)[1]
    return line[:300]


class Worker:
    """A child that serves one engine session. Use as a context manager; leaving kills the child.

    Args:
        argv: the interpreter and script; the numbers of the two pipe ends are appended.
        config: sent as the first message; the child answers when the engine is ready.
        name: what to call the engine in errors.
        env: variables added to the environment.

    Raises EngineError when the child cannot start or says that the engine is not to be had.
    """

    def __init__(
        self, argv: list[str], config: dict[str, Any], *, name: str, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        child_in, self._to_child = os.pipe()
        self._from_child, child_out = os.pipe()
        for pipe in (child_in, self._from_child):
            with contextlib.suppress(OSError):  # a smaller pipe is slower, not wrong
                fcntl.fcntl(pipe, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
        try:
            self._process = subprocess.Popen(
                [*argv, str(child_in), str(child_out)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(child_in, child_out),
                env={**os.environ, **env},
            )
        except OSError as error:
            self._process = None  # type: ignore[assignment]
            self.close()
            raise EngineError(f"{argv[0]}: cannot be started: {error.strerror}") from None
        finally:
            os.close(child_in)
            os.close(child_out)
        try:
            self.send(config, {})
            self.ready, _ = self.receive(time_limit_s=None)
        except BaseException:
            self.close()
            raise

    def send(self, header: dict[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Send a message; blocks while the pipe is full. A dead child is `receive`'s to report."""
        plain = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        header = {**header, "arrays": [[n, str(a.dtype), a.shape] for n, a in plain.items()]}
        text = json.dumps(header).encode()
        with contextlib.suppress(BrokenPipeError):
            self._write(struct.pack("<I", len(text)) + text)
            for value in plain.values():
                if value.size:
                    self._write(value.data.cast("B"))

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._to_child, view) :]

    def receive(
        self, *, time_limit_s: float | None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """The next message. Raises EngineError if the child reports one, dies or takes too long."""
        size = self._read(4, time_limit_s)
        header = json.loads(self._read(struct.unpack("<I", size)[0], time_limit_s))
        if "error" in header:
            raise EngineError(header["error"])
        arrays = {}
        for name, dtype, shape in header["arrays"]:
            count = math.prod(shape) * np.dtype(dtype).itemsize
            arrays[name] = np.frombuffer(self._read(count, time_limit_s), dtype).reshape(shape)
        return header, arrays

    def _read(self, count: int, time_limit_s: float | None) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            if not select.select([self._from_child], [], [], time_limit_s)[0]:
                self._process.kill()
                raise EngineError(f"engine {self.name} gave no answer within {time_limit_s:g} s")
            got = os.readv(self._from_child, [view])
            if got == 0:
                ended = how_it_ended(self._process.wait())
                raise EngineError(
                    f"engine {self.name} {ended}; its last words: {last_words(self.log())}"
                )
            view = view[got:]
        return data

    def log(self) -> bytes:
        """The last 64 KiB of what the child printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 65536))
        return self._log.read()

    def kill(self) -> None:
        """End the child at once; whoever is blocked in `send` or `receive` is let go."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill the child and release everything. Closing twice is fine."""
        if self._log.closed:
            return
        self.kill()
        os.close(self._to_child)
        os.close(self._from_child)
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve_script() -> str:
    """The path of the script that the child runs."""
    return str(Path(__file__).with_name("engines") / "serve.py")
