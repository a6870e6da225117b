"""Biases that take the mean error from each channel of a quantized layer.

Rounding moves the mean of what a layer computes, by weights that do not sum up to what they did and
by ranges that cut off one side. The mean is known from the calibration samples, and taken back by
the constant behind the layer (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", ICCV 2019). Each layer is fed what the float model feeds it: corrections that are
found at the same time then do not make up for one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.executor import Executor
from lite_opt.model.program import Op, Program
from lite_opt.quant.beside import beside, channel_axis, outputs
from lite_opt.quant.mixed import CORRECTED, Quantized, QuantizedLayer
from lite_opt.quant.operators import LAYERS
from py_runner.tensors import Sample

__all__ = ["BIASES", "bias_behind", "corrected", "corrected_bias", "targets"]

_Array = npt.NDArray[Any]

# More samples hardly move a mean over them and over all places of a channel.
_SAMPLES = 32


def corrected(quantized: Quantized, samples: Sequence[Sample]) -> Quantized:
    """The same with corrected biases, of the layers that are followed by one of their own."""
    numbers = outputs(quantized)
    behind = targets(quantized, numbers)
    if not behind:
        return quantized
    probes, errors = beside(quantized, behind)
    for layer, error in errors.items():
        probes.answer(probes.reduce("reduce_mean", error, channel_axis(quantized, layer)))
    with Executor(quantized.palette(), samples[:_SAMPLES]) as executor:
        answers = executor.run(probes.done()).outputs
    program = quantized.program.copy()
    consumers = program.consumers()
    biases = dict(quantized.biases)
    for layer, answer in zip(behind, answers):
        error = np.mean(np.asarray(answer, np.float64), axis=0)
        if np.isfinite(error).all():
            op = consumers[numbers[layer]][0]
            biases[layer] = corrected_bias(quantized.source, program, op, error)
    program.remove_unused()
    return replace(quantized, program=program, biases=biases)


def corrected_bias(source: Program, program: Program, op: Op, error: _Array) -> str:
    """Have an operator add to its constant, as it is in the float `source`, what its input is below
    what it should be, [channels]; the name of that constant."""
    slot = BIASES[op.type]
    bias = op.inputs[slot][0].removesuffix(CORRECTED)
    value = source.params[bias].astype(np.float64)
    if op.type == "batch_norm":
        scale, variance = (program.params[op.inputs[s][0]] for s in ("Scale", "Variance"))
        error = error * scale / np.sqrt(variance.astype(np.float64) + op.get("epsilon", 1e-5))
    program.set_param(f"{bias}{CORRECTED}", np.asarray(value + error, np.float32))
    op.inputs[slot] = [f"{bias}{CORRECTED}"]
    return bias


# Operators that add a constant to each channel, and where they have it.
BIASES = {"batch_norm": "Bias", "elementwise_add": "Y"}


def bias_behind(
    program: Program, consumers: Mapping[str, list[Op]], name: str, channels: int
) -> Op | None:
    """The only reader of a variable, if it adds a constant of its own to each channel."""
    readers = consumers.get(name, [])
    if len(readers) != 1 or readers[0].type not in BIASES:
        return None
    constant = readers[0].input(BIASES[readers[0].type])
    if constant is None or constant not in program.params or len(consumers[constant]) != 1:
        return None
    return readers[0] if program.params[constant].shape == (channels,) else None


def targets(quantized: Quantized, numbers: Mapping[str, str]) -> dict[str, Op]:
    """Layer -> the operator behind it that adds a constant to each channel."""
    program = quantized.program
    consumers = program.consumers()

    def target(layer: QuantizedLayer) -> Op | None:
        channels = program.params[layer.weight].shape[LAYERS[layer.op].channels]
        return bias_behind(program, consumers, numbers[layer.layer], channels)

    found = {layer.layer: target(layer) for layer in quantized.layers}
    return {layer: op for layer, op in found.items() if op is not None}
