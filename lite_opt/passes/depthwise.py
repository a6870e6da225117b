"""Depthwise convolutions by the windows that Paddle Lite has kernels for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program
from lite_opt.passes.parts import Part, by_parts, tail, windows, written
from lite_opt.passes.rule import Site, program_rule, rule

__all__ = ["depthwise_by_groups", "depthwise_by_parts"]

# The sides of the windows that lite/kernels/arm/conv_depthwise.cc has.
_SIDES = (3, 5)


@program_rule(
    because="lite/kernels/arm/conv_compute.cc has kernels for 3x3 and 5x5 without dilation; others "
    "are matrix products of one row: for 7x7, 224 to 339 instructions an output, and 65 as four "
    "of 5x5"
)
def depthwise_by_parts(program: Program) -> Iterator[tuple[str, str]]:
    """A depthwise convolution of another window than 3x3 and 5x5, or of one with gaps -> the sum of
    some of 5x5 (or 3x3), each with its part of the weights."""
    yield from by_parts(program, _parts)


def _parts(program: Program, op: Op) -> list[Part]:
    """The windows of 5x5 or 3x3 that a convolution is the sum of; none where it has a kernel, or
    where they take longer."""
    weight = _weight(program, op)
    strides, dilations = op.get("strides"), list(op.get("dilations") or [1, 1])
    if weight is None or strides not in ([1, 1], [2, 2]):
        return []
    if op.get("padding_algorithm", "EXPLICIT") == "SAME" and max(dilations) > 1:
        return []  # it knows no dilation
    whole = _spread(weight, dilations)
    high, wide = whole.shape[2:]
    if max(dilations) == 1 and high == wide and high in (1, *_SIDES):
        return []
    sides = program.var(op.inputs["Input"][0]).shape[2:]
    pads = padding(op, sides, [high, wide])
    if pads is None:
        return []
    parts = windows(whole, pads, _SIDES[0] if max(high, wide) <= _SIDES[0] else _SIDES[1])
    open_ended = any(d < 0 for d in sides) and any(min(part.pads) < 0 for part in parts)
    taps = math.prod(weight.shape[2:])
    cheaper = _is_cheaper(len(parts), len(weight), strides[0], taps, max(dilations) > 1)
    return parts if cheaper and not open_ended else []


def _weight(program: Program, op: Op) -> Any | None:
    """The filter of a depthwise convolution with an output for each channel, NCHW."""
    if op.type not in ("conv2d", "depthwise_conv2d") or len(op.outputs.get("Output", [])) != 1:
        return None
    weight = program.params.get(op.input("Filter") or "")
    if weight is None or weight.dtype != np.float32 or weight.shape[1] != 1 or op.input("Bias"):
        return None
    if len(weight) != op.get("groups", 1) or len(weight) == 1:
        return None
    return weight if op.get("data_format", "NCHW") in ("NCHW", "AnyLayout") else None


def _is_cheaper(parts: int, channels: int, stride: int, taps: int, gaps: bool) -> bool:
    """Whether the sum of parts takes fewer instructions an output on a Cortex-A72, as measured: the
    kernels take four channels at a time, at 18 instructions, or 45 with a stride of 2."""
    filled = -(-channels // 4) * 4 / channels
    by_parts = parts * filled * (18 if stride == 1 else 45) + 1.7 * (parts - 1)
    by_products = taps * (9 if gaps else 5) + 50
    return by_parts < 0.9 * by_products


def _spread(weight: Any, dilations: list[int]) -> Any:
    """A filter with its gaps written out as zeros."""
    sides = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilations)]
    whole = np.zeros((*weight.shape[:2], *sides), weight.dtype)
    whole[:, :, :: dilations[0], :: dilations[1]] = weight
    return whole


@rule(
    ops=("depthwise_conv2d",),
    because="conv_activation_fuse_pass.cc fuses hard_swish into conv2d only, though both run the "
    "same kernel, and that of 5x5 and stride 1 (conv_depthwise_5x5s1_fp32) has the activation",
)
def depthwise_by_groups(op: Op, site: Site) -> Iterator[str]:
    """A depthwise convolution of 5x5 and stride 1 with hard_swish behind it -> conv2d of as many
    groups, which is the same."""
    weight = _weight(site.program, op)
    if weight is None or weight.shape[2:] != (5, 5) or op.get("strides") != [1, 1]:
        return
    out = written(op, tail(site.program, op, site.consumers))
    readers = [reader.type for reader in site.consumers.get(out, [])]
    if set(op.get("dilations") or [1]) == {1} and readers == ["hard_swish"]:
        op.type = "conv2d"
        yield "written as conv2d"
