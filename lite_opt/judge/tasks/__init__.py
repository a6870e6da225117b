"""How two runs are compared by what their numbers mean; one file a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lite_opt.judge.limits import task_limits_for
from lite_opt.judge.tasks import (
    detection,
    embedding,
    keypoints,
    segmentation,
    text_detection,
    text_recognition,
)
from lite_opt.judge.tasks.scores import Case, Scores, ids_of
from lite_opt.judge.tasks.truth import of_samples
from py_runner.data.image_files import listed_classes
from py_runner.errors import UsageError
from py_runner.formats.run import Run
from py_runner.formats.run_samples import Relabelled
from py_runner.tasks import name_of

__all__ = ["SCORES", "Scores", "labelled", "score"]

# Classification has ranking.py; what is a tensor is judged as one.
SCORES: dict[str, Callable[[Case], Scores]] = {
    "detection": detection.score,
    "segmentation": segmentation.score,
    "text-detection": text_detection.score,
    "text-recognition": text_recognition.score,
    "embedding": embedding.score,
    "keypoints": keypoints.score,
}


def score(
    reference: Run,
    candidate: Run,
    *,
    limits: Mapping[str, float] | None = None,
    truth: str | Path | None = None,
) -> Scores | None:
    """How the answers of two runs of the same samples agree, by their task; None where they are of
    none that has scores.

    A run that does not say its task, or has no labels, takes the other's. `limits` replace those of
    the candidate's precision (`task_limits_for`). Raises UsageError where the runs are of different
    tasks or the truth is not for them, and DataError as each task does.
    """
    names = [name_of(run.task) for run in (reference, candidate) if run.task]
    if len(set(names)) > 1:
        raise UsageError(f"these runs are of different tasks: {names[0]} and {names[1]}")
    name = names[0] if names else "tensor"
    wanted = task_limits_for(name, candidate.precision, **(limits or {}))
    if name not in SCORES:
        if truth is not None:
            raise UsageError(f"{truth}: labels of its own are not for a run of task {name}")
        return None
    if name == "embedding" and truth is not None:
        reference, truth = labelled(reference, Path(truth)), None
    pair = [
        replace(
            run,
            task=run.task or other.task,
            labels=other.labels if run.labels is None else run.labels,
        )
        for run, other in ((reference, candidate), (candidate, reference))
    ]
    found = SCORES[name](Case(pair[0], pair[1], None if truth is None else Path(truth), wanted))
    return replace(found, notes=(*found.notes, *_options(pair[0].task, pair[1].task)))


def labelled(run: Run, path: Path) -> Run:
    """The run with the class numbers that a list `NAME CLASS` gives its samples, None for those
    that it does not name. Raises DataError for another file, and where it names none of them."""
    found = of_samples(path, listed_classes(path), ids_of(run))
    return replace(run, samples=Relabelled(run.samples, found))


def _options(reference: Mapping[str, Any] | None, candidate: Mapping[str, Any] | None) -> list[str]:
    """In which options of their task two runs differ."""
    a, b = reference or {}, candidate or {}
    return [
        f"the runs' post-processing differs: {name} is {a.get(name, 'by default')} in the "
        f"reference and {b.get(name, 'by default')} in the candidate"
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name)
    ]
