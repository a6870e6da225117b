"""What the inputs of a model stand for, by what Paddle's kits call them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.data.geometry import Placement
from py_runner.tensors import TensorSpec

__all__ = ["beside_picture", "is_length", "is_mask", "is_scale", "is_size", "picture_input"]

_SCALE = re.compile(r"scale_?factor", re.IGNORECASE)
_SIZE = re.compile(r"(im|img|image|ori|origin)_?(shape|size|info)", re.IGNORECASE)
_ORIGINAL = re.compile(r"ori|(im|img|image)_?size", re.IGNORECASE)
_MASK = re.compile(r"mask", re.IGNORECASE)
_LENGTH = re.compile(r"(^|[_.]|seq)(len|lens|length|lengths)($|[_.])", re.IGNORECASE)


def is_scale(name: str) -> bool:
    """Whether an input is what a picture's sides were multiplied by, (y, x)."""
    return _SCALE.search(name) is not None


def is_size(name: str) -> bool:
    """Whether an input is the height and width of a picture."""
    return _SIZE.search(name) is not None


def is_mask(name: str) -> bool:
    """Whether an input says of each place whether it counts."""
    return _MASK.search(name) is not None


def is_length(name: str) -> bool:
    """Whether an input is how long each sequence is."""
    return _LENGTH.search(name) is not None


def picture_input(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The one input that is a picture, where the others tell its size and its scale."""
    if len(inputs) == 1:
        return inputs[0]
    rest = [spec for spec in inputs if not (is_scale(spec.name) or is_size(spec.name))]
    return rest[0] if len(rest) == 1 and len(rest[0].shape) == 4 else None


def beside_picture(
    spec: TensorSpec, place: Placement, height: int, width: int
) -> npt.NDArray[Any] | None:
    """What an input is fed beside a picture of `height` x `width`; None for what is not known.

    scale_factor is (y, x). im_shape is the size after the resize and before any padding; im_size,
    ori_shape and the like are the picture's own; im_info is the resized size and its scale.
    """
    if is_scale(spec.name):
        values: tuple[float, ...] = place.scale
    elif not is_size(spec.name):
        return None
    elif _ORIGINAL.search(spec.name):
        values = (height, width)
    else:
        values = (place.height, place.width, place.scale[0])[: 3 if spec.shape[-1:] == (3,) else 2]
    if spec.shape[-1:] not in ((len(values),), (-1,)):
        return None
    shape = [side if side >= 0 else 1 for side in spec.shape[:-1]]
    return np.broadcast_to(np.array(values), (*shape, len(values))).astype(spec.dtype)
