"""Engine `lite`: Paddle Lite's x86 engine in the paddlelite wheel, running an x86 `.nb`.

It serves as the checker of a conversion, not as the product: its kernels are the slow ones.
The interpreter that has the wheel is `PADDLE_EDGE_LITE_PYTHON`, or the one that runs this kit.
The top level of this file imports the standard library only: see serve.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from typing import Any

__all__ = ["PYTHON_VARIABLE", "explain", "interpreter", "load", "missing", "open_session"]

PYTHON_VARIABLE = "PADDLE_EDGE_LITE_PYTHON"


def interpreter() -> str:
    """The Python that has paddlelite. Raises EngineError, in words, where there is none."""
    from py_runner.errors import EngineError

    named = os.environ.get(PYTHON_VARIABLE)
    if not named:
        if importlib.util.find_spec("paddlelite") is None:
            raise EngineError(missing(sys.executable))
        return sys.executable
    found = shutil.which(named)
    if found is None:
        raise EngineError(
            f"{PYTHON_VARIABLE}={named}: no such interpreter: set it to one that has "
            "paddlelite==2.13rc0 and 'numpy<2', or unset it"
        )
    return found


def missing(python: str) -> str:
    """What to do where an interpreter has no paddlelite."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return (
            f"paddlelite has no wheel for this {platform.machine()} machine: run bundles with "
            "--engine native (docs/raspberry-pi.md), and convert models on x86-64 Linux"
        )
    return (
        f"paddlelite is not installed in {python}: its wheels are for x86-64 Linux and CPython "
        "3.8 to 3.10; make an environment with CPython 3.10, `pip install paddlelite==2.13rc0 "
        f"'numpy<2'` there, and set {PYTHON_VARIABLE} to its python"
    )


def explain(text: str) -> str:
    """Why a child did not start, in words: one without paddlelite, too old, or a shim of pyenv
    without that version behind it (code 127) lacks even what serve.py needs."""
    if re.search("ImportError|ModuleNotFoundError|SyntaxError|code 127", text):
        return missing(interpreter())
    return text


def _engine() -> Any:
    import numpy as np

    try:
        module = importlib.import_module("paddlelite.lite")
    except ImportError:
        raise ImportError(missing(sys.executable)) from None
    if int(np.__version__.split(".", maxsplit=1)[0]) >= 2:
        # Measured: Tensor.from_numpy then reads garbage and says nothing.
        raise ImportError(
            f"paddlelite silently computes nonsense with NumPy {np.__version__}: "
            f"`pip install 'numpy<2'` into the environment of {sys.executable}"
        )
    return module


def _use_threads(engine: Any, count: int) -> None:
    """Let its matrix products, of Intel's MKL, use so many threads.

    MobileConfig has no setter on x86, and OMP_NUM_THREADS is overruled when a predictor is made
    (lite/api/light_api_impl.cc); MKL itself can be told afterwards. Raises RuntimeError where a
    build has no MKL to be told.
    """
    import ctypes
    from pathlib import Path

    libraries = Path(engine.__file__).with_name("libs")
    try:
        ctypes.CDLL(str(libraries / "libiomp5.so")).omp_set_num_threads(count)
        ctypes.CDLL(str(libraries / "libmklml_intel.so")).MKL_Set_Num_Threads(count)
    except (OSError, AttributeError) as error:
        if count > 1:
            raise RuntimeError(f"this paddlelite cannot use {count} threads: {error}") from None


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        self._lite = _engine()
        self._threads = config["threads"]
        self._file = config["files"][0]
        self._names = config["inputs"]
        self._shapes: list[tuple[int, ...]] | None = None
        self._open()
        self.version = self._predictor.get_version()

    def _open(self) -> None:
        settings = self._lite.MobileConfig()
        settings.set_model_from_file(self._file)
        self._predictor = self._lite.create_paddle_predictor(settings)
        _use_threads(self._lite, self._threads)  # creating one sets them to 1
        known = self._predictor.get_input_names()
        if len(known) != len(self._names):
            raise ValueError(f"the .nb file has the inputs {known}, not {self._names}")
        # By position: the optimizer renames an input whose first operator it removes, and
        # get_input_by_name of an unknown name returns a bogus tensor instead of an error.
        self._inputs = [(n, self._predictor.get_input(i)) for i, n in enumerate(self._names)]
        self._outputs = self._predictor.get_output_names()

    def prepare(self, feeds: dict[str, Any]) -> None:
        shapes = [feeds[name].shape for name in self._names]
        if self._shapes not in (None, shapes):
            # Measured with PP-OCR's models: fed a smaller image than before, the x86 engine
            # writes past its buffers and aborts. A fresh predictor is right at any shape.
            self._open()
        self._shapes = shapes

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        for name, tensor in self._inputs:
            tensor.from_numpy(feeds[name])
        self._predictor.run()
        outputs = {}
        for index, name in enumerate(self._outputs):
            value = self._predictor.get_output(index).numpy()
            if value.flags.owndata and value.size:
                # A live view does not own its data; what was never computed does.
                raise RuntimeError(f"the engine computed nothing for output '{name}'")
            outputs[name] = value.copy()
        return outputs


def load() -> None:
    """Import the engine: what the time limit of opening a model does not count. In the child."""
    _engine()


def open_session(config: dict[str, Any]) -> _Session:
    """A session on `config["files"][0]`, an x86 `.nb`. Called in the child."""
    return _Session(config)
