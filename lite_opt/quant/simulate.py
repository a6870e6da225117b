"""What computes, on the server engine, the numbers of kernels that are not there.

`fake_fp16` stands for fp16 kernels, `dequantized` for int8 ones, `approximated` for those of ARM
that estimate; `nearest` and `nearest_values` say what rounding as a recipe does costs a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.program import Attr, Op, Program, Var
from lite_opt.quant.operators import (
    DEQUANTIZE,
    EMBEDDING,
    INT8,
    LAYERS,
    OPERATORS,
    UNREPAIRED,
    WEIGHT_ONLY,
    steps,
    stored_scales,
)
from lite_opt.recipes import Recipe
from py_runner.errors import ConvertError
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["ESTIMATED", "approximated", "dequantized", "fake_fp16", "nearest", "nearest_values"]

_Array = npt.NDArray[Any]

# How much too small, as a part of the value, ARM's kernels are in the mean: they divide by one
# Newton step from `vrecpe` (div_ps in lite/backends/arm/math/funcs.h), which never overshoots.
# The worst is five times this. Layer upon layer the same way, it adds up (tests/test_noise.py).
ESTIMATED = {"swish": 1.4e-6, "tanh": 1.4e-6, "mish": 1.3e-6}


def dequantized(program: Program) -> Program:
    """The float model that a quantized one stands for: weights as numbers, activations as they
    come. An engine without right int8 kernels can run it; its numbers differ from the quantized
    model's by the rounding of activations.

    Understands both forms: fake_quantize and fake_dequantize around a layer, and quantize_linear
    with dequantize_linear. A stored integer stands for integer * scale / 127, with the scale of
    its channel or tensor (paddle/phi/kernels/cpu/fake_dequantize_kernel.cc,
    quantize_linear_kernel.cc).
    """
    result = program.copy()
    producers = result.producers()
    instead: dict[str, str] = {}
    ops = []
    for op in result.ops:
        op.rename_inputs(instead)
        if op.type not in OPERATORS:
            ops.append(op)
            continue
        source = op.inputs["X"][0]
        layer = producers.get(source)
        if op.type in DEQUANTIZE and source in result.params:
            source = _numbers(result, source, op)
        elif op.type in DEQUANTIZE and layer is not None and layer.type in INT8:
            slot = LAYERS[layer.type].weight
            layer.inputs[slot] = [_numbers(result, layer.inputs[slot][0], op)]
        # One that only observes need not write anything but the scale.
        for name in op.outputs.get("Out") or op.outputs.get("Y") or ():
            instead[name] = source
    result.blocks[0].ops = ops
    result.remove_unused()
    return result


def _numbers(program: Program, weight: str, op: Op) -> str:
    """A parameter with the numbers that the integers in `weight` are, by the operator that
    dequantizes them or what is computed with them."""
    if weight not in program.params:
        raise ConvertError(f"{program.files.model}: '{op.layer}' dequantizes no stored weights")
    integers = program.params[weight].astype(np.float32)
    scale = stored_scales(program, op).astype(np.float32)
    if scale.size > 1:
        axis = op.get("quant_axis", 0)
        scale = scale.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    name = program.new_name(f"{weight}.float")
    program.set_param(name, np.asarray(integers * scale / steps(8), np.float32))
    return name


def fake_fp16(program: Program) -> Program:
    """The program with every float rounded to 16 bits: weights, and what each operator of block 0
    writes for another. The server engine computes in 32 bits in between, as ARM kernels that
    accumulate in fp16 do not, but what overflows or drowns in fp16 does so here as well.
    """
    result = program.copy()
    for name, value in result.params.items():
        if value.dtype == np.float32:
            result.params[name] = _half(value)
    read = result.consumers()
    ops = []
    for op in result.ops:
        ops.append(op)
        if op.type == "feed":  # engines know inputs by their names
            continue
        for names in op.outputs.values():
            for place, name in enumerate(names):
                var = result.vars.get(name)
                if var is None or var.dtype != "float32" or var.persistable or name not in read:
                    continue
                wide, half = (result.new_name(f"{name}.{kind}") for kind in ("wide", "fp16"))
                result.vars[wide] = Var(wide, "float32", var.shape)
                result.vars[half] = Var(half, "float16", var.shape)
                names[place] = wide
                ops += [_cast(wide, half, "float16"), _cast(half, name, "float32")]
    result.blocks[0].ops = ops
    return result


def approximated(program: Program) -> Program | None:
    """The program with the mean error of ARM's kernels that estimate (ESTIMATED); None where it has
    no such operator."""
    result = program.copy()
    ops = []
    for op in result.ops:
        ops.append(op)
        if op.type in ESTIMATED:
            (name,) = op.outputs["Out"]
            exact = result.new_name(f"{name}.exact")
            result.vars[exact] = replace(result.vars[name], name=exact)
            op.outputs["Out"] = [exact]
            factor = {"scale": Attr("FLOAT", 1 - ESTIMATED[op.type])}
            ops.append(Op("scale", {"X": [exact]}, {"Out": [name]}, factor))
    if len(ops) == len(program.ops):
        return None
    result.blocks[0].ops = ops
    return result


def _cast(source: str, target: str, dtype: str) -> Op:
    other = {"float16": "float32", "float32": "float16"}[dtype]
    attrs = {
        "in_dtype": Attr("INT", DTYPE_NUMBERS[other]),
        "out_dtype": Attr("INT", DTYPE_NUMBERS[dtype]),
    }
    return Op("cast", {"X": [source]}, {"Out": [target]}, attrs)


def _half(value: _Array) -> _Array:
    with np.errstate(over="ignore"):  # infinity is what the kernel would see
        return value.astype(np.float16).astype(np.float32)


def nearest(program: Program, recipe: Recipe) -> dict[str, _Array]:
    """The weights that a recipe rounds, rounded: as half floats, or as integers by a scale for each
    output channel; nothing for a recipe that rounds none. `program` is a source model, repaired
    or not.

    Each to the nearest: what that costs a layer, the balanced rounding of rounding.py may cost.
    """
    if recipe.fp16:
        return {
            name: _half(value)
            for name, value in program.params.items()
            if value.ndim >= 2 and value.dtype == np.float32
        }
    bits = {"QUANT_INT8": 8, "QUANT_INT16": 16}.get(
        recipe.quant_type, 8 if recipe.rounds_activations else 0
    )
    kinds = (
        {*INT8, *UNREPAIRED}
        if recipe.rounds_activations
        else {*WEIGHT_ONLY, *UNREPAIRED, EMBEDDING}
    )
    rounded: dict[str, _Array] = {}
    for op in program.ops if bits else ():
        if op.type not in kinds:
            continue
        slots = LAYERS[op.type]
        name = op.input(slots.weight) or ""
        value = program.params.get(name)
        if value is None or value.ndim < 2 or value.dtype != np.float32:
            continue
        transposed = op.get("trans_y") or op.get("transpose_Y")
        channels = 0 if transposed else slots.channels
        others = tuple(axis for axis in range(value.ndim) if axis != channels)
        rounded[name] = _round(value, np.abs(value).max(others, keepdims=True), bits)
    return rounded


def nearest_values(values: Sequence[_Array], recipe: Recipe) -> list[_Array]:
    """Activations, an array a sample, rounded as by a recipe that does: fp16, or int8 with the best
    scale there is for them."""
    if values[0].dtype != np.float32:
        return list(values)
    if recipe.fp16:
        return [_half(value) for value in values]
    largest = np.float32(max(float(np.abs(value).max(initial=0)) for value in values))
    return [_round(value, largest, 8) for value in values]


def _round(value: _Array, largest: Any, bits: int) -> _Array:
    scale = np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float64) / steps(bits)
    return np.asarray(np.rint(value / scale) * scale, np.float32)
