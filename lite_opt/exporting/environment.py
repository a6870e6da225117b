"""The interpreter that has PaddleClas: this one, one that is named, or one made for it.

PaddleClas 2.6.0 pins libraries of 2021 to 2023, so it gets an environment of its own, in
`$XDG_CACHE_HOME/paddle-edge/paddleclas` (`~/.cache/...`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from py_runner.errors import EngineError, UsageError
from py_runner.files.folder import whole_folder
from py_runner.files.process import Child, how_it_ended, last_words
from py_runner.watch import QUIET, Watch

__all__ = ["interpreter"]

_VARIABLE = "PADDLE_EDGE_PADDLECLAS_PYTHON"
# What its networks import. It goes in without its own requirements, which are of training.
_REQUIRED = ("paddlepaddle==3.3.1", "setuptools", "numpy<2", "pyyaml", "requests", "six", "tqdm")
_ALONE = "paddleclas==2.6.0"
_MEMORY_BYTES = 16 << 30  # to map, of installing


def interpreter(*, install: bool = False, watch: Watch = QUIET) -> str:
    """The interpreter that can build PaddleClas' networks.

    That is the one which PADDLE_EDGE_PADDLECLAS_PYTHON names, else this one where PaddleClas is
    installed here, else the one of an environment that is made where `install` says so: about
    200 MB to download, 1 GB on the disk. Raises UsageError where it is not to be made, EngineError
    where it cannot be.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise EngineError(f"{_VARIABLE}: {named}: is no program")
        return named
    if all(importlib.util.find_spec(name) for name in ("paddleclas", "paddle")):
        return sys.executable
    place = user_cache_path("paddle-edge") / "paddleclas"
    python = place / "bin" / "python"
    if python.exists():
        return str(python)
    if not install:
        raise UsageError(
            f"PaddleClas is not installed: --install makes an environment for it in {place} "
            f"(1 GB), or name the interpreter that has it in {_VARIABLE}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not python.exists():
            _make(place, watch)
    return str(python)


def _make(place: Path, watch: Watch) -> None:
    """An environment with `_REQUIRED`: by uv where it is installed, else by venv and pip.

    It is made beside its place and moved: only its interpreter is used, which bears that.
    """
    uv = shutil.which("uv")
    with whole_folder(place) as folder:
        python = str(folder / "bin" / "python")
        if uv:
            create = [uv, "venv", "--no-project", "--allow-existing", "--python", sys.executable]
            install = [uv, "pip", "install", "--python", python]
        else:
            create = [sys.executable, "-m", "venv"]
            install = [python, "-m", "pip", "install"]
        watch.say(f"making an environment for PaddleClas in {place}")
        steps = ([*create, str(folder)], [*install, *_REQUIRED], [*install, "--no-deps", _ALONE])
        for step in steps:
            with Child(step) as child:
                child.limit_memory(_MEMORY_BYTES)
                child.tell()
                code = child.wait() or 0
                if code:
                    raise EngineError(
                        f"{place}: cannot be made: {Path(step[0]).name} {how_it_ended(code)}: "
                        f"{last_words(child.log())}"
                    )
