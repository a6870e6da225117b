"""Functions of each element without a kernel are computed by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.exported import check, export

NAMES = ["activations", "rounding", "logarithms", "isnan", "hyperbolic"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("networks"), NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_paddle(name: str, networks: Path, tmp_path: Path) -> None:
    check(networks / name, tmp_path)
