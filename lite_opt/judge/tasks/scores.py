"""What a task's comparison comes to: its rates, further figures, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share
from py_runner.formats.lazy import Made, chosen
from py_runner.formats.run import Run

__all__ = ["Case", "Scores", "accuracies", "ids_of", "matched", "named"]


@dataclass(frozen=True)
class Case:
    """Two runs of the same samples in the same order, the truth's file or None, and limits by the
    rates' keys (`lite_opt.judge.limits.TASK_LIMITS`)."""

    reference: Run
    candidate: Run
    truth: Path | None
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """How a task's answers agree. `judged` is whether there was anything to agree about: a detector
    that finds nothing, and a recognizer that reads nothing, are not right for it.

    `figures` are without limits; `differing` are the samples that are answered differently.
    """

    task: str
    rates: tuple[Rate, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    differing: tuple[str, ...] = ()
    judged: bool = True
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """A line for each limit that is broken."""
        return [rate.failure for rate in self.rates if rate.broken]

    @property
    def undecided(self) -> list[str]:
        """A line for each rate for whose limit the data are too few."""
        return [
            f"{rate.name}: {rate.value:.4g} of {rate.samples} samples does not decide about the "
            f"limit {rate.limit:g} (95 % interval {rate.low:.4g} to {rate.high:.4g}): "
            + (f"{rate.more} more samples would decide" if rate.more else "it is just there")
            for rate in self.rates
            if not rate.decided
        ]


def ids_of(run: Run) -> Sequence[str]:
    """The ids of a run's samples, read when they are asked for."""
    return Made(attrgetter("id"), run.samples)


def named(run: Run, places: Iterable[int]) -> tuple[str, ...]:
    """The ids of the samples at these places."""
    return tuple(sample.id for sample in chosen(run.samples, places))


def matched(likeness: npt.NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) whose likeness is at least `least`, the most alike first, each row and
    column in one pair at most."""
    pairs = []
    rows: set[int] = set()
    columns: set[int] = set()
    for place in np.argsort(-likeness, axis=None, kind="stable"):
        row, column = (int(i) for i in np.unravel_index(place, likeness.shape))
        if likeness[row, column] < least:
            break
        if row not in rows and column not in columns:
            pairs.append((row, column))
            rows.add(row)
            columns.add(column)
    return pairs


def accuracies(
    what: str, reference: npt.ArrayLike, candidate: npt.ArrayLike, limit: float | None
) -> tuple[Rate, ...]:
    """Both runs' shares of samples that are right by the labels, and the loss in points, at most
    `limit`, whose interval is of the same draws for both."""
    left, right = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    if not len(left):
        return ()

    def drop(weights: npt.NDArray[np.float64]) -> float:
        return float(weights @ (left - right) / weights.sum()) * 100

    rates = [
        share(f"{what}, {who}", hits) for who, hits in (("reference", left), ("candidate", right))
    ]
    loss = bootstrapped(
        f"{what}, points lost", drop, len(left), limit=limit, at_most=True, largest=100.0
    )
    return (*(rate for rate in rates if rate is not None), loss)
