"""Computations that a kernel of Paddle Lite gets wrong: the same by another one."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["expand_bases", "powers_to_products", "smallest_by_negation"]


@rule(
    ops=("pow",),
    because="the x86 kernel computes exp(2 log x), which is NaN for a negative x "
    "(lite/backends/x86/math/power.cc), and a product is cheaper anywhere",
)
def powers_to_products(op: Op, site: Site) -> Iterator[str]:
    """pow(x, 2) -> x * x."""
    if op.get("factor") != 2.0 or op.input("FactorTensor"):
        return
    op.type = "elementwise_mul"
    op.inputs = {"X": list(op.inputs["X"]), "Y": list(op.inputs["X"])}
    op.attrs.pop("factor")
    op.set("axis", -1)
    yield "replaced by elementwise_mul"


@rule(
    ops=("elementwise_pow",),
    because="lite/kernels/arm/elementwise_compute.cc swaps base and exponent where the base is "
    "the smaller tensor",
)
def expand_bases(op: Op, site: Site) -> Iterator[str]:
    """A power whose base is the smaller tensor -> of the base expanded."""
    x, y = (site.program.var(op.inputs[slot][0]) for slot in ("X", "Y"))
    out = site.program.var(op.outputs["Out"][0])
    if x.shape == y.shape or x.shape == out.shape or -1 in out.shape:
        return
    big = site.new_var(f"{x.name}.expanded", x.dtype, out.shape)
    expand = Op("expand_v2", {"X": [x.name]}, {"Out": [big]})
    expand.set("shape", list(out.shape))
    op.inputs["X"] = [big]
    site.replace(expand, op)
    yield f"its base expanded to {list(out.shape)}"


@rule(
    ops=("top_k_v2",),
    because="lite/kernels/host/topk_v2_compute.cc does not read `largest`",
)
def smallest_by_negation(op: Op, site: Site) -> Iterator[str]:
    """The k smallest -> the k largest of the negated, negated."""
    if op.get("largest", True) or site.program.var(op.inputs["X"][0]).dtype != "float32":
        return
    x, out = op.inputs["X"][0], op.outputs["Out"][0]
    minus_x = site.new_var(f"{x}.minus", "float32", site.program.var(x).shape)
    minus_out = site.new_var(f"{out}.minus", "float32", site.program.var(out).shape)
    op.inputs["X"], op.outputs["Out"] = [minus_x], [minus_out]
    op.set("largest", True)
    site.replace(_minus(x, minus_x), op, _minus(minus_out, out))
    yield "the largest of the negated"


def _minus(x: str, out: str) -> Op:
    op = Op("scale", {"X": [x]}, {"Out": [out]})
    op.set("scale", -1.0)
    op.set("bias", 0.0)
    op.set("bias_after_scale", True)
    return op
