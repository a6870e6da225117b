"""What an export says of itself, beside the model: inference.yml, infer_cfg.yml or deploy.yaml.

PaddleClas, PaddleOCR and PaddleX write PreProcess, PaddleDetection writes Preprocess (see
`detection_yml`), PaddleSeg writes Deploy (see `segmentation_yml`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from py_runner.data.detection_yml import detection_image
from py_runner.data.image import SPEC_KEYS, ImageSpec
from py_runner.data.labels import read_labels
from py_runner.data.segmentation_yml import segmentation_image
from py_runner.data.task_spec import task_of
from py_runner.data.yml_steps import (
    Allowed,
    Step,
    UnsupportedError,
    in_order,
    load_yml,
    numbers,
    read_number,
)
from py_runner.errors import DataError, UsageError

__all__ = [
    "label_file",
    "read_image",
    "read_inference_yml",
    "read_label_list",
    "read_preprocessing",
    "read_task",
]


def read_inference_yml(
    path: str | os.PathLike[str],
) -> tuple[ImageSpec | None, list[str] | None]:
    """Preprocessing and label names that an export carries.

    path: the file, or a folder that holds one. Understood are PreProcess.transform_ops (PaddleClas'
    DecodeImage, ResizeImage, CropImage, NormalizeImage, ToCHWImage; PaddleOCR's DetResizeForTest,
    RecResizeImg and ClsResizeImg; label encoders and KeepKeys, which only training needs, are
    passed over), the steps of Preprocess and of Deploy, and as labels `label_list`,
    `class_id_map_file` (relative to the .yml) and `character_dict`. None stands for a part that the
    file does not have.

    Raises DataError for a file that cannot be read, and for a step or option that ImageSpec cannot
    express, naming it.
    """
    path, document = load_yml(Path(path))
    return _image(path, document), _labels(path, document)


def read_image(path: str | os.PathLike[str]) -> ImageSpec | None:
    """The preprocessing of such a file, or None where it has none.

    Raises UnsupportedError for what ImageSpec cannot express, another DataError for a broken file.
    """
    return _image(*load_yml(Path(path)))


def read_label_list(path: str | os.PathLike[str]) -> list[str] | None:
    """The names of the classes, or the characters, in such a file. Raises DataError as above."""
    return _labels(*load_yml(Path(path)))


def read_task(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the model does, see `task_of`, or None. Raises DataError as above."""
    return task_of(*load_yml(Path(path)))


def label_file(path: str | os.PathLike[str]) -> Path | None:
    """The file of labels that such a file names, if it does. Raises DataError as above."""
    path, document = load_yml(Path(path))
    sections = document.get("PostProcess")
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict) and section.get("class_id_map_file"):
            return path.parent / str(section["class_id_map_file"])
    return None


def read_preprocessing(path: str | os.PathLike[str]) -> ImageSpec:
    """The preprocessing alone, of such a file or a folder that holds one.

    Raises DataError as `read_inference_yml` does, and where the file has none.
    """
    path, document = load_yml(Path(path))
    spec = _image(path, document)
    if spec is None:
        raise DataError(f"{path}: has no PreProcess section; describe the image: {SPEC_KEYS}")
    return spec


def _image(path: Path, document: dict[str, Any]) -> ImageSpec | None:
    if "Preprocess" in document:
        return detection_image(path, document["Preprocess"])
    if "Deploy" in document:
        return segmentation_image(path, document["Deploy"])
    if document.get("PreProcess") is None:
        return None
    section = document["PreProcess"]
    ops = section.get("transform_ops") if isinstance(section, dict) else None
    if not isinstance(ops, list):
        raise DataError(f"{path}: PreProcess has no list transform_ops")
    options = _ops(path, ops)
    try:
        decode = options.get("DecodeImage", {})
        color = decode.get("img_mode", "RGB" if decode.get("to_rgb", True) else "BGR")
        fields: dict[str, Any] = {"color": color, "resize": "none", "size": None}
        fields["upright"] = not decode.get("ignore_orientation", False)
        if "ResizeImage" in options:
            fields.update(_resize(options["ResizeImage"]))
        if "DetResizeForTest" in options:
            fields.update(_page(options["DetResizeForTest"]))
        if "CropImage" in options:
            fields["crop"] = _size(options["CropImage"].get("size"))
        lines = [name for name in _LINES if name in options]
        if lines:
            return ImageSpec(**fields | _line(lines[0], options[lines[0]]))
        # Without the op, pixels go to the model as 0..255; with it, its defaults are ImageSpec's.
        normalize = options.get("NormalizeImage", {"scale": 1, "mean": [0] * 3, "std": [1] * 3})
        if normalize.get("scale") is not None:
            fields["scale"] = read_number(normalize["scale"])
        for key in ("mean", "std"):
            if normalize.get(key) is not None:
                fields[key] = numbers("NormalizeImage", key, normalize[key])
        return ImageSpec(**fields)
    except UsageError as error:
        raise UnsupportedError(f"{path}: {error}; describe it with --image") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


_LINES = ("RecResizeImg", "ClsResizeImg")
# What ImageSpec does in this order anyway; the two of place 3 commute.
_ALLOWED = {
    "DecodeImage": Allowed(
        0,
        {
            "to_rgb": (True, False),
            "to_np": (True, False),
            "channel_first": (False,),
            "backend": ("cv2",),
            "img_mode": ("RGB", "BGR"),
            "ignore_orientation": (True, False),
        },
    ),
    "ResizeImage": Allowed(
        1,
        {
            "size": None,
            "resize_short": None,
            "interpolation": (None, "bilinear"),
            "backend": ("cv2", "pil", "PIL"),
            "return_numpy": (True, False),
        },
    ),
    "DetResizeForTest": Allowed(
        1,
        {
            "limit_side_len": None,
            "limit_type": ("min", "max", None),
            "resize_long": None,
            "image_shape": None,
            "keep_ratio": (False, None),
            "max_side_limit": (4000,),
        },
    ),
    "CropImage": Allowed(2, {"size": None}),
    "NormalizeImage": Allowed(
        3,
        {
            "scale": None,
            "mean": None,
            "std": None,
            "order": (None, "", "hwc", "chw"),
            "channel_num": (3,),
            "output_fp16": (False,),
        },
    ),
    "ToCHWImage": Allowed(3, {}),
    # Resizes, normalizes and turns to CHW at once.
    "RecResizeImg": Allowed(
        4,
        {
            "image_shape": None,
            "padding": (True, False),
            "infer_mode": (True, False),
            "character_dict_path": None,
            "eval_mode": (True, False),
        },
    ),
    "ClsResizeImg": Allowed(4, {"image_shape": None}),
}


def _ops(path: Path, ops: list[Any]) -> dict[str, dict[str, Any]]:
    """{op: options}, or DataError where an op, an option or the order cannot be expressed."""
    steps: list[Step] = []
    for entry in ops:
        name, options = entry, None
        if isinstance(entry, dict) and len(entry) == 1:
            name, options = next(iter(entry.items()))
        if not isinstance(name, str) or not isinstance(options, (dict, type(None))):
            raise DataError(f"{path}: transform_ops holds {entry!r}, which is no op")
        # Labels and what is kept of a sample are for training and evaluation.
        if not name.endswith("LabelEncode") and name != "KeepKeys":
            steps.append(Step(name, options or {}))
    result = in_order(path, steps, _ALLOWED, what="op")
    lines = [name for name in _LINES if name in result]
    if lines and set(result) - {"DecodeImage", lines[0]}:
        raise UnsupportedError(
            f"{path}: the op {lines[0]!r} does not stand alone; describe the image with --image"
        )
    if not lines and "ToCHWImage" not in result:
        raise UnsupportedError(
            f"{path}: without ToCHWImage the tensor is NHWC, which is not supported"
        )
    return result


def _resize(options: dict[str, Any]) -> dict[str, Any]:
    backend = str(options.get("backend", "cv2")).lower()
    fields: dict[str, Any] = {"interpolation": "pil-bilinear" if backend == "pil" else "cv2-linear"}
    if options.get("resize_short") is not None:  # wins over size, as in PaddleClas
        return {**fields, "resize": "short", "size": options["resize_short"]}
    return {**fields, "resize": "exact", "size": _size(options.get("size"))}


def _page(options: dict[str, Any]) -> dict[str, Any]:
    """DetResizeForTest; which of its options wins over which is PaddleOCR's."""
    if "image_shape" in options:
        shape = options["image_shape"]
        if not isinstance(shape, list) or len(shape) != 2:
            raise ValueError(f"DetResizeForTest: image_shape is {shape!r}, not [height, width]")
        return {"resize": "exact", "size": (shape[0], shape[1])}
    if "limit_side_len" in options:
        rule = options.get("limit_type") or "min"
        return {"resize": f"page-{rule}", "size": options["limit_side_len"]}
    if "resize_long" in options:
        return {"resize": "page-long", "size": options["resize_long"]}
    return {"resize": "page-min", "size": 736}


def _line(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """RecResizeImg and ClsResizeImg, with their fixed normalization."""
    shape = options.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise ValueError(f"{name}: image_shape is {shape!r}, not [3, height, width]")
    if shape[0] != 3:
        raise UsageError(f"{name}: has {shape[0]!r} channels, and 3 are supported")
    rule = "line" if name == "RecResizeImg" else "pad"
    half = (0.5, 0.5, 0.5)
    return {
        "resize": rule if options.get("padding", True) else "exact",
        "size": (shape[1], shape[2]),
        **{"scale": 1.0, "divisor": 255.0, "mean": half, "std": half},
    }


def _size(value: object) -> tuple[Any, Any]:
    """(height, width) of PaddleClas' `size`, which is one number or [width, height]."""
    if isinstance(value, list) and len(value) == 2:
        return value[1], value[0]
    if isinstance(value, int):
        return value, value
    raise ValueError(f"size must be one number or [width, height], not {value!r}")


def _labels(path: Path, document: dict[str, Any]) -> list[str] | None:
    if "Preprocess" in document and document.get("label_list") is not None:
        return _names(path, "label_list", document["label_list"])
    sections = document.get("PostProcess")
    if not isinstance(sections, dict):
        return None
    if sections.get("character_dict") is not None:
        return _names(path, "PostProcess.character_dict", sections["character_dict"])
    for name, section in sections.items():
        if not isinstance(section, dict):
            continue
        labels = section.get("label_list")
        if labels is not None:
            return _names(path, f"{name}.label_list", labels)
        if section.get("class_id_map_file"):
            return read_labels(path.parent / str(section["class_id_map_file"]))
    return None


def _names(path: Path, field: str, labels: object) -> list[str]:
    # YAML reads unquoted names such as 180 as numbers, which is harmless.
    if not isinstance(labels, list) or not labels or {type(x) for x in labels} - {str, int}:
        raise DataError(f"{path}: {field} is no list of names")
    return [str(label) for label in labels]
