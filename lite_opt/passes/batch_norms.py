"""Batch norms that no convolution in front of them takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program, Var
from lite_opt.passes.affine import batch_norm_factors
from lite_opt.passes.parts import tail, written
from lite_opt.passes.rule import place, program_rule, rewritten
from lite_opt.passes.scales import Factors

__all__ = ["norms_before_concat", "norms_before_relu", "norms_into_convolutions"]

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


@program_rule(
    because="conv_bn_fuse_pass.cc folds a batch_norm into the convolution before it, and there are "
    "several"
)
def norms_before_concat(program: Program) -> Iterator[tuple[str, str]]:
    """batch_norm of convolutions joined along their channels, as of MixNet -> one of each of them,
    with its part of the numbers."""
    producers, readers, changing = program.producers(), program.consumers(), rewritten(program)
    ends = {
        written(op, behind): behind
        for op in program.ops
        if op.type in _CONVOLUTIONS
        for behind in [tail(program, op, readers)]
    }
    for op in list(program.ops):
        joined = producers.get(op.input("X") or "") if op.type == "batch_norm" else None
        if joined is None or joined.type != "concat" or set(joined.inputs) != {"X"}:
            continue
        parts, out = joined.inputs["X"], op.outputs["Y"][0]
        plain = batch_norm_factors(program, op) is not None and op.get("data_layout") != "NHWC"
        if joined.get("axis", 0) != 1 or not plain or len(set(parts)) < len(parts):
            continue
        if any(len(readers[name]) > 1 for name in (*joined.writes, *parts)):
            continue
        normed = any(b.type == "batch_norm" for part in parts for b in ends.get(part, []))
        if normed or not ends.keys() >= set(parts) or changing.intersection((*parts, out)):
            continue
        norms, start = [], 0
        for part in parts:
            channels = slice(start, start + program.var(part).shape[1])
            norms.append(_part_of(program, op, part, channels))
            start = channels.stop
        joined.inputs["X"] = [norm.outputs["Y"][0] for norm in norms]
        joined.outputs["Out"] = [out]
        program.blocks[0].ops = [
            new
            for old in program.ops
            if old is not op
            for new in ([*norms, joined] if old is joined else [old])
        ]
        yield place(op), f"became {len(norms)}, before they are joined"


def _part_of(program: Program, norm: Op, x: str, channels: slice) -> Op:
    """A batch_norm of some of the channels of another."""
    out = program.new_name(f"{x}.norm")
    program.vars[out] = Var(out, "float32", program.var(x).shape)
    made = Op("batch_norm", {"X": [x]}, {"Y": [out]}, dict(norm.attrs))
    for slot in ("Scale", "Bias", "Mean", "Variance"):
        name = program.new_name(f"{norm.inputs[slot][0]}.part")
        program.set_param(
            name, np.ascontiguousarray(program.params[norm.inputs[slot][0]][channels])
        )
        made.inputs[slot] = [name]
    made.outputs |= {"MeanOut": made.inputs["Mean"], "VarianceOut": made.inputs["Variance"]}
    for slot in ("SavedMean", "SavedVariance"):
        name = program.new_name(f"{out}.{slot}")
        program.vars[name] = Var(name, "float32", (channels.stop - channels.start,))
        made.outputs[slot] = [name]
    return made


@program_rule(because="conv_bn_fuse_pass.cc folds a batch_norm behind a convolution, and no other")
def norms_into_convolutions(program: Program) -> Iterator[tuple[str, str]]:
    """batch_norm in front of convolutions that pad nothing, as of UniFormer -> their weights and
    biases."""
    graph = Factors(program)
    for op in list(program.ops):
        factors = batch_norm_factors(program, op) if op.type == "batch_norm" else None
        if factors is None or op.get("data_layout", "NCHW") == "NHWC":
            continue
        x, out = op.inputs["X"][0], op.outputs["Y"][0]
        ends = None if _taken(graph, x) else graph.ends(out, by_channels=True)
        if ends is None or {x, out} & graph.changing:
            continue
        if any(c.input("Input") != out or not _pads_nothing(program, c) for c in ends.ops):
            continue
        factor, added = factors
        behind: dict[int, Op | None] = {}
        for conv in ends.ops:
            weight = program.params[conv.inputs["Filter"][0]].astype(np.float64)
            spread = np.reshape(added, (conv.get("groups", 1), 1, -1, 1, 1))
            sums = (weight.reshape(len(spread), -1, *weight.shape[1:]) * spread).sum((2, 3, 4))
            behind[id(conv)] = _biased(graph, conv, sums.ravel())
            conv.rename_inputs({out: x})
        graph.multiply(ends, factor)
        graph.readers[x] = [r for r in graph.readers[x] if r is not op] + ends.ops
        program.blocks[0].ops = [
            new
            for old in program.ops
            if old is not op
            for new in (old, behind.get(id(old)))
            if new is not None
        ]
        yield place(op), f"folded into {' and '.join(map(place, ends.ops))}"


def _taken(graph: Factors, x: str) -> bool:
    """Whether Lite folds a batch_norm of `x` into the convolution that writes it, or its bias."""
    before = graph.program.producers().get(x)
    biased = before is not None and (before.input("Y") or "") in graph.program.params
    is_conv = before is not None and (before.type in _CONVOLUTIONS or biased)
    return is_conv and len(graph.readers[x]) == 1


def _pads_nothing(program: Program, conv: Op) -> bool:
    sides = program.var(conv.inputs["Input"][0]).shape[2:]
    kernel = program.var(conv.inputs["Filter"][0]).shape[2:]
    return padding(conv, sides, kernel) == (0, 0, 0, 0)


def _biased(graph: Factors, conv: Op, bias: np.ndarray[Any, Any]) -> Op | None:
    """Add to each channel behind a convolution: to its bias, or by a sum that is returned and
    writes what the convolution wrote."""
    behind = tail(graph.program, conv, graph.readers)
    if behind and behind[0].type == "elementwise_add":
        name = behind[0].inputs["Y"][0]
        own = graph.program.params[name]
        behind[0].inputs["Y"] = [graph.param(name, own + bias.reshape(own.shape))]
        return None
    out = conv.outputs["Output"][0]
    plain = graph.program.new_name(f"{out}.plain")
    graph.program.vars[plain] = Var(plain, "float32", graph.program.var(out).shape)
    conv.outputs["Output"] = [plain]
    total = Op("elementwise_add", {"X": [plain]}, {"Out": [out]})
    total.inputs["Y"] = [graph.param(f"{out}.shift", bias)]
    total.set("axis", 1)
    graph.readers[plain] = [total]
    return total


@program_rule(
    because="lite/core/optimizer/mir/fusion fuses relu into a sum, and into no batch_norm"
)
def norms_before_relu(program: Program) -> Iterator[tuple[str, str]]:
    """batch_norm and relu in front of convolutions, as of DenseNet -> a sum and relu, and the
    factors in the weights of these, where all are positive."""
    graph = Factors(program)
    for op in program.ops:
        factors = batch_norm_factors(program, op) if op.type == "batch_norm" else None
        if factors is None or op.get("data_layout", "NCHW") == "NHWC":
            continue
        x, out = op.inputs["X"][0], op.outputs["Y"][0]
        readers = graph.readers.get(out, [])
        if [r.type for r in readers] != ["relu"] or _taken(graph, x):
            continue
        factor, added = factors
        ends = graph.ends(readers[0].layer, by_channels=True)
        if ends is None or factor.min() <= 1e-3 * factor.max() or {x, out} & graph.changing:
            continue
        op.type, op.attrs, op.outputs = "elementwise_add", {}, {"Out": [out]}
        op.inputs = {"X": [x], "Y": [graph.param(f"{out}.shift", added / factor)]}
        op.set("axis", 1)
        yield place(op), "became a sum"
        graph.multiply(ends, factor, out, readers[0].layer)
