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

__all__ = ["corrected"]

_Array = npt.NDArray[Any]

# More samples hardly move a mean over them and over all places of a channel.
_SAMPLES = 32


def corrected(quantized: Quantized, samples: Sequence[Sample]) -> Quantized:
    """The same with corrected biases, of the layers that are followed by one of their own."""
    numbers = outputs(quantized)
    targets = _targets(quantized, numbers)
    if not targets:
        return quantized
    probes, errors = beside(quantized, targets)
    for layer, error in errors.items():
        probes.answer(probes.reduce("reduce_mean", error, channel_axis(quantized, layer)))
    with Executor(quantized.palette(), samples[:_SAMPLES]) as executor:
        answers = executor.run(probes.done()).outputs
    program = quantized.program.copy()
    consumers = program.consumers()
    biases = {}
    for (layer, target), answer in zip(targets.items(), answers):
        error = np.mean(np.asarray(answer, np.float64), axis=0)
        if not np.isfinite(error).all():
            continue
        slot = _BIASES[target.type]
        bias = target.inputs[slot][0]
        program.set_param(f"{bias}{CORRECTED}", _moved(program, target, error))
        consumers[numbers[layer]][0].inputs[slot] = [f"{bias}{CORRECTED}"]
        biases[layer] = bias
    program.remove_unused()
    return replace(quantized, program=program, biases=biases)


# Operators that add a constant to each channel, and where they have it.
_BIASES = {"batch_norm": "Bias", "elementwise_add": "Y"}


def _targets(quantized: Quantized, numbers: Mapping[str, str]) -> dict[str, Op]:
    """Layer -> the operator behind it that adds a constant to each channel."""
    program = quantized.program
    consumers = program.consumers()

    def target(layer: QuantizedLayer) -> Op | None:
        readers = consumers.get(numbers[layer.layer], [])
        if len(readers) != 1 or readers[0].type not in _BIASES:
            return None
        name = readers[0].input(_BIASES[readers[0].type])
        if name is None or name not in program.params or len(consumers[name]) != 1:
            return None
        channels = program.params[layer.weight].shape[LAYERS[layer.op].channels]
        return readers[0] if program.params[name].shape == (channels,) else None

    found = {layer.layer: target(layer) for layer in quantized.layers}
    return {layer: op for layer, op in found.items() if op is not None}


def _moved(program: Program, op: Op, error: _Array) -> _Array:
    """The constant of an operator whose output is to move by what its input is off."""
    value = program.params[op.inputs[_BIASES[op.type]][0]].astype(np.float64)
    if op.type == "batch_norm":
        scale, variance = (program.params[op.inputs[s][0]] for s in ("Scale", "Variance"))
        error = error * scale / np.sqrt(variance.astype(np.float64) + op.get("epsilon", 1e-5))
    return np.asarray(value + error, np.float32)
