"""What a task's plain-data options are set to, and which of a run's outputs a task reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from py_runner.errors import DataError
from py_runner.formats.run import Run
from py_runner.formats.run_arrays import form_of

__all__ = ["NotOfTaskError", "array_of", "option", "output_of"]


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


def output_of(
    run: Run, fits: Callable[[_Array], bool], what: str, *, by_shape: bool = False
) -> Sequence[_Array]:
    """The arrays of the first output of which all samples fit; `by_shape` is whether of floats that
    is told by their shape alone.

    Raises NotOfTaskError, with `what` a task needs in words, where there is none.
    """
    for values in run.outputs.values():
        dtype, shape = form_of(values) if by_shape else ("", None)
        of_one = shape is not None and np.dtype(dtype).kind == "f"
        if all(map(fits, values[:1] if of_one else values)):
            return values
    first = {name: values[0] for name, values in run.outputs.items()}
    raise _none_fits(run.model["name"], run.task, first, what)


def array_of(
    outputs: Mapping[str, _Array],
    fits: Callable[[_Array], bool],
    what: str,
    *,
    model: str,
    task: Mapping[str, Any] | None,
) -> _Array:
    """The first output of one sample that fits. Raises NotOfTaskError as `output_of`, in which
    `model` is the name of who answered."""
    for value in outputs.values():
        if fits(value):
            return value
    raise _none_fits(model, task, outputs, what)


def _none_fits(
    model: str, task: Mapping[str, Any] | None, outputs: Mapping[str, _Array], what: str
) -> NotOfTaskError:
    have = ", ".join(f"'{name}' {v.dtype}{list(v.shape)}" for name, v in outputs.items())
    name = (task or {}).get("name", "task")
    return NotOfTaskError(f"{model}: task {name} needs {what}, and the outputs are {have}")
