"""Pictures become what a detector, a segmenter and a reader of text are fed, to the last bit.

The expected tensors are OpenCV's and NumPy's, in the order in which Paddle's kits call them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from py_runner.data.dataset import dataset
from py_runner.data.image import PRESETS, ImageSpec
from py_runner.data.image_text import image_spec
from py_runner.data.resize import (
    resize_cv2_area,
    resize_cv2_cubic,
    resize_cv2_linear,
    resize_cv2_linear_f32,
    resize_cv2_nearest,
)
from py_runner.errors import DataError, UsageError
from py_runner.tensors import TensorSpec

cv2 = pytest.importorskip("cv2")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Portrait, landscape, square, small, a line, halves of 640, and odd halves.
SIZES = [(480, 640), (640, 427), (320, 320), (33, 20), (40, 700), (1280, 960), (853, 1280)]


@pytest.fixture(autouse=True)
def without_ipp() -> Iterator[None]:
    """OpenCV's own functions: wheels for x86 hand some modes over to Intel's."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(mine: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    assert np.array_equal(mine, theirs), np.abs(mine.astype(float) - theirs).max()


# ---- the modes of cv2.resize

MODES: dict[str, tuple[int, Any]] = {
    "cubic": (cv2.INTER_CUBIC, resize_cv2_cubic),
    "area": (cv2.INTER_AREA, resize_cv2_area),
    "nearest": (cv2.INTER_NEAREST, resize_cv2_nearest),
    "linear-f32": (cv2.INTER_LINEAR, resize_cv2_linear_f32),
}


def modes_sizes() -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(7)
    sizes = [tuple(int(x) for x in rng.integers(1, top + 1, 4)) for top in (6, 40, 200) * 60]
    for ratio in (1, 2, 3, 4):
        for _ in range(8):
            h, w = (int(x) for x in rng.integers(1, 60, 2))
            sizes += [(h * ratio, w * ratio, h, w), (h, w, h * ratio, w * ratio)]
            sizes += [(h * ratio, w, h, w), (h, w * ratio, h, w)]
    return sizes  # type: ignore[return-value]


@pytest.mark.parametrize("mode", MODES)
def test_a_resize_equals_opencv(mode: str) -> None:
    flag, function = MODES[mode]
    for seed, (h, w, height, width) in enumerate(modes_sizes()):
        source = pixels(h, w, seed)
        wanted = source.astype(np.float32) if mode == "linear-f32" else source
        theirs = cv2.resize(wanted, (width, height), interpolation=flag)
        same(function(source, height, width), theirs)


@pytest.mark.parametrize(
    ("flag", "function"),
    [
        (cv2.INTER_LINEAR, resize_cv2_linear),
        (cv2.INTER_CUBIC, resize_cv2_cubic),
        (cv2.INTER_NEAREST, resize_cv2_nearest),
    ],
)
def test_a_resize_that_is_told_its_scale_equals_opencv(flag: int, function: Any) -> None:
    rng = np.random.default_rng(11)
    for seed in range(150):
        h, w = (int(x) for x in rng.integers(2, 90, 2))
        fy, fx = (0.5, 0.5) if seed % 4 == 0 else (float(f) for f in rng.uniform(0.3, 2.5, 2))
        source = pixels(h, w, seed)
        if not round(h * fy) or not round(w * fx):
            continue
        theirs = cv2.resize(source, None, None, fx=fx, fy=fy, interpolation=flag)
        assert theirs.shape[:2] == (round(h * fy), round(w * fx))
        same(function(source, *theirs.shape[:2], scale=(fy, fx)), theirs)


# ---- detectors


def detection(
    rgb: np.ndarray[Any, Any], target: tuple[int, int], *, keep: bool, interp: int
) -> tuple[np.ndarray[Any, Any], tuple[float, float]]:
    if keep:
        short, long_ = min(rgb.shape[:2]), max(rgb.shape[:2])
        scale = float(min(target)) / float(short)
        if np.round(scale * long_) > max(target):
            scale = float(max(target)) / float(long_)
        factor = (scale, scale)
    else:
        factor = (target[0] / float(rgb.shape[0]), target[1] / float(rgb.shape[1]))
    resized = cv2.resize(rgb, None, None, fx=factor[1], fy=factor[0], interpolation=interp)
    return resized, factor


def float64_normalised(image: np.ndarray[Any, Any], scale: Any) -> np.ndarray[Any, Any]:
    result = image.astype(np.float32)
    result = result * scale if scale is not None else result
    result -= np.array(MEAN)[None, None]
    result /= np.array(STD)[None, None]
    tensor: np.ndarray[Any, Any] = result.transpose(2, 0, 1)[None]
    return tensor


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "interp"), [("cv2-linear", 1), ("cv2-cubic", 2)])
def test_a_detector_keeps_the_ratio_and_pads_to_a_stride(
    size: tuple[int, int], mode: str, interp: int
) -> None:
    rgb = pixels(*size)
    resized, factor = detection(rgb, (480, 640), keep=True, interp=interp)
    plain = float64_normalised(resized, 1.0 / 255.0)
    high, wide = (math.ceil(side / 32) * 32 for side in plain.shape[2:])
    wanted = np.zeros((1, 3, high, wide), np.float32)
    wanted[:, :, : plain.shape[2], : plain.shape[3]] = plain
    spec = ImageSpec(resize="fit", size=(480, 640), interpolation=mode, stride=32, wide=True)
    same(spec.apply(rgb), wanted)
    place = spec.placed(*size)
    assert (place.height, place.width) == resized.shape[:2]
    assert place.scale == factor


def test_padding_to_a_canvas_is_before_normalisation() -> None:
    rgb = pixels(300, 500)
    resized, _ = detection(rgb, (640, 640), keep=True, interp=1)
    canvas = np.full((640, 640, 3), (114, 113, 112), np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    spec = ImageSpec(
        resize="fit", size=(640, 640), canvas=(640, 640), fill=(114, 113, 112), wide=True
    )
    same(spec.apply(rgb), float64_normalised(canvas, 1.0 / 255.0))
    assert spec.output_shape == (1, 3, 640, 640)
    swapped = ImageSpec(
        resize="fit", size=(640, 640), canvas=(640, 640), fill=(112, 113, 114), color="BGR",
        wide=True,
    )  # fmt: skip
    same(swapped.apply(rgb), float64_normalised(canvas[:, :, ::-1], 1.0 / 255.0))
    small = ImageSpec(resize="none", size=None, canvas=(299, 500))
    with pytest.raises(DataError, match=r"300x500.*larger than the canvas 299x500"):
        small.apply(rgb)


@pytest.mark.parametrize("size", SIZES)
def test_letterbox(size: tuple[int, int]) -> None:
    rgb = pixels(*size)
    height, width = 352, 608
    ratio = min(height / size[0], width / size[1])
    new = (round(size[1] * ratio), round(size[0] * ratio))
    padw, padh = (width - new[0]) / 2, (height - new[1]) / 2
    top, bottom = round(padh - 0.1), round(padh + 0.1)
    left, right = round(padw - 0.1), round(padw + 0.1)
    boxed = cv2.copyMakeBorder(
        cv2.resize(rgb, new, interpolation=cv2.INTER_AREA),
        top, bottom, left, right, cv2.BORDER_CONSTANT, value=(127.5, 127.5, 127.5),
    )  # fmt: skip
    spec = ImageSpec(
        resize="letterbox", size=(height, width), interpolation="cv2-area",
        fill=(128, 128, 128), wide=True,
    )  # fmt: skip
    same(spec.apply(rgb), float64_normalised(boxed, 1.0 / 255.0))
    place = spec.placed(*size)
    assert (place.top, place.left, place.scale) == (top, left, (ratio, ratio))


DETECTOR = [
    TensorSpec("im_shape", "float32", (-1, 2)),
    TensorSpec("image", "float32", (-1, 3, -1, -1)),
    TensorSpec("scale_factor", "float32", (-1, 2)),
]


def test_a_detector_is_fed_the_size_and_the_scale_of_each_picture(tmp_path: Path) -> None:
    for index, size in enumerate(SIZES):
        Image.fromarray(pixels(*size)).save(tmp_path / f"{index}.png")
    spec = ImageSpec(resize="fit", size=(480, 640), interpolation="cv2-cubic", stride=32)
    samples = list(dataset(tmp_path, inputs=DETECTOR, image=spec))
    assert len(samples) == len(SIZES)
    for size, sample in zip(SIZES, samples):
        resized, factor = detection(pixels(*size), (480, 640), keep=True, interp=2)
        assert set(sample.feeds) == {"im_shape", "image", "scale_factor"}
        same(sample.feeds["im_shape"], np.array([resized.shape[:2]], np.float32))
        same(sample.feeds["scale_factor"], np.array([factor], np.float32))
        same(sample.feeds["image"], spec.apply(pixels(*size)))


def test_other_inputs_that_tell_of_a_picture(tmp_path: Path) -> None:
    Image.fromarray(pixels(100, 200)).save(tmp_path / "a.png")
    spec = ImageSpec(resize="long", size=50)
    image = TensorSpec("x", "float32", (1, 3, -1, -1))

    def fed(name: str, dtype: str, columns: int) -> list[float]:
        other = TensorSpec(name, dtype, (1, columns))
        (sample,) = dataset(tmp_path, inputs=[image, other], image=spec)
        assert sample.feeds[name].dtype == dtype
        return sample.feeds[name].ravel().tolist()  # type: ignore[no-any-return]

    assert fed("im_size", "int32", 2) == [100, 200]
    assert fed("origin_shape", "float32", 2) == [100, 200]
    assert fed("im_info", "float32", 3) == [25, 50, 0.25]
    for name, columns in (("mask", 2), ("im_shape", 5), ("y", 2)):
        other = TensorSpec(name, "float32", (1, columns))
        with pytest.raises(DataError, match=f"im_shape, scale_factor.*x, {name}.*npz"):
            dataset(tmp_path, inputs=[image, other], image=spec)


# ---- segmenters


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", ["exact", "long", "short", "within"])
def test_a_segmenter_resizes_floats(size: tuple[int, int], rule: str) -> None:
    rgb = pixels(*size)
    if rule == "exact":
        height, width = 192, 256
    else:
        side = min(size) if rule == "short" else max(size)
        wanted = min(max(side, 300), 500) if rule == "within" else 224
        scale = float(wanted) / float(side)
        height, width = (round(x * scale) for x in size)
    wanted_size: Any = {"exact": (192, 256), "within": (300, 500)}.get(rule, 224)
    spec = ImageSpec(
        resize=rule, size=wanted_size, interpolation="cv2-linear-f32", scale=1.0, divisor=255.0,
        mean=MEAN, std=STD, wide=True,
    )  # fmt: skip
    resized = cv2.resize(rgb.astype("float32"), (width, height)) / 255.0
    resized -= np.array(MEAN)[None, None]
    resized /= np.array(STD)[None, None]
    same(spec.apply(rgb), resized.transpose(2, 0, 1)[None])


# ---- text


def narrow(image: np.ndarray[Any, Any], scale: Any) -> np.ndarray[Any, Any]:
    mean = np.array(MEAN).reshape(1, 1, 3).astype("float32")
    std = np.array(STD).reshape(1, 1, 3).astype("float32")
    values = (image.astype("float32") * np.float32(scale) - mean) / std
    result: np.ndarray[Any, Any] = values.transpose(2, 0, 1)[None]
    return result


PAGES = [*SIZES, (5000, 300), (20, 30), (31, 32), (32, 32), (48, 80), (80, 48)]


@pytest.mark.parametrize("size", PAGES)
@pytest.mark.parametrize("rule", ["page-min:736", "page-min:64", "page-max:960", "page-long:960"])
def test_a_page_comes_to_multiples_of_32(size: tuple[int, int], rule: str) -> None:
    bgr = pixels(*size)
    source = bgr
    if sum(size) < 64:
        source = np.zeros((max(32, size[0]), max(32, size[1]), 3), np.uint8)
        source[: size[0], : size[1]] = bgr
    h, w = source.shape[:2]
    kind, _, side = rule.partition(":")
    limit = int(side)
    if kind == "page-long":
        ratio = float(limit) / (h if h > w else w)
        high, wide = ((int(x * ratio) + 127) // 128 * 128 for x in (h, w))
    else:
        ratio = 1.0
        if kind == "page-max" and max(h, w) > limit:
            ratio = float(limit) / max(h, w)
        if kind == "page-min" and min(h, w) < limit:
            ratio = float(limit) / min(h, w)
        high, wide = int(h * ratio), int(w * ratio)
        if max(high, wide) > 4000:
            ratio = 4000.0 / max(high, wide)
            high, wide = int(high * ratio), int(wide * ratio)
        high, wide = (max(round(x / 32) * 32, 32) for x in (high, wide))
    wanted = narrow(cv2.resize(source, (wide, high)), 1.0 / 255.0)
    spec = image_spec(f"resize={rule},color=BGR")
    same(spec.apply(bgr[:, :, ::-1]), wanted)
    if rule == "page-max:960":
        assert spec == PRESETS["ppocr-det"]


@pytest.mark.parametrize("size", [(48, 320), (30, 400), (30, 20), (25, 167), (20, 2000), (97, 41)])
def test_a_line_grows_with_its_text(size: tuple[int, int]) -> None:
    bgr = pixels(*size)
    ratio = size[1] / float(size[0])
    full = int(48 * max(320 / 48, ratio))
    wide = 3200 if full > 3200 else min(full, math.ceil(48 * ratio))
    full = min(full, 3200)
    wanted = np.zeros((1, 3, 48, full), np.float32)
    part = cv2.resize(bgr, (wide, 48)).astype("float32").transpose(2, 0, 1) / 255
    part -= 0.5
    part /= 0.5
    wanted[0, :, :, :wide] = part
    same(PRESETS["ppocr-rec"].apply(bgr[:, :, ::-1]), wanted)


# ---- the spec


@pytest.mark.parametrize(
    ("text", "shape", "likely"),
    [
        ("resize=fit:480x640,stride=32", (-1, -1), (480, 640)),
        ("resize=fit:500x640,stride=32", (-1, -1), (512, 640)),
        ("resize=letterbox:352x608", (352, 608), (352, 608)),
        ("resize=exact:100,stride=32", (128, 128), (128, 128)),
        ("resize=fit:640,canvas=640", (640, 640), (640, 640)),
        ("resize=page-max:960", (-1, -1), (1024, 1024)),
        ("resize=page-min:736", (-1, -1), (768, 768)),
        ("resize=line:48x320", (48, -1), (48, 320)),
        ("resize=long:512", (-1, -1), (512, 512)),
        ("resize=none", (-1, -1), (-1, -1)),
    ],
)
def test_shapes_that_are_known(text: str, shape: Any, likely: Any) -> None:
    spec = image_spec(text)
    assert spec.output_shape == (1, 3, *shape)
    assert spec.likely_shape == (1, 3, *likely)
    assert ImageSpec.from_json(spec.to_json()) == spec


def test_what_came_later_is_stored_only_where_it_says_something() -> None:
    plain = set(image_spec("resize=short:256,crop=224").to_json())
    spec = image_spec("resize=long:5,stride=2,canvas=9x8,fill=1,2,3,wide=on,upright=off")
    assert set(spec.to_json()) - plain == {"stride", "canvas", "fill", "wide", "upright"}
    assert spec.canvas == (9, 8) and spec.fill == (1, 2, 3) and spec.wide and not spec.upright


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resize=long:3x4", "one side"),
        ("resize=fit", "height, width"),
        ("resize=fit:9,crop=3", "takes no crop"),
        ("resize=short:9,crop=3,canvas=9", "takes no crop"),
        ("resize=letterbox:9,canvas=9", "canvas of its own"),
        ("resize=long:9,stride=0", "stride must be"),
        ("resize=long:9,fill=256", "0 to 255"),
        ("resize=long:9,fill=127.5", "0 to 255"),
        ("resize=long:9,interpolation=pil-bilinear", "not with pil-bilinear"),
        ("resize=fit:9,interpolation=cv2-area", "not known with cv2-area"),
        ("resize=long:9,wide=1", "neither on nor off"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_spec(text)


def test_a_picture_is_turned_or_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(8, 4)).save(tmp_path / "a.png", exif=exif)
    image = [TensorSpec("x", "float32", (1, 3, -1, -1))]
    shapes = [
        next(iter(dataset(tmp_path, inputs=image, image=image_spec(f"resize=none{rest}"))))
        .feeds["x"]
        .shape[2:]
        for rest in ("", ",upright=off")
    ]
    assert shapes == [(4, 8), (8, 4)]
