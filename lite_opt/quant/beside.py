"""Layers of a quantized model in int8 beside the same in float, all fed what the float model feeds
them: what each loses by itself, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lite_opt.quant.mixed import CENTRED, Quantized
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["beside", "channel_axis", "outputs"]


def outputs(quantized: Quantized) -> dict[str, str]:
    """Layer -> the variable that has its output as numbers."""
    consumers = quantized.program.consumers()
    return {layer.layer: consumers[layer.layer][0].outputs["Out"][0] for layer in quantized.layers}


def channel_axis(quantized: Quantized, layer: str) -> int:
    """The axis of a layer's output that its channels are on."""
    return -1 if quantized.program.producers()[layer].type == "mul" else 1


def beside(
    quantized: Quantized, layers: Iterable[str], ranges: Mapping[str, float] | None = None
) -> tuple[Probes, dict[str, str]]:
    """Probes of the float model with each of these layers in int8 beside it; and of each layer the
    variable that has how far its output in int8 is below that in float.

    `ranges` are other ones for activations, by the parameters that have them.
    """
    numbers = outputs(quantized)
    probes = Probes(quantized.with_float(set(numbers)))
    as_float = {name: layer for layer, name in numbers.items()}
    producers, consumers = quantized.program.producers(), quantized.program.consumers()
    others = {
        name: probes.op("fill_constant", {}, shape=[1], value=value, dtype=DTYPE_NUMBERS["float32"])
        for name, value in (ranges or {}).items()
    }
    errors = {}
    for layer in layers:
        op = producers[layer]
        (dequantize,) = consumers[layer]
        names = {name: other for name, other in as_float.items() if other != layer} | others
        quantize = producers[op.inputs[LAYERS[op.type].input][0]]
        x = quantize.inputs["X"][0]
        moved = [producers[x]] if x.endswith(CENTRED) else []
        for copied in (*moved, quantize, op, dequantize):
            probes.copied(copied, quantized.program, names)
        off = probes.op("elementwise_sub", {"X": layer, "Y": names[numbers[layer]]}, axis=-1)
        errors[layer] = probes.like(off, layer)
    return probes, errors
