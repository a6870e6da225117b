"""What a task's plain-data options are set to, and which of a run's outputs a task reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from py_runner.errors import DataError
from py_runner.formats.run import Run

__all__ = ["NotOfTaskError", "option", "output_of"]


class NotOfTaskError(DataError):
    """A run's outputs are not what its task takes: of a network exported in another form."""


_Array = np.ndarray[Any, Any]


def option(task: Mapping[str, Any] | None, name: str, default: float) -> float:
    """An option of a task. Raises DataError for one that is no finite number."""
    value = (task or {}).get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"the task's option {name} is a number, not {value!r}")
    return float(value)


def output_of(run: Run, fits: Callable[[_Array], bool], what: str) -> list[_Array]:
    """The arrays of the first output of which all samples fit.

    Raises NotOfTaskError, with `what` a task needs in words, where there is none.
    """
    for values in run.outputs.values():
        if all(map(fits, values)):
            return values
    have = ", ".join(
        f"'{name}' {values[0].dtype}{list(values[0].shape)}" for name, values in run.outputs.items()
    )
    name = (run.task or {}).get("name", "task")
    raise NotOfTaskError(
        f"{run.model['name']}: task {name} needs {what}, and the outputs are {have}"
    )
