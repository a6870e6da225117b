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


def score(case: Case) -> Scores:
    """recall@1: the share of samples whose features of the candidate are most like the reference's
    of the same sample, of all samples; the cosines of the two; and where samples have labels, how
    many of them have one of the same label as their nearest.

    Raises DataError where the outputs are no features.
    """
    left, right = features(case.reference), features(case.candidate)
    likeness = right @ left.T
    own = np.diag(likeness)
    found = own >= likeness.max(1) - _TIED
    rates = [share("recall@1", found, limit=case.limits.get("recall"))]
    labels = [sample.label for sample in case.reference.samples]
    labelled = [i for i, label in enumerate(labels) if label is not None]
    if len(labelled) > 1:
        a, b = (_nearest_is_alike(rows, labels, labelled) for rows in (left, right))
        rates += accuracies("nearest has its label", a, b, case.limits.get("recall_drop"))
    return Scores(
        "embedding",
        tuple(rate for rate in rates if rate is not None),
        {"mean cosine": float(own.mean()), "least cosine": float(own.min())},
        tuple(s.id for s, hit in zip(case.reference.samples, found) if not hit),
        judged=len(left) > 1,  # a gallery of one is always found
    )


def _nearest_is_alike(rows: _Array, labels: list[int | None], labelled: list[int]) -> list[float]:
    part = rows[labelled]
    likeness = part @ part.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(1)
    return [float(labels[i] == labels[labelled[j]]) for i, j in zip(labelled, nearest)]
