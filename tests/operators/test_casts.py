"""Element types: booleans that come out, and conversions that Lite has no kernel for."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest

from lite_opt.passes.repair import repair
from py_runner.tensors import DTYPE_NUMBERS

from . import trial


def compared(b: make_model.Builder) -> str:
    x, z = b.input("x", (2, 4, 6)), b.input("z", (2, 4, 6))
    return b.op("greater_than", {"X": [x], "Y": [z]}, "c", (2, 4, 6), out_dtype="bool", axis=-1,
                force_cpu=False)  # fmt: skip


def test_bool_outputs_are_integers(tmp_path: Path) -> None:
    b = make_model.Builder()
    c = compared(b)
    n = b.op("logical_not", {"X": [c]}, "n", (2, 4, 6), out_dtype="bool")
    a = b.op("reduce_any", {"X": [c]}, "a", (2, 6), out_dtype="bool", dim=[1], keep_dim=False,
             reduce_all=False)  # fmt: skip
    repaired = trial.check(b.program(c, n, a), tmp_path)
    assert [spec.dtype for spec in repaired.outputs] == ["int32"] * 3
    assert [spec.shape for spec in repaired.outputs] == [(2, 4, 6), (2, 4, 6), (2, 6)]
    assert repair(repaired) == []


@pytest.mark.parametrize(
    ("source", "target", "steps"),
    [("bool", "uint8", 2), ("bool", "int64", 1), ("int32", "uint8", 2), ("int64", "bool", 2)],
)
def test_casts_by_way_of_float(source: str, target: str, steps: int, tmp_path: Path) -> None:
    b = make_model.Builder()
    x = compared(b) if source == "bool" else b.input("x", (2, 4, 6), source)
    b.op("cast", {"X": [x]}, "y", (2, 4, 6), out_dtype=target, in_dtype=DTYPE_NUMBERS[source])
    b.ops[-1].set("out_dtype", DTYPE_NUMBERS[target])
    repaired = trial.check(b.program("y"), tmp_path)
    casts = [op for op in repaired.ops if op.type == "cast"]
    assert len(casts) == steps + (target == "bool")
