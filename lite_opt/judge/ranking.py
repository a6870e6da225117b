"""Scores of classes: whether two runs put the same class first, and who is right.

Other tasks have scores of their own, beside this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share

__all__ = ["Ranking", "rank", "rates_of"]

_Array = npt.NDArray[Any]
_FEW = 5  # top-5 says nothing where there are no more classes
_MANY = 50  # classes that are better not all put in order


@dataclass(frozen=True)
class Ranking:
    """See `lite_opt.judge.compare.Report`; `disagreeing` holds places of samples, and `right`, bool
    [labelled, 2], whether the reference and the candidate put a sample's class first."""

    top1_agreement: float
    top5_agreement: float | None
    accuracy: dict[str, float] | None
    disagreeing: tuple[int, ...]
    samples: int
    right: npt.NDArray[np.bool_]


def rank(pairs: Iterable[tuple[_Array, _Array]], labels: Iterable[int | None]) -> Ranking:
    """Compare the order of classes in each sample's scores (reference, candidate).

    Classes are on the last axis; with several rows (a sequence) a sample agrees where every row
    does, and has no accuracy. Labels are class numbers.
    """
    agreed, among, hit, most = bytearray(), bytearray(), bytearray(), 0
    for (left, right), label in zip(pairs, labels):
        rows, classes = left.size // left.shape[-1], left.shape[-1]
        most = most or classes
        a, b = (_top(v.reshape(rows, classes)) for v in (left, right))
        agreed.append(bool((a[:, 0] == b[:, 0]).all()))
        among.append(bool((a[:, :1] == b).any(-1).all()))
        if label is not None and rows == 1:
            found = label == a[0, 0], label in a[0], label == b[0, 0], label in b[0]
            hit += bytes(map(bool, found))
    agree, among_five = _truths(agreed), _truths(among)
    hits = _truths(hit).reshape(-1, 4)
    more_than_five = most > _FEW
    accuracy = None
    if len(hits):
        shares = np.mean(hits, axis=0)
        accuracy = {"reference_top1": float(shares[0]), "candidate_top1": float(shares[2])}
        if more_than_five:
            accuracy["reference_top5"] = float(shares[1])
            accuracy["candidate_top5"] = float(shares[3])
        accuracy["drop"] = float(shares[0] - shares[2]) * 100
        accuracy["labelled"] = float(len(hits))
    return Ranking(
        float(np.mean(agree)),
        float(np.mean(among_five)) if more_than_five else None,
        accuracy,
        tuple(np.flatnonzero(~agree).tolist()),
        len(agree),
        hits[:, [0, 2]],
    )


def _truths(held: bytearray) -> npt.NDArray[np.bool_]:
    return np.frombuffer(held, np.bool_)


def rates_of(ranking: Ranking | None, top1_drop: float | None = None) -> tuple[Rate, ...]:
    """Shares of classes that agree, or are right, with their intervals; and the points of top-1
    accuracy lost, at most `top1_drop`, whose interval is of the same draws for both runs."""
    if ranking is None:
        return ()
    shares = {"top-1 agreement": ranking.top1_agreement, "top-5 agreement": ranking.top5_agreement}
    counts = dict.fromkeys(shares, ranking.samples)
    for name, value in (ranking.accuracy or {}).items():
        if name not in ("drop", "labelled"):
            who, _, top = name.partition("_")
            shares[f"{top.replace('top', 'top-')} accuracy, {who}"] = value
    labelled = int((ranking.accuracy or {}).get("labelled", 0))
    rates = [
        share(name, [value] * counts.get(name, labelled))
        for name, value in shares.items()
        if value is not None
    ]
    if len(ranking.right):
        rates.append(_lost(ranking.right.astype(np.float64), top1_drop))
    return tuple(rate for rate in rates if rate is not None)


def _lost(right: _Array, limit: float | None) -> Rate:
    def drop(weights: _Array) -> float:
        return float(weights @ (right[:, 0] - right[:, 1]) / weights.sum()) * 100

    name = "top-1 accuracy, points lost"
    return bootstrapped(name, drop, len(right), limit=limit, at_most=True, largest=100.0)


def _top(rows: _Array) -> _Array:
    """Indices of the five largest values of each row, largest first; ties by the lower index."""
    if len(rows) == 1 and rows.shape[1] > _MANY:
        low = -rows[0]
        few = np.flatnonzero(low <= np.partition(low, _FEW - 1)[_FEW - 1])
        if len(few) >= _FEW:  # else there are NaN among the first
            best: _Array = few[np.argsort(low[few], kind="stable")[:_FEW]]
            return best[None]
    return np.argsort(-rows, axis=-1, kind="stable")[:, :_FEW]
