"""Text detection: whether two runs find the same polygons, and the harmonic mean (hmean) of
precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.rates import Rate, bootstrapped, share
from lite_opt.judge.tasks.scores import Case, Scores, ids_of, matched
from lite_opt.judge.tasks.truth import of_samples, polygons_of
from py_runner.errors import UsageError
from py_runner.tasks.text_detection import polygons

__all__ = ["overlaps", "score"]

_Array = npt.NDArray[Any]
_STRICT, _LOOSE = 0.9, 0.5


def score(case: Case) -> Scores:
    """The share of texts that both find, of all that either does, at IoU 0.5 and 0.9, and hmean;
    with the truth hmean of both at IoU 0.5.

    Raises DataError where the outputs are no maps or the truth is not PaddleOCR's, UsageError
    where the libraries of the extra `ocr` are not installed.
    """
    left, right = (
        [[p.corners.astype(np.float64) for p in page] for page in polygons(run)]
        for run in (case.reference, case.candidate)
    )
    rates: list[Rate | None] = []
    figures: dict[str, float] = {}
    differing: tuple[str, ...] = ()
    for least, key in ((_LOOSE, "texts"), (_STRICT, "texts_strict")):
        agreed = [len(matched(overlaps(a, b), least)) for a, b in zip(left, right)]
        either = [len(a) + len(b) - n for a, b, n in zip(left, right, agreed)]
        limit = case.limits.get(key)
        rates.append(share(f"texts at IoU {least:g}", agreed, either, unit="texts", limit=limit))
        both = sum(len(page) for page in (*left, *right))
        figures[f"hmean at IoU {least:g}"] = 2 * sum(agreed) / both if both else 1.0
        differing = tuple(
            s.id for s, n, count in zip(case.reference.samples, agreed, either) if n < count
        )
    if case.truth is not None:
        rates += _by_labels(case, left, right)
    return Scores(
        "text-detection",
        tuple(rate for rate in rates if rate is not None),
        figures,
        differing,
        judged=any(left) or any(right),
    )


def overlaps(left: Sequence[_Array], right: Sequence[_Array]) -> npt.NDArray[np.float64]:
    """Intersection over union of polygons, [N, M]."""
    try:
        from shapely.geometry import Polygon
    except ImportError:
        raise UsageError("polygons need shapely: pip install 'paddle-edge[ocr]'") from None

    # A polygon that crosses itself is mended.
    a, b = ([Polygon(corners).buffer(0) for corners in found] for found in (left, right))
    result = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            if one.intersects(other):
                common = one.intersection(other).area
                result[i, j] = common / max(one.area + other.area - common, np.spacing(1))
    return result


def _by_labels(
    case: Case, left: Sequence[Sequence[_Array]], right: Sequence[Sequence[_Array]]
) -> list[Rate | None]:
    assert case.truth is not None
    ids = ids_of(case.reference)
    pages = of_samples(case.truth, polygons_of(case.truth), ids)
    counts = []  # by run: matched, found and labelled texts of each page
    for run, found in ((case.reference, left), (case.candidate, right)):
        maps = next(values for values in run.outputs.values() if values[0].ndim == 4)
        rows = []
        for place, (wanted, size) in pages.items():
            height, width = maps[place].shape[2:]
            scale = (width / size[0], height / size[1]) if size else (1.0, 1.0)
            labelled = [corners * scale for corners in wanted]
            pairs = matched(overlaps(found[place], labelled), _LOOSE)
            rows.append((len(pairs), len(found[place]), len(labelled)))
        counts.append(np.array(rows, np.float64))

    def hmean(table: _Array, weights: _Array) -> float:
        hits, answers, labels = weights @ table
        return float(2 * hits / (answers + labels)) if answers + labels else 1.0

    rates: list[Rate | None] = [
        bootstrapped(f"hmean by labels, {who}", lambda w, t=table: hmean(t, w), len(pages))  # type: ignore[misc]
        for who, table in zip(("reference", "candidate"), counts)
    ]
    rates.append(
        bootstrapped(
            "hmean by labels, points lost",
            lambda w: (hmean(counts[0], w) - hmean(counts[1], w)) * 100,
            len(pages),
            limit=case.limits.get("hmean_drop"),
            at_most=True,
            largest=100.0,
        )
    )
    return rates
