"""Segmentation: which class each pixel is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run, SampleInfo
from py_runner.tasks.options import option, output_of

__all__ = ["THRESHOLD", "decode", "masks"]

_Array = npt.NDArray[Any]
THRESHOLD = 0.5


def masks(run: Run) -> Sequence[_Array]:
    """The class of each pixel, int64 [H, W] a sample, made when it is asked for.

    Of scores [1, C, H, W] it is the class of the largest (the first of equal ones), of one channel
    class 1 above the task's `threshold`; whole numbers are classes already. Raises DataError where
    no output is a map.
    """
    threshold = option(run.task, "threshold", THRESHOLD)
    what = "an output of scores [1, C, H, W] or of classes [1, H, W]"
    maps = output_of(run, _is_map, what, by_shape=True)
    return Made(lambda value: _mask(value, threshold), maps)


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """The share of the pixels that each of the `top` largest classes has:
    [{id, label, classes: [{index, name, share}]}]."""
    pairs = Zipped(run.samples, masks(run))
    return Made(lambda both: _shares(both[0], both[1], labels, top), pairs)


def _shares(
    sample: SampleInfo, mask: _Array, labels: Sequence[str] | None, top: int
) -> dict[str, Any]:
    shares = np.bincount(mask.ravel()) / mask.size
    best = [i for i in np.argsort(-shares, kind="stable")[:top] if shares[i]]
    return {
        "id": sample.id,
        "label": sample.label,
        "classes": [
            {
                "index": int(i),
                "name": labels[i] if labels and i < len(labels) else None,
                "share": float(shares[i]),
            }
            for i in best
        ],
    }


def _is_map(value: _Array) -> bool:
    sides = value.shape[-2:]
    if value.ndim < 2 or min(sides) < 2:
        return False
    if value.dtype.kind in "iu":
        return bool(value.size == sides[0] * sides[1] and value.min(initial=0) >= 0)
    return value.dtype.kind == "f" and value.ndim == 4 and value.shape[0] == 1


def _mask(value: _Array, threshold: float) -> _Array:
    if value.dtype.kind in "iu":
        return value.reshape(value.shape[-2:]).astype(np.int64)
    scores = value[0]
    found = scores.argmax(0) if len(scores) > 1 else scores[0] > threshold
    return np.asarray(found, np.int64)
