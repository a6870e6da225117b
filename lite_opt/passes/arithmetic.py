"""Computations that a kernel of Paddle Lite gets wrong: the same by another one."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["powers_to_products"]


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
