"""Ranges of activations chosen by what comes of them.

A calibration that looks at an activation alone cannot know whether its few large values or its many
small ones matter. Here each range is tried at several widths, from all that was observed down to a
sixth of it, and that is proposed whose layers put out most nearly what they did in float: each is
fed what the float model feeds it, so that all are tried in the same passes. Layers that read the
same activation share its range.

The error of a layer does not say what it does to those behind, to which a few large values may be
all that matters. So a proposal is taken only where the outputs of the whole quantized network come
nearer by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.executor import Executor
from lite_opt.model.program import Program
from lite_opt.quant.beside import beside, channel_axis, outputs
from lite_opt.quant.mixed import CENTRED, Quantized
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["searched"]

_Array = npt.NDArray[Any]

# More samples hardly change which range is best.
_SAMPLES = 16
# Of the largest magnitude that was observed.
_WIDTHS = (1.0, 0.88, 0.77, 0.68, 0.6, 0.52, 0.46, 0.4, 0.33, 0.27, 0.22, 0.17)
_PROPOSED = ".proposed"


def searched(
    quantized: Quantized, samples: Sequence[Sample], *, watch: Watch = QUIET
) -> tuple[Quantized, int]:
    """The same with the ranges that lose least, and how many of them moved."""
    samples = samples[:_SAMPLES]
    proposals = _proposals(quantized, samples, watch)
    palette = quantized.palette()
    for name, value in proposals.items():
        palette.set_param(f"{name}{_PROPOSED}", np.full(1, value, np.float32))
    taken: list[str] = []
    with Executor(palette, samples) as executor:
        reference = executor.run(_scores(quantized.with_float(outputs(quantized)))).outputs[0]

        def loss(names: Sequence[str]) -> float:
            program = _scores(quantized.program)
            others = {name: f"{name}{_PROPOSED}" for name in names}
            for other in others.values():
                program.set_param(other, palette.params[other])
            for op in program.ops:
                op.rename_inputs(others)
            return _distance(reference, executor.run(program).outputs[0])

        least = loss(())
        for number, name in enumerate(proposals, start=1):
            found = loss((*taken, name))
            if found < least:
                least = found
                taken.append(name)
            watch.step("ranges of the network", number, len(proposals))
    program = quantized.program.copy()
    for name in taken:
        program.set_param(name, palette.params[f"{name}{_PROPOSED}"])
    return replace(quantized, program=program), len(taken)


def _proposals(quantized: Quantized, samples: Sequence[Sample], watch: Watch) -> dict[str, float]:
    """By the parameter with the range of an activation, one by which its layers lose less."""
    readers = _readers(quantized)
    layers = [layer for each in readers.values() for layer in each]
    gains = {layer: _gain(quantized, layer) for layer in layers}
    with Executor(quantized.palette(), samples) as executor:
        largest = _largest(executor, quantized, readers)
        ranges: list[Mapping[str, float]] = [
            {name: float(quantized.program.params[name].item()) for name in readers},
            *({name: width * most for name, most in largest.items()} for width in _WIDTHS),
        ]
        losses = []
        for number, tried in enumerate(ranges, start=1):
            answers = executor.run(_errors(quantized, layers, tried)).outputs
            each = {layer: _loss(answer, gains[layer]) for layer, answer in zip(layers, answers)}
            losses.append({name: sum(map(each.__getitem__, readers[name])) for name in readers})
            watch.step("ranges of layers", number, len(ranges))
    best = {
        name: min(range(len(ranges)), key=lambda which: losses[which][name]) for name in readers
    }
    return {
        name: ranges[which][name]
        for name, which in best.items()
        if which and ranges[which][name] > 0
    }


def _readers(quantized: Quantized) -> dict[str, list[str]]:
    """The parameter with the range of an activation -> the layers that read it."""
    producers = quantized.program.producers()
    readers: dict[str, list[str]] = {}
    for layer in quantized.layers:
        quantize = producers[producers[layer.layer].inputs[LAYERS[layer.op].input][0]]
        readers.setdefault(quantize.inputs["InScale"][0], []).append(layer.layer)
    return readers


def _largest(
    executor: Executor, quantized: Quantized, readers: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """The largest magnitude of each activation in the float model."""
    probes = Probes(quantized.with_float(outputs(quantized)))
    producers = quantized.program.producers()
    for layer, *_ in readers.values():
        op = producers[layer]
        (read,) = producers[op.inputs[LAYERS[op.type].input][0]].inputs["X"]
        if read.endswith(CENTRED):
            names: dict[str, str] = {}
            probes.copied(producers[read], quantized.program, names)
            read = names[read]
        magnitude = probes.like(probes.op("abs", {"X": read}), read)
        probes.answer(probes.op("reduce_max", {"X": magnitude}, reduce_all=True, keep_dim=False))
    return {
        name: float(np.max(values))
        for name, values in zip(readers, executor.run(probes.done()).outputs)
    }


def _errors(quantized: Quantized, layers: Sequence[str], ranges: Mapping[str, float]) -> Program:
    """Of each layer the mean square of the error of each channel."""
    probes, errors = beside(quantized, layers, ranges)
    for layer, error in errors.items():
        square = probes.like(probes.op("square", {"X": error}), error)
        probes.answer(probes.reduce("reduce_mean", square, channel_axis(quantized, layer)))
    return probes.done()


def _gain(quantized: Quantized, layer: str) -> _Array:
    """What a batch norm behind a layer multiplies its channels by."""
    program = quantized.program
    readers = program.consumers().get(outputs(quantized)[layer], [])
    if len(readers) != 1 or readers[0].type != "batch_norm":
        return np.ones(1)
    scale, variance = (program.params[readers[0].inputs[s][0]] for s in ("Scale", "Variance"))
    deviation = np.sqrt(variance.astype(np.float64) + readers[0].get("epsilon", 1e-5))
    return np.asarray(scale / deviation)


def _loss(squares: Sequence[_Array], gain: _Array) -> float:
    """The energy of the error of a layer's output."""
    loss = float((np.mean(np.asarray(squares, np.float64), axis=0) * np.square(gain)).sum())
    return loss if np.isfinite(loss) else np.inf


def _scores(program: Program) -> Program:
    """The program with what its outputs are the softmax of in their place."""
    result = program.copy()
    producers = result.producers()
    for op in result.ops:
        made = producers.get(op.inputs["X"][0]) if op.type == "fetch" else None
        if made is not None and made.type == "softmax":
            op.inputs["X"] = list(made.inputs["X"])
    return result


def _distance(reference: Sequence[_Array], answers: Sequence[_Array]) -> float:
    """The energy of the difference, of scores without what is common to all of a sample."""
    total = 0.0
    for wanted, answer in zip(reference, answers):
        off = np.asarray(answer, np.float64) - wanted
        total += float(np.square(off - off.mean(axis=-1, keepdims=True)).sum())
    return total if np.isfinite(total) else np.inf
