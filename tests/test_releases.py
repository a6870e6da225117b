"""Which releases of Paddle Lite run a bundle."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest

from lite_opt.conversion.convert import convert
from py_runner.errors import ConvertError, UsageError
from py_runner.formats.bundle import Bundle


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with an operator that came with 2.12."""
    b = make_model.Builder()
    x = b.input("x", (1, 4, 6))
    y = b.op("roll", {"X": [x]}, "y", (1, 4, 6), shifts=[1], axis=[1])
    for name in ("shifts", "axis"):
        b.ops[-1].set(name, [1], "LONGS")
    return make_model.save(b.program(y), tmp_path_factory.mktemp("rolled"))


def test_a_bundle_says_which_operators_are_of_a_later_release(rolled: Path, tmp_path: Path) -> None:
    done = convert(rolled, tmp_path / "b", lite="v2.12")
    assert done and Bundle.open(tmp_path / "b").targets["arm"].needs == {"roll": "v2.12"}


def test_what_the_devices_library_lacks_is_refused(rolled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"on Paddle Lite v2.11, operator roll needs v2.12"):
        convert(rolled, tmp_path / "b", lite="v2.11")
    assert not (tmp_path / "b").exists()
    with pytest.raises(UsageError, match=r"no release 'v2.9'"):
        convert(rolled, tmp_path / "b", lite="v2.9")


def test_what_every_release_has_needs_none(bundle: Path) -> None:
    assert Bundle.open(bundle).targets["arm"].needs == {}
