"""Fourier transforms along an axis of a fixed size are products with matrices."""

from __future__ import annotations

from pathlib import Path

import pytest

from lite_opt.model.load import load
from operators.exported import check, export
from py_runner.errors import ConvertError


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("networks"), ["spectra", "phases"])


def test_equal_to_paddle(networks: Path, tmp_path: Path) -> None:
    check(networks / "spectra", tmp_path)


def test_other_complex_numbers_are_refused_in_words(networks: Path) -> None:
    with pytest.raises(ConvertError, match=r"complex numbers|complex64"):
        load(networks / "phases")
