"""A program on its way to the optimizer, without copies of the parameters that no rule changed.

Paddle Lite reads all parameters from one file, or each from a file of its own
(LoadNonCombinedParamsPb in lite/model_parser/model_parser.cc). Where a few of many are new, it gets
the latter: small files, and for each large parameter that the model's file has, a named pipe into
which the kernel puts the pages of that file. To write them all out anew takes a quarter of the time
of a whole conversion (AlexNet).
"""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lite_opt.model.load import save_graph, stage
from lite_opt.model.params import spans, write_params
from lite_opt.model.program import ModelFiles, Program
from py_runner.files.regular import open_regular

__all__ = ["handed"]

# What Linux lets anybody's pipe hold. Of a parameter that is larger, the optimizer has opened the
# pipe before all is in it.
_PIPE_BYTES = 1 << 20
_LOOK_EVERY_MS = 100
_GRAPH = "__model__"
_FILE_NAME = re.compile(r"[\w.@:-]{1,200}", re.ASCII)  # another may be none, of some file system


@contextmanager
def handed(program: Program, folder: Path) -> Iterator[ModelFiles]:
    """The program in files in `folder`, to be read once by another process, in the order of its
    variables, while the block lasts."""
    original, piped = program.files.params, _piped(program)
    if original is None or not piped:
        yield stage(program, folder)
        return
    for name, value in program.params.items():
        if name in piped:
            os.mkfifo(folder / name)
        else:
            write_params(folder / name, [(program.var(name), value)])
    pipes = {folder / name: piped[name] for name in program.vars if name in piped}
    over = threading.Event()
    feeder = threading.Thread(target=_feed, args=(original, pipes, over))
    feeder.start()
    try:
        yield save_graph(program, folder / _GRAPH, folder)
    finally:
        over.set()
        feeder.join()


def _piped(program: Program) -> dict[str, range]:
    """Where the model's file has the large parameters that can be taken from it; nothing where this
    system has no such pipes, or a name is none of a file."""
    original, known = program.files.params, program.from_file
    if (
        original is None
        or original.is_dir()
        or program.params_untouched
        or not hasattr(os, "splice")
    ):
        return {}
    if not any(known.values()) or not all(_is_file_name(name) for name in program.params):
        return {}
    there = spans(original, known)
    return {name: at for name, at in there.items() if known[name] and len(at) > _PIPE_BYTES}


def _is_file_name(name: str) -> bool:
    return _FILE_NAME.fullmatch(name) is not None and name not in (_GRAPH, ".", "..")


def _feed(original: Path, pipes: dict[Path, range], over: threading.Event) -> None:
    """Put parts of a file into pipes, one after the other, until they are read or it is over."""
    left = list(pipes)
    with suppress(OSError), open_regular(original) as file:
        while left and not over.is_set():
            _fill(left[0], pipes[left[0]], file.fileno(), over)
            del left[0]
    for path in left:
        path.unlink()  # nobody waits for what will not come


def _fill(path: Path, part: range, source: int, over: threading.Event) -> None:
    """Put a part of a file into a pipe as fast as it is read. Raises OSError where that fails."""
    if sys.version_info < (3, 10) or sys.platform != "linux":
        return
    import fcntl

    # Open for reading, too: the reader looks first whether there is such a file, and comes back.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with suppress(OSError):  # somebody with many pipes gets a smaller one
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        room = select.poll()
        room.register(pipe, select.POLLOUT)
        at = part.start
        while at < part.stop and not over.is_set():
            if not room.poll(_LOOK_EVERY_MS):
                continue
            with suppress(BlockingIOError):
                moved = os.splice(
                    source, pipe, part.stop - at, offset_src=at, flags=os.SPLICE_F_NONBLOCK
                )
                if moved == 0:
                    raise OSError("the file was cut")
                at += moved
    finally:
        os.close(pipe)
