"""Which step of a run makes a difference: decoding, preprocessing, graph or post-processing.

Each is judged on the same input. Pictures and tensors are told by their checksums, the graph by its
answers to the reference's own tensors (`Run.fed`, where the candidate was fed others), and
post-processing by what either run's settings make of the reference's outputs.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from lite_opt.judge.numbers import softmax
from lite_opt.judge.pairs import common
from lite_opt.judge.ranking import rank
from lite_opt.judge.rates import Rate, share
from lite_opt.judge.steps import MOST_MOVED, Step, differences, engines_of
from lite_opt.judge.tasks import SCORES, score
from py_runner.formats.lazy import Joined, View
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
    alike, made_alike = bytearray(), bytearray()
    for a, b in zip(reference.samples, candidate.samples):
        if a.pixels is not None and b.pixels is not None:
            alike.append(a.pixels == b.pixels)
            if a.pixels == b.pixels:
                made_alike.append(a.sha256 == b.sha256)
    decoded = share("decode", alike, limit=1.0)
    made = share("preprocessing", made_alike, limit=1.0)
    why = "; ".join(differences(reference.image or {}, candidate.image or {}))
    return (
        Step("decode", decoded),
        Step("preprocessing", made, why=why),
        _graph(reference, candidate, fed),
        _post_processing(reference, candidate),
    )


def _graph(reference: Run, candidate: Run, fed: Run | None) -> Step:
    """The candidate's answers to the reference's own tensors, read by the reference's settings."""
    own, places, sources = len(candidate.samples), array("q"), array("q")
    again = np.full(own, -1)
    if fed is not None:
        of_reference, of_fed = common(reference, fed)
        again[np.asarray(of_reference)] = of_fed
    for place, (a, b) in enumerate(zip(reference.samples, candidate.samples)):
        other = int(again[place])
        if a.sha256 == b.sha256:
            sources.append(place)
        elif fed is not None and other >= 0 and fed.samples[other].sha256 == a.sha256:
            sources.append(own + other)
        else:
            continue
        places.append(place)
    why = engines_of(reference, candidate)
    if not places:
        return Step("graph", None, why=why)
    left = reference.select(places)
    fed_outputs = [[]] * len(candidate.outputs) if fed is None else fed.outputs.values()
    right = replace(
        candidate.select(places),
        outputs={
            name: View(Joined([values, others]), sources)
            for (name, values), others in zip(candidate.outputs.items(), fed_outputs)
        },
        task=reference.task,
        labels=reference.labels,
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
    found = rank(zip(first, other), repeat(None))
    hits = np.ones(len(first))
    hits[list(found.disagreeing)] = 0
    moved = max(float(abs(softmax(a) - softmax(b)).max()) for a, b in zip(first, other))
    return share("graph", hits), moved


def _post_processing(reference: Run, candidate: Run) -> Step:
    """What the settings of both make of the reference's outputs."""
    theirs = replace(reference, task=candidate.task, labels=candidate.labels)
    own = decode(reference)
    if (theirs.task, theirs.labels) == (reference.task, reference.labels):
        hits = bytearray([1]) * len(own)
    else:
        hits = bytearray(a == b for a, b in zip(own, decode(theirs)))
    found = list(differences(_settings(reference), _settings(candidate)))
    if reference.labels != candidate.labels:
        found.append("the labels are others")
    rate = share("post-processing", hits, limit=1.0)
    return Step("post-processing", rate, why="; ".join(found))


def _settings(run: Run) -> Mapping[str, Any]:
    return run.task or {}
