"""Programs to quantize, samples for them, and their answers on the server engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest

from lite_opt.lite.part import part
from lite_opt.model.load import save
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.recipes import RECIPES
from py_runner.data.random_samples import random_samples
from py_runner.devices import BOARDS
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, Sample


def samples_of(program: Program, count: int = 8, *, seed: int = 0) -> list[Sample]:
    return random_samples(program.inputs, count=count, seed=seed)


def on_server(
    program: Program, samples: list[Sample], folder: Path, precision: str = "int8"
) -> Run:
    folder.mkdir(exist_ok=True)
    files = save(program, folder)
    assert files.params is not None
    model = Model("model", "", precision, (files.model, files.params), tuple(program.inputs))
    return run(model, samples, engine="paddle")


def off_on_board(
    program: Program, samples: list[Sample], device: str, folder: Path
) -> np.ndarray[Any, Any]:
    """How far a board is off the simulation, at each place, by the largest magnitude; the test is
    skipped without the board."""
    if BOARDS[device].missing():
        pytest.skip(BOARDS[device].missing())
    server = on_server(program, samples, folder / "server")
    arm = run(
        part(program, "arm", RECIPES["int8"], folder), samples, engine="native", device=device
    )
    (wanted,), (found,) = server.outputs.values(), arm.outputs.values()
    wanted, found = np.concatenate(wanted), np.concatenate(found)
    return np.asarray(np.abs(found - wanted) / np.abs(wanted).max())


def repaired(program: Program) -> Program:
    repair(program)
    return program


def deep(*, outlier: str = "") -> Program:
    """Four convolutions, a linear layer; `outlier` (w1 to w3) has a weight that swamps the rest."""
    b = make_model.Builder(3)
    x = b.input("x", (-1, 3, 8, 8))
    channels = 3
    for index in range(4):
        weight = b.param(f"w{index}", (16, channels, 3, 3), 1.5)
        x = b.conv2d(x, weight, f"conv{index}", (-1, 16, 8, 8))
        x = b.op("relu", {"X": [x]}, f"relu{index}", (-1, 16, 8, 8))
        channels = 16
    flat = b.op(
        "flatten_contiguous_range", {"X": [x]}, "flat", (-1, 1024), start_axis=1, stop_axis=3
    )
    y = b.op(
        "matmul_v2",
        {"X": [flat], "Y": [b.param("fc.w", (1024, 10))]},
        "fc",
        (-1, 10),
        trans_x=False,
        trans_y=False,
    )
    if outlier:
        # One scale for the tensor: 300 times the others rounds them to nothing. What it is
        # multiplied with is small, so the numbers of the float model stay what they were.
        before = f"w{int(outlier[1:]) - 1}"
        b.params[before] = b.params[before].copy()
        b.params[before][0] /= 300
        value = b.params[outlier].copy()
        value[0, 0, 0, 0] = np.abs(value).max() * 300
        b.params[outlier] = value
    return b.program(y)
