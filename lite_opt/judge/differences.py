"""How one output of two runs differs: its samples are gone through one by one, twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.numbers import Energies, Gaps, Kind, Spread, centred, found_nothing, softmax
from py_runner.errors import DataError
from py_runner.formats.run import SampleInfo

__all__ = ["OutputDifference", "Survey", "difference_of"]

_Array = npt.NDArray[Any]
_Values = Iterable[_Array]

# A reference whose spread is below this part of its magnitude hardly moves itself.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class OutputDifference:
    """How one output differs, over all samples.

    `kind` is "probabilities" (rows of the last axis sum to 1), "logits" (one row of scores) or
    "tensor". `max_abs_diff` and `mean_abs_diff` are of the raw values. `max_probability_diff`
    is of the softmax for logits, and relative to the largest magnitude for tensors: it is what
    a limit applies to. `cosine` pools all samples after centring (log-probabilities or logits
    by row, tensors by sample); `cosine_min` is the worst sample's, `worst` its id. `sqnr_db` is
    10 log10 of the energy of the reference's centred values over that of the difference (dB,
    infinite where they are equal). `response`
    is the candidate's spread over the samples divided by the reference's, None for one sample
    or varying shapes. `not_finite` counts NaN and Inf in the candidate.

    Samples to which the two answered tensors of different shape are in `misshapen`, and in no
    figure but those: without any other, they are the worst there are. `noise` is what the
    reference says of itself (`Run.noise`), and `limit` what `max_probability_diff` was held
    against, None for nothing.
    """

    name: str
    kind: str
    max_abs_diff: float
    mean_abs_diff: float
    max_probability_diff: float
    cosine: float
    cosine_min: float
    worst: str
    sqnr_db: float
    response: float | None
    not_finite: int
    misshapen: tuple[str, ...]
    noise: float | None = None
    limit: float | None = None


@dataclass
class Survey:
    """What is to be known of all samples of an output before any figure can be made.

    `unknown` is the place of the first sample to which the reference's answer is not finite, `bad`
    that of the candidate's, None for none; `not_finite` counts the candidate's NaN and Inf.
    `misshapen` are the places of answers of different shape in the two. `empty` is whether neither
    found anything in any sample, `vary` whether shapes do between the samples of a run. Of those
    misshapen, `unexplained` is the first that no data explain unless shapes vary, by its place and
    both shapes, and `of_other_rank` the first that none explain at all.
    """

    kind: str = "tensor"
    samples: int = 0
    unknown: int | None = None
    bad: int | None = None
    not_finite: int = 0
    misshapen: list[int] = field(default_factory=list)
    empty: bool = True
    vary: bool = False
    unexplained: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    of_other_rank: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None

    @classmethod
    def of(cls, left: _Values, right: _Values) -> Survey:
        """Of the answers of both runs to the same samples."""
        found, kind = cls(), Kind()
        first: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        for place, (a, b) in enumerate(zip(left, right)):
            found.samples += 1
            found._finite(place, a, b)
            if found.unknown is None:
                kind.add(a)
            first = first or (a.shape, b.shape)
            found.vary = found.vary or (a.shape, b.shape) != first
            nothing = found_nothing(a), found_nothing(b)
            found.empty = found.empty and all(nothing)
            if a.shape != b.shape and not all(nothing):
                found._other_shape(place, a, b, explained=any(nothing))
        found.kind = kind.value
        return found

    def _finite(self, place: int, a: _Array, b: _Array) -> None:
        if self.unknown is None and not np.isfinite(a).all():
            self.unknown = place
        finite = np.isfinite(b)
        if not finite.all():
            self.bad = place if self.bad is None else self.bad
            self.not_finite += int(np.count_nonzero(~finite))

    def _other_shape(self, place: int, a: _Array, b: _Array, *, explained: bool) -> None:
        self.misshapen.append(place)
        where = (place, a.shape, b.shape)
        if a.ndim != b.ndim:
            self.of_other_rank = self.of_other_rank or where
        elif not (explained or a.shape[1:] == b.shape[1:]):
            self.unexplained = self.unexplained or where

    @property
    def finite(self) -> bool:
        """Whether both runs' answers all are."""
        return self.unknown is None and self.bad is None

    def check(self, name: str, samples: Sequence[SampleInfo], *, any_shape: bool) -> None:
        """Raise DataError where nothing can be judged: the reference is not finite, or a shape is
        another. That is an answer where shapes depend on the data, as of boxes that were found:
        where they vary between samples, or differ in the number of rows; or wherever a task was
        able to judge them (`any_shape`). Otherwise these are different models."""
        if self.unknown is not None:
            raise DataError(
                f"the reference's output '{name}' of sample '{samples[self.unknown].id}' is not "
                "finite: nothing can be judged by NaN or Inf; give samples to which the model "
                "itself answers numbers"
            )
        wrong = [self.of_other_rank] + [self.unexplained] * (not self.vary)
        found = [where for where in wrong if where is not None]
        if found and not any_shape:
            place, left, right = min(found)
            raise DataError(
                f"output '{name}' of sample '{samples[place].id}' has shape {list(left)} in one "
                f"run and {list(right)} in the other: these runs are of different models"
            )


def difference_of(
    name: str,
    survey: Survey,
    left: _Values,
    right: _Values,
    samples: Sequence[SampleInfo],
    least: float,
) -> tuple[OutputDifference, list[str]]:
    """The figures of an output, and what is to be said of them. `least` is the smallest probability
    that counts."""
    misshapen = tuple(samples[place].id for place in survey.misshapen)
    if survey.not_finite or len(misshapen) == survey.samples:
        first = samples[survey.bad or 0].id
        nothing = OutputDifference(
            name,
            survey.kind,
            np.inf,
            np.inf,
            np.inf,
            0.0,
            0.0,
            first,
            -np.inf,
            None,
            survey.not_finite,
            misshapen,
        )
        return nothing, []
    kind, skipped = survey.kind, set(survey.misshapen)
    energies, gaps, probabilities = Energies(), Gaps(), Gaps()
    spreads = Spread(), Spread()
    worst, cosine_min = None, np.inf
    for place, (one, other) in enumerate(zip(left, right)):
        if place in skipped:
            continue
        worst = place if worst is None else worst
        if found_nothing(one) and found_nothing(other):
            continue
        gaps.add(one.astype(np.float64), other.astype(np.float64))
        if kind == "logits":
            probabilities.add(softmax(one), softmax(other))
        a, b = (centred(value, kind, least).ravel() for value in (one, other))
        cosine = energies.add(a, b)
        if cosine < cosine_min:
            cosine_min, worst = cosine, place
        spreads[0].add(a)
        spreads[1].add(b)
    response, notes = _response(name, spreads, energies, survey.samples - len(skipped))
    probability = {"logits": probabilities.largest, "tensor": gaps.relative}
    difference = OutputDifference(
        name=name,
        kind=kind,
        max_abs_diff=gaps.largest,
        mean_abs_diff=gaps.mean,
        max_probability_diff=probability.get(kind, gaps.largest),
        cosine=energies.cosine,
        cosine_min=float(min(cosine_min, 1.0)),
        worst=samples[worst or 0].id,
        sqnr_db=energies.sqnr_db,
        response=response,
        not_finite=0,
        misshapen=misshapen,
    )
    return difference, notes


def _response(
    name: str, spreads: tuple[Spread, Spread], energies: Energies, samples: int
) -> tuple[float | None, list[str]]:
    moves, candidate_moves = spreads[0].value(), spreads[1].value()
    if moves is None or candidate_moves is None or samples < 2:
        return None, []
    if moves > _LEAST_SPREAD * np.sqrt(energies.reference / samples):
        return candidate_moves / moves, []
    return None, [
        f"the reference's output '{name}' hardly depends on the input: on these samples "
        "the comparison proves little"
    ]
