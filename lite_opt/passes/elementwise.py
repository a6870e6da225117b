"""Operators of elements whose kernels lack a type, a mode or broadcasting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from py_runner.tensors import DTYPE_NUMBERS, DTYPES

__all__ = [
    "bits_of_bool",
    "broadcast_comparisons",
    "broadcast_where",
    "casts_in_steps",
    "gelu_by_tanh",
    "maxout_to_max",
    "remainders",
    "remainders_of_integers",
    "triangles_of_bool",
    "whole_operands",
]

# Operators that give nothing negative where nothing negative comes in.
_KEEP_THE_SIGN = (
    "slice", "cast", "concat", "stack", "elementwise_add", "elementwise_mul",
    "elementwise_floordiv", "elementwise_mod", "reshape2", "squeeze2", "unsqueeze2",
)  # fmt: skip

# What lite/kernels/host/cast_compute.cc converts, from and to; x86 has kernels of its own besides.
_CASTS = {
    "bool": ("bool", "int32", "int64", "float32"),
    "int8": ("float32",),
    "uint8": ("float32",),
    "int32": ("bool", "int32", "int64", "float32"),
    "int64": ("int32", "int64", "float32"),
    "float32": ("bool", "int32", "int64", "uint8", "float32"),
}


@rule(ops=("cast",), because="lite/kernels/host/cast_compute.cc knows some pairs of types only")
def casts_in_steps(op: Op, site: Site) -> Iterator[str]:
    """int64 -> bool becomes int64 -> float32 -> bool, and the like; by way of int32, 2**32 would
    be false."""
    source, target = (DTYPES.get(op.get(name), "") for name in ("in_dtype", "out_dtype"))
    if source not in _CASTS or target in _CASTS[source]:
        return
    between = [t for t in _CASTS[source] if t != source and target in _CASTS.get(t, ())]
    if not between:
        return
    middle = "float32" if "float32" in between else between[0]
    chain = Chain(op, site)
    x = chain.var().name
    for a, b in ((source, middle), (middle, target)):
        x = chain("cast", x, dtype=b, in_dtype=DTYPE_NUMBERS[a], out_dtype=DTYPE_NUMBERS[b])
    chain.end()
    yield f"goes over {middle}"


@rule(
    ops=("elementwise_mod", "elementwise_floordiv"),
    because="lite/kernels/{arm,x86}/elementwise_compute.cc have both for integers only",
)
def remainders(op: Op, site: Site) -> Iterator[str]:
    """Of floats: x // y -> floor(x / y), x % y -> x - y * floor(x / y)."""
    chain = Chain(op, site)
    x, y = chain.var(), chain.var("Y")
    if x.dtype != "float32" or op.get("axis", -1) != -1:
        return
    quotient = chain("floor", chain("elementwise_div", x.name, y.name))
    if op.type == "elementwise_mod":
        chain("elementwise_sub", x.name, chain("elementwise_mul", quotient, y.name))
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


@rule(
    ops=("elementwise_mod", "elementwise_floordiv"),
    because="of integers, lite/backends/arm/math/elementwise.cc and x86's floordiv round towards 0",
)
def remainders_of_integers(op: Op, site: Site) -> Iterator[str]:
    """x % y -> (x % y + y) % y, x // y -> (x - x % y) // y, which is the same whether a kernel
    rounds down or towards 0. What is never negative, such as sizes, stays."""
    chain = Chain(op, site)
    x, y = chain.var(), chain.var("Y")
    if x.dtype not in ("int32", "int64") or op.get("axis", -1) != -1 or _rounds_down(op, site):
        return
    if all(_never_negative(name, site.producers) for name in (x.name, y.name)):
        return
    rest = chain("elementwise_mod", x.name, y.name)
    rest = chain("elementwise_mod", chain("elementwise_add", rest, y.name), y.name)
    if op.type == "elementwise_floordiv":
        chain("elementwise_floordiv", chain("elementwise_sub", x.name, rest), y.name)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


def _rounds_down(op: Op, site: Site) -> bool:
    """Whether an operator is one of those that remainders_of_integers makes."""
    maker, y = site.producers.get(op.inputs["X"][0]), op.inputs["Y"][0]
    if op.type == "elementwise_floordiv":
        rest = site.producers.get((maker.input("Y") if maker else "") or "")
        is_rest = rest is not None and rest.type == "elementwise_mod"
        return is_rest and maker is not None and maker.type == "elementwise_sub"
    adders = [*([maker] if maker else []), *site.readers(op)]
    return any(adder.type == "elementwise_add" and adder.input("Y") == y for adder in adders)


def _never_negative(name: str, producers: Mapping[str, Op], depth: int = 8) -> bool:
    """Whether a variable is put together from sizes and positive constants."""
    op = producers.get(name)
    if op is None or not depth:
        return False
    if op.type in ("shape", "size"):
        return True
    if op.type == "fill_constant":
        return not op.inputs.get("ValueTensor") and float(op.get("value", -1)) >= 0
    if op.type not in _KEEP_THE_SIGN:
        return False
    names = op.reads
    return all(_never_negative(n, producers, depth - 1) for n in names)


@rule(
    ops=("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"),
    because="libraries older than v2.13 lack bitwise_and, and lite/kernels has no bitwise_or",
)
def bits_of_bool(op: Op, site: Site) -> Iterator[str]:
    """bitwise_and of bool -> logical_and, and the like."""
    if site.program.var(op.inputs["X"][0]).dtype == "bool":
        op.type = op.type.replace("bitwise", "logical")
        yield f"replaced by {op.type}"


_COMPARISONS = (
    "equal", "not_equal", "less_than", "less_equal", "greater_than", "greater_equal",
)  # fmt: skip


@rule(
    ops=_COMPARISONS,
    because="lite/kernels/host/compare_compute.cc reads past the shape of an operand of fewer "
    "dimensions, and does not broadcast operands of equally many elements",
)
def broadcast_comparisons(op: Op, site: Site) -> Iterator[str]:
    """Operands get equally many dimensions; where both are smaller than the result, one of them is
    expanded."""
    chain = Chain(op, site)
    x, y, out = chain.var().shape, chain.var("Y").shape, chain.out.shape
    if x == y or math.prod(y) == 1 or (len(y) < len(x) and y == x[-len(y) :]):
        return
    told = []
    for slot in ("X", "Y"):
        var = chain.var(slot)
        if len(var.shape) < len(out):
            shape = (1,) * (len(out) - len(var.shape)) + var.shape
            kind = "unsqueeze2" if var.shape else "reshape2"  # Lite's scalars are of shape [1]
            op.inputs[slot] = [chain(kind, var.name, shape=shape, dtype=var.dtype)]
            if var.shape:
                chain.ops[-1].set("axes", list(range(len(out) - len(var.shape))))
            else:
                chain.ops[-1].set("shape", list(shape))
            told.append(f"{slot} got the shape {list(shape)}")
    if out not in (chain.var().shape, chain.var("Y").shape):
        told += [f"{slot} expanded" for slot in ("X", "Y") if _expand(chain, op, slot)][:1]
    if told:
        site.replace(*chain.ops, op)
        yield " and ".join(told)


def _expand(chain: Chain, op: Op, slot: str) -> bool:
    """Give an operand the shape of the result; False where its dynamic sizes are not known."""
    var, out = chain.var(slot), chain.out.shape
    if out in (chain.var().shape, chain.var("Y").shape):
        return False
    if var.dtype == "bool" or any(d == -1 and size != -1 for d, size in zip(out, var.shape)):
        return False
    op.inputs[slot] = [chain("expand_v2", var.name, dtype=var.dtype)]
    chain.ops[-1].set("shape", list(out))
    return True


@rule(ops=("gelu",), because="the kernels ignore `approximate`: 2e-4 of the largest value off")
def gelu_by_tanh(op: Op, site: Site) -> Iterator[str]:
    """gelu with approximate -> x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 x^3)), which is x / 2 *
    (1 + tanh(...))."""
    if not op.get("approximate", False):
        return
    chain = Chain(op, site)
    x, factor = chain.var().name, 2 * math.sqrt(2 / math.pi)
    square = chain("elementwise_mul", x, x)
    inner = chain("elementwise_mul", x, chain.scale(square, 0.044715 * factor, factor))
    chain("elementwise_mul", x, chain("sigmoid", inner))
    chain.end()
    yield "became a sigmoid"


@rule(ops=("maxout",), because="lite/kernels has none for maxout")
def maxout_to_max(op: Op, site: Site) -> Iterator[str]:
    """maxout -> the maximum over an axis of the groups, between two reshapes."""
    chain = Chain(op, site)
    shape, groups = chain.var().shape, op.get("groups")
    axis = op.get("axis", 1) % len(shape)
    rest = shape[axis + 1 :]
    if shape[axis] < 0 or sum(d < 0 for d in (*shape[:axis], *rest)) > 1:
        return
    before = -1 if -1 in shape[:axis] else math.prod(shape[:axis])
    after = -1 if -1 in rest else math.prod(rest)
    parts = (before, shape[axis] // groups, groups, after)
    largest = chain(
        "reduce_max", chain.reshape(chain.var().name, parts), dim=[2], keep_dim=False,
        reduce_all=False, shape=(parts[0], parts[1], parts[3]),
    )  # fmt: skip
    chain.reshape(largest, chain.out.shape)
    chain.end()
    yield "became a maximum"


@rule(ops=("where",), because="lite/operators/where_op.cc wants three tensors of one shape")
def broadcast_where(op: Op, site: Site) -> Iterator[str]:
    """Where an operand of `where` is smaller than its result it is spread out beforehand."""
    chain = Chain(op, site)
    slots = ("Condition", "X", "Y")
    whole = [s for s in slots if chain.var(s).shape == chain.out.shape]
    small = [s for s in slots if s not in whole]
    dtype = chain.out.dtype
    if not small or not whole or dtype not in ("float32", "int32", "int64"):
        return
    like = op.inputs[whole[0]][0]

    def filled(value: float, kind: str) -> str:
        name = chain("fill_any_like", like, dtype=kind, value=float(value))
        chain.ops[-1].set("dtype", DTYPE_NUMBERS[kind])
        return name

    inputs = dict(op.inputs)
    for slot in small:
        name = op.inputs[slot][0]
        if slot != "Condition":
            inputs[slot] = [chain("elementwise_add", filled(0, dtype), name)]
            continue
        chain("cast", name, dtype="float32", shape=chain.var(slot).shape)
        chain.ops[-1].set("in_dtype", DTYPE_NUMBERS["bool"])
        chain.ops[-1].set("out_dtype", DTYPE_NUMBERS["float32"])
        number = chain.ops[-1].outputs["Out"][0]
        spread = chain("elementwise_add", filled(0, "float32"), number, dtype="float32")
        half = filled(0.5, "float32")
        inputs[slot] = [chain("greater_than", spread, half, dtype="bool", force_cpu=False, axis=-1)]
    site.replace(*chain.ops, Op("where", inputs, op.outputs, op.attrs))
    yield f"{' and '.join(small)} spread to the shape of its result"


@rule(
    ops=("tril_triu",),
    because="lite/kernels/host/tril_triu_compute.cc knows float32 only, and the optimizer dies of "
    "a cast that it would need",
)
def triangles_of_bool(op: Op, site: Site) -> Iterator[str]:
    """Of bool and of integers: cast to float32 and back."""
    chain = Chain(op, site)
    x = chain.var()
    if x.dtype not in ("bool", "int32", "int64"):
        return
    kind, number = DTYPE_NUMBERS[x.dtype], DTYPE_NUMBERS["float32"]
    wide = chain("cast", x.name, dtype="float32", in_dtype=kind, out_dtype=number)
    half = chain("tril_triu", wide, dtype="float32")
    chain.ops[-1].attrs.update(op.attrs)
    chain("cast", half, in_dtype=number, out_dtype=kind)
    chain.end()
    yield "computed in float32"


@rule(
    ops=("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div"),
    because="lite/kernels/arm/elementwise_compute.cc has a fast way for equal shapes, and takes "
    "others an element at a time",
)
def whole_operands(op: Op, site: Site) -> Iterator[str]:
    """A parameter of the shape of one sample, [H,M,M] against [N,H,M,M] -> [1,H,M,M]: the shapes
    are then equal for a batch of 1, and right for any."""
    program = site.program
    x, y = op.input("X"), op.input("Y") or ""
    value = program.params.get(y)
    if value is None or x is None or op.get("axis", -1) not in (-1, 1):
        return
    shape = program.var(x).shape
    if value.ndim < 2 or shape[1:] != value.shape or shape[:1] not in ((-1,), (1,)):
        return
    if y not in site.made:
        site.made[y] = program.new_name(f"{y}.whole")
        program.set_param(site.made[y], value[None])
    op.inputs["Y"] = [site.made[y]]
    op.set("axis", -1)
    yield f"'{y}' got the rank of its other operand"
