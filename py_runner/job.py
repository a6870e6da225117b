"""What is asked of an engine: a model, a device and options, refused here where they do not fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from py_runner.engines import ENGINES, Engine
from py_runner.errors import DataError, EngineError, RefusedError, UsageError
from py_runner.formats.nb import read_nb
from py_runner.tensors import Model, Sample

__all__ = ["Job", "Keep", "everything", "memory_limit"]

# What is kept of the outputs of a sample, by its id: see `inference.run`.
Keep = Callable[[str, Mapping[str, "np.ndarray[Any, Any]"]], "dict[str, np.ndarray[Any, Any]]"]


def everything(_: str, outputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Keep all outputs."""
    return dict(outputs)


_LONGEST_S = 1e6  # what select() surely takes
_MOST_GB = 1e6
# Of the memory an engine may map: for itself, for each byte of the model, of the largest sample,
# and of all samples that it keeps.
_ENGINE_BYTES, _OF_MODEL, _OF_SAMPLE, _KEPT = 4 << 30, 8, 512, 2
# What ends a part beside its time: who holds it holds no more than this.
_PART_BYTES, _PART_SAMPLES = 16 << 20, 4096


def memory_limit(files: Iterable[Path], samples: Sequence[Sample]) -> int:
    """How many bytes an engine may map that runs the model of these files on these samples.

    An estimate from the sizes of both, several times what real models take.
    """
    feeds = [sum(value.nbytes for value in sample.feeds.values()) for sample in samples]
    model = sum(file.stat().st_size for file in files)
    return (
        _ENGINE_BYTES + _OF_MODEL * model + _OF_SAMPLE * max(feeds, default=0) + _KEPT * sum(feeds)
    )


@dataclass(frozen=True)
class Job:
    """One call of `inference.run`, whose docstring has the fields and errors."""

    model: Model
    engine: str
    device: str = "cpu"
    threads: int = 1
    warmup: int = 1
    repeat: int = 1
    tensorrt: bool = False
    precision: str = "fp32"
    time_limit_s: float | None = None
    unsafe_int8: bool = False
    memory_limit_gb: float | None = None
    keep: Keep = everything
    part_s: float = 10.0
    failed: list[tuple[str, str]] | None = None
    dead_after: int = 3  # samples that fail, and no answer: then it is not the samples' fault

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UsageError(f"unknown engine '{self.engine}': choose {', '.join(ENGINES)}")
        if self.precision not in ("fp32", "fp16"):
            raise UsageError(f"unknown precision '{self.precision}': choose fp32 or fp16")
        if not self.device.startswith("gpu") and (self.tensorrt or self.precision != "fp32"):
            raise UsageError("TensorRT and fp16 belong to engine paddle on a GPU: add --device gpu")
        if self.threads < 1 or self.repeat < 1 or self.warmup < 0:
            raise UsageError("threads and repeat are at least 1, warmup at least 0")
        limit = self.time_limit_s
        if limit is not None and not 0 < limit <= _LONGEST_S:
            raise UsageError(f"the time limit is above 0 s, at most {_LONGEST_S:g}, not {limit}")
        most = self.memory_limit_gb
        if most is not None and not 0 < most <= _MOST_GB:
            raise UsageError(f"the memory limit is above 0 GB, at most {_MOST_GB:g}, not {most}")
        if not 0 < self.part_s <= _LONGEST_S:
            raise UsageError(f"a part takes above 0 s, at most {_LONGEST_S:g}, not {self.part_s}")
        file = self.model.files[0]
        bundled = {kind.suffix for kind in ENGINES.values()}
        suffix = file.suffix if file.suffix in bundled else ""
        if suffix != self.kind.suffix:
            raise UsageError(f"{file}: engine {self.engine} {self._instead(suffix)}")

    def _instead(self, suffix: str) -> str:
        """What the engine runs, where it was given a file with another suffix."""
        if not self.kind.suffix:
            return "runs the source model: name that one"
        if not suffix:
            return "runs bundles: convert the model first"
        return f"runs the {self.kind.suffix} file of a bundle"

    @property
    def kind(self) -> Engine:
        """The engine."""
        return ENGINES[self.engine]

    @property
    def place(self) -> str:
        """The device as a Run names it."""
        return self.device + ("+tensorrt" if self.tensorrt else "")

    def memory_bytes(self, sample: Sample) -> int | None:
        """How much memory an engine may map to run the model on a sample like this one; None on a
        GPU, whose driver maps more than there is.

        It is `memory_limit_gb`, or else estimated from the sizes of both.
        """
        if self.device.startswith("gpu"):
            return None
        if self.memory_limit_gb is not None:
            return int(self.memory_limit_gb * 1e9)
        return memory_limit(self.model.files, [sample])

    def check_file(self, target: str) -> None:
        """Raise EngineError for a `.nb` on which an engine of this target ("arm", "x86") would say
        what is not so."""
        file = self.model.files[0]
        nb = read_nb(file)
        if nb.target not in (target, "host"):
            # Measured on x86: it "runs", exits 0, and leaves the outputs uninitialised.
            raise EngineError(
                f"{file}: is made for {nb.target}, and the engine here is {target}: "
                f"convert with --target {target} as well"
            )
        int8 = any(precision == "int8" for _, precision in nb.kernels)
        if target == "x86" and int8 and not self.unsafe_int8:
            # Measured: accuracy 0.5 instead of 0.95, NaN, and other numbers in the next run.
            raise EngineError(
                f"{file}: has int8 kernels, which compute wrong numbers on x86: run the "
                "quantized model on engine paddle (convert --save-quantized), or pass --unsafe-int8"
            )

    def ends_part(self, began_s: float, samples: int, nbytes: int) -> bool:
        """Whether a part is to end that began then (`time.perf_counter`), and holds so many samples
        and bytes of outputs."""
        lasted = time.perf_counter() - began_s >= self.part_s
        return lasted or samples >= _PART_SAMPLES or nbytes >= _PART_BYTES

    def leave_out(self, id_: str, error: EngineError, *, answered: int) -> None:
        """Note a sample that the engine failed at, after so many answers, to go on without it.

        Raises RefusedError, which names it, where nobody asked to go on, and where the first
        samples all fail: then it is the model or the engine that is at fault.
        """
        named = f"{self.model.files[0]}: sample '{id_}': "
        why = str(error).removeprefix(named)
        if self.failed is None:
            raise RefusedError(named + why) from None
        self.failed.append((id_, why))
        if not answered and len(self.failed) >= self.dead_after:
            raise RefusedError(
                f"{self.model.files[0]}: the first {len(self.failed)} samples all fail; "
                f"the last, '{id_}': {why}"
            ) from None

    def check_feeds(self, sample: Sample) -> None:
        """Raise DataError for a sample that does not fit the model's inputs."""
        for spec in self.model.inputs:
            if spec.name not in sample.feeds:
                raise DataError(f"sample '{sample.id}': nothing for input '{spec.name}'")
            wrong = spec.mismatch(sample.feeds[spec.name])
            if wrong:
                # An engine that is fed it all the same reads garbage and says nothing.
                raise DataError(f"sample '{sample.id}': {wrong}")
