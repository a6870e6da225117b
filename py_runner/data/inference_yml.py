"""What a PaddleClas or PaddleX export says of itself: its inference.yml."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from py_runner.data.image import SPEC_KEYS, ImageSpec
from py_runner.data.labels import read_labels
from py_runner.errors import DataError, UsageError
from py_runner.files.regular import read_text

__all__ = [
    "UnsupportedError",
    "label_file",
    "read_image",
    "read_inference_yml",
    "read_label_list",
    "read_number",
    "read_preprocessing",
]

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def read_inference_yml(
    path: str | os.PathLike[str],
) -> tuple[ImageSpec | None, list[str] | None]:
    """Preprocessing and label names that a PaddleClas or PaddleX export carries.

    path: an `inference.yml`, or a folder that holds one. Understood are PreProcess.transform_ops
    (DecodeImage, ResizeImage, CropImage, NormalizeImage, ToCHWImage) and, in any section of
    PostProcess, `label_list` or `class_id_map_file` (relative to the .yml). None stands for a
    part that the file does not have.

    Raises DataError for a file that cannot be read, and for an op or option that ImageSpec cannot
    express, naming it.
    """
    path, document = _load(Path(path))
    return _image(path, document), _labels(path, document)


class UnsupportedError(DataError):
    """A whole file that asks for what ImageSpec cannot express."""


def read_image(path: str | os.PathLike[str]) -> ImageSpec | None:
    """The preprocessing of an `inference.yml`, or None where it has none.

    Raises UnsupportedError for what ImageSpec cannot express, another DataError for a broken file.
    """
    return _image(*_load(Path(path)))


def read_label_list(path: str | os.PathLike[str]) -> list[str] | None:
    """The names of the classes in an `inference.yml`, or None. Raises DataError as above."""
    return _labels(*_load(Path(path)))


def label_file(path: str | os.PathLike[str]) -> Path | None:
    """The file of labels that an `inference.yml` names, if it does. Raises DataError as above."""
    path, document = _load(Path(path))
    sections = document.get("PostProcess")
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict) and section.get("class_id_map_file"):
            return path.parent / str(section["class_id_map_file"])
    return None


def read_preprocessing(path: str | os.PathLike[str]) -> ImageSpec:
    """The preprocessing alone, of an `inference.yml` or a folder that holds one.

    Raises DataError as `read_inference_yml` does, and where the file has none.
    """
    path, document = _load(Path(path))
    spec = _image(path, document)
    if spec is None:
        raise DataError(f"{path}: has no PreProcess section; describe the image: {SPEC_KEYS}")
    return spec


def read_number(value: object) -> float:
    """A number, or a text such as "0.5" or "1.0/255.0"; ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    parts = [part.strip() for part in str(value).split("/")]
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{value!r} is not a number or a quotient of two numbers")
    if len(parts) == 1:
        return float(parts[0])
    if float(parts[1]) == 0:
        raise ValueError(f"{value!r} divides by zero")
    return float(parts[0]) / float(parts[1])


def _load(path: Path) -> tuple[Path, dict[str, Any]]:
    try:
        import yaml
    except ImportError:
        raise DataError(f"{path}: reading .yml needs PyYAML: pip install pyyaml") from None

    if path.is_dir():
        path = path / "inference.yml"
    try:
        document = yaml.safe_load(read_text(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a YAML file: {reason}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not an inference.yml: it has no sections")
    return path, document


def _image(path: Path, document: dict[str, Any]) -> ImageSpec | None:
    for section in ("Preprocess", "Deploy"):
        if section in document:
            raise UnsupportedError(
                f"{path}: section {section!r} (PaddleDetection, PaddleSeg) is not supported; "
                f"describe the image: {SPEC_KEYS}"
            )
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
        if "ResizeImage" in options:
            fields.update(_resize(options["ResizeImage"]))
        if "CropImage" in options:
            fields["crop"] = _size(options["CropImage"].get("size"))
        # Without the op, pixels go to the model as 0..255; with it, its defaults are ImageSpec's.
        normalize = options.get("NormalizeImage", {"scale": 1, "mean": [0] * 3, "std": [1] * 3})
        if normalize.get("scale") is not None:
            fields["scale"] = read_number(normalize["scale"])
        for key in ("mean", "std"):
            if isinstance(normalize.get(key), list):
                fields[key] = tuple(read_number(number) for number in normalize[key])
            elif normalize.get(key) is not None:
                raise ValueError(f"NormalizeImage: {key} is no list: {normalize[key]!r}")
        return ImageSpec(**fields)
    except UsageError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


# What ImageSpec does in this order anyway; the last two commute.
_ORDER = {
    "DecodeImage": 0,
    "ResizeImage": 1,
    "CropImage": 2,
    "NormalizeImage": 3,
    "ToCHWImage": 3,
}
# Per op: its options, each with the values that can be expressed, or None for "looked at later".
_OPTIONS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "DecodeImage": {
        "to_rgb": (True, False),
        "to_np": (True, False),
        "channel_first": (False,),
        "backend": ("cv2",),
        "img_mode": ("RGB", "BGR"),
    },
    "ResizeImage": {
        "size": None,
        "resize_short": None,
        "interpolation": (None, "bilinear"),
        "backend": ("cv2", "pil", "PIL"),
        "return_numpy": (True, False),
    },
    "CropImage": {"size": None},
    "NormalizeImage": {
        "scale": None,
        "mean": None,
        "std": None,
        "order": (None, "", "hwc", "chw"),
        "channel_num": (3,),
        "output_fp16": (False,),
    },
    "ToCHWImage": {},
}


def _ops(path: Path, ops: list[Any]) -> dict[str, dict[str, Any]]:
    """{op: options}, or DataError where an op, an option or the order cannot be expressed."""
    result: dict[str, dict[str, Any]] = {}
    reached = 0
    for entry in ops:
        name, options = entry, None
        if isinstance(entry, dict) and len(entry) == 1:
            name, options = next(iter(entry.items()))
        if not isinstance(name, str) or not isinstance(options, (dict, type(None))):
            raise DataError(f"{path}: transform_ops holds {entry!r}, which is no op")
        if name not in _ORDER:
            raise UnsupportedError(
                f"{path}: the op {name!r} is not supported ({', '.join(_ORDER)} are); "
                f"describe the image: {SPEC_KEYS}"
            )
        if name in result or _ORDER[name] < reached:
            raise UnsupportedError(
                f"{path}: the op {name!r} stands twice or in an unsupported place"
            )
        reached = _ORDER[name]
        for key, value in (options or {}).items():
            if key not in _OPTIONS[name]:
                raise UnsupportedError(f"{path}: {name} has the unsupported option {key!r}")
            allowed = _OPTIONS[name][key]
            if allowed is not None and value not in allowed:
                raise UnsupportedError(
                    f"{path}: {name} has {key}={value!r}; supported are {allowed}"
                )
        result[name] = options or {}
    if "ToCHWImage" not in result:
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


def _size(value: object) -> tuple[Any, Any]:
    """(height, width) of PaddleClas' `size`, which is one number or [width, height]."""
    if isinstance(value, list) and len(value) == 2:
        return value[1], value[0]
    if isinstance(value, int):
        return value, value
    raise ValueError(f"size must be one number or [width, height], not {value!r}")


def _labels(path: Path, document: dict[str, Any]) -> list[str] | None:
    sections = document.get("PostProcess")
    if not isinstance(sections, dict):
        return None
    for name, section in sections.items():
        if not isinstance(section, dict):
            continue
        labels = section.get("label_list")
        if labels is not None:
            # YAML reads unquoted names such as 180 as numbers, which is harmless.
            if not isinstance(labels, list) or not labels or {type(x) for x in labels} - {str, int}:
                raise DataError(f"{path}: {name}.label_list is no list of names")
            return [str(label) for label in labels]
        if section.get("class_id_map_file"):
            return read_labels(path.parent / str(section["class_id_map_file"]))
    return None
