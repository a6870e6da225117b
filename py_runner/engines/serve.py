"""The child's side of child.py: runs one engine session and answers messages until they end.

A script of its own, run as `python serve.py ENGINE.py FD_IN FD_OUT` by whatever interpreter has
the engine: it may import the standard library and NumPy only, and so may the top level of
ENGINE.py, which defines

    load()                               imports the engine; may be missing
    open_session(config) -> session      raises an exception with words for a person
    session.version                      the engine's own version text
    session.cpu                          what it says of the CPU; may be missing
    session.prepare(feeds)               before a sample is run, once; not timed
    session.run(feeds) -> {name: array}  copies in, runs, copies out: this is what is timed
"""

from __future__ import annotations

import sys

# This file's folder holds a paddle.py that is not the package of that name.
sys.path.pop(0)

import importlib.util
import json
import math
import os
import signal
import struct
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def _read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    size = stream.read(4)
    if len(size) < 4:
        return None
    header = json.loads(stream.read(struct.unpack("<I", size)[0]))
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        data = bytearray(math.prod(shape) * np.dtype(dtype).itemsize)
        if stream.readinto(data) < len(data):  # type: ignore[attr-defined]
            return None
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return header, arrays


def _write(stream: BinaryIO, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    plain = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    header["arrays"] = [[n, str(a.dtype), a.shape] for n, a in plain.items()]
    text = json.dumps(header).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for value in plain.values():
        stream.write(value.tobytes())
    stream.flush()


def _peak_memory_bytes() -> int:
    # Not ru_maxrss: that survives exec, so a child would inherit its parent's peak.
    try:
        with Path("/proc/self/status").open(encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line[:6] == "VmHWM:")
    except (OSError, StopIteration):
        return 0


def _words(error: Exception) -> str:
    """An exception in one line. Paddle's own end in "...Error: <reason> (at file:line)"."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error:" in line] or lines[-1:] or [type(error).__name__]
    return telling[-1][:600]


def main() -> None:
    """Serve until the parent closes its end."""
    # Ctrl-C and systemd tell every process of a service to stop: the parent is told, too, and has
    # answers to wait for.
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)
    engine_file, fd_in, fd_out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    stream_in, stream_out = os.fdopen(fd_in, "rb"), os.fdopen(fd_out, "wb")
    spec = importlib.util.spec_from_file_location("engine", engine_file)
    assert spec is not None and spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    try:
        getattr(engine, "load", lambda: None)()
    except Exception as error:  # whatever it is, the parent must hear of it
        _write(stream_out, {"error": _words(error)}, {})
        return
    _write(stream_out, {}, {})
    message = _read(stream_in)
    if message is None:
        return
    config = message[0]
    try:
        session = engine.open_session(config)
    except Exception as error:  # whatever it is, the parent must hear of it
        _write(stream_out, {"error": _words(error)}, {})
        return
    ready = {
        "version": session.version,
        "warnings": getattr(session, "warnings", []),
        "cpu": getattr(session, "cpu", None),
    }
    _write(stream_out, ready, {})
    warmup, repeat = config["warmup"], config["repeat"]
    while (message := _read(stream_in)) is not None:
        try:
            session.prepare(message[1])
            for _ in range(warmup):
                session.run(message[1])
            warmup, latency_ms = 0, []
            for _ in range(repeat):
                start = time.perf_counter()
                outputs = session.run(message[1])
                latency_ms.append((time.perf_counter() - start) * 1e3)
        except Exception as error:  # whatever it is, the parent must hear of it
            _write(stream_out, {"error": _words(error)}, {})
            return
        header = {"latency_ms": latency_ms, "peak_memory_bytes": _peak_memory_bytes()}
        _write(stream_out, header, outputs)


if __name__ == "__main__":
    main()
