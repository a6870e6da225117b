"""Whether one run is slower than another, and how far their inferences determine that."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped
from py_runner.errors import UsageError
from py_runner.formats.run import Run

__all__ = ["slowdown"]

_NAME = "latency, percent more"


def slowdown(reference: Run, candidate: Run, limit: float) -> Rate:
    """By how many percent the candidate's median inference takes longer, at most `limit`.

    Of each sample that both have as many inferences count as both measured; they are drawn in pairs
    for the interval. Raises UsageError where the two were not measured on the same device, machine
    and number of threads, or under an emulator, or where nothing was: then the ratio says nothing
    of the model.
    """
    for name in ("device", "machine", "threads"):
        a, b = getattr(reference, name), getattr(candidate, name)
        if a != b:
            raise UsageError(
                f"latencies on {name} {a} and {name} {b} say nothing of each other: leave "
                "--max-latency-regression out, or run both alike"
            )
    if "qemu" in candidate.device:
        raise UsageError(
            "latencies are the emulator's here: leave --max-latency-regression out, and compare "
            "instructions by bench"
        )
    where = {sample.id: place for place, sample in enumerate(candidate.samples)}
    pairs = [
        pair
        for sample, own in zip(reference.samples, reference.latency_ms)
        if sample.id in where
        for pair in zip(own, candidate.latency_ms[where[sample.id]])
    ]
    if not pairs:
        raise UsageError("nobody measured these runs: leave --max-latency-regression out")
    times = np.array(pairs, np.float64)
    orders = [np.argsort(side, kind="stable") for side in times.T]

    def more(weights: npt.NDArray[Any]) -> float:
        old, new = (_median(side[o], weights[o]) for side, o in zip(times.T, orders))
        return (new / old - 1) * 100 if old else 0.0

    return bootstrapped(_NAME, more, len(pairs), limit=limit, at_most=True, largest=100.0)


def _median(ordered: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """The least value that half of the weight does not exceed."""
    reached = np.cumsum(weights)
    return float(ordered[int(np.searchsorted(reached, reached[-1] / 2))])
