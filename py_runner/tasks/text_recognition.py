"""Text recognition: the characters of a line, by CTC's greedy decoding with a dictionary.

A run's labels are the dictionary: of the classes, 0 is CTC's blank, 1 and on are the dictionary's
characters, and where there is one class more, the last is a space (PaddleOCR's conventions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from py_runner.errors import DataError
from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run
from py_runner.tasks.options import output_of

__all__ = ["STEPS", "Line", "characters_of", "decode", "is_steps", "line_of", "lines"]

_Array = npt.NDArray[Any]

STEPS = "an output [1, T, C] of scores of the characters"


@dataclass(frozen=True)
class Line:
    """What a line says: the classes of its characters without blanks and repetitions, the text that
    they are (None without a dictionary), and the mean of the best scores of these steps, 0 for
    none."""

    classes: tuple[int, ...]
    text: str | None
    score: float


def lines(run: Run, labels: Sequence[str] | None = None) -> list[Line]:
    """The line of each sample; `labels` are the run's own unless given.

    Raises DataError where no output has a row of scores a step, or the dictionary is not of as many
    characters as the model has classes.
    """
    labels = run.labels if labels is None else labels
    steps = output_of(run, is_steps, STEPS, by_shape=True)
    characters = characters_of(labels, steps[0].shape[-1]) if labels is not None else None
    return [line_of(value[0], characters) for value in steps]


def is_steps(value: _Array) -> bool:
    """Whether an output is the scores of one line, step by step."""
    return value.dtype.kind == "f" and value.ndim == 3 and len(value) == 1 and value.shape[-1] > 1


def decode(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> Sequence[dict[str, Any]]:
    """What each sample says: [{id, label, text, score}]; the text is None without a dictionary.

    `top` is not for lines: each has one reading.
    """

    def told(both: tuple[Any, ...]) -> dict[str, Any]:
        sample, line = both
        return {"id": sample.id, "label": sample.label, "text": line.text, "score": line.score}

    return Made(told, Zipped(run.samples, lines(run, labels)))


def characters_of(labels: Sequence[str], classes: int) -> list[str]:
    """What each class stands for, the blank for nothing. Raises DataError where the dictionary is
    not of as many characters as there are classes."""
    lacking = classes - 1 - len(labels)
    if lacking not in (0, 1):
        raise DataError(
            f"a dictionary of {len(labels)} characters for a recognizer of {classes} classes, "
            f"which takes {classes - 1}, or {classes - 2} and a space: give the right file with "
            "--labels"
        )
    return ["", *labels, *[" "] * lacking]


def line_of(scores: _Array, characters: Sequence[str] | None) -> Line:
    """The line that scores [T, C] say; `characters` as `characters_of` has them."""
    best = scores.argmax(-1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    classes = tuple(int(i) for i in best[kept])
    text = None if characters is None else "".join(characters[i] for i in classes)
    score = float(scores.max(-1)[kept].mean()) if classes else 0.0
    return Line(classes, text, score)
