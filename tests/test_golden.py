"""Transforms and decoders give what the official implementations do, on 50 inputs each: those of
benchmarks/golden.py, whose answers are checked in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_golden as golden
import numpy as np
import pytest
from test_tasks import of

from py_runner.data.inference_yml import read_image
from py_runner.data.roles import beside_picture
from py_runner.formats.run import Run
from py_runner.tasks.detection import boxes
from py_runner.tasks.keypoints import points
from py_runner.tasks.segmentation import masks
from py_runner.tasks.text_detection import polygons
from py_runner.tasks.text_recognition import lines
from py_runner.tensors import TensorSpec

GOLDEN = Path(__file__).parent / "golden"
NMS = {"score_threshold": 0.25, "nms_threshold": 0.5, "nms_top_k": 40, "keep_top_k": 30}
# As they are said with --task: lists of numbers, and words where a level has several.
YOLO = {**NMS, "arch": "YOLO", "anchors": list(golden.ANCHORS), "scale_x_y": 1.05}
SSD = {
    **NMS,
    "arch": "SSD",
    "strides": golden.PRIORS["steps"],
    "min_sizes": golden.PRIORS["min_sizes"],
    "max_sizes": golden.PRIORS["max_sizes"],
    "aspect_ratios": "2x2+3x2+3",
    "clip": True,
    "size": list(golden.SIDES),
}
PICODET = {"arch": "PicoDet", "strides": list(golden.STRIDES), "size": list(golden.SIDES)}


def read(name: str) -> list[np.ndarray[Any, Any]]:
    """The official answers, to the inputs that are made here."""
    head = name.split("_")[0]
    with np.load(GOLDEN / f"{name}.npz") as file:
        inputs, counts, answers = (file[key] for key in ("inputs", "counts", "answers"))
    assert len(inputs) == golden.COUNT == 50
    mine = [golden.digest(golden.made(head, number)) for number in range(golden.COUNT)]
    assert mine == inputs.tolist(), "the inputs are not those that the answers are of"
    return np.split(answers, np.cumsum(counts)[:-1])


def run_of(task: str, head: str, **options: Any) -> Run:
    inputs = [golden.made(head, number) for number in range(golden.COUNT)]
    return of(task, *map(list, zip(*inputs)), **options)


@pytest.mark.parametrize("name", golden.TRANSFORMS)
def test_tensors_of_pictures(name: str, tmp_path: Path) -> None:
    official = json.loads((GOLDEN / "transforms.json").read_text())
    pictures = [golden.picture(number) for number in range(golden.COUNT)]
    assert [golden.digest([pixels]) for pixels in pictures] == official["pictures"]
    file = tmp_path / "inference.yml"
    file.write_text(golden.TRANSFORMS[name])
    spec = read_image(file)
    assert spec is not None
    beside = [TensorSpec(told, "float32", (1, 2)) for told in ("im_shape", "scale_factor")]
    other = []
    for number, pixels in enumerate(pictures):
        fed: list[Any] = [spec.apply(pixels)]
        if name.startswith("detection"):
            height, width = pixels.shape[:2]
            place = spec.placed(height, width)
            fed += [beside_picture(told, place, height, width) for told in beside]
        if golden.digest(fed) != official[name][number]:
            other.append(pixels.shape)
    assert not other


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("decoded", {"arch": "PicoDet", **NMS}),
        ("joined", {"arch": "PPYOLOE", **NMS}),
        ("picodet", {**PICODET, "score_threshold": 0.4}),
        ("yolo", YOLO),
        ("ssd", SSD),
    ],
)
def test_boxes_of_heads_without_suppression(name: str, options: dict[str, Any]) -> None:
    official = read(name)
    found = boxes(run_of("detection", name, **options))
    assert sum(map(len, found)) > 150
    for mine, theirs in zip(found, official):
        order = np.argsort(-theirs[:, 1], kind="stable")
        assert mine.classes.tolist() == theirs[order, 0].tolist()
        np.testing.assert_allclose(mine.scores, theirs[order, 1], atol=1e-6)
        assert np.abs(mine.corners - theirs[order, 2:]).max(initial=0) < 0.01


@pytest.mark.parametrize("dark", [False, True])
def test_points_of_heatmaps(dark: bool) -> None:
    official = read("heatmaps_dark" if dark else "heatmaps")
    for mine, theirs in zip(points(run_of("keypoints", "heatmaps", dark=dark)), official):
        assert np.abs(mine - theirs).max() < 1e-3


def test_masks_of_scores() -> None:
    for mine, theirs in zip(masks(run_of("segmentation", "maps")), np.array(read("maps"))):
        assert (mine == theirs.reshape(mine.shape)).all()


def test_polygons_of_maps() -> None:
    options = {"threshold": 0.3, "box_threshold": 0.5, "unclip_ratio": 1.6}
    official = read("texts")
    found = polygons(run_of("text-detection", "texts", **options))
    assert sum(map(len, official)) > 80
    apart = []
    for mine, theirs in zip(found, official):
        corners = np.array([p.corners for p in mine]).reshape(-1, 8)
        apart += np.abs(corners - theirs[:, :8]).ravel().tolist()
        # Releases of OpenCV differ in whether a pixel is on the border of a polygon.
        np.testing.assert_allclose([p.score for p in mine], theirs[:, 8], atol=2e-3)
    # Both are rounded to pixels: halves go either way by the release of OpenCV.
    assert max(apart) <= 1 and np.mean(np.array(apart) == 0) > 0.99


def test_texts_of_steps() -> None:
    run = run_of("text-recognition", "steps", labels=golden.CHARACTERS)
    for mine, theirs in zip(lines(run), read("steps")):
        text, score = theirs[:-8].tobytes().decode(), np.frombuffer(theirs[-8:].tobytes())[0]
        assert mine.text == text and mine.score == pytest.approx(score)
