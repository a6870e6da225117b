"""Workers that are processes of this machine: each has an engine here, or on a device of its own.

What they are told and answer are pickled objects over a socket, which the child inherits.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from py_runner.cluster.schedule import Open
from py_runner.cluster.task import Orders, Result, Runner, Task
from py_runner.errors import EngineError
from py_runner.files.process import Child, how_it_ended, last_words

__all__ = ["Processes", "begun", "each", "leave_signals_to_the_parent", "local", "serve"]

# Isolated: a folder that a command is called in is no place to import from.
_SERVE = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "importlib.import_module(sys.argv[1]).serve(int(sys.argv[2]))"
)
_STOP = "stop"
_TO_END_S = 5.0
_MOST_DEATHS = 3  # of each, before anything came of it


def local(number: int) -> Open:
    """What opens so many workers here."""
    beside = number if number > 1 else None
    return lambda job, shard: Processes([Orders(job, shard, beside)] * number)


def each(devices: Sequence[str]) -> Open:
    """What opens a worker for each device."""
    return lambda job, shard: Processes(
        [Orders(replace(job, device=device), shard, None, any_machine=True) for device in devices]
    )


class Processes:
    """Workers that are children of this process, one for each of `orders`. Use as a context
    manager: leaving ends them. One that dies has another take its place."""

    def __init__(self, orders: Sequence[Orders]) -> None:
        self._orders = orders
        self._children: dict[str, _Worker] = {}
        self._numbers = count(1)
        self._deaths = 0  # since something came of a task
        self._stopped = False

    def __enter__(self) -> Processes:
        try:
            for orders in self._orders:
                self._start(orders)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._children.values():
            worker.pipe.close()  # which they end at
        until_s = time.monotonic() + _TO_END_S
        for worker in self._children.values():
            worker.child.wait(max(0.0, until_s - time.monotonic()))
            worker.child.close()

    def _start(self, orders: Orders) -> None:
        child, pipe = begun(__name__, orders)
        self._children[f"worker {next(self._numbers)}"] = _Worker(child, pipe, orders)

    def names(self) -> list[str]:
        """See `schedule.Workers`."""
        return list(self._children)

    def count(self) -> int:
        """See `schedule.Workers`."""
        return len(self._children)

    def give(self, name: str, task: Task) -> None:
        """See `schedule.Workers`."""
        with suppress(OSError):
            self._children[name].pipe.send(task)

    def wait(self, limit_s: float) -> list[tuple[str, Result | str]]:
        """See `schedule.Workers`. Raises EngineError where they die and die."""
        ready = wait([worker.pipe for worker in self._children.values()], limit_s)
        found: list[tuple[str, Result | str]] = []
        for name, worker in list(self._children.items()):
            if worker.pipe in ready:
                try:
                    found.append((name, worker.pipe.recv()))
                    self._deaths = 0
                except (EOFError, OSError):
                    found.append((name, self._bury(name)))
        return found

    def _bury(self, name: str) -> str:
        """How a worker ended, in words; another takes its place."""
        worker = self._children.pop(name)
        worker.pipe.close()
        code = worker.child.wait(_TO_END_S)
        words = last_words(worker.child.log())
        worker.child.close()
        told = how_it_ended(code or 0) + ("" if words == "(no output)" else f": {words}")
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS * len(self._orders):
            raise EngineError(f"workers die before they answer: the last {told}")
        if not self._stopped:
            self._start(worker.orders)
        return told

    def stop(self) -> None:
        """See `schedule.Workers`."""
        self._stopped = True
        for worker in self._children.values():
            with suppress(OSError):
                worker.pipe.send(_STOP)


@dataclass(frozen=True)
class _Worker:
    child: Child
    pipe: Connection[Any, Any]
    orders: Orders


def begun(module: str, told: object) -> tuple[Child, Connection[Any, Any]]:
    """A child that calls `serve` of a module with its end of a pipe, in which it is told that; and
    the other end."""
    here, there = Pipe()
    descriptor = there.fileno()
    argv = [sys.executable, "-I", "-c", _SERVE, module, str(descriptor), json.dumps(sys.path)]
    try:
        child = Child(argv, pass_fds=[descriptor])
    finally:
        there.close()
    with suppress(OSError):  # it is gone already, which whoever reads sees
        here.send(told)
    return child, here


def leave_signals_to_the_parent() -> None:
    """Ctrl-C and systemd tell every process: the parent is told, too, and has parts to wait for."""
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)


def serve(descriptor: int) -> None:
    """Be a worker, in the child, until the parent closes its end."""
    leave_signals_to_the_parent()
    pipe = Connection(descriptor)
    runner = Runner(pipe.recv())
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                told = pipe.recv()
                if told == _STOP:
                    runner.stop()
                else:
                    tasks.put(told)
        runner.close()
        os._exit(0)  # whatever the engine is at

    threading.Thread(target=listen, name="orders", daemon=True).start()
    with suppress(BrokenPipeError):
        while True:
            pipe.send(runner.do(tasks.get()))
