"""Writes tests/golden: what the official decoders say of the inputs of tests/make_heads.py.

    python benchmarks/golden.py --detection CHECKOUT

CHECKOUT is PaddleDetection (its folders ppdet and deploy/python; commit 666f597 made what is
checked in). Its own code and Paddle's operators yolo_box, prior_box and multiclass_nms compute
everything, nothing of this project does. Needs paddlepaddle and what ppdet imports (pycocotools,
scipy, opencv-python-headless, shapely, typeguard, visualdl, terminaltables, scikit-learn, imgaug,
setuptools below 81).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import make_heads as heads  # noqa: E402

Rows = np.ndarray[Any, Any]


def suppressed(boxes: Any, scores: Any, background: int = -1, **options: Any) -> Rows:
    """PaddleDetection's MultiClassNMS: class, score, x1, y1, x2, y2."""
    from ppdet.modeling.layers import MultiClassNMS

    rows, _, _ = MultiClassNMS(**options)(boxes, scores, background_label=background)
    return np.asarray(rows.numpy(), np.float32)


def decoded(values: heads.Arrays) -> Rows:
    """As PicoDet with `export.nms=False`, or PP-YOLOE with `exclude_nms`, leaves it."""
    import paddle

    boxes, scores = map(paddle.to_tensor, values)
    return suppressed(boxes, scores, **OPTIONS)


def joined(values: heads.Arrays) -> Rows:
    """As PP-YOLOE with `exclude_post_process` leaves it."""
    import paddle

    whole = paddle.to_tensor(values[0])
    return suppressed(whole[..., :4], whole[..., 4:].transpose([0, 2, 1]), **OPTIONS)


def picodet(values: heads.Arrays) -> Rows:
    """deploy/python/picodet_postprocess.py."""
    from picodet_postprocess import PicoDetPostProcess

    half = len(values) // 2
    decoder = PicoDetPostProcess(
        heads.SIDES, [heads.SIDES], np.ones((1, 2), np.float32), list(heads.STRIDES)
    )
    rows, _ = decoder(values[:half], values[half:])
    return np.asarray(rows, np.float32).reshape(-1, 6)


def yolo(values: heads.Arrays) -> Rows:
    """YOLOBox and MultiClassNMS of YOLOv3."""
    import paddle
    from ppdet.modeling.layers import YOLOBox

    several = np.array(heads.ANCHORS).reshape(3, -1)[::-1].tolist()
    box = YOLOBox(heads.CLASSES, scale_x_y=1.05)
    size = paddle.to_tensor([heads.SIDES], "float32")
    boxes, scores = box([paddle.to_tensor(v) for v in values], several, size, paddle.ones([1, 2]))
    return suppressed(boxes, scores, **OPTIONS)


def ssd(values: heads.Arrays) -> Rows:
    """AnchorGeneratorSSD, SSDBox and MultiClassNMS of SSDLite."""
    import paddle
    from ppdet.modeling.layers import AnchorGeneratorSSD, SSDBox

    high, wide = heads.SIDES
    features = [
        paddle.zeros([1, 1, -(-high // step), -(-wide // step)]) for step in heads.PRIORS["steps"]
    ]
    priors = AnchorGeneratorSSD(clip=True, **heads.PRIORS)(
        features, paddle.zeros([1, 3, high, wide])
    )
    half = len(values) // 2
    tensors = [paddle.to_tensor(v) for v in values]
    size = paddle.to_tensor([heads.SIDES], "float32")
    boxes, scores = SSDBox()((tensors[:half], tensors[half:]), priors, size, paddle.ones([1, 2]))
    return suppressed(boxes, scores, background=heads.CLASSES, **OPTIONS)


def points(values: heads.Arrays, *, dark: bool) -> Rows:
    """deploy/python/keypoint_postprocess.py, on a picture of the heatmap's size."""
    from keypoint_postprocess import HRNetPostProcess

    size = np.array([values[0].shape[:1:-1]], np.float64)
    found, _ = HRNetPostProcess(use_dark=dark)(values[0].copy(), size / 2, size / 200)
    return np.asarray(found[0], np.float32)


def masks(values: heads.Arrays) -> Rows:
    """Paddle's argmax, which PaddleSeg's export ends with."""
    import paddle

    return np.asarray(paddle.argmax(paddle.to_tensor(values[0]), axis=1)[0].numpy(), np.uint8)


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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detection", type=Path, required=True, metavar="CHECKOUT")
    checkout = parser.parse_args().detection
    sys.path[:0] = [str(checkout), str(checkout / "deploy" / "python")]
    for name, decoder in DECODERS.items():
        head = name.split()[0]
        inputs = [heads.made(head, number) for number in range(heads.COUNT)]
        answers = [decoder(values) for values in inputs]
        path = TESTS / "golden" / f"{name.replace(' ', '_')}.npz"
        np.savez_compressed(
            path,
            inputs=np.array([heads.digest(values) for values in inputs]),
            counts=np.array([len(a) for a in answers]),
            answers=np.concatenate(answers),
        )
        print(f"{path.name}: {len(answers)} answers, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
