"""Weights on the 8-bit grid that quantization gives them, with the errors of rounding in balance.

Whoever rounds each weight to the nearest step lets the errors of an output channel add up: inputs
are not centred (after a ReLU none is negative), so the sum of the errors times their mean is a bias
of that channel. Here a few weights, those nearest to the middle between two steps, go to their
second nearest step instead, until the errors of each kernel and then of each output channel sum up
to half a step at most. It needs no data: the method is SQuant's (Guo et al., "SQuant: On-the-Fly
Data-Free Quantization via Diagonal Hessian Approximation", ICLR 2022).

What lies on its grid already, Paddle Lite's optimizer and Paddle's PostTrainingQuantization leave
as it is: both take the largest magnitude of a channel for 127 steps, and that weight never moves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from lite_opt.model.program import Program
from lite_opt.quant.operators import LAYERS, WEIGHT_ONLY, steps

__all__ = ["BALANCED", "round_weights"]

# Of the layers of static int8 those whose every output sums over whole kernels: the kernel of a
# transposed convolution is spread over several, so there is no sum of its errors to balance.
BALANCED = ("conv2d", "depthwise_conv2d", "mul")

_BLOCK = 1 << 20  # weights that are rounded at a time: bounds the memory


def round_weights(program: Program, operators: Collection[str] = WEIGHT_ONLY) -> Program:
    """A copy of a float program whose weights of these operators are rounded to 8 bits.

    Each weight becomes a whole number of steps, the nearest or the second nearest, at most 127; a
    step is the largest magnitude in its output channel, divided by 127. Weights that operators
    share with others, or that hold NaN or Inf, stay as they are.
    """
    rounded = program.copy()
    axes: dict[str, set[int | None]] = {}  # by weight, of all who read it
    for op in program.ops:
        slots = LAYERS[op.type] if op.type in operators else None
        for argument, names in op.inputs.items():
            axis = slots.channels if slots is not None and argument == slots.weight else None
            for name in names:
                axes.setdefault(name, set()).add(axis)
    for name in program.params.keys() & axes.keys():
        weight = program.params[name]
        axis, *others = axes[name]
        if axis is None or others or weight.dtype != np.float32 or weight.ndim < 2:
            continue
        if weight.size and np.isfinite(weight).all():
            rounded.set_param(name, _rounded(weight, axis))
    return rounded


def _rounded(weight: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """(O, I, ...) or, with axis 1, (I, O): float32 of the same shape."""
    made = np.empty_like(weight, order="C", subok=False)
    channels, out = np.moveaxis(weight, axis, 0), np.moveaxis(made, axis, 0)
    rows = max(1, _BLOCK // channels[0].size)
    for start in range(0, len(channels), rows):
        part = slice(start, start + rows)
        out[part] = _rounded_channels(channels[part])
    return made


def _rounded_channels(channels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    exact = channels.reshape(len(channels), -1).astype(np.float64, order="C")
    most = np.abs(exact).max(axis=1, keepdims=True)
    step = np.where(most > 0, most / steps(8), 1.0)
    exact /= step
    rounded = np.rint(exact)
    if channels.ndim > 2:
        kernel = channels[0, 0].size
        _balance(rounded.reshape(-1, kernel), exact.reshape(-1, kernel))
    _balance(rounded, exact)
    rounded *= step
    return rounded.reshape(channels.shape)


def _balance(rounded: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> None:
    """Move steps, in place, until each row's sum is within half a step of that of `exact`.

    Only by one step, towards `exact`, and those first whose error is largest: they cost least.
    """
    error = rounded - exact
    surplus = np.rint(error.sum(axis=1))
    (rows,) = np.nonzero(surplus)
    if not len(rows):
        return
    sign = np.sign(surplus[rows])[:, None]
    gain = error[rows] * sign
    order = np.argsort(-gain, axis=1, kind="stable")
    count = np.abs(surplus[rows]).astype(int)
    chosen = np.arange(order.shape[1]) < count[:, None]
    move = np.zeros_like(gain)
    np.put_along_axis(move, order, chosen.astype(gain.dtype), axis=1)
    # A weight that was moved before, or lies on its step, cannot take part.
    move *= gain > 0
    rounded[rows] -= move * sign
