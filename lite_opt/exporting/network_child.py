"""A network in Python, in a child: what parameters it has, saved with others, and what it answers.

An engine in the sense of py_runner/engines/serve.py, run by it under the interpreter that has the
network's package. A message without arrays is answered with the parameters; one of arrays named
"parameters/..." sets these and saves the inference model; one named "inputs/0" and on is answered
by the network itself. The top level of this file imports the standard library only.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

__all__ = ["PARAMETERS", "SCRIPT", "open_session", "paddleclas"]

SCRIPT = Path(__file__)
PARAMETERS = "parameters/"


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        paddle: Any = importlib.import_module("paddle")
        self._paddle = paddle
        self.version = paddle.__version__
        module = _module(config["module"])
        construct = getattr(module, config["name"], None)
        if construct is None:
            raise ValueError(_no_such(config["name"], module))
        try:
            with paddle.utils.unique_name.guard():
                network = construct(**config["arguments"])
        except Exception as error:  # theirs, of any kind
            raise ValueError(f"{config['name']}(...) raises {_words(error)}") from error
        if not isinstance(network, paddle.nn.Layer):
            kind = type(network).__name__
            raise ValueError(f"{config['name']}(...) makes a {kind}, no paddle.nn.Layer")
        self._network = network
        self._saved = network
        if config["classifier"]:
            self._saved = _classifier(paddle, network, config["softmax"])
        self._saved.eval()
        self._inputs = [
            paddle.static.InputSpec(shape, dtype, name) for name, dtype, shape in config["inputs"]
        ]
        self._prefix = config["prefix"]

    def prepare(self, feeds: dict[str, Any]) -> None:
        """Nothing: a network takes any shape."""

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        if not feeds:
            return {"described": np.frombuffer(json.dumps(self._described()).encode(), np.uint8)}
        if all(name.startswith(PARAMETERS) for name in feeds):
            state = self._network.state_dict()
            for name, value in feeds.items():
                state[name[len(PARAMETERS) :]].set_value(value)
            try:
                self._paddle.jit.save(self._saved, self._prefix, input_spec=self._inputs)
            except Exception as error:  # of any kind
                name = type(self._network).__name__
                raise ValueError(f"{name} cannot be saved: {_words(error)}") from error
            return {}
        tensors = [self._paddle.to_tensor(feeds[f"inputs/{i}"]) for i in range(len(feeds))]
        with self._paddle.no_grad():
            outputs = self._paddle.utils.flatten(self._saved(*tensors))
        return {str(i): output.numpy() for i, output in enumerate(outputs)}

    def _described(self) -> dict[str, Any]:
        """Name, dtype and shape of each parameter, and the folder of PaddleClas."""
        state = self._network.state_dict()
        kinds = [[n, str(v.dtype).rpartition(".")[2], list(v.shape)] for n, v in state.items()]
        package = sys.modules.get("ppcls")
        return {"parameters": kinds, "package": package and str(Path(package.__path__[0]).parent)}


def open_session(config: dict[str, Any]) -> _Session:
    """A session on `config["module"].config["name"]`. Called in the child."""
    return _Session(config)


def _module(name: str) -> Any:
    """A file, PaddleClas' networks, or a module by its name."""
    if name == "paddleclas":
        return paddleclas()
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name)
        sys.path.insert(0, str(path.parent))  # where it finds what lies beside it
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except Exception as error:  # theirs, of any kind
        raise ValueError(f"{name} cannot be imported: {_words(error)}") from error
    return module


def paddleclas() -> Any:
    """PaddleClas' module of networks. The packages above it stand in empty: their own __init__
    import training, metrics and scikit-learn: three times the time, and requirements that networks
    do not have."""
    found = importlib.util.find_spec("paddleclas")
    if found is None or found.origin is None:
        raise ValueError("paddleclas is not installed there")
    root = Path(found.origin).parent
    for package in ("ppcls", "ppcls.arch", "ppcls.utils"):
        module = types.ModuleType(package)
        module.__path__ = [str(root.joinpath(*package.split(".")))]
        sys.modules[package] = module
    # Several networks log while they are built, to a logger that training would have made.
    logger: Any = importlib.import_module("ppcls.utils.logger")
    logger._logger = logging.getLogger("ppcls")
    return importlib.import_module("ppcls.arch.backbone")


def _no_such(name: str, module: Any) -> str:
    like = difflib.get_close_matches(name, vars(module), 3)
    hint = f"; it has {', '.join(like)}" if like else ""
    return f"{module.__name__} has no '{name}'{hint}"


def _classifier(paddle: Any, network: Any, softmax: bool) -> Any:
    """What PaddleClas' own exporter saves: the scores without auxiliary heads, as probabilities."""

    class Classifier(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.softmax = softmax

        def forward(self, x):  # type: ignore[no-untyped-def]
            scores = self.network(x)
            if isinstance(scores, dict):
                scores = scores["logits"]
            if isinstance(scores, (list, tuple)):
                scores = scores[0]
            return paddle.nn.functional.softmax(scores, axis=-1) if self.softmax else scores

    return Classifier()


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
