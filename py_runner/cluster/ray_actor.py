"""An actor of a Ray cluster: a worker with an engine that stays open, on its node."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from py_runner.cluster.node_files import NodeFiles
from py_runner.cluster.task import Orders, Result, Runner, Task, pack, versions
from py_runner.files.url import Place, place
from py_runner.tensors import Model

__all__ = ["Actor", "Hello", "packed_model"]

_LEFT_OUT = ("samples", "reference")  # of a bundle: what the server answered, and to what


@dataclass(frozen=True)
class Hello:
    """What an actor says of itself."""

    node: str
    versions: dict[str, str]
    sees_data: bool


class Actor:
    """A worker, on its node. One thread of it does tasks, and another hears the rest."""

    def __init__(self, orders: Orders, packed: bytes, digest: str, names: Sequence[str]) -> None:
        self._files = NodeFiles(packed, digest)
        files = tuple(self._files.folder / name for name in names)
        job = replace(orders.job, model=replace(orders.job.model, files=files))
        self._runner = Runner(replace(orders, job=job))

    def hello(self, data: str | Place | None) -> Hello:
        """Say which node this is, and what is there."""
        import ray

        util: Any = ray.util
        node = str(util.get_node_ip_address())
        return Hello(node, versions(), data is None or place(data).exists())

    def here(self) -> None:
        """Answer, which is all: what hangs does not."""

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


def packed_model(model: Model) -> tuple[bytes, str, list[str]]:
    """What an engine needs of a model, packed: the checksum of that, and the names of its files."""
    folder = Path(os.path.commonpath([file.absolute().parent for file in model.files]))
    files = [file.absolute() for file in model.files]
    names = [file.relative_to(folder).as_posix() for file in files]
    if (folder / "bundle.json").exists():
        inside = sorted(folder.rglob("*"))
        files = [f for f in inside if f.relative_to(folder).parts[0] not in _LEFT_OUT]
    packed = pack(folder, files)
    return packed, hashlib.sha256(packed).hexdigest(), names
