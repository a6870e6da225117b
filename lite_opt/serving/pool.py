"""Engine children that answer the requests to one model: a bounded queue, batches, restarts.

Each child has a thread of its own, which takes requests from the queue. While the engine works on
one, the next is in the pipe already where it fits. An engine that dies costs the request that it
was at; the others go back to the head of the queue. Of a batch, nobody knows whose fault it was:
each is asked again, alone.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.serving.logs import log
from lite_opt.serving.refusals import Refusal
from py_runner.devices.here import opened
from py_runner.engines.worker import Worker
from py_runner.errors import EngineError
from py_runner.job import Job
from py_runner.tensors import Sample

__all__ = ["Answer", "Engines", "joined"]

_Feeds = Mapping[str, npt.NDArray[Any]]

_LONGEST_PAUSE_S = 10.0  # between two attempts to start an engine
_LOOK_EVERY_S = 0.5  # whether an idle engine is still there
_AT_ONCE = 2  # messages that an engine is sent: one to work at, and the next
_HEADER_BYTES = 1 << 13  # more than a message has beside an array's elements


@dataclass(frozen=True)
class Answer:
    """What an engine answered: outputs in its order, how long it took and how long it was waited
    for (ms), and with how many rows it shared the run."""

    outputs: dict[str, npt.NDArray[Any]]
    engine_ms: float
    queue_ms: float
    rows: int


@dataclass
class _Request:
    feeds: _Feeds
    give_up: float  # on time.monotonic()
    future: Future[Answer] = field(default_factory=Future)
    entered: float = field(default_factory=time.monotonic)
    alone: bool = False

    @property
    def rows(self) -> int:
        return min((len(value) if value.ndim else 1 for value in self.feeds.values()), default=1)

    def late(self) -> bool:
        return self.future.cancelled() or time.monotonic() > self.give_up

    def goes_with(self, other: _Request) -> bool:
        """Whether both can be one batch."""
        if self.alone or other.alone:
            return False
        return all(value.shape[1:] == other.feeds[n].shape[1:] for n, value in self.feeds.items())

    def fail(self, refusal: Refusal) -> None:
        with suppress(InvalidStateError):  # given up meanwhile
            self.future.set_exception(refusal)


class Engines:
    """`count` engines for one job. `start` opens them, `close` ends them when all is answered.

    Args:
        job: the model, the engine and how it runs.
        first: a sample as those to come, for the engine's sake.
        queue: how many requests may wait.
        max_batch: how many rows may run at once; 1 where the model's batch is not free.
        batch_delay_s: how long a request waits for others to come with.
        died: is called when an engine has ended, with its last words.
    """

    def __init__(
        self,
        job: Job,
        first: Sample,
        *,
        count: int = 1,
        queue: int = 32,
        max_batch: int = 1,
        batch_delay_s: float = 0.002,
        died: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.job, self.count, self.max_batch = job, count, max_batch
        self.version = ""
        self._first, self._limit, self._batch_delay_s = first, queue, batch_delay_s
        self._died = died
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._engine_ms = 0.0  # a row, of late
        self._fault = ""
        self._threads: list[threading.Thread] = []
        self._workers: set[Worker] = set()

    def start(self) -> None:
        """Start all engines and wait for them. Raises EngineError where the first does not open."""
        first = opened(self.job, self._first)
        self.version = str(first.ready["version"])
        for text in first.ready["warnings"]:
            log(logging.WARNING, "engine", model=self.job.model.name, text=text)
        for number in range(self.count):
            given = first if number == 0 else None
            name = f"{self.job.model.name}-{number}"
            thread = threading.Thread(target=self._work, args=(given,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self.alive == self.count or bool(self._fault))
            if self._fault:
                raise EngineError(self._fault)

    @property
    def alive(self) -> int:
        """How many engines are there."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """How many requests wait for an engine."""
        return len(self._queue)

    @property
    def fault(self) -> str:
        """Why no engine is there, in words; "" where there is one, or one is about to be."""
        return "" if self.alive else self._fault

    def ask(self, feeds: _Feeds, *, give_up: float) -> Future[Answer]:
        """The answer to come. `give_up` is when, on `time.monotonic()`, nobody waits for it.

        The future ends in a Refusal where an engine died of the request. Raises Refusal where the
        queue is full or the engine does not start.
        """
        with self._changed:
            if self._closing:
                raise Refusal(503, "the server stops")
            if self.fault:
                why = self._for_clients(self._fault)
                raise Refusal(503, why, retry_after_s=math.ceil(_LONGEST_PAUSE_S))
            if len(self._queue) >= self._limit:
                for request in [r for r in self._queue if r.late()]:
                    self._queue.remove(request)
            if len(self._queue) >= self._limit:
                left_s = self._engine_ms * len(self._queue) / self.count / 1e3
                raise Refusal(
                    429,
                    f"{len(self._queue)} requests wait already",
                    retry_after_s=max(1, math.ceil(left_s)),
                )
            request = _Request(feeds, give_up)
            self._queue.append(request)
            self._changed.notify_all()
            return request.future

    def close(self, patience_s: float = 1.0) -> None:
        """End the engines; what is not answered within the patience is refused."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._refuse_all()
        for worker in list(self._workers):
            worker.kill()
        for thread in self._threads:
            thread.join()

    def _work(self, worker: Worker | None) -> None:
        """Keep an engine running, and give it requests, until the pool is closed."""
        pause_s = 0.0
        while not self._closing:
            try:
                with worker or opened(self.job, self._first) as worker:
                    self._is_there(worker, True)
                    try:
                        self._serve(worker)
                        return
                    finally:
                        self._is_there(worker, False)
            except Exception as error:  # whatever it is, there has to be an engine again
                died_at_work = worker is not None
                worker, text = None, str(error)
                with self._changed:
                    self._fault = "" if died_at_work else text
                    self._changed.notify_all()
                log(logging.ERROR, "engine ended", model=self.job.model.name, text=text)
                self._died(text)
                pause_s = 0.0 if died_at_work else min(max(2 * pause_s, 0.1), _LONGEST_PAUSE_S)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause_s)

    def _for_clients(self, text: str) -> str:
        """The words of an engine without the places of files, which only the log may name."""
        for place in (*self.job.model.files, self.job.model.files[0].parent):
            text = text.replace(f"{place}: ", "").replace(str(place), place.name)
        return text

    def _is_there(self, worker: Worker, there: bool) -> None:
        with self._changed:
            (self._workers.add if there else self._workers.remove)(worker)
            if there:
                self._fault = ""
            self._changed.notify_all()

    def _refuse_all(self) -> None:
        """Nobody is going to answer what waits."""
        with self._changed:
            while self._queue:
                self._queue.popleft().fail(Refusal(503, "the server stops"))

    def _serve(self, worker: Worker) -> None:
        """Give an engine requests until the pool is closed. Raises EngineError when it ends."""
        sent: deque[tuple[list[_Request], float]] = deque()  # each with when it was
        ahead: list[_Request] = []
        try:
            while True:
                if not ahead and len(sent) < _AT_ONCE:
                    ahead = self._take(worker, wait=not sent)
                if ahead and (not sent or _fits(ahead, worker)):
                    worker.send({}, joined([request.feeds for request in ahead]))
                    sent.append((ahead, time.monotonic()))
                    ahead = []
                    if len(sent) < _AT_ONCE:
                        continue
                if not sent and not worker.ended:
                    return
                header, outputs = worker.receive(time_limit_s=self.job.time_limit_s)
                self._answered(*sent.popleft(), header["latency_ms"][-1], outputs)
        except BaseException as error:
            guilty = sent.popleft()[0] if sent else []
            left = [request for batch, _ in sent for request in batch] + ahead
            self._put_back(guilty, left, error)
            raise

    def _put_back(
        self, guilty: Sequence[_Request], left: Sequence[_Request], error: BaseException
    ) -> None:
        """After an engine's end: fail the request that it was at, and keep all others."""
        if len(guilty) == 1:
            guilty[0].fail(Refusal(500, self._for_clients(str(error))))
        else:
            for request in guilty:
                request.alone = True
            left = [*guilty, *left]
        with self._changed:
            self._queue.extendleft(reversed(left))
            self._changed.notify_all()

    def _answered(
        self,
        batch: Sequence[_Request],
        sent: float,
        engine_ms: float,
        outputs: dict[str, npt.NDArray[Any]],
    ) -> None:
        rows = sum(request.rows for request in batch)
        self._engine_ms += (engine_ms / rows - self._engine_ms) / 8
        start = 0
        for request in batch:
            mine = outputs
            if len(batch) > 1:
                place = slice(start, start + request.rows)
                mine = {name: value[place] for name, value in outputs.items()}
            start += request.rows
            queue_ms = (sent - request.entered) * 1e3
            with suppress(InvalidStateError):  # given up meanwhile
                request.future.set_result(Answer(mine, engine_ms, queue_ms, rows))

    def _take(self, worker: Worker, *, wait: bool) -> list[_Request]:
        """The next batch; empty where the pool is closed, the engine that waited for it has ended,
        or nothing is there and it need not wait.

        A request that an idle engine could take is not put into the pipe of a busy one.
        """
        spare = 1 if wait else max(self.count, self.max_batch)
        with self._changed:
            while True:
                while self._queue and self._queue[0].late():
                    self._queue.popleft()
                if wait and worker.ended:
                    return []
                if len(self._queue) >= spare:
                    break
                if not wait or self._closing:
                    return []
                self._changed.wait(_LOOK_EVERY_S)
            batch = [self._queue.popleft()]
            self._fill(batch)
        return batch

    def _fill(self, batch: list[_Request]) -> None:
        """Add to a batch what comes within the delay and goes with it."""
        rows, until = batch[0].rows, time.monotonic() + self._batch_delay_s
        while rows < self.max_batch and not batch[0].alone:
            if self._queue:
                other = self._queue[0]
                if not other.goes_with(batch[0]) or rows + other.rows > self.max_batch:
                    return
                self._queue.popleft()
                if not other.late():
                    batch.append(other)
                    rows += other.rows
                continue
            left_s = until - time.monotonic()
            if left_s <= 0 or self._closing:
                return
            self._changed.wait(left_s)


def joined(feeds: Sequence[_Feeds]) -> _Feeds:
    """Several feeds as one batch."""
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}


def _fits(batch: Sequence[_Request], worker: Worker) -> bool:
    """Whether a message can be left in the pipe while the engine works: else both sides could wait
    for each other, the engine with an answer and we with a question."""
    arrays = [value for request in batch for value in request.feeds.values()]
    needed = sum(value.nbytes for value in arrays) + _HEADER_BYTES * (1 + len(arrays))
    return needed <= worker.room_bytes
