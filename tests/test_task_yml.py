"""The files that Paddle's kits export beside a model: read to the last step, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from py_runner.data.image import ImageSpec
from py_runner.data.inference_yml import read_image, read_label_list, read_task
from py_runner.data.labels import check_labels
from py_runner.data.mentions import with_mentioned
from py_runner.data.task_spec import OPTIONS, task_spec
from py_runner.data.yml_steps import UnsupportedError
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.tensors import TensorSpec

MEAN, STD, HALF = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.5, 0.5, 0.5)

PICODET = """
mode: paddle
draw_threshold: 0.5
metric: COCO
use_dynamic_shape: false
arch: GFL
min_subgraph_size: 3
Preprocess:
- interp: 2
  keep_ratio: false
  target_size: [320, 416]
  type: Resize
- is_scale: true
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  type: NormalizeImage
- type: Permute
- stride: 32
  type: PadStride
label_list: [person, bicycle, 7]
NMS:
  {keep_top_k: 100, name: MultiClassNMS, nms_threshold: 0.6, nms_top_k: -1, score_threshold: 0.025}
fpn_stride: [8, 16, 32, 64]
"""

PPYOLOE = """
draw_threshold: 0.3
arch: YOLO
Preprocess:
- {type: Resize, interp: 1, keep_ratio: true, target_size: 640}
- {type: Pad, size: [640, 640], fill_value: [114.0, 114.0, 114.0]}
- {type: NormalizeImage, is_scale: true, mean: [0.0, 0.0, 0.0], norm_type: none, std: [1, 1, 1]}
- {type: Permute}
"""

SEGMENTER = """
Deploy:
  input_shape: [-1, 3, -1, -1]
  model: model.pdmodel
  output_dtype: int32
  output_op: argmax
  params: model.pdiparams
  transforms:
  - {type: Resize, target_size: [1024, 512]}
  - {type: Normalize, mean: [0.4, 0.5, 0.6], std: [0.5]}
"""

OCR_DET = """
Global: {model_name: PP-OCRv4_mobile_det}
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - DetLabelEncode: null
  - DetResizeForTest: {resize_long: 960}
  - NormalizeImage:
      mean: [0.485, 0.456, 0.406]
      order: hwc
      scale: 1./255.
      std: [0.229, 0.224, 0.225]
  - ToCHWImage: null
  - KeepKeys: {keep_keys: [image, shape, polys, ignore_tags]}
PostProcess:
  name: DBPostProcess
  thresh: 0.3
  box_thresh: 0.6
  max_candidates: 1000
  unclip_ratio: 1.5
"""

OCR_REC = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - MultiLabelEncode: {gtc_encode: NRTRLabelEncode}
  - RecResizeImg: {image_shape: [3, 48, 320]}
  - KeepKeys: {keep_keys: [image, label_ctc, label_gtc, length, valid_ratio]}
PostProcess:
  name: CTCLabelDecode
  character_dict: [a, '　', 7, "'"]
"""


def written(folder: Path, text: str, name: str = "inference.yml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_detector(tmp_path: Path) -> None:
    path = written(tmp_path, PICODET)
    assert read_image(path) == ImageSpec(
        resize="exact", size=(320, 416), interpolation="cv2-cubic", stride=32, wide=True,
        mean=MEAN, std=STD,
    )  # fmt: skip
    assert read_label_list(path) == ["person", "bicycle", "7"]
    assert read_task(path) == {
        "name": "detection",
        "arch": "GFL",
        "threshold": 0.5,
        "score_threshold": 0.025,
        "nms_threshold": 0.6,
        "nms_top_k": 0,
        "keep_top_k": 100,
        "strides": [8, 16, 32, 64],
    }


def test_anchors_and_keypoints(tmp_path: Path) -> None:
    head = "Preprocess:\n- {type: Permute}\n"
    anchors = written(tmp_path, head + "arch: YOLO\nanchors: [[10, 13], [16, 30]]\n")
    assert read_task(anchors) == {"name": "detection", "arch": "YOLO", "anchors": [10, 13, 16, 30]}
    for more, dark in (("", True), ("use_dark: false\n", False)):
        path = written(tmp_path, f"{head}arch: HRNet\nmetric: KeyPointTopDownCOCOEval\n{more}")
        assert read_task(path) == {"name": "keypoints", "arch": "HRNet", "dark": dark}


def test_a_detector_that_keeps_the_ratio_and_pads(tmp_path: Path) -> None:
    path = written(tmp_path, PPYOLOE)
    assert read_image(path) == ImageSpec(
        resize="fit", size=(640, 640), canvas=(640, 640), fill=(114, 114, 114), wide=True,
        mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    assert read_label_list(path) is None
    assert read_task(path) == {"name": "detection", "arch": "YOLO", "threshold": 0.3}


def detector(tmp_path: Path, *steps: str) -> ImageSpec | None:
    first = [step for step in steps if "PadStride" not in step]
    last = [step for step in steps if step not in first]
    lines = "".join(f"- {{{step}}}\n" for step in (*first, "type: Permute", *last))
    return read_image(written(tmp_path, "Preprocess:\n" + lines))


def test_what_the_steps_of_a_detector_mean_by_default(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"scale": 1.0, "mean": (0, 0, 0), "std": (1, 1, 1), "wide": True}
    assert detector(tmp_path) == ImageSpec("none", None, **plain)
    assert detector(tmp_path, "type: Resize, target_size: 5") == ImageSpec("fit", (5, 5), **plain)
    for number, mode in enumerate(("cv2-nearest", "cv2-linear", "cv2-cubic")):
        spec = detector(tmp_path, f"type: Resize, target_size: 5, interp: {number}")
        assert spec is not None and spec.interpolation == mode
    assert detector(tmp_path, "type: LetterBoxResize, target_size: [3, 4]") == ImageSpec(
        "letterbox", (3, 4), interpolation="cv2-area", fill=(128, 128, 128), **plain
    )
    normalized = detector(tmp_path, "type: NormalizeImage, mean: [1, 2, 3], std: [4, 5, 6]")
    assert normalized == ImageSpec("none", None, mean=(1, 2, 3), std=(4, 5, 6), wide=True)
    bytes_ = detector(
        tmp_path, "type: NormalizeImage, mean: [1, 2, 3], std: [4, 5, 6], is_scale: false"
    )
    assert bytes_ is not None and bytes_.scale == 1 and bytes_.mean == (1, 2, 3)
    stride = detector(tmp_path, "type: Resize, target_size: 5", "type: PadStride, stride: 0")
    assert stride is not None and stride.stride == 1
    padded = detector(tmp_path, "type: PadStride, stride: 32")
    assert padded is not None and padded.stride == 32


def test_a_segmenter(tmp_path: Path) -> None:
    path = written(tmp_path, SEGMENTER, "deploy.yaml")
    expected = ImageSpec(
        resize="exact", size=(512, 1024), interpolation="cv2-linear-f32", scale=1.0, divisor=255.0,
        mean=(0.4, 0.5, 0.6), std=HALF, wide=True,
    )  # fmt: skip
    assert read_image(path) == expected
    assert read_image(tmp_path) == expected
    assert read_task(path) == {"name": "segmentation", "output_op": "argmax"}


@pytest.mark.parametrize(
    ("transform", "resize", "size"),
    [
        ("{type: ResizeByLong, long_size: 7}", "long", 7),
        ("{type: ResizeByShort, short_size: 7}", "short", 7),
        ("{type: LimitLong, max_long: 7}", "within", (1, 7)),
        ("{type: LimitLong, min_long: 7, max_long: 9}", "within", (7, 9)),
        ("{type: LimitLong, min_long: 7}", "within", (7, 65536)),
        ("{type: Resize}", "exact", (512, 512)),
    ],
)
def test_the_resizes_of_a_segmenter(tmp_path: Path, transform: str, resize: str, size: Any) -> None:
    spec = read_image(written(tmp_path, "Deploy: {transforms: [" + transform + "]}"))
    assert spec is not None and (spec.resize, spec.size) == (resize, size)
    assert (spec.mean, spec.std, spec.scale, spec.divisor) == ((0, 0, 0), (1, 1, 1), 1, 1)


def test_a_segmenter_that_pads(tmp_path: Path) -> None:
    padding = "Deploy: {transforms: [{type: Padding, target_size: [8, 9]}, {type: Normalize}]}"
    spec = read_image(written(tmp_path, padding))
    assert spec is not None and spec.canvas == (9, 8) and spec.fill == (127.5, 127.5, 127.5)
    assert (spec.mean, spec.std, spec.divisor) == (HALF, HALF, 255)


def test_text_detection(tmp_path: Path) -> None:
    path = written(tmp_path, OCR_DET)
    assert read_image(path) == ImageSpec(resize="page-long", size=960, color="BGR")
    assert read_task(path) == {
        "name": "text-detection",
        "threshold": 0.3,
        "box_threshold": 0.6,
        "max_candidates": 1000,
        "unclip_ratio": 1.5,
    }
    assert read_label_list(path) is None


@pytest.mark.parametrize(
    ("options", "resize", "size"),
    [
        ("null", "page-min", 736),
        ("{limit_side_len: 640}", "page-min", 640),
        ("{limit_side_len: 960, limit_type: max}", "page-max", 960),
        ("{resize_long: 5, limit_side_len: 960, limit_type: max}", "page-max", 960),
        ("{image_shape: [736, 1280], resize_long: 5}", "exact", (736, 1280)),
    ],
)
def test_the_sizes_of_pages(tmp_path: Path, options: str, resize: str, size: Any) -> None:
    spec = read_image(written(tmp_path, OCR_DET.replace("{resize_long: 960}", options)))
    assert spec is not None and (spec.resize, spec.size) == (resize, size)


def test_a_picture_is_not_turned_where_the_file_says_so(tmp_path: Path) -> None:
    turned = "img_mode: BGR, ignore_orientation: true"
    spec = read_image(written(tmp_path, OCR_DET.replace("img_mode: BGR", turned)))
    assert spec is not None and not spec.upright


def test_text_recognition(tmp_path: Path) -> None:
    path = written(tmp_path, OCR_REC)
    line = ImageSpec(
        resize="line", size=(48, 320), color="BGR", scale=1.0, divisor=255.0, mean=HALF, std=HALF
    )
    assert read_image(path) == line
    assert read_task(path) == {"name": "text-recognition", "use_space_char": True}
    assert read_label_list(path) == ["a", "　", "7", "'"]
    direction = OCR_REC.replace("RecResizeImg", "ClsResizeImg").replace(
        "CTCLabelDecode", "ClsPostProcess"
    )
    spec = read_image(written(tmp_path, direction))
    assert spec is not None and spec.resize == "pad" and spec.mean == HALF
    assert read_task(path) == {"name": "classification"}


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (PICODET, "type: Resize", "type: WarpAffine", "step 'WarpAffine' is not"),
        (PICODET, "interp: 2", "interp: 4", "interp=4"),
        (PICODET, "interp: 2", "max_size: 2", "unsupported option 'max_size'"),
        (PICODET, "- type: Permute\n", "", "without the step 'Permute'"),
        (PPYOLOE, "interp: 1", "interp: 3", "fit is not known with cv2-area"),
        (SEGMENTER, "type: Resize", "type: RandomPaddingCrop", "'RandomPaddingCrop' is not"),
        (SEGMENTER, "type: Resize,", "type: Resize, keep_ratio: true,", "keep_ratio=True"),
        (SEGMENTER, "type: Resize,", "type: Resize, interp: CUBIC,", "interp='CUBIC'"),
        (
            SEGMENTER,
            "  - {type: Norm",
            "  - {type: LimitLong, max_long: 9}\n  - {type: Norm",
            "Resize and LimitLong stand together",
        ),
        (OCR_DET, "DetResizeForTest", "E2EResizeForTest", "op 'E2EResizeForTest' is not"),
        (OCR_DET, "resize_long: 960", "limit_side_len: 9, limit_type: no", "limit_type=False"),
        (OCR_DET, "img_mode: BGR", "img_mode: GRAY", "img_mode='GRAY'"),
        (OCR_REC, "[3, 48, 320]", "[1, 32, 100]", "1 channels"),
        (OCR_REC, "RecResizeImg", "SARRecResizeImg", "op 'SARRecResizeImg'"),
        (OCR_REC, "  - KeepKeys", "  - ToCHWImage:\n  - KeepKeys", "stands twice or in"),
        (OCR_REC, "  - MultiLabel", "  - ToCHWImage:\n  - MultiLabel", "does not stand alone"),
    ],
)
def test_a_step_that_cannot_be_followed_is_named_with_the_way_out(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    assert old in text
    path = written(tmp_path, text.replace(old, new))
    with pytest.raises(UnsupportedError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "--image" in str(caught.value) or "NHWC" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (PICODET, "mean: [0.485", "mean: [[0.485]", "not a number"),
        (PICODET, "[320, 416]", "[1, 2, 3]", "one number or two"),
        (PICODET, "- type: Permute", "- Permute", "which is no step"),
        (PICODET, "label_list: [person,", "label_list: [[],", "label_list is no list"),
        (SEGMENTER, "std: [0.5]", "std: 0.5", "std is no list"),
        (SEGMENTER, "{type: Resize,", "{kind: Resize,", "which is no transform"),
        (OCR_DET, "{resize_long: 960}", "{image_shape: 3}", "image_shape is 3"),
        (OCR_REC, "[3, 48, 320]", "[48, 320]", "image_shape is"),
        (OCR_REC, "[a, '", "[[], '", "character_dict is no list"),
    ],
)
def test_a_broken_file_is_an_error(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    assert old in text
    path = written(tmp_path, text.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
        read_label_list(path)
    assert str(path) in str(caught.value) and not isinstance(caught.value, UnsupportedError)


def test_a_task_that_is_not_known_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path, OCR_REC.replace("CTCLabelDecode", "SARLabelDecode"))
    with pytest.raises(UnsupportedError, match=r"'SARLabelDecode' is not supported.*--task"):
        read_task(path)
    path = written(tmp_path, OCR_DET.replace("thresh: 0.3", "thresh: high"))
    with pytest.raises(UnsupportedError, match=r"threshold is 'high'.*--task"):
        read_task(path)
    path = written(tmp_path, OCR_DET.replace("thresh: 0.3", "thresh: .nan"))
    with pytest.raises(UnsupportedError, match="threshold is nan, not a finite"):
        read_task(path)
    path = written(tmp_path, SEGMENTER.replace("output_op: argmax", "output_op: 2020-01-01"))
    with pytest.raises(UnsupportedError, match=r"output_op is .*, which is no number, word"):
        read_task(path)
    keypoints = PICODET.replace("metric: COCO", "metric: KeyPointTopDownCOCOEval")
    task = read_task(written(tmp_path, keypoints))
    assert task is not None and task["name"] == "keypoints"
    assert read_task(written(tmp_path, "Global: {model_name: x}")) is None


def test_a_task_as_a_text() -> None:
    assert task_spec("tensor") == {"name": "tensor"}
    assert task_spec("detection, threshold=0.5,nms_top_k=100, arch=YOLO,strides=8x16x32") == {
        "name": "detection",
        "threshold": 0.5,
        "nms_top_k": 100,
        "arch": "YOLO",
        "strides": [8, 16, 32],
    }
    assert task_spec("text-recognition,use_space_char=off")["use_space_char"] is False
    for name in OPTIONS:
        assert task_spec(name) == {"name": name}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detektion", "'detektion' is not known: it is one of classification, detection"),
        ("detection,threshold", "'threshold' is no KEY=VALUE"),
        ("detection,threshold=1,threshold=1", "given twice"),
        ("detection,unclip_ratio=1", "does not take unclip_ratio; it takes threshold"),
        ("detection,threshold=high", "threshold is 'high', not a number"),
        ("detection,threshold=-1", "threshold is -1, not a number"),
        ("embedding,threshold=1", "it takes no options"),
    ],
)
def test_a_text_that_is_no_task(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task_spec(text)


def test_labels_are_counted_as_the_task_says() -> None:
    def outputs(classes: int) -> list[TensorSpec]:
        return [TensorSpec("y", "float32", (-1, 40, classes))]

    names = ["a", "b", "c"]
    check_labels(names, outputs(3))
    check_labels(names, outputs(6), {"name": "detection"})
    check_labels(names, outputs(5), {"name": "text-recognition"})
    check_labels(names, outputs(4), {"name": "text-recognition", "use_space_char": False})
    with pytest.raises(UsageError, match="3 labels for a model of 6 classes"):
        check_labels(names, outputs(6))
    with pytest.raises(UsageError, match="3 characters for a model of 4, a blank and a space"):
        check_labels(names, outputs(6), {"name": "text-recognition"})


def test_a_source_takes_what_lies_beside_it_and_what_it_is_told(
    model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "m"))
    for name in ("inference.yml", "infer_cfg.yml", "deploy.yaml"):
        (copy / name).unlink(missing_ok=True)
    program = load(copy)
    assert Source.of(program).task is None
    written(copy, SEGMENTER, "deploy.yaml")
    assert Source.of(program).task == {"name": "segmentation", "output_op": "argmax"}
    written(copy, PPYOLOE, "infer_cfg.yml")
    source = Source.of(program)
    assert source.task is not None and source.task["arch"] == "YOLO" and source.image is not None
    assert Source.of(program, task="tensor").task == {"name": "tensor"}
    written(copy, OCR_DET.replace("DetResizeForTest", "Crop").replace("DBPost", "EASTPost"))
    warning = Source.of(program).warning
    assert "preprocessing is left out: " in warning and "op 'Crop'" in warning
    assert "the task is left out: " in warning and "'EASTPostProcess'" in warning


def test_what_a_file_beside_a_model_mentions(tmp_path: Path) -> None:
    labels = written(tmp_path, "a\n", "labels.txt")
    written(tmp_path, "PostProcess: {Topk: {class_id_map_file: labels.txt}}", "deploy.yaml")
    assert labels in with_mentioned([tmp_path])
    assert labels in with_mentioned([tmp_path / "inference.pdmodel"])


def test_a_bundle_says_its_task(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "b"))
    manifest = copy / "bundle.json"
    document = json.loads(manifest.read_text())
    document.pop("task", None)

    def opened(**fields: Any) -> Bundle:
        manifest.write_text(json.dumps({**document, **fields}))
        return Bundle.open(copy)

    assert opened().task is None
    opened().write(copy)
    assert "task" not in json.loads(manifest.read_text())
    task = {"name": "detection", "threshold": 0.5}
    assert opened(task=task).task == task
    opened(task=task).write(copy)
    assert json.loads(manifest.read_text())["task"] == task
    for bad in ({"name": "divination"}, {"name": "detection", "threshold": "a"}, {}, "detection"):
        with pytest.raises(ModelError, match=r"damaged.*task"):
            opened(task=bad)
