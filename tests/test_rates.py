"""Rates and their intervals: that they cover the truth, and how many samples would decide."""

from __future__ import annotations

import numpy as np
import pytest

from lite_opt.judge.rates import bootstrapped, share, wilson

RANDOM = np.random.default_rng(11)
DRAWS = 1000
ENOUGH = 0.93


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits / count, count) == pytest.approx((low, high), abs=5e-5)
    assert wilson(1.0, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    assert wilson(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("truth", "count"), [(0.5, 20), (0.9, 60), (0.97, 200), (0.995, 500)])
def test_intervals_of_independent_samples_cover_the_truth(truth: float, count: int) -> None:
    covered = 0
    for _ in range(DRAWS):
        rate = share("right", RANDOM.random(count) < truth)
        assert rate is not None
        covered += rate.low <= truth <= rate.high
    assert covered >= ENOUGH * DRAWS


@pytest.mark.parametrize("samples", [12, 40, 200])
def test_intervals_cover_the_truth_where_units_stand_and_fall_together(samples: int) -> None:
    """Boxes of one picture: some pictures are hard. As if they were independent, it would not."""
    truth, naive, covered = 0.9, 0, 0
    for _ in range(DRAWS):
        counts = RANDOM.integers(1, 12, samples)
        easy = RANDOM.beta(1.8, 0.2, samples)
        hits = RANDOM.binomial(counts, easy)
        rate = share("boxes", hits.tolist(), counts.tolist())
        assert rate is not None and rate.units == counts.sum() and rate.samples == samples
        covered += rate.low <= truth <= rate.high
        low, high = wilson(rate.value, rate.units)
        naive += low <= truth <= high
    assert covered >= ENOUGH * DRAWS > naive


def test_a_paired_bootstrap_covers_the_loss() -> None:
    count, covered, draws = 150, 0, 300
    for _ in range(draws):
        left = RANDOM.random(count) < 0.8
        right = left & (RANDOM.random(count) < 0.9)  # 8 points are lost

        def lost(weights: np.ndarray, left: np.ndarray = left, right: np.ndarray = right) -> float:
            return float(weights @ (left.astype(float) - right) / weights.sum()) * 100

        rate = bootstrapped("lost", lost, count, at_most=True, draws=300)
        covered += rate.low <= 8 <= rate.high
    assert covered >= ENOUGH * draws - 3


def test_how_many_more_samples_would_decide() -> None:
    none_wrong = share("lines", [1.0] * 1, limit=0.99)
    assert none_wrong is not None and not none_wrong.broken and not none_wrong.decided
    assert none_wrong.more == 380
    enough = share("lines", [1.0] * (1 + none_wrong.more), limit=0.99)
    assert enough is not None and enough.decided and enough.more is None
    one_less = share("lines", [1.0] * none_wrong.more, limit=0.99)
    assert one_less is not None and not one_less.decided and one_less.more == 1


def test_a_rate_on_the_wrong_side_is_broken_decided_or_not() -> None:
    few = share("lines", [1.0] * 9 + [0.0], limit=0.95)
    assert few is not None and few.broken and not few.decided and few.more is not None
    many = share("lines", [1.0] * 900 + [0.0] * 100, limit=0.95)
    assert many is not None and many.broken and many.decided
    at = share("lines", [1.0] * 19 + [0.0], limit=0.95)
    assert at is not None and not at.broken and at.more is None


def test_more_is_in_samples_not_in_units() -> None:
    rate = share("boxes", [10.0] * 5, [10.0] * 5, unit="boxes", limit=0.99)
    assert rate is not None and (rate.units, rate.unit, rate.samples) == (50, "boxes", 5)
    # 381 boxes are 39 pictures of 10; that they stand and fall together is not ruled out yet.
    assert 34 < rate.more < 60


def test_without_units_there_is_no_rate() -> None:
    assert share("boxes", [0, 0], [0, 0]) is None
    rate = share("boxes", [0, 1], [0, 2])
    assert rate is not None and (rate.value, rate.samples) == (0.5, 1)


def test_a_loss_that_nobody_saw_is_not_known_to_be_none() -> None:
    nothing = bootstrapped("lost", lambda w: 0.0, 10, limit=0.5, at_most=True, largest=100)
    assert nothing.value == 0 and not nothing.broken and not nothing.decided
    assert nothing.high == pytest.approx(100 * wilson(0.0, 10)[1])
    gain = bootstrapped("mIoU", lambda w: 1.0, 10, limit=0.98)
    assert gain.low == pytest.approx(wilson(1.0, 10)[0]) and gain.high == 1.0
    lost = bootstrapped("lost", lambda w: 2.0, 10, limit=0.5, at_most=True)
    assert lost.broken
