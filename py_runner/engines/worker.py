"""Engines in processes of their own, because they abort: a death becomes an error in words.

Parent and child exchange messages over two pipes: a u32 length, a JSON header of that length,
and the bytes of the arrays that the header's "arrays" lists as [name, dtype, shape]. The child
is `serve.py`, a script that needs nothing of this package, so that it can run under another
interpreter.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from py_runner.errors import EngineError, RefusedError
from py_runner.files.process import Child, how_it_ended, last_words, of_memory

__all__ = ["Worker"]

_SERVE = Path(__file__).with_name("serve.py")
# Room for a whole image tensor, so that the next sample waits in the pipe while the engine works.
_PIPE_BYTES = 1 << 20
# To start an interpreter and import an engine: only a hang takes so long.
_START_S = 600.0


class Worker:
    """A child that serves one engine session. Use as a context manager; leaving kills the child.

    It imports the engine, which takes half a second, while this process goes on, until `begin`.

    Args:
        script: the engine, a file that `serve.py` loads.
        name: what to call the engine in errors.
        python: the interpreter that has the engine, after what it is run by, if it is.
        threads: how many the engine's OpenMP may use.
        env: other variables that the child is started with.

    `room_bytes` is how much of a message `send` leaves in the pipe for a child that works, without
    waiting for it.

    Raises EngineError when the child cannot start.
    """

    ready: dict[str, Any]

    def __init__(
        self,
        script: Path,
        *,
        name: str,
        python: Sequence[str],
        threads: int = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.room_bytes = 0
        self._memory_limit_bytes: int | None = None
        child_in, self._to_child = os.pipe()
        self._from_child, child_out = os.pipe()
        for pipe in (child_in, self._from_child):
            with contextlib.suppress(OSError):  # a smaller pipe is slower, not wrong
                size = fcntl.fcntl(pipe, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
                self.room_bytes = self.room_bytes or size
        argv = [*python, "-W", "ignore", str(_SERVE), str(script), str(child_in), str(child_out)]
        # Neither engine on x86 takes every thread count through its API; their OpenMP does.
        counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        try:
            self._child = Child(argv, env={**counts, **(env or {})}, pass_fds=(child_in, child_out))
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(child_in)
            os.close(child_out)

    def begin(
        self,
        config: dict[str, Any],
        *,
        memory_limit_bytes: int | None,
        time_limit_s: float | None = None,
    ) -> Worker:
        """Open the model that `config` names; what the session says of itself is `ready`.

        The child may map `memory_limit_bytes` from now on, and take `time_limit_s` to open the
        model, once the engine is there. Raises EngineError, and closes, when it says that the
        engine is not to be had, and when it meets a limit.
        """
        self._memory_limit_bytes = memory_limit_bytes
        try:
            if memory_limit_bytes is not None:
                self._child.limit_memory(memory_limit_bytes)
            self._child.tell()
            self.send(config, {})
            self.receive(time_limit_s=_START_S)
            self.ready, _ = self.receive(time_limit_s=time_limit_s)
        except BaseException:
            self.close()
            raise
        return self

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
        """The next message.

        Raises EngineError if the child reports an error, RefusedError if it dies or takes too long.
        """
        size = self._read(4, time_limit_s)
        header = json.loads(self._read(struct.unpack("<I", size)[0], time_limit_s))
        if "error" in header:
            raise EngineError(header["error"] + self._of_memory(header["error"]))
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
                self._child.kill()
                raise RefusedError(f"engine {self.name} gave no answer within {time_limit_s:g} s")
            got = os.readv(self._from_child, [view])
            if got == 0:
                ended = how_it_ended(self._child.wait() or 0)
                words = last_words(self._child.log())
                raise RefusedError(
                    f"engine {self.name} {ended}; its last words: {words}{self._of_memory(words)}"
                )
            view = view[got:]
        return data

    def _of_memory(self, words: str) -> str:
        """What to add to words that tell of a want of memory."""
        if self._memory_limit_bytes is None or not of_memory(words):
            return ""
        return (
            f"; it may take {self._memory_limit_bytes / 1e9:.1f} GB, by the size of the model and "
            "of the sample: the file is damaged, or give --memory-limit"
        )

    @property
    def ended(self) -> bool:
        """Whether the child is there no more; `receive` then says how it ended."""
        return self._child.ended

    def kill(self) -> None:
        """End the child at once; whoever is blocked in `send` or `receive` is let go."""
        self._child.kill()

    def close(self) -> None:
        """Kill the child and release everything. Closing twice is fine."""
        self._child.close()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._to_child, self._from_child):
            with contextlib.suppress(OSError):
                os.close(pipe)
        self._to_child = self._from_child = -1

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
