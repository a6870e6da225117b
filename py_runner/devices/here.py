"""This machine: an engine in a child process, fed while it works."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from typing import Any

import numpy as np

from py_runner.engines import ENGINES, native
from py_runner.engines.worker import Worker
from py_runner.errors import EngineError
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.job import Job
from py_runner.tensors import Sample, sample_hash
from py_runner.watch import Watch

__all__ = ["Ahead", "Here", "Kept", "opened"]


@dataclass(frozen=True)
class Here:
    """The machine that this interpreter runs on.

    An engine is run by its own interpreter, or by `python`, a command, where that is given, which
    takes `own_bytes` of memory more. It is opened by `engine`, as `opened` does.
    """

    python: tuple[str, ...] = ()
    own_bytes: int = 0
    engine: Callable[..., AbstractContextManager[Worker]] | None = None

    def target(self, engine: str) -> str:
        """What `Engine.target` says."""
        return ENGINES[engine].target()

    def missing(self) -> str:
        """What to do to have engine `native` here, in words; "" where it is."""
        return native.missing()

    def parts(
        self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch
    ) -> Generator[Run, None, None]:
        """`inference.parts` on this machine, in a child that is killed in the end. Another takes
        its place where it fails at a sample and the job goes on without that."""
        part = _Part(job)
        answered, stop = 0, False
        first = next(samples, None)
        while first is not None and not stop:
            with (
                self._opened(job, first) as worker,
                _Sender(worker, chain([first], samples), job) as sender,
            ):
                if not answered:
                    for text in worker.ready["warnings"]:
                        watch.warn(text)
                while not stop and (sent := sender.next()) is not None:
                    try:
                        header, answer = worker.receive(time_limit_s=job.time_limit_s)
                    except EngineError as error:
                        job.leave_out(sent.id, error, answered=answered)
                        break
                    part.add(sent, job.keep(sent.id, answer), header)
                    answered += 1
                    watch.step(f"engine {job.engine}", answered, total)
                    stop = watch.enough()
                    if part.is_full():
                        yield part.end(worker.ready)
            if not stop:
                first = next(samples := chain(sender.left, samples), None)
        if part.infos:
            yield part.end(worker.ready)

    def _opened(self, job: Job, first: Sample) -> AbstractContextManager[Worker]:
        engine = self.engine or opened
        return engine(job, first, python=self.python, own_bytes=self.own_bytes)


class _Part:
    """The answers since the part before this one ended."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._begin()

    def _begin(self) -> None:
        self._began_s = time.perf_counter()
        self.infos: list[SampleInfo] = []
        self._outputs: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._latency_ms: list[list[float]] = []
        self._bytes = self._peak_bytes = 0

    def add(
        self, info: SampleInfo, kept: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]
    ) -> None:
        self.infos.append(info)
        for name, value in kept.items():
            self._outputs.setdefault(name, []).append(value)
            self._bytes += value.nbytes
        self._latency_ms.append(header["latency_ms"])
        self._peak_bytes = max(self._peak_bytes, header["peak_memory_bytes"])

    def is_full(self) -> bool:
        return self._job.ends_part(self._began_s, len(self.infos), self._bytes)

    def end(self, ready: Mapping[str, Any]) -> Run:
        """The Run of this part, by what the engine said of itself; the next one begins."""
        job = self._job
        run = Run(
            engine=job.engine,
            engine_version=str(ready["version"]),
            device=job.place,
            machine=machine(),
            threads=job.threads,
            precision=job.precision if job.device.startswith("gpu") else job.model.precision,
            model={"name": job.model.name, "sha256": job.model.sha256},
            samples=tuple(self.infos),
            outputs=self._outputs,
            latency_ms=self._latency_ms,
            warmup=job.warmup,
            peak_memory_bytes=self._peak_bytes,
            wall_s=time.perf_counter() - self._began_s,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            cpu=ready["cpu"],
        )
        self._begin()
        return run


def opened(
    job: Job,
    first: Sample,
    *,
    python: Sequence[str] = (),
    own_bytes: int = 0,
    worker: Worker | None = None,
) -> Worker:
    """The engine with the model open, by its own interpreter or by `python`, a command that takes
    `own_bytes` of memory more, or in a `worker` that is there already. Raises EngineError that
    names the file, in words."""
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
        return (worker or _started(job.engine, job.threads, python)).begin(
            config,
            memory_limit_bytes=None if limit is None else limit + own_bytes,
            time_limit_s=job.time_limit_s,
        )
    except EngineError as error:
        text = job.kind.explain(str(error))
        # The native library names what is at fault in a bundle itself.
        named = job.engine == "native" and str(model.files[0].parent) in text
        raise type(error)(text if named else f"{model.files[0]}: {text}") from None


def _started(engine: str, threads: int, python: Sequence[str] = ()) -> Worker:
    kind = ENGINES[engine]
    return Worker(
        kind.script,
        name=engine,
        python=python or (kind.python(),),
        threads=threads,
        env=kind.env(),
    )


class Ahead:
    """An engine that starts before there is a job for it, in one thread. The first job takes it;
    where none does, leaving the block ends it."""

    def __init__(self, engine: str) -> None:
        self._worker: Worker | None = _started(engine, 1)

    def opened(self, job: Job, first: Sample, **how: Any) -> Worker:
        """As `opened` does."""
        worker, self._worker = self._worker, None
        return opened(job, first, worker=worker, **how)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()


class Kept:
    """An engine that stays open from one call of `Here.parts` to the next: all are of one job.

    `opened_s` is how long it took to open it, however often it had to be. Closing it ends the
    engine.
    """

    def __init__(self) -> None:
        self.opened_s = 0.0
        self._worker: Worker | None = None

    @contextmanager
    def opened(self, job: Job, first: Sample, **how: Any) -> Iterator[Worker]:
        """As `opened` does. After an error, or where it was killed, there is another next time."""
        if self._worker is not None and self._worker.ended:
            self.close()
        began_s = time.perf_counter()
        worker, self._worker = self._worker or opened(job, first, **how), None
        self.opened_s += time.perf_counter() - began_s
        try:
            yield worker
        except BaseException:
            worker.close()
            raise
        if worker.ended:
            worker.close()
        else:
            self._worker = worker

    def close(self) -> None:
        """End the engine. Closing twice is fine."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class _Sender:
    """Sends samples from a thread, so that the next is there before the engine asks for it.

    `next` says which sample is to be answered next. Leaving kills the worker, unless all samples
    are answered; `left` are then those that were taken and not answered.
    """

    def __init__(self, worker: Worker, samples: Iterator[Sample], job: Job) -> None:
        self._worker, self._samples, self._job = worker, samples, job
        self._changed = threading.Condition()
        self._taken: deque[tuple[Sample, SampleInfo]] = deque()  # before they are sent
        self._done = self._stopped = self._all_answered = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._send_all, name="samples", daemon=True)

    def _send_all(self) -> None:
        try:
            for sample in self._samples:
                self._job.check_feeds(sample)
                info = SampleInfo(sample.id, sample_hash(sample), sample.label, sample.pixels)
                with self._changed:
                    self._taken.append((sample, info))
                    self._changed.notify()
                if self._stopped:
                    break
                feeds = {spec.name: sample.feeds[spec.name] for spec in self._job.model.inputs}
                self._worker.send({}, feeds)
        except BaseException as error:  # raised again by next(), in its thread
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify()

    def next(self) -> SampleInfo | None:
        """The sample whose answer is received next, which is forgotten here; None after the last.
        Raises what the samples raised, after those before."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken or self._done)
            if self._taken:
                return self._taken.popleft()[1]
        if self._error is not None:
            raise self._error
        self._all_answered = True
        return None

    @property
    def left(self) -> list[Sample]:
        return [sample for sample, _ in self._taken]

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True  # do not prepare samples that nobody waits for
        if not self._all_answered:
            self._worker.kill()  # a thread that still writes gets a broken pipe
        self._thread.join()
