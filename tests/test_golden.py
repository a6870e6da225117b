"""Decoders give what the official implementations do, on 50 inputs each (benchmarks/golden.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_heads as heads
import numpy as np
import pytest
from test_tasks import of

from py_runner.formats.run import Run
from py_runner.tasks.detection import boxes
from py_runner.tasks.keypoints import points
from py_runner.tasks.segmentation import masks

GOLDEN = Path(__file__).parent / "golden"
NMS = {"score_threshold": 0.25, "nms_threshold": 0.5, "nms_top_k": 40, "keep_top_k": 30}
# As they are said with --task: lists of numbers, and words where a level has several.
YOLO = {**NMS, "arch": "YOLO", "anchors": list(heads.ANCHORS), "scale_x_y": 1.05}
SSD = {
    **NMS,
    "arch": "SSD",
    "strides": heads.PRIORS["steps"],
    "min_sizes": heads.PRIORS["min_sizes"],
    "max_sizes": heads.PRIORS["max_sizes"],
    "aspect_ratios": "2x2+3x2+3",
    "clip": True,
    "size": list(heads.SIDES),
}
PICODET = {"arch": "PicoDet", "strides": list(heads.STRIDES), "size": list(heads.SIDES)}


def read(name: str) -> list[np.ndarray[Any, Any]]:
    """The official answers, to the inputs that are made here."""
    head = name.split("_")[0]
    with np.load(GOLDEN / f"{name}.npz") as file:
        inputs, counts, answers = (file[key] for key in ("inputs", "counts", "answers"))
    assert len(inputs) == heads.COUNT == 50
    mine = [heads.digest(heads.made(head, number)) for number in range(heads.COUNT)]
    assert mine == inputs.tolist(), "the inputs are not those that the answers are of"
    return np.split(answers, np.cumsum(counts)[:-1])


def run_of(task: str, head: str, **options: Any) -> Run:
    inputs = [heads.made(head, number) for number in range(heads.COUNT)]
    return of(task, *map(list, zip(*inputs)), **options)


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
