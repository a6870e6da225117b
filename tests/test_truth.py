"""compare --truth: labels of each task in the forms that people have them in."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_golden as golden
import numpy as np
import pytest
from test_compare import LOGITS, made
from test_task_scores import BOXES, coco, rate
from test_tasks import of

from lite_opt.judge.compare import compare
from lite_opt.judge.tasks.keypoints import object_keypoint_similarity
from py_runner.data.image_text import image_spec
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run
from py_runner.tasks.keypoints import points

VOC = """<annotation><filename>{name}</filename>
<size><width>300</width><height>200</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>
<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"""


def voc_of(document: dict[str, Any], folder: Path) -> Path:
    """COCO's labels as a folder of VOC's."""
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    folder.mkdir()
    for image in document["images"]:
        objects = ""
        for entry in document["annotations"]:
            if entry["image_id"] == image["id"]:
                x, y, wide, high = entry["bbox"]
                objects += OBJECT.format(
                    name=names[entry["category_id"]],
                    difficult=entry["iscrowd"],
                    **{"x1": x, "y1": y, "x2": x + wide, "y2": y + high},
                )
        file = folder / f"{image['id']}.xml"
        file.write_text(VOC.format(name=image["file_name"].split("/")[1], objects=objects))
    return folder


def test_voc_says_what_coco_does(tmp_path: Path) -> None:
    few = BOXES[:8]
    truth = coco(tmp_path / "instances.json", few)
    run = of("detection", few, labels=("a", "b", "c"))
    wanted = compare(run, run, truth=truth)
    folder = voc_of(json.loads(truth.read_text()), tmp_path / "voc")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"images/s{i} voc/{100 - i}.xml\n" for i in range(len(few))))
    for form in (folder, listed):
        found = compare(run, run, truth=form)
        assert rate(found, "mAP, reference").value == pytest.approx(
            rate(wanted, "mAP, reference").value, abs=1e-9
        )
    assert 0.3 < rate(wanted, "mAP, reference").value < 1
    one = compare(run, run, truth=folder / "100.xml")
    assert rate(one, "mAP, reference").samples == 1
    odd = of("detection", few, labels=("zebra", "b", "c"))
    notes = [text for text in compare(odd, odd, truth=truth).warnings if "'zebra'" in text]
    assert notes and "1 of the model's 3 classes" in notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "not a file of XML"),
        (VOC.format(name="s0", objects="<object><name>a</name></object>"), "without a bndbox"),
        (VOC.format(name="", objects=""), "<annotation> without <filename>"),
    ],
)
def test_a_file_that_is_not_vocs_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s0.xml").write_text(text)
    run = of("detection", BOXES, labels=("a", "b", "c"))
    with pytest.raises(DataError, match=message):
        compare(run, run, truth=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.xml"):
        compare(run, run, truth=tmp_path / "empty")


def test_boxes_on_the_tensor_are_brought_to_the_picture(tmp_path: Path) -> None:
    """A network that is not fed the scale puts boxes on its tensor, and labels are on pictures."""
    truth = coco(tmp_path / "instances.json", BOXES)
    document = json.loads(truth.read_text())
    spec = image_spec("resize=exact:100x600,mean=0,std=1")
    shrunk = [np.c_[rows[:, :2], rows[:, 2:] * [2, 0.5, 2, 0.5]].astype("f") for rows in BOXES]
    plain = compare(of("detection", BOXES), of("detection", BOXES), truth=truth)
    run = replace(of("detection", shrunk), image=spec.to_json(), inputs=("image",))
    with pytest.raises(DataError, match="height and width of images/s0"):
        compare(run, run, truth=truth)
    document["images"] = [{**image, "height": 200, "width": 300} for image in document["images"]]
    truth.write_text(json.dumps(document))
    wanted = rate(plain, "mAP, reference").value
    assert rate(compare(run, run, truth=truth), "mAP, reference").value == pytest.approx(wanted)
    fed = replace(of("detection", BOXES), image=spec.to_json(), inputs=("image", "scale_factor"))
    assert rate(compare(fed, fed, truth=truth), "mAP, reference").value == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("resize=exact:50x100,mean=0,std=1", (30, 40)),
        ("resize=short:100,crop=80,mean=0,std=1", (30, 40)),
        ("resize=short:100,crop=80x70,stride=32,mean=0,std=1", (30, 40)),
        ("resize=letterbox:64x64,interpolation=cv2-area,mean=0,std=1", (30, 40)),
        ("resize=fit:64x64,canvas=80x80,mean=0,std=1", (30, 40)),
        ("resize=long:60,stride=32,mean=0,std=1", (30, 40)),
        ("resize=affine:128x96,mean=0,std=1", (30, 40)),
        ("resize=affine:96x160,mean=0,std=1", (50, 60)),
    ],
)
def test_points_go_to_the_picture_and_back(text: str, point: tuple[int, int]) -> None:
    """A white spot is found where it was, through each rule of resizing."""
    spec = image_spec(text)
    pixels = np.zeros((120, 90, 3), np.uint8)
    pixels[point[1] - 4 : point[1] + 4, point[0] - 4 : point[0] + 4] = 255
    tensor = spec.apply(pixels)[0, 0].astype(np.float64)
    tensor[tensor < 0.6 * tensor.max()] = 0  # letterbox fills with grey
    y, x = np.mgrid[: tensor.shape[0], : tensor.shape[1]] + 0.5
    spot = np.array([(tensor * x).sum(), (tensor * y).sum()]) / tensor.sum()
    assert spec.on_picture(spot, 120, 90) == pytest.approx(np.array(point), abs=0.8)
    half = (tensor.shape[0] // 2, tensor.shape[1] // 2)
    again = spec.on_picture(spot / 2, 120, 90, half)
    assert again == pytest.approx(np.array(point), abs=0.8)


def persons(path: Path, found: Sequence[np.ndarray], spread: float) -> Path:
    """COCO's keypoints: the points of runs on pictures of 96 x 128, marked a little beside."""
    random = np.random.default_rng(4)
    annotations = []
    for number, person in enumerate(found):
        placed = person[:, :2] * 4 + random.normal(0, spread, (17, 2))
        flags = random.integers(0, 3, 17)
        low, high = placed.min(0), placed.max(0)
        annotations.append(
            {
                "id": number + 1,
                "image_id": 50 - number,
                "category_id": 1,
                "keypoints": np.c_[placed, flags].ravel().tolist(),
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": float((high - low).prod() * 0.5),
            }
        )
    images = [
        {"id": 50 - i, "file_name": f"s{i}", "height": 128, "width": 96} for i in range(len(found))
    ]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "p"}],
    }
    path.write_text(json.dumps(document))
    return path


def official_ap(truth: Path, found: Sequence[np.ndarray]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    document = json.loads(truth.read_text())
    for entry in document["annotations"]:
        entry["iscrowd"] = 0
        entry["num_keypoints"] = sum(flag > 0 for flag in entry["keypoints"][2::3])
    answers = [
        {
            "image_id": 50 - i,
            "category_id": 1,
            "keypoints": np.c_[person[:, :2] * 4, np.ones(17)].ravel().tolist(),
            "score": float(person[person[:, 2] > 0.2, 2].mean()),
        }
        for i, person in enumerate(found)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = {"info": {}, **document}
        labels.createIndex()
        evaluation = COCOeval(labels, labels.loadRes(answers), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_keypoints_by_labels_are_scored_as_pycocotools_does(tmp_path: Path) -> None:
    values = [golden.made("heatmaps", number)[0] for number in range(12)]
    spec = image_spec("resize=exact:128x96,mean=0,std=1").to_json()
    moved = [np.roll(v, 1, axis=3) for v in values]
    server, edge = (
        replace(of("keypoints", v, dark=True), image=spec, inputs=("image",))
        for v in (values, moved)
    )
    truth = persons(tmp_path / "keypoints.json", points(server), 3.0)
    report = compare(server, edge, truth=truth)
    wanted = [official_ap(truth, points(run)) for run in (server, edge)]
    assert 0.1 < wanted[1] < wanted[0] < 1
    found = [rate(report, f"OKS AP, {who}").value for who in ("reference", "candidate")]
    assert found == pytest.approx(wanted, abs=1e-9)
    lost = rate(report, "OKS AP, points lost")
    assert lost.broken and lost.low < lost.value < lost.high
    with pytest.raises(DataError, match="does not say how pictures were fed"):
        compare(replace(server, image=None), server, truth=truth)
    few = replace(server, outputs={"out 0": [v[:, :5] for v in values]})
    with pytest.raises(DataError, match="and the model has 5"):
        compare(few, few, truth=truth)
    with pytest.raises(DataError, match="COCO's form"):
        compare(server, edge, truth=coco(tmp_path / "boxes.json", BOXES))


def test_the_similarity_of_points_by_hand() -> None:
    truth = np.zeros((17, 3))
    truth[[1, 9], :2] = (0, 0), (100, 50)
    seen = np.isin(np.arange(17), [1, 9])
    assert object_keypoint_similarity(truth, truth, seen) == 1
    moved = truth + np.array([3, 4, 0])
    parts = [np.exp(-25 / (2 * 5000 * 0.53 * (2 * k) ** 2)) for k in (0.025, 0.062)]
    assert object_keypoint_similarity(truth, moved, seen) == pytest.approx(np.mean(parts))


def test_keypoints_of_several_persons_are_refused_in_words() -> None:
    run: Run = of("keypoints", golden.made("heatmaps", 0), arch="HigherHRNet")
    with pytest.raises(DataError, match="finds several persons by tags"):
        points(run)


def test_classes_of_a_list(tmp_path: Path) -> None:
    best = [int(row.argmax()) for row in LOGITS]
    path = tmp_path / "val_list.txt"
    path.write_text("".join(f"val/s{i} {(c + (i < 5)) % 50}\n" for i, c in enumerate(best[:-2])))
    report = compare(made(LOGITS), made(LOGITS), truth=path)
    assert report.accuracy is not None and report.accuracy["labelled"] == len(best) - 2
    assert report.accuracy["reference_top1"] == pytest.approx(1 - 5 / (len(best) - 2))
    features = of("embedding", list(LOGITS))
    groups = tmp_path / "groups.txt"
    groups.write_text("".join(f"s{i}\t{i % 2}\n" for i in range(len(best))))
    labelled = compare(features, features, truth=groups)
    names = [r.name for r in labelled.rates]
    assert "nearest has its label, points lost" in names and "recall@5" in names
    assert (
        rate(labelled, "one of 5 nearest has its label, candidate").value
        > rate(labelled, "nearest has its label, candidate").value
    )
    path.write_text("nothing here\n")
    with pytest.raises(DataError, match="is no list NAME CLASS"):
        compare(made(LOGITS), made(LOGITS), truth=path)
    path.write_text("other.jpg 3\n")
    with pytest.raises(DataError, match="label of no sample"):
        compare(made(LOGITS), made(LOGITS), truth=path)
    with pytest.raises(UsageError, match="not for a run of task tensor"):
        compare(of("tensor", [LOGITS[0]]), of("tensor", [LOGITS[0]]), truth=path)
