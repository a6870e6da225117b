"""The figures of a comparison, each against what NumPy or arithmetic by hand says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lite_opt.judge.numbers import (
    Energies,
    Gaps,
    Spread,
    centred,
    decibels,
    found_nothing,
    kind_of,
    noise_of,
    softmax,
)


def row(*values: float) -> np.ndarray:
    """One row of float32 scores."""
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (row(0.25, 0.75), "probabilities"),
        (row(0.25, 0.7491), "probabilities"),  # off by 0.9e-3
        (row(0.25, 0.7509), "probabilities"),
        (row(0.25, 0.7489), "logits"),
        (row(0.25, 0.7511), "logits"),
        (row(-0.9e-6, 1), "probabilities"),  # what rounding leaves below 0
        (np.array([[-1e-6, 1]]), "probabilities"),
        (row(-1.1e-6, 1), "logits"),
        (np.array([0.25, 0.75], np.float32), "probabilities"),  # without a batch
        (np.array([3, 4], np.float16), "logits"),
        (row(3, 4), "logits"),
        (row(1), "tensor"),  # one class is none, whatever it sums to
        (row(3), "tensor"),
        (np.float32(1), "tensor"),
        (np.array([[0, 1]]), "tensor"),  # integers are no scores
        (np.full((2, 2), 0.5, np.float32), "probabilities"),
        (np.array([[0.5, 0.5], [0.5, 0.6]], np.float32), "tensor"),  # a row does not, and two rows
        (np.full((1, 2, 1, 2), 3, np.float32), "tensor"),
        (np.full((1, 1, 1, 2), 3, np.float32), "logits"),
    ],
)
def test_what_kind_an_output_is(value: np.ndarray, kind: str) -> None:
    assert kind_of([np.asarray(value)]) == kind


@pytest.mark.parametrize(
    ("value", "nothing"),
    [
        (np.empty((0, 6)), True),
        (np.empty((2, 0)), True),
        (row(-1), True),
        (row(-1.5), False),
        (row(0), False),
        (row(-1, -1), False),
        (np.array([-1.0]), False),
        (np.array(-1.0), False),
        (np.array([[[-1.0]]]), False),
    ],
)
def test_what_a_detector_answers_that_found_nothing(value: np.ndarray, nothing: bool) -> None:
    assert found_nothing(value) == nothing


def test_without_a_row_nothing_is_a_probability() -> None:
    assert kind_of([np.empty((0, 6), np.float32)] * 2) == "tensor"


def test_every_sample_decides_what_kind_an_output_is() -> None:
    assert kind_of([row(0.25, 0.75), row(0.5, 0.5)]) == "probabilities"
    assert kind_of([row(0.25, 0.75), row(0.5, 0.6)]) == "logits"
    assert kind_of([row(3, 4), np.full((2, 2), 3, np.float32)]) == "tensor"
    assert kind_of([row(0.25, 0.75), np.empty((0, 2), np.float32)]) == "probabilities"


def test_what_a_cosine_is_taken_of() -> None:
    scores = np.array([[1, 2, 6], [4, 4, 4]], np.float32)
    assert centred(scores, "logits", 0).tolist() == [[-2, -1, 3], [0, 0, 0]]
    assert centred(scores, "tensor", 0).tolist() == (scores - 3.5).tolist()
    assert centred(np.empty((0, 3), np.float32), "tensor", 0).shape == (0, 3)
    logs = centred(row(1, 1e-9), "probabilities", 1e-6)  # the floor holds
    assert logs == pytest.approx(np.array([[1, -1]]) * math.log(1e6) / 2)
    assert centred(row(1, 2), "logits", 0).dtype == np.float64


def test_softmax_does_not_overflow() -> None:
    scores = np.array([[1000, 1000 + math.log(3)], [-5, -5]])
    assert softmax(scores) == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))


def test_decibels_and_back() -> None:
    assert decibels(100, 1) == pytest.approx(20)
    assert decibels(1, 0) == decibels(0, 0) == math.inf
    assert decibels(0, 1) == -math.inf
    assert noise_of(20) == pytest.approx(0.01)
    assert noise_of(math.inf) == 0


def test_energies_pool_what_is_added() -> None:
    energies = Energies()
    assert energies.add(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(math.sqrt(0.5))
    assert energies.add(np.array([0.0, 3]), np.array([0.0, 3])) == pytest.approx(1)
    assert energies.cosine == pytest.approx(10 / math.sqrt(10 * 11))
    assert energies.sqnr_db == pytest.approx(10)
    assert energies.reference == 10


@pytest.mark.parametrize(
    ("left", "right", "cosine"), [(0, 0, 1), (0, 2, 0), (2, 0, 0), (2, -2, -1), (1e-100, 1e-100, 1)]
)
def test_zeros_are_alike_and_like_nothing_else(left: float, right: float, cosine: float) -> None:
    assert Energies().add(np.array([left]), np.array([right])) == pytest.approx(cosine)


def test_gaps() -> None:
    gaps = Gaps()
    assert (gaps.largest, gaps.mean, gaps.relative) == (0, 0, 0)
    gaps.add(np.array([1.0, -4]), np.array([1.0, -3]))
    gaps.add(np.array([0.0]), np.array([-0.5]))
    gaps.add(np.empty(0), np.empty(0))
    assert (gaps.largest, gaps.mean, gaps.relative) == (1, 0.5, 0.25)
    nothing = Gaps()
    nothing.add(np.zeros(2), np.array([0.0, 3]))
    assert nothing.relative == 3


def test_spread_is_the_standard_deviation() -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 5))
    spread = Spread()
    assert spread.value() is None
    for vector in vectors:
        spread.add(vector)
    assert spread.value() == pytest.approx(math.sqrt(vectors.var(axis=0).sum()))
    spread.add(np.zeros(4))
    assert spread.value() is None
    spread.add(np.zeros(5))
    assert spread.value() is None
