"""Two runs compared by what their numbers mean: boxes, masks, lines, polygons, features, points."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_compare import LOGITS, made, page_of
from test_tasks import of, text_map

from lite_opt.cli.main import main
from lite_opt.conversion.judges import Case
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import Limits, limits_for, task_limits_for
from lite_opt.judge.rates import Rate
from lite_opt.judge.tasks import embedding
from lite_opt.judge.tasks.scores import matched
from lite_opt.judge.tasks.segmentation import confusion, mean_iou
from lite_opt.views.comparison import rows_of, verdict, view
from py_runner.errors import DataError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.tasks.suppression import intersection_over_union
from py_runner.watch import QUIET

RANDOM = np.random.default_rng(17)


def rate(report: Report, name: str) -> Rate:
    (found,) = [r for r in report.rates if r.name == name]
    return found


def detections(samples: int, *, seed: int = 3) -> list[np.ndarray]:
    """Rows as a detector's, 2 to 9 a sample, of three classes."""
    random = np.random.default_rng(seed)
    result = []
    for _ in range(samples):
        count = random.integers(2, 10)
        corner, side = random.uniform(0, 200, (count, 2)), random.uniform(20, 90, (count, 2))
        head = [random.integers(0, 3, count), np.sort(random.uniform(0.2, 1, count))[::-1]]
        result.append(np.c_[np.array(head).T, corner, corner + side].astype("float32"))
    return result


BOXES = detections(30)


def test_iou_by_hand() -> None:
    left = np.array([[0, 0, 10, 10], [5, 5, 5, 5]])
    right = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10], [5, 5, 5, 5]])
    assert intersection_over_union(left, right) == pytest.approx(
        np.array([[1 / 3, 0, 1, 0], [0, 0, 0, 1]])
    )


def test_things_are_in_one_pair_the_most_alike_first() -> None:
    likeness = np.array([[0.9, 0.95], [0.2, 0.92], [0.9, 0.1]])
    assert matched(likeness, 0.9) == [(0, 1), (2, 0)]
    assert matched(likeness[:1, :1], 0.9) == [(0, 0)]  # as much as the least is enough
    assert matched(np.zeros((0, 3)), 0.5) == []


def test_boxes_in_another_order_are_no_difference() -> None:
    other = [rows[::-1].copy() for rows in BOXES]
    report = compare(of("detection", BOXES), of("detection", other))
    assert report, report.failures
    assert rate(report, "boxes at IoU 0.9").value == 1.0
    assert any(text.startswith("diagnosis: ") for text in report.warnings)
    assert not compare(made(BOXES), made(other))


def test_one_box_more_is_counted() -> None:
    other = [rows.copy() for rows in BOXES]
    other[4] = np.r_[other[4], [[1, 0.9, 500, 500, 520, 540]]].astype("float32")
    report = compare(of("detection", BOXES), of("detection", other))
    shown = sum(int((rows[:, 1] >= 0.5).sum()) for rows in BOXES)
    boxes = rate(report, "boxes at IoU 0.9")
    assert boxes.units == shown + 1 and boxes.value == shown / (shown + 1)
    assert report.disagreeing == ("s4",)
    one = compare(of("detection", BOXES[:1]), of("detection", [BOXES[0][None, :-1]]))
    assert one.samples == 1  # and no "different models"


def test_boxes_of_another_class_or_place_or_below_the_threshold_are_not_the_same() -> None:
    box = np.array([[1, 0.9, 0, 0, 100, 100]], "float32")
    for change, share in (
        ([1, 0, 0, 0, 0, 0], 1 / 3),  # one is not there, and one is too many
        ([0, 0, 0, 0, 12, 0], 1 / 3),
        ([0, -0.5, 0, 0, 0, 0], 1 / 2),
    ):
        report = compare(
            of("detection", [box, box]), of("detection", [box, box + np.float32(change)])
        )
        assert not report and rate(report, "boxes at IoU 0.9").value == share, change
    near = box + np.float32([0, -0.1, 0, 0, 9, 0])
    report = compare(of("detection", [box, box]), of("detection", [box, near]))
    assert report and report.scores
    assert report.scores.figures["largest difference of a score"] == pytest.approx(0.1)


def test_another_threshold_is_named() -> None:
    left, right = of("detection", BOXES, threshold=0.5), of("detection", BOXES, threshold=0.7)
    report = compare(left, right)
    assert not report
    assert any("threshold is 0.5 in the reference and 0.7" in text for text in report.warnings)


def test_where_no_box_reaches_the_threshold_all_are_judged_with_their_scores() -> None:
    low = [rows * np.float32([1, 0.4, 1, 1, 1, 1]) for rows in BOXES]
    report = compare(of("detection", low), of("detection", [rows[::-1].copy() for rows in low]))
    count = sum(map(len, low))
    assert report and rate(report, "boxes at IoU 0.9").units == count
    told = f"no box has a score of 0.5, the task's threshold: the {count} boxes below it are judged"
    assert any(text.startswith(told) for text in report.warnings)
    for column, change in ((0, 1), (1, -0.06), (3, 60)):
        other = [rows.copy() for rows in low]
        for rows in other:
            rows[:, column] += change
        assert not compare(of("detection", low), of("detection", other)), column
    seen = [*low[:-1], np.float32([[1, 0.9, 0, 0, 100, 100]])]
    assert (
        rate(compare(of("detection", seen), of("detection", seen)), "boxes at IoU 0.9").units == 1
    )


def test_where_there_is_no_box_tensors_are_judged() -> None:
    nothing = [np.array([[-1]], "float32")] * 3
    report = compare(of("detection", nothing), of("detection", nothing))
    assert not report and report.unjudged
    assert any("nothing to judge" in text for text in report.warnings)


def coco(path: Path, samples: Sequence[np.ndarray], *, seed: int = 5) -> Path:
    """COCO labels: the boxes that score high, moved a little; ids that do not begin at 0."""
    random = np.random.default_rng(seed)
    annotations = []
    for place, rows in enumerate(samples):
        for row in rows[rows[:, 1] > 0.45]:
            x1, y1, x2, y2 = row[2:].astype(float) + random.normal(0, 4, 4)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 - place,
                    "category_id": [7, 9, 20][int(row[0])],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(random.random() < 0.05),
                }
            )
    document = {
        "images": [{"id": 100 - i, "file_name": f"images/s{i}"} for i in range(len(samples))],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in ((20, "c"), (9, "b"), (7, "a"))],
    }
    path.write_text(json.dumps(document))
    return path


def official_map(truth: Path, samples: Sequence[np.ndarray]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(truth))
        answers = [
            {
                "image_id": 100 - place,
                "category_id": [7, 9, 20][int(c)],
                "score": float(s),
                "bbox": [float(x1), float(y1), float(x2) - float(x1), float(y2) - float(y1)],
            }
            for place, rows in enumerate(samples)
            for c, s, x1, y1, x2, y2 in rows
        ]
        evaluation = COCOeval(labels, labels.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_map_is_that_of_pycocotools(tmp_path: Path) -> None:
    truth = coco(tmp_path / "instances.json", BOXES)
    moved = [r + np.float32([0, 0, 3, 2, 5, 1]) * RANDOM.choice([0, 1]) for r in BOXES]
    wanted = [official_map(truth, found) for found in (BOXES, moved)]
    report = compare(of("detection", BOXES), of("detection", moved), truth=truth)
    figures = [rate(report, f"mAP, {who}") for who in ("reference", "candidate")]
    assert [r.value for r in figures] == pytest.approx(wanted, abs=1e-9)
    assert 0.3 < wanted[1] < wanted[0] < 1
    lost = rate(report, "mAP, points lost")
    assert lost.value == pytest.approx((wanted[0] - wanted[1]) * 100)
    assert 0 < lost.low < lost.value < lost.high
    assert lost.broken and any("mAP, points lost" in text for text in report.failures)
    # Paired: the interval of the loss is narrower than that of either mAP.
    assert lost.high - lost.low < 100 * (figures[0].high - figures[0].low)


def test_categories_are_found_by_name_and_samples_by_file(tmp_path: Path) -> None:
    truth = coco(tmp_path / "instances.json", BOXES)
    turned = [np.c_[2 - rows[:, 0], rows[:, 1:]].astype("float32") for rows in BOXES]
    by_name = of("detection", turned, labels=("c", "b", "a"))
    report = compare(by_name, by_name, truth=truth)
    wanted = official_map(truth, BOXES)
    assert rate(report, "mAP, reference").value == pytest.approx(wanted)
    truth.write_text(truth.read_text().replace("images/s", "images/other"))
    with pytest.raises(DataError, match="label of no sample"):
        compare(by_name, by_name, truth=truth)
    truth.write_text("{}")
    with pytest.raises(DataError, match="no labels in COCO's form"):
        compare(by_name, by_name, truth=truth)


MASKS = [RANDOM.standard_normal((1, 3, 20, 30)).astype("float32") for _ in range(12)]


def test_pixels_and_mean_iou() -> None:
    table = confusion(np.array([0, 0, 1, 1, 255]), np.array([0, 1, 1, 1, 0]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert mean_iou(table) == pytest.approx((1 / 2 + 2 / 3) / 2)
    ignored = confusion(np.array([255, 256]), np.array([0, 256]), 300)
    assert ignored.sum() == ignored[256, 256] == 1
    other = [value.copy() for value in MASKS]
    other[5][0, 0, :10] += 100  # half of a mask becomes class 0
    report = compare(of("segmentation", MASKS), of("segmentation", other))
    wrong = int((MASKS[5][0, :, :10].argmax(0) != 0).sum())
    pixels = rate(report, "pixels")
    assert pixels.value == pytest.approx(1 - wrong / (12 * 600)) and pixels.units == 12
    assert not report and report.disagreeing == ("s5",)
    assert compare(of("segmentation", MASKS), of("segmentation", [m * 1.01 for m in MASKS]))


def test_masks_of_one_class_prove_nothing() -> None:
    still = [np.float32([[[[2.0 + i]], [[1.0]]]]).repeat(4, 2).repeat(4, 3) for i in range(3)]
    report = compare(of("segmentation", still), of("segmentation", [v * 3 for v in still]))
    assert not report and any("nothing to judge" in text for text in report.warnings)


def test_masks_by_labels(tmp_path: Path) -> None:
    lines = []
    for i, value in enumerate(MASKS):
        mask = value[0].argmax(0).astype("uint8").repeat(2, 0).repeat(2, 1)  # in another size
        mask[:4] = 255
        Image.fromarray(mask).save(tmp_path / f"m{i}.png")
        lines.append(f"images/s{i} m{i}.png")
    truth = tmp_path / "val.txt"
    truth.write_text("\n".join(lines))
    other = [np.roll(value, 1, 1) if i % 2 else value for i, value in enumerate(MASKS)]
    report = compare(of("segmentation", MASKS), of("segmentation", other), truth=truth)
    assert rate(report, "mIoU by labels, reference").value == 1.0
    Image.fromarray(np.uint8([[0, 2], [0, 2]])).save(tmp_path / "small.png")
    small = tmp_path / "small.txt"
    small.write_text("s0 small.png")
    wide = of("segmentation", [np.array([[0, 1, 2]] * 2)])  # the pixels in the middle of halves
    assert rate(compare(wide, wide, truth=small), "mIoU by labels, reference").value == 1.0
    edge = rate(report, "mIoU by labels, candidate")
    assert 0.2 < edge.value < 0.5
    lost = rate(report, "mIoU by labels, points lost")
    assert lost.value == pytest.approx(100 * (1 - edge.value)) and lost.broken


def line_of(classes: Sequence[int], size: int = 8) -> np.ndarray:
    """Scores [1, T, C] that read as these classes."""
    steps = [step for c in classes for step in (c, 0)]
    scores = np.full((1, len(steps) or 1, size), 0.01, "float32")
    scores[0, np.arange(len(steps)), steps] = 0.9
    return scores


LETTERS = tuple("abcdef")
LINES = [line_of(RANDOM.integers(1, 7, 6)) for _ in range(40)]


def reading(values: list[np.ndarray], labels: Sequence[str] | None = LETTERS) -> Any:
    return of("text-recognition", values, labels=labels)


def test_lines_and_characters_that_are_read_alike() -> None:
    other = list(LINES)
    other[3] = line_of([1, 2, 3])
    report = compare(reading(LINES), reading(other), task_limits={"lines": 0.98})
    lines, characters = rate(report, "lines read alike"), rate(report, "characters read alike")
    assert (lines.value, lines.units) == (39 / 40, 40)
    assert characters.units == 240 and 1 - 6 / 240 <= characters.value < 1 - 2 / 240
    assert not report and report.disagreeing == ("s3",)
    assert "lines read alike: 0.975 is below 0.98" in report.failures[0]
    assert compare(reading(LINES, None), reading([v * 1.1 for v in LINES], None))


def test_limits_that_a_bundle_was_made_with_hold_for_its_reference(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["paddle-edge", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        capfd.readouterr()
        return int(ended.value.code or 0)

    out = tmp_path / "out.bundle"
    asked = ("--task", "text-recognition", "--task-limit", "lines=0.9", "--no-check")
    assert command("convert", str(model), "-o", str(out), "--target", "x86", *asked) == 0
    wanted = {**task_limits_for("text-recognition", "fp32"), "lines": 0.9}
    assert Bundle.open(out).recipe["task_limits"] == wanted
    # What the command made is a classifier: readers' answers take the places of its own.
    left = str(reading(LINES).save(out / "reference", force=True))
    alone = str(reading(LINES).save(tmp_path / "alone.run"))
    off = [
        line_of(v[0].argmax(-1)[[0, 2, 4, 6, 8, 8]]) if i < 2 else v for i, v in enumerate(LINES)
    ]
    right = str(reading(off).save(tmp_path / "right.run"))
    rounded = str(replace(reading(off), precision="fp16").save(tmp_path / "rounded.run"))
    told = ("--task-limit", "characters=0.9")
    assert command("compare", left, right, *told) == 0
    assert command("compare", alone, right, *told) == 1  # the usual limit: 0.99
    assert command("compare", left, rounded, *told) == 1  # of another precision
    assert command("compare", left, right, *told, "--task-limit", "lines=0.99") == 1


def test_a_dictionary_off_by_one_is_found_and_named() -> None:
    wrong = (*LETTERS[1:], LETTERS[0])
    report = compare(reading(LINES), reading(LINES, wrong))
    assert not report and rate(report, "lines read alike").value == 0
    unsaid = compare(reading(LINES), reading(LINES, None))
    assert unsaid and not any("dictionaries" in text for text in unsaid.warnings)
    (note,) = [text for text in report.warnings if "dictionaries" in text]
    assert "from line 1 on ('a' against 'b')" in note and "40 of 40 lines alike before" in note


def test_lines_by_labels(tmp_path: Path) -> None:
    texts = ["".join(LETTERS[c - 1] for c in v[0].argmax(-1) if c) for v in LINES]
    truth = tmp_path / "texts.txt"
    spaced = [f"{text[:2]} {text[2:]}" for text in texts]  # PaddleOCR does not count spaces
    truth.write_text("".join(f"rec/s{i}\t{text}\n" for i, text in enumerate(spaced)))
    other = [line_of([1]) if i < 4 else value for i, value in enumerate(LINES)]
    report = compare(reading(LINES), reading(other), truth=truth)
    assert rate(report, "right lines, reference").value == 1
    assert rate(report, "right lines, candidate").value == 0.9
    assert rate(report, "right lines, points lost").value == pytest.approx(10)
    assert 0.9 < rate(report, "right characters, candidate").value < 0.95
    with pytest.raises(DataError, match="need the recognizer's dictionary"):
        compare(reading(LINES, None), reading(LINES, None), truth=truth)
    one = compare(reading(LINES), reading(LINES, None), truth=truth)  # has the other's
    assert rate(one, "right lines, candidate").value == 1


def test_a_recognizer_that_reads_nothing_is_not_right_for_it() -> None:
    noise = [RANDOM.uniform(0, 0.01, (1, 5, 8)).astype("float32") for _ in range(3)]
    for value in noise:
        value[..., 0] = 1 - value[..., 1:].sum(-1)
    report = compare(reading(noise), reading([np.roll(v, 1, 1) for v in noise]))
    assert any("nothing to judge" in text for text in report.warnings) and not report


def test_texts_on_pages(tmp_path: Path) -> None:
    maps = [text_map(seed) for seed in range(20)]
    less = [m.copy() for m in maps]
    less[0][:] = 0
    same = compare(of("text-detection", maps), of("text-detection", maps))
    assert rate(same, "texts at IoU 0.9").value == 1.0
    report = compare(of("text-detection", maps), of("text-detection", less))
    assert not report and report.disagreeing == ("s0",)
    assert report.scores and report.scores.figures["hmean at IoU 0.5"] < 1
    label = [{"transcription": "x", "points": [[7, 6], [64, 6], [64, 25], [7, 25]]}]
    truth = tmp_path / "det.txt"
    truth.write_text(f"s0\t{json.dumps([*label, {**label[0], 'transcription': '###'}])}\n")
    found = np.zeros((1, 1, 64, 128), "float32")
    found[0, 0, 11:20, 12:59] = 1
    nothing = np.zeros_like(found)
    report = compare(of("text-detection", [found]), of("text-detection", [nothing]), truth=truth)
    assert rate(report, "hmean by labels, reference").value == 1
    assert rate(report, "hmean by labels, points lost").value == 100
    Image.new("RGB", (256, 64)).save(tmp_path / "s0.png")
    truth.write_text(truth.read_text().replace("s0", "s0.png"))
    renamed = replace(
        of("text-detection", [found]),
        samples=(replace(of("text-detection", [found]).samples[0], id="s0.png"),),
    )
    report = compare(renamed, renamed, truth=truth)  # the page is twice as wide as the map
    assert rate(report, "hmean by labels, reference").value == 0


def test_features_find_their_own_sample() -> None:
    rows = list(RANDOM.standard_normal((20, 1, 32)).astype("float32"))
    labels = [i // 2 for i in range(20)]
    pairs = [rows[i - i % 2] + np.float32(0.1) * rows[i] for i in range(20)]
    left = of("embedding", pairs)
    left = replace(left, samples=tuple(replace(s, label=n) for s, n in zip(left.samples, labels)))
    right = replace(left, outputs={"out 0": [pairs[1], pairs[0], *pairs[2:]]}, created="later")
    report = compare(left, right)
    assert rate(report, "recall@1").value == 0.9 and not report
    assert rate(report, "nearest has its label, candidate").value == 1.0
    single = replace(left, samples=tuple(replace(s, label=i) for i, s in enumerate(left.samples)))
    assert rate(compare(single, single), "nearest has its label, reference").value == 0.0
    scaled = replace(left, outputs={"out 0": [3 * v for v in pairs]}, created="later")
    assert compare(left, scaled)


def test_points_within_a_cell() -> None:
    heatmaps = np.zeros((4, 1, 5, 16, 12), "float32")
    for sample in heatmaps:
        for heatmap in sample[0]:
            heatmap[RANDOM.integers(2, 14), RANDOM.integers(2, 10)] = 0.9
    far = heatmaps.copy()
    far[2, 0, 1] = np.roll(far[2, 0, 1], 2, 0)
    report = compare(of("keypoints", list(heatmaps)), of("keypoints", list(far)))
    points = rate(report, "points")
    assert (points.value, points.units) == (19 / 20, 20) and report.disagreeing == ("s2",)
    near = compare(of("keypoints", list(heatmaps)), of("keypoints", list(np.roll(heatmaps, 1, 3))))
    assert near and near.scores and near.scores.figures["largest distance in cells"] == 1


def test_nan_and_a_dead_output_fail_whatever_the_task_says() -> None:
    bad = [value.copy() for value in MASKS]
    bad[3][0, 0, 0, 0] = np.nan
    report = compare(of("segmentation", MASKS), of("segmentation", bad))
    assert not report and "NaN or Inf" in report.failures[0]
    vectors = list(RANDOM.standard_normal((6, 1, 8)).astype("float32"))
    dead = compare(of("embedding", vectors), of("embedding", vectors[:1] * 6))
    assert "does not move" in " ".join(dead.failures)


def test_heads_in_another_form_are_judged_by_their_tensors(tmp_path: Path) -> None:
    heads = [RANDOM.standard_normal((1, 80, 40)).astype("float32") for _ in range(4)]
    report = compare(of("detection", heads), of("detection", heads))
    assert report and report.rates == ()
    (note,) = [text for text in report.warnings if "not judged by its task" in text]
    assert "non-maximum suppression" in note
    assert not compare(of("detection", heads), of("detection", [v * 1.1 for v in heads]))
    with pytest.raises(DataError, match="non-maximum suppression"):
        compare(of("detection", heads), of("detection", heads), truth=tmp_path / "x.json")


def test_a_conversion_is_judged_by_boxes_only_where_tensors_differ() -> None:
    def judged(reference: Run, answers: Run) -> Report:
        models = SimpleNamespace(recipe=SimpleNamespace(name="fp32"))
        case = Case(Any, models, [], 2, reference, QUIET, limits_for("fp32"))  # type: ignore[arg-type]
        vars(case)["noise"] = dict.fromkeys(reference.outputs, 0.0)
        return case.compared(reference, answers)

    reference = of("detection", BOXES)
    assert judged(reference, of("detection", BOXES)).scores is None
    swapped = judged(reference, of("detection", [rows[::-1].copy() for rows in BOXES]))
    assert swapped and swapped.scores
    assert not judged(reference, of("detection", [rows * 1.2 for rows in BOXES]))
    # Masks that are alike in most pixels are no proof of a conversion.
    near = judged(of("segmentation", MASKS), of("segmentation", [m * 1.1 for m in MASKS]))
    assert not near and near.scores is None


def test_runs_of_different_tasks_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different tasks: segmentation and keypoints"):
        compare(of("segmentation", MASKS), of("keypoints", MASKS))
    unsaid = replace(of("segmentation", MASKS), task=None)
    assert compare(of("segmentation", MASKS), unsaid).scores
    assert compare(unsaid, of("segmentation", MASKS)).scores
    assert compare(unsaid, unsaid).scores is None
    (tmp_path / "list.txt").write_text("s0 1\ns1 2\n")
    with pytest.raises(UsageError, match=r"list.txt: classes are labels of runs whose outputs are"):
        compare(unsaid, unsaid, truth=tmp_path / "list.txt")


def test_limits_of_a_task() -> None:
    assert task_limits_for("detection", "fp32") == {"boxes": 0.99, "map_drop": 0.5}
    assert task_limits_for("detection", "int8")["map_drop"] > 0.5
    assert task_limits_for("detection", "fp32", boxes=0.8)["boxes"] == 0.8
    with pytest.raises(UsageError, match="no limit 'lines': it has boxes, map_drop"):
        task_limits_for("detection", "fp32", lines=0.8)
    with pytest.raises(UsageError, match="is a number"):
        task_limits_for("detection", "fp32", boxes=float("nan"))


def test_classes_have_intervals_too() -> None:
    labels = [int(row.argmax()) for row in LOGITS]
    report = compare(made(LOGITS, labels), made(LOGITS, labels), limits=Limits(0.0))
    agreement = rate(report, "top-1 agreement")
    assert (agreement.value, agreement.units) == (1.0, 20) and 0.8 < agreement.low < 0.9
    assert rate(report, "top-5 accuracy, candidate").units == 20
    lost = rate(report, "top-1 accuracy, points lost")
    assert lost.value == 0 and lost.high > 10  # nobody saw a loss in 20, yet
    worse = [np.roll(row, 1) if i < 3 else row for i, row in enumerate(LOGITS)]
    limits = Limits(0.0, top1_drop=1.0)
    lost = rate(compare(made(LOGITS, labels), made(worse, labels), limits=limits), lost.name)
    assert lost.value == 15 and lost.low < 15 < lost.high and lost.broken and lost.more


def test_the_report_says_when_the_data_are_too_few(tmp_path: Path) -> None:
    runs = reading(LINES[:1]), reading([v * 1.1 for v in LINES[:1]])
    report = compare(*runs)
    assert report and verdict(report) == "PASSED on 1 samples"
    said = [text for text in report.warnings if text.startswith("lines read alike")]
    assert "380 more samples would decide" in said[0]
    header, rows = rows_of(report)["Task: text-recognition"]
    assert header[-1] == "more needed" and rows[0][-1] == "380"
    assert rows[0][:2] == ("lines read alike", "100.00%")
    page = page_of(*runs)
    assert "Task: text-recognition" in page and "380" in page
    assert len(list(view(report))) > 3


def test_the_command_judges_by_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["paddle-edge", "compare", left, right, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, error = capfd.readouterr()
        return int(ended.value.code or 0), out, error

    other = [rows[::-1].copy() for rows in BOXES]
    left = str(of("detection", BOXES).save(tmp_path / "a.run"))
    right = str(of("detection", other).save(tmp_path / "b.run"))
    truth = str(coco(tmp_path / "instances.json", BOXES))
    code, out, error = command("--truth", truth, "--json")
    assert code == 0, error
    document = json.loads(out)
    assert document["scores"]["task"] == "detection"
    assert [r["name"] for r in document["rates"]][-1] == "mAP, points lost"
    code, out, _ = command("--truth", truth, "--task-limit", "map_drop=-1")
    assert code == 1 and "Task: detection" in out
    code, _, error = command("--task-limit", "boxes=1.5")
    assert code == 2 and "the limit boxes is a number, 0 to 1, not 1.5" in error
    code, _, error = command("--task-limit", "boxes")
    assert code == 2 and "such as boxes=0.95" in error


def on_disk(folder: Path, run: Run) -> Run:
    """The run as it is read, its samples in a file of their own."""
    folder.mkdir()
    run.write(folder, most_inline=0)
    return Run.open(folder)


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("classification", [np.abs(v) / np.abs(v).sum() for v in LOGITS]),
        ("detection", BOXES),
        ("segmentation", MASKS),
        ("embedding", [v[:, :9] for v in LOGITS]),
        ("keypoints", list(np.random.default_rng(1).random((8, 1, 17, 9, 8), "float32"))),
        ("tensor", MASKS),
    ],
)
def test_runs_of_files_are_judged_as_those_in_memory(
    task: str, values: list[np.ndarray], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    others = [(v * random.uniform(0.8, 1.2, v.shape)).astype(v.dtype) for v in values]
    server, edge = of(task, values), replace(of(task, others), created="other")
    report = compare(server, edge)
    assert report.disagreeing or task in ("tensor", "embedding")
    opened = on_disk(tmp_path / "a", server), on_disk(tmp_path / "b", edge)
    assert compare(*opened).to_json() == report.to_json()
    pages = [page_of(*runs, report=report) for runs in ((server, edge), opened)]
    assert pages[0] == pages[1]


def test_embeddings_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    rows = [random.standard_normal((1, 6)).astype("float32") for _ in range(50)]
    rows[20:24] = [rows[3]] * 4  # as near as each other: the first is the nearest
    labels = [int(n) if n % 5 else None for n in random.integers(0, 9, 50)]
    server = of("embedding", rows)
    samples = tuple(replace(s, label=n) for s, n in zip(server.samples, labels))
    server = replace(server, samples=samples)
    others = [v + random.normal(0, 0.4, v.shape).astype("float32") for v in rows]
    edge = replace(of("embedding", others), samples=samples)
    whole = compare(server, edge)
    likeness = (
        np.concatenate([v / np.linalg.norm(v) for v in others])
        @ np.concatenate([v / np.linalg.norm(v) for v in rows]).astype("float64").T
    )
    found = (likeness > np.diag(likeness)[:, None] + 1e-6).sum(1) == 0
    assert rate(whole, "recall@1").value == found.mean()
    for name, value in (("_ASKED", 7), ("_BLOCK", 5), ("_MOST_BYTES", 0)):
        monkeypatch.setattr(embedding, name, value)
    again = compare(server, edge)
    assert again.rates == whole.rates and again.disagreeing == whole.disagreeing
    assert len(whole.rates) == 8
