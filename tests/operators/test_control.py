"""Branches and loops: chosen between, unrolled, or refused in words that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lite_opt.model.load import load
from operators.exported import check, export
from py_runner.errors import ConvertError

RIGHT = ["branches", "loops"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("networks"), [*RIGHT, "endless", "unlike"])


@pytest.mark.parametrize("name", RIGHT)
def test_equal_to_paddle(name: str, networks: Path, tmp_path: Path) -> None:
    program = check(networks / name, tmp_path)
    assert len(program.blocks) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("endless", r"pd_op.while .* how often this loop runs depends on data.*Python range"),
        ("unlike", r"pd_op.if .* tensors of different shapes"),
    ],
)
def test_what_has_no_equal_form_is_refused(name: str, words: str, networks: Path) -> None:
    with pytest.raises(ConvertError, match=words):
        load(networks / name)
