"""Parallel convolutions whose results are added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite_opt.model.padding import Pads, padding
from lite_opt.model.program import Op, Program, Var
from lite_opt.passes.affine import batch_norm_factors
from lite_opt.passes.parts import affine
from lite_opt.passes.rule import place, program_rule, rewritten

__all__ = ["sums_of_convolutions"]

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


@dataclass
class _Branch:
    """What becomes of `x` before it is added: a convolution, unless that is None, and then a factor
    and a sum for each channel."""

    x: str
    conv: Op | None
    behind: list[Op]

    @property
    def ops(self) -> list[Op]:
        return [*([self.conv] if self.conv else []), *self.behind]


@dataclass
class _Window:
    """A filter, what is added to its results, and how it pads."""

    weight: Any
    bias: Any
    pads: Pads


class _Graph:
    """Who writes and who reads, while branches are joined."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.producers = program.producers()
        self.readers = program.consumers()
        self.changing = rewritten(program)

    def branch(self, name: str) -> _Branch:
        """The branch that ends in a variable."""
        behind: list[Op] = []
        while len(self.readers[name]) == 1 and name in self.producers:
            op = self.producers[name]
            if op.type in _CONVOLUTIONS:
                known = self.program.params.get(op.input("Filter") or "") is not None
                if known and not op.input("Bias") and op.get("data_format") in _NCHW:
                    return _Branch(op.inputs["Input"][0], op, behind)
                break
            if not self._is_affine(op):
                break
            behind.insert(0, op)
            name = op.inputs["X"][0]
        return _Branch(name, None, behind)

    def _is_affine(self, op: Op) -> bool:
        if op.type == "batch_norm":
            plain = op.get("data_layout", "NCHW") != "NHWC"
            return plain and batch_norm_factors(self.program, op) is not None
        bias = self.program.params.get(op.input("Y") or "")
        vector = bias is not None and bias.ndim == 1 and op.get("axis", -1) == 1
        return op.type == "elementwise_add" and vector

    def window(self, branch: _Branch, like: Op) -> _Window | None:
        """A branch as a convolution of the strides and groups of another."""
        factor, added = affine(self.program, branch.behind)
        shape = self.program.var(branch.x).shape
        weight = self.program.params[like.inputs["Filter"][0]]
        if branch.conv is None:
            if like.get("strides") != [1, 1] or len(weight) != shape[1]:
                return None
            size = weight.shape[1]
            alone = np.eye(size)[np.arange(len(weight)) % size].reshape(-1, size, 1, 1)
            pads: Pads | None = (0, 0, 0, 0)
        else:
            alone = self.program.params[branch.conv.inputs["Filter"][0]].astype(np.float64)
            pads = padding(branch.conv, shape[2:], alone.shape[2:])
            same = all(branch.conv.get(a) == like.get(a) for a in ("strides", "groups"))
            if not same or set(branch.conv.get("dilations") or [1]) != {1}:
                return None
        if pads is None:
            return None
        return _Window(
            alone * np.reshape(factor, (-1, 1, 1, 1)), np.broadcast_to(added, len(weight)), pads
        )


@program_rule(because="Lite computes each of them, and their sum, at every inference")
def sums_of_convolutions(program: Program) -> Iterator[tuple[str, str]]:
    """The sum of convolutions of one tensor, with biases and norms or not, as of RepVGG, or of one
    and that tensor -> one convolution by the sum of their weights."""
    graph = _Graph(program)
    for op in list(program.ops):
        if op.type != "elementwise_add" or set(op.reads) & program.params.keys():
            continue
        if op.get("axis", -1) not in (-1, 0) or len(set(op.reads)) < 2:
            continue
        out = op.outputs["Out"][0]
        same = {program.var(name).shape for name in (*op.reads, out)}
        pair = [graph.branch(name) for name in (op.inputs["X"][0], op.inputs["Y"][0])]
        if len({branch.x for branch in pair}) > 1 or len(same) > 1 or len(next(iter(same))) != 4:
            continue
        convs = [branch.conv for branch in pair if branch.conv is not None]
        if not convs or graph.changing.intersection((*op.reads, pair[0].x, out)):
            continue
        largest = max(convs, key=lambda c: program.params[c.inputs["Filter"][0]][0, 0].size)
        windows = [graph.window(branch, largest) for branch in pair]
        joined = _joined([w for w in windows if w is not None]) if all(windows) else None
        if joined is None:
            continue
        gone = [each for branch in pair for each in branch.ops]
        made = _convolution(graph, largest, joined, out)
        program.blocks[0].ops = [
            new
            for old in program.ops
            if not any(old is each for each in gone)
            for new in (made if old is op else [old])
        ]
        readers = graph.readers[pair[0].x]
        graph.readers[pair[0].x] = [r for r in readers if r is not op and r not in gone] + made[:1]
        yield place(op), f"joined {' and '.join(place(each) for each in gone)}"


def _joined(windows: list[_Window]) -> _Window | None:
    """Their sum, in the largest of the windows; None where one of them reaches beyond it."""
    whole = max(windows, key=lambda w: w.weight[0, 0].size)
    total = np.zeros_like(whole.weight, np.float64)
    for window in windows:
        top, left = whole.pads[0] - window.pads[0], whole.pads[2] - window.pads[2]
        high, wide = window.weight.shape[2:]
        if min(top, left) < 0 or top + high > total.shape[2] or left + wide > total.shape[3]:
            return None
        total[:, :, top : top + high, left : left + wide] += window.weight
    return _Window(total, sum(window.bias for window in windows), whole.pads)


def _convolution(graph: _Graph, like: Op, window: _Window, out: str) -> list[Op]:
    """A convolution, and its bias where it has one, that write `out`."""
    program = graph.program
    conv = Op(like.type, dict(like.inputs), {"Output": [out]}, dict(like.attrs))
    conv.inputs["Filter"] = [_param(program, f"{out}.w", window.weight)]
    conv.set("paddings", list(window.pads))
    conv.set("padding_algorithm", "EXPLICIT")
    if not np.any(window.bias):
        graph.producers[out] = conv
        return [conv]
    plain = program.new_name(f"{out}.plain")
    program.vars[plain] = Var(plain, "float32", program.var(out).shape)
    conv.outputs["Output"] = [plain]
    bias = Op("elementwise_add", {"X": [plain]}, {"Out": [out]})
    bias.inputs["Y"] = [_param(program, f"{out}.b", window.bias)]
    bias.set("axis", 1)
    graph.producers |= {plain: conv, out: bias}
    graph.readers[plain] = [bias]
    return [conv, bias]


def _param(program: Program, stem: str, value: Any) -> str:
    name = program.new_name(stem)
    program.set_param(name, np.ascontiguousarray(value, dtype=np.float32))
    return name


_NCHW = (None, "NCHW", "AnyLayout")
