"""Child processes: started, told what to do, waited for, and what they died of in words.

Engines and compilers abort, hang and are missing. Every process of this kit is a `Child`, so that
each of these ends as a sentence, and none outlives the block that it was started for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from py_runner.errors import EngineError

__all__ = ["Child", "how_it_ended", "last_words", "of_memory"]

_LOOK_EVERY_S = 0.01
_LOG_BYTES = 1 << 16
_NO_MEMORY = r"bad_?alloc|memory|length_error|cannot allocate"


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


def of_memory(words: str) -> bool:
    """Whether last words tell of a want of memory."""
    return re.search(_NO_MEMORY, words, re.IGNORECASE) is not None


class Child:
    """A process whose output is kept. Use as a context manager: leaving kills it.

    Args:
        argv: the program and its arguments.
        env: variables added to the environment.
        pass_fds: descriptors that it inherits.
        output: what becomes of its standard output: "log", as of standard error, "lines", which
            `lines` reads, or "none"; or a file that takes it.
        apart: it does not hear what a terminal tells this process, such as Ctrl-C.

    Raises EngineError where the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        output: str | BinaryIO = "log",
        apart: bool = False,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        kinds = {"log": self._log, "lines": subprocess.PIPE, "none": subprocess.DEVNULL}
        stdout: Any = kinds[output] if isinstance(output, str) else output
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=self._log,
                pass_fds=tuple(pass_fds),
                env={**os.environ, **(env or {})},
                start_new_session=apart,
            )
        except OSError as error:
            self._log.close()
            raise EngineError(f"{argv[0]}: cannot be started: {error.strerror}") from None

    def limit_memory(self, limit_bytes: int) -> None:
        """Let it map no more than this from now on: what asks for more dies, or says so.

        Where the system cannot limit another process (macOS), nothing happens.
        """
        import resource

        with suppress(AttributeError, OSError):  # none such, or it has ended
            resource.prlimit(self._process.pid, resource.RLIMIT_AS, (limit_bytes, limit_bytes))

    def tell(self, data: bytes = b"", *, close: bool = True) -> None:
        """Write to its standard input, and close that where it is not to hear more. A child that is
        gone says why at its end."""
        stream = self._process.stdin
        assert stream is not None
        with suppress(BrokenPipeError):
            stream.write(data)
            stream.flush()
        if close:
            with suppress(BrokenPipeError):
                stream.close()

    def lines(self) -> Iterator[bytes]:
        """Its standard output, line by line as they come, to the end."""
        assert self._process.stdout is not None
        yield from self._process.stdout

    def wait(
        self,
        time_limit_s: float | None = None,
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> int | None:
        """Wait for its end and return its exit code; None, and it is killed, after the limit.

        `meanwhile` is called a hundred times a second.
        """
        stop_at = None if time_limit_s is None else time.monotonic() + time_limit_s
        while True:
            left = None if stop_at is None else max(0.0, stop_at - time.monotonic())
            turn = _LOOK_EVERY_S if meanwhile else left
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(turn if left is None else min(turn or 0.0, left))
            if stop_at is not None and time.monotonic() >= stop_at:
                self.kill()
                return None
            if meanwhile:
                meanwhile()

    @property
    def ended(self) -> bool:
        """Whether it is there no more."""
        return self._process.poll() is not None

    def log(self, most: int | None = _LOG_BYTES) -> bytes:
        """The last bytes that it wrote to its log, all of them where `most` is None."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(0 if most is None else max(0, size - most))
        return self._log.read()

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it and release everything. Closing twice is fine."""
        if self._log.closed:
            return
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._log.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
