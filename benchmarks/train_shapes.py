"""Trains the small detector and segmenter of tests/shapes on rendered pictures, and exports them.

    python benchmarks/train_shapes.py [--out FOLDER] [--pictures 2000] [--steps 1600]
        [--only detector]
        [--resume] [--seed 0]

Pictures are those of `lite_opt/demo/shapes.py`. The detector is an anchor-free head of stride 8 on
a depthwise backbone (FCOS: Tian et al., 2019; quality focal loss: Li et al., 2020), exported with
its non-maximum suppression and the `infer_cfg.yml` that PaddleDetection writes; the segmenter has
the same backbone, exported with argmax and the `deploy.yaml` that PaddleSeg writes. Both are judged
on pictures that they have not seen (`--resume` goes on with what is in FOLDER, on the pictures of
another seed): COCO's mAP, mAP at IoU 0.5, mIoU. Takes some minutes of a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as functional
import yaml
from paddle import nn

from lite_opt.demo.shapes import SHAPES, shape_pictures, write_shape_pictures
from lite_opt.judge.tasks.segmentation import confusion, mean_iou
from lite_opt.judge.tasks.truth import masks_of
from lite_opt.model.load import load
from lite_opt.subject import opened
from py_runner.data.inference_yml import read_preprocessing
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks.detection import boxes
from py_runner.tasks.segmentation import masks

OUT = Path(__file__).parents[1] / "tests" / "shapes"
SIDE = 96  # of the input, in pixels
STRIDE = 8  # of the detector's cells
CELLS = SIDE // STRIDE
BATCH = 16
UNSEEN = {"count": 200, "seed": 1}

# As PaddleDetection's and PaddleSeg's export.py write them.
INFER_CFG = {
    "mode": "paddle",
    "draw_threshold": 0.5,
    "metric": "COCO",
    "use_dynamic_shape": False,
    "arch": "FCOS",
    "min_subgraph_size": 3,
    "Preprocess": [
        {"type": "Resize", "interp": 1, "keep_ratio": False, "target_size": [SIDE, SIDE]},
        {
            "type": "NormalizeImage",
            "is_scale": True,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        {"type": "Permute"},
    ],
    "label_list": list(SHAPES),
    "NMS": {
        "name": "MultiClassNMS",
        "keep_top_k": 100,
        "nms_threshold": 0.6,
        "nms_top_k": 1000,
        "score_threshold": 0.025,
    },
}
DEPLOY = {
    "Deploy": {
        "input_shape": [-1, 3, SIDE, SIDE],
        "model": "inference.json",
        "output_dtype": "int32",
        "output_op": "argmax",
        "params": "inference.pdiparams",
        "transforms": [{"type": "Resize", "target_size": [SIDE, SIDE]}, {"type": "Normalize"}],
    }
}


def conv(inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> Any:
    """A convolution, BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2D(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias_attr=False),
        nn.BatchNorm2D(outputs),
        nn.ReLU(),
    )


def separable(inputs: int, outputs: int, stride: int = 1) -> Any:
    """A depthwise convolution and one of 1x1."""
    return nn.Sequential(
        conv(inputs, inputs, kernel=3, stride=stride, groups=inputs), conv(inputs, outputs)
    )


class Backbone(nn.Layer):
    """Maps of stride 2, 4, 8 and 16, with 16, 32, 64 and 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.LayerList(
            [
                conv(3, 16, kernel=3, stride=2),
                nn.Sequential(separable(16, 32, 2), separable(32, 32)),
                nn.Sequential(separable(32, 64, 2), separable(64, 64), separable(64, 64)),
                nn.Sequential(separable(64, 128, 2), separable(128, 128)),
            ]
        )

    def forward(self, x: Any) -> list[Any]:
        """All four, from fine to coarse."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Join(nn.Layer):
    """A coarse map made twice as fine, and added to a fine one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow, self.mix = conv(coarse, fine), separable(fine, fine)

    def forward(self, coarse: Any, fine: Any) -> Any:
        """[N, fine, 2H, 2W]"""
        size = [2 * side for side in coarse.shape[2:]]
        return self.mix(
            functional.interpolate(self.narrow(coarse), size=size, mode="nearest") + fine
        )


class Detector(nn.Layer):
    """Of each cell of 8x8 pixels: scores of the classes, and how far the box reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck = Backbone(), Join(128, 64)
        self.score = nn.Sequential(separable(64, 64), nn.Conv2D(64, len(SHAPES), 1))
        self.reach = nn.Sequential(separable(64, 64), nn.Conv2D(64, 4, 1))
        self.score[1].bias.set_value(paddle.full([len(SHAPES)], -4.0))
        at = (np.arange(CELLS, dtype="float32") + 0.5) * STRIDE
        middles = np.stack(np.meshgrid(at, at), -1).reshape(1, -1, 2)
        self.register_buffer("middles", paddle.to_tensor(middles), persistable=False)

    def cells(self, image: Any) -> tuple[Any, Any]:
        """Logits [N, cells, classes] and boxes [N, cells, 4] on the tensor."""
        _, _, fine, coarse = self.backbone(image)
        x = self.neck(coarse, fine)
        logits, reach = (
            paddle.transpose(paddle.reshape(head(x), [0, channels, CELLS * CELLS]), [0, 2, 1])
            for head, channels in ((self.score, len(SHAPES)), (self.reach, 4))
        )
        far = paddle.exp(reach) * STRIDE
        corners = [self.middles - far[:, :, :2], self.middles + far[:, :, 2:]]
        return logits, paddle.concat(corners, -1)

    def forward(self, image: Any, scale_factor: Any) -> tuple[Any, Any]:
        """PaddleDetection's outputs: rows of class, score, x1, y1, x2, y2, and their number."""
        logits, corners = self.cells(image)
        scale = paddle.concat([scale_factor[:, 1:2], scale_factor[:, 0:1]] * 2, 1)
        corners = corners / paddle.unsqueeze(scale, 1)
        scores = paddle.transpose(functional.sigmoid(logits), [0, 2, 1])
        nms = INFER_CFG["NMS"]
        assert isinstance(nms, dict)
        rows, _, count = paddle._C_ops.multiclass_nms3(
            corners, scores, None, nms["score_threshold"], nms["nms_top_k"], nms["keep_top_k"],
            nms["nms_threshold"], True, 1.0, -1,
        )  # fmt: skip
        return rows, count


class Segmenter(nn.Layer):
    """Logits of background and classes, or with `exported` the class of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.joins = nn.LayerList([Join(128, 64), Join(64, 32), Join(32, 16)])
        self.last = nn.Conv2D(16, 1 + len(SHAPES), 1)
        self.exported = False

    def forward(self, x: Any) -> Any:
        """[N, 4, H, W], or int32 [N, H, W]."""
        *fine, found = self.backbone(x)
        for join, beside in zip(self.joins, reversed(fine)):
            found = join(found, beside)
        logits = functional.interpolate(
            self.last(found), size=[SIDE, SIDE], mode="bilinear", align_corners=False
        )
        return paddle.argmax(logits, axis=1, dtype="int32") if self.exported else logits


def targets(found: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Of one picture's boxes on the tensor: the class of each cell, -1 for none, and its box. A
    cell near the middle of a box is that box's, the smaller of two."""
    kinds = np.full(CELLS * CELLS, -1, "int64")
    wanted = np.zeros((CELLS * CELLS, 4), "float32")
    at = (np.arange(CELLS) + 0.5) * STRIDE
    middles = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    for kind, box in sorted(found, key=lambda one: -np.prod(one[1][2:] - one[1][:2])):
        near = np.abs(middles - (box[:2] + box[2:]) / 2).max(-1) < 1.5 * STRIDE
        near &= ((middles > box[:2]) & (middles < box[2:])).all(-1)
        kinds[near], wanted[near] = kind, box
    return kinds, wanted


def intersection(boxes_: Any, wanted: Any) -> tuple[Any, Any]:
    """IoU and generalised IoU of pairs of boxes."""
    low, high = (
        paddle.maximum(boxes_[:, :2], wanted[:, :2]),
        paddle.minimum(boxes_[:, 2:], wanted[:, 2:]),
    )
    common = paddle.prod(functional.relu(high - low), -1)
    either = sum(paddle.prod(b[:, 2:] - b[:, :2], -1) for b in (boxes_, wanted)) - common
    low, high = (
        paddle.minimum(boxes_[:, :2], wanted[:, :2]),
        paddle.maximum(boxes_[:, 2:], wanted[:, 2:]),
    )
    around = paddle.prod(high - low, -1)
    likeness = common / either
    return likeness, likeness - (around - either) / around


def detector_loss(model: Detector, images: Any, kinds: Any, wanted: Any) -> Any:
    """Quality focal loss of the scores, generalised IoU of the boxes."""
    logits, corners = model.cells(images)
    there = paddle.nonzero(kinds.reshape([-1]) >= 0).reshape([-1])
    likeness, generalised = intersection(
        paddle.gather(corners.reshape([-1, 4]), there),
        paddle.gather(wanted.reshape([-1, 4]), there),
    )
    hot = functional.one_hot(kinds.clip(0), len(SHAPES)) * (kinds >= 0).astype("float32").unsqueeze(
        -1
    )
    quality = paddle.scatter(
        paddle.zeros([kinds.size]), there, likeness.detach().clip(0, 1)
    ).reshape([*kinds.shape, 1])
    aim = hot * quality
    weight = (aim - functional.sigmoid(logits)).abs().pow(2)
    scores = functional.binary_cross_entropy_with_logits(logits, aim, weight.detach(), "sum")
    return (scores + 2 * (1 - generalised).sum()) / max(1, there.shape[0])


def segmenter_loss(model: Segmenter, images: Any, wanted: Any) -> Any:
    """Cross entropy, and one less the Dice coefficient of the classes."""
    logits = model(images)
    entropy = functional.cross_entropy(logits, wanted.astype("int64"), axis=1)
    shares = functional.softmax(logits, axis=1)
    hot = paddle.transpose(
        functional.one_hot(wanted.astype("int64"), 1 + len(SHAPES)), [0, 3, 1, 2]
    )
    common = (shares * hot).sum([0, 2, 3])
    dice = 2 * common / (shares.sum([0, 2, 3]) + hot.sum([0, 2, 3]) + 1)
    return entropy + (1 - dice).mean()


def train(model: Any, loss_of: Any, arrays: Sequence[np.ndarray], steps: int) -> None:
    """Adam with a rate that falls along a cosine, over batches in a random order."""
    rate = paddle.optimizer.lr.LinearWarmup(
        paddle.optimizer.lr.CosineAnnealingDecay(4e-3, steps), 100, 1e-4, 4e-3
    )
    optimizer = paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=1e-4)
    model.train()
    start, total = time.perf_counter(), 0.0
    for step, places in zip(range(1, steps + 1), batches(len(arrays[0]))):
        loss = loss_of(model, *(paddle.to_tensor(array[places]) for array in arrays))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        rate.step()
        total += float(loss)
        if step % 100 == 0:
            print(
                f"{step}: loss {total / 100:.3f}, {time.perf_counter() - start:.0f} s", flush=True
            )
            total = 0.0
    model.eval()


def batches(count: int) -> Iterator[np.ndarray]:
    """Places of the pictures of each batch, for ever."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(count)
        yield from (order[i : i + BATCH] for i in range(0, count - BATCH + 1, BATCH))


def resumed(model: Any, folder: Path) -> Any:
    """The model with the weights of an export, which keeps their names."""
    weights = load(folder).params
    for value in model.state_dict().values():
        value.set_value(np.array(weights[value.name]))
    return model


def detector(pictures: Sequence[Any], folder: Path, steps: int, resume: bool) -> None:
    """Train and export the detector."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(INFER_CFG, sort_keys=False))
    spec = read_preprocessing(folder / "infer_cfg.yml")
    images = np.concatenate([spec.apply(np.asarray(p.image)) for p in pictures])
    labels = [
        targets([(kind, box * (SIDE / np.array(p.image.size * 2))) for kind, box in p.boxes])
        for p in pictures
    ]
    model = resumed(Detector(), folder) if resume else Detector()
    arrays = [images, *(np.stack(column) for column in zip(*labels))]
    train(model, detector_loss, arrays, steps)
    export(
        model,
        folder,
        [
            paddle.static.InputSpec([-1, 3, SIDE, SIDE], "float32", "image"),
            paddle.static.InputSpec([-1, 2], "float32", "scale_factor"),
        ],
    )


def segmenter(pictures: Sequence[Any], folder: Path, steps: int, resume: bool) -> None:
    """Train and export the segmenter."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deploy.yaml").write_text(yaml.safe_dump(DEPLOY, sort_keys=False))
    spec = read_preprocessing(folder / "deploy.yaml")
    images = np.concatenate([spec.apply(np.asarray(p.image)) for p in pictures])
    size = (SIDE, SIDE)
    wanted = np.stack(
        [Image.fromarray(p.mask).resize(size, Image.Resampling.NEAREST) for p in pictures]
    )
    model = resumed(Segmenter(), folder) if resume else Segmenter()
    train(model, segmenter_loss, [images, wanted], steps)
    model.exported = True
    export(model, folder, [paddle.static.InputSpec([-1, 3, SIDE, SIDE], "float32", "x")])


MODELS = {"detector": detector, "segmenter": segmenter}


def export(model: Any, folder: Path, inputs: Sequence[Any]) -> None:
    """As the exporters of both projects do."""
    paddle.jit.save(paddle.jit.to_static(model, input_spec=inputs), str(folder / "inference"))


def judge(out: Path, names: Sequence[str]) -> None:
    """What they answer on unseen pictures, against the labels."""
    with tempfile.TemporaryDirectory() as temporary:
        data = write_shape_pictures(Path(temporary) / "data", **UNSEEN)
        for name in names:
            found = answers(out / name, data)
            if name == "detector":
                whole, half = average_precision(found, data / "instances.json")
                print(f"detector: mAP {whole:.4f}, mAP at IoU 0.5 {half:.4f}")
            else:
                print(f"segmenter: mIoU {iou(found, data / 'masks.txt'):.4f}")
            sizes = {file.name: file.stat().st_size for file in sorted((out / name).iterdir())}
            print(name, sizes)


def answers(model: Path, data: Path) -> Run:
    """What the server engine says."""
    with opened(model) as subject:
        return run(subject.model, subject.samples(data / "images"), engine="paddle")


def iou(found: Run, truth: Path) -> float:
    """The mean IoU of the classes, over all pixels of the pictures."""
    labels = masks_of(truth)
    table = 0
    for sample, mask in zip(found.samples, masks(found)):
        label = labels[f"images/{sample.id}"]
        rows, columns = ((np.arange(n) + 0.5) * n_ / n for n, n_ in zip(label.shape, mask.shape))
        large = mask[np.ix_(rows.astype(int), columns.astype(int))]
        table = table + confusion(label, large, 1 + len(SHAPES))
    return mean_iou(table)


def average_precision(found: Run, truth: Path) -> tuple[float, float]:
    """COCO's mAP, and that at IoU 0.5, by pycocotools."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    document = json.loads(truth.read_text())
    ids = {image["file_name"]: image["id"] for image in document["images"]}
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
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def main() -> None:
    """Train, export and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(MODELS))
    options = parser.parse_args()
    names = [options.only] if options.only else list(MODELS)
    paddle.seed(0)
    start = time.perf_counter()
    pictures = list(shape_pictures(options.pictures, seed=options.seed))
    print(f"rendered in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for name in names:
        MODELS[name](pictures, options.out / name, options.steps, options.resume)
    judge(options.out, names)


if __name__ == "__main__":
    main()
