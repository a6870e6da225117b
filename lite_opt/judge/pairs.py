"""Which samples two runs have in common, by hashes of their ids, and what a candidate lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from py_runner.errors import DataError
from py_runner.formats.lazy import Places, chosen
from py_runner.formats.run import Run, SampleInfo
from py_runner.formats.run_samples import keys_of

__all__ = ["common", "lacking", "lacks", "paired"]


def common(reference: Run, candidate: Run) -> tuple[Places, Places]:
    """The places, in either run, of the samples that both have, in the reference's order."""
    left, right = keys_of(reference.samples), keys_of(candidate.samples)
    if len(left) == len(right) and bool((left == right).all()):
        return range(len(left)), range(len(left))
    order = np.argsort(right, kind="stable")
    at = np.searchsorted(right, left, sorter=order).clip(max=len(order) - 1)
    found = right[order[at]] == left
    return np.flatnonzero(found), order[at][found]


def paired(reference: Run, candidate: Run) -> tuple[Run, Run]:
    """Both runs on the samples that both have, in the reference's order. Raises DataError where
    there are none."""
    places = common(reference, candidate)
    if not len(places[0]):
        raise DataError("these runs have no sample in common: run both on the same data")
    left, right = (
        run if isinstance(of, range) and len(of) == len(run.samples) else run.select(of)
        for run, of in zip((reference, candidate), places)
    )
    return left, right


def lacking(reference: Sequence[SampleInfo], candidate: Run) -> list[str]:
    """What a candidate lacks of the reference's samples, as a failure."""
    missing = np.flatnonzero(~np.isin(keys_of(reference), keys_of(candidate.samples)))
    if not len(missing):
        return []
    lost = {one.id: one.reason for one in candidate.failed}
    failed = [s.id for s in chosen(reference, missing) if s.id in lost] if lost else []
    why = f"; its engine failed on {_first(failed, lost)}" if failed else ""
    return [_said(len(missing), len(reference), "samples", reference[int(missing[0])].id, why)]


def _first(failed: Sequence[str], why: dict[str, str]) -> str:
    return f"{len(failed)} of them, first on '{failed[0]}': {why[failed[0]]}"


def lacks(reference: Sequence[str], candidate: Collection[str], what: str) -> list[str]:
    """What a candidate lacks of its reference, by ids of pages, say, as a failure."""
    missing = [id_ for id_ in reference if id_ not in candidate]
    return [_said(len(missing), len(reference), what, missing[0], "")] if missing else []


def _said(count: int, of: int, what: str, first: str, why: str) -> str:
    return (
        f"{count} of {of} {what} of the reference are not in the candidate, first '{first}'{why}: "
        "run it on all of them, or pass --common"
    )
