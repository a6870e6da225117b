"""Exported networks on the engines that are here, against Paddle's eager answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models, make_bundle
from lite_opt.lite.optimizer import Optimizer
from lite_opt.model.load import load
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.recipes import RECIPES
from py_runner.data.dataset import dataset
from py_runner.devices import BOARDS
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.watch import QUIET

__all__ = ["check", "export"]

_BOARD = "qemu-aarch64"


def export(folder: Path, names: Sequence[str], *, legacy: bool = False) -> Path:
    """Export networks of networks.py, in Paddle 3's format or the older one."""
    script = Path(__file__).with_name("networks.py")
    env = {**os.environ, "FLAGS_enable_pir_api": str(int(not legacy)), "GLOG_minloglevel": "2"}
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder), *names],
        check=True, capture_output=True, env=env,
    )  # fmt: skip
    return folder


def check(
    folder: Path, work: Path, *, engines: Sequence[str] = ("x86", "arm"), limit: float = 1e-5
) -> Program:
    """Assert that a repaired network answers on engines as Paddle does; returns it.

    arm is asked where an emulated board is configured; `limit` is relative to the largest answer.
    """
    program = load(folder)
    source = Source.of(program)
    samples = list(dataset(folder / "x.npz", inputs=source.inputs))
    outputs = tuple(program.outputs)
    repair(program)
    models = Models(program, None, RECIPES["fp32"])
    wanted = [e for e in engines if e != "arm" or not BOARDS[_BOARD].missing()]
    for target in wanted:
        place = work / target
        place.mkdir(parents=True)
        with Optimizer() as optimizer:
            bundle, _ = make_bundle(
                models, source, place, {target: optimizer}, all_needed=True, watch=QUIET
            )
        replace(bundle, outputs=outputs).write(place)
        model = Bundle.open(place).model(target)
        where = {"engine": "native", "device": _BOARD} if target == "arm" else {"engine": "lite"}
        _compare(run(model, samples, **where).outputs, folder, target, limit)
    return program


def _compare(outputs: dict[str, list[np.ndarray]], folder: Path, target: str, limit: float) -> None:
    answers = sorted(folder.glob("y_*.npy"), key=lambda path: int(path.stem[2:]))
    assert len(outputs) == len(answers)
    for path, (name, values) in zip(answers, outputs.items()):
        want = np.load(path).astype("float64")
        got = np.stack(values).astype("float64")
        assert got.size == want.size, f"{target} {path.stem} {name}: {got.shape} for {want.shape}"
        worst = np.abs(got.ravel() - want.ravel()).max() / max(1.0, np.abs(want).max())
        assert worst <= limit, f"{target} {path.stem} {name}: off by {worst:.2g}"
