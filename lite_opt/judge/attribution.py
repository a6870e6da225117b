"""Which step of a run makes a difference: decoding, preprocessing, graph or post-processing.

Each is judged on the same input. Pictures and tensors are told by their checksums, the graph by its
answers to the reference's own tensors (`Run.fed`, where the candidate was fed others), and
post-processing by what either run's settings make of the reference's outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lite_opt.judge.numbers import softmax
from lite_opt.judge.ranking import rank
from lite_opt.judge.rates import Rate, share
from lite_opt.judge.steps import MOST_MOVED, Step, differences, engines_of
from lite_opt.judge.tasks import SCORES, score
from py_runner.formats.run import Run
from py_runner.tasks import decode, name_of

__all__ = ["FED", "steps_of_runs"]

FED = ("decode", "preprocessing")
"""The steps before the graph: where they differ, runs were fed different tensors."""

_MOVED = "largest difference of a score"  # a figure of detection


def steps_of_runs(reference: Run, candidate: Run, fed: Run | None = None) -> tuple[Step, ...]:
    """The steps of two runs of the same samples in the same order, in the order of the work.

    `fed` is what the candidate's graph answers to the reference's own tensors, of any samples. None
    of tasks whose answers have no meaning of their own.
    """
    task = reference.task or candidate.task
    name = name_of(task)
    if task is None or (name not in SCORES and name != "classification"):
        return ()
    labels = candidate.labels if reference.labels is None else reference.labels
    reference = replace(reference, task=task, labels=labels)
    candidate = replace(candidate, task=candidate.task or task, labels=candidate.labels or labels)
    pairs = list(zip(reference.samples, candidate.samples))
    known = [(a, b) for a, b in pairs if a.pixels is not None and b.pixels is not None]
    same = [(a, b) for a, b in known if a.pixels == b.pixels]
    decoded = share("decode", [a.pixels == b.pixels for a, b in known], limit=1.0)
    made = share("preprocessing", [a.sha256 == b.sha256 for a, b in same], limit=1.0)
    why = "; ".join(differences(reference.image or {}, candidate.image or {}))
    return (
        Step("decode", decoded),
        Step("preprocessing", made, why=why),
        _graph(reference, candidate, fed),
        _post_processing(reference, candidate),
    )


def _graph(reference: Run, candidate: Run, fed: Run | None) -> Step:
    """The candidate's answers to the reference's own tensors, read by the reference's settings."""
    again = {s.id: (s.sha256, i) for i, s in enumerate(fed.samples)} if fed is not None else {}
    places: list[int] = []
    answers: dict[str, list[Any]] = {name: [] for name in candidate.outputs}
    for place, (a, b) in enumerate(zip(reference.samples, candidate.samples)):
        if a.sha256 == b.sha256:
            outputs, at = candidate.outputs, place
        elif fed is not None and again.get(a.id, ("", 0))[0] == a.sha256:
            outputs, at = fed.outputs, again[a.id][1]
        else:
            continue
        places.append(place)
        for name, values in zip(answers, outputs.values()):
            answers[name].append(values[at])
    why = engines_of(reference, candidate)
    if not places:
        return Step("graph", None, why=why)
    left = reference.select(places)
    right = replace(
        candidate.select(places), outputs=answers, task=reference.task, labels=reference.labels
    )
    rate, largest = _alike(left, right)
    exact = reference.precision == candidate.precision == "fp32"
    most = MOST_MOVED if exact and largest is not None else None
    return Step("graph", rate and replace(rate, name="graph"), largest, why, most)


def _alike(left: Run, right: Run) -> tuple[Rate | None, float | None]:
    """How much of two runs' answers is alike by their task, and by how much a score moves."""
    scores = score(left, right)
    if scores is not None:
        return next(iter(scores.rates), None), scores.figures.get(_MOVED)
    first, other = (next(iter(run.outputs.values())) for run in (left, right))
    found = rank(list(zip(first, other)), [None] * len(first))
    hits = [i not in found.disagreeing for i in range(len(first))]
    moved = max(float(abs(softmax(a) - softmax(b)).max()) for a, b in zip(first, other))
    return share("graph", hits), moved


def _post_processing(reference: Run, candidate: Run) -> Step:
    """What the settings of both make of the reference's outputs."""
    theirs = replace(reference, task=candidate.task, labels=candidate.labels)
    answers = [decode(run) for run in (reference, theirs)]
    hits = [a == b for a, b in zip(*answers)]
    found = list(differences(_settings(reference), _settings(candidate)))
    if reference.labels != candidate.labels:
        found.append("the labels are others")
    rate = share("post-processing", hits, limit=1.0)
    return Step("post-processing", rate, why="; ".join(found))


def _settings(run: Run) -> Mapping[str, Any]:
    return run.task or {}
