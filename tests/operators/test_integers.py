"""Integers: remainders and quotients that round down, whatever a kernel does."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.passes.repair import repair
from py_runner.tensors import Sample

from . import trial


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_quotients_and_remainders_round_down(dtype: str, tmp_path: Path) -> None:
    b = make_model.Builder()
    x, y, z = b.input("x", (2, 10), dtype), b.input("y", (2, 10), dtype), b.input("z", (1,), dtype)
    outs = [
        b.op(f"elementwise_{kind}", {"X": [x], "Y": [other]}, f"{kind}.{other}", (2, 10),
             out_dtype=dtype, axis=-1)
        for kind in ("mod", "floordiv") for other in (y, z)
    ]  # fmt: skip
    feeds = {
        "x": np.array([range(-10, 0), range(1, 11)], dtype),
        "y": np.array([[3, -3] * 5, [-4, 4, 10, -10, 7] * 2], dtype),
        "z": np.array([-3], dtype),
    }
    repaired = trial.check(b.program(*outs), tmp_path, samples=[Sample("s", feeds)])
    assert repair(repaired) == []
