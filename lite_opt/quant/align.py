"""Channels of an activation moved and stretched to the same range, by an operator in front.

Static int8 has one scale for all channels of an activation, the same on both sides of 0. What a
hard swish, a sum or a product of two activations puts out uses few of its 255 steps: most channels
stay far below the largest, and most of what lies below 0 is never reached. `equalise` and `centre`
mend that where it is free, which is seldom behind such operators. Here a BatchNorm of constants
moves each channel's middle to 0 and multiplies it, and the layer that reads it makes up for both,
exactly: its weights are divided by the factors, and its bias takes what the move takes from it (Wei
et al., "Outlier Suppression+", EMNLP 2023). A layer that pads zeros is another at the borders: its
input is multiplied and not moved. That of a linear layer, whose channels come last, is moved and
not multiplied, by an addition: Paddle Lite has no operator there that does both.

The operator costs a pass over the activation, which a layer that multiplies and adds many times
with each value hardly notices. Where a multiplication by a number stands there already, `lowered`
(centre.py) makes one of both. It is for what Paddle Lite computes in float anyhow: between a layer
and an activation function that it fuses values never leave int8. A layer that stays in float reads
what it did.

How far channels are stretched is decided layer by layer: weights have a scale for each output, so
what the activation gains they may lose. The noise of both is known in closed form, as a part of
what varies in each output; the mean of it is for the bias (correct.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.executor import Executor
from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program, Var
from lite_opt.quant.correct import bias_behind, corrected_bias
from lite_opt.quant.mixed import CENTRED
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS, stored_weight
from py_runner.tensors import Sample

__all__ = ["absorbs", "aligned"]

_Array = npt.NDArray[Any]

# More samples hardly move the ranges of channels.
_SAMPLES = 128
# What Paddle Lite writes from a layer's own kernel, in int8 where int8 reads it.
_FUSED = (*LAYERS, "batch_norm", "relu", "relu6", "leaky_relu", "hard_swish")
# A layer computes so many multiply-adds with each value of its input, at least: the pass over them
# is then a few of a hundred of what the layer takes.
_LEAST_WORK = 32
# The noise has to fall to this part of it.
_WORTH = 0.5
# From not at all to all the way.
_STRETCHES = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST = 32.0


def aligned(program: Program, samples: Sequence[Sample]) -> tuple[Program, int, dict[str, str]]:
    """A copy of a float program with operators in front of the layers that gain by it, how many,
    and by the layer the bias that makes up for a move, as `Quantized.biases` has it.

    The weights of those layers are divided by the factors, under their names."""
    result = program.copy()
    inputs = _inputs(result)
    if not inputs:
        return result, 0, {}
    probes = Probes(result)
    for each in inputs:
        for kind in ("reduce_min", "reduce_max"):
            probes.answer(probes.reduce(kind, each.name, each.axis))
        for name in (each.name, each.layer.layer):
            squares = probes.like(probes.op("square", {"X": name}), name)
            for variable in (name, squares):
                probes.answer(probes.reduce("reduce_mean", variable, each.axis))
    with Executor(result, samples[:_SAMPLES]) as executor:
        answers = executor.run(probes.done()).outputs
    count, biases = 0, dict[str, str]()
    for place, each in enumerate(inputs):
        seen = [np.asarray(answer, np.float64) for answer in answers[6 * place : 6 * place + 6]]
        low, high, mean, square, out, out_square = seen
        spread = square.mean(axis=0) - np.square(mean.mean(axis=0))
        varies = out_square.mean(axis=0) - np.square(out.mean(axis=0))
        found = _alignment(result, each, low.min(axis=0), high.max(axis=0), spread, varies)
        if found is not None:
            count += 1
            bias = _apply(program, result, each, *found)
            if bias is not None:
                biases[each.layer.layer] = bias
    return result, count, biases


def absorbs(program: Program, op: Op) -> bool:
    """Whether what is added to a layer's input adds the same to all places of its output."""
    if op.type == "mul":
        return program.params[op.inputs["Y"][0]].ndim == 2
    if op.type not in ("conv2d", "depthwise_conv2d"):
        return False
    kernel = program.params[op.inputs["Filter"][0]].shape[2:]
    if kernel == (1, 1) and op.get("padding_algorithm") == "SAME":
        return True
    return padding(op, program.var(op.inputs["Input"][0]).shape[2:], kernel) == (0, 0, 0, 0)


@dataclass(frozen=True)
class _Input:
    """An activation, a layer that reads it, the axis of its channels, and the operator with the
    layer's bias if the layer absorbs a move."""

    name: str
    layer: Op
    axis: int
    bias: Op | None

    @property
    def weight(self) -> str:
        return self.layer.inputs[LAYERS[self.layer.type].weight][0]


def _inputs(program: Program) -> list[_Input]:
    producers, consumers = program.producers(), program.consumers()
    found = []
    for op in program.ops:
        weight = stored_weight(program, op, producers) if op.type in ("conv2d", "mul") else None
        if weight is None or op.get("groups", 1) != 1 or consumers[weight] != [op]:
            continue
        name = op.inputs[LAYERS[op.type].input][0]
        made = producers.get(name)
        channels = program.params[weight].shape[LAYERS[op.type].channels]
        behind = bias_behind(program, consumers, op.layer, channels)
        absorbed = behind if absorbs(program, op) else None
        if (
            made is not None
            and made.type not in ("feed", *_FUSED)
            and not _is_bias(program, made)
            and _work(program, op, weight) >= _LEAST_WORK
            and (op.type == "conv2d" or (absorbed and _has_channels_last(program, op, name)))
        ):
            found.append(_Input(name, op, 1 if op.type == "conv2d" else -1, absorbed))
    return found


def _work(program: Program, op: Op, weight: str) -> float:
    """How many multiply-adds a layer computes with each value of its input."""
    shape = program.params[weight].shape
    if op.type == "mul":
        return shape[1]
    return float(shape[0] * np.prod(shape[2:]) / np.prod(op.get("strides", [1, 1])))


def _has_channels_last(program: Program, op: Op, name: str) -> bool:
    dims = len(program.var(name).shape)
    return dims > 1 and int(op.get("x_num_col_dims", 1)) == dims - 1


def _is_bias(program: Program, op: Op) -> bool:
    return op.type == "elementwise_add" and any(name in program.params for name in op.reads)


def _kernel(program: Program, each: _Input) -> _Array:
    """A layer's weights, [outputs, inputs, height, width]."""
    value = program.params[each.weight].astype(np.float64)
    return value if value.ndim == 4 else value.T[..., None, None]


def _alignment(
    program: Program, each: _Input, low: _Array, high: _Array, spread: _Array, varies: _Array
) -> tuple[_Array, _Array] | None:
    """By how much each channel is moved down, and what it is multiplied by then; None where that
    gains too little. Given are what each channel of the input lies between and how it varies, and
    how each output varies."""
    channels = len(low)
    kernel = _kernel(program, each)
    largest = np.maximum(np.abs(low), np.abs(high))
    middle = (low + high) / 2 if each.bias is not None else np.zeros(channels)
    reach = (high - low) / 2 if each.bias is not None else largest
    if kernel.shape[1] != channels or not np.isfinite(largest).all() or reach.max() <= 0:
        return None
    # Of each output the square of the weights, as a part of what varies in it.
    floor = max(varies.max() * 1e-6, np.finfo(np.float64).tiny)
    rows = kernel / np.sqrt(np.maximum(varies, floor)).reshape(-1, 1, 1, 1)
    alive = reach > reach.max() * 1e-4
    wanted = np.where(alive, reach.max() / np.maximum(reach, reach.max() * 1e-4), 1.0)
    near = np.abs(rows).max(axis=(2, 3))
    near = (near / np.maximum(near.max(axis=1, keepdims=True), 1e-30)).max(axis=0)
    places = int(np.prod(kernel.shape[2:]))

    def noise(factors: _Array, reaches: _Array) -> float:
        divided = rows / factors.reshape(-1, 1, 1)
        of_input = (factors * reaches).max() ** 2 * np.square(divided).sum()
        of_weights = np.square(np.abs(divided).max(axis=(1, 2, 3))).sum()
        return float(of_input + of_weights * places * (np.square(factors) * spread).sum())

    tried = [
        _within(wanted**stretch * np.maximum(near, 1e-3) ** (shared / 2), reach)
        for stretch in (_STRETCHES if each.axis == 1 else (0.0,))
        for shared in ((0, 1) if stretch else (0,))
    ]
    best = min(tried, key=lambda factors: noise(factors, reach))
    if noise(best, reach) > _WORTH * noise(np.ones(channels), np.full(channels, largest.max())):
        return None
    return middle, best


def _within(factors: _Array, reach: _Array) -> _Array:
    """Such that the largest stays what it is, and within what is allowed."""
    factors = factors * reach.max() / (factors * reach).max()
    return np.asarray(np.clip(factors, 1 / _MOST, _MOST))


def _apply(
    source: Program, program: Program, each: _Input, middle: _Array, factors: _Array
) -> str | None:
    """Put the operator in front of a layer; the bias that makes up for the move."""
    op = each.layer
    made = f"{each.name}.{op.layer}{CENTRED}"
    program.vars[made] = replace(program.var(each.name), name=made)
    make = _batch_norm if each.axis == 1 else _addition
    place = next(i for i, other in enumerate(program.ops) if other is op)
    program.blocks[0].ops.insert(place, make(program, each.name, made, -middle * factors, factors))
    op.inputs[LAYERS[op.type].input] = [made]
    if each.axis == 1:
        value = program.params[each.weight].astype(np.float64) / factors.reshape(-1, 1, 1)
        program.set_param(each.weight, value.astype(np.float32))
    if each.bias is None:
        return None
    sums = _kernel(source, each).sum(axis=(2, 3))
    return corrected_bias(source, program, each.bias, sums @ middle)


def _addition(program: Program, x: str, made: str, added: _Array, factors: _Array) -> Op:
    program.set_param(f"{made}.Y", added.astype(np.float32))
    op = Op("elementwise_add", {"X": [x], "Y": [f"{made}.Y"]}, {"Out": [made]})
    op.set("axis", len(program.var(x).shape) - 1)
    return op


def _batch_norm(program: Program, x: str, made: str, added: _Array, factors: _Array) -> Op:
    channels = len(factors)
    constants = {
        "Scale": factors,
        "Bias": added,
        "Mean": np.zeros(channels),
        "Variance": np.ones(channels),
    }
    inputs = {"X": [x]}
    for slot, value in constants.items():
        inputs[slot] = [f"{made}.{slot}"]
        program.set_param(f"{made}.{slot}", value.astype(np.float32))
    outputs = {"Y": [made], "MeanOut": inputs["Mean"], "VarianceOut": inputs["Variance"]}
    for slot in ("SavedMean", "SavedVariance"):
        outputs[slot] = [f"{made}.{slot}"]
        program.vars[outputs[slot][0]] = Var(outputs[slot][0], "float32", (channels,))
    op = Op("batch_norm", inputs, outputs)
    op.set("epsilon", 0.0)
    op.set("momentum", 0.9)
    op.set("data_layout", "NCHW")
    for attr in ("is_test", "use_global_stats"):
        op.set(attr, True)
    return op
