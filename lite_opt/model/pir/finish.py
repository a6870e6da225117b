"""What a row leaves open, by the older operator's type: called when its outputs are defined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lite_opt.model.pir.kinds import to_int
from lite_opt.model.pir.read import PirOp
from lite_opt.model.pir.translator import ARITHMETIC, Finish, Translator, Value
from lite_opt.model.program import Op
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["FINISH"]


def _finish_batch_norm(t: Translator, op: PirOp, made: Op) -> None:
    made.outputs["MeanOut"] = list(made.inputs["Mean"])
    made.outputs["VarianceOut"] = list(made.inputs["Variance"])


def _finish_cast(t: Translator, op: PirOp, made: Op) -> None:
    made.set("in_dtype", DTYPE_NUMBERS[t.value(op, 0).type.dtype])
    dtype = t.values[op.key].type.dtype
    if dtype in ("bool", "int32", "int64", "float32"):
        _fold(t, op, lambda x: x.astype(dtype))


def _finish_reduce(t: Translator, op: PirOp, made: Op) -> None:
    dims, x = made.get("dim"), t.value(op, 0).type
    every = made.get("reduce_all", False) or len(dims) in (0, len(x.shape))
    made.set("reduce_all", every)
    made.set("dim", dims or [0])
    made.set("in_dtype", -1 if made.get("out_dtype", -1) < 0 else DTYPE_NUMBERS[x.dtype])
    made.set("out_dtype", made.get("out_dtype", -1))


def _finish_strided_slice(t: Translator, op: PirOp, made: Op) -> None:
    made.set("infer_flags", [1] * len(made.get("axes")))
    made.set("decrease_axis", [], "INTS")


def _finish_set_value(t: Translator, op: PirOp, made: Op) -> None:
    made.set("dtype", DTYPE_NUMBERS[t.value(op, 0).type.dtype])
    made.set("shape", [], "LONGS")


def _finish_interp(t: Translator, op: PirOp, made: Op) -> None:
    """A size in constant tensors becomes out_d, out_h, out_w."""
    sizes: list[int] = []
    if "OutSize" in made.inputs:
        const = t.value(op, 1).const
        sizes = [int(v) for v in const.ravel()[:4]] if const is not None else []
    elif "SizeTensor" in made.inputs:
        for item in t.value(op, 2).items or []:
            if item.const is not None and item.const.size == 1:
                sizes.append(int(item.const.ravel()[0]))
    names = ("out_d", "out_h", "out_w")[3 - len(sizes) :] if len(sizes) <= 3 else ()
    wanted = len(made.inputs.get("SizeTensor", sizes))
    if names and len(names) == wanted:
        for name, size in zip(names, sizes):
            made.set(name, to_int(size))
        made.inputs.pop("OutSize", None)
        made.inputs.pop("SizeTensor", None)
    elif "OutSize" in made.inputs:
        made.inputs["OutSize"] = [t.narrow(op, t.value(op, 1))]
    elif "SizeTensor" in made.inputs:
        items = t.value(op, 2).items or []
        made.inputs["SizeTensor"] = [t.narrow(op, item) for item in items]


def _finish_slice(t: Translator, op: PirOp, made: Op) -> None:
    known = t.value(op, 0).known
    if known is None or made.get("axes") != [0] or len(made.inputs) > 1:
        return
    (start,), (end,) = made.get("starts") or [0], made.get("ends") or [0]
    _know(t, op, known[start:end])


def _finish_stack(t: Translator, op: PirOp, made: Op) -> None:
    """stack of numbers, or concat of one-element tensors, along the only axis: a shape."""
    items = t.value(op, 0).items or []
    rank = 0 if made.type == "stack" else 1
    if not items or any(len(item.type.shape) != rank or item.items is not None for item in items):
        return
    if all(item.type.shape in ((), (1,)) for item in items):
        t.values[op.key].parts = items
    known: list[int | tuple[Value, int]] = []
    for item in items:
        if item.known is None:
            return
        known += item.known
    _know(t, op, known)


def _know(t: Translator, op: PirOp, known: list[int | tuple[Value, int]]) -> None:
    """Note the elements of a shape; when all are numbers the value is a constant."""
    value = t.values[op.key]
    if value.type.dtype not in ("int32", "int64") or math.prod(value.type.shape) != len(known):
        return
    value.known = known
    if all(type(d) is int for d in known):
        value.const = np.array(known, value.type.dtype).reshape(value.type.shape)
        value.name = None


def _fold(t: Translator, op: PirOp, compute: Callable[..., Any]) -> None:
    """Compute with few constants, such as shapes, counters and conditions, here and now."""
    operands = [t.value(op, index) for index in range(len(op.operands))]
    consts = [v.const for v in operands if v.const is not None and v.const.size <= 64]
    value = t.values[op.key]
    if len(consts) < len(operands) or any(c.dtype.kind not in "ifb" for c in consts):
        return
    with np.errstate(all="ignore"):
        result = np.asarray(compute(*consts))
    if result.shape != value.type.shape or len(result.shape) > 1:
        return
    if value.type.dtype in ("int32", "int64"):
        if all(c.dtype.kind == "i" for c in consts) or result.dtype.kind == "i":
            _know(t, op, result.ravel().tolist())
    elif value.type.dtype in ("bool", "float32"):
        # Its operator stays, and goes unless something needs it as a tensor.
        value.const = result.astype(value.type.dtype)


def _finish_scale(t: Translator, op: PirOp, made: Op) -> None:
    bias, after = made.get("bias"), made.get("bias_after_scale")

    def compute(x: Any, scale: Any) -> Any:
        scale, add = (np.asarray(v).ravel()[0].astype(x.dtype) for v in (scale, np.array(bias)))
        return (x * scale + add if after else (x + add) * scale).astype(x.dtype)

    _fold(t, op, compute)


def _finish_increment(t: Translator, op: PirOp, made: Op) -> None:
    step = made.get("step")
    _fold(t, op, lambda x: (x + np.array(step).astype(x.dtype)).astype(x.dtype))


def _finish_truth(t: Translator, op: PirOp, made: Op) -> None:
    _fold(t, op, _TRUTHS[made.type])


def _finish_arithmetic(t: Translator, op: PirOp, made: Op) -> None:
    _fold(t, op, ARITHMETIC[made.type])


_TRUTHS: dict[str, Callable[..., Any]] = {
    "less_than": np.less,
    "less_equal": np.less_equal,
    "greater_than": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "bitwise_not": np.bitwise_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "assign": np.array,
}
_REDUCE = ("max", "min", "sum", "mean", "prod", "all", "any", "amax", "amin")
_INTERPOLATE = ("nearest", "bilinear", "bicubic", "linear", "trilinear")
FINISH: dict[str, Finish] = {
    "batch_norm": _finish_batch_norm,
    "cast": _finish_cast,
    "strided_slice": _finish_strided_slice,
    "set_value": _finish_set_value,
    "slice": _finish_slice,
    "stack": _finish_stack,
    "concat": _finish_stack,
    "frobenius_norm": _finish_reduce,
    **{f"reduce_{name}": _finish_reduce for name in _REDUCE},
    **{f"{name}_interp_v2": _finish_interp for name in _INTERPOLATE},
    "scale": _finish_scale,
    "increment": _finish_increment,
    **dict.fromkeys(_TRUTHS, _finish_truth),
    **dict.fromkeys(ARITHMETIC, _finish_arithmetic),
}
