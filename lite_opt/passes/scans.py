"""Running products, maxima and sums of exponentials along an axis."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule

__all__ = ["scans_by_doubling"]

# Of longer axes the model would grow and its answers drift.
_LONGEST = 1024


def _log_add(c: Chain, a: str, b: str, shape: tuple[int, ...]) -> str:
    """log(exp(a) + exp(b)), of which nothing overflows."""
    largest = c("elementwise_max", a, b, shape=shape)
    apart = c("abs", c("elementwise_sub", a, b, shape=shape), shape=shape)
    small = c("exp", c.scale(apart, -1.0, shape=shape), shape=shape)
    more = c("log", c.scale(small, 1.0, 1.0, shape=shape), shape=shape)
    return c("elementwise_add", largest, more, shape=shape)


def _combined(c: Chain, type_: str, a: str, b: str, shape: tuple[int, ...]) -> str:
    if type_ == "logcumsumexp":
        return _log_add(c, a, b, shape)
    kinds = {"cumprod": "mul", "cummax": "max", "cummin": "min"}
    return c(f"elementwise_{kinds[type_]}", a, b, shape=shape)


@rule(
    ops=("cumprod", "cummax", "cummin", "logcumsumexp"),
    because="lite/kernels has none for them",
)
def scans_by_doubling(op: Op, site: Site) -> Iterator[str]:
    """A running product along an axis of n -> log2(n) steps, in each of which an element meets the
    one 1, 2, 4 ... places before it."""
    ours = op.type in ("cummax", "cummin")  # whose slots are written small, and give places
    if any(site.consumers.get(name) for name in op.outputs.get("indices", [])):
        return
    chain = Chain(op, site, slot="out" if ours else "Out")
    x = chain.var("x" if ours else "X")
    axis = op.get("dim" if op.type == "cumprod" else "axis", -1)
    if not x.shape or x.dtype != "float32" or chain.out.shape != x.shape:
        return
    if any(op.get(name) for name in ("flatten", "exclusive", "reverse")):
        return
    axis %= len(x.shape)
    size = x.shape[axis]
    if not 1 <= size <= _LONGEST:
        return
    y, step = x.name, 1
    while step < size:
        shape = tuple(size - step if a == axis else d for a, d in enumerate(x.shape))
        first, late = chain.slice(y, axis, 0, step), chain.slice(y, axis, step, size)
        early = chain.slice(y, axis, 0, size - step)
        rest = _combined(chain, op.type, early, late, shape)
        y = chain.concat([first, rest], axis)
        step *= 2
    if size == 1:
        chain.scale(y, 1.0)
    chain.end()
    yield f"in {(size - 1).bit_length()} steps along axis {axis}"
