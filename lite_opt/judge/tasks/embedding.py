"""Embedding: whether features point the same way, and find the same sample again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import share
from lite_opt.judge.tasks.scores import Case, Scores, accuracies, named
from py_runner.formats.lazy import Lazy, Zipped, chosen, span_of
from py_runner.tasks.embedding import vectors

__all__ = ["score"]

_Array = npt.NDArray[Any]
_TIED = 1e-6  # cosines that differ by less are equal
_FEW = 5  # the k of recall@k, beside 1
_ASKED, _BLOCK = 1024, 256  # vectors at a time: of those asked about, and of the gallery
_MOST_BYTES = 8 << 20  # of vectors that are kept in memory


def score(case: Case) -> Scores:
    """recall@k: the share of samples whose features of the candidate have the reference's of the
    same sample among the k most alike of all samples; the cosines of the two; and where samples
    have labels, how many of them have one of the same label among their k nearest.

    Raises DataError where the outputs are no features.
    """
    left, right = (_kept(vectors(run)) for run in (case.reference, case.candidate))
    own = np.fromiter((_cosine(a, b) for a, b in Zipped(left, right)), np.float64, len(left))
    before = np.concatenate(
        [_more_alike(block, left, own[start:]) for start, block in _blocks(right, _ASKED)]
    )
    found = before == 0
    rates = [share("recall@1", found, limit=case.limits.get("recall"))]
    if len(left) > _FEW:
        rates.append(share(f"recall@{_FEW}", before < _FEW))
    every = [sample.label for sample in case.reference.samples]
    labelled = [i for i, label in enumerate(every) if label is not None]
    labels = np.array([every[i] for i in labelled])
    for count in (1, _FEW):
        if len(labelled) > count:
            a, b = (_near_is_alike(chosen(rows, labelled), labels, count) for rows in (left, right))
            what = (
                "nearest has its label" if count == 1 else f"one of {count} nearest has its label"
            )
            limit = case.limits.get("recall_drop") if count == 1 else None
            rates += accuracies(what, a, b, limit)
    return Scores(
        "embedding",
        tuple(rate for rate in rates if rate is not None),
        {"mean cosine": float(own.mean()), "least cosine": float(own.min())},
        named(case.reference, np.flatnonzero(~found)),
        judged=len(left) > 1,  # a gallery of one is always found
    )


def _kept(rows: Lazy[_Array]) -> Sequence[_Array]:
    """The vectors in memory where they are few: else they are made anew each time."""
    return list(rows) if len(rows) * rows[0].nbytes <= _MOST_BYTES else rows


def _blocks(rows: Sequence[_Array], size: int = _BLOCK) -> Iterator[tuple[int, _Array]]:
    """The vectors, so many at a time, as a matrix, and the place of the first."""
    for start in range(0, len(rows), size):
        yield start, np.array(list(span_of(rows, start, min(start + size, len(rows)))))


def _cosine(a: _Array, b: _Array) -> float:
    return float(b @ a)


def _more_alike(block: _Array, gallery: Sequence[_Array], own: _Array) -> _Array:
    """How many of the gallery are more like each vector of a block than its own one is."""
    least = own[: len(block), None] + _TIED
    counts = [(block @ rows.T > least).sum(1) for _, rows in _blocks(gallery)]
    return np.asarray(sum(counts))


def _near_is_alike(rows: Sequence[_Array], labels: _Array, count: int) -> _Array:
    """Whether one of the `count` nearest others of each vector has its label."""
    hits = np.zeros(len(rows))
    for start, block in _blocks(rows, _ASKED):
        near = _nearest(block, rows, np.arange(start, start + len(block)), count)
        alike = labels[near] == labels[start : start + len(block), None]
        hits[start : start + len(block)] = alike.any(1)
    return hits


def _nearest(block: _Array, rows: Sequence[_Array], own: _Array, count: int) -> _Array:
    """The places of the `count` most like each vector of a block, which are `own` themselves; of
    equal ones the first."""
    best, places = np.full((len(block), 0), -np.inf), np.zeros((len(block), 0), np.int64)
    for start, others in _blocks(rows):
        # In steps: a product differs in its last digits with the size of the block.
        likeness = np.rint(block @ others.T / _TIED)
        likeness[own[:, None] == np.arange(start, start + len(others))] = -np.inf
        best = np.concatenate([best, likeness], 1)
        there = np.broadcast_to(np.arange(start, start + len(others)), likeness.shape)
        places = np.concatenate([places, there], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, places = (np.take_along_axis(x, order, 1) for x in (best, places))
    return places
