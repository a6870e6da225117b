"""Operators without a kernel (products) are computed by others."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest

from lite_opt.conversion.convert import convert
from operators.exported import check, export

NAMES = ["einsums", "products", "stacks"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("networks"), NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_paddle(name: str, networks: Path, tmp_path: Path) -> None:
    check(networks / name, tmp_path)


def test_a_stack_of_matrices(tmp_path: Path) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (-1, 4, 6))
    product = builder.op(
        "matmul_v2", {"X": [x], "Y": [builder.param("w", (3, 1, 6, 2), 2.0)]}, "y", (3, -1, 4, 2),
        trans_x=False, trans_y=False,
    )  # fmt: skip
    folder = make_model.save(builder.program(product), tmp_path / "m")
    assert convert(folder, tmp_path / "out")
