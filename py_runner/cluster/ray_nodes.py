"""Workers on the nodes of a Ray cluster, by a driver that is a process of its own.

Ray waits for ever for a head that hangs, and ends the whole process sixty seconds after a head that
died. Neither may happen to whoever has the answers: `ray_driver` is the driver, and what it has not
said in time, or died of, is told here.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from importlib.util import find_spec

from py_runner.cluster.processes import begun
from py_runner.cluster.ray_driver import News, Opening
from py_runner.cluster.schedule import Open
from py_runner.cluster.task import Orders, Result, Task, versions
from py_runner.errors import EngineError, PaddleEdgeError
from py_runner.files.process import how_it_ended, last_words
from py_runner.files.url import Place

__all__ = ["RayWorkers", "ray_at"]

_START_S = 120.0  # for Ray to answer, and then for the first worker to take part
_SILENT_S = 60.0  # without a word, from Ray or a worker: both say something all the time
_MORE_S = 10.0  # the driver knows more: its words come first
_TO_END_S = 20.0


def ray_at(address: str, data: str | Place | None = None) -> Open:
    """What opens workers on the cluster at "ray://HEAD:PORT", or, for "ray", the one that
    RAY_ADDRESS names, or that this machine is a node of. `data` is the path that all read from.

    Raises EngineError where Ray is not installed.
    """
    if not _is_there("ray"):
        raise EngineError(
            "a cluster needs Ray: pip install 'paddle-edge[ray]', here and on every node"
        )
    where = os.environ.get("RAY_ADDRESS", "auto") if address == "ray" else address
    return lambda job, shard: RayWorkers(Orders(job, shard, None), where, data)


class RayWorkers:
    """Workers on a Ray cluster, as many as its CPUs allow. Use as a context manager: leaving ends
    them. Where a node comes there are more, and where one dies others take over."""

    def __init__(self, orders: Orders, address: str, data: str | Place | None) -> None:
        self._address = address
        self._opening = Opening(orders, address, data, versions(), _START_S, _SILENT_S)
        self._news = News((), 0)
        self._error: PaddleEdgeError | None = None
        self._heard_s = 0.0
        self._patience_s = _START_S

    def __enter__(self) -> RayWorkers:
        self._child, self._pipe = begun("py_runner.cluster.ray_driver", self._opening)
        self._heard_s = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # which it ends at
        self._child.wait(_TO_END_S)
        self._child.close()

    def names(self) -> list[str]:
        """See `schedule.Workers`."""
        return list(self._news.names)

    def count(self) -> int:
        """See `schedule.Workers`."""
        return self._news.count

    def give(self, name: str, task: Task) -> None:
        """See `schedule.Workers`."""
        self._tell((name, task))

    def stop(self) -> None:
        """See `schedule.Workers`."""
        self._tell(None)

    def wait(self, limit_s: float) -> list[tuple[str, Result | str]]:
        """See `schedule.Workers`. Raises EngineError where no worker takes part, they die and die,
        or Ray is gone or says nothing, UsageError for a node with other versions, DataError for
        one that does not see the data."""
        if self._error is not None:
            raise self._error
        came: list[tuple[str, Result | str]] = []
        try:
            while self._pipe.poll(0 if came else limit_s):
                self._news = news = self._pipe.recv()
                self._heard_s, self._patience_s = time.monotonic(), _SILENT_S
                came += news.came
                limit_s = 0
                if news.error is not None:
                    self._error = news.error
                    break
        except (EOFError, OSError):
            self._error = EngineError(f"{self._address}: {self._ended()}")
        silent_s = time.monotonic() - self._heard_s
        if self._error is None and silent_s > self._patience_s + _MORE_S:
            self._child.kill()
            self._error = EngineError(
                f"{self._address}: Ray has said nothing for {silent_s:.0f} s: does the head of the "
                "cluster hang?"
            )
        if self._error is not None and not came:
            raise self._error
        return came

    def _tell(self, what: object) -> None:
        with suppress(OSError):  # it is gone, which `wait` tells
            self._pipe.send(what)

    def _ended(self) -> str:
        """How the driver ended, in words."""
        code = self._child.wait(_TO_END_S)
        words = last_words(self._child.log())
        return f"the driver of Ray {how_it_ended(code or 0)}: {words}"


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules says that there is none
        return False
