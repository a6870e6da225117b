"""Normalisations, also of inputs whose mean is much larger than their deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lite_opt.passes.norms import norms_about_the_mean
from operators.exported import check, export


def normalised(x: np.ndarray, groups: int) -> np.ndarray:
    """In float64, samples one by one."""
    flat = x.astype("float64").reshape(len(x), groups, -1)
    less = flat - flat.mean(2, keepdims=True)
    return np.asarray((less / np.sqrt(flat.var(2, keepdims=True) + 1e-5)).reshape(x.shape))


def test_equal_to_paddle(tmp_path: Path) -> None:
    networks = export(tmp_path / "networks", ["norms"])
    program = check(networks / "norms", tmp_path / "work")
    assert norms_about_the_mean(program) == []


def test_right_however_large_the_mean(tmp_path: Path) -> None:
    folder = export(tmp_path / "networks", ["offsets"]) / "offsets"
    high = np.floor(np.load(folder / "x.npz")["x"] * 4) / 4 + 1000
    row = high[:, :, 0]
    want = [normalised(x, n) for x, n in [*((high, n) for n in (3, 1, 6, 6)), (row, 3), (row, 6)]]
    for index, values in enumerate(want):
        np.save(folder / f"y_{index}.npy", values[:, None])
    check(folder, tmp_path / "work", limit=1e-4)
