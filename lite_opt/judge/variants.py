"""A quantized model with any of its layers in float, run again and again on the same samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timezone

import numpy as np

from lite_opt.model.cost import multiply_adds
from lite_opt.model.executor import Executor
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS
from py_runner.errors import DataError
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.tensors import Sample, sample_hash

__all__ = ["Variants"]


class Variants:
    """Runs variants of a quantized model on the server engine, on the same samples each time.

    Parameters of both kinds are loaded once. Use as a context manager.
    """

    def __init__(self, quantized: Quantized, samples: Sequence[Sample]) -> None:
        self._quantized = quantized
        self._first = samples[0]
        self._model = {"name": quantized.program.files.model.stem, "sha256": ""}
        self._infos = tuple(SampleInfo(s.id, sample_hash(s), s.label) for s in samples)
        self._executor = Executor(quantized.palette(), samples)

    def run(self, float_layers: Collection[str]) -> Run:
        """The answers of the model with these layers in float and all others in int8."""
        program = self._quantized.with_float(float_layers)
        done = self._executor.run(program)
        outputs = {spec.name: values for spec, values in zip(program.outputs, done.outputs)}
        each_ms = done.latency_ms / len(self._infos)
        return Run(
            engine="paddle",
            engine_version=self._executor.version,
            device="cpu",
            machine=machine(),
            threads=1,
            precision="int8",
            model=self._model,
            samples=self._infos,
            outputs=outputs,
            latency_ms=[[each_ms]] * len(self._infos),
            warmup=0,
            peak_memory_bytes=done.peak_memory_bytes,
            wall_s=done.latency_ms / 1e3,
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

    def multiply_adds(self) -> dict[str, int]:
        """Of each layer that has some, also of those that are always float, on the first sample."""
        program = self._quantized.source.copy()
        layers = [op for op in program.ops if op.type in LAYERS]
        names = [name for op in layers for name in (*op.reads, *op.writes)]
        names = [name for name in dict.fromkeys(names) if name not in program.params]
        probes = Probes(self._quantized.with_float({x.layer for x in self._quantized.layers}))
        for name in names:
            probes.answer(probes.op("shape", {"Input": name}))
        answers = self._executor.run(probes.done(), self._first.feeds).outputs
        for name, (shape,) in zip(names, answers):
            program.var(name).shape = tuple(map(int, shape))
        counts = multiply_adds(program) or [0] * len(program.ops)
        return {op.layer: n for op, n in zip(program.ops, counts) if op.type in LAYERS}

    def __enter__(self) -> Variants:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.__exit__()
