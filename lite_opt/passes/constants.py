"""What operators on parameters give is computed here and now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, rule

__all__ = ["SHAPERS", "fold_constants"]

_RESHAPES = ("reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range")
# Operators that give a parameter another form: what they give is a constant, too.
SHAPERS = (*_RESHAPES, "transpose2", "cast")


@rule(
    ops=(*SHAPERS, "bicubic_interp_v2"),
    because="Lite would compute them at every inference, and has no kernel for bicubic_interp_v2 "
    "(position embeddings)",
)
def fold_constants(op: Op, site: Site) -> Iterator[str]:
    """Shapes, permutations and bicubic resizes of parameters -> parameters."""
    value = _constant(site.program, op)
    if value is None or any(user.type == "quantize_linear" for user in site.readers(op)):
        return  # quant_dequant_op_fuser.cc aborts (is_weight) where it reads a parameter
    site.program.set_param(op.outputs["Out"][0], np.ascontiguousarray(value))
    site.replace()
    yield "computed beforehand"


def _constant(program: Program, op: Op) -> np.ndarray[Any, Any] | None:
    """What an operator on a parameter gives, or None where it is not a constant or not known."""
    x, out = program.params.get(op.input("X") or ""), op.output("Out")
    if x is None or out is None:
        return None
    shape = program.var(out).shape
    if op.type in _RESHAPES and -1 not in shape and np.prod(shape) == x.size:
        return x.reshape(shape)
    if op.type == "transpose2":
        return x.transpose(op.get("axis"))
    if op.type == "cast" and str(x.dtype) == program.var(out).dtype:
        return x
    if (
        op.type == "bicubic_interp_v2"
        and x.ndim == len(shape) == 4
        and min(shape) > 0
        and op.get("data_layout", "NCHW") == "NCHW"
    ):
        return _resize(op, x, shape)
    return None


def _resize(op: Op, x: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """bicubic_interp_v2 of [N,C,H,W], as Paddle's phi/kernels/cpu/interpolate_kernel.cc does."""
    scales = op.get("scale") or []
    scales = scales * 2 if len(scales) == 1 else scales
    resized = x.astype(np.float64)
    for axis in (2, 3):
        given = scales[axis - 2] if len(scales) == 2 else 0.0
        matrix = _bicubic(
            x.shape[axis],
            shape[axis],
            corners=bool(op.get("align_corners", True)),
            ratio=1 / given if given > 0 else 0.0,
        )
        resized = np.moveaxis(np.tensordot(resized, matrix, axes=([axis], [1])), -1, axis)
    return resized.astype(x.dtype)


def _bicubic(source: int, target: int, *, corners: bool, ratio: float) -> np.ndarray[Any, Any]:
    """Weights [target, source] of bicubic interpolation (a = -0.75) along one axis, with the
    border repeated."""
    if target == 1:
        ratio = 0.0
    elif corners:
        ratio = (source - 1) / (target - 1)
    elif ratio == 0.0:
        ratio = source / target
    matrix = np.zeros((target, source))
    for index in range(target):
        place = index * ratio if corners else (index + 0.5) * ratio - 0.5
        first = int(np.floor(place))
        t = place - first
        a = -0.75
        near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
        far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
        for offset, weight in zip((-1, 0, 1, 2), (far[0], *near, far[1])):
            matrix[index, min(max(first + offset, 0), source - 1)] += weight
    return matrix
