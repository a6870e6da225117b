"""compare --draw: two runs on the same pictures, and in red what differs."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import Command, command  # noqa: F401  a fixture
from test_compare import page_of
from test_tasks import of

from lite_opt.views.pictures import DIFFERENT
from lite_opt.views.side_by_side import drawn_side_by_side
from py_runner.data.image_text import image_spec
from py_runner.errors import UsageError
from py_runner.formats.run import Run

SIDE = 100
SPEC = image_spec(f"resize=exact:{SIDE}x{SIDE},mean=0,std=1").to_json()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (SIDE, SIDE), (100, 100, 100)).save(tmp_path / "photos" / "grey.png")
    return tmp_path / "photos"


def on_grey(task: str, value: np.ndarray[Any, Any], **options: Any) -> Run:
    made = of(task, [value], **options)
    samples = (replace(made.samples[0], id="grey.png"),)
    return replace(made, samples=samples, image=SPEC, inputs=("x",))


def red(left: Run, right: Run, folder: Path) -> tuple[int, int]:
    """Red pixels of either side."""
    ((name, picture),) = drawn_side_by_side(left, right, str(folder))
    assert name == "grey.png"
    pixels = np.asarray(picture).astype(int)
    inside = (np.abs(pixels - DIFFERENT) < 60).all(-1)
    middle = inside.shape[1] // 2
    return int(inside[:, :middle].sum()), int(inside[:, middle:].sum())


def boxes(*rows: list[float]) -> np.ndarray[Any, Any]:
    return np.array(rows, "float32")


def test_a_box_that_the_other_run_lacks_is_red(folder: Path) -> None:
    both, more = [0, 0.9, 10, 30, 40, 60], [1, 0.8, 60, 60, 90, 90]
    left, right = (on_grey("detection", boxes(*rows)) for rows in ([both], [both, more]))
    assert red(left, left, folder) == (0, 0)
    alone, found = red(left, right, folder)
    assert alone == 0 and found > 100
    assert red(right, left, folder)[0] == found
    moved = on_grey("detection", boxes([0, 0.9, 20, 30, 50, 60]))
    assert min(red(left, moved, folder)) > 100  # in neither place is the other's


def test_pixels_of_another_class_are_red(folder: Path) -> None:
    mask = np.zeros((1, SIDE, SIDE), "int64")
    mask[0, 20:40, 20:40] = 1
    wider = mask.copy()
    wider[0, 20:40, 40:50] = 1
    left, right = on_grey("segmentation", mask), on_grey("segmentation", wider)
    assert red(left, left, folder) == (0, 0)
    assert red(left, right, folder) == (0, 200)


def test_polygons_and_texts(folder: Path) -> None:
    text = np.zeros((1, 1, SIDE, SIDE), "float32")
    text[0, 0, 20:40, 10:60] = 1
    nothing = np.zeros_like(text)
    found, none = on_grey("text-detection", text), on_grey("text-detection", nothing)
    assert red(found, found, folder) == (0, 0)
    assert red(found, none, folder)[0] > 50
    steps = np.zeros((1, 2, 3), "float32")
    steps[0, :, 1] = 1
    other = steps[..., [0, 2, 1]]
    a, b = (on_grey("text-recognition", s, labels=("MMM", "WWW")) for s in (steps, other))
    assert red(a, a, folder) == (0, 0) and min(red(a, b, folder)) > 0


def test_runs_that_do_not_say_how_they_were_fed(folder: Path) -> None:
    run = replace(on_grey("detection", boxes([0, 0.9, 10, 30, 40, 60])), image=None)
    with pytest.raises(UsageError, match="how pictures were fed"):
        list(drawn_side_by_side(run, run, str(folder)))


def test_the_command_draws(folder: Path, tmp_path: Path, command: Command) -> None:  # noqa: F811
    left = on_grey("detection", boxes([0, 0.9, 10, 30, 40, 60]))
    right = on_grey("detection", boxes([0, 0.9, 20, 30, 50, 60]))
    left.save(tmp_path / "server.run")
    right.save(tmp_path / "edge.run")
    runs = [str(tmp_path / "server.run"), str(tmp_path / "edge.run")]
    drawn = tmp_path / "drawn"
    assert command("compare", *runs, "--draw", str(drawn))[0] == 2 and not drawn.exists()
    code = command("compare", *runs, "--draw", str(drawn), "--data", str(folder))[0]
    assert code == 1
    (file,) = drawn.glob("*.png")
    with Image.open(file) as picture:
        assert file.name == "000000_grey.png" and picture.width == 2 * SIDE + 6


def test_the_page_of_a_comparison_shows_both_sides(folder: Path) -> None:
    left = on_grey("detection", boxes([0, 0.9, 10, 30, 40, 60]))
    right = on_grey("detection", boxes([0, 0.9, 20, 30, 50, 60]))
    page = page_of(left, right, data=folder)
    (encoded,) = re.findall("src='data:image/jpeg;base64,([^']+)'", page)
    with Image.open(io.BytesIO(b64decode(encoded))) as picture:
        assert picture.width == 2 * SIDE + 6
        seen = (np.abs(np.asarray(picture).astype(int) - DIFFERENT) < 90).all(-1)
    assert seen[:, :SIDE].sum() > 50 and seen[:, -SIDE:].sum() > 50
    assert "0 0.90" in page  # the box in words, on either side
    unknown = page_of(replace(left, image=None), replace(right, image=None), data=folder)
    assert "<img" not in unknown and "no pictures: " in unknown
