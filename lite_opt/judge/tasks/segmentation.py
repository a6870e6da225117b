"""Segmentation: whether two runs see the same class in each pixel, and mIoU."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share
from lite_opt.judge.tasks.scores import Case, Scores, ids_of, named
from lite_opt.judge.tasks.truth import mask_of, masks_of, of_samples
from py_runner.errors import DataError
from py_runner.formats.lazy import Zipped
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
    shares, table, several = array("d"), _Table(), False
    for place, (a, b) in enumerate(Zipped(left, right)):
        if a.shape != b.shape:
            raise DataError(
                f"sample '{case.reference.samples[place].id}' has a mask of {_sides(a)} in one run "
                f"and {_sides(b)} in the other"
            )
        shares.append(float((a == b).mean()))
        table.add(a, b)
        several = several or bool((a != a.flat[0]).any())
    pixels = np.frombuffer(shares)
    rates: list[Rate | None] = [
        share("pixels", pixels, limit=case.limits.get("pixels")),
        table.rate("mIoU", case.limits.get("miou")),
    ]
    if case.truth is not None:
        rates += _by_labels(case, left, right)
    return Scores(
        "segmentation",
        tuple(rate for rate in rates if rate is not None),
        {"worst sample's pixels": float(pixels.min())},
        named(case.reference, np.flatnonzero(pixels < 1)),
        judged=several,  # masks of one class are what a dead network answers as well
    )


class _Table:
    """Pixels by class of each sample, of the classes that are there: those of the truth, of a mask,
    and where both are the same. All that mIoU of any draw of the samples needs."""

    def __init__(self) -> None:
        self._samples = 0
        self._rows = array("q")  # sample, class, both, truth, mask

    def add(self, truth: _Array, mask: _Array) -> None:
        """Add a sample, without the pixels where the truth is to be ignored."""
        kept = (truth != _IGNORED) & (truth >= 0)
        truth, mask = truth[kept], mask[kept]
        both = truth[truth == mask]
        classes = 1 + max(int(truth.max(initial=0)), int(mask.max(initial=0)))
        counts = np.stack([np.bincount(x, minlength=classes) for x in (both, truth, mask)])
        there = np.flatnonzero(counts.any(0))
        number = np.full(len(there), self._samples)
        self._rows.frombytes(np.stack([number, there, *counts[:, there]], 1).tobytes())
        self._samples += 1

    def __len__(self) -> int:
        return self._samples

    def iou(self) -> Callable[[_Array], float]:
        """mIoU of samples that count so often: see `mean_iou`."""
        samples, classes, *counts = np.frombuffer(self._rows, np.int64).reshape(-1, 5).T
        most = int(classes.max(initial=0)) + 1

        def figure(weights: _Array) -> float:
            often = weights[samples]
            sums = [np.bincount(classes, often * count, most) for count in counts]
            return _mean_iou(*sums)

        return figure

    def rate(self, name: str, limit: float | None = None) -> Rate:
        """mIoU with its interval."""
        return bootstrapped(name, self.iou(), len(self), limit=limit)


def confusion(truth: _Array, mask: _Array, classes: int) -> _Array:
    """Pixels by class [truth, mask], without those where the truth is to be ignored."""
    kept = (truth != _IGNORED) & (truth >= 0) & (truth < classes)
    counts = np.bincount(truth[kept] * classes + mask[kept], minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.float64)


def mean_iou(table: _Array) -> float:
    """The mean over the classes that are there of the intersection over the union; 1 for none."""
    return _mean_iou(np.diag(table), table.sum(1), table.sum(0))


def _mean_iou(common: _Array, truth: _Array, mask: _Array) -> float:
    either: _Array = mask + truth - common
    there: _Array = either > 0
    return float((common[there] / either[there]).mean()) if there.any() else 1.0


def _by_labels(case: Case, left: Sequence[_Array], right: Sequence[_Array]) -> list[Rate | None]:
    assert case.truth is not None
    truths = of_samples(case.truth, masks_of(case.truth), ids_of(case.reference))
    tables = _Table(), _Table()
    for place, file in truths.items():
        truth = mask_of(file)
        for table, found in zip(tables, (left, right)):
            table.add(truth, _fitted(found[place], truth.shape))
    server, edge = (table.iou() for table in tables)
    return [
        tables[0].rate("mIoU by labels, reference"),
        tables[1].rate("mIoU by labels, candidate"),
        bootstrapped(
            "mIoU by labels, points lost",
            lambda weights: (server(weights) - edge(weights)) * 100,
            len(truths),
            limit=case.limits.get("miou_drop"),
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
