"""What Paddle and Paddle Lite know of quantized numbers: their operators, and layers with weights.

Quantization stands in a program in one of two forms. The older ("fake-quant") puts
`fake_quantize_*` before a layer and `fake_*dequantize_max_abs` behind it, so that the layer itself
computes with integers. The newer ("ONNX") puts `quantize_linear` and `dequantize_linear` before it,
for its input and its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.program import Op, Program

__all__ = [
    "BOTH",
    "DEQUANTIZE",
    "DEQUANTIZE_BEHIND",
    "EMBEDDING",
    "INT8",
    "LAYERS",
    "OPERATORS",
    "QUANTIZE",
    "UNREPAIRED",
    "WEIGHT_ONLY",
    "Slots",
    "is_quantized",
    "steps",
    "stored_scales",
    "stored_weight",
]

# Operators that make integers of numbers, by a scale that is their largest magnitude.
QUANTIZE = (
    "fake_quantize_abs_max",
    "fake_quantize_range_abs_max",
    "fake_quantize_moving_average_abs_max",
    "fake_channel_wise_quantize_abs_max",
    "quantize_linear",
)
# Those that make numbers of the integers that a layer computes: the layer's own output is integers.
DEQUANTIZE_BEHIND = ("fake_dequantize_max_abs", "fake_channel_wise_dequantize_max_abs")
# Those that make numbers of integers.
DEQUANTIZE = (*DEQUANTIZE_BEHIND, "dequantize_linear")
# Those that round numbers and leave them numbers, or only observe their largest magnitude.
BOTH = (
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
    "fake_channel_wise_quantize_dequantize_abs_max",
    "moving_average_abs_max_scale",
)
OPERATORS = (*QUANTIZE, *DEQUANTIZE, *BOTH)


@dataclass(frozen=True)
class Slots:
    """Where an operator with weights has its operands, and the axis of the weights that its output
    channels are on: of a factor that `trans_y` or `transpose_Y` transposes, the other one."""

    input: str
    weight: str
    output: str
    channels: int


# A filter is [out, in / groups, h, w], of a transposed convolution [in, out / groups, h, w].
LAYERS: Mapping[str, Slots] = {
    "conv2d": Slots("Input", "Filter", "Output", 0),
    "depthwise_conv2d": Slots("Input", "Filter", "Output", 0),
    "conv2d_transpose": Slots("Input", "Filter", "Output", 1),
    "mul": Slots("X", "Y", "Out", 1),
    "matmul": Slots("X", "Y", "Out", 1),
    "matmul_v2": Slots("X", "Y", "Out", 1),
    "lookup_table": Slots("Ids", "W", "Out", 1),
}
# Static int8: what Paddle Lite has int8 kernels for on ARM, and Paddle calibrates, if asked to with
# a scale for each output channel (paddle/static/quantization/utils.py names those of axis 1). After
# our repairs a linear layer is a `mul`. Products of two activations (attention) stay in float: they
# have no weights to shrink.
INT8 = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul")
# Weight-only: what the optimizer quantizes of a repaired model for QUANT_INT8 and QUANT_INT16, with
# a scale for each output channel (lite/core/optimizer/mir/post_quant_dynamic_pass.cc). It does so
# with matmul and matmul_v2 as well, of which the repairs leave none with weights, and with
# lookup_table, of whose rows nobody takes a sum.
WEIGHT_ONLY = ("conv2d", "mul")
UNREPAIRED = ("matmul", "matmul_v2")
EMBEDDING = "lookup_table"


def steps(bits: int) -> int:
    """How many steps of a quantizer lie between 0 and the largest magnitude: 127 of 8 bits."""
    return int(2 ** (bits - 1) - 1)


def is_quantized(program: Program) -> bool:
    """Whether a model was quantized before it came here, by training (QAT) or by PaddleSlim."""
    return any(op.type in OPERATORS for block in program.blocks for op in block.ops)


def stored_scales(program: Program, op: Op) -> npt.NDArray[Any]:
    """What 127 stands for in the stored weights that an operator makes numbers of, or in what is
    computed with them: one for each channel, or one, as [N]."""
    if op.type == "fake_dequantize_max_abs":
        # Of what a layer computes, max_range is 127 * 127 / weight scale (quantization_pass.py).
        return np.full(1, steps(8) ** 2 / op.get("max_range"))
    return program.params[(op.inputs.get("Scales") or op.inputs["Scale"])[0]].ravel()


def stored_weight(program: Program, op: Op, producers: Mapping[str, Op]) -> str | None:
    """The weights of a layer that int8 kernels can compute, through a dequantize_linear or not;
    None for another operator and for a product of activations. `producers` are the program's."""
    if op.type not in INT8:
        return None
    name = op.input(LAYERS[op.type].weight)
    if name is not None and name not in program.params:
        source = producers.get(name)
        while source is not None and source.type in OPERATORS:
            name = source.input("X")
            source = producers.get(name or "")
    return name if name in program.params else None
