"""Functions of each element that have no kernel on ARM or none on x86: the same by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["abs_unfused", "activations_by_others", "silu_to_swish"]


def _brelu(c: Chain, x: str, op: Op) -> None:
    c("clip", x, min=op.get("t_min", 0.0), max=op.get("t_max", 24.0))


def _below(c: Chain, x: str, scale: float, alpha: float) -> str:
    """alpha * (exp(scale * min(x, 0)) - 1), of which nothing overflows."""
    positive = c("relu", x)
    negative = c.scale(c("elementwise_sub", x, positive), scale)
    return c("elementwise_add", positive, c.scale(c("exp", negative), alpha, -alpha))


def _celu(c: Chain, x: str, op: Op) -> None:
    alpha = op.get("alpha", 1.0)
    _below(c, x, 1 / alpha, alpha)


def _selu(c: Chain, x: str, op: Op) -> None:
    c.scale(_below(c, x, 1.0, op.get("alpha", 1.6732632423543772)), op.get("scale", _SELU))


def _round(c: Chain, x: str, op: Op) -> None:
    """To the even neighbour of a tie: floor(x + 1/2), less 1 where that is odd and x a tie."""
    up = c("floor", c.scale(x, 1.0, 0.5))
    tie = c("relu", c("floor", c.scale(c("elementwise_sub", up, x), 2.0)))
    even = c.scale(c("floor", c.scale(up, 0.5)), 2.0)
    odd = c("elementwise_sub", up, even)
    c("elementwise_sub", up, c("elementwise_mul", tie, odd))


def _softsign(c: Chain, x: str, op: Op) -> None:
    c("elementwise_div", x, c.scale(c("abs", x), 1.0, 1.0))


def _soft_shrink(c: Chain, x: str, op: Op) -> None:
    limit = op.get("lambda", 0.5)
    c("elementwise_sub", x, c("clip", x, min=-limit, max=limit))


def _hard_shrink(c: Chain, x: str, op: Op) -> None:
    limit = op.get("threshold", 0.5)
    above = c("thresholded_relu", x, threshold=limit)
    below = c("thresholded_relu", c.scale(x, -1.0), threshold=limit)
    c("elementwise_sub", above, below)


def _tanh_shrink(c: Chain, x: str, op: Op) -> None:
    c("elementwise_sub", x, c("tanh", x))


def _logsigmoid(c: Chain, x: str, op: Op) -> None:
    """-(max(-x, 0) + log(1 + exp(-|x|))), of which nothing overflows."""
    minus = c.scale(x, -1.0)
    small = c("log", c.scale(c("exp", c.scale(c("abs", x), -1.0)), 1.0, 1.0))
    c.scale(c("elementwise_add", c("relu", minus), small), -1.0)


def _stanh(c: Chain, x: str, op: Op) -> None:
    c.scale(c("tanh", c.scale(x, op.get("scale_a", 0.67))), op.get("scale_b", 1.7159))


def _sign(c: Chain, x: str, op: Op) -> None:
    # The largest float: only a denormal number is not carried beyond 1.
    c("clip", c.scale(x, 3.0e38), min=-1.0, max=1.0)


def _ceil(c: Chain, x: str, op: Op) -> None:
    c.scale(c("floor", c.scale(x, -1.0)), -1.0)


def _trunc(c: Chain, x: str, op: Op) -> None:
    above = c("floor", c("relu", x))
    c("elementwise_sub", above, c("floor", c("relu", c.scale(x, -1.0))))


def _tan(c: Chain, x: str, op: Op) -> None:
    c("elementwise_div", c("sin", x), c("cos", x))


def _expm1(c: Chain, x: str, op: Op) -> None:
    c.scale(c("exp", x), 1.0, -1.0)


def _log1p(c: Chain, x: str, op: Op) -> None:
    c("log", c.scale(x, 1.0, 1.0))


def _log_of(base: float) -> Callable[[Chain, str, Op], None]:
    def compose(c: Chain, x: str, op: Op) -> None:
        c.scale(c("log", x), base)

    return compose


def _isnan(c: Chain, x: str, op: Op) -> None:
    # not_equal takes two numbers for equal where their difference is small: that of NaN is not.
    same = c("less_equal", x, x, axis=-1, force_cpu=False)
    c("logical_not", same)


def _sinh(c: Chain, x: str, op: Op) -> None:
    c.scale(c("elementwise_sub", c("exp", x), c("exp", c.scale(x, -1.0))), 0.5)


def _cosh(c: Chain, x: str, op: Op) -> None:
    c.scale(c("elementwise_add", c("exp", x), c("exp", c.scale(x, -1.0))), 0.5)


def _asinh(c: Chain, x: str, op: Op) -> None:
    """sign(x) * log(|x| + sqrt(x^2 + 1)): of a negative x the sum would cancel."""
    root = c("sqrt", c.scale(c("elementwise_mul", x, x), 1.0, 1.0))
    size = c("log", c("elementwise_add", c("abs", x), root))
    sign = c("clip", c.scale(x, 3.0e38), min=-1.0, max=1.0)
    c("elementwise_mul", size, sign)


def _acosh(c: Chain, x: str, op: Op) -> None:
    root = c("sqrt", c.scale(c("elementwise_mul", x, x), 1.0, -1.0))
    c("log", c("elementwise_add", x, root))


def _atanh(c: Chain, x: str, op: Op) -> None:
    ratio = c("elementwise_div", c.scale(x, 1.0, 1.0), c.scale(x, -1.0, 1.0))
    c.scale(c("log", ratio), 0.5)


def _against_largest(comparison: str) -> Callable[[Chain, str, Op], None]:
    """Whether |x| is, or is not, beyond the largest float: of NaN neither is so."""

    def compose(c: Chain, x: str, op: Op) -> None:
        largest = c("fill_any_like", x, dtype="float32", value=_LARGEST)
        c.ops[-1].set("dtype", DTYPE_NUMBERS["float32"])
        size = c("abs", x, dtype="float32")
        c(comparison, size, largest, axis=-1, force_cpu=False)

    return compose


_LARGEST = float(np.finfo(np.float32).max)
_SELU = 1.0507009873554805
_COMPOSED: dict[str, Callable[[Chain, str, Op], None]] = {
    "acosh": _acosh,
    "asinh": _asinh,
    "atanh": _atanh,
    "brelu": _brelu,
    "celu": _celu,
    "ceil": _ceil,
    "cosh": _cosh,
    "expm1": _expm1,
    "hard_shrink": _hard_shrink,
    "isfinite_v2": _against_largest("less_equal"),
    "isinf_v2": _against_largest("greater_than"),
    "isnan_v2": _isnan,
    "log10": _log_of(0.43429448190325176),
    "log1p": _log1p,
    "log2": _log_of(1.4426950408889634),
    "logsigmoid": _logsigmoid,
    "round": _round,
    "selu": _selu,
    "sign": _sign,
    "sinh": _sinh,
    "softshrink": _soft_shrink,
    "softsign": _softsign,
    "stanh": _stanh,
    "tan": _tan,
    "tanh_shrink": _tanh_shrink,
    "trunc": _trunc,
}
_FLOAT = ("float32", "float64")


@rule(
    ops=_COMPOSED,
    because="lite/kernels has none for them, sign only for ARM and softsign only for x86; round "
    "takes ties away from zero, Paddle to even",
)
def activations_by_others(op: Op, site: Site) -> Iterator[str]:
    """ceil(x) -> -floor(-x), softsign(x) -> x / (1 + |x|), and the like."""
    chain = Chain(op, site)
    if chain.var().dtype not in _FLOAT or op.get("decimals"):
        return
    _COMPOSED[op.type](chain, chain.var().name, op)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


@rule(
    ops=("silu",),
    because="libraries before v2.13-rc do not know it, and only swish is fused into convolutions",
)
def silu_to_swish(op: Op, site: Site) -> Iterator[str]:
    """silu(x) -> swish(x) with beta 1, which is the same."""
    op.type = "swish"
    op.set("beta", 1.0)
    yield "replaced by swish"


@rule(
    ops=("abs",),
    because="elementwise_add_activation_fuse_pass.cc fuses it into a sum, a difference or a "
    "product, and lite/kernels/x86/elementwise_compute.cc then aborts: unsupported active type",
)
def abs_unfused(op: Op, site: Site) -> Iterator[str]:
    """abs of an elementwise operator's result -> max(x, -x)."""
    chain = Chain(op, site)
    x = chain.var()
    made = site.producers.get(x.name)
    fused = ("elementwise_add", "elementwise_sub", "elementwise_mul")
    if x.dtype != "float32" or made is None or made.type not in fused:
        return
    if len(site.consumers.get(x.name, [])) > 1:
        return
    chain("elementwise_max", x.name, chain.scale(x.name, -1.0))
    chain.end()
    yield "became the larger of both signs"
