"""The tasks: what the numbers that a model answers mean; one file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from py_runner.tasks import classification

__all__ = ["TASKS", "Task"]


@dataclass(frozen=True)
class Task:
    """One task.

    decode     a run's answers as documents for JSON, one a sample; none where its outputs are not
               of this task
    """

    name: str
    decode: Callable[..., list[dict[str, Any]]]


TASKS: dict[str, Task] = {
    task.name: task for task in (Task("classification", decode=classification.decode),)
}
