"""Segmentation: whether two runs see the same class in each pixel, and mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share
from lite_opt.judge.tasks.scores import Case, Scores, ids_of
from lite_opt.judge.tasks.truth import masks_of, of_samples
from py_runner.errors import DataError
from py_runner.tasks.segmentation import masks

__all__ = ["confusion", "mean_iou", "score"]

_Array = npt.NDArray[Any]
_IGNORED = 255  # PaddleSeg's


def score(case: Case) -> Scores:
    """The share of pixels that both runs give the same class, by sample, and mIoU of the
    candidate's masks with the reference's; mIoU of both with the truth's where it is given.

    Raises DataError where the outputs are no maps, of different size in the two, or the truth is
    not PaddleSeg's.
    """
    left, right = masks(case.reference), masks(case.candidate)
    ids = ids_of(case.reference)
    for id_, a, b in zip(ids, left, right):
        if a.shape != b.shape:
            raise DataError(
                f"sample '{id_}' has a mask of {_sides(a)} in one run and {_sides(b)} in the other"
            )
    shares = [float((a == b).mean()) for a, b in zip(left, right)]
    classes = 1 + max(int(mask.max()) for mask in (*left, *right))
    tables = [confusion(a, b, classes) for a, b in zip(left, right)]
    rates: list[Rate | None] = [
        share("pixels", shares, limit=case.limits.get("pixels")),
        _iou("mIoU", tables, case.limits.get("miou")),
    ]
    if case.truth is not None:
        rates += _by_labels(case, left, right)
    return Scores(
        "segmentation",
        tuple(rate for rate in rates if rate is not None),
        {"worst sample's pixels": min(shares)},
        tuple(id_ for id_, value in zip(ids, shares) if value < 1),
        # Masks of one class are what a dead network answers as well.
        judged=any(len(np.unique(mask)) > 1 for mask in left),
    )


def confusion(truth: _Array, mask: _Array, classes: int) -> _Array:
    """Pixels by class [truth, mask], without those where the truth is to be ignored."""
    kept = (truth != _IGNORED) & (truth >= 0) & (truth < classes)
    counts = np.bincount(truth[kept] * classes + mask[kept], minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.float64)


def mean_iou(table: _Array) -> float:
    """The mean over the classes that are there of the intersection over the union; 1 for none."""
    common = np.diag(table)
    either = table.sum(0) + table.sum(1) - common
    there = either > 0
    return float((common[there] / either[there]).mean()) if there.any() else 1.0


def _iou(name: str, tables: Sequence[_Array], limit: float | None = None) -> Rate:
    stacked = np.stack(tables)
    return bootstrapped(
        name, lambda weights: mean_iou(np.tensordot(weights, stacked, 1)), len(tables), limit=limit
    )


def _by_labels(case: Case, left: Sequence[_Array], right: Sequence[_Array]) -> list[Rate | None]:
    assert case.truth is not None
    ids = ids_of(case.reference)
    truths = of_samples(case.truth, masks_of(case.truth), ids)
    labelled = [mask[mask != _IGNORED] for mask in truths.values()]
    every = [*labelled, *(found[i] for found in (left, right) for i in truths)]
    classes = 1 + max(int(mask.max(initial=0)) for mask in every)
    tables = [
        np.stack([confusion(t, _fitted(found[i], t.shape), classes) for i, t in truths.items()])
        for found in (left, right)
    ]

    def drop(weights: _Array) -> float:
        server, edge = (mean_iou(np.tensordot(weights, stacked, 1)) for stacked in tables)
        return (server - edge) * 100

    limit = case.limits.get("miou_drop")
    return [
        _iou("mIoU by labels, reference", list(tables[0])),
        _iou("mIoU by labels, candidate", list(tables[1])),
        bootstrapped(
            "mIoU by labels, points lost",
            drop,
            len(truths),
            limit=limit,
            at_most=True,
            largest=100.0,
        ),
    ]


def _fitted(mask: _Array, shape: tuple[int, ...]) -> _Array:
    """A mask in another size: the nearest pixel's class."""
    rows, columns = (
        np.minimum(((np.arange(want) + 0.5) * have / want).astype(int), have - 1)
        for want, have in zip(shape, mask.shape)
    )
    return np.asarray(mask[np.ix_(rows, columns)])


def _sides(mask: _Array) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"
