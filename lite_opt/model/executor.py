"""Paddle's static executor in a child: several programs on the same parameters, loaded once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model import static_engine
from lite_opt.model.load import stage
from lite_opt.model.pdmodel import serialize
from lite_opt.model.program import Program
from py_runner.engines.worker import Worker
from py_runner.files.folder import temporary_folder
from py_runner.job import memory_limit
from py_runner.tensors import Sample

__all__ = ["Executed", "Executor"]

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Executed:
    """What a program gave: `outputs`, in the order of their columns, each as an array a sample;
    the time of all samples together, and the most memory that the child has taken."""

    outputs: list[list[_Array]]
    latency_ms: float
    peak_memory_bytes: int


class Executor:
    """Runs programs on the parameters of `parameters`, which has those of all of them.

    `samples` are fed to every program, and sent once. The child may take the memory that the
    parameters and samples, or else `largest`, need. Use as a context manager.

    Raises EngineError where Paddle is not to be had.
    """

    def __init__(
        self,
        parameters: Program,
        samples: Sequence[Sample] = (),
        *,
        largest: Sequence[Sample] = (),
    ) -> None:
        with temporary_folder() as temporary:
            files = stage(parameters, temporary)
            there = [f for f in (files.model, files.params) if f is not None and f.is_file()]
            self._worker = Worker(
                static_engine.SCRIPT, name="paddle", python=(sys.executable,)
            ).begin(
                {"files": [str(files.model), str(files.params)], "warmup": 0, "repeat": 1},
                memory_limit_bytes=memory_limit(there, samples or largest),
            )
        self._count = len(samples)
        try:
            for sample in samples:
                self._worker.send({}, sample.feeds)
                self._worker.receive(time_limit_s=None)
        except BaseException:
            self._worker.close()
            raise

    @property
    def version(self) -> str:
        """Paddle's version."""
        return str(self._worker.ready["version"])

    def run(
        self,
        program: Program,
        feeds: Mapping[str, _Array] | None = None,
        *,
        time_limit_s: float | None = None,
    ) -> Executed:
        """Run a program on the samples, or where there are `feeds` on these alone.

        Raises EngineError where Paddle refuses it.
        """
        text = np.frombuffer(serialize(program), np.uint8)
        self._worker.send({}, {"program": text, **(feeds or {})})
        header, answers = self._worker.receive(time_limit_s=time_limit_s)
        count = 1 if feeds else self._count or 1
        columns = sum(op.type == "fetch" for op in program.ops)
        outputs = [[answers[f"{i}/{c}"] for i in range(count)] for c in range(columns)]
        return Executed(outputs, header["latency_ms"][0], header["peak_memory_bytes"])

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
