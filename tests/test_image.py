"""Preprocessing equals, bit by bit, that of the libraries the models were trained with."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import io
import json
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from py_runner.data.decode import open_image
from py_runner.data.image import PRESETS, ImageSpec
from py_runner.data.image_text import image_spec
from py_runner.data.inference_yml import read_inference_yml
from py_runner.data.resize import resize_cv2_linear
from py_runner.errors import DataError, UsageError

cv2 = pytest.importorskip("cv2")


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def foreign(package: str, module: str) -> Any:
    """`package.module` without running package/__init__.py, which wants what is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    before = {name: m for name, m in sys.modules.items() if name.split(".")[0] == package}
    for name in before:
        del sys.modules[name]
    stub = types.ModuleType(package)
    stub.__path__ = [str(Path(found.origin).parent)]
    sys.modules[package] = stub
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("paddle")
            return importlib.import_module(f"{package}.{module}")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(scope="module")
def paddleclas() -> Any:
    return foreign("paddleclas", "deploy.python.preprocess")


@pytest.fixture(scope="module")
def text_cls() -> Any:
    return foreign("rapidocr_paddle", "ch_ppocr_cls.text_cls")


def seeded_sizes() -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(20)
    sizes = [tuple(int(x) for x in rng.integers(1, top + 1, 4)) for top in (6, 40, 300) * 200]
    # whole ratios, among them the one that OpenCV runs as INTER_AREA, and one side unchanged
    for ratio in (1, 2, 3, 4):
        for _ in range(15):
            h, w = (int(x) for x in rng.integers(1, 90, 2))
            sizes += [(h * ratio, w * ratio, h, w), (h, w, h * ratio, w * ratio)]
            sizes += [(h * ratio, w, h, w), (h, w * ratio, h, w)]
    return sizes  # type: ignore[return-value]


def test_resize_equals_opencv_on_seeded_sizes() -> None:
    for seed, (h, w, height, width) in enumerate(seeded_sizes()):
        source = pixels(h, w, seed)
        expected = cv2.resize(source, (width, height))
        assert np.array_equal(resize_cv2_linear(source, height, width), expected), (h, w, expected)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((3000, 4000), (256, 341)),
        ((1500, 2000), (256, 341)),
        ((3000, 4000), (1500, 2000)),
        ((2999, 3999), (1500, 2000)),
        ((1, 1), (1200, 1600)),
        ((4000, 1), (1, 3000)),
        ((1, 4000), (7, 4001)),
        ((341, 256), (2111, 1777)),
        # where source / destination differs from 1 / (destination / source) in a weight
        ((3, 3827), (4, 4096)),
        ((3981, 3), (4096, 4)),
        # where the two rounded weights at the border do not add up to 2048
        ((7, 1), (9, 5791)),
    ],
)
def test_resize_equals_opencv_on_large_images(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    image = pixels(*source)
    assert np.array_equal(resize_cv2_linear(image, *target), cv2.resize(image, target[::-1]))


def test_resize_equals_opencv_on_smooth_and_extreme_pixels() -> None:
    ramp = np.linspace(0, 255, 97 * 61 * 3).astype(np.uint8).reshape(97, 61, 3)
    checker = (np.indices((97, 61)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    for image in (ramp, checker, np.full_like(ramp, 255), ramp[::-1, ::-1, ::-1]):
        for height, width in ((256, 256), (31, 200), (48, 30)):
            expected = cv2.resize(np.ascontiguousarray(image), (width, height))
            assert np.array_equal(resize_cv2_linear(image, height, width), expected)


def test_a_window_is_a_part_of_the_whole_resize() -> None:
    rng = np.random.default_rng(3)
    sources = [(97, 131, 60, 50), (20, 30, 200, 100), (80, 60, 40, 30), (40, 30, 40, 30)]
    for h, w, height, width in sources * 5:
        image = pixels(h, w)
        top, left = (int(rng.integers(0, side)) for side in (height, width))
        rows, columns = (
            int(rng.integers(1, height - top + 1)),
            int(rng.integers(1, width - left + 1)),
        )
        part = resize_cv2_linear(image, height, width, window=(top, left, rows, columns))
        whole = resize_cv2_linear(image, height, width)
        assert np.array_equal(part, whole[top : top + rows, left : left + columns])


PHOTO_SIZES = [(375, 500), (500, 333), (256, 256), (512, 600), (224, 1999), (64, 48), (1067, 711)]


@pytest.mark.parametrize(("short", "crop"), [(256, 224), (292, 256), (320, 299)])
def test_short_and_crop_equal_paddleclas(paddleclas: Any, short: int, crop: int) -> None:
    ops = [
        paddleclas.ResizeImage(resize_short=short),
        paddleclas.CropImage(size=crop),
        paddleclas.NormalizeImage(scale="1.0/255.0", order=""),
        paddleclas.ToCHWImage(),
    ]
    spec = ImageSpec(resize="short", size=short, crop=(crop, crop))
    for seed, size in enumerate(PHOTO_SIZES):
        image = pixels(*size, seed)
        expected = image
        for op in ops:
            expected = op(expected)
        tensor = spec.apply(image)
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        assert np.array_equal(tensor, expected[None])


def test_presets_are_those_transforms() -> None:
    assert PRESETS["paddleclas"] == ImageSpec(resize="short", size=256, crop=(224, 224))
    assert PRESETS["darknet53"] == ImageSpec(resize="short", size=292, crop=(256, 256))
    shapes = {name: spec.output_shape[2:] for name, spec in PRESETS.items()}
    assert shapes == {
        "paddleclas": (224, 224),
        "darknet53": (256, 256),
        "ppocr-cls": (48, 192),
        "ppocr-det": (-1, -1),
        "ppocr-rec": (48, -1),
        "efficientnet-lite": (224, 224),
    }


def test_pil_exact_and_lists_equal_paddleclas(paddleclas: Any, tmp_path: Path) -> None:
    text = """
PreProcess:
  transform_ops:
  - ResizeImage: {size: [160, 80], backend: pil, interpolation: bilinear}
  - CropImage: {size: [120, 70]}
  - NormalizeImage: {scale: 0.00392157, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6], order: ''}
  - ToCHWImage: null
"""
    (tmp_path / "inference.yml").write_text(text)
    spec = image_spec(tmp_path / "inference.yml")
    assert spec.output_shape == (1, 3, 70, 120)
    assert spec.interpolation == "pil-bilinear"
    image = pixels(300, 211)
    expected = paddleclas.ResizeImage(size=[160, 80], backend="pil", interpolation="bilinear")(
        image
    )
    expected = paddleclas.CropImage(size=[120, 70])(expected)
    expected = paddleclas.NormalizeImage(
        scale=0.00392157, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], order=""
    )(expected)
    assert np.array_equal(spec.apply(image)[0], expected.transpose(2, 0, 1))


def test_ppocr_cls_equals_rapidocr(text_cls: Any) -> None:
    settings = types.SimpleNamespace(cls_image_shape=[3, 48, 192])
    for seed, size in enumerate([(48, 192), (30, 400), (31, 97), (100, 37), (900, 2), (7, 28)]):
        rgb = pixels(*size, seed)
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])
        expected = text_cls.TextClassifier.resize_norm_img(settings, bgr)
        assert np.array_equal(PRESETS["ppocr-cls"].apply(rgb)[0], expected)
    # 49 * 9 / 7 is 63, but 49 * (9 / 7) is a little more, and ceil() makes it 64
    settings = types.SimpleNamespace(cls_image_shape=[3, 49, 200])
    expected = text_cls.TextClassifier.resize_norm_img(settings, pixels(7, 9)[:, :, ::-1].copy())
    spec = dataclasses.replace(PRESETS["ppocr-cls"], size=(49, 200))
    assert np.array_equal(spec.apply(pixels(7, 9))[0], expected)


def test_padding_is_zero_after_normalisation() -> None:
    tensor = PRESETS["ppocr-cls"].apply(np.zeros((48, 50, 3), np.uint8))
    assert (tensor[..., :50] == -1).all()
    assert (tensor[..., 50:] == 0).all()


def test_efficientnet_lite_is_pillows_bilinear() -> None:
    image = Image.fromarray(pixels(300, 401))
    small = np.asarray(image.resize((342, 256), Image.Resampling.BILINEAR))
    expected = (small[16:240, 59:283].astype(np.float32) - 127) / 128
    spec = PRESETS["efficientnet-lite"]
    assert np.array_equal(spec.apply(image)[0], expected.transpose(2, 0, 1))
    assert np.array_equal(spec.apply(image), spec.apply(np.asarray(image)))


def test_bgr_swaps_the_pixels_and_mean_follows_the_tensor() -> None:
    spec = ImageSpec(
        resize="none", size=None, color="BGR", scale=1.0, mean=(1, 2, 3), std=(1.0, 1.0, 1.0)
    )
    tensor = spec.apply(np.full((1, 1, 3), (10, 20, 30), np.uint8))
    assert tensor.ravel().tolist() == [29, 18, 7]
    assert spec.output_shape == (1, 3, -1, -1)


def test_apply_refuses_what_is_no_rgb_image() -> None:
    spec = PRESETS["paddleclas"]
    for bad in (
        pixels(9, 9).astype(np.float32),
        pixels(9, 9)[..., 0],
        np.zeros((3, 9, 9), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
    ):
        with pytest.raises(DataError, match="expected uint8 RGB pixels"):
            spec.apply(bad)
    with pytest.raises(DataError, match="floating-point"):
        spec.apply(Image.new("F", (9, 9)))
    with pytest.raises(DataError, match="32-bit integer"):
        spec.apply(Image.new("I", (9, 9)))


def test_apply_refuses_an_image_smaller_than_the_crop() -> None:
    with pytest.raises(DataError, match=r"224x224.*100x300"):
        ImageSpec(resize="none", size=None, crop=(224, 224)).apply(pixels(100, 300))


@pytest.mark.parametrize("interpolation", ["cv2-linear", "pil-bilinear"])
def test_extreme_aspect_ratio(interpolation: str) -> None:
    image = pixels(1, 4000)
    whole = ImageSpec(resize="short", size=256, interpolation=interpolation)
    said = r"of 1x4000 \(height x width\) would become 256x1024000: too large"
    with pytest.raises(DataError, match=said):
        whole.apply(image)
    if interpolation == "cv2-linear":  # computes the crop only
        assert PRESETS["paddleclas"].apply(image).shape == (1, 3, 224, 224)


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("py_runner.data.image._MAX_RESIZED_PIXELS", 6 * 7)
    for interpolation in ("cv2-linear", "pil-bilinear"):
        fits = ImageSpec(resize="exact", size=(6, 7), interpolation=interpolation)
        assert fits.apply(pixels(9, 9)).shape == (1, 3, 6, 7)
        with pytest.raises(DataError, match="would become 6x8: too large"):
            dataclasses.replace(fits, size=(6, 8)).apply(pixels(9, 9))
        # Without a resize nothing is computed but the crop.
        cut = ImageSpec(resize="none", size=None, crop=(6, 7), interpolation=interpolation)
        assert cut.apply(pixels(9, 9)).shape == (1, 3, 6, 7)
        part = dataclasses.replace(fits, size=(9, 8), crop=(6, 7))
        if interpolation == "cv2-linear":
            assert part.apply(pixels(9, 9)).shape == (1, 3, 6, 7)
        else:
            with pytest.raises(DataError, match="too large"):
                part.apply(pixels(9, 9))


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name: str) -> None:
    text = json.dumps(PRESETS[name].to_json())
    assert ImageSpec.from_json(json.loads(text)) == PRESETS[name]
    assert hash(PRESETS[name]) == hash(image_spec(name))


def test_draft_is_stored_only_where_it_is_on() -> None:
    spec = dataclasses.replace(PRESETS["paddleclas"], draft=True)
    assert spec.to_json() == {**PRESETS["paddleclas"].to_json(), "draft": True}
    assert "draft" not in PRESETS["paddleclas"].to_json()
    assert ImageSpec.from_json(spec.to_json()) == spec
    with pytest.raises(DataError, match="draft is 1"):
        ImageSpec.from_json({**spec.to_json(), "draft": 1})


def test_json_refuses_unknown_missing_and_wrong_values() -> None:
    good = PRESETS["paddleclas"].to_json()
    with pytest.raises(DataError, match=r"unknown keys \['sharpen'\]; the keys are resize, size"):
        ImageSpec.from_json({**good, "sharpen": 1})
    with pytest.raises(DataError, match=r"missing keys \['std'\]"):
        ImageSpec.from_json({key: good[key] for key in good if key != "std"})
    with pytest.raises(DataError, match="color is 'rgb'"):
        ImageSpec.from_json({**good, "color": "rgb"})
    with pytest.raises(DataError, match="JSON object"):
        ImageSpec.from_json([])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"color": "GRAY"}, "RGB, BGR"),
        ({"color": ["RGB"]}, "RGB, BGR"),
        ({"resize": "wide"}, "short, exact, pad, none"),
        ({"interpolation": "area"}, "cv2-linear, pil-bilinear"),
        ({"size": (256, 256)}, "one side"),
        ({"size": 0}, "one side"),
        ({"size": True}, "one side"),
        ({"size": (1 << 16) + 1}, "one side"),
        ({"resize": "none"}, "takes no size"),
        ({"resize": "exact"}, "height, width"),
        ({"resize": "exact", "size": [224, 224]}, "height, width"),
        ({"resize": "pad", "size": (48, 192), "crop": (48, 48)}, "takes no crop"),
        ({"crop": (257, 257)}, "does not fit"),
        ({"resize": "exact", "size": (64, 32), "crop": (32, 64)}, "does not fit"),
        ({"resize": "exact", "size": (64, 32), "crop": (64, 33)}, "does not fit"),
        ({"resize": "exact", "size": (64, 32), "crop": (65, 32)}, "does not fit"),
        ({"crop": 224}, "crop needs"),
        ({"scale": 0}, "positive"),
        ({"divisor": float("nan")}, "positive"),
        ({"mean": (0.5, 0.5)}, "3 numbers"),
        ({"mean": (0.5, 0.5, float("inf"))}, "finite"),
        ({"std": (1, 1, 1e-60)}, "float32"),
        ({"std": (1, 1, "1")}, "positive"),
        ({"draft": "on"}, "draft is 'on'"),
        ({"resize": "none", "size": None, "draft": True}, "needs a resize"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImageSpec(**{"resize": "short", "size": 256, **fields})


def test_a_spec_at_its_limits() -> None:
    low, high = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    ImageSpec(resize="short", size=1, mean=(high, -high, 0), std=(low, high, 1))
    ImageSpec(resize="short", size=1 << 16)
    ImageSpec(resize="short", size=256, crop=(256, 300))
    ImageSpec(resize="exact", size=(64, 32), crop=(64, 32))


def test_spec_text() -> None:
    assert image_spec("resize=short:256,crop=224") == PRESETS["paddleclas"]
    text = "resize=short:256,crop=224,mean=127,std=128,scale=1,color=RGB,interpolation=pil-bilinear"
    assert image_spec(text) == PRESETS["efficientnet-lite"]
    text = "resize=pad:48x192, color=BGR, scale=1, divisor=255, mean=0.5,0.5,0.5, std=.5"
    assert image_spec(text) == PRESETS["ppocr-cls"]
    assert image_spec("resize=none,scale=1.0/255.0").scale == 1 / 255
    assert image_spec("resize=short:9,draft=on").draft
    assert not image_spec("resize=short:9,draft=off").draft
    assert image_spec("resize=exact:32,crop=16x8").output_shape == (1, 3, 16, 8)
    # 1 % above white: a mean is often rounded
    assert image_spec("resize=none,scale=1,mean=0,257,257.5,std=1").mean == (0, 257, 257.5)
    spec = PRESETS["darknet53"]
    assert image_spec(spec) is spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paddleclass", "no preset .paddleclas, darknet53.*resize=short:N"),
        ("resize=short:256,sharpen=1", "unknown key 'sharpen'.*interpolation="),
        ("resize=short:256,crop=224,crop=224", "twice"),
        ("crop=224", "does not say resize"),
        ("resize=short", "one side"),
        ("resize=wide:3", "short, exact, pad, none"),
        ("resize=short:256,crop=a", "'a' is no size"),
        ("resize=exact:1x2x3", "no size"),
        ("resize=short:256,scale=__import__('os')", "not a number"),
        ("resize=short:256,scale=1/0", "divides by zero"),
        ("resize=short:256,scale=1/2/3", "not a number"),
        ("resize=short:256,mean=1,2", "3 numbers"),
        ("resize=short:256,mean=127,std=128", "range of x . scale / divisor: set scale"),
        ("resize=short:256,scale=1,mean=257.6,std=128", r"0\.\.255, the range"),
        ("resize=short:256,color=", "RGB, BGR"),
        ("resize=short:256,draft=1", "neither on nor off"),
    ],
)
def test_spec_text_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_spec(text)


PADDLEX = """
Global: {model_name: PP-LCNet_x1_0}
PreProcess:
  transform_ops:
  - ResizeImage:
      resize_short: 256
  - CropImage:
      size: 224
  - NormalizeImage:
      channel_num: 3
      mean: [0.485, 0.456, 0.406]
      order: ''
      scale: 0.00392156862745098
      std: [0.229, 0.224, 0.225]
  - ToCHWImage: null
PostProcess:
  Topk:
    topk: 5
    label_list: ["tench, Tinca tinca", goldfish, 180]
"""


def write_yml(folder: Path, text: str) -> Path:
    path = folder / "inference.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paddlex_export(tmp_path: Path) -> None:
    path = write_yml(tmp_path, PADDLEX)
    expected = (PRESETS["paddleclas"], ["tench, Tinca tinca", "goldfish", "180"])
    assert read_inference_yml(path) == expected
    assert read_inference_yml(tmp_path) == expected
    assert image_spec(str(path)) == image_spec(tmp_path) == PRESETS["paddleclas"]


def test_paddleclas_config_with_decode_and_label_file(tmp_path: Path) -> None:
    path = write_yml(
        tmp_path,
        """
PreProcess:
  transform_ops:
    - DecodeImage: {to_rgb: False, channel_first: False}
    - ResizeImage: {size: 224}
    - NormalizeImage: {scale: '1.0/255.0', mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], order: hwc}
    - ToCHWImage:
PostProcess:
  main_indicator: Topk
  Topk: {topk: 5, class_id_map_file: names/labels.txt}
""",
    )
    spec = image_spec(path)  # which does not need the label file
    half = (0.5, 0.5, 0.5)
    assert spec == ImageSpec(resize="exact", size=(224, 224), color="BGR", mean=half, std=half)
    with pytest.raises(DataError, match=r"labels\.txt"):
        read_inference_yml(path)
    (tmp_path / "names").mkdir()
    (tmp_path / "names/labels.txt").write_text("0 tench\n1 gold fish\n")
    assert read_inference_yml(path) == (spec, ["tench", "gold fish"])


def test_yml_without_the_sections(tmp_path: Path) -> None:
    path = write_yml(tmp_path, "Global: {model_name: x}\n")
    assert read_inference_yml(path) == (None, None)
    with pytest.raises(DataError, match="no PreProcess"):
        image_spec(path)


def test_yml_without_normalisation_feeds_bytes(tmp_path: Path) -> None:
    path = write_yml(tmp_path, "PreProcess: {transform_ops: [ToCHWImage: null]}")
    image = pixels(4, 5)
    assert np.array_equal(image_spec(path).apply(image)[0], image.transpose(2, 0, 1))


def test_yml_options_that_change_nothing(tmp_path: Path) -> None:
    ops = """
PreProcess:
  transform_ops:
  - DecodeImage: {to_rgb: True, to_np: %s, channel_first: False, backend: cv2}
  - ResizeImage: {resize_short: 256, interpolation: bilinear, backend: cv2, return_numpy: %s}
  - CropImage: {size: 224}
  - ToCHWImage:
  - NormalizeImage: {scale: 1/255, channel_num: 3, order: chw, output_fp16: False}
"""
    for values in ((True, False), (False, True)):
        assert image_spec(write_yml(tmp_path, ops % values)) == PRESETS["paddleclas"]


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("DecodeImage", "ResizeImage: {size: 9}"),
        ("ResizeImage: {size: 9}", "CropImage: {size: 9}"),
        ("CropImage: {size: 9}", "NormalizeImage"),
        ("CropImage: {size: 9}", "ToCHWImage"),
    ],
)
def test_yml_in_another_order(tmp_path: Path, early: str, late: str) -> None:
    text = "PreProcess: {transform_ops: [%s]}"
    name = early.split(":")[0]
    for ops in (f"{late}, {early}", f"{early}, {early}"):
        with pytest.raises(DataError, match=f"the op '{name}' stands twice or in"):
            image_spec(write_yml(tmp_path, text % ops))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CropImage:", "RandCropImage:", "op 'RandCropImage' is not supported"),
        ("ToCHWImage: null", "KeepKeys: null", "without ToCHWImage"),
        ("  - ToCHWImage: null\n", "", "without ToCHWImage"),
        ("resize_short: 256", "{resize_short: 256, interpolation: bicubic}", "bicubic"),
        ("resize_short: 256", "{resize_long: 256}", "option 'resize_long'"),
        ("resize_short: 256", "{interpolation: bilinear}", "size must be"),
        ("size: 224", "size: big", "'big'"),
        ("size: 224", "size: 300", "does not fit"),
        ("scale: 0.00392156862745098", "scale: __import__('os').getcwd()", "not a number"),
        ("scale: 0.00392156862745098", "scale: true", "True is not a number"),
        ("channel_num: 3", "channel_num: 4", "channel_num=4"),
        ("ToCHWImage: null", "{ToCHWImage: null, KeepKeys: null}", "which is no op"),
        ("ToCHWImage: null", "5", "holds 5, which is no op"),
        ("CropImage:\n      size: 224", "CropImage: [224]", "which is no op"),
        ("mean: [0.485, 0.456, 0.406]", "mean: 0.5", "mean is no list"),
        ("- CropImage:\n      size: 224\n", "- CropImage\n", "size must be"),
        (
            "- ToCHWImage: null",
            "- ToCHWImage: null\n  - CropImage: {size: 9}",
            "'CropImage' stands",
        ),
        ("transform_ops:", "operators:", "no list transform_ops"),
        ("PreProcess:", "Preprocess:", "Preprocess is no list of steps"),
        ("PreProcess:", "Deploy:", "Deploy has no list transforms"),
        ("label_list: [", "label_list: [[a], ", "label_list is no list"),
        ("PreProcess:", "PreProcess: [", "not a YAML file"),
        (PADDLEX, "just a word", "no sections"),
        (PADDLEX, "!!python/object:os.system {}", "not a YAML file"),
    ],
)
def test_yml_that_cannot_be_expressed(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PADDLEX
    path = write_yml(tmp_path, PADDLEX.replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        read_inference_yml(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_yml_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_inference_yml(tmp_path)


def read_cv2(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(cv2.imread(str(path)))[:, :, ::-1]


def test_jpeg_decodes_and_turns_as_opencv_does(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 40 * 56 * 3).astype(np.uint8).reshape(40, 56, 3)
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        Image.fromarray(ramp).save(path, exif=exif, quality=95)
        image = open_image(path)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), read_cv2(path)), orientation


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_modes_become_rgb_as_in_opencv(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(pixels(9, 7)).convert(mode).save(path)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (7, 9))
    assert np.array_equal(np.asarray(image), read_cv2(path))


def test_palette_with_transparency_and_cmyk(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(pixels(9, 7)).convert("P").save(path, transparency=bytes(range(200)))
    assert open_image(path).mode == "RGB"
    path = tmp_path / "x.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path)
    assert np.asarray(open_image(path))[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3)])
def test_16_bit_samples_keep_their_high_byte(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16))
    assert np.array_equal(np.asarray(open_image(path)), read_cv2(path))


@pytest.mark.parametrize(
    ("size", "times"),
    [(320, 1), (241, 1), (240, 2), (121, 2), (120, 4), (61, 4), (60, 8), (3, 8)],
)
def test_draft_shrinks_jpeg_as_far_as_the_resize_allows(
    tmp_path: Path, size: int, times: int
) -> None:
    spec = ImageSpec(resize="short", size=size, draft=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = np.linspace(0, 255, 480 * 640 * 3).astype(np.uint8).reshape(480, 640, 3)
    for name, options in {"a.jpg": {}, "turned.jpg": {"exif": exif}, "b.png": {}}.items():
        Image.fromarray(ramp).save(tmp_path / name, **options)
        whole = open_image(tmp_path / name)
        image = open_image(tmp_path / name, spec)
        expected = times if name.endswith("jpg") else 1
        assert image.size == tuple(side // expected for side in whole.size)
        difference = np.asarray(image, float) - np.asarray(whole.reduce(expected), float)
        assert np.abs(difference).mean() < 3
        assert spec.apply(image).shape == spec.apply(whole).shape
    off = dataclasses.replace(spec, draft=False)
    assert open_image(tmp_path / "a.jpg", off).size == (640, 480)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_draft_looks_at_each_side_of_an_image_that_lies_on_its_side(
    tmp_path: Path, orientation: int
) -> None:
    spec = ImageSpec(resize="exact", size=(100, 30), draft=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (800, 240)).save(tmp_path / "a.jpg", exif=exif)
    expected = (400, 120) if orientation < 5 else (30, 100)
    assert open_image(tmp_path / "a.jpg", spec).size == expected


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(open_image(tmp_path / "x.gif"))[0, 0].tolist() == [255, 0, 0]


def refused(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_image(tmp_path: Path) -> None:
    refused(tmp_path / "missing.jpg", "no such image file")
    refused(tmp_path, "cannot decode")
    for name, content in {"empty": b"", "text": b"hello", "zeros": bytes(999)}.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        refused(path, "not an image")
    Image.new("F", (4, 4)).save(tmp_path / "x.tif")
    refused(tmp_path / "x.tif", "floating-point")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif"])
def test_truncated_at_any_place(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(buffer, kind)
    content = buffer.getvalue()
    path = tmp_path / f"x.{kind}"
    for length in np.linspace(1, len(content) * 0.9, 12).astype(int):
        path.write_bytes(content[:length])
        refused(path, "cannot decode|not an image")


def test_damaged_bytes_give_an_image_or_a_data_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path = tmp_path / "x"
    for kind in ("jpeg", "png", "tiff", "webp", "gif"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels(24, 24)).save(buffer, kind, exif=exif)
        for _ in range(30):
            content = bytearray(buffer.getvalue())
            for position in rng.integers(0, len(content), 6):
                content[position] = rng.integers(0, 256)
            path.write_bytes(content)
            try:
                assert open_image(path).mode == "RGB"
            except DataError as error:
                assert "\n" not in str(error)


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize("side", [10_000, 60_000])  # Pillow warns of the first, refuses the second
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decompression_bomb(tmp_path: Path, side: int, action: Any) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        refused(path, "limit")


def test_pillows_limit_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(tmp_path / "x.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, which does no more than that
        refused(tmp_path / "x.png", "10x10 pixels exceed the limit of 99")
