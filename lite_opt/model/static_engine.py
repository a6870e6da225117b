"""Programs on Paddle's static executor that share parameters, loaded once.

An engine in the sense of py_runner/engines/serve.py, run by it in a child. A message that holds
arrays named by the inputs adds a sample; one that holds "program", the bytes of a ProgramDesc,
runs that on all samples, or on the sample that the message holds as well, and answers
"<sample>/<output>" for each.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

__all__ = ["SCRIPT", "open_session"]

SCRIPT = Path(__file__)

_PIR_FLAG = "FLAGS_enable_pir_api"  # read once, when paddle is imported


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        os.environ[_PIR_FLAG] = "0"  # quantized programs are of the old form
        paddle: Any = importlib.import_module("paddle")
        paddle.enable_static()
        self._static = paddle.static
        self._executor = paddle.static.Executor(paddle.CPUPlace())
        model, params = (Path(file) for file in config["files"])
        if params.is_file() and params.stat().st_size:
            self._load(self._static.deserialize_program(model.read_bytes()), params)
        self.version = paddle.__version__
        self._samples: list[dict[str, Any]] = []

    def _load(self, program: Any, params: Path) -> None:
        """By an operator that reads the file: paddle.static.deserialize_persistables of 3.3.1 is
        given its bytes, and takes sixteen times as many."""
        is_parameter = self._static.io.is_persistable
        names = sorted(var.name for var in program.list_vars() if is_parameter(var))
        loading = self._static.Program()
        block = loading.global_block()
        made = [block.create_var(name=name, persistable=True) for name in names]
        attrs = {"file_path": str(params)}
        block.append_op(type="load_combine", outputs={"Out": made}, attrs=attrs)
        self._executor.run(loading)

    def prepare(self, feeds: dict[str, Any]) -> None:
        """Nothing: programs take any shape that the model does."""

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        if "program" not in feeds:
            self._samples.append(feeds)
            return {}
        program = self._static.deserialize_program(feeds.pop("program").tobytes())
        block = program.global_block()
        fetched = [op.input("X")[0] for op in block.ops if op.type == "fetch"]
        answers = {}
        for number, sample in enumerate([feeds] if feeds else self._samples or [{}]):
            values = self._executor.run(program, feed=sample, fetch_list=fetched)
            for index, value in enumerate(values):
                answers[f"{number}/{index}"] = value
        return answers


def open_session(config: dict[str, Any]) -> _Session:
    """A session on the parameters of `config["files"]`. Called in the child."""
    return _Session(config)
