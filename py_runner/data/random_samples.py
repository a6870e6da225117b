"""Samples of seeded random tensors, where no data are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from py_runner.data.image import ImageSpec
from py_runner.data.roles import is_length, is_mask, is_scale, is_size
from py_runner.errors import UsageError
from py_runner.tensors import Sample, TensorSpec

__all__ = ["Draws", "random_samples"]

_MOST_ELEMENTS = 1 << 28  # of a random tensor: 1 GB
_INTEGERS = 10  # what is drawn of integers that stand for nothing known: 0 to 9


@dataclass(frozen=True)
class Draws:
    """What the integers of inputs stand for: indices `below` a number, and `lengths` of the
    sequences that another input holds."""

    below: Mapping[str, int] = field(default_factory=dict)
    lengths: frozenset[str] = frozenset()


def random_samples(
    inputs: Sequence[TensorSpec],
    *,
    count: int = 4,
    image: ImageSpec | None = None,
    shapes: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    seed: int = 0,
    draws: Draws = Draws(),
) -> list[Sample]:
    """Seeded random tensors that fit the inputs: normal floats, integers 0 to 9.

    Where it is known what an input stands for, by `draws` or by what it is called, it is fed what
    makes sense: indices within their table, lengths within their sequence, masks of 1 and then 0, a
    scale_factor near 1, an im_shape that is the image's.

    Dynamic dimensions come from `shapes` (input name -> shapes used in turn), else from the
    ImageSpec; a dynamic first dimension is a batch of 1. Raises UsageError where one stays open.
    """
    unknown = set(shapes or {}) - {spec.name for spec in inputs}
    if unknown:
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(f"the model has no input '{min(unknown)}', only {names}")
    generator = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        given = {name: several[index % len(several)] for name, several in (shapes or {}).items()}
        closed = _closed_all(inputs, image, given)
        feeds = {spec.name: _drawn(spec, closed, draws, generator) for spec in inputs}
        samples.append(Sample(f"random[{index}]", feeds))
    return samples


def _drawn(
    spec: TensorSpec,
    shapes: Mapping[str, tuple[int, ...]],
    draws: Draws,
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """A tensor for an input, where `shapes` are those of all."""
    shape, dtype = shapes[spec.name], np.dtype(spec.dtype)
    if is_mask(spec.name):
        return _mask(shape, generator).astype(dtype)
    if dtype == np.bool_:
        return generator.integers(0, 2, shape).astype(dtype)
    if np.issubdtype(dtype, np.floating) and is_scale(spec.name):
        return generator.uniform(0.9, 1.1, shape).astype(dtype)
    sides = _image_sides(spec, shapes)
    if sides is not None:
        return np.broadcast_to(np.array(sides[: shape[-1]]), shape).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(shape).astype(dtype)
    if spec.name in draws.below:
        return generator.integers(0, draws.below[spec.name], shape).astype(dtype)
    if spec.name in draws.lengths or is_length(spec.name):
        return generator.integers(1, _longest(spec, shapes) + 1, shape).astype(dtype)
    return generator.integers(0, _INTEGERS, shape).astype(dtype)


def _mask(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Along the last axis 1 up to somewhere, at least once, and then 0."""
    if not shape:
        return np.ones(shape)
    ends = generator.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return np.arange(shape[-1]) < ends


def _image_sides(
    spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[float, ...] | None:
    """Height and width of the image that another input is, and a scale of 1, where an input asks
    for them."""
    images = [shape for name, shape in shapes.items() if len(shape) == 4 and name != spec.name]
    if not images or not is_size(spec.name) or shapes[spec.name][-1:] not in ((2,), (3,)):
        return None
    high, wide = images[0][1:3] if images[0][3] in (1, 3) else images[0][2:]
    return high, wide, 1.0


def _longest(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How long the sequences are that an input has the lengths of: the other inputs' second
    dimension."""
    sides = [shape[1] for name, shape in shapes.items() if len(shape) > 1 and name != spec.name]
    return min(sides, default=_INTEGERS - 1)


def _check_dtype(spec: TensorSpec) -> None:
    try:
        known = np.dtype(spec.dtype).isbuiltin == 1  # others' packages register more, as bfloat16
    except TypeError:
        known = False
    if not known:
        raise UsageError(
            f"input '{spec.name}' is of {spec.dtype}, which cannot be fed from here: export the "
            "model with float32 inputs"
        ) from None


def _closed_all(
    inputs: Sequence[TensorSpec], image: ImageSpec | None, given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shape of every input, without dynamic dimensions."""
    shapes = {}
    for spec in inputs:
        _check_dtype(spec)
        shapes[spec.name] = _closed(spec, image, given.get(spec.name))
    still = [spec for spec in inputs if -1 in shapes[spec.name]]
    if still:
        what = " and ".join(f"input '{spec.name}' is {spec}" for spec in still)
        how = " ".join(f"--check-shape {spec.name}={_example(spec)}" for spec in still)
        raise UsageError(
            f"{what}: say at which shape to check it, such as {how}, or with which data or image "
            "preprocessing"
        )
    for spec in inputs:
        shape = shapes[spec.name]
        if math.prod(shape) > _MOST_ELEMENTS:
            raise UsageError(f"input '{spec.name}' would be {list(shape)}: too large to check")
        wrong = spec.mismatch(np.empty(shape, spec.dtype))
        if wrong:
            raise UsageError(wrong)
    return shapes


def _example(spec: TensorSpec) -> str:
    """A shape that fits, and that such an input is likely to take."""
    likely = {
        3: (1, 16, 16),
        4: (1, 224, 224, 3) if spec.shape[-1] in (1, 3) else (1, 3, 224, 224),
        5: (1, 3, 8, 112, 112),
    }.get(len(spec.shape), (1, *[16] * (len(spec.shape) - 1)))
    return ",".join(str(have if have >= 0 else d) for have, d in zip(spec.shape, likely))


def _closed(
    spec: TensorSpec, image: ImageSpec | None, wanted: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The shape of an input as far as it can be known."""
    if wanted is None:
        wanted = spec.shape
        if len(wanted) == 4 and image is not None:
            wanted = _tightened(image.likely_shape, wanted)
        if wanted[:1] == (-1,):
            wanted = (1, *wanted[1:])
    return wanted


def _tightened(shape: tuple[int, ...], own: tuple[int, ...]) -> tuple[int, ...]:
    """The shape where both say the same or one says nothing; otherwise as it is, to be refused."""
    return tuple(have if side < 0 else side for side, have in zip(shape, own))
