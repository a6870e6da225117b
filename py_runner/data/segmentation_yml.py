"""The section `Deploy` of PaddleSeg's exports: deploy.yaml, and PaddleX's of them."""

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

__all__ = ["segmentation_image"]

_RESIZES = ("Resize", "ResizeByLong", "ResizeByShort", "LimitLong")
_STEPS = {
    "Resize": Allowed(
        0,
        {
            "target_size": None,
            "keep_ratio": (False, None),
            "size_divisor": (None,),
            "interp": ("LINEAR",),
        },
    ),
    "ResizeByLong": Allowed(0, {"long_size": None}),
    "ResizeByShort": Allowed(0, {"short_size": None}),
    "LimitLong": Allowed(0, {"max_long": None, "min_long": None}),
    "Padding": Allowed(
        1, {"target_size": None, "im_padding_value": None, "label_padding_value": None}
    ),
    "Normalize": Allowed(2, {"mean": None, "std": None}),
}
_LONGEST = 1 << 16


def segmentation_image(path: Path, section: Any) -> ImageSpec:
    """The preprocessing that the transforms of a segmenter come to.

    Pixels are floats from the start, as PaddleSeg reads them. Raises UnsupportedError for what
    ImageSpec cannot express, DataError for what is no list of transforms.
    """
    steps = in_order(path, _steps(path, section), _STEPS, what="transform")
    try:
        resizes = [name for name in _RESIZES if name in steps]
        if len(resizes) > 1:
            raise UnsupportedError(
                f"{path}: the transforms {' and '.join(resizes)} stand together; describe the "
                "image with --image"
            )
        fields: dict[str, Any] = {"resize": "none", "size": None}
        for name in resizes:
            fields.update(_resize(name, steps[name]))
        if "Padding" in steps:
            options = steps["Padding"]
            wide, high = size_of("Padding.target_size", options.get("target_size"))
            fields["canvas"] = (high, wide)
            value = options.get("im_padding_value", [127.5] * 3)
            value = value if isinstance(value, list) else [value]
            fields["fill"] = numbers("Padding", "im_padding_value", value)
        normalize = steps.get("Normalize")
        fields.update(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        if normalize is not None:
            fields["divisor"] = 255.0
            for key in ("mean", "std"):
                fields[key] = numbers("Normalize", key, normalize.get(key, [0.5]))
        return ImageSpec(**fields, interpolation="cv2-linear-f32", wide=True)
    except (UsageError, TypeError) as error:
        raise UnsupportedError(f"{path}: {error}; describe it with --image") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _resize(name: str, options: dict[str, Any]) -> dict[str, Any]:
    if name == "Resize":
        wide, high = size_of("Resize.target_size", options.get("target_size", [512, 512]))
        return {"resize": "exact", "size": (high, wide)}
    if name == "LimitLong":
        least, most = options.get("min_long"), options.get("max_long")
        return {
            "resize": "within",
            "size": (1 if least is None else least, _LONGEST if most is None else most),
        }
    key = "long" if name == "ResizeByLong" else "short"
    return {"resize": key, "size": options.get(f"{key}_size")}


def _steps(path: Path, section: Any) -> list[Step]:
    transforms = section.get("transforms") if isinstance(section, dict) else None
    if not isinstance(transforms, list):
        raise DataError(f"{path}: Deploy has no list transforms")
    return typed_steps(path, "transforms", transforms, kind="transform")
