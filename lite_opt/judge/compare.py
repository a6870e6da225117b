"""Judge one Run against another: server against edge, fp32 against int8, yesterday against today.

Softmax hides failure (a network with a constant output once scored a cosine of 0.999999), so
class scores are compared as centred logits, and the output has to move when the input does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.attribution import FED, steps_of_runs
from lite_opt.judge.limits import Limits, limits_for
from lite_opt.judge.numbers import Energies, Gaps, Spread, centred, found_nothing, kind_of, softmax
from lite_opt.judge.ranking import Ranking, rank, rates_of
from lite_opt.judge.rates import Rate
from lite_opt.judge.speed import slowdown
from lite_opt.judge.steps import Step, guilty
from lite_opt.judge.tasks import Scores, labelled, score
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run
from py_runner.tasks import name_of
from py_runner.tasks.options import NotOfTaskError

__all__ = ["LEAST_RESPONSE", "OutputDifference", "Report", "compare", "lacks"]

_Array = npt.NDArray[Any]

# Smaller probabilities are noise of the exponential, not an answer: log(1e-12) is the floor.
# What fp16 holds below its smallest normal number, it holds with few bits or none.
_LEAST_PROBABILITY = {"fp16": 6.1e-5}
_LEAST_PROBABILITY_FP32 = 1e-12
# A candidate whose spread over the samples is below this part of the reference's is stuck.
LEAST_RESPONSE = 0.01
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


@dataclass(frozen=True)
class Report:
    """The verdict on a candidate run. `bool(report)` is whether it holds all limits.

    `unjudged` says what the runs do not tell: of an output without values, or one that moves
    by itself more than any limit. Without failures, a report is then no verdict either way, and
    false all the same: nothing was shown.

    Top-1 agreement is the share of samples for which both runs put the same class first (in
    every row, for sequences); top-5 agreement the share for which the reference's first class
    is among the candidate's first five. Accuracies are shares of the labelled samples, `drop`
    is in percentage points. All are None where they make no sense. `rates` are the task's figures
    with their intervals, of classes those named above; `scores` what else the task has to say, None
    where the runs are of none. Where runs of a task differ, `steps` are how decoding,
    preprocessing, graph and post-processing answer to the same input, and `culprit` says in words
    which of them makes the difference.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    samples: int
    outputs: tuple[OutputDifference, ...]
    top1_agreement: float | None
    top5_agreement: float | None
    accuracy: dict[str, float] | None
    disagreeing: tuple[str, ...]
    limits: Limits
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    unjudged: tuple[str, ...] = ()
    rates: tuple[Rate, ...] = ()
    scores: Scores | None = None
    steps: tuple[Step, ...] = ()
    culprit: str = ""

    def __bool__(self) -> bool:
        return not self.failures and not self.unjudged

    def to_json(self) -> dict[str, Any]:
        """All of it, with the verdict as "passed"."""
        return {"passed": bool(self), **asdict(self)}


def compare(
    reference: Run,
    candidate: Run,
    *,
    limits: Limits | None = None,
    common: bool = False,
    task_limits: Mapping[str, float] | None = None,
    truth: str | Path | None = None,
    max_latency_regression: float | None = None,
) -> Report:
    """Judge `candidate` against `reference` on the samples that both have.

    A candidate that lacks samples of its reference fails: what it left out may be what it cannot
    do. With `common` that is a warning.

    Args:
        limits: the defaults are those of the candidate's precision, see `limits.limits_for`.
        task_limits: the defaults are those of the task and precision, see `task_limits_for`.
        truth: labels of whole samples in a file, as the task takes them; of classification a
            list `NAME CLASS`.
        max_latency_regression: by how many percent the median inference may take longer than the
            reference's: see `speed.slowdown`, which raises UsageError where that means nothing.

    Runs that say what their numbers mean (`Run.task`) are judged by that: how far tensors differ is
    then a diagnosis, and a warning, unless there was nothing to judge, such as no box. What is not
    finite, or does not move with the input, fails all the same. What the reference's own noise
    explains is no failure (`Limits.noise_times`).

    Samples that were fed as different tensors under one id are compared where both runs say how
    pictures became tensors: that fails, and names the step. Otherwise, and where the runs have no
    sample in common, that is a DataError, as are outputs of different number or of shapes that no
    data explain.
    """
    if limits is None:
        limits = limits_for(candidate.precision)
    by_class = truth is not None and name_of(reference.task or candidate.task) == _CLASSES
    if by_class:
        reference = labelled(reference, Path(str(truth)))
    pairs, warnings = _pairs(reference, candidate)
    alike = all(reference.samples[r].sha256 == candidate.samples[c].sha256 for r, c in pairs)
    scores = _scores(reference, candidate, pairs, task_limits, None if by_class else truth)
    if _is_same(reference, candidate):
        warnings.append("these are one and the same run: that they agree proves nothing")
    if len(reference.outputs) != len(candidate.outputs):
        raise DataError(
            f"these runs are of different models: {len(reference.outputs)} outputs against "
            f"{len(candidate.outputs)}"
        )
    ids = [reference.samples[r].id for r, _ in pairs]
    labels = [reference.samples[r].label for r, _ in pairs]
    least = _LEAST_PROBABILITY.get(candidate.precision, _LEAST_PROBABILITY_FP32)
    every, there = ([sample.id for sample in run.samples] for run in (reference, candidate))
    failures = [] if common else lacks(every, set(there), "samples")
    outputs, unjudged = [], []
    by_task = scores is not None and scores.judged
    ranking: Ranking | None = None
    # Names differ between engines; the order of the outputs does not.
    for (name, left), right in zip(reference.outputs.items(), candidate.outputs.values()):
        aligned = [(left[r], right[c]) for r, c in pairs]
        difference, notes = _difference(name, ids, aligned, least, any_shape=by_task)
        difference = _limited(difference, limits, reference.noise.get(name))
        outputs.append(difference)
        warnings += notes
        dead = _dead(difference)
        found = [*_misshapen(difference, aligned, ids), *_failures(difference, limits)]
        failures += dead if by_task else [*found, *dead]
        if by_task:
            warnings += [f"diagnosis: {text}" for text in found]
        else:
            unjudged += _unjudged(difference, aligned, limits)
        classes = scores is None and difference.kind != "tensor" and not difference.misshapen
        if ranking is None and classes:
            ranking = rank(aligned, labels)
    if by_class and (ranking is None or ranking.accuracy is None):
        raise UsageError(f"{truth}: classes are labels of runs whose outputs are scores of classes")
    failures += _lost(ranking, limits)
    slower = _slower(reference, candidate, max_latency_regression)
    failures += [rate.failure for rate in slower if rate.broken]
    if scores is not None:
        failures += scores.failures if by_task else []
        warnings += scores.notes or ([] if by_task else [_NOTHING])
        warnings += scores.undecided if by_task else []
    steps: tuple[Step, ...] = ()
    if not alike or ((failures or _differs(scores)) and all(not o.not_finite for o in outputs)):
        steps = _steps(reference, candidate, pairs)
        failures += [step.failure for step in steps if step.broken and step.name in FED]
    if not alike:
        warnings += [_NOT_FED] * any(step.name == "graph" and not step.rate for step in steps)
        failures = failures or ["the two runs were fed different tensors"]
    blamed = guilty(steps)
    return Report(
        reference=_about(reference),
        candidate=_about(candidate),
        samples=len(pairs),
        outputs=tuple(outputs),
        top1_agreement=ranking.top1_agreement if ranking else None,
        top5_agreement=ranking.top5_agreement if ranking else None,
        accuracy=ranking.accuracy if ranking else None,
        disagreeing=_disagreeing(ids, ranking, scores),
        limits=limits,
        failures=tuple(failures),
        warnings=tuple(warnings),
        unjudged=tuple(unjudged),
        rates=(*_rates(scores, ranking, limits), *slower),
        scores=scores,
        steps=steps,
        culprit=blamed.said if blamed is not None else "",
    )


def _rates(scores: Scores | None, ranking: Ranking | None, limits: Limits) -> tuple[Rate, ...]:
    return scores.rates if scores is not None else rates_of(ranking, limits.top1_drop)


def _slower(reference: Run, candidate: Run, limit: float | None) -> tuple[Rate, ...]:
    return () if limit is None else (slowdown(reference, candidate, limit),)


_NOT_FED = (
    "the graph is judged on the same input alone: run the candidate with --against REFERENCE_RUN, "
    "and it is fed the reference's own"
)


def _differs(scores: Scores | None) -> bool:
    return scores is not None and bool(scores.differing)


def _steps(reference: Run, candidate: Run, pairs: Sequence[tuple[int, int]]) -> tuple[Step, ...]:
    """How the steps answer, each on the same input; none where the outputs are not of the task."""
    try:
        return steps_of_runs(
            reference.select([r for r, _ in pairs]),
            candidate.select([c for _, c in pairs]),
            candidate.fed,
        )
    except NotOfTaskError:
        return ()


def _limited(difference: OutputDifference, limits: Limits, noise: float | None) -> OutputDifference:
    """With the reference's own noise, and the limit that follows."""
    allowed = limits.difference(noise)
    limit = None if allowed is None or math.isinf(allowed) else allowed
    return replace(difference, noise=noise, limit=limit)


def _lost(ranking: Ranking | None, limits: Limits) -> list[str]:
    """What is said of too much accuracy that is lost."""
    drop = ranking.accuracy["drop"] if ranking and ranking.accuracy else None
    if limits.top1_drop is None or drop is None or drop <= limits.top1_drop:
        return []
    return [f"top-1 accuracy falls by {drop:.2f} points, and {limits.top1_drop:g} are allowed"]


_CLASSES = "classification"  # what a run is of where nobody said
_NOTHING = (
    "the task has nothing to judge on these samples (no box, no text, a single class): the tensors "
    "were judged instead"
)


def _scores(
    reference: Run,
    candidate: Run,
    pairs: Sequence[tuple[int, int]],
    limits: Mapping[str, float] | None,
    truth: str | Path | None,
) -> Scores | None:
    """What the task says of the samples that both runs have; None where the candidate's answers
    are not all numbers, which fails anyway. Not judged, with the reason as a note, where the
    outputs are in another form than the task takes and no truth asks for more."""
    runs = [
        run.select([pair[side] for pair in pairs])
        for side, run in enumerate((reference, candidate))
    ]
    finite = all(
        bool(np.isfinite(value).all())
        for run in runs
        for values in run.outputs.values()
        for value in values
    )
    if not finite:
        return None
    try:
        return score(*runs, limits=limits, truth=truth)
    except NotOfTaskError as error:
        if truth is not None:
            raise
        name = name_of(reference.task or candidate.task)
        return Scores(name, judged=False, notes=(f"not judged by its task: {error}",))


def _disagreeing(
    ids: Sequence[str], ranking: Ranking | None, scores: Scores | None
) -> tuple[str, ...]:
    if scores is not None:
        return scores.differing
    return tuple(ids[i] for i in ranking.disagreeing) if ranking else ()


def _about(run: Run) -> dict[str, Any]:
    summary = run.summary()
    return {name: summary[name] for name in summary if name not in ("format", "samples", "outputs")}


def _pairs(reference: Run, candidate: Run) -> tuple[list[tuple[int, int]], list[str]]:
    places = {s.id: i for i, s in enumerate(candidate.samples)}
    pairs = [(i, places[s.id]) for i, s in enumerate(reference.samples) if s.id in places]
    if not pairs:
        raise DataError("these runs have no sample in common: run both on the same data")
    told = reference.image is not None and candidate.image is not None
    for r, c in pairs:
        if reference.samples[r].sha256 != candidate.samples[c].sha256 and not told:
            raise DataError(
                f"sample '{reference.samples[r].id}' was fed as different tensors in the two "
                "runs: use the same preprocessing for both"
            )
    most = max(len(reference.samples), len(candidate.samples))
    notes = [f"only {len(pairs)} of {most} samples are in both runs"] if len(pairs) < most else []
    return pairs, notes


def lacks(reference: Sequence[str], candidate: Collection[str], what: str) -> list[str]:
    """What a candidate lacks of its reference, by ids of samples or pages, as a failure."""
    lacking = [id_ for id_ in reference if id_ not in candidate]
    if not lacking:
        return []
    return [
        f"{len(lacking)} of {len(reference)} {what} of the reference are not in the "
        f"candidate, first '{lacking[0]}': run it on all of them, or pass --common"
    ]


def _is_same(a: Run, b: Run) -> bool:
    """Whether two are one run, or copies of it: no two take the same time to the microsecond."""
    about = [(run.created, run.model, run.engine, run.device, run.latency_ms) for run in (a, b)]
    return about[0] == about[1] and all(
        np.array_equal(left, right)
        for lefts, rights in zip(a.outputs.values(), b.outputs.values())
        for left, right in zip(lefts, rights)
    )


def _difference(
    name: str,
    ids: Sequence[str],
    pairs: Sequence[tuple[_Array, _Array]],
    least: float,
    *,
    any_shape: bool = False,
) -> tuple[OutputDifference, list[str]]:
    for id_, (left, _) in zip(ids, pairs):
        if not np.isfinite(left).all():
            raise DataError(
                f"the reference's output '{name}' of sample '{id_}' is not finite: nothing can be "
                "judged by NaN or Inf; give samples to which the model itself answers numbers"
            )
    kind = kind_of([left for left, _ in pairs])
    not_finite = sum(int(np.count_nonzero(~np.isfinite(right))) for _, right in pairs)
    misshapen = _of_other_shape(name, ids, pairs, any_shape=any_shape)
    if not_finite or len(misshapen) == len(pairs):
        first = next((i for i, (_, r) in zip(ids, pairs) if not np.isfinite(r).all()), ids[0])
        nothing = OutputDifference(
            name,
            kind,
            np.inf,
            np.inf,
            np.inf,
            0.0,
            0.0,
            first,
            -np.inf,
            None,
            not_finite,
            misshapen,
        )
        return nothing, []
    if misshapen:
        alike = [i for i, id_ in enumerate(ids) if id_ not in set(misshapen)]
        ids, pairs = [ids[i] for i in alike], [pairs[i] for i in alike]
    energies, gaps, probabilities = Energies(), Gaps(), Gaps()
    spreads = Spread(), Spread()
    worst, cosine_min = ids[0], np.inf
    for id_, (left, right) in zip(ids, pairs):
        if found_nothing(left) and found_nothing(right):
            continue
        gaps.add(left.astype(np.float64), right.astype(np.float64))
        if kind == "logits":
            probabilities.add(softmax(left), softmax(right))
        a, b = (centred(value, kind, least).ravel() for value in (left, right))
        cosine = energies.add(a, b)
        if cosine < cosine_min:
            cosine_min, worst = cosine, id_
        spreads[0].add(a)
        spreads[1].add(b)
    response, notes = _response(name, spreads, energies, len(pairs))
    probability = {"logits": probabilities.largest, "tensor": gaps.relative}
    difference = OutputDifference(
        name=name,
        kind=kind,
        max_abs_diff=gaps.largest,
        mean_abs_diff=gaps.mean,
        max_probability_diff=probability.get(kind, gaps.largest),
        cosine=energies.cosine,
        cosine_min=float(min(cosine_min, 1.0)),
        worst=worst,
        sqnr_db=energies.sqnr_db,
        response=response,
        not_finite=0,
        misshapen=misshapen,
    )
    return difference, notes


def _of_other_shape(
    name: str,
    ids: Sequence[str],
    pairs: Sequence[tuple[_Array, _Array]],
    *,
    any_shape: bool,
) -> tuple[str, ...]:
    """The samples to which a candidate answered a tensor of another shape.

    That is an answer where shapes depend on the data, as of boxes that were found: where they vary
    between samples, or differ in the number of rows; or wherever a task was able to judge them
    (`any_shape`). Otherwise these are different models, and a DataError.
    """
    wrong = [
        n
        for n, (left, right) in enumerate(pairs)
        if left.shape != right.shape and not (found_nothing(left) and found_nothing(right))
    ]
    vary = any(len({run[side].shape for run in pairs}) > 1 for side in (0, 1))
    for n in () if any_shape else wrong:
        left, right = pairs[n]
        depends = vary or found_nothing(left) or found_nothing(right)
        if left.ndim != right.ndim or not (depends or left.shape[1:] == right.shape[1:]):
            raise DataError(
                f"output '{name}' of sample '{ids[n]}' has shape {list(left.shape)} in one run and "
                f"{list(right.shape)} in the other: these runs are of different models"
            )
    return tuple(ids[n] for n in wrong)


def _misshapen(
    difference: OutputDifference, pairs: Sequence[tuple[_Array, _Array]], ids: Sequence[str]
) -> list[str]:
    """What is said of samples whose answers have another shape."""
    if not difference.misshapen:
        return []
    first = difference.misshapen[0]
    left, right = pairs[list(ids).index(first)]
    if left.shape[1:] == right.shape[1:] or found_nothing(left) or found_nothing(right):
        counts = [0 if found_nothing(value) else len(value) for value in (right, left)]
        what = f"{counts[0]} rows (boxes, say) against {counts[1]} of the reference"
    else:
        what = f"shape {list(right.shape)} against {list(left.shape)} of the reference"
    more = len(difference.misshapen) - 1
    also = f", and other numbers for {more} more" if more else ""
    return [f"output '{difference.name}': {what} for '{first}'{also}"]


def _unjudged(
    difference: OutputDifference, pairs: Sequence[tuple[_Array, _Array]], limits: Limits
) -> list[str]:
    """Why the output was not judged, where nothing was there to judge."""
    name = difference.name
    if all(found_nothing(left) and found_nothing(right) for left, right in pairs):
        return [
            f"output '{name}' is empty for every sample: give samples on which the model finds "
            "something"
        ]
    allowed = limits.difference(difference.noise)
    if (
        limits.max_abs_diff is not None
        and allowed == math.inf
        and limits.max_abs_diff < difference.max_probability_diff < math.inf
    ):
        return [
            f"output '{name}': differs by {difference.max_probability_diff:.2e}, and the "
            f"reference's own answer moves by {difference.noise:.2e} with the last bit of its "
            "input: a model that chaotic cannot be judged on these samples"
        ]
    return []


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


def _dead(difference: OutputDifference) -> list[str]:
    """What no task forgives."""
    name = difference.name
    if difference.not_finite:
        return [
            f"output '{name}': {difference.not_finite} values are NaN or Inf, first in "
            f"'{difference.worst}'"
        ]
    if difference.response is not None and difference.response < LEAST_RESPONSE:
        return [f"output '{name}' does not move when the input does"]
    return []


def _failures(difference: OutputDifference, limits: Limits) -> list[str]:
    """Which limits are broken; nothing where `_dead` or `_misshapen` has said it."""
    name, worst = difference.name, difference.worst
    if math.isinf(difference.max_abs_diff):
        return []
    failures = []
    if difference.cosine < limits.cosine:
        failures.append(
            f"output '{name}': cosine {difference.cosine:.6f} is below {limits.cosine:g}, worst "
            f"for '{worst}'"
        )
    if difference.limit is not None and difference.max_probability_diff > difference.limit:
        what = "relative difference" if difference.kind == "tensor" else "max |dp|"
        failures.append(
            f"output '{name}': {what} {difference.max_probability_diff:.2e} is above "
            f"{difference.limit:.3g}"
        )
    return failures
