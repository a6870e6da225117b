"""Weights rounded such that a layer's output on calibration samples is what it was.

Rounding to the nearest step minimises the error of each weight, and what counts is that of the
layer's output: errors of weights whose inputs go together may cancel out. Here weights are rounded
one input after the other, and the error of each is handed on to those that are still to come, by
how inputs go together on the samples (Frantar et al., "GPTQ: Accurate Post-Training Quantization
for Generative Pre-trained Transformers", ICLR 2023; Hassibi and Stork's optimal brain surgeon).
Then single weights go up or down a step as long as that lessens the error. Inputs are those that
the quantized model computes. Nothing is trained: what is minimised is known in closed form.

Scales stay as they are: the largest magnitude of an output channel, or of all, is 127 steps, and
stays there, since Paddle Lite's optimizer finds the scales of int8-weights by it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.executor import Executor
from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program
from lite_opt.quant.beside import outputs
from lite_opt.quant.correct import targets
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS, WEIGHT_ONLY, steps, stored_scales
from lite_opt.quant.rounding import BALANCED, round_weights
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["reconstructed", "round_weights_for", "rounded_for"]

_Array = npt.NDArray[Any]

# More samples hardly change how inputs go together; of each, so many places of a picture.
_SAMPLES = 32
_PLACES = 1024
# Of the mean square of inputs: what keeps the error that is handed on bounded.
_DAMPING = 0.01
# Of weights for one output: the time grows with the third power.
_MOST_INPUTS = 4608
_SWEEPS = 4
# Inputs that are gone through one by one before what came of them reaches all others at once.
_BLOCK = 128


def reconstructed(
    quantized: Quantized,
    samples: Sequence[Sample],
    *,
    most: int = _SAMPLES,
    corrected: bool = False,
    watch: Watch = QUIET,
) -> tuple[Quantized, int]:
    """The same with weights rounded for the outputs of their layers, and of how many layers. How
    inputs go together is observed on at most `most` samples.

    Where biases are going to be `corrected`, what rounding does to the mean of an output costs
    nothing: only how inputs vary together counts then."""
    program = quantized.program
    readers = program.consumers()
    ops = {op.layer: op for op in program.ops if op.type in LAYERS}
    layers = [
        layer
        for layer in quantized.layers
        if layer.op in BALANCED
        and len(readers[layer.weight]) == 1
        and _inputs(program, ops[layer.layer])
    ]
    if not layers:
        return quantized, 0
    asked = [ops[layer.layer] for layer in layers]
    free = set(targets(quantized, outputs(quantized))) if corrected else set()
    moments = _moments(program, asked, samples[:most], watch, free)
    result = program.copy()
    for number, (layer, moment) in enumerate(zip(layers, moments), start=1):
        op = ops[layer.layer]
        (behind,) = readers[op.outputs[LAYERS[op.type].output][0]]
        step = stored_scales(program, behind).astype(np.float64) / steps(8)
        stored = program.params[layer.weight]
        value = _rounded(op, quantized.exact[layer.weight], stored, step, moment)
        result.set_param(layer.weight, value.astype(stored.dtype))
        watch.step("rounding", number, len(layers))
    return replace(quantized, program=result), len(layers)


def round_weights_for(
    program: Program, samples: Sequence[Sample], *, watch: Watch = QUIET
) -> tuple[Program, int]:
    """A copy of a float program with weights of recipe int8-weights that are rounded for the
    outputs of their layers, and of how many layers: the others are rounded as `round_weights` does.
    """
    rounded = round_weights(program)
    readers = program.consumers()
    ops = [
        op
        for op in program.ops
        if op.type in WEIGHT_ONLY
        and rounded.params.get(weight := op.inputs[LAYERS[op.type].weight][0])
        is not program.params.get(weight)
        and len(readers[weight]) == 1
        and _inputs(program, op)
    ]
    moments = _moments(program, ops, samples[:_SAMPLES], watch) if ops else []
    for number, (op, moment) in enumerate(zip(ops, moments), start=1):
        slots = LAYERS[op.type]
        weight = op.inputs[slots.weight][0]
        exact = program.params[weight].astype(np.float64)
        others = tuple(axis for axis in range(exact.ndim) if axis != slots.channels)
        largest = np.abs(exact).max(axis=others)
        step = np.where(largest > 0, largest, 1.0) / steps(8)
        unit = step if op.type == "mul" else step.reshape(-1, *[1] * (exact.ndim - 1))
        start = np.rint(rounded.params[weight] / unit)
        value = _rounded(op, exact, start, step, moment) * unit
        rounded.set_param(weight, value.astype(np.float32))
        watch.step("rounding", number, len(ops))
    return rounded, len(ops)


def _inputs(program: Program, op: Op) -> bool:
    """Whether a layer's weights for one output are few enough."""
    shape = program.params[op.inputs[LAYERS[op.type].weight][0]].shape
    if op.type == "mul":
        dims = len(program.var(op.inputs["X"][0]).shape)
        whole = int(op.get("x_num_col_dims", 1)) == dims - 1
        return len(shape) == 2 and whole and shape[0] <= _MOST_INPUTS
    return int(np.prod(shape[1:])) <= _MOST_INPUTS


def _moments(
    program: Program,
    ops: Sequence[Op],
    samples: Sequence[Sample],
    watch: Watch,
    free: Collection[str] = (),
) -> list[_Array]:
    """Of each layer how its inputs go together: (groups, inputs, inputs), the mean of products, for
    layers in `free` without the product of the means."""
    probes = Probes(program)
    for op in ops:
        probes.answer(op.inputs[LAYERS[op.type].input][0])
    asked = probes.done()
    sums: list[Any] = [0.0] * len(ops)
    means: list[Any] = [0.0] * len(ops)
    with Executor(program, largest=samples) as executor:
        for number, sample in enumerate(samples, start=1):
            answers = executor.run(asked, sample.feeds).outputs
            for place, (op, (value,)) in enumerate(zip(ops, answers)):
                shape = program.params[op.inputs[LAYERS[op.type].weight][0]].shape
                columns = _columns(op, np.asarray(value, np.float32), shape)
                product = columns @ columns.transpose(0, 2, 1)
                sums[place] = sums[place] + product.astype(np.float64) / columns.shape[2]
                means[place] = means[place] + columns.mean(axis=2, dtype=np.float64)
            watch.step("observing inputs", number, len(samples))
    for place, (op, mean) in enumerate(zip(ops, means)):
        if op.layer in free:
            sums[place] = sums[place] - mean[:, :, None] * mean[:, None, :] / len(samples)
    return sums


def _columns(op: Op, value: _Array, shape: Sequence[int]) -> _Array:
    """(groups, inputs, places): what the weights of each group of outputs are multiplied with."""
    if op.type == "mul":
        rows = value.reshape(-1, shape[0])
        return rows[:: max(1, len(rows) // _PLACES)].T[None]
    groups = int(op.get("groups", 1))
    windows = _windows(op, value, shape[2:])
    count, channels, height, width = windows.shape[:4]
    places = np.arange(0, height * width, max(1, count * height * width // _PLACES))
    taken = windows[:, :, places // width, places % width]  # (count, channels, places, kh, kw)
    taken = taken.transpose(1, 3, 4, 0, 2)
    return np.ascontiguousarray(taken).reshape(groups, channels // groups * np.prod(shape[2:]), -1)


def _windows(op: Op, value: _Array, kernel: Sequence[int]) -> _Array:
    """(count, channels, height, width, kernel height, kernel width) of what a filter meets."""
    strides, dilations = (list(op.get(name, [1, 1])) for name in ("strides", "dilations"))
    if op.get("padding_algorithm") == "SAME":
        dilations = [1, 1]  # it knows no other: paddle/phi/kernels/cpu/conv_util.h
    pads = padding(op, value.shape[2:], kernel)
    assert pads is not None  # the sides of a value are known
    padded = np.pad(value, [(0, 0), (0, 0), pads[:2], pads[2:]])
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations))
    windows: _Array = np.lib.stride_tricks.sliding_window_view(padded, extents, (2, 3))  # type: ignore[call-overload]
    return windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def _rounded(op: Op, weight: _Array, stored: _Array, step: _Array, moment: _Array) -> _Array:
    """The integers of a layer's weights, in their shape, of which `stored` is another rounding;
    `step` is that of each output channel, or of all."""
    exact = weight.astype(np.float64)
    exact = exact.T if op.type == "mul" else exact  # outputs first
    before = stored.T if op.type == "mul" else stored
    step = np.broadcast_to(np.where(step > 0, step, 1.0), len(exact))
    groups = len(moment)
    rows = (exact.reshape(len(exact), -1) / step[:, None]).reshape(groups, -1, moment.shape[1])
    start = before.reshape(rows.shape).astype(np.float64)
    result = rounded_for(rows, moment, start).reshape(exact.shape)
    return result.T if op.type == "mul" else result


def rounded_for(exact: _Array, moment: _Array, start: _Array) -> _Array:
    """Whole numbers in place of `exact` (groups, outputs, inputs), at most 127, such that the
    products with inputs that go together as `moment` says stay as they were.

    `start` is another rounding, which an output keeps where nothing better is found. What is 127
    or -127 stays.
    """
    moment = moment + _damping(moment)
    exact, start = (np.ascontiguousarray(rows.swapaxes(1, 2)) for rows in (exact, start))
    handed = _swept(_handed_on(exact, moment), exact, moment)
    moved = _swept(start, exact, moment)
    better = _error(handed - exact, moment) < _error(moved - exact, moment)
    return np.asarray(np.where(better[:, None], handed, moved).swapaxes(1, 2))


# In the functions below inputs come before outputs: (groups, inputs, outputs).


def _damping(moment: _Array) -> _Array:
    mean = np.trace(moment, axis1=1, axis2=2) / moment.shape[1]
    mean = np.where(mean > 0, mean, 1.0)
    return np.asarray(_DAMPING * mean[:, None, None] * np.eye(moment.shape[1]))


def _error(off: _Array, moment: _Array) -> _Array:
    return np.asarray(((moment @ off) * off).sum(axis=1))


def _largest(exact: _Array) -> _Array:
    """Which weights are 127 steps, but for the rounding of scales."""
    return np.asarray(np.abs(exact) > steps(8) - 1e-3)


def _handed_on(exact: _Array, moment: _Array) -> _Array:
    """Round the inputs with the largest squares first, and hand on the errors to those to come.

    What is left of an input's error is handed on by the Cholesky factor of `moment`, whose
    diagonal is 1: the same as by its inverse, which takes longer to find (Chee et al., "QuIP:
    2-Bit Quantization of Large Language Models With Guarantees", NeurIPS 2023).
    """
    order = np.argsort(np.diagonal(moment, axis1=1, axis2=2), axis=1, kind="stable")
    group = np.arange(len(moment))[:, None]
    factor = np.linalg.cholesky(moment[group[:, :, None], order[:, :, None], order[:, None, :]])
    factor /= np.diagonal(factor, axis1=1, axis2=2)[:, None, :]
    exact = exact[group, order]
    rounded, off = np.empty_like(exact), np.empty_like(exact)
    for stop in range(exact.shape[1], 0, -_BLOCK):
        block = slice(max(0, stop - _BLOCK), stop)
        wanted = exact[:, block] + factor[:, stop:, block].swapaxes(1, 2) @ off[:, stop:]
        for place in reversed(range(block.start, stop)):
            come = slice(place + 1, stop)
            whole = wanted[:, place - block.start] + _handed(factor[:, come, place], off[:, come])
            whole = np.where(_largest(exact[:, place]), exact[:, place], whole)
            rounded[:, place] = np.clip(np.rint(whole), -steps(8), steps(8))
            off[:, place] = exact[:, place] - rounded[:, place]
    result = np.empty_like(rounded)
    result[group, order] = rounded
    return result


def _handed(shares: _Array, off: _Array) -> _Array:
    """(groups, outputs): what comes of `off` by the shares (groups, inputs) of its inputs."""
    return np.asarray((shares[:, None] @ off)[:, 0])


def _swept(start: _Array, exact: _Array, moment: _Array) -> _Array:
    """Move single weights by a step while that lessens the error of the output."""
    rounded = start.copy()
    slope = moment @ (rounded - exact)
    for _ in range(_SWEEPS):
        moved = False
        for first in range(0, exact.shape[1], _BLOCK):
            block = slice(first, min(first + _BLOCK, exact.shape[1]))
            moves = np.zeros_like(exact[:, block])
            for place in range(block.start, block.stop):
                done = slice(first, place)
                off = slope[:, place] + _handed(moment[:, place, done], moves[:, : place - first])
                move = rounded[:, place] - np.rint(off / moment[:, place, place, None])
                move = np.clip(move, -steps(8), steps(8)) - rounded[:, place]
                move[_largest(exact[:, place])] = 0
                moves[:, place - first] = move
            if moves.any():
                moved = True
                rounded[:, block] += moves
                slope += moment[:, :, block] @ moves
        if not moved:
            break
    return rounded
