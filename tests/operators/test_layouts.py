"""Operators without a kernel (layouts) are computed by others."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from operators.exported import check, export
from operators.trial import check as check_program
from py_runner.tensors import Sample

NAMES = ["shuffles", "responses", "circles", "borders", "nothing", "places", "deformed", "resizes"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("networks"), NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_paddle(name: str, networks: Path, tmp_path: Path) -> None:
    check(networks / name, tmp_path)


def test_pad_which_older_libraries_lack_is_not_left(networks: Path) -> None:
    program = load(networks / "borders")
    assert [op.type for op in program.ops].count("pad") == 3
    repair(program)
    assert not [op for op in program.ops if op.type == "pad"]


def test_a_border_of_dynamic_sides_has_its_value(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 2, 3, -1, 4))
    b.op("pad3d", {"X": [x]}, "y", (-1, 2, 4, -1, 7), paddings=[1, 2, 2, 0, 0, 1],
         mode="constant", value=-2.5, data_format="NCDHW")  # fmt: skip
    values = np.random.default_rng(0).standard_normal((1, 2, 3, 5, 4)).astype("float32")
    check_program(b.program("y"), tmp_path, samples=[Sample("s", {"x": values})])
