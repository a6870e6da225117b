"""Writes tests/golden: what the official implementations say of the inputs of tests/make_golden.py.

    python benchmarks/golden.py --detection DIR --segmentation DIR --reading DIR

The folders are PaddleDetection (with ppdet and deploy/python), PaddleSeg (with paddleseg) and
PaddleOCR (with ppocr, which lies in the folder paddleocr of its package). What is checked in was
made by their commits 666f597 and d7975e7 and by paddleocr 2.10.0. Their own code and Paddle's
operators yolo_box, prior_box and multiclass_nms compute everything, nothing of this project does.
Needs paddlepaddle, opencv-python-headless 4.6 (what PaddleDetection asks for: 5 warps otherwise)
and what ppdet imports (pycocotools, scipy, shapely, typeguard, visualdl, terminaltables,
scikit-learn, imgaug, setuptools below 81).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import make_golden as golden  # noqa: E402

Rows = np.ndarray[Any, Any]


def suppressed(boxes: Any, scores: Any, background: int = -1, **options: Any) -> Rows:
    """PaddleDetection's MultiClassNMS: class, score, x1, y1, x2, y2."""
    from ppdet.modeling.layers import MultiClassNMS

    rows, _, _ = MultiClassNMS(**options)(boxes, scores, background_label=background)
    return np.asarray(rows.numpy(), np.float32)


def decoded(values: golden.Arrays) -> Rows:
    """As PicoDet with `export.nms=False`, or PP-YOLOE with `exclude_nms`, leaves it."""
    import paddle

    boxes, scores = map(paddle.to_tensor, values)
    return suppressed(boxes, scores, **OPTIONS)


def joined(values: golden.Arrays) -> Rows:
    """As PP-YOLOE with `exclude_post_process` leaves it."""
    import paddle

    whole = paddle.to_tensor(values[0])
    return suppressed(whole[..., :4], whole[..., 4:].transpose([0, 2, 1]), **OPTIONS)


def picodet(values: golden.Arrays) -> Rows:
    """deploy/python/picodet_postprocess.py."""
    from picodet_postprocess import PicoDetPostProcess

    half = len(values) // 2
    decoder = PicoDetPostProcess(
        golden.SIDES, [golden.SIDES], np.ones((1, 2), np.float32), list(golden.STRIDES)
    )
    rows, _ = decoder(values[:half], values[half:])
    return np.asarray(rows, np.float32).reshape(-1, 6)


def yolo(values: golden.Arrays) -> Rows:
    """YOLOBox and MultiClassNMS of YOLOv3."""
    import paddle
    from ppdet.modeling.layers import YOLOBox

    several = np.array(golden.ANCHORS).reshape(3, -1)[::-1].tolist()
    box = YOLOBox(golden.CLASSES, scale_x_y=1.05)
    size = paddle.to_tensor([golden.SIDES], "float32")
    boxes, scores = box([paddle.to_tensor(v) for v in values], several, size, paddle.ones([1, 2]))
    return suppressed(boxes, scores, **OPTIONS)


def ssd(values: golden.Arrays) -> Rows:
    """AnchorGeneratorSSD, SSDBox and MultiClassNMS of SSDLite."""
    import paddle
    from ppdet.modeling.layers import AnchorGeneratorSSD, SSDBox

    high, wide = golden.SIDES
    features = [
        paddle.zeros([1, 1, -(-high // step), -(-wide // step)]) for step in golden.PRIORS["steps"]
    ]
    priors = AnchorGeneratorSSD(clip=True, **golden.PRIORS)(
        features, paddle.zeros([1, 3, high, wide])
    )
    half = len(values) // 2
    tensors = [paddle.to_tensor(v) for v in values]
    size = paddle.to_tensor([golden.SIDES], "float32")
    boxes, scores = SSDBox()((tensors[:half], tensors[half:]), priors, size, paddle.ones([1, 2]))
    return suppressed(boxes, scores, background=golden.CLASSES, **OPTIONS)


def points(values: golden.Arrays, *, dark: bool) -> Rows:
    """deploy/python/keypoint_postprocess.py, on a picture of the heatmap's size."""
    from keypoint_postprocess import HRNetPostProcess

    size = np.array([values[0].shape[:1:-1]], np.float64)
    found, _ = HRNetPostProcess(use_dark=dark)(values[0].copy(), size / 2, size / 200)
    return np.asarray(found[0], np.float32)


def masks(values: golden.Arrays) -> Rows:
    """Paddle's argmax, which PaddleSeg's export ends with."""
    import paddle

    return np.asarray(paddle.argmax(paddle.to_tensor(values[0]), axis=1)[0].numpy(), np.uint8)


def texts(values: golden.Arrays) -> Rows:
    """PaddleOCR's DBPostProcess: the corners and the score of each text."""
    from ppocr.postprocess.db_postprocess import DBPostProcess

    high, wide = values[0].shape[2:]
    decoder = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6)
    page = values[0][0, 0]
    boxes, scores = decoder.boxes_from_bitmap(page, page > decoder.thresh, wide, high)
    corners = np.asarray(boxes, np.float32).reshape(-1, 8)
    return np.c_[corners, np.asarray(scores, np.float32).reshape(-1, 1)]


def lines(values: golden.Arrays) -> Rows:
    """PaddleOCR's CTCLabelDecode: the text in UTF-8, and its score in the last eight bytes."""
    from ppocr.postprocess.rec_postprocess import CTCLabelDecode

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dictionary.txt"
        path.write_text("\n".join(golden.CHARACTERS) + "\n", encoding="utf-8")
        decoder = CTCLabelDecode(character_dict_path=str(path), use_space_char=True)
        ((text, score),) = decoder(values[0])
    return np.frombuffer(text.encode() + np.float64(score).tobytes(), np.uint8)


def transformed(name: str, document: dict[str, Any], pixels: Rows) -> list[Rows]:
    """The tensor, and of a detector im_shape and scale_factor."""
    if "Preprocess" in document:
        made = _of_detection(document["Preprocess"], pixels)
        return made if name.startswith("detection") else made[:1]
    if "Deploy" in document:
        return [_of_segmentation(document["Deploy"]["transforms"], pixels)]
    return [_of_reading(document["PreProcess"]["transform_ops"], pixels)]


def _of_detection(steps: list[dict[str, Any]], pixels: Rows) -> list[Rows]:
    import keypoint_preprocess
    import preprocess

    made = []
    for step in steps:
        options = {key: value for key, value in step.items() if key != "type"}
        home = preprocess if hasattr(preprocess, step["type"]) else keypoint_preprocess
        made.append(getattr(home, step["type"])(**options))
    tensor, info = preprocess.preprocess(pixels.copy(), made)
    return [tensor[None], info["im_shape"][None], info["scale_factor"][None]]


def _of_segmentation(steps: list[dict[str, Any]], pixels: Rows) -> Rows:
    import paddleseg.transforms as kit

    made = [
        getattr(kit, step["type"])(**{k: v for k, v in step.items() if k != "type"})
        for step in steps
    ]
    bgr = pixels[:, :, ::-1].astype("float32")
    return np.asarray(kit.Compose(made)({"img": bgr})["img"][None])


def _of_reading(steps: list[dict[str, Any]], pixels: Rows) -> Rows:
    from ppocr.data.imaug import operators, rec_img_aug

    data: dict[str, Any] = {"image": np.ascontiguousarray(pixels[:, :, ::-1])}
    for step in steps[1:]:  # after DecodeImage
        ((name, options),) = step.items()
        home = operators if hasattr(operators, name) else rec_img_aug
        data = getattr(home, name)(**(options or {}))(data)
    return np.asarray(data["image"][None], np.float32)


OPTIONS = {"score_threshold": 0.25, "nms_threshold": 0.5, "nms_top_k": 40, "keep_top_k": 30}
DECODERS = {
    "decoded": decoded,
    "joined": joined,
    "picodet": picodet,
    "yolo": yolo,
    "ssd": ssd,
    "heatmaps": lambda values: points(values, dark=False),
    "heatmaps dark": lambda values: points(values, dark=True),
    "maps": masks,
    "texts": texts,
    "steps": lines,
}


def write_decoders() -> None:
    for name, decoder in DECODERS.items():
        head = name.split()[0]
        inputs = [golden.made(head, number) for number in range(golden.COUNT)]
        answers = [decoder(values) for values in inputs]
        path = TESTS / "golden" / f"{name.replace(' ', '_')}.npz"
        np.savez_compressed(
            path,
            inputs=np.array([golden.digest(values) for values in inputs]),
            counts=np.array([len(a) for a in answers]),
            answers=np.concatenate(answers),
        )
        print(f"{path.name}: {len(answers)} answers, {path.stat().st_size} bytes")


def write_transforms() -> None:
    import cv2
    import yaml

    cv2.ipp.setUseIPP(False)  # wheels for x86 hand some modes over to Intel's
    pictures = [golden.picture(number) for number in range(golden.COUNT)]
    document = {"pictures": [golden.digest([pixels]) for pixels in pictures]}
    for name, text in golden.TRANSFORMS.items():
        steps = yaml.safe_load(text)
        document[name] = [golden.digest(transformed(name, steps, p)) for p in pictures]
    path = TESTS / "golden" / "transforms.json"
    path.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(document) - 1} transforms, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for kit in ("detection", "segmentation", "reading"):
        parser.add_argument(f"--{kit}", type=Path, required=True, metavar="DIR")
    told = parser.parse_args()
    places = (told.detection, told.detection / "deploy" / "python", told.segmentation, told.reading)
    sys.path[:0] = [str(place) for place in places]
    for name in ("ppocr", "ppocr.data", "ppocr.data.imaug", "ppocr.postprocess"):
        # Without their __init__, which import what only training needs.
        package = types.ModuleType(name)
        package.__path__ = [str(told.reading / name.replace(".", "/"))]
        sys.modules[name] = package
    write_transforms()
    write_decoders()


if __name__ == "__main__":
    main()
