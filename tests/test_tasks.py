"""What a run's numbers mean, by task: boxes, masks, polygons, text, points, features."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from test_compare import made

from lite_opt.demo.packages import ocr_characters, package_path
from lite_opt.views.answers import view
from py_runner.data.image_text import image_spec
from py_runner.errors import DataError
from py_runner.formats.run import Run
from py_runner.tasks import decode
from py_runner.tasks.detection import boxes
from py_runner.tasks.embedding import features
from py_runner.tasks.keypoints import points
from py_runner.tasks.segmentation import masks
from py_runner.tasks.text_detection import polygons
from py_runner.tasks.text_recognition import lines

RANDOM = np.random.default_rng(5)


def of(task: str, *outputs: list[np.ndarray], labels: Any = None, **options: Any) -> Run:
    """A run of a task with these outputs."""
    values = {f"out {i}": values for i, values in enumerate(outputs)}
    return replace(
        made(outputs[0], outputs=values, task={"name": task, **options}),
        labels=None if labels is None else tuple(labels),
    )


def official(*parts: str) -> Any:
    """A module of RapidOCR, which has PaddleOCR's own post-processing."""
    path = package_path("rapidocr_paddle", *parts)
    spec = importlib.util.spec_from_file_location("_".join(parts).removesuffix(".py"), path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_boxes_are_the_rows_that_hold_best_first() -> None:
    rows = np.array(
        [[2, 0.3, 1, 2, 3, 4], [0, 0.9, 5, 6, 7, 8], [-1, 0, 0, 0, 0, 0], [1, 0.7, 0, 0, 1, 1]],
        "float32",
    )
    nothing = np.array([[-1]], "float32")
    counts = [np.array([2], "int32"), np.array([0], "int32")]
    first, second = boxes(of("detection", [rows, nothing], counts))
    assert first.classes.tolist() == [0, 2] and len(second) == 0
    assert first.corners.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    (all_of_them,) = boxes(of("detection", [rows[None]]))
    assert all_of_them.classes.tolist() == [0, 1, 2]
    assert len(all_of_them.above(float(np.float32(0.7)))) == 2  # as much as the threshold is enough
    (document,) = decode(of("detection", [rows], labels=("cat", "dog"), threshold=0.6))
    assert [(b["name"], round(b["score"], 6)) for b in document["boxes"]] == [
        ("cat", 0.9),
        ("dog", 0.7),
    ]


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(1, 80, 8400)], {}, r"non-maximum suppression.*'out 0' float32\[1, 80, 8400\]"),
        ([(1, 24, 2, 3), (1, 24, 4, 6)], {}, "needs the option anchors; say --task"),
        ([(1, 24, 2, 3)], {"anchors": [10, 13, 16]}, "1.5 anchors are not as many"),
        ([(1, 24, 2, 3)], {"anchors": [3, 2] * 5}, "24 channels is not one"),
        ([(1, 24, 3), (1, 6, 3), (1, 24, 32), (1, 6, 32)], {}, "24, 6 places do not fit the input"),
        ([(1, 64, 3), (1, 16, 3), (1, 64, 32), (1, 16, 32)], {"strides": [8]}, "1 strides for"),
        ([(1, 24, 4), (1, 6, 4), (1, 24, 9), (1, 6, 9)], {}, "SSD needs the input's size: size="),
        ([(1, 24, 4), (1, 24, 9)], {"min_sizes": [5], "strides": [8], "size": [64]}, "64 prior"),
        ([(1, 24, 4), (1, 24, 9)], {"min_sizes": [5, 9], "strides": [8], "size": [64]}, "of its"),
    ],
)  # fmt: skip
def test_a_head_that_is_not_known_or_lacks_options_is_refused_in_words(
    shapes: Any, options: Any, message: str
) -> None:
    outputs = [[np.full(shape, 2.0, "float32")] for shape in shapes]
    with pytest.raises(DataError, match=message):
        boxes(of("detection", *outputs, **options))


def test_a_head_of_squares_needs_no_size_and_a_known_input_wins() -> None:
    random = np.random.default_rng(2)
    levels = [[random.random((1, n, 3)).astype("float32")] for n in (64, 16, 4)]
    levels += [[random.normal(0, 2, (1, n, 32)).astype("float32")] for n in (64, 16, 4)]
    run = of("detection", *levels, arch="PicoDet")
    (square,) = boxes(run)
    told = replace(run, image=image_spec("resize=exact:32x128,mean=0,std=1").to_json())
    (wide,) = boxes(told)
    assert len(square) and square.corners.max() <= 64 < wide.corners[:, 2].max() <= 128
    assert wide.corners[:, 3].max() <= 32


def test_masks_of_scores_of_one_channel_and_of_classes() -> None:
    scores = RANDOM.standard_normal((1, 4, 6, 8)).astype("float32")
    (mask,) = masks(of("segmentation", [scores]))
    assert (mask == scores[0].argmax(0)).all()
    (mask,) = masks(of("segmentation", [scores[:, :1]], threshold=0.25))
    assert (mask == (scores[0, 0] > 0.25)).all()
    (again,) = masks(of("segmentation", [mask[None].astype("int32")]))
    assert again.shape == (6, 8) and (again == mask).all()
    (document,) = decode(of("segmentation", [np.eye(4, dtype="int64")], labels=("no", "yes")))
    assert [(c["name"], c["share"]) for c in document["classes"]] == [("no", 0.75), ("yes", 0.25)]
    with pytest.raises(DataError, match="segmentation needs"):
        masks(of("segmentation", [np.zeros((1, 10), "float32")]))


def test_lines_are_those_of_the_official_decoder() -> None:
    characters = ocr_characters()
    scores = RANDOM.random((50, 40, len(characters) + 1)).astype("float32")
    for line in scores:  # half of the steps are blank, and some repeat the one before
        for step in np.flatnonzero(RANDOM.random(40) < 0.5):
            line[step, 0] = 2
        for step in np.flatnonzero(RANDOM.random(39) < 0.3):
            line[step + 1] = line[step]
    decoder = official("ch_ppocr_rec", "utils.py").CTCLabelDecode(character=characters[:-1])
    mine = lines(of("text-recognition", [s[None] for s in scores], labels=characters))
    for line, (text, score) in zip(mine, decoder(scores)):
        assert line.text == text
        assert line.score == pytest.approx(score)
    with_its_space = lines(of("text-recognition", [scores[:1]], labels=characters[:-1]))
    assert with_its_space[0].text == mine[0].text
    without = lines(of("text-recognition", [scores[:1]]))[0]
    assert without.text is None and without.classes == mine[0].classes


def test_a_line_of_blanks_has_no_text_and_no_score() -> None:
    blank = np.zeros((1, 5, 4), "float32")
    blank[..., 0] = 1
    (line,) = lines(of("text-recognition", [blank], labels=("a", "b")))
    assert (line.text, line.classes, line.score) == ("", (), 0.0)


@pytest.mark.parametrize("length", [3, 6])
def test_a_dictionary_of_another_length_is_refused(length: int) -> None:
    run = of("text-recognition", [np.ones((1, 5, 6), "float32")], labels=tuple("abcdef"[:length]))
    with pytest.raises(DataError, match="takes 5, or 4 and a space"):
        lines(run)


def text_map(seed: int) -> np.ndarray:
    """A map [1, 1, H, W] as of a page with slanted lines, some faint and some tiny."""
    random = np.random.default_rng(seed)
    page = Image.new("L", (256, 192))
    for _ in range(12):
        x, y = random.integers(10, 220), random.integers(10, 170)
        length, thick = random.integers(4, 90), int(random.integers(1, 14))
        end = (x + length, y + random.integers(-20, 20))
        shade = int(random.integers(120, 256))
        ImageDraw.Draw(page).line([(int(x), int(y)), tuple(map(int, end))], shade, thick)
    page = page.filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(page, "float32")[None, None] / 255


def test_polygons_are_those_of_the_official_decoder() -> None:
    module = official("ch_ppocr_det", "utils.py")
    total = 0
    plain: dict[str, Any] = {}
    other = {"box_threshold": 0.4, "unclip_ratio": 2.0, "threshold": 0.2}
    for settings in (plain, other, {"use_dilation": True, "score_mode": "slow"}):
        theirs = module.DBPostProcess(
            thresh=settings.get("threshold", 0.3),
            box_thresh=settings.get("box_threshold", 0.6),
            unclip_ratio=settings.get("unclip_ratio", 1.5),
            use_dilation=settings.get("use_dilation", False),
            score_mode=settings.get("score_mode", "fast"),
        )
        for seed in range(50):
            value = text_map(seed)
            wanted, scores = theirs(value, (192, 256))
            (found,) = polygons(of("text-detection", [value], **settings))
            assert [p.corners.tolist() for p in found] == wanted.tolist()
            assert [p.score for p in found] == pytest.approx(scores)
            total += len(found)
    assert total > 200
    with pytest.raises(DataError, match="box_type poly"):
        polygons(of("text-detection", [text_map(1)], box_type="poly"))
    (few,) = polygons(of("text-detection", [text_map(1)], max_candidates=1))
    assert len(few) <= 1 < len(polygons(of("text-detection", [text_map(1)]))[0])


def test_points_lean_to_the_higher_neighbour() -> None:
    heatmaps = np.zeros((1, 2, 8, 6), "float32")
    heatmaps[0, 0, 3, 2], heatmaps[0, 0, 3, 3], heatmaps[0, 0, 2, 2] = 0.9, 0.5, 0.4
    heatmaps[0, 1, 0, 5] = 0.1  # at the border, and hardly seen
    (found,) = points(of("keypoints", [heatmaps]))
    assert found == pytest.approx(np.array([[2.25, 2.75, 0.9], [5, 0, 0.1]]))
    (document,) = decode(of("keypoints", [heatmaps], labels=("nose", "eye")))
    assert [p["name"] for p in document["points"]] == ["nose"]


def test_features_are_of_length_one() -> None:
    rows = RANDOM.standard_normal((4, 1, 16)).astype("float32")
    found = features(of("embedding", list(rows)))
    assert found == pytest.approx(rows[:, 0] / np.linalg.norm(rows[:, 0], axis=1, keepdims=True))
    first, *_ = decode(of("embedding", [rows[0], rows[1], rows[0] * 2]), top=1)
    assert first["nearest"] == [{"id": "s2", "cosine": pytest.approx(1)}]


def test_a_run_keeps_its_task_and_labels(tmp_path: Path) -> None:
    run = of("segmentation", [np.eye(4, dtype="int64")], labels=("no", "yes"), threshold=0.5)
    again = Run.open(run.save(tmp_path / "a.run"))
    assert again.task == {"name": "segmentation", "threshold": 0.5}
    assert again.labels == ("no", "yes")
    assert "task" not in made([np.ones((1, 3))]).summary()


def test_unknown_tasks_and_options_that_are_no_numbers_are_refused() -> None:
    value = [np.ones((1, 1, 4, 4), "float32")]
    with pytest.raises(DataError, match="unknown task 'poetry'"):
        decode(of("poetry", value))
    with pytest.raises(DataError, match="threshold is a number"):
        decode(of("segmentation", value, threshold="high"))
    assert decode(of("tensor", value)) == []


def test_answers_are_shown_in_the_words_of_their_task() -> None:
    blank = np.zeros((1, 3, 4), "float32")
    blank[0, 1, 2] = 0.75
    run = of("text-recognition", [blank], labels=("a", "b"))
    document = {"run": "x", "warnings": [], "skipped": [], **run.summary()}
    table, _ = view({**document, "predictions": decode(run)})
    assert table.header == ("sample", "label", "text")  # type: ignore[union-attr]
    assert table.rows == [("s0", "-", "'b' 0.750")]  # type: ignore[union-attr]
