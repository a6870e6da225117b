"""Engine `onnx`: ONNX Runtime on the `model.onnx` of a bundle, on hosts and on boards.

It has wheels for x86-64 and aarch64 and today's CPythons, and needs NumPy only: the second way of
a bundle onto a board, and an engine that shares no code with Paddle Lite to ask where they differ.
The top level of this file imports the standard library only: see serve.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

__all__ = ["load", "missing", "open_session"]

_ERRORS_ONLY = 3
# What its errors begin with: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from ...".
_PREFIX = "[ONNXRuntimeError] : "


def missing() -> str:
    """What to do to have this engine here, in words; "" where it is."""
    if importlib.util.find_spec("onnxruntime") is not None:
        return ""
    return (
        f"onnxruntime is not installed in {sys.executable}: "
        "`pip install onnxruntime`, or 'paddle-edge[onnx]'"
    )


def _runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(missing() or f"onnxruntime cannot be imported: {error}") from None


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        runtime = _runtime()
        self.version = runtime.__version__
        options = runtime.SessionOptions()
        options.intra_op_num_threads = config["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = runtime.InferenceSession(
                config["files"][0], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no class in common but this
            raise RuntimeError(f"ONNX Runtime refuses it: {_words(error)}") from None
        known = [spec.name for spec in self._session.get_inputs()]
        if sorted(known) != sorted(config["inputs"]):
            raise ValueError(f"the file has the inputs {known}, not {config['inputs']}")
        self._outputs = [spec.name for spec in self._session.get_outputs()]

    def prepare(self, feeds: dict[str, Any]) -> None:
        """Nothing: a session takes any shape that the model does."""

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        try:
            values = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise RuntimeError(_words(error)) from None
        return dict(zip(self._outputs, values))


def _words(error: Exception) -> str:
    """What it says in one line, without the number of the kind of error."""
    return " ".join(str(error).removeprefix(_PREFIX).split())


def load() -> None:
    """Import the engine: what the time limit of opening a model does not count. In the child."""
    _runtime()


def open_session(config: dict[str, Any]) -> _Session:
    """A session on `config["files"][0]`, an ONNX file. Called in the child."""
    return _Session(config)
