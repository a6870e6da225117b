"""What latencies are worth: whether one run is slower, when an engine is warm, how far a percentile
is determined. Intervals are of 95 %."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.pairs import paired
from lite_opt.judge.rates import Rate, bootstrapped
from py_runner.errors import UsageError
from py_runner.formats.run import Run

__all__ = ["intervals", "slowdown", "until_steady"]

_NAME = "latency, percent more"
_DRAWS = 1000
_PERCENTILES = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99}
_FEW = 10  # inferences of which nobody can tell whether the first ones are others


def slowdown(reference: Run, candidate: Run, limit: float) -> Rate:
    """By how many percent the candidate's median inference takes longer, at most `limit`.

    Of each sample that both have as many inferences count as both measured; they are drawn in pairs
    for the interval. Raises UsageError where the two were not measured on the same device, machine
    and number of threads, beside as many engines, or under an emulator, or where nothing was: then
    the ratio says nothing of the model.
    """
    for name in ("device", "machine", "threads", "side_by_side"):
        a, b = getattr(reference, name), getattr(candidate, name)
        if a != b:
            what = "engines beside each other" if name == "side_by_side" else name
            raise UsageError(
                f"latencies on {what} {a or 1} and {what} {b or 1} say nothing of each other: "
                "leave --max-latency-regression out, or run both alike"
            )
    if "qemu" in candidate.device:
        raise UsageError(
            "latencies are the emulator's here: leave --max-latency-regression out, and compare "
            "instructions by bench"
        )
    both = zip(*(run.latency_ms for run in paired(reference, candidate)))
    pairs = array("d", (ms for repeats in both for pair in zip(*repeats) for ms in pair))
    if not pairs:
        raise UsageError("nobody measured these runs: leave --max-latency-regression out")
    times = np.frombuffer(pairs).reshape(-1, 2)
    orders = [np.argsort(side, kind="stable") for side in times.T]

    def more(weights: npt.NDArray[Any]) -> float:
        old, new = (_median(side[o], weights[o]) for side, o in zip(times.T, orders))
        return (new / old - 1) * 100 if old else 0.0

    return bootstrapped(_NAME, more, len(times), limit=limit, at_most=True, largest=100.0)


def _median(ordered: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """The least value that half of the weight does not exceed."""
    reached = np.cumsum(weights)
    return float(ordered[int(np.searchsorted(reached, reached[-1] / 2))])


def until_steady(latency_ms: Sequence[float]) -> int:
    """How many of the first inferences are warm-up: those without which the mean of the others is
    best determined, at most half (the rule MSER of White, 1997); 0 of fewer than ten."""
    values = np.asarray(latency_ms, np.float64)
    if len(values) < _FEW:
        return 0
    errors = [
        float(values[start:].var()) / (len(values) - start) for start in range(len(values) // 2 + 1)
    ]
    return int(np.argmin(errors))


def intervals(latency_ms: Sequence[float], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Of p50, p90 and p99 (ms), by drawing the inferences with replacement. A percentile cannot lie
    beyond what was seen: a p99 of a few inferences is less certain than its interval says."""
    values = np.asarray(latency_ms, np.float64)
    random = np.random.default_rng(seed)
    drawn = [
        np.percentile(random.choice(values, len(values)), list(_PERCENTILES.values()))
        for _ in range(_DRAWS)
    ]
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {name: (float(low), float(high)) for name, (low, high) in zip(_PERCENTILES, ends.T)}
