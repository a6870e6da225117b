"""A quantized model with any of its layers in float, run again and again on the same samples."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from datetime import datetime, timezone

import numpy as np

from lite_opt.model import static_engine
from lite_opt.model.load import save
from lite_opt.model.pdmodel import serialize
from lite_opt.quant.mixed import Quantized
from py_runner.engines.worker import Worker
from py_runner.errors import DataError
from py_runner.files.folder import temporary_folder
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.job import memory_limit
from py_runner.tensors import Sample, sample_hash

__all__ = ["Variants"]


class Variants:
    """Runs variants of a quantized model on the server engine, on the same samples each time.

    Parameters of both kinds are loaded once. Use as a context manager.
    """

    def __init__(self, quantized: Quantized, samples: Sequence[Sample]) -> None:
        self._quantized = quantized
        self._model = {"name": quantized.program.files.model.stem, "sha256": ""}
        self._infos = tuple(SampleInfo(s.id, sample_hash(s), s.label) for s in samples)
        with temporary_folder() as temporary:
            files = save(quantized.palette(), temporary)
            config = {
                "files": [str(files.model), str(files.params)],
                "warmup": 0,
                "repeat": 1,
            }
            self._worker = Worker(
                static_engine.SCRIPT,
                config,
                name="paddle",
                python=sys.executable,
                memory_limit_bytes=memory_limit(filter(None, (files.model, files.params)), samples),
            )
        try:
            for sample in samples:
                self._worker.send({}, sample.feeds)
                self._worker.receive(time_limit_s=None)
        except BaseException:
            self._worker.close()
            raise

    def run(self, float_layers: Collection[str]) -> Run:
        """The answers of the model with these layers in float and all others in int8."""
        program = self._quantized.with_float(float_layers)
        text = np.frombuffer(serialize(program), np.uint8)
        self._worker.send({}, {"program": text})
        header, answers = self._worker.receive(time_limit_s=None)
        outputs = {
            spec.name: [answers[f"{i}/{index}"] for i in range(len(self._infos))]
            for index, spec in enumerate(program.outputs)
        }
        each_ms = header["latency_ms"][0] / len(self._infos)
        return Run(
            engine="paddle",
            engine_version=str(self._worker.ready["version"]),
            device="cpu",
            machine=machine(),
            threads=1,
            precision="int8",
            model=self._model,
            samples=self._infos,
            outputs=outputs,
            latency_ms=[[each_ms]] * len(self._infos),
            warmup=0,
            peak_memory_bytes=header["peak_memory_bytes"],
            wall_s=header["latency_ms"][0] / 1e3,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def reference(self) -> Run:
        """The answers of the float model. Raises DataError where they are no numbers."""
        answers = self.run({layer.layer for layer in self._quantized.layers})
        for values in answers.outputs.values():
            for info, value in zip(self._infos, values):
                if not np.isfinite(value).all():
                    raise DataError(
                        f"sample '{info.id}': the float model answers NaN or Inf, and no loss can "
                        "be measured against that: remove it, or mend the preprocessing"
                    )
        return answers

    def __enter__(self) -> Variants:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
