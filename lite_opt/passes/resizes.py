"""Resizes of images by a factor that does not give a whole number of rows or columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule

__all__ = ["resizes_by_products", "uneven_bilinear"]


@rule(
    ops=("bilinear_interp_v2",),
    because="Lite steps by the ratio of the sizes (lite/backends/{arm,x86}/math/interpolate), "
    "Paddle by the factor, and the two differ where a size is rounded",
)
def uneven_bilinear(op: Op, site: Site) -> Iterator[str]:
    """A bilinear resize by a factor that does not divide -> two products with constant matrices."""
    scales = op.get("scale") or []
    if isinstance(scales, float):
        scales = [scales]
    scales = scales * 2 if len(scales) == 1 else scales
    x = site.program.var(op.inputs["X"][0])
    if any(op.inputs.get(slot) for slot in ("OutSize", "SizeTensor", "Scale")):
        return
    if op.get("align_corners") or len(scales) != 2 or min(scales) <= 0 or len(x.shape) != 4:
        return
    high, wide = x.shape[2:]
    if op.get("data_layout", "NCHW") != "NCHW" or min(high, wide) < 0:
        return
    if all(float(side * scale).is_integer() for side, scale in zip((high, wide), scales)):
        return
    weights = []
    for axis, side, scale in (("rows", high, scales[0]), ("columns", wide, scales[1])):
        matrix = _linear(side, scale, centers=op.get("align_mode", 1) == 0)
        weights.append(site.program.new_name(f"{op.layer}.{axis}"))
        site.program.set_param(weights[-1], np.ascontiguousarray(matrix.T))
    chain = Chain(op, site)
    rows, columns = (site.program.params[name].shape[1] for name in weights)
    y = _times(chain, x.name, weights[1], (*x.shape[:3], columns))
    y = chain.transpose(y, [0, 1, 3, 2])
    y = _times(chain, y, weights[0], (*x.shape[:2], columns, rows))
    chain.transpose(y, [0, 1, 3, 2])
    chain.end()
    yield f"by {scales[0]:g} and {scales[1]:g} became two products"


def _times(chain: Chain, x: str, weight: str, shape: tuple[int, ...]) -> str:
    return chain("mul", x, weight, shape=shape, x_num_col_dims=3, y_num_col_dims=1)


def _linear(source: int, scale: float, *, centers: bool) -> np.ndarray[Any, Any]:
    """Weights [target, source] of linear interpolation along one axis, as Paddle's
    phi/kernels/cpu/interpolate_kernel.cc has them; `centers` is its align_mode 0."""
    target = int(source * scale)
    matrix = np.zeros((target, source), np.float32)
    ratio = np.float32(1 / scale)
    for index in range(target):
        at = ratio * np.float32(index + 0.5) - np.float32(0.5) if centers else ratio * index
        place = max(float(at), 0.0)
        first = min(int(place), source - 1)
        matrix[index, first] += 1 - (place - first)
        matrix[index, min(first + 1, source - 1)] += place - first
    return matrix


@rule(
    ops=("linear_interp_v2", "bicubic_interp_v2", "trilinear_interp_v2"),
    because="lite/kernels has none for them",
)
def resizes_by_products(op: Op, site: Site) -> Iterator[str]:
    """A resize to a known size -> a product with a constant matrix for each axis."""
    chain = Chain(op, site)
    x, out = chain.var(), chain.out
    rank = len(x.shape)
    if op.get("data_layout", "NCHW") not in ("NCHW", "NCDHW", "NCW") or op.inputs.get("Scale"):
        return
    if -1 in (*x.shape[2:], *out.shape[2:]) or rank < 3 or len(out.shape) != rank:
        return
    scales = op.get("scale") or []
    scales = [scales] if isinstance(scales, float) else list(scales)
    if op.inputs.get("OutSize") or op.inputs.get("SizeTensor"):
        scales = []
    scales = scales * (rank - 2) if len(scales) == 1 else scales or [0.0] * (rank - 2)
    name = x.name
    for axis, scale in zip(range(2, rank), scales):
        matrix = _weights(op, x.shape[axis], out.shape[axis], scale)
        weight = site.program.new_name(f"{op.layer}.axis{axis}")
        site.program.set_param(weight, np.ascontiguousarray(matrix.T))
        order = [*range(axis), *range(axis + 1, rank), axis]
        moved = name if axis == rank - 1 else chain.transpose(name, order)
        shape = (*site.program.var(moved).shape[:-1], out.shape[axis])
        name = chain("mul", moved, weight, shape=shape, x_num_col_dims=rank - 1, y_num_col_dims=1)
        if axis != rank - 1:
            name = chain.transpose(name, [order.index(a) for a in range(rank)])
    chain.end()
    yield f"became {rank - 2} products"


def _weights(op: Op, source: int, target: int, scale: float) -> np.ndarray[Any, Any]:
    """Weights [target, source] along one axis, as phi/kernels/cpu/interpolate_kernel.cc has
    them."""
    corners = bool(op.get("align_corners"))
    ratio = np.float32(1 / scale if scale > 0 else source / target)
    if corners:
        ratio = np.float32((source - 1) / (target - 1) if target > 1 else 0)
    cubic = op.type == "bicubic_interp_v2"
    centers = not corners and (cubic or op.get("align_mode", 1) == 0)
    matrix = np.zeros((target, source), np.float32)
    for index in range(target):
        at = float(ratio * np.float32(index + 0.5) - np.float32(0.5) if centers else ratio * index)
        at = at if cubic else max(at, 0.0)
        first = int(np.floor(at))
        t = at - first
        for place, weight in enumerate(_cubic(t) if cubic else (0.0, 1 - t, t)):
            matrix[index, min(max(first - 1 + place, 0), source - 1)] += weight
    return matrix


def _cubic(t: float) -> tuple[float, float, float, float]:
    """The weights of four neighbours, by Keys' kernel with a = -0.75."""
    a = -0.75

    def near(d: float) -> float:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: float) -> float:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)
