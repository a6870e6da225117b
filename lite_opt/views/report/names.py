"""What runs are called: by engine, processor and precision, never by their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lite_opt.judge.evidence import emulated

__all__ = ["called", "names_of", "place"]

_ENGINES = {
    "lite": "Paddle Lite",
    "native": "Paddle Lite",
    "onnx": "ONNX Runtime",
    "paddle": "Paddle",
}


def called(run: Mapping[str, Any]) -> str:
    """A run (`Run.summary()`) in words: engine, precision and where it ran."""
    engine = _ENGINES.get(run["engine"], str(run["engine"]))
    return f"{engine} {run['engine_version']}, {run['precision']}, on {place(run)}"


def place(run: Mapping[str, Any]) -> str:
    """The processor, or the board that a run was made on."""
    device, machine = str(run["device"]), str(run["machine"])
    board = re.fullmatch(r"\S+ \S+ \((.+)\)", machine)
    words = board[1] if board else machine.replace("Linux ", "").replace("x86_64", "x86-64")
    if device.startswith("gpu"):
        words = f"{device} of {words}"
    elif device != "cpu" and not emulated(run):
        words += f", {device}"
    elif emulated(run) and board is None and ":" in device:
        words = device.partition(":")[2] + f", {words}"
    return (words or device) + (" (emulated)" if emulated(run) else "")


def names_of(runs: Sequence[Mapping[str, Any]], folders: Sequence[str] = ()) -> list[str]:
    """Each run by `called`, and by what else tells those that are alike apart: threads, the name of
    the model, of the folder, or a number."""
    names = [called(run) for run in runs]
    tell = [
        [f"{run['threads']} thread{'s' * (run['threads'] != 1)}" for run in runs],
        [str(run["model"]["name"]) for run in runs],
        [str(folder) for folder in folders] if folders else [""] * len(runs),
    ]
    for words in tell:
        alike = {name for name in names if names.count(name) > 1}
        if len(set(words)) > 1:
            names = [f"{n}, {w}" if n in alike and w else n for n, w in zip(names, words)]
    return [
        name if names.count(name) == 1 else f"{name} #{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]
