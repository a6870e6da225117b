"""A small detector and a small segmenter, trained on rendered shapes: what int8 costs them by their
task, and faults planted in them, each of which is found in the step where it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.conversion.losses import layer_losses
from lite_opt.demo.shapes import SHAPES, shape_pictures, write_shape_pictures
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.rates import Rate
from lite_opt.model.load import load, save
from lite_opt.recipes import recipe
from lite_opt.subject import opened
from py_runner.data import image
from py_runner.data.resize import resize_cv2_linear, resize_cv2_linear_f32
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.pipeline.alone import fed_as

MODELS = Path(__file__).with_name("shapes")
COUNT = 60
TRUTH = {"detector": "instances.json", "segmenter": "masks.txt"}


@dataclass(frozen=True)
class Setting:
    """Pictures with labels, both models as bundles in fp32, and what the server answers."""

    data: Path
    bundles: dict[str, Path]
    servers: dict[str, Run]

    def on_edge(self, bundle: Path, kind: str, **how: Any) -> Run:
        """What a bundle answers, fed the server's tensors as well."""
        with opened(bundle, **how) as subject:
            images = self.data / "images"
            done = run(subject.model, subject.samples(images))
            fed = fed_as(subject.model, images, done, self.servers[kind])
        return replace(done, fed=fed)

    def judged(self, edge: Run, kind: str) -> Report:
        return compare(self.servers[kind], edge, truth=self.data / TRUTH[kind])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("shapes")
    data = write_shape_pictures(folder / "data", count=COUNT, seed=2)
    bundles, servers = {}, {}
    for kind in TRUTH:
        bundles[kind] = folder / f"{kind}.bundle"
        assert convert(MODELS / kind, bundles[kind], samples=data / "images", target=("x86",))
        with opened(MODELS / kind) as subject:
            servers[kind] = run(subject.model, subject.samples(data / "images"), engine="paddle")
    return Setting(data, bundles, servers)


def rate(report: Report, name: str) -> Rate:
    (found,) = [r for r in report.rates if r.name == name]
    return found


def average_precision(found: Run, truth: Path) -> float:
    """At IoU 0.5, by pycocotools."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from py_runner.tasks.detection import boxes

    ids = {entry["file_name"]: entry["id"] for entry in json.loads(truth.read_text())["images"]}
    rows = [
        {
            "image_id": ids[sample.id],
            "category_id": int(kind) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        for sample, one in zip(found.samples, boxes(found))
        for kind, score, (x1, y1, x2, y2) in zip(one.classes, one.scores, one.corners.tolist())
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(truth))
        evaluation = COCOeval(labels, labels.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1])


def test_pictures_are_the_same_each_time_and_their_labels_lie_on_them() -> None:
    first, second = (list(shape_pictures(4, seed=7)) for _ in range(2))
    for a, b in zip(first, second):
        assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
        assert a.boxes and a.mask.shape == a.image.size[::-1]
        for kind, (x1, y1, x2, y2) in a.boxes:
            ys, xs = np.nonzero(a.mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] == kind + 1)
            assert abs(np.ptp(xs) + 1 - (x2 - x1)) < 3 and abs(np.ptp(ys) + 1 - (y2 - y1)) < 3


def test_both_models_have_learnt_and_are_small(setting: Setting) -> None:
    files = [file for kind in TRUTH for file in (MODELS / kind).iterdir()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for kind, name in (("detector", "mAP"), ("segmenter", "mIoU by labels")):
        edge = setting.on_edge(setting.bundles[kind], kind)
        report = setting.judged(edge, kind)
        assert report, report.failures
        assert report.culprit == "" and edge.fed is None
        lost = rate(report, f"{name}, points lost")
        assert abs(lost.value) < 0.1
    truth = setting.data / TRUTH["detector"]
    assert average_precision(setting.servers["detector"], truth) > 0.8
    assert rate(report, "mIoU by labels, candidate").value > 0.8
    assert setting.servers["detector"].labels == SHAPES


def altered(bundle: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle whose manifest says something else."""
    copy = out / bundle.name
    shutil.copytree(bundle, copy)
    document = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    change(document)
    (copy / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    return copy


@pytest.mark.parametrize("kind", list(TRUTH))
def test_another_order_of_the_colours(setting: Setting, tmp_path: Path, kind: str) -> None:
    wrong = altered(setting.bundles[kind], tmp_path, lambda d: d["image"].update(color="BGR"))
    report = setting.judged(setting.on_edge(wrong, kind), kind)
    assert not report
    assert report.culprit.startswith(f"preprocessing ({COUNT} of {COUNT} samples")
    assert "color is RGB in the reference and BGR in the candidate" in report.culprit
    # The graph is right on the server's own tensors.
    assert [step.name for step in report.steps if step.broken] == ["preprocessing"]
    assert report.steps[2].rate is not None and report.steps[2].rate.samples == COUNT


@pytest.mark.parametrize(
    ("kind", "name", "resize"),
    [
        ("detector", "resize_cv2_linear", resize_cv2_linear),
        ("segmenter", "resize_cv2_linear_f32", resize_cv2_linear_f32),
    ],
)
def test_a_resize_that_is_half_a_pixel_off(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, resize: Any
) -> None:
    def shifted(pixels: Any, height: int, width: int, **options: Any) -> Any:
        moved = (pixels[:, :-1].astype(int) + pixels[:, 1:]) // 2
        whole = np.concatenate([moved, pixels[:, -1:]], 1).astype(np.uint8)
        return resize(whole, height, width, **options)

    monkeypatch.setattr(image, name, shifted)
    report = setting.judged(setting.on_edge(setting.bundles[kind], kind), kind)
    assert not report and report.culprit.startswith("preprocessing (")
    assert "by the same settings, so that the code or a library of it is another" in report.culprit


def test_another_threshold(setting: Setting, tmp_path: Path) -> None:
    wrong = altered(
        setting.bundles["detector"], tmp_path, lambda d: d["task"].update(threshold=0.9)
    )
    report = setting.judged(setting.on_edge(wrong, "detector"), "detector")
    assert not report and report.culprit.startswith("post-processing (")
    assert "threshold is 0.5 in the reference and 0.9 in the candidate" in report.culprit
    assert [step.name for step in report.steps if step.broken] == ["post-processing"]


def test_another_threshold_of_the_suppression(setting: Setting, tmp_path: Path) -> None:
    """It is an operator of the graph."""
    program = load(MODELS / "detector")
    (op,) = [op for op in program.ops if op.type == "multiclass_nms3"]
    for name, value in (("nms_threshold", 0.0), ("score_threshold", 0.7)):
        op.set(name, value, op.attrs[name].type)
    report = setting.judged(
        setting.on_edge(made(program, "detector", tmp_path), "detector"), "detector"
    )
    assert not report and report.culprit.startswith("graph (")
    assert [step.name for step in report.steps if step.broken] == ["graph"]


@pytest.mark.parametrize("kind", list(TRUTH))
def test_a_wrong_weight(setting: Setting, tmp_path: Path, kind: str) -> None:
    program = load(MODELS / kind)
    name = next(n for n, value in program.params.items() if value.ndim == 4)
    value = np.array(program.params[name])
    value[0] *= -3
    program.params[name] = value
    report = setting.judged(setting.on_edge(made(program, kind, tmp_path), kind), kind)
    assert not report and report.culprit.startswith("graph (")
    assert [step.name for step in report.steps if step.broken] == ["graph"]


def made(program: Any, kind: str, folder: Path) -> Path:
    """A bundle of an altered model."""
    (folder / "model").mkdir()
    save(program, folder / "model")
    for file in (*(MODELS / kind).glob("*.yml"), *(MODELS / kind).glob("*.yaml")):
        shutil.copy(file, folder / "model")
    convert(folder / "model", folder / "wrong.bundle", target=("x86",), check=False)
    return folder / "wrong.bundle"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("detector", "mAP"), ("segmenter", "mIoU by labels")])
def test_int8_is_judged_and_searched_by_the_task(
    setting: Setting, tmp_path: Path, kind: str, name: str
) -> None:
    images, truth = setting.data / "images", setting.data / TRUTH[kind]
    done = convert(
        MODELS / kind,
        tmp_path / "int8.bundle",
        recipe=recipe("int8", max_drop=100.0),
        calibration=images,
        truth=truth,
        task_limits={"map_drop" if kind == "detector" else "miou_drop": 100.0},
    )
    assert done.float_layers is not None and done.float_layers.measure == name
    assert done.float_layers.layers == () and done.report is not None
    assert rate(done.report, f"{name}, points lost").limit == 100.0
    rates = Bundle.open(tmp_path / "int8.bundle").check["rates"]
    assert rates[f"{name}, reference"] > 0.5


@pytest.mark.slow
def test_layers_are_ranked_by_what_the_task_loses(setting: Setting) -> None:
    losses = layer_losses(
        MODELS / "segmenter", calibration=setting.data / "images", samples=8,
        truth=setting.data / "masks.txt",
    )  # fmt: skip
    assert {loss.measure for loss in losses} == {"mIoU by labels"}
    points = [loss.points for loss in losses if loss.points is not None]
    assert points == sorted(points, reverse=True) and points[0] > points[-1]
