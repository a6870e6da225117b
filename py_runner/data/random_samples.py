"""Samples of seeded random tensors, where no data are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from py_runner.data.image import ImageSpec
from py_runner.errors import UsageError
from py_runner.tensors import Sample, TensorSpec

__all__ = ["random_samples"]

_MOST_ELEMENTS = 1 << 28  # of a random tensor: 1 GB


def random_samples(
    inputs: Sequence[TensorSpec],
    *,
    count: int = 4,
    image: ImageSpec | None = None,
    shapes: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Seeded random tensors that fit the inputs: normal floats, integers 0 to 9.

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
        feeds = {}
        for spec in inputs:
            _check_dtype(spec)
            wanted = (shapes or {}).get(spec.name)
            shape = _closed(spec, image, wanted[index % len(wanted)] if wanted else None)
            if np.issubdtype(np.dtype(spec.dtype), np.floating):
                feeds[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
            else:
                feeds[spec.name] = generator.integers(0, 10, shape).astype(spec.dtype)
        samples.append(Sample(f"random[{index}]", feeds))
    return samples


def _check_dtype(spec: TensorSpec) -> None:
    try:
        np.dtype(spec.dtype)
    except TypeError:
        raise UsageError(
            f"input '{spec.name}' is of {spec.dtype}, which cannot be fed from here: export the "
            "model with float32 inputs"
        ) from None


def _closed(
    spec: TensorSpec, image: ImageSpec | None, wanted: tuple[int, ...] | None
) -> tuple[int, ...]:
    if wanted is None:
        wanted = spec.shape
        if len(wanted) == 4 and image is not None:
            wanted = image.output_shape
        if wanted[:1] == (-1,):
            wanted = (1, *wanted[1:])
    if -1 in wanted:
        raise UsageError(
            f"input '{spec.name}' is {spec}: say at which shape to check it, such as "
            f"--check-shape {spec.name}=1,3,224,224, or with which data or image preprocessing"
        )
    if math.prod(wanted) > _MOST_ELEMENTS:
        raise UsageError(f"input '{spec.name}' would be {list(wanted)}: too large to check")
    wrong = spec.mismatch(np.empty(wanted, spec.dtype))
    if wrong:
        raise UsageError(wrong)
    return wanted
