"""Names of the classes: a file of them, and whether they fit a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from py_runner.errors import DataError, UsageError
from py_runner.files import regular
from py_runner.tensors import TensorSpec

__all__ = ["check_labels", "read_labels", "read_text"]


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """Names of the classes, in order: one a line, in UTF-8.

    PaddleClas' form `0 tench` is understood where the numbers of the lines are all of 0 to n - 1,
    in any order: they then say which class each is. Other numbers belong to the names. A line of
    one space, also of another script's, is a label: dictionaries of characters have it. Empty lines
    at the end are no labels. Raises DataError for a file that is missing, empty or not text, and
    for an empty line in between, because it would shift what follows.
    """
    path = Path(path)
    lines = [line if len(line) == 1 else line.strip() for line in read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: holds no labels")
    if "" in lines:
        raise DataError(f"{path}: line {lines.index('') + 1} is empty: a label is missing")
    numbered = {
        parts[0]: parts[1]
        for parts in (line.split(maxsplit=1) for line in lines)
        if len(parts) == 2
    }
    indices = [str(index) for index in range(len(lines))]
    return [numbered[index] for index in indices] if numbered.keys() == set(indices) else lines


def check_labels(labels: Sequence[str] | None, outputs: Sequence[TensorSpec]) -> None:
    """Raise UsageError where there are not as many labels as the first output has classes."""
    classes = outputs[0].shape[-1] if outputs[0].shape else -1
    if labels is not None and classes > 0 and len(labels) != classes:
        raise UsageError(
            f"{len(labels)} labels for a model of {classes} classes: "
            "give the right file with --labels"
        )


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises DataError for another."""
    try:
        text = regular.read_text(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if "\0" in text:
        raise DataError(f"{path}: not a text file in UTF-8")
    return text
