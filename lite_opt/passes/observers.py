"""Operators of quantization, as other tools put them into a model that comes quantized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, place, program_rule, rule

__all__ = [
    "drop_constant_observers",
    "drop_pairs_of_others",
    "integers_as_bytes",
    "products_in_float",
    "scales_by_channel",
    "share_scales",
]

# Operators that give a parameter another form: what they give is a constant, too.
_SHAPERS = (
    "reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range", "transpose2", "cast",
)  # fmt: skip
_OBSERVERS = ("quantize_linear", "dequantize_linear")


@program_rule(
    because="quant_dequant_op_fuser.cc aborts (is_weight) where one reads a parameter, and a bias "
    "behind one is not fused"
)
def drop_constant_observers(program: Program) -> Iterator[tuple[str, str]]:
    """quantize_linear and dequantize_linear with only_observer on a bias, reshaped or not, as
    PostTrainingQuantization(onnx_format=True) puts them -> nothing: the scale of a constant serves
    nobody, and its numbers pass through unchanged."""
    constants = set(program.params)
    instead: dict[str, str] = {}
    ops: list[Op] = []
    for op in program.ops:
        op.rename_inputs(instead)
        x = op.input("X") or ""
        if op.type in _OBSERVERS and op.get("only_observer", False) and x in constants:
            instead[op.outputs["Y"][0]] = x
            yield place(op), f"'{x}' is a constant"
            continue
        if op.type in _SHAPERS and x in constants:
            constants.update(op.outputs["Out"])
        ops.append(op)
    program.blocks[0].ops = ops


@rule(
    ops=("dequantize_linear",),
    because="QuantDequantLinearOpFuser in quant_dequant_op_fuser.cc takes a pair only where both "
    "read the same scale; DequantLinearOpFuser aborts (is_weight) at what it leaves",
)
def share_scales(op: Op, site: Site) -> Iterator[str]:
    """dequantize_linear behind quantize_linear with a scale of its own, as paddle.quantization
    writes it -> with the same scale, where they are equal."""
    source = site.producers.get(op.input("X") or "")
    if source is None or source.type != "quantize_linear":
        return
    params = site.program.params
    for slot in ("Scale", "ZeroPoint"):
        own, other = op.input(slot), source.input(slot)
        if own is None or other is None or own not in params or other not in params:
            return
        if not np.array_equal(params[own], params[other]):
            return
    if op.inputs["Scale"] != source.inputs["Scale"]:
        op.inputs |= {slot: list(source.inputs[slot]) for slot in ("Scale", "ZeroPoint")}
        yield f"takes the scale of '{source.layer}'"


@rule(
    ops=("dequantize_linear",),
    because="DequantLinearOpFuser leaves the weights as they are stored, and int8 kernels read "
    "floats as bytes",
)
def integers_as_bytes(op: Op, site: Site) -> Iterator[str]:
    """dequantize_linear of integers that are stored as floats, as paddle.quantization does -> of
    int8."""
    name = op.input("X")
    stored = site.program.params.get(name or "")
    if stored is None or name is None or stored.dtype != np.float32:
        return
    integers = stored.astype(np.int8)
    if not np.array_equal(integers, stored):
        return
    if name not in site.made:
        site.made[name] = site.program.new_name(f"{name}.int8")
        site.program.set_param(site.made[name], integers)
    op.inputs["X"] = [site.made[name]]
    yield f"'{name}' as int8"


# What computes with stored weights, and the axis of its output channels in them.
_CHANNELS = {"conv2d": 0, "depthwise_conv2d": 0, "conv2d_transpose": 1, "mul": 1}


@rule(
    ops=("dequantize_linear",),
    because="lite/kernels/arm/fc_compute.cc reads a scale for each output channel, past the end of "
    "a single one",
)
def scales_by_channel(op: Op, site: Site) -> Iterator[str]:
    """dequantize_linear of stored weights with one scale -> with that for each output channel."""
    program = site.program
    weight = program.params.get(op.input("X") or "")
    scale = program.params.get(op.input("Scale") or "")
    axes = {_CHANNELS.get(reader.type) for reader in site.readers(op)}
    if weight is None or scale is None or scale.size != 1 or len(axes) != 1 or None in axes:
        return
    (axis,) = axes
    assert axis is not None
    count = weight.shape[axis]
    for slot, value in (("Scale", scale.ravel()[0]), ("ZeroPoint", 0)):
        name = program.new_name(f"{op.inputs['X'][0]}.{slot.lower()}")
        program.set_param(name, np.full(count, value, np.float32))
        op.inputs[slot] = [name]
    op.set("quant_axis", axis)
    yield f"{count} scales on axis {axis}"


# Where layers that int8 kernels compute have their weights.
_WEIGHTS = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv2d_transpose"), "Filter"),
    **dict.fromkeys(("mul", "matmul", "matmul_v2"), "Y"),
}
_PRODUCTS = ("matmul", "matmul_v2")
_ROUNDING = ("fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_moving_average_abs_max")


@program_rule(
    because="quant_dequant_op_fuser.cc takes every pair out and leaves its scale with whoever "
    "reads it: a bias that is added, an activation and a product of activations are then wrong"
)
def drop_pairs_of_others(program: Program) -> Iterator[tuple[str, str]]:
    """quantize_linear and dequantize_linear before what is no layer with weights -> nothing: ARM
    has no int8 kernel for it, and rounds what it writes where a layer reads that."""
    producers = program.producers()
    for op in program.ops:
        if op.type in ("fetch", *_OBSERVERS) or _has_weights(program, producers, op):
            continue
        instead = {name: _before_pair(program, producers, name) for name in op.reads}
        instead = {name: source for name, source in instead.items() if source != name}
        if instead:
            op.rename_inputs(instead)
            yield place(op), f"reads '{next(iter(instead.values()))}' as it is"


@rule(
    ops=_PRODUCTS,
    because="opt aborts at a product of two activations in int8 (X0_scale of matmul_v2), and there "
    "are no weights to shrink",
)
def products_in_float(op: Op, site: Site) -> Iterator[str]:
    """A product of two activations behind fake_quantize_dequantize, as PaddleSlim puts it -> of
    these activations as they are, in float."""
    if _has_weights(site.program, site.producers, op):
        return
    for slot in ("X", "Y"):
        made = site.producers.get(op.inputs[slot][0])
        if made is not None and made.type in _ROUNDING:
            op.inputs[slot] = list(made.inputs["X"])
            yield f"reads '{op.inputs[slot][0]}' as it is"


def _has_weights(program: Program, producers: Mapping[str, Op], op: Op) -> bool:
    """Whether it is a layer with stored weights, quantized or not."""
    name = op.input(_WEIGHTS[op.type]) if op.type in _WEIGHTS else None
    made = producers.get(name or "")
    if made is not None and made.type == "dequantize_linear":
        name = made.input("X")
    return name in program.params


def _before_pair(program: Program, producers: Mapping[str, Op], name: str) -> str:
    """The activation that went through quantize_linear and dequantize_linear to become this one;
    without such a pair, this one."""
    source = name
    for kind in ("dequantize_linear", "quantize_linear"):
        made = producers.get(source)
        if made is None or made.type != kind or made.get("only_observer", False):
            return name
        source = made.inputs["X"][0]
    return name if source in program.params else source
