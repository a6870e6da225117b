"""A convolution as the sum of several, each with a part of its window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lite_opt.model.padding import Pads
from lite_opt.model.program import Op, Program, Var
from lite_opt.passes.affine import batch_norm_factors
from lite_opt.passes.rule import place, rewritten

__all__ = ["Part", "affine", "by_parts", "tail", "windows", "written"]


@dataclass(frozen=True)
class Part:
    """One window of a larger one: its weights, and its paddings, of which negative ones cut the
    input off."""

    weight: Any
    pads: Pads


@dataclass
class _Layer:
    """A convolution, the bias and the batch_norm behind it that nobody else reads, and what takes
    their place."""

    program: Program
    conv: Op
    tail: list[Op]
    ops: list[Op] = field(default_factory=list)

    @property
    def out(self) -> str:
        """What the last of them writes."""
        return written(self.conv, self.tail)

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

    def convolve(self, part: Part) -> str:
        """One part of the convolution; returns its output."""
        x, pads = self.conv.inputs["Input"][0], part.pads
        for axis, (before, behind) in ((2, pads[:2]), (3, pads[2:])):
            if min(before, behind) < 0:
                x = self.cut(x, axis, max(-before, 0), max(-behind, 0))
        weight = self.param(f"{self.conv.inputs['Filter'][0]}.part", part.weight)
        out = self.var(f"{self.out}.part", self.program.var(self.out).shape)
        groups = self.conv.get("groups", 1)
        kind = "conv2d" if groups == 1 else "depthwise_conv2d"
        made = Op(kind, {"Input": [x], "Filter": [weight]}, {"Output": [out]})
        for name, value in {
            "strides": list(self.conv.get("strides")),
            "paddings": [max(p, 0) for p in pads],
            "dilations": [1, 1],
            "groups": groups,
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


def by_parts(
    program: Program, parts_of: Callable[[Program, Op], list[Part]]
) -> Iterator[tuple[str, str]]:
    """Put the sum of parts in the place of each convolution that has some."""
    readers, changing = program.consumers(), rewritten(program)
    instead: dict[int, list[Op]] = {}
    for op in program.ops:
        parts = parts_of(program, op)
        if not parts or changing.intersection((*op.reads, *op.writes)):
            continue
        layer = _Layer(program, op, tail(program, op, readers) if len(parts) > 1 else [])
        factor, added = affine(program, layer.tail)
        per_channel = np.reshape(factor, (-1, 1, 1, 1))
        total = ""
        for part in parts:
            one = layer.convolve(Part(part.weight * per_channel, part.pads))
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


def tail(program: Program, conv: Op, readers: dict[str, list[Op]]) -> list[Op]:
    """The bias and the batch_norm behind a convolution."""
    behind: list[Op] = []
    out = conv.outputs["Output"][0]
    while len(readers.get(out, [])) == 1 and not (behind and behind[-1].type == "batch_norm"):
        op = readers[out][0]
        if op.type == "elementwise_add" and op.input("X") == out:
            known, name = _is_bias(program, op), op.output("Out")
        elif op.type == "batch_norm" and op.get("data_layout", "NCHW") != "NHWC":
            known, name = batch_norm_factors(program, op) is not None, op.output("Y")
        else:
            break
        if not known or name is None:
            break
        behind.append(op)
        out = name
    return behind


def _is_bias(program: Program, add: Op) -> bool:
    """Whether a sum with a number for each channel, as a vector or, not yet made one, as
    [1, C, 1, 1]."""
    bias = program.params.get(add.input("Y") or "")
    if bias is None or bias.dtype != np.float32:
        return False
    if add.get("axis", -1) == 1:
        return bias.ndim == 1
    return bias.ndim == 4 and bias.size == bias.shape[1]


def written(conv: Op, behind: list[Op]) -> str:
    """What the last operator of a convolution and its `tail` writes."""
    last = behind[-1] if behind else conv
    return (last.output("Y") or "") if last.type == "batch_norm" else last.layer


def affine(program: Program, behind: list[Op]) -> tuple[Any, Any]:
    """What biases and batch_norms multiply each channel by, and what they add then."""
    factor: Any = np.float64(1.0)
    added: Any = np.float64(0.0)
    for op in behind:
        if op.type == "elementwise_add":
            added = added + program.params[op.inputs["Y"][0]].astype(np.float64).ravel()
        else:
            factors = batch_norm_factors(program, op)
            assert factors is not None
            factor, added = factor * factors[0], added * factors[0] + factors[1]
    return factor, added


def windows(whole: Any, pads: Pads, side: int) -> list[Part]:
    """The windows of a side that make up a whole filter, where it pads so; those without weights
    are left out."""
    high, wide = whole.shape[2:]
    return [
        Part(held, around)
        for rows in _cuts(high, side)
        for columns in _cuts(wide, side)
        for held in [_held(whole, rows, columns, side)]
        for around in [_around(pads, (high, wide), (rows[0], columns[0]), side)]
        if np.any(held)
    ]


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
