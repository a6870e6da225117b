"""Depthwise convolutions by the windows that Paddle Lite has kernels for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lite_opt.model.padding import Pads, padding
from lite_opt.model.program import Op, Program, Var
from lite_opt.passes.affine import batch_norm_factors
from lite_opt.passes.rule import place, program_rule, rewritten

__all__ = ["depthwise_by_parts"]

# The sides of the windows that lite/kernels/arm/conv_depthwise.cc has.
_SIDES = (3, 5)


@dataclass(frozen=True)
class _Part:
    """One window of a larger one: its weights, and its paddings, of which negative ones cut the
    input off."""

    weight: Any
    pads: Pads


@dataclass
class _Layer:
    """A depthwise convolution, the bias and the batch_norm behind it that nobody else reads, and
    what takes their place."""

    program: Program
    conv: Op
    tail: list[Op]
    ops: list[Op] = field(default_factory=list)

    @property
    def out(self) -> str:
        """What the last of them writes."""
        last = self.tail[-1] if self.tail else self.conv
        return (last.output("Y") or "") if last.type == "batch_norm" else last.layer

    def affine(self) -> tuple[Any, Any]:
        """What the bias and the batch_norm multiply each channel by, and what they add then."""
        factor: Any = np.float64(1.0)
        added: Any = np.float64(0.0)
        for op in self.tail:
            if op.type == "elementwise_add":
                added = added + self.program.params[op.inputs["Y"][0]].astype(np.float64)
            else:
                factors = batch_norm_factors(self.program, op)
                assert factors is not None
                factor, added = factor * factors[0], added * factors[0] + factors[1]
        return factor, added

    def var(self, stem: str, shape: tuple[int, ...]) -> str:
        name = self.program.new_name(stem)
        self.program.vars[name] = Var(name, "float32", shape)
        return name

    def param(self, stem: str, value: Any) -> str:
        name = self.program.new_name(stem)
        self.program.set_param(name, np.ascontiguousarray(value, dtype=np.float32))
        return name

    def cut(self, x: str, axis: int, before: int, behind: int) -> str:
        """x without some rows or columns, by a split: a slice takes many times as long."""
        shape = list(self.program.var(x).shape)
        sections = [before, shape[axis] - before - behind, behind]
        outs = []
        for size in (s for s in sections if s):
            shape[axis] = size
            outs.append(self.var(f"{x}.cut", tuple(shape)))
        split = Op("split", {"X": [x]}, {"Out": outs})
        split.set("axis", axis)
        split.set("num", 0)
        split.set("sections", [s for s in sections if s])
        self.ops.append(split)
        return outs[1 if before else 0]

    def convolve(self, part: _Part) -> str:
        """One part of the convolution; returns its output."""
        x, pads = self.conv.inputs["Input"][0], part.pads
        for axis, (before, behind) in ((2, pads[:2]), (3, pads[2:])):
            if min(before, behind) < 0:
                x = self.cut(x, axis, max(-before, 0), max(-behind, 0))
        weight = self.param(f"{self.conv.inputs['Filter'][0]}.part", part.weight)
        out = self.var(f"{self.out}.part", self.program.var(self.out).shape)
        made = Op("depthwise_conv2d", {"Input": [x], "Filter": [weight]}, {"Output": [out]})
        for name, value in {
            "strides": list(self.conv.get("strides")),
            "paddings": [max(p, 0) for p in pads],
            "dilations": [1, 1],
            "groups": self.conv.get("groups"),
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        }.items():
            made.set(name, value)
        self.ops.append(made)
        return out

    def add(self, x: str, y: str, axis: int) -> str:
        out = self.var(f"{self.out}.sum", self.program.var(self.out).shape)
        made = Op("elementwise_add", {"X": [x], "Y": [y]}, {"Out": [out]})
        made.set("axis", axis)
        self.ops.append(made)
        return out


@program_rule(
    because="lite/kernels/arm/conv_compute.cc has kernels for 3x3 and 5x5 without dilation; others "
    "are matrix products of one row: for 7x7, 224 to 339 instructions an output, and 65 as four "
    "of 5x5"
)
def depthwise_by_parts(program: Program) -> Iterator[tuple[str, str]]:
    """A depthwise convolution of another window than 3x3 and 5x5, or of one with gaps -> the sum of
    some of 5x5 (or 3x3), each with its part of the weights."""
    readers, changing = program.consumers(), rewritten(program)
    instead: dict[int, list[Op]] = {}
    for op in program.ops:
        parts = _parts(program, op)
        if not parts or changing.intersection((*op.reads, *op.writes)):
            continue
        layer = _Layer(program, op, _tail(program, op, readers) if len(parts) > 1 else [])
        factor, added = layer.affine()
        per_channel = np.reshape(factor, (-1, 1, 1, 1))
        total = ""
        for part in parts:
            one = layer.convolve(_Part(part.weight * per_channel, part.pads))
            if not total and np.any(added):
                vector = np.broadcast_to(added, len(part.weight))
                one = layer.add(one, layer.param(f"{layer.out}.bias", vector), 1)
            total = layer.add(total, one, -1) if total else one
        layer.ops[-1].outputs[next(iter(layer.ops[-1].outputs))] = [layer.out]
        instead[id(op)] = layer.ops
        instead.update({id(each): [] for each in layer.tail})
        side = parts[0].weight.shape[-1]
        yield place(op), f"became {len(parts)} of {side}x{side}"
    program.blocks[0].ops = [new for op in program.ops for new in instead.get(id(op), [op])]


def _tail(program: Program, conv: Op, readers: dict[str, list[Op]]) -> list[Op]:
    """The bias and the batch_norm behind a convolution."""
    tail: list[Op] = []
    out = conv.outputs["Output"][0]
    while len(readers.get(out, [])) == 1 and not (tail and tail[-1].type == "batch_norm"):
        op = readers[out][0]
        if op.type == "elementwise_add" and op.input("X") == out and op.get("axis", -1) == 1:
            bias = program.params.get(op.input("Y") or "")
            known = bias is not None and bias.ndim == 1 and bias.dtype == np.float32
            name = op.output("Out")
        elif op.type == "batch_norm" and op.get("data_layout", "NCHW") != "NHWC":
            known, name = batch_norm_factors(program, op) is not None, op.output("Y")
        else:
            break
        if not known or name is None:
            break
        tail.append(op)
        out = name
    return tail


def _parts(program: Program, op: Op) -> list[_Part]:
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
    side = _SIDES[0] if max(high, wide) <= _SIDES[0] else _SIDES[1]
    parts = [
        _Part(held, around)
        for rows in _cuts(high, side)
        for columns in _cuts(wide, side)
        for held in [_held(whole, rows, columns, side)]
        for around in [_around(pads, (high, wide), (rows[0], columns[0]), side)]
        if np.any(held)
    ]
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


def _cuts(extent: int, side: int) -> list[tuple[int, int, int]]:
    """Windows of a side that cover an extent evenly: where each begins, and the first row and the
    end of what it holds of the weights, of which no two have the same."""
    if extent <= side:
        return [(-((side - extent) // 2), 0, extent)]
    count = -(-extent // side)
    starts = [i * (extent - side) // (count - 1) for i in range(count)]
    return [(start, start, end) for start, end in zip(starts, [*starts[1:], extent])]


def _held(whole: Any, rows: tuple[int, int, int], columns: tuple[int, int, int], side: int) -> Any:
    """The weights that one window holds, zeros elsewhere."""
    held = np.zeros((*whole.shape[:2], side, side), whole.dtype)
    (top, above, below), (left, before, behind) = rows, columns
    held[:, :, above - top : below - top, before - left : behind - left] = whole[
        :, :, above:below, before:behind
    ]
    return held


def _around(pads: Pads, whole: tuple[int, int], start: tuple[int, int], side: int) -> Pads:
    """The paddings with which a window gives as many outputs as the whole one, in their places."""
    top, bottom, left, right = pads
    return (
        top - start[0],
        bottom - (whole[0] - side - start[0]),
        left - start[1],
        right - (whole[1] - side - start[1]),
    )
