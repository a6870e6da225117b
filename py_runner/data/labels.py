"""Names of the classes: a file of them, and whether they fit a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from py_runner.errors import DataError, UsageError
from py_runner.files import regular
from py_runner.files.url import Place
from py_runner.tensors import TensorSpec

__all__ = ["check_labels", "class_names", "read_labels", "read_text"]


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


def check_labels(
    labels: Sequence[str] | None,
    outputs: Sequence[TensorSpec],
    task: Mapping[str, Any] | None = None,
) -> None:
    """Raise UsageError where there are not as many labels as the first output has classes.

    That is so of classification, and of text recognition, whose classes are a blank, the characters
    and, by its option use_space_char, a space. What other tasks put out does not tell.
    """
    name = (task or {}).get("name", "classification")
    classes = outputs[0].shape[-1] if outputs[0].shape else -1
    if labels is None or classes <= 0:
        return
    if name == "text-recognition":
        characters = classes - 1 - bool((task or {}).get("use_space_char", True))
        if len(labels) != characters:
            raise UsageError(
                f"{len(labels)} characters for a model of {characters}, a blank "
                f"{'and a space ' if characters < classes - 1 else ''}not counted: give the right "
                "dictionary with --labels, and use_space_char=on or off with --task"
            )
    elif name == "classification" and len(labels) != classes:
        raise UsageError(
            f"{len(labels)} labels for a model of {classes} classes: "
            "give the right file with --labels"
        )


def class_names(
    labels: Sequence[str] | None, task: Mapping[str, Any] | None = None
) -> Sequence[str] | None:
    """The labels where they are names of what a whole picture may be: those of other tasks, names
    of boxes or characters, say nothing of a data set's own numbers and folders."""
    return labels if (task or {}).get("name", "classification") == "classification" else None


def read_text(path: Place) -> str:
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
