"""A disk that is full: one sentence says so, and what was there stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.cli.main import main
from lite_opt.cli.output import write
from py_runner.errors import UsageError
from py_runner.files.folder import whole_folder
from py_runner.files.regular import load_array, save_array
from py_runner.formats.run import Run

FULL = "the disk is full"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many KB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = []

    def mount(kilobytes: int) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)],
            capture_output=True,
            check=False,
        )
        if os.geteuid() != 0 or done.returncode != 0:
            pytest.skip("needs the right to mount a tmpfs")
        mounted.append(place)
        return place

    yield mount
    for one in mounted:
        subprocess.run(["umount", "-l", str(one)], check=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def said(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | None:
    monkeypatch.setattr("sys.argv", ["paddle-edge", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code if isinstance(end.value.code, int) else None


def test_an_array_that_does_not_fit(tmp_path: Path) -> None:
    """np.save would say "1000000 requested and 0 written", without the reason."""
    with pytest.raises(OSError, match="No space left") as caught:
        save_array("/dev/full", np.zeros(1_000_000, np.float32))
    assert caught.value.errno is not None
    for value in (np.float32(1), np.zeros((0, 3)), np.arange(6).reshape(2, 3).T, np.array([True])):
        save_array(tmp_path / "a.npy", np.asarray(value))
        np.save(tmp_path / "b.npy", np.ascontiguousarray(value).reshape(np.shape(value)))
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
        assert load_array(tmp_path / "a.npy").tolist() == np.asarray(value).tolist()


def test_a_page_that_does_not_fit(small: Callable[[int], Path]) -> None:
    place = small(64)
    write(place / "page.html", "old")
    before = tree(place)
    with pytest.raises(UsageError, match=f"page.html: cannot be written: {FULL}"):
        write(place / "page.html", "x" * 100_000)
    assert tree(place) == before


def test_a_folder_that_does_not_fit(small: Callable[[int], Path]) -> None:
    place = small(64)
    with whole_folder(place / "r") as folder:
        (folder / "run.json").write_text("{}")
    before = tree(place)
    with (
        pytest.raises(UsageError, match=f"r: cannot be written: {FULL}"),
        whole_folder(place / "r", force=True) as folder,
    ):
        save_array(folder / "a.npy", np.zeros(100_000))
    assert tree(place) == before


def test_a_run_and_its_page_on_a_full_disk(
    bundle: Path,
    small: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = small(64)
    Run.open(bundle / "reference").save(place / "r")
    with suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    before = tree(place)
    assert said(monkeypatch, "run", bundle, "-o", place / "r", "--force") == 2
    error = capsys.readouterr().err
    assert f"paddle-edge: {place / 'r'}: cannot be written: {FULL}" in error
    page = place / "page.html"
    assert said(monkeypatch, "compare", place / "r", place / "r", "--html", page) == 2
    assert f"paddle-edge: {page}: cannot be written: {FULL}" in capsys.readouterr().err
    assert tree(place) == before


def test_a_long_run_on_a_full_disk(
    bundle: Path,
    small: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Parts, and at the end the whole, do not fit: what is there is kept, and gone on with."""
    count, size = 30, 1000 << 10
    data, place = make_model.pictures(tmp_path / "data", count), small(size >> 10)
    run = ("run", bundle, "--data", data, "--keep-every", 1e-9)
    assert said(monkeypatch, *run, "-o", tmp_path / "whole") == 0
    capsys.readouterr()
    filler = place / "filler"
    filler.write_bytes(bytes(size * 3 // 4))
    resume: tuple[str, ...] = ()
    for expected in (2, 2, 0):
        assert said(monkeypatch, *run, "-o", place / "r", *resume) == expected
        error = capsys.readouterr().err.strip().splitlines()
        resume = ("--resume",)
        if expected:
            assert error[-1].startswith(f"paddle-edge: {place / 'r'}: cannot be written: {FULL}")
            assert error[-1].endswith("--resume")
            parts = list((place / "r" / "parts").iterdir())
            assert all(path.name[0] != "." for path in parts)
            # Next there is room for all parts, but not for the Run of all; then there is.
            begun = 4096  # begun.json takes a page
            each = (shutil.disk_usage(place).used - filler.stat().st_size - begun) // len(parts)
            room = begun + count * each + 4096 if len(parts) < count else size
            os.truncate(filler, size - room)
    assert len(parts) == count
    done, whole = Run.open(place / "r"), Run.open(tmp_path / "whole")
    assert list(done.samples) == list(whole.samples)
    assert all(
        np.array_equal(a, b)
        for name in whole.outputs
        for a, b in zip(done.outputs[name], whole.outputs[name])
    )


@pytest.mark.parametrize("kilobytes", [8, 24, 32])
def test_a_conversion_on_a_full_disk(
    kilobytes: int,
    model: Path,
    small: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = small(kilobytes)
    assert said(monkeypatch, "convert", model, "-o", place / "b") == 2
    assert f"{place / 'b'}: cannot be written: {FULL}" in capsys.readouterr().err
    assert list(place.iterdir()) == []
