"""This machine: an engine in a child process, fed while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from typing import Any

import numpy as np

from py_runner.engines import ENGINES, native
from py_runner.engines.worker import Worker
from py_runner.errors import EngineError, RefusedError
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.job import Job
from py_runner.tensors import Sample, sample_hash
from py_runner.watch import Watch

__all__ = ["Here", "opened"]


@dataclass(frozen=True)
class Here:
    """The machine that this interpreter runs on.

    An engine is run by its own interpreter, or by `python`, a command, where that is given, which
    takes `own_bytes` of memory more.
    """

    python: tuple[str, ...] = ()
    own_bytes: int = 0

    def target(self, engine: str) -> str:
        """What `Engine.target` says."""
        return ENGINES[engine].target()

    def missing(self) -> str:
        """What to do to have engine `native` here, in words; "" where it is."""
        return native.missing()

    def run(self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch) -> Run:
        """`inference.run` on this machine, in a child that is killed in the end."""
        first = next(samples)
        start = time.perf_counter()
        file = job.model.files[0]
        infos: list[SampleInfo] = []
        outputs: dict[str, list[np.ndarray[Any, Any]]] = {}
        latency_ms: list[list[float]] = []
        peak = 0
        with (
            opened(job, first, python=self.python, own_bytes=self.own_bytes) as worker,
            _Sender(worker, chain([first], samples), job, infos) as sender,
        ):
            for text in worker.ready["warnings"]:
                watch.warn(text)
            while True:
                sender.wait_for(len(latency_ms))
                if sender.done and len(latency_ms) == len(infos):
                    break
                try:
                    header, answer = worker.receive(time_limit_s=job.time_limit_s)
                except EngineError as error:
                    sample = infos[len(latency_ms)].id
                    raise RefusedError(f"{file}: sample '{sample}': {error}") from None
                kept = job.keep(infos[len(latency_ms)].id, answer)
                for name, value in kept.items():
                    outputs.setdefault(name, []).append(value)
                latency_ms.append(header["latency_ms"])
                peak = max(peak, header["peak_memory_bytes"])
                watch.step(f"engine {job.engine}", len(latency_ms), total)
            if sender.error is not None:
                raise sender.error
        return Run(
            engine=job.engine,
            engine_version=str(worker.ready["version"]),
            device=job.device + ("+tensorrt" if job.tensorrt else ""),
            machine=machine(),
            threads=job.threads,
            precision=job.precision if job.device.startswith("gpu") else job.model.precision,
            model={"name": job.model.name, "sha256": job.model.sha256},
            samples=tuple(infos),
            outputs=outputs,
            latency_ms=latency_ms,
            warmup=job.warmup,
            peak_memory_bytes=peak,
            wall_s=time.perf_counter() - start,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            cpu=worker.ready["cpu"],
        )


def opened(job: Job, first: Sample, *, python: Sequence[str] = (), own_bytes: int = 0) -> Worker:
    """The engine with the model open, by its own interpreter or by `python`, a command that takes
    `own_bytes` of memory more. Raises EngineError that names the file, in words."""
    model = job.model
    config: dict[str, Any] = {
        "files": [str(f) for f in model.files],
        "inputs": [spec.name for spec in model.inputs],
        "device": job.device,
        "threads": job.threads,
        "warmup": job.warmup,
        "repeat": job.repeat,
        "tensorrt": job.tensorrt,
        "precision": job.precision,
        "shapes": {
            spec.name: {"model": spec.shape, "sample": first.feeds[spec.name].shape}
            for spec in model.inputs
            if spec.name in first.feeds
        },
    }
    limit = job.memory_bytes(first)
    try:
        return Worker(
            job.kind.script,
            config,
            name=job.engine,
            python=python or (job.kind.python(),),
            threads=job.threads,
            env=job.kind.env(),
            time_limit_s=job.time_limit_s,
            memory_limit_bytes=None if limit is None else limit + own_bytes,
        )
    except EngineError as error:
        text = job.kind.explain(str(error))
        # The native library names what is at fault in a bundle itself.
        named = job.engine == "native" and str(model.files[0].parent) in text
        raise type(error)(text if named else f"{model.files[0]}: {text}") from None


class _Sender:
    """Sends samples from a thread, so that the next is there before the engine asks for it.

    `infos` grows before a sample is sent; `wait_for(n)` returns when the n-th has been, or when
    there are no more. Leaving kills the worker, whose answers have been received or given up.
    """

    def __init__(
        self, worker: Worker, samples: Iterator[Sample], job: Job, infos: list[SampleInfo]
    ) -> None:
        self._worker, self._samples, self._job, self._infos = worker, samples, job, infos
        self._changed = threading.Condition()
        self.done = False
        self._stopped = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._send_all, name="samples", daemon=True)

    def _send_all(self) -> None:
        try:
            for sample in self._samples:
                if self._stopped:
                    break
                self._job.check_feeds(sample)
                info = SampleInfo(sample.id, sample_hash(sample), sample.label, sample.pixels)
                with self._changed:
                    self._infos.append(info)
                    self._changed.notify()
                feeds = {spec.name: sample.feeds[spec.name] for spec in self._job.model.inputs}
                self._worker.send({}, feeds)
        except BaseException as error:  # raised again by run(), in its own thread
            self.error = error
        finally:
            with self._changed:
                self.done = True
                self._changed.notify()

    def wait_for(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._infos) > count or self.done)

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True  # do not prepare samples that nobody waits for
        self._worker.kill()  # a thread that still writes gets a broken pipe
        self._thread.join()
