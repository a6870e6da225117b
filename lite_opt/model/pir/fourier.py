"""Fourier transforms along an axis of a fixed size: products with constant matrices.

Paddle Lite knows no complex numbers: a complex value is a pair of real ones here, which the
operators of this file make, take apart, and move about part by part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lite_opt.model.pir.kinds import UnsupportedError
from lite_opt.model.pir.read import PirOp, TensorType, result_type
from lite_opt.model.pir.table import rows
from lite_opt.model.pir.translator import Translator, Value

__all__ = ["FOURIER"]

_MAX_SIZE = 1024  # of the axis: the matrices have its square of elements
_MOVERS = ("transpose", "squeeze", "unsqueeze", "slice", "reshape", "flatten", "strided_slice")


def _transform(t: Translator, op: PirOp) -> None:
    """Real to complex: x times the cosines, and x times minus the sines."""
    x, axes = t.value(op, 0), op.attr("axes", "longs")
    rank, type_ = len(x.type.shape), result_type(op)
    size = x.type.shape[axes[-1] % rank] if rank else -1
    if len(axes) != 1 or not 0 < size <= _MAX_SIZE or x.type.dtype != "float32":
        raise UnsupportedError(
            f"{op}: only of float32, along one axis, whose size is fixed and at most {_MAX_SIZE}: "
            "compute the spectrum outside the network"
        )
    axis, count = axes[0] % rank, type_.shape[axes[0] % rank]
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(count)) / size
    forward = op.attr("forward", "bool", True)
    by_size = "forward" if forward else "backward"
    scales = {by_size: 1 / size, "ortho": 1 / np.sqrt(size)}
    scale = scales.get(op.attr("normalization", "str", "backward"), 1.0)
    sines = np.sin(angles) * (-1.0 if forward else 1.0)
    parts = [
        _product(t, op, x, axis, (table * scale).astype(np.float32))
        for table in (np.cos(angles), sines)
    ]
    t.define(op, Value(type_, pair=(parts[0], parts[1])))


def _product(t: Translator, op: PirOp, x: Value, axis: int, table: np.ndarray[Any, Any]) -> Value:
    """The axis of x times a matrix."""
    rank, name = len(x.type.shape), t.tensor(op, x)
    last = [a for a in range(rank) if a != axis] + [axis]
    if axis != rank - 1:
        name = _moved(t, op, name, last)
    matrix = t.tensor(op, Value(TensorType("float32", table.shape), const=table))
    shape = (*t.vars[name].shape[:-1], table.shape[1])
    out = t.add_var(f"matmul_v2_{op.key}.tmp_0", TensorType("float32", shape))
    t.emit(
        "matmul_v2", {"X": [name], "Y": [matrix]}, {"Out": [out]},
        trans_x=("BOOLEAN", False), trans_y=("BOOLEAN", False),
    )  # fmt: skip
    if axis != rank - 1:
        out = _moved(t, op, out, [last.index(a) for a in range(rank)])
    return Value(t.type_of(out), out)


def _moved(t: Translator, op: PirOp, name: str, order: list[int]) -> str:
    shape = tuple(t.vars[name].shape[a] for a in order)
    out = t.add_var(f"transpose2_{op.key}.tmp_0", TensorType("float32", shape))
    t.emit("transpose2", {"X": [name]}, {"Out": [out]}, axis=("INTS", order))
    return out


def _pair(t: Translator, op: PirOp) -> tuple[Value, Value]:
    pair = t.value(op, 0).pair
    if pair is None:
        raise UnsupportedError(f"{op}: only of what a Fourier transform gives")
    return pair


def _part(index: int) -> Callable[[Translator, PirOp], None]:
    def translate(t: Translator, op: PirOp) -> None:
        t.define(op, _pair(t, op)[index])

    return translate


def _abs(t: Translator, op: PirOp) -> None:
    """Of a pair: the root of the sum of the squares."""
    if t.value(op, 0).pair is None:
        t.by_row(op, rows()["abs"])
        return
    type_ = result_type(op)

    def binary(kind: str, x: str, y: str) -> str:
        out = t.add_var(f"{kind}_{op.key}.tmp_0", type_)
        t.emit(kind, {"X": [x], "Y": [y]}, {"Out": [out]}, axis=("INT", -1))
        return out

    names = [t.tensor(op, part) for part in _pair(t, op)]
    squares = [binary("elementwise_mul", name, name) for name in names]
    out = t.add_var(f"sqrt_{op.key}.tmp_0", type_)
    t.emit("sqrt", {"X": [binary("elementwise_add", *squares)]}, {"Out": [out]})
    t.define(op, Value(type_, out))


def _as_real(t: Translator, op: PirOp) -> None:
    """Both parts, stacked along a last axis."""
    type_ = result_type(op)
    names = [t.tensor(op, part) for part in _pair(t, op)]
    out = t.add_var(f"stack_{op.key}.tmp_0", type_)
    t.emit("stack", {"X": names}, {"Y": [out]}, axis=("INT", len(type_.shape) - 1))
    t.define(op, Value(type_, out))


def _mover(name: str) -> Callable[[Translator, PirOp], None]:
    """An operator that moves elements: of a pair, once for each part."""

    def translate(t: Translator, op: PirOp) -> None:
        pair = t.value(op, 0).pair
        if pair is None:
            t.by_row(op, rows()[name])
            return
        type_ = result_type(op)
        parts = []
        for part in pair:
            source, made = t.new_key(), t.new_key()
            t.values[source] = part
            moved = replace(op, operands=[source, *op.operands[1:]])
            moved.results = [(made, TensorType("float32", type_.shape))]
            t.by_row(moved, rows()[name])
            parts.append(t.values[made])
        t.define(op, Value(type_, pair=(parts[0], parts[1])))

    return translate


FOURIER: dict[str, Callable[[Translator, PirOp], None]] = {
    "fft_r2c": _transform,
    "real": _part(0),
    "imag": _part(1),
    "abs": _abs,
    "as_real": _as_real,
    **{name: _mover(name) for name in _MOVERS},
}
