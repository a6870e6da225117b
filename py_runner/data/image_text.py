"""How a user names preprocessing: a preset, an `inference.yml`, or a text `KEY=VALUE,...`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from py_runner.data.geometry import SIDE
from py_runner.data.image import PRESETS, SPEC_KEYS, ImageSpec, Size
from py_runner.data.inference_yml import read_preprocessing
from py_runner.data.yml_steps import read_number
from py_runner.errors import UsageError

__all__ = ["image_spec"]


def image_spec(value: ImageSpec | str | os.PathLike[str]) -> ImageSpec:
    """The ImageSpec that `value` names: what the command's `--image` accepts.

    value: an ImageSpec; a name in `PRESETS`; a path to an `inference.yml` or to a folder that
    holds one; or a text `KEY=VALUE,...` such as `resize=short:256,crop=224,interpolation=
    pil-bilinear` or `resize=exact:32x100,color=BGR,scale=1,mean=127.5,std=127.5`. Sizes are
    HEIGHTxWIDTH, one number stands for all channels, `resize` is required, and what is not
    written has ImageSpec's default.

    Raises UsageError for anything else, naming what is allowed, and DataError for an
    `inference.yml` that cannot be read.
    """
    if isinstance(value, ImageSpec):
        return value
    if isinstance(value, str):
        if value in PRESETS:
            return PRESETS[value]
        if "=" in value and not Path(value).exists():
            return _parse_spec(value)
    path = Path(value)
    if not path.exists():
        raise UsageError(
            f"image {str(value)!r} is no preset ({', '.join(PRESETS)}), no file, "
            f"and no list of KEY=VALUE ({SPEC_KEYS})"
        )
    return read_preprocessing(path)


def _parse_spec(text: str) -> ImageSpec:
    fields: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key in fields:
            raise UsageError(f"image: {key} is given twice in {text!r}")
        try:
            fields.update(_parse_field(key, value))
        except KeyError:
            raise UsageError(
                f"image: unknown key {key!r} in {text!r}; allowed: {SPEC_KEYS}"
            ) from None
        except ValueError as error:
            raise UsageError(f"image: {part.strip()!r}: {error}; allowed: {SPEC_KEYS}") from error
    if "resize" not in fields:
        raise UsageError(f"image: {text!r} does not say resize=...; allowed: {SPEC_KEYS}")
    spec = ImageSpec(**fields)
    brightest = 255 * spec.scale / spec.divisor
    if not all(0 <= mean <= brightest * 1.01 for mean in spec.mean):
        raise UsageError(
            f"image: mean {','.join(f'{mean:g}' for mean in spec.mean)} lies outside "
            f"0..{brightest:g}, the range of x * scale / divisor: set scale (1/255 for means below "
            f"1, 1 for means of 0..255)"
        )
    return spec


def _parse_field(key: str, value: str) -> dict[str, Any]:
    """The fields of ImageSpec that KEY=VALUE sets; ValueError for a value, KeyError for a key."""
    if key == "resize":
        kind, _, size = value.partition(":")
        return {"resize": kind, "size": _parse_size(size, square=kind not in SIDE)}
    if key in ("crop", "canvas"):
        return {key: _parse_size(value, square=True)}
    if key in ("color", "interpolation"):
        return {key: value}
    if key == "stride":
        return {key: _parse_size(value, square=False)}
    if key in ("draft", "wide", "upright"):
        if value not in ("on", "off"):
            raise ValueError(f"{value!r} is neither on nor off")
        return {key: value == "on"}
    if key in ("scale", "divisor"):
        return {key: read_number(value)}
    if key in ("mean", "std", "fill"):
        numbers = tuple(read_number(number) for number in value.split(","))
        return {key: numbers * 3 if len(numbers) == 1 else numbers}
    raise KeyError(key)


def _parse_size(text: str, *, square: bool) -> Size:
    if not text:
        return None
    sides = text.lower().split("x")
    if not all(side.isascii() and side.isdigit() for side in sides) or len(sides) > 2:
        raise ValueError(f"{text!r} is no size, such as 224 or 48x192 (height x width)")
    if len(sides) == 1:
        return (int(sides[0]), int(sides[0])) if square else int(sides[0])
    return int(sides[0]), int(sides[1])
