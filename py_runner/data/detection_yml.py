"""The section `Preprocess` of PaddleDetection's exports: infer_cfg.yml, and PaddleX's of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from py_runner.data.image import ImageSpec
from py_runner.data.yml_steps import (
    Allowed,
    Step,
    UnsupportedError,
    in_order,
    numbers,
    size_of,
    typed_steps,
)
from py_runner.errors import DataError, UsageError

__all__ = ["detection_image"]

# By the numbers that OpenCV gives its modes.
_MODES = {0: "cv2-nearest", 1: "cv2-linear", 2: "cv2-cubic", 3: "cv2-area"}
_RESIZES = ("Resize", "LetterBoxResize", "TopDownEvalAffine")
_STEPS = {
    "Resize": Allowed(
        0, {"target_size": None, "keep_ratio": (True, False), "interp": tuple(_MODES)}
    ),
    "LetterBoxResize": Allowed(0, {"target_size": None}),
    "TopDownEvalAffine": Allowed(0, {"trainsize": None, "use_udp": (False,)}),
    "Pad": Allowed(1, {"size": None, "fill_value": None}),
    # The two commute.
    "NormalizeImage": Allowed(
        2,
        {
            "mean": None,
            "std": None,
            "is_scale": (True, False),
            "norm_type": ("mean_std", "none", None),
        },
    ),
    "Permute": Allowed(2, {"to_bgr": (False,), "channel_first": (True,)}),
    "PadStride": Allowed(3, {"stride": None}),
}


def detection_image(path: Path, section: Any) -> ImageSpec:
    """The preprocessing that the steps of a detector come to.

    Raises UnsupportedError for what ImageSpec cannot express, DataError for what is no list of
    steps.
    """
    steps = in_order(path, _steps(path, section), _STEPS)
    if "Permute" not in steps:
        raise UnsupportedError(
            f"{path}: without the step 'Permute' the tensor is NHWC, which is not supported"
        )
    try:
        fields: dict[str, Any] = {"resize": "none", "size": None, "wide": True}
        resizes = [name for name in _RESIZES if name in steps]
        if len(resizes) > 1:
            raise ValueError(f"it has the steps {' and '.join(resizes)}; describe --image")
        if "Resize" in steps:
            options = steps["Resize"]
            fields["resize"] = "fit" if options.get("keep_ratio", True) else "exact"
            fields["size"] = size_of("Resize.target_size", options.get("target_size"))
            fields["interpolation"] = _MODES[options.get("interp", 1)]
        if "LetterBoxResize" in steps:
            size = size_of("LetterBoxResize.target_size", steps["LetterBoxResize"]["target_size"])
            # 127.5 comes to 128 among 8-bit pixels.
            fields.update(resize="letterbox", size=size, fill=(128, 128, 128))
            fields["interpolation"] = "cv2-area"
        if "TopDownEvalAffine" in steps:
            wide, high = size_of("TopDownEvalAffine", steps["TopDownEvalAffine"].get("trainsize"))
            fields.update(resize="affine", size=(high, wide))
        if "Pad" in steps:
            options = steps["Pad"]
            fields["canvas"] = size_of("Pad.size", options.get("size"))
            fields["fill"] = numbers("Pad", "fill_value", options.get("fill_value", [114.0] * 3))
        fields.update(_normalize(steps.get("NormalizeImage")))
        fields["stride"] = max(1, steps.get("PadStride", {}).get("stride", 0))
        return ImageSpec(**fields)
    except (UsageError, KeyError, TypeError) as error:
        raise UnsupportedError(f"{path}: {error}; describe it with --image") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _normalize(options: dict[str, Any] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "scale": 1.0}
    if options is None:
        return fields
    if options.get("is_scale", True):
        fields["scale"] = 1 / 255
    if options.get("norm_type", "mean_std") == "mean_std":
        for key in ("mean", "std"):
            fields[key] = numbers("NormalizeImage", key, options.get(key))
    return fields


def _steps(path: Path, section: Any) -> list[Step]:
    if not isinstance(section, list):
        raise DataError(f"{path}: Preprocess is no list of steps")
    return typed_steps(path, "Preprocess", section, kind="step")
