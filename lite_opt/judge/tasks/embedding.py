"""Embedding: whether features point the same way, and find the same sample again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import share
from lite_opt.judge.tasks.scores import Case, Scores, accuracies
from py_runner.tasks.embedding import features

__all__ = ["score"]

_Array = npt.NDArray[Any]
_TIED = 1e-6  # cosines that differ by less are equal
_FEW = 5  # the k of recall@k, beside 1


def score(case: Case) -> Scores:
    """recall@k: the share of samples whose features of the candidate have the reference's of the
    same sample among the k most alike of all samples; the cosines of the two; and where samples
    have labels, how many of them have one of the same label among their k nearest.

    Raises DataError where the outputs are no features.
    """
    left, right = features(case.reference), features(case.candidate)
    likeness = right @ left.T
    own = np.diag(likeness)
    before = (likeness > own[:, None] + _TIED).sum(1)
    found = before == 0
    rates = [share("recall@1", found, limit=case.limits.get("recall"))]
    if len(left) > _FEW:
        rates.append(share(f"recall@{_FEW}", before < _FEW))
    labels = [sample.label for sample in case.reference.samples]
    labelled = [i for i, label in enumerate(labels) if label is not None]
    for count in (1, _FEW):
        if len(labelled) > count:
            a, b = (_near_is_alike(rows, labels, labelled, count) for rows in (left, right))
            what = (
                "nearest has its label" if count == 1 else f"one of {count} nearest has its label"
            )
            limit = case.limits.get("recall_drop") if count == 1 else None
            rates += accuracies(what, a, b, limit)
    return Scores(
        "embedding",
        tuple(rate for rate in rates if rate is not None),
        {"mean cosine": float(own.mean()), "least cosine": float(own.min())},
        tuple(s.id for s, hit in zip(case.reference.samples, found) if not hit),
        judged=len(left) > 1,  # a gallery of one is always found
    )


def _near_is_alike(
    rows: _Array, labels: list[int | None], labelled: list[int], count: int
) -> list[float]:
    """Whether one of the nearest of each labelled sample has its label."""
    part = rows[labelled]
    likeness = part @ part.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
    return [
        float(any(labels[i] == labels[labelled[j]] for j in near))
        for i, near in zip(labelled, nearest)
    ]
