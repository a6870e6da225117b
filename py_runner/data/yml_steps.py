"""Steps of preprocessing as the exports of Paddle's kits write them, whichever kit it was."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from py_runner.data.image import SPEC_KEYS
from py_runner.errors import DataError
from py_runner.files.regular import read_text

__all__ = [
    "NAMES",
    "Allowed",
    "Step",
    "UnsupportedError",
    "beside",
    "in_order",
    "load_yml",
    "numbers",
    "read_number",
    "size_of",
    "typed_steps",
]

# What the exports call the file that lies beside a model: PaddleClas, PaddleOCR and PaddleX,
# PaddleDetection, PaddleSeg.
NAMES = ("inference.yml", "infer_cfg.yml", "deploy.yaml")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class UnsupportedError(DataError):
    """A whole file that asks for what cannot be expressed."""


class Step(NamedTuple):
    """One step: its name and its options."""

    name: str
    options: dict[str, Any]


class Allowed(NamedTuple):
    """A step that can be expressed: its place in the order, and its options, each with the values
    that can be, or None for "looked at later"."""

    place: int
    options: Mapping[str, tuple[Any, ...] | None]


def typed_steps(path: Path, section: str, entries: list[Any], *, kind: str) -> list[Step]:
    """The steps of a list whose entries have their name as `type`, and options besides.

    Raises DataError for another entry, which it says is no `kind`.
    """
    steps = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise DataError(f"{path}: {section} holds {entry!r}, which is no {kind}")
        options = {key: value for key, value in entry.items() if key != "type"}
        steps.append(Step(entry["type"], options))
    return steps


def beside(folder: Path) -> Path | None:
    """The file in a folder that says how a model there is fed, if there is one."""
    return next((path for path in (folder / name for name in NAMES) if path.is_file()), None)


def load_yml(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file (of a folder: the one in it) and what it holds. Raises DataError for another."""
    try:
        import yaml
    except ImportError:
        raise DataError(f"{path}: reading .yml needs PyYAML: pip install pyyaml") from None

    if path.is_dir():
        path = beside(path) or path / NAMES[0]
    try:
        document = yaml.safe_load(read_text(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a YAML file: {reason}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not an inference.yml: it has no sections")
    return path, document


def in_order(
    path: str | os.PathLike[str],
    steps: Sequence[Step],
    allowed: Mapping[str, Allowed],
    *,
    what: str = "step",
) -> dict[str, dict[str, Any]]:
    """{step: options}, or UnsupportedError where a step, an option or the order is not allowed."""
    result: dict[str, dict[str, Any]] = {}
    reached = 0
    for name, options in steps:
        if name not in allowed:
            raise UnsupportedError(
                f"{path}: the {what} {name!r} is not supported ({', '.join(allowed)} are); "
                f"describe the image with --image: {SPEC_KEYS}"
            )
        if name in result or allowed[name].place < reached:
            raise UnsupportedError(
                f"{path}: the {what} {name!r} stands twice or in an unsupported place; describe "
                "the image with --image"
            )
        reached = allowed[name].place
        for key, value in options.items():
            if key not in allowed[name].options:
                raise UnsupportedError(
                    f"{path}: {name} has the unsupported option {key!r}; describe the image with "
                    "--image"
                )
            values = allowed[name].options[key]
            if values is not None and value not in values:
                raise UnsupportedError(
                    f"{path}: {name} has {key}={value!r}; supported are {values}; describe the "
                    "image with --image"
                )
        result[name] = options
    return result


def read_number(value: object) -> float:
    """A number, or a text such as "0.5" or "1.0/255.0"; ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    parts = [part.strip() for part in str(value).split("/")]
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{value!r} is not a number or a quotient of two numbers")
    if len(parts) == 1:
        return float(parts[0])
    if float(parts[1]) == 0:
        raise ValueError(f"{value!r} divides by zero")
    return float(parts[0]) / float(parts[1])


def numbers(step: str, key: str, value: object) -> tuple[float, ...]:
    """A list of numbers, one of which stands for three; ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{step}: {key} is no list: {value!r}")
    found = tuple(read_number(number) for number in value)
    return found * 3 if len(found) == 1 else found


def size_of(step: str, value: object) -> tuple[Any, Any]:
    """Two sides, one of which may stand for both; ValueError for anything else."""
    if isinstance(value, list) and len(value) == 2:
        return value[0], value[1]
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    raise ValueError(f"{step}: expected one number or two, not {value!r}")
