"""A small network on every engine that is here: the server, x86, and an emulated ARM board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models, make_bundle
from lite_opt.lite.optimizer import Optimizer
from lite_opt.model.load import save, stage
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.recipes import RECIPES
from py_runner.data.random_samples import random_samples
from py_runner.devices import BOARDS
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import QUIET

__all__ = ["BOARD", "Answers", "board_is_here", "check", "on_lite", "on_server", "samples_of"]

Answers = list["np.ndarray[Any, Any]"]
BOARD = "qemu-aarch64"
_TOLERANCE = 1e-5  # of the largest magnitude of an output
_TIME_LIMIT_S = 60.0


def board_is_here() -> bool:
    """Whether an ARM engine is configured, by PADDLE_EDGE_LITE_RUN_AARCH64."""
    return not BOARDS[BOARD].missing()


def samples_of(program: Program, count: int = 2, *, seed: int = 0) -> list[Sample]:
    """Random samples; a dynamic first dimension is 1."""
    return random_samples(program.inputs, count=count, seed=seed)


def on_server(program: Program, samples: list[Sample], folder: Path) -> Answers:
    """What the program answers on the server engine, an array an output, samples stacked."""
    folder.mkdir(parents=True, exist_ok=True)
    files = stage(program, folder)
    assert files.params is not None
    model = Model("m", "", "fp32", (files.model, files.params), tuple(program.inputs))
    return _stacked(run(model, samples, engine="paddle", time_limit_s=_TIME_LIMIT_S))


def on_lite(program: Program, target: str, samples: list[Sample], folder: Path) -> Answers:
    """What Paddle Lite answers to the program as it is, repaired or not: on this machine's engine
    (x86) or on the emulated board (arm)."""
    folder.mkdir(parents=True, exist_ok=True)
    program = program.copy()
    program.files = save(program, folder)
    source = Source.of(program)
    models = Models(program, None, RECIPES["fp32"])
    with Optimizer() as optimizer:
        bundle, _ = make_bundle(
            models, source, folder, {target: optimizer}, all_needed=True, watch=QUIET
        )
    replace(bundle, outputs=tuple(program.outputs)).write(folder)
    options = {"engine": "native", "device": BOARD} if target == "arm" else {"engine": "lite"}
    model = Bundle.open(folder).model(target)
    return _stacked(run(model, samples, warmup=0, time_limit_s=_TIME_LIMIT_S, **options))


def _stacked(answers: Run) -> Answers:
    return [np.stack(list(each)) for each in answers.outputs.values()]


def check(
    program: Program,
    folder: Path,
    *,
    samples: list[Sample] | None = None,
    tolerance: float = _TOLERANCE,
    targets: tuple[str, ...] = ("x86", "arm"),
) -> Program:
    """Repair a copy of the program, and assert that it answers what the program itself does on the
    server: on the server, on x86 and, where one is configured, on the board. Returns the copy."""
    samples = samples or samples_of(program)
    repaired = program.copy()
    repair(repaired)
    want = on_server(program, samples, folder / "source")
    answers = {"server": on_server(repaired, samples, folder / "repaired")}
    for target in targets:
        if target != "arm" or board_is_here():
            answers[target] = on_lite(repaired, target, samples, folder / target)
    for engine, got in answers.items():
        assert len(got) == len(want), engine
        for index, (a, b) in enumerate(zip(want, got)):
            assert a.size == b.size, f"{engine}, output {index}: {b.shape} for {a.shape}"
            off = np.abs(a.astype("float64").ravel() - b.astype("float64").ravel()).max()
            largest = max(float(np.abs(a.astype("float64")).max()), 1e-30)
            assert off <= tolerance * largest, f"{engine}, output {index}: differs by {off:.3g}"
    return repaired
