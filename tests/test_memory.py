"""Every child has a limit of memory: what runs away ends in a sentence."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from make_int8 import repaired, samples_of

import lite_opt
import py_runner
from lite_opt.judge.variants import Variants
from lite_opt.model.executor import Executor
from lite_opt.model.load import load
from lite_opt.quant import calibrate as calibrating
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import Calibration
from py_runner import job
from py_runner.errors import ConvertError, EngineError
from py_runner.files.process import of_memory
from py_runner.job import memory_limit
from py_runner.tensors import Sample

ROOTS = [Path(package.__file__ or "").parent for package in (lite_opt, py_runner)]


def test_the_limit_follows_model_and_samples(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(1000))
    samples = [Sample(str(n), {"x": np.zeros(n, "uint8")}) for n in (10, 30, 20)]
    base = 4 << 30
    assert memory_limit([tmp_path / "model"], []) == base + 8 * 1000
    assert memory_limit([tmp_path / "model"], samples) == base + 8000 + 512 * 30 + 2 * 60
    assert of_memory("std::bad_alloc") and of_memory("Cannot allocate 5 GB")
    assert not of_memory("Check failed: rank == 4")


def test_whoever_starts_a_child_limits_its_memory() -> None:
    found = {}
    for root in ROOTS:
        for file in root.rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            calls = [
                node
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Child"
            ]
            if calls:
                limited = source.count(".limit_memory(")
                found[file.relative_to(root).as_posix()] = limited >= len(calls)
    assert len(found) >= 6
    # The emulator's own limits are set in it, ssh and adb are the user's, a fleet's are commands of
    # ours and a cluster's workers limit their engines, a shell reads sensors, and git tells the
    # commit.
    unlimited = {name for name, limited in found.items() if not limited}
    shells = {f"devices/{name}.py" for name in ("adb", "connection", "sensors")}
    ours = {"cluster/processes.py", "fleet.py"}
    assert unlimited == {*shells, *ours, "devices/qemu.py", "history/entry.py"}
    workers = [
        file
        for root in ROOTS
        for file in root.rglob("*.py")
        if " Worker(" in (text := file.read_text()) and "memory_limit_bytes=" not in text
    ]
    assert workers == []


def test_a_calibration_that_wants_too_much_is_a_sentence(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = repaired(load(model))
    monkeypatch.setattr(job, "_ENGINE_BYTES", 40 << 20)
    with pytest.raises(ConvertError, match="its last words"):
        calibrating.calibrate(program, samples_of(program), Calibration())


def test_variants_that_want_too_much_are_a_sentence(
    calibrated: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_of(calibrated.program)
    with Variants(calibrated, samples) as variants:
        assert len(variants.run(()).samples) == len(samples)
    monkeypatch.setattr(job, "_ENGINE_BYTES", 40 << 20)
    with pytest.raises(EngineError):
        Variants(calibrated, samples)


def test_parameters_are_loaded_at_about_their_size(model: Path) -> None:
    program = repaired(load(model))
    samples = samples_of(program, 1)
    peaks = []
    for large in (0, 1 << 24):  # of four bytes
        palette = program.copy()
        if large:
            palette.set_param("large", np.ones((large,), np.float32))
        with Executor(palette, samples) as executor:
            peaks.append(executor.run(program).peak_memory_bytes)
    # What Paddle takes by itself differs by up to 10 MB from start to start.
    assert 0.5 * (4 << 24) < peaks[1] - peaks[0] < 3 * (4 << 24)
