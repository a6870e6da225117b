"""Element types that Paddle Lite's files cannot hold: stored, and computed with."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.model.program import Var
from lite_opt.passes.repair import repair
from py_runner.errors import ConvertError
from py_runner.tensors import DTYPE_NUMBERS

from . import trial


def stored(b: make_model.Builder, name: str, value: np.ndarray) -> str:
    b.params[name] = value
    b.vars[name] = Var(name, str(value.dtype), value.shape, persistable=True, is_parameter=True)
    return name


def cast(b: make_model.Builder, x: str, out: str, dtype: str) -> str:
    shape, source = b.vars[x].shape, b.vars[x].dtype
    b.op("cast", {"X": [x]}, out, shape, out_dtype=dtype, in_dtype=DTYPE_NUMBERS[source])
    b.ops[-1].set("out_dtype", DTYPE_NUMBERS[dtype])
    return out


def test_truth_values_are_stored_as_numbers(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (2, 6))
    mask = stored(b, "mask", np.arange(12).reshape(2, 6) % 3 > 0)
    minus = b.op("scale", {"X": [x]}, "m", (2, 6), scale=-1.0, bias=0.0, bias_after_scale=True)
    y = b.op("where", {"Condition": [mask], "X": [x], "Y": [minus]}, "y", (2, 6))
    number = cast(b, mask, "number", "float32")
    z = b.op("elementwise_mul", {"X": [x], "Y": [number]}, "z", (2, 6), axis=-1)
    repaired = trial.check(b.program(y, z), tmp_path)
    assert {str(value.dtype) for value in repaired.params.values()} == {"float32"}
    assert [op.type for op in repaired.ops].count("cast") == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_casts_of_stored_integers_are_computed(dtype: str, tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (2, 6))
    small = stored(b, "small", (np.arange(12).reshape(2, 6) * 10).astype(dtype))
    y = b.op("elementwise_mul", {"X": [x], "Y": [cast(b, small, "c", "float32")]}, "y", (2, 6),
             axis=-1)  # fmt: skip
    assert "cast" not in [op.type for op in trial.check(b.program(y), tmp_path).ops]


def test_doubles_become_float32(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = cast(b, b.input("x", (2, 6)), "wide", "float64")
    table = stored(b, "table", np.random.default_rng(0).standard_normal((2, 6)))
    y = b.op("elementwise_mul", {"X": [x], "Y": [table]}, "y", (2, 6), out_dtype="float64", axis=-1)
    b.op("fill_constant", {}, "tenth", (1,), out_dtype="float64", shape=[1], value=0.1,
         str_value="0.1", force_cpu=False, place_type=-1,
         dtype=DTYPE_NUMBERS["float64"])  # fmt: skip
    z = b.op("elementwise_add", {"X": [y], "Y": ["tenth"]}, "z", (2, 6), out_dtype="float64",
             axis=-1)  # fmt: skip
    repaired = trial.check(b.program(z, cast(b, z, "narrow", "float32")), tmp_path)
    assert {var.dtype for var in repaired.vars.values()} == {"float32"}


def test_a_double_input_is_refused_in_words() -> None:
    program = make_model.classifier()
    program.var("x").dtype = "float64"
    with pytest.raises(
        ConvertError, match=r"input 'x' is float64.* export the network with float32"
    ):
        repair(program)
