"""Judge one Run against another: server against edge, fp32 against int8, yesterday against today.

Softmax hides failure (a network with a constant output once scored a cosine of 0.999999), so
class scores are compared as centred logits, and the output has to move when the input does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.differences import OutputDifference, Survey, difference_of
from lite_opt.judge.faults import dead_of, failures_of, limited, misshapen_of, unjudged_of
from lite_opt.judge.limits import Limits, limits_for
from lite_opt.judge.pairs import lacking, paired
from lite_opt.judge.ranking import Ranking, rank, rates_of
from lite_opt.judge.rates import Rate
from lite_opt.judge.speed import slowdown
from lite_opt.judge.tasks import Scores, labelled, score
from py_runner.errors import DataError, UsageError
from py_runner.formats.lazy import chosen
from py_runner.formats.run import Run
from py_runner.tasks import name_of
from py_runner.tasks.options import NotOfTaskError

if TYPE_CHECKING:
    from lite_opt.judge.steps import Step

__all__ = ["Report", "compare"]

_Array = npt.NDArray[Any]

# Smaller probabilities are noise of the exponential, not an answer: log(1e-12) is the floor.
# What fp16 holds below its smallest normal number, it holds with few bits or none.
_LEAST_PROBABILITY = {"fp16": 6.1e-5}
_LEAST_PROBABILITY_FP32 = 1e-12


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
    if len(reference.outputs) != len(candidate.outputs):
        raise DataError(
            f"these runs are of different models: {len(reference.outputs)} outputs against "
            f"{len(candidate.outputs)}"
        )
    left, right = paired(reference, candidate)
    failures, warnings = _unanswered(reference, candidate, len(left.samples), common=common)
    alike = _fed_alike(left, right)
    # Names differ between engines; the order of the outputs does not.
    aligned = list(zip(reference.outputs, left.outputs.values(), right.outputs.values()))
    surveys = [Survey.of(a, b) for _, a, b in aligned]
    scores = None
    if all(survey.finite for survey in surveys):  # else it fails anyway
        scores = _scores(left, right, task_limits, None if by_class else truth)
    if _is_same(reference, candidate):
        warnings.append("these are one and the same run: that they agree proves nothing")
    least = _LEAST_PROBABILITY.get(candidate.precision, _LEAST_PROBABILITY_FP32)
    outputs, unjudged = [], []
    by_task = scores is not None and scores.judged
    ranking: Ranking | None = None
    for (name, a, b), survey in zip(aligned, surveys):
        survey.check(name, left.samples, any_shape=by_task)
        difference, notes = difference_of(name, survey, a, b, left.samples, least)
        difference = limited(difference, limits, reference.noise.get(name))
        outputs.append(difference)
        warnings += notes
        dead = dead_of(difference)
        found = [*misshapen_of(difference, survey, a, b), *failures_of(difference, limits)]
        failures += dead if by_task else [*found, *dead]
        if by_task:
            warnings += [f"diagnosis: {text}" for text in found]
        else:
            unjudged += unjudged_of(difference, survey, limits)
        classes = scores is None and difference.kind != "tensor" and not difference.misshapen
        if ranking is None and classes:
            ranking = rank(zip(a, b), (sample.label for sample in left.samples))
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
    culprit = ""
    if not alike or ((failures or _differs(scores)) and all(not o.not_finite for o in outputs)):
        steps, broken, culprit = _steps(left, right)
        failures += broken
    if not alike:
        warnings += [_NOT_FED] * any(step.name == "graph" and not step.rate for step in steps)
        failures = failures or ["the two runs were fed different tensors"]
    return Report(
        reference=reference.about(),
        candidate=candidate.about(),
        samples=len(left.samples),
        outputs=tuple(outputs),
        top1_agreement=ranking.top1_agreement if ranking else None,
        top5_agreement=ranking.top5_agreement if ranking else None,
        accuracy=ranking.accuracy if ranking else None,
        disagreeing=_disagreeing(left, ranking, scores),
        limits=limits,
        failures=tuple(failures),
        warnings=tuple(warnings),
        unjudged=tuple(unjudged),
        rates=(*_rates(scores, ranking, limits), *slower),
        scores=scores,
        steps=steps,
        culprit=culprit,
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


def _steps(reference: Run, candidate: Run) -> tuple[tuple[Step, ...], list[str], str]:
    """How the steps answer, each on the same input, none where the outputs are not of the task; of
    what is fed, what is said against it; and of the step that makes the difference."""
    from lite_opt.judge.attribution import FED, steps_of_runs
    from lite_opt.judge.steps import guilty

    try:
        steps = steps_of_runs(reference, candidate, candidate.fed)
    except NotOfTaskError:
        return (), [], ""
    blamed = guilty(steps)
    broken = [step.failure for step in steps if step.broken and step.name in FED]
    return steps, broken, blamed.said if blamed is not None else ""


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
    limits: Mapping[str, float] | None,
    truth: str | Path | None,
) -> Scores | None:
    """What the task says of two runs of the same samples. Not judged, with the reason as a note,
    where the outputs are in another form than the task takes and no truth asks for more."""
    try:
        return score(reference, candidate, limits=limits, truth=truth)
    except NotOfTaskError as error:
        if truth is not None:
            raise
        name = name_of(reference.task or candidate.task)
        return Scores(name, judged=False, notes=(f"not judged by its task: {error}",))


def _disagreeing(run: Run, ranking: Ranking | None, scores: Scores | None) -> tuple[str, ...]:
    if scores is not None:
        return scores.differing
    return tuple(s.id for s in chosen(run.samples, ranking.disagreeing)) if ranking else ()


def _fed_alike(reference: Run, candidate: Run) -> bool:
    """Whether both runs of the same samples were fed the same tensors. Raises DataError where they
    were not, and do not say how pictures became tensors."""
    told = reference.image is not None and candidate.image is not None
    for left, right in zip(reference.samples, candidate.samples):
        if left.sha256 != right.sha256:
            if told:
                return False
            raise DataError(
                f"sample '{left.id}' was fed as different tensors in the two runs: use the same "
                "preprocessing for both"
            )
    return True


def _unanswered(
    reference: Run, candidate: Run, both: int, *, common: bool
) -> tuple[list[str], list[str]]:
    """What is said, as failures and as warnings, of samples that only one of two runs has."""
    most = max(len(reference.samples), len(candidate.samples))
    notes = [f"only {both} of {most} samples are in both runs"] if both < most else []
    told = lacking(reference.samples, candidate)
    return ([], notes + told * bool(candidate.failed)) if common else (told, notes)


def _is_same(a: Run, b: Run) -> bool:
    """Whether two are one run, or copies of it: no two take the same time to the microsecond."""
    about = [(run.created, run.model, run.engine, run.device, run.latency_ms) for run in (a, b)]
    return about[0] == about[1] and all(
        np.array_equal(left, right)
        for lefts, rights in zip(a.outputs.values(), b.outputs.values())
        for left, right in zip(lefts, rights)
    )
