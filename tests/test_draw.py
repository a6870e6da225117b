"""run --draw: what was found stands where it is on the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tasks import of

from lite_opt.cli.main import main
from lite_opt.views.pictures import annotated, check_drawable
from py_runner.data.image import ImageSpec
from py_runner.data.image_text import image_spec as spec_of
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run

IMAGE, SCALE = "image", "scale_factor"
SPEC = spec_of("resize=exact:50x100,mean=0,std=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (200, 200), (100, 100, 100)).save(tmp_path / "grey.png")
    return tmp_path


def on_grey(run: Run) -> Run:
    return replace(run, samples=(replace(run.samples[0], id="grey.png"),))


def changed(
    run: Run, folder: Path, inputs: tuple[str, ...] = (IMAGE,), spec: ImageSpec = SPEC
) -> tuple[int, ...]:
    """x1, y1, x2, y2 of what is not grey any more."""
    ((name, picture),) = annotated(on_grey(run), folder, spec, inputs)
    assert name == "grey.png" and picture.size == (200, 200)
    y, x = np.nonzero((np.asarray(picture) != 100).any(-1))
    return int(x.min()), int(y.min()), int(x.max()), int(y.max())


def test_boxes_stand_where_they_are(folder: Path) -> None:
    rows = np.array([[0, 0.9, 40, 20, 80, 40]], "float32")
    on_tensor = changed(of("detection", [rows]), folder)
    assert on_tensor[0] == 80 and on_tensor[2:] == (160, 160)
    assert 60 < on_tensor[1] < 80  # its name is above
    on_picture = changed(of("detection", [rows]), folder, (IMAGE, SCALE))
    assert on_picture[0] == 40 and on_picture[3] == 40


def test_masks_and_polygons_and_points_stand_where_they_are(folder: Path) -> None:
    mask = np.zeros((1, 25, 50), "int64")
    mask[0, 5:10, 20:30] = 1
    assert changed(of("segmentation", [mask]), folder) == (80, 40, 119, 79)
    text = np.zeros((1, 1, 50, 100), "float32")
    text[0, 0, 20:30, 30:70] = 1
    left, top, right, bottom = changed(of("text-detection", [text]), folder)
    assert left < 60 and right > 138 and top < 80 and bottom > 118
    heatmap = np.zeros((1, 1, 10, 20), "float32")
    heatmap[0, 0, 5, 10] = 1
    left, top, right, bottom = changed(of("keypoints", [heatmap]), folder)
    assert ((left + right) / 2, (top + bottom) / 2) == (100, 100)


def test_what_is_found_in_a_crop_stands_where_it_is(folder: Path) -> None:
    """A picture of 200 x 200 becomes 100 x 100, of which rows 25 to 74 and columns 15 to 84 are
    seen; zeros below bring 50 rows to 64, and 70 columns to 96."""
    crop = spec_of("resize=short:100,crop=50x70,stride=32,mean=0,std=1")
    rows = np.array([[0, 0.9, 5, 15, 65, 45]], "float32")
    left, _, right, bottom = changed(of("detection", [rows]), folder, spec=crop)
    assert (left, right, bottom) == (40, 160, 140)
    mask = np.zeros((1, 32, 48), "int64")
    mask[0, 5:10, 10:20] = 1
    assert changed(of("segmentation", [mask]), folder, spec=crop) == (70, 70, 109, 89)
    everywhere = changed(of("segmentation", [np.ones_like(mask)]), folder, spec=crop)
    assert everywhere == (30, 50, 169, 149)
    text = np.zeros((1, 1, 64, 96), "float32")
    text[0, 0, 20:30, 20:50] = 1
    left, top, right, bottom = changed(of("text-detection", [text]), folder, spec=crop)
    assert left < 70 and right > 128 and top < 90 and bottom > 108
    assert left > 50 and right < 150 and top > 70 and bottom < 130
    heatmap = np.zeros((1, 1, 16, 24), "float32")
    heatmap[0, 0, 5, 10] = 1
    left, top, right, bottom = changed(of("keypoints", [heatmap]), folder, spec=crop)
    assert ((left + right) / 2, (top + bottom) / 2) == (110, 90)


def test_text_stands_below(folder: Path) -> None:
    scores = np.zeros((1, 3, 4), "float32")
    scores[0, :, 1] = 1
    run = on_grey(of("text-recognition", [scores], labels=("a", "b")))
    ((_, picture),) = annotated(run, folder, SPEC, (IMAGE,))
    assert picture.height > 200 and (np.asarray(picture)[200:] < 100).any()


def test_what_cannot_be_drawn_is_said(folder: Path) -> None:
    with pytest.raises(UsageError, match="needs pictures"):
        check_drawable(None, SPEC, "detection", (IMAGE,))
    crop = spec_of("resize=short:64,crop=50")
    with pytest.raises(UsageError, match="cannot know of a crop"):
        check_drawable(folder, crop, "detection", (IMAGE, SCALE))
    check_drawable(folder, crop, "detection", (IMAGE,))
    check_drawable(folder, crop, "classification", (IMAGE, SCALE))
    rows = np.array([[0, 0.9, 40, 20, 80, 40]], "float32")
    with pytest.raises(DataError, match="sample 's0' is no image file"):
        list(annotated(of("detection", [rows]), folder, SPEC, (IMAGE,)))


def test_the_command_draws(
    model: Path, photos: Path, image_spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = tmp_path / "out.run", tmp_path / "drawn"
    command = ["paddle-edge", "run", str(model), "-o", str(out), "--draw", str(drawn)]

    def code(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert code() == 2 and not out.exists()  # before anything is run
    assert code("--data", str(photos), "--image", image_spec, "--task", "classification") == 0
    files = sorted(drawn.glob("*.png"))
    assert len(files) == len(Run.open(out).samples) and files[0].name.startswith("000000_")
    # What was drawn is ours to replace, and drawn again where a run is gone on with.
    same = ("--data", str(photos), "--image", image_spec, "--task", "classification")
    files[0].unlink()
    assert code(*same, "--resume") == 0 and files[0].exists()
    assert code(*same, "--force", "--limit", "2") == 0 and len([*drawn.glob("*.png")]) == 2
