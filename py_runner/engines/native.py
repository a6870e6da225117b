"""Engine `native`: liblite_run, the runner in C++ (armlinux/include/lite_run.h), called by ctypes.

It is the engine of ARM boards, for which no paddlelite wheel exists, and runs on x86 as well. It
runs bundles: the library itself checks their files, and picks the one for this CPU.
The library is what `PADDLE_EDGE_LITE_RUN` names, a file or the folder of `cmake --install`; else
it is looked for in this package, in the environment of this interpreter, and where the system's
loader looks.
The top level of this file imports the standard library only: see serve.py.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["LIBRARY_VARIABLE", "environment", "load", "missing", "open_session", "target"]

LIBRARY_VARIABLE = "PADDLE_EDGE_LITE_RUN"

_NAME = "liblite_run.so"
_PRELOAD = "LD_PRELOAD"
_VERSION = "0."  # of the C ABI that is spoken here, as in the library's SONAME
_POWER_NO_BIND = 3
_INPUT, _OUTPUT = 0, 1


def target() -> str:
    """Which of a bundle's models this machine runs natively: "arm" or "x86"."""
    return "arm" if re.match("aarch64|arm", platform.machine().lower()) else "x86"


def missing() -> str:
    """What to do to have this engine here, in words; "" where the library is found."""
    try:
        _library()
    except ImportError as error:
        return str(error)
    return ""


def environment() -> dict[str, str]:
    """Variables for a child that calls `load`: the loader is to look into the library first.

    On ARM the engine then reads of the CPU what the library has to show (shown_cpu.h), which it
    does not where the library is only opened. `load` takes them back.
    """
    try:
        library = _library()
    except ImportError:  # which the child says
        return {}
    # The loader splits at blanks and colons, and takes no other spelling of them.
    if target() != "arm" or re.search(r"[\s:]", library):
        return {}
    return {_PRELOAD: ":".join(filter(None, (library, os.environ.get(_PRELOAD))))}


def _forget_preload(library: str) -> None:
    """Processes of this one are not to have the library in them."""
    others = os.environ.pop(_PRELOAD, "").split(":")
    kept = [other for other in others if other not in ("", library)]
    if kept:
        os.environ[_PRELOAD] = ":".join(kept)


def _library() -> str:
    """What the loader is to open. Raises ImportError, in words, where there is nothing."""
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        place = Path(named)
        if place.is_file():
            return str(place.absolute())
        if not place.is_dir():
            raise ImportError(f"{LIBRARY_VARIABLE}={named}: no such file or folder")
        found = _in_folder(place)
        if found is None:
            raise ImportError(f"{LIBRARY_VARIABLE}={named}: holds no {_NAME}: {_advice()}")
        return found
    for folder in (Path(__file__).parents[1], Path(sys.prefix)):
        found = _in_folder(folder)
        if found is not None:
            return found
    from ctypes.util import find_library

    found = find_library("lite_run")
    if found is None:
        raise ImportError(f"{_NAME} is not installed here: {_advice()}")
    return found


def _in_folder(folder: Path) -> str | None:
    # An installation, Debian's multiarch folders, and a build folder.
    places = (_NAME, f"lib*/{_NAME}", f"lib*/*-linux-*/{_NAME}", f"armlinux/{_NAME}")
    return next((str(p.absolute()) for where in places for p in sorted(folder.glob(where))), None)


def _advice() -> str:
    return (
        "build it as docs/raspberry-pi.md says, `cmake --install` it, and set "
        f"{LIBRARY_VARIABLE} to that folder"
    )


def _load(path: str) -> Any:
    import ctypes as c

    text, number, size = c.c_char_p, c.c_int, c.c_size_t
    number_out, text_out = c.POINTER(c.c_int), c.POINTER(c.c_char_p)
    shape, shape_out = c.POINTER(c.c_int64), c.POINTER(c.POINTER(c.c_int64))
    session, session_out = c.c_void_p, c.POINTER(c.c_void_p)
    functions: dict[str, tuple[Any, list[Any]]] = {
        "lr_error": (text, []),
        "lr_info": (text, [session]),
        "lr_open": (number, [text, number, number, session_out]),
        "lr_close": (None, [session_out]),
        "lr_count": (number, [session, number]),
        "lr_spec": (number, [session, number, number, text_out, text_out, shape_out, number_out]),
        "lr_set_input": (number, [session, number, text, shape, number, c.c_void_p, size]),
        "lr_run": (number, [session]),
        "lr_output": (number, [session, number, session_out, text_out, shape_out, number_out]),
    }
    try:
        library = c.CDLL(path)
        for name, (result, arguments) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except OSError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if reason.startswith("cannot open"):  # how the loader says what it found there
            reason = "it is built for another one"
        raise ImportError(
            f"{path}: cannot be loaded on this {platform.machine()} machine: {reason}"
        ) from None
    except AttributeError:
        raise ImportError(f"{path}: is no {_NAME}, or one of another version") from None
    version = json.loads(library.lr_info(None))["lite_run"]
    if not version.startswith(_VERSION):
        raise ImportError(
            f"{path}: is lite_run {version}, and this version of paddle-edge takes {_VERSION}x: "
            "build the one that belongs to it"
        )
    return library


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        import ctypes

        self._c = ctypes
        self._lr = _load(_library())
        self._handle = ctypes.c_void_p()  # the process ends with the session: nothing closes it
        file = Path(config["files"][0])
        folder = os.fsencode(file.parent)
        handle = ctypes.byref(self._handle)
        self._must(self._lr.lr_open(folder, config["threads"], _POWER_NO_BIND, handle))
        info = json.loads(self._lr.lr_info(self._handle))
        if info["file"] != file.name:
            raise ValueError(f"this machine runs {info['file']} of the bundle, not {file.name}")
        self.version, self.warnings, self.cpu = info["engine"], info["warnings"], info.get("cpu")
        self._inputs = self._names(_INPUT)
        self._outputs = self._names(_OUTPUT)

    def _must(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(self._lr.lr_error().decode("utf-8", "replace"))

    def _names(self, side: int) -> list[str]:
        names, name = [], self._c.c_char_p()
        for index in range(self._lr.lr_count(self._handle, side)):
            asked = (self._c.byref(name), None, None, None)
            self._must(self._lr.lr_spec(self._handle, side, index, *asked))
            names.append((name.value or b"").decode())
        return names

    def prepare(self, feeds: dict[str, Any]) -> None:
        """Nothing: the library takes any shape that the model does."""

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        c = self._c
        for index, name in enumerate(self._inputs):
            value = np.ascontiguousarray(feeds[name])
            shape = (c.c_int64 * value.ndim)(*value.shape)
            about = (str(value.dtype).encode(), shape, value.ndim, value.ctypes.data, value.nbytes)
            self._must(self._lr.lr_set_input(self._handle, index, *about))
        self._must(self._lr.lr_run(self._handle))
        outputs = {}
        data, dtype, rank = c.c_void_p(), c.c_char_p(), c.c_int()
        sides = c.POINTER(c.c_int64)()
        asked = (c.byref(data), c.byref(dtype), c.byref(sides), c.byref(rank))
        for index, name in enumerate(self._outputs):
            self._must(self._lr.lr_output(self._handle, index, *asked))
            kind = np.dtype((dtype.value or b"").decode())
            answer = sides[: rank.value]
            # The engine keeps its buffer: string_at copies.
            held = c.string_at(data, math.prod(answer) * kind.itemsize) if data.value else b""
            outputs[name] = np.frombuffer(held, kind).reshape(answer)
        return outputs


def load() -> None:
    """Import the engine: what the time limit of opening a model does not count. In the child."""
    library = _library()
    _forget_preload(library)
    _load(library)


def open_session(config: dict[str, Any]) -> _Session:
    """A session on the bundle that holds `config["files"][0]`. Called in the child."""
    return _Session(config)
