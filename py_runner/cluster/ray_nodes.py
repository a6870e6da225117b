"""Workers on the nodes of a Ray cluster: actors, each with an engine that stays open.

The model is put into the object store once, and unpacked once a node. Pictures and arrays are read
by the workers from where they are: on storage that all nodes share, or at a URL.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from py_runner.cluster.node_files import NodeFiles
from py_runner.cluster.schedule import Open
from py_runner.cluster.task import Orders, Result, Runner, Task, pack, versions
from py_runner.errors import DataError, EngineError, UsageError
from py_runner.files.url import Place, place

__all__ = ["Actor", "RayWorkers", "ray_at"]

_CONNECT_S = 10.0
_LOOK_EVERY_S = 2.0  # for nodes that come and go
_MOST_DEATHS = 3  # of each worker, before anything came of a task
_TO_END_S = 10.0
_LONGEST = 300  # characters of what Ray says
_LEFT_OUT = ("samples", "reference")


def ray_at(address: str, data: str | Place | None = None) -> Open:
    """What opens workers on the cluster at "ray://HEAD:PORT", or, for "ray", the one that
    RAY_ADDRESS names, or that this machine is a node of. `data` is the path that all read from.

    Raises EngineError where Ray is not installed.
    """
    _ray()
    where = os.environ.get("RAY_ADDRESS", "auto") if address == "ray" else address
    return lambda job, shard: RayWorkers(Orders(job, shard, None), where, data)


class RayWorkers:
    """Workers on a Ray cluster, as many as its CPUs allow. Use as a context manager: leaving ends
    them. Where a node comes there are more, and where one dies others take over."""

    def __init__(self, orders: Orders, address: str, data: str | Place | None) -> None:
        self._orders, self._address, self._data = orders, address, data
        self._ray = _ray()
        self._actors: dict[str, Any] = {}  # by names, those that are ready
        self._starting: dict[Any, Any] = {}  # by what they are to say, actors
        self._tasks: dict[Any, str] = {}  # by what they will come to, names
        self._number = 0
        self._deaths = 0
        self._looked_s = 0.0
        self._stopped = False

    def __enter__(self) -> RayWorkers:
        _connect(self._ray, self._address)
        try:
            model = self._orders.job.model
            folder, files = _files(model.files)
            packed = pack(folder, files)
            names = [file.relative_to(folder).as_posix() for file in model.files]
            digest = hashlib.sha256(packed).hexdigest()
            self._sent = self._ray.put(packed), digest, names
            self._orders = replace(self._orders, side_by_side=self._most_on_a_node())
            self._look()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        actors = list(self._actors.values())
        with suppress(Exception):  # what does not answer any more is killed
            closed = [actor.close.remote() for actor in actors]
            self._ray.wait(closed, num_returns=len(closed), timeout=_TO_END_S)
        for actor in (*actors, *self._starting.values()):
            with suppress(Exception):
                self._ray.kill(actor)
        with suppress(Exception):
            self._ray.shutdown()

    def names(self) -> list[str]:
        """See `schedule.Workers`."""
        return list(self._actors)

    def count(self) -> int:
        """See `schedule.Workers`."""
        return len(self._actors) + len(self._starting)

    def give(self, name: str, task: Task) -> None:
        """See `schedule.Workers`."""
        self._tasks[self._actors[name].do.remote(task)] = name

    def wait(self, limit_s: float) -> list[tuple[str, Result | str]]:
        """See `schedule.Workers`. Raises EngineError where they die and die, or the cluster is
        gone, UsageError for a node with other versions, DataError for one that does not see the
        data."""
        self._look()
        found: list[tuple[str, Result | str]] = []
        awaited = [*self._tasks, *self._starting]
        if not awaited:  # which Ray does not wait for
            time.sleep(limit_s)
            return found
        ready, _ = self._ray.wait(awaited, timeout=limit_s)
        for reference in ready:
            actor = self._starting.pop(reference, None)
            name = self._tasks.pop(reference, "")
            try:
                said = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._bury(name, _words(error))
                if name:
                    found.append((name, _words(error)))
                continue
            if actor is not None:
                self._welcome(actor, said)
            else:
                self._deaths = 0
                found.append((name, said))
        return found

    def stop(self) -> None:
        """See `schedule.Workers`."""
        self._stopped = True
        for actor in self._actors.values():
            actor.stop.remote()

    def _welcome(self, actor: Any, said: _Hello) -> None:
        """Take a worker that is ready, unless it would make something else of the samples."""
        here = versions()
        other = [f"{n} {said.versions.get(n)}, not {v}" for n, v in here.items()
                 if said.versions.get(n) != v]  # fmt: skip
        if other:
            raise UsageError(f"node {said.node} has {', '.join(other)} as here: install the same")
        if not said.sees_data:
            raise DataError(
                f"node {said.node} does not see {self._data}: put the data on storage that all "
                "nodes have at the same path"
            )
        self._number += 1
        self._actors[f"worker {self._number} on {said.node}"] = actor
        if self._stopped:
            actor.stop.remote()

    def _bury(self, name: str, words: str) -> None:
        self._actors.pop(name, None)
        self._looked_s = 0.0
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS * max(1, self._most()):
            raise EngineError(f"{self._address}: workers die before they answer: the last {words}")

    def _look(self) -> None:
        """Have as many workers as there are CPUs for."""
        if time.monotonic() - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        most = self._most()
        if not most and not self._actors:
            raise EngineError(
                f"{self._address}: no node of the cluster has {self._orders.job.threads} CPUs"
            )
        while self.count() < most and not self._stopped:
            options = {"num_cpus": self._orders.job.threads, "max_concurrency": 2}
            new = self._ray.remote(**options)(Actor)
            actor = new.remote(self._orders, *self._sent)
            self._starting[actor.hello.remote(self._data)] = actor
        while self.count() > most and self._starting:
            self._ray.kill(self._starting.popitem()[1])

    def _nodes(self) -> list[int]:
        """How many workers each node has room for."""
        threads = self._orders.job.threads
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        return [int(node["Resources"].get("CPU", 0)) // threads for node in alive]

    def _most(self) -> int:
        return sum(self._nodes())

    def _most_on_a_node(self) -> int | None:
        most = max(self._nodes(), default=0)
        return most if most > 1 else None


@dataclass(frozen=True)
class _Hello:
    """What an actor says of itself."""

    node: str
    versions: dict[str, str]
    sees_data: bool


class Actor:
    """A worker, on its node."""

    def __init__(self, orders: Orders, packed: bytes, digest: str, names: Sequence[str]) -> None:
        self._files = NodeFiles(packed, digest)
        files = tuple(self._files.folder / name for name in names)
        job = replace(orders.job, model=replace(orders.job.model, files=files))
        self._runner = Runner(replace(orders, job=job))

    def hello(self, data: str | Place | None) -> _Hello:
        """Say which node this is, and what is there."""
        node = str(_ray().util.get_node_ip_address())
        return _Hello(node, versions(), data is None or place(data).exists())

    def do(self, task: Task) -> Result:
        """See `Runner.do`."""
        return self._runner.do(task)

    def stop(self) -> None:
        """See `Runner.stop`; while `do` is at work."""
        self._runner.stop()

    def close(self) -> None:
        """End the engine, and let go of the model."""
        self._runner.close()
        self._files.close()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise EngineError(
            "a cluster needs Ray: pip install 'paddle-edge[ray]', here and on every node"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    """Be a driver of the cluster at that address. Raises EngineError, in a line, where there is
    none."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        try:
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise EngineError(f"{address}: no Ray cluster is reached there: {error}") from None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has many: of gRPC, of versions, its own
        advice = "" if colon else ": set RAY_ADDRESS, or --on ray://HEAD:PORT"
        line = " ".join(str(error).split())[:_LONGEST]
        raise EngineError(f"{address}: no Ray cluster is there: {line}{advice}") from None
    finally:
        for number, handler in handlers.items():  # Ray has its own for SIGTERM
            signal.signal(number, handler)


def _files(files: Sequence[Path]) -> tuple[Path, list[Path]]:
    """What an engine needs of a model: its folder, and there the files; of a bundle all but its
    samples and what the server answered to them."""
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    if not (folder / "bundle.json").exists():
        return folder, [file.absolute() for file in files]
    inside = sorted(folder.rglob("*"))
    return folder, [f for f in inside if f.relative_to(folder).parts[0] not in _LEFT_OUT]


def _words(error: Exception) -> str:
    """How an actor died, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines)
    if "node" in told and any(word in told for word in ("terminated", "died", "dead", "preempted")):
        return "its node is gone"
    return f"died: {lines[-1][:_LONGEST] if lines else type(error).__name__}"
