"""Sums and products of tensors of two shapes, in the forms that Paddle Lite has fast kernels for.

lite/kernels/arm/elementwise_compute.cc has those for two equal shapes, and for a smaller operand
whose dimensions lie side by side among the larger one's, with some behind them. Of what is behind
them it takes many elements at a time; else each costs 26 instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, place, program_rule, rewritten, rule

__all__ = [
    "join_scales",
    "numbers_to_scale",
    "operands_by_copies",
    "parameters_second",
    "scales_unfused",
]

_ELEMENTWISE = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div")
# Copies of an operand, and elements of what they give: less is not worth another operator.
_COPIES = 128
_ELEMENTS = 1 << 16


@rule(
    ops=_ELEMENTWISE,
    because="lite/kernels/arm/elementwise_compute.cc calls a function for each element (26 "
    "instructions), scale_compute.cc takes 16 of them at a time, and Lite joins scales",
)
def numbers_to_scale(op: Op, site: Site) -> Iterator[str]:
    """A sum with a parameter of one number, or a product with one, -> scale."""
    for number, other in (("Y", "X"), ("X", "Y")):
        value = site.program.params.get(op.input(number) or "")
        x = op.input(other)
        if value is None or value.size != 1 or x is None or x in site.program.params:
            continue
        like, out = site.program.var(x), site.program.var(op.outputs["Out"][0])
        found = _scale(op.type, float(value.ravel()[0]), first=number == "X")
        if found is None or like.shape != out.shape or like.dtype != "float32":
            return
        op.type, op.inputs, op.attrs = "scale", {"X": [x]}, {}
        for name, given in zip(("scale", "bias"), found):
            op.set(name, given)
        op.set("bias_after_scale", True)
        yield "became scale"
        return


def _scale(kind: str, number: float, *, first: bool) -> tuple[float, float] | None:
    """The factor and what is added then, of an operator on a number, as its first operand or its
    second, and a tensor; None where it is no such thing."""
    if kind == "elementwise_add":
        return 1.0, number
    if kind == "elementwise_mul":
        return number, 0.0
    if kind == "elementwise_sub":
        return (-1.0, number) if first else (1.0, -number)
    return None if first or number == 0.0 else (1.0 / number, 0.0)


@program_rule(because="each is a pass over the tensor")
def join_scales(program: Program) -> Iterator[tuple[str, str]]:
    """scale of what is a scale, and nothing else reads, -> one scale."""
    producers, readers, changing = program.producers(), program.consumers(), rewritten(program)
    for op in list(program.ops):
        first = producers.get(op.input("X") or "") if op.type == "scale" else None
        if first is None or first.type != "scale" or len(readers[first.layer]) != 1:
            continue
        x = first.input("X")
        if x is None or {"X"} != set(op.inputs) | set(first.inputs):
            continue
        if {x, first.layer, op.layer} & changing or program.var(x).dtype != "float32":
            continue
        (a, b), (c, d) = _numbers(first), _numbers(op)
        op.inputs["X"] = [x]
        for name, number in (("scale", a * c), ("bias", b * c + d)):
            op.set(name, number)
        op.set("bias_after_scale", True)
        program.blocks[0].ops = [each for each in program.ops if each is not first]
        yield place(op), f"took in {place(first)}"


def _numbers(scale: Op) -> tuple[float, float]:
    """What a scale multiplies by, and what it adds then."""
    factor, added = scale.get("scale", 1.0), scale.get("bias", 0.0)
    return factor, added if scale.get("bias_after_scale", True) else added * factor


@rule(
    ops=("elementwise_add", "elementwise_mul"),
    because="no pass of Lite's, and none here, looks for weights in the first operand: the layer "
    "scale of ConvNeXt and VAN is computed at every inference",
)
def parameters_second(op: Op, site: Site) -> Iterator[str]:
    """A sum or a product whose first operand is a parameter -> the same with it as the second."""
    x, y = op.inputs["X"][0], op.inputs["Y"][0]
    if x not in site.program.params or y in site.program.params or op.get("axis", -1) != -1:
        return
    if len(site.program.var(x).shape) <= len(site.program.var(y).shape):
        op.inputs["X"], op.inputs["Y"] = [y], [x]
        yield f"'{x}' came second"


@rule(
    ops=("elementwise_sub", "elementwise_mul", "elementwise_div"),
    because="lite/kernels/arm/elementwise_compute.cc takes 26 instructions an element where a "
    "dimension between others is missing, concat and the kernel for equal shapes take 2",
)
def operands_by_copies(op: Op, site: Site) -> Iterator[str]:
    """An operand that has one place where the other has some, in a dimension between others, as of
    involution -> so many copies of it, joined."""
    names = [op.inputs["X"][0], op.inputs["Y"][0]]
    shapes = [site.program.var(name).shape for name in names]
    out = op.outputs["Out"][0]
    whole = site.program.var(out).shape
    if len(shapes[0]) != len(shapes[1]) or whole not in shapes or shapes[0] == shapes[1]:
        return
    small = 1 - shapes.index(whole)
    unlike = [i for i, pair in enumerate(zip(*shapes)) if pair[0] != pair[1]]
    if len(unlike) != 1 or unlike[0] == 0 or shapes[small][unlike[0]] != 1:
        return
    axis, count = unlike[0], whole[unlike[0]]
    behind = math.prod(whole[axis + 1 :])
    if min(whole[1:]) < 1 or behind == 1 or not 1 < count <= _COPIES:
        return
    if math.prod(whole[1:]) < _ELEMENTS:
        return
    copies = site.new_var(f"{names[small]}.copies", site.program.var(names[small]).dtype, whole)
    joined = Op("concat", {"X": [names[small]] * count}, {"Out": [copies]})
    joined.set("axis", axis)
    op.inputs["XY"[small]] = [copies]
    site.replace(joined, op)
    yield f"{count} copies of '{names[small]}'"


# What is fused into a convolution (conv_activation_fuse_pass.cc), and what of it a positive factor
# passes.
_FUSED = ("relu", "relu6", "leaky_relu", "hard_swish")
_PASSED = ("relu", "leaky_relu")


@rule(
    ops=("scale",),
    because="conv_scale_fuser.cc multiplies the weights of a convolution that has its activation "
    "already, and adds to its bias: silently wrong",
)
def scales_unfused(op: Op, site: Site) -> Iterator[str]:
    """scale behind the activation of a convolution -> a product and a sum with a number for each
    channel."""
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    shape = site.program.var(x).shape
    if not _is_activated_convolution(site, x) or set(op.inputs) != {"X"} or shape[1] < 1:
        return
    factor, added = _numbers(op)
    if site.producers[x].type in _PASSED and factor > 0.0 and added == 0.0:
        return
    product = site.new_var(f"{out}.product", "float32", shape)
    made = []
    for kind, number, a, b in (
        ("elementwise_mul", factor, x, product),
        ("elementwise_add", added, product, out),
    ):
        made.append(Op(kind, {"X": [a], "Y": [_vector(site, number, shape[1])]}, {"Out": [b]}))
        made[-1].set("axis", 1)
    site.replace(*made)
    yield "became a product and a sum"


def _is_activated_convolution(site: Site, x: str) -> bool:
    op = site.producers.get(x)
    if op is None or op.type not in _FUSED:
        return False
    op = site.producers.get(op.inputs["X"][0])
    while op is not None and op.type in ("batch_norm", "elementwise_add"):
        if op.type == "elementwise_add" and op.inputs["Y"][0] not in site.program.params:
            return False
        op = site.producers.get(op.inputs["X"][0])
    return op is not None and op.type in ("conv2d", "depthwise_conv2d")


def _vector(site: Site, number: float, size: int) -> str:
    """A parameter of so many equal numbers."""
    key = f"{number!r} {size}"
    if key not in site.made:
        site.made[key] = site.program.new_name("number.vector")
        site.program.set_param(site.made[key], np.full(size, number, np.float32))
    return site.made[key]
