"""Convolutions by the window that Paddle Lite has Winograd's algorithm for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program
from lite_opt.passes.parts import Part, by_parts, windows
from lite_opt.passes.rule import program_rule

__all__ = ["windows_by_parts"]

_SIDE = 3
# Of the larger window. As measured of 5x5: 0.33 to 0.38 instructions a multiply-add, and 0.18 to
# 0.19 of the same multiply-adds as four of 3x3.
_SIDES = (5, 6)
# Fewer channels than these gain a quarter, too little for three sums more; smaller outputs are
# computed in tiles of 2x2 (lite/kernels/arm/conv_winograd.cc), which save little.
_CHANNELS = 48
_ELEMENTS = 128


@program_rule(
    because="lite/kernels/arm/conv_compute.cc has Winograd's algorithm for 3x3 and stride 1 only; "
    "four of these take half the instructions of a matrix product with 5x5"
)
def windows_by_parts(program: Program) -> Iterator[tuple[str, str]]:
    """A convolution of one group by a window of 5x5 or 6x6 -> the sum of four of 3x3, each with its
    part of the weights."""
    yield from by_parts(program, _parts)


def _parts(program: Program, op: Op) -> list[Part]:
    """The windows of 3x3 that a convolution is the sum of; none where they take longer."""
    if op.type != "conv2d" or op.get("groups", 1) != 1 or op.input("Bias"):
        return []
    if op.get("strides") != [1, 1] or set(op.get("dilations") or [1]) != {1}:
        return []
    weight = program.params.get(op.input("Filter") or "")
    if weight is None or weight.dtype != np.float32 or min(weight.shape[:2]) < _CHANNELS:
        return []
    kernel = list(weight.shape[2:])
    if not set(kernel) <= set(_SIDES) or op.get("data_format", "NCHW") not in _NCHW:
        return []
    sides = program.var(op.inputs["Input"][0]).shape[2:]
    out = program.var(op.outputs["Output"][0]).shape[2:]
    pads = padding(op, sides, kernel)
    if pads is None or min(*sides, *out) < 0 or math.prod(out) < _ELEMENTS:
        return []
    return windows(weight, pads, _SIDE)


_NCHW = ("NCHW", "AnyLayout")
