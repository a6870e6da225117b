"""The driver of a Ray cluster, in a process of its own: it has actors, each with an engine that
stays open, on the nodes, and hands on what comes of them.

The model is put into the object store once, and unpacked once a node. Pictures and arrays are read
by the actors from where they are: on storage that all nodes share, or at a URL.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from py_runner.cluster.processes import leave_signals_to_the_parent
from py_runner.cluster.ray_actor import Actor, packed_model
from py_runner.cluster.task import Orders, Result, Task
from py_runner.errors import DataError, EngineError, PaddleEdgeError, UsageError
from py_runner.files.url import Place

__all__ = ["News", "Opening", "serve"]

_CONNECT_S = 10.0
_TRIES = 3
_TICK_S = 0.5  # that it is there is said so often at least
_LOOK_EVERY_S = 2.0  # for nodes that come and go
_ASK_EVERY = 6  # times within the silence that a worker may keep it is asked whether it is there
_MOST_DEATHS = 3  # of each worker, before anything came of a task
_TO_END_S = 10.0
_LONGEST = 300  # characters of what Ray says


@dataclass(frozen=True)
class Opening:
    """What a driver is told at first: what workers do, where, on which data, with which versions,
    and for how many seconds it waits for the first of them, and for a word of each."""

    orders: Orders
    address: str
    data: str | Place | None
    versions: dict[str, str]
    start_s: float
    silent_s: float


@dataclass(frozen=True)
class News:
    """The workers that are ready, how many there are with those that start, and what came of tasks;
    with an error the driver ends."""

    names: tuple[str, ...]
    count: int
    came: tuple[tuple[str, Result | str], ...] = ()
    error: PaddleEdgeError | None = None


def serve(descriptor: int) -> None:
    """Be a driver, in the child, until the parent closes its end."""
    leave_signals_to_the_parent()
    pipe = Connection(descriptor)
    opening = pipe.recv()
    events: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                events.put(("told", pipe.recv(), None))
        events.put(("end", None, None))
        time.sleep(_TO_END_S * 1.5)
        os._exit(1)  # whatever Ray is at

    threading.Thread(target=listen, name="orders", daemon=True).start()
    driver = _Driver(opening, events)
    try:
        driver.connect()
        pipe.send(driver.news())
        while driver.step():
            pipe.send(driver.news())
    except BrokenPipeError:
        pass
    except Exception as error:
        if not isinstance(error, PaddleEdgeError):  # Ray has many: of gRPC, of versions, its own
            error = EngineError(f"{opening.address}: {_in_a_line(error)}")
        with suppress(OSError):
            pipe.send(replace(driver.news(), error=error))
    finally:
        driver.close()
        os._exit(0)  # threads of Ray may wait for ever


@dataclass
class _Worker:
    """An actor; whether it is at a task, when it was heard last, and since when it owes a word."""

    actor: Any
    heard_s: float
    at_work: bool = False
    asked_s: float | None = None


class _Driver:
    """The workers of a cluster; whatever happens comes to it as an event, and ends in news."""

    def __init__(self, opening: Opening, events: queue.SimpleQueue[tuple[str, Any, Any]]) -> None:
        self._opening, self._events = opening, events
        self._workers: dict[str, _Worker] = {}  # by names, those that are ready
        self._starting: dict[int, tuple[Any, float]] = {}  # by numbers, actors, and since when
        self._came: list[tuple[str, Result | str]] = []
        self._number = 0
        self._deaths = 0
        self._looked_s = 0.0
        self._joined_s = time.monotonic()  # when there was a worker
        self._stopped = False

    def connect(self) -> None:
        """Be a driver of the cluster. Raises EngineError, in a line, where there is none."""
        self._ray = _connected(self._opening.address)
        packed, digest, names = packed_model(self._opening.orders.job.model)
        self._sent = self._ray.put(packed), digest, names
        self._joined_s = time.monotonic()
        self._look()

    def close(self) -> None:
        """End the actors."""
        actors = [worker.actor for worker in self._workers.values()]
        with suppress(Exception):  # what does not answer any more is killed
            closed = [actor.close.remote() for actor in actors]
            self._ray.wait(closed, num_returns=len(closed), timeout=_TO_END_S)
        for actor in (*actors, *(actor for actor, _ in self._starting.values())):
            with suppress(Exception):
                self._ray.kill(actor)
        with suppress(Exception):
            self._ray.shutdown()

    def news(self) -> News:
        """What there is to say since it was asked last."""
        came, self._came = tuple(self._came), []
        fresh_s = time.monotonic() - self._opening.start_s
        starting = sum(since_s > fresh_s for _, since_s in self._starting.values())
        return News(tuple(self._workers), len(self._workers) + starting, came)

    def step(self) -> bool:
        """Take the next event; False at the end. Raises EngineError where no worker takes part, or
        they die and die, UsageError for a node with other versions, DataError for one that does
        not see the data."""
        with suppress(queue.Empty):
            kind, subject, what = self._events.get(timeout=_TICK_S)
            if kind == "end":
                return False
            getattr(self, f"_{kind}")(subject, what)
        # What workers have said meanwhile is heard first: Ray may just have hung for a while.
        if self._events.empty() and time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._look()
        return True

    def _ask(self, kind: str, subject: Any, reference: Any) -> None:
        """Have an event of that kind when there is an answer."""
        reference.future().add_done_callback(
            lambda answer: self._events.put((kind, subject, answer))
        )

    def _told(self, what: tuple[str, Task] | None, _: None) -> None:
        """The parent has given a task; None: it wants those at work to end after their sample."""
        if what is None:
            self._stopped = True
            for each in self._workers.values():
                each.actor.stop.remote()
            return
        name, task = what
        worker = self._workers.get(name)
        if worker is None:  # as the parent does not know yet
            self._came.append((name, "is gone"))
            return
        worker.at_work = True
        self._ask("done", name, worker.actor.do.remote(task))

    def _done(self, name: str, answer: Any) -> None:
        """A task has come to an end."""
        worker = self._workers.get(name)
        if worker is None:  # it had been given up
            return
        try:
            result = answer.result()
        except Exception as error:
            self._bury(name, _words(error))
            return
        worker.at_work, worker.heard_s, worker.asked_s = False, time.monotonic(), None
        self._deaths = 0
        self._came.append((name, result))

    def _here(self, name: str, answer: Any) -> None:
        """A worker has been heard."""
        worker = self._workers.get(name)
        if worker is None:
            return
        error = answer.exception()
        if error is not None:
            self._bury(name, _words(error))
            return
        worker.heard_s, worker.asked_s = time.monotonic(), None

    def _hello(self, number: int, answer: Any) -> None:
        """Take a worker that is ready, unless it would make something else of the samples."""
        actor, _ = self._starting.pop(number, (None, 0.0))
        if actor is None:  # there was no room for it any more
            return
        try:
            said = answer.result()
        except Exception as error:
            self._note_death(_words(error))
            return
        here = self._opening.versions
        other = [f"{n} {said.versions.get(n)}, not {v}" for n, v in here.items()
                 if said.versions.get(n) != v]  # fmt: skip
        if other:
            raise UsageError(f"node {said.node} has {', '.join(other)} as here: install the same")
        if not said.sees_data:
            raise DataError(
                f"node {said.node} does not see {self._opening.data}: put the data on storage that "
                "all nodes have at the same path"
            )
        name = f"worker {number} on {said.node}"
        self._workers[name] = _Worker(actor, time.monotonic())
        if self._stopped:
            actor.stop.remote()

    def _bury(self, name: str, words: str) -> None:
        """A worker is dead, or as good as that; what it was at is told."""
        worker = self._workers.pop(name)
        with suppress(Exception):
            self._ray.kill(worker.actor)
        if worker.at_work:
            self._came.append((name, words))
        self._note_death(words)

    def _note_death(self, words: str) -> None:
        self._looked_s = 0.0
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS * max(1, sum(self._room())):
            raise EngineError(
                f"{self._opening.address}: workers die before they answer: the last {words}"
            )

    def _look(self) -> None:
        """Have as many workers as there are CPUs for, that answer when they are asked."""
        self._looked_s = now_s = time.monotonic()
        for name, worker in list(self._workers.items()):
            silent_s, limit_s = now_s - worker.heard_s, self._opening.silent_s
            if worker.asked_s is not None and now_s - worker.asked_s > limit_s:
                self._bury(name, f"has said nothing for {silent_s:.0f} s")
            elif worker.asked_s is None and silent_s > limit_s / _ASK_EVERY:
                worker.asked_s = now_s
                self._ask("here", name, worker.actor.here.remote())
        room = self._room()
        if self._workers:
            self._joined_s = now_s
        elif now_s - self._joined_s > self._opening.start_s:
            raise EngineError(self._why_nobody(now_s - self._joined_s))
        most = max(room, default=0)
        orders = replace(self._opening.orders, side_by_side=most if most > 1 else None)
        while len(self._workers) + len(self._starting) < sum(room) and not self._stopped:
            self._start(orders)
        while len(self._workers) + len(self._starting) > sum(room) and self._starting:
            self._ray.kill(self._starting.popitem()[1][0])

    def _start(self, orders: Orders) -> None:
        options = {"num_cpus": orders.job.threads, "max_concurrency": 2}
        actor = self._ray.remote(**options)(Actor).remote(orders, *self._sent)
        self._number += 1
        self._starting[self._number] = actor, time.monotonic()
        self._ask("hello", self._number, actor.hello.remote(self._opening.data))

    def _room(self) -> list[int]:
        """How many workers each node has room for. Raises EngineError where none will ever have."""
        threads = self._opening.orders.job.threads
        cpus = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        if 0 < max(cpus, default=0) < threads:
            raise EngineError(f"{self._opening.address}: no node of the cluster has {threads} CPUs")
        return [int(each) // threads for each in cpus]

    def _why_nobody(self, waited_s: float) -> str:
        """That no worker takes part, and why, as far as one can see."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        cpus = sum(node["Resources"].get("CPU", 0) for node in nodes)
        free = self._ray.available_resources().get("CPU", 0)
        why = f"it has no CPUs, on nodes: {len(nodes)}; have others join it with `ray start`"
        if cpus:
            why = (
                f"{free:g} of its {cpus:g} CPUs are free: others have them, or no worker starts, "
                "which raylet.err says among the logs of Ray on its nodes"
            )
        return f"no node of {self._opening.address} took part within {waited_s:.0f} s: {why}"


def _connected(address: str) -> Any:
    """Ray, as a driver of the cluster at that address. Raises EngineError, in a line, where there
    is none."""
    # Under `uv run` Ray would send the working folder to the nodes, and call uv there: what they
    # have is what is run.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        try:
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise EngineError(f"{address}: no Ray cluster is reached there: {error}") from None
    for tries_left in reversed(range(_TRIES)):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:  # Ray has many: of gRPC, of versions, its own
            # What ray:// connects to forks while gRPC is at work, and dies of that now and then.
            if isinstance(error, ConnectionAbortedError) and tries_left:
                continue
            advice = "" if colon else ": set RAY_ADDRESS, or --on ray://HEAD:PORT"
            line = _in_a_line(error)
            raise EngineError(f"{address}: no Ray cluster is there: {line}{advice}") from None
    leave_signals_to_the_parent()  # Ray has its own handler
    return ray


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def _words(error: Exception) -> str:
    """How an actor died, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines)
    if "node" in told and any(word in told for word in ("terminated", "died", "dead", "preempted")):
        return "its node is gone"
    return f"died: {lines[-1][:_LONGEST] if lines else type(error).__name__}"
