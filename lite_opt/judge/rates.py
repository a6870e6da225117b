"""Rates with their uncertainty: what a share or a loss measured on a few samples is worth.

Intervals are of 95 %. A share has Wilson's, of as many independent units as its samples are worth:
boxes of one picture, or characters of one line, stand and fall together (Korn and Graubard, 1998).
What is no share, such as mAP, has the percentiles of a bootstrap over the samples, paired where it
is of two runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rate", "bootstrapped", "share", "wilson"]

_Z = 1.959963984540054  # of a normal distribution, 95 % lie within so many deviations
_DRAWS = 1000
# What is believed without having seen it, that units of a sample stand and fall together, weighs as
# much as so many samples.
_DOUBT = 5

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rate:
    """A figure of a comparison, and how far the data determine it.

    `value` lies within `low` and `high` by 95 %; it is of `units` (`unit` in words) in `samples`.
    A `limit` is the least value, or the largest where `at_most`; None for no limit. `more` is how
    many more samples like these would decide whether it is held, None where these do.
    """

    name: str
    value: float
    low: float
    high: float
    units: int
    unit: str
    samples: int
    limit: float | None = None
    at_most: bool = False
    more: int | None = None

    @property
    def broken(self) -> bool:
        """Whether the value is on the wrong side of its limit."""
        if self.limit is None:
            return False
        return self.value > self.limit if self.at_most else self.value < self.limit

    @property
    def failure(self) -> str:
        """What is said of a value on the wrong side of its limit."""
        return (
            f"{self.name}: {self.value:.4g} is {'above' if self.at_most else 'below'} "
            f"{self.limit:g} (95 % interval {self.low:.4g} to {self.high:.4g}, {self.units} "
            f"{self.unit})"
        )

    @property
    def decided(self) -> bool:
        """Whether the whole interval is on one side of the limit."""
        if self.limit is None:
            return True
        if self.at_most:
            return self.high <= self.limit or self.low > self.limit
        return self.low >= self.limit or self.high < self.limit


def wilson(value: float, count: float) -> tuple[float, float]:
    """The interval of a share that was seen to be `value` in `count` independent units."""
    if count <= 0:
        return 0.0, 1.0
    square = _Z * _Z
    middle = (value + square / (2 * count)) / (1 + square / count)
    spread = _Z * math.sqrt(value * (1 - value) / count + square / (4 * count * count))
    spread /= 1 + square / count
    low = 0.0 if value <= 0 else max(0.0, middle - spread)
    return low, 1.0 if value >= 1 else min(1.0, middle + spread)


def share(
    name: str,
    hits: Sequence[float] | bytearray | _Array,
    counts: Sequence[float] | None = None,
    *,
    unit: str = "samples",
    limit: float | None = None,
) -> Rate | None:
    """The share of units that are hits; None without any unit.

    Args:
        hits: how many of each sample's units are.
        counts: how many units each sample has, by default one. Where a sample counts once, its
            hit may be a fraction, such as the share of its pixels: no fractions vary more than
            zeros and ones of the same mean, so that the interval is never too narrow.
        limit: the least share.
    """
    made = np.asarray(hits, np.float64)
    units = np.ones_like(made) if counts is None else np.asarray(counts, np.float64)
    made, units = made[units > 0], units[units > 0]
    total = float(units.sum())
    if not total:
        return None
    value = float(made.sum() / total)
    groups = _Groups.of(made, units, value)
    samples = len(made)
    low, high = wilson(value, groups.worth(samples))
    rate = Rate(name, value, low, high, round(total), unit, samples, limit)
    if limit is None or rate.decided or value == limit:
        return rate
    # Wilson's interval ends at the limit where the score test just rejects it.
    needed = _Z * _Z * limit * (1 - limit) / (value - limit) ** 2
    return replace(rate, more=groups.samples_for(needed) - samples)


@dataclass(frozen=True)
class _Groups:
    """How units are grouped in samples: `mean` in each, `effect` times as uncertain as if they were
    independent by what was seen, and `together` times if all of a sample stand and fall together,
    which a few samples cannot rule out."""

    mean: float
    effect: float
    together: float

    @classmethod
    def of(cls, hits: _Array, units: _Array, value: float) -> _Groups:
        """Of the hits and units of each sample, and the share that they are."""
        total, samples = float(units.sum()), len(units)
        together = float(units @ units) / total
        binomial = value * (1 - value) / total
        if samples < 2 or binomial <= 0 or together == 1:
            return cls(total / samples, 1.0, together)
        residues = hits - value * units
        variance = samples / (samples - 1) * float(residues @ residues) / total**2
        return cls(total / samples, max(1.0, variance / binomial), together)

    def worth(self, samples: int) -> float:
        """How many independent units so many samples are worth."""
        seen = samples - 1
        effect = (seen * self.effect + _DOUBT * self.together) / (seen + _DOUBT)
        return samples * self.mean / effect

    def samples_for(self, worth: float) -> int:
        """The least number of samples that are worth as much."""
        low, high = 0, 1
        while self.worth(high) < worth:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.worth(middle) < worth else (low, middle)
        return high


def bootstrapped(
    name: str,
    figure: Callable[[_Array], float],
    samples: int,
    *,
    limit: float | None = None,
    at_most: bool = False,
    largest: float = 1.0,
    seed: int = 0,
    draws: int = _DRAWS,
) -> Rate:
    """A figure of all samples, with its interval by drawing samples with replacement.

    Args:
        figure: of weights, float64 [samples]: how often each sample was drawn. Of a difference of
            two runs it is paired, because both are of the same draw.
        largest: how far one sample could move the figure, were it all there is. Where no draw
            differs, what was not seen yet can still be the share that Wilson's interval allows.
    """
    value = figure(np.ones(samples))
    random = np.random.default_rng(seed)
    drawn = [
        figure(random.multinomial(samples, np.full(samples, 1 / samples)).astype(np.float64))
        for _ in range(draws)
    ]
    low, high = (float(q) for q in np.percentile(drawn, [2.5, 97.5]))
    low, high = min(low, value), max(high, value)
    if high - low <= 0:
        unseen = largest * wilson(0.0, samples)[1]
        low, high = value - unseen, value + unseen
        if not at_most:
            low, high = max(0.0, low), min(1.0, high)
    rate = Rate(name, value, low, high, samples, "samples", samples, limit, at_most)
    if limit is None or rate.decided or value == limit:
        return rate
    # Intervals shrink with the square root of the number of samples.
    reach = (high - value) if limit > value else (value - low)
    more = max(1, math.ceil(samples * ((reach / (limit - value)) ** 2 - 1)))
    return replace(rate, more=more)
