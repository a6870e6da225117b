"""Which workers `run --on` and `--spread` ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from py_runner.cluster.processes import each, local
from py_runner.cluster.ray_nodes import ray_at
from py_runner.cluster.schedule import Open
from py_runner.errors import UsageError
from py_runner.files.url import Url

__all__ = ["workers_for"]


def workers_for(
    on: str | None, devices: Sequence[str], data: str | Url | None, *, spread: bool, threads: int
) -> Open | None:
    """What opens the workers that were asked for; None where one engine does it. Raises UsageError
    for options that do not fit each other, EngineError where Ray is missing."""
    if spread and on:
        raise UsageError("--spread has a worker on each --device: leave --on out")
    if spread and len(devices) < 2:
        raise UsageError("--spread is for several devices, each with a --device")
    if spread:
        return each(devices)
    if on is None:
        return None
    if len(devices) > 1:
        raise UsageError("--on is for one --device; --spread spreads samples over several")
    kind, _, number = on.rstrip("]").partition("[")
    if kind == "local":
        return local(int(number or max(1, (os.cpu_count() or 1) // threads)))
    if devices[0].startswith("gpu"):
        raise UsageError(
            f"--on {on}: engines of a cluster run on CPUs, not on --device {devices[0]}"
        )
    return ray_at(on, data)
