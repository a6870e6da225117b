"""Activations that are never negative, moved to where all 255 steps of int8 are used.

What a ReLU puts out lies between 0 and some m, and Paddle Lite's integers between -127 and 127,
with a scale that is the same on both sides of 0: half of them are never used. Moved by c = m / 2
the same values lie between -c and c, on steps half as wide. The layer that reads them absorbs the
move, exactly: to what it puts out for x - c belongs c times the sum of its (rounded) weights, which
goes into the bias behind it. Where zeros are padded around the input that sum is another at the
borders, so such layers are left alone.

The move itself costs nothing. clip(y, 0, m) - c is clip(y - c, -c, c), and to saturate at -127 and
127 is that clip: the activation is dropped, and c taken from the bias in front of it. Paddle Lite's
kernels for ARM saturate so (lite/backends/arm/math: type_trans.cc, gemm_prepacked_int8.cc,
conv_block_utils.h). Concatenations and the largest of some pass a move on. Where values come out of
a pooling to a single place, so that there are few, an operator moves them.

There are two forms. While layers are still tried in int8 and in float the move is an operator in
front of the quantization (`centred`); `lowered` takes out what costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.quant.align import absorbs
from lite_opt.quant.beside import outputs
from lite_opt.quant.correct import BIASES, corrected_bias, targets
from lite_opt.quant.mixed import CENTRED, Quantized, is_move
from lite_opt.quant.operators import LAYERS, steps, stored_scales

__all__ = ["centred", "lowered"]

_CLIPS = ("relu", "relu6")
# What leaves numbers that are not negative so, and a single place of a channel single.
_KEEPS = ("flatten_contiguous_range", "reshape2", "squeeze2", "pool2d")


def centred(quantized: Quantized) -> tuple[Quantized, int]:
    """The same with activations moved where that is exact and next to free, and how many.

    Comes before `corrected`, and after all that moves ranges or rounds weights."""
    program = quantized.program.copy()
    numbers = outputs(quantized)
    behind = targets(quantized, numbers)
    producers, consumers = program.producers(), program.consumers()
    found = []
    for layer in quantized.layers:
        op = producers[layer.layer]
        quantize = producers[op.inputs[LAYERS[op.type].input][0]]
        (x,) = quantize.inputs["X"]
        if (
            layer.layer in behind
            and consumers[x] == [quantize]
            and consumers[quantize.outputs["Out"][0]] == [op]
            and absorbs(program, op)
            and (_way(program, x, producers, consumers) or _is_few(program, x, producers))
        ):
            found.append((op, quantize))
    moves: dict[int, Op] = {}
    biases = dict(quantized.biases)
    for op, quantize in found:
        (x,), (name,) = quantize.inputs["X"], quantize.inputs["InScale"]
        half = float(program.params[name].item()) / 2
        (dequantize,) = consumers[op.layer]
        (target,) = consumers[numbers[op.layer]]
        sums = half * _sums(program, op, dequantize)
        biases[op.layer] = corrected_bias(quantized.source, program, target, sums)
        program.set_param(f"{name}{CENTRED}", np.full(1, half, np.float32))
        for reader in (quantize, dequantize):
            reader.rename_inputs({name: f"{name}{CENTRED}", x: f"{x}{CENTRED}"})
        quantize.outputs["OutScale"] = [f"{name}{CENTRED}"]
        program.vars[f"{x}{CENTRED}"] = replace(program.var(x), name=f"{x}{CENTRED}")
        move = Op("scale", {"X": [x]}, {"Out": [f"{x}{CENTRED}"]})
        for attr, value in (("scale", 1.0), ("bias", -half), ("bias_after_scale", True)):
            move.set(attr, value)
        moves[id(quantize)] = move
    ops = [each for op in program.ops for each in (moves.get(id(op)), op) if each is not None]
    program.blocks[0].ops = ops
    program.remove_unused()
    return replace(quantized, program=program, biases=biases), len(found)


def _sums(program: Program, op: Op, dequantize: Op) -> np.ndarray[Any, Any]:
    """The sum of a layer's weights for each output channel, as numbers, [channels]."""
    slots = LAYERS[op.type]
    integers = program.params[op.inputs[slots.weight][0]].astype(np.float64)
    others = tuple(axis for axis in range(integers.ndim) if axis != slots.channels)
    scale = stored_scales(program, dequantize).astype(np.float64) / steps(8)
    return np.asarray(integers.sum(axis=others) * scale)


def _way(
    program: Program, x: str, producers: Mapping[str, Op], consumers: Mapping[str, list[Op]]
) -> dict[str, Op]:
    """What can be moved without cost, such that x is: x and the variables that it is made of, back
    to activation functions behind a constant that can take the move; variable -> the operator that
    writes it. Nothing where x does not come of such alone, or others read one of them.

    The largest of moved values is the largest moved; only where nothing is padded is it known of
    every engine that it compares no zeros with them.
    """
    op = producers.get(x)
    if op is None:
        return {}
    if op.type in _CLIPS:
        (y,) = op.inputs["X"]
        maker = producers.get(y)
        if maker is None or maker.type not in BIASES or consumers[y] != [op]:
            return {}
        name = maker.inputs[BIASES[maker.type]][0]
        return {x: op} if name in program.params and consumers[name] == [maker] else {}
    if op.type != "concat" and not (
        op.type == "pool2d"
        and op.get("pooling_type") == "max"
        and not any(op.get("paddings", [0]))
        and op.get("padding_algorithm", "EXPLICIT") != "SAME"
        and not op.get("ceil_mode")
    ):
        return {}
    found = {x: op}
    for name in dict.fromkeys(op.reads):
        way = _way(program, name, producers, consumers) if consumers[name] == [op] else {}
        if not way:
            return {}
        found |= way
    return found


def _is_few(program: Program, x: str, producers: Mapping[str, Op]) -> bool:
    """Whether x has a single place for each channel, and nothing below 0."""
    shape = program.var(x).shape
    if not (len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))):
        return False
    op = producers.get(x)
    while op is not None and op.type in _KEEPS:
        op = producers.get(op.inputs["X"][0])
    return op is not None and op.type in _CLIPS


def lowered(program: Program) -> Program:
    """The quantized program with moves in the biases in front of them, and without the activations
    that saturation makes up for. Variables that then have other values have other names."""
    result = program.copy()
    producers, consumers = result.producers(), result.consumers()
    gone: list[Op] = []
    renamed: dict[str, str] = {}
    for move in result.ops:
        if not is_move(move):
            continue
        (x,) = move.inputs["X"]
        if move.type != "scale":
            if consumers[x] == [move] and _takes_over(result, move, producers[x]):
                gone.append(producers[x])
            continue
        way = _way(result, x, producers, consumers) if consumers[x] == [move] else {}
        for name, op in way.items():
            renamed[name] = f"{name}{CENTRED}"
            result.vars[renamed[name]] = replace(result.var(name), name=renamed[name])
            if op.type in _CLIPS:
                _move(result, producers[op.inputs["X"][0]], move.get("bias"), renamed[name])
                gone.append(op)
            else:
                op.outputs["Out"] = [renamed[name]]
        gone += [move] if way else []
    for op in result.ops:
        op.rename_inputs(renamed)
    result.blocks[0].ops = [op for op in result.ops if not any(op is each for each in gone)]
    result.remove_unused()
    return result


def _takes_over(program: Program, align: Op, op: Op) -> bool:
    """Have an operator of align.py do what the multiplication by a number in front of it does, if
    it is one."""
    if align.type != "batch_norm" or op.type != "scale" or op.input("ScaleTensor"):
        return False
    factor, added = op.get("scale", 1.0), op.get("bias", 0.0)
    if not op.get("bias_after_scale", True):
        added *= factor
    scale, bias = (program.params[align.inputs[slot][0]] for slot in ("Scale", "Bias"))
    scale, bias = scale.astype(np.float64), bias.astype(np.float64)
    program.set_param(align.inputs["Bias"][0], (bias + scale * added).astype(np.float32))
    program.set_param(align.inputs["Scale"][0], (scale * factor).astype(np.float32))
    align.inputs["X"] = list(op.inputs["X"])
    return True


def _move(program: Program, maker: Op, by: float, name: str) -> None:
    """Have an operator with a constant write what it wrote and `by`, to a variable of that name."""
    slot = BIASES[maker.type]
    bias = maker.inputs[slot][0]
    moved = program.params[bias].astype(np.float64) + by
    program.set_param(f"{bias}{CENTRED}", moved.astype(np.float32))
    maker.inputs[slot] = [f"{bias}{CENTRED}"]
    maker.outputs["Y" if maker.type == "batch_norm" else "Out"] = [name]
