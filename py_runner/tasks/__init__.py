"""The tasks: what the numbers that a model answers mean; one file each.

A task is plain data, {"name": ..., and options}: `threshold` of detection (score of a box),
segmentation (one channel), keypoints (score of a point) and text-detection (a pixel that is text),
`box_threshold`, `unclip_ratio` and `max_candidates` of text-detection. Options that a task does not
know, such as `nms_threshold` of a network that suppresses by itself, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from py_runner.errors import DataError
from py_runner.formats.run import Run
from py_runner.tasks import (
    classification,
    detection,
    embedding,
    keypoints,
    segmentation,
    text_detection,
    text_recognition,
)

__all__ = ["TASKS", "Task", "decode", "name_of"]


@dataclass(frozen=True)
class Task:
    """One task.

    decode     a run's answers as documents for JSON, one a sample; none where its outputs are not
               of this task and nobody said that they were
    """

    name: str
    decode: Callable[..., Sequence[dict[str, Any]]]


def _nothing(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    return []


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("classification", decode=classification.decode),
        Task("detection", decode=detection.decode),
        Task("segmentation", decode=segmentation.decode),
        Task("text-detection", decode=text_detection.decode),
        Task("text-recognition", decode=text_recognition.decode),
        Task("keypoints", decode=keypoints.decode),
        Task("embedding", decode=embedding.decode),
        Task("tensor", decode=_nothing),
    )
}


def name_of(task: Mapping[str, Any] | None) -> str:
    """Which of TASKS it is: classification where nobody said. Raises DataError for another."""
    name = (task or {}).get("name", "classification")
    if name not in TASKS:
        raise DataError(f"unknown task '{name}': there are {', '.join(TASKS)}")
    return str(name)


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """A run's answers by its own task, most of them made when they are asked for. Raises DataError
    where its outputs are not of it."""
    return TASKS[name_of(run.task)].decode(run, labels or run.labels, top=top)
