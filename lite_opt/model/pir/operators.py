"""Operators that no row of the table can say: inputs and outputs, constants, shapes, and what is
several operators in the older format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lite_opt.model.pir.control import CONTROL
from lite_opt.model.pir.fourier import FOURIER
from lite_opt.model.pir.kinds import (
    MalformedError,
    UnsupportedError,
    brief,
    is_int,
    member,
    to_float,
    to_str,
)
from lite_opt.model.pir.read import PirOp, TensorType, read_attribute, result_type
from lite_opt.model.pir.table import rows
from lite_opt.model.pir.translator import MAX_FOLD, Translator, Value
from lite_opt.model.program import Attr, Op
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["BUILTIN", "CODE", "Code"]

Code = Callable[[Translator, PirOp], None]


def _parameter(t: Translator, op: PirOp) -> None:
    fields = member(op.attrs.get(""), "A", list)
    name, type_ = to_str(member(fields, 3, str)), result_type(op)
    if not name or name in t.vars:
        raise MalformedError(f"parameter {brief(name)} is defined twice or has no name")
    if any(d < 0 for d in type_.shape):
        raise MalformedError(f"parameter {brief(name)} has a dynamic shape: {type_}")
    flags = op.attrs[""].get("OA")  # persistable, stop_gradient, trainable
    if type(flags) is list and flags[:1] == [0]:
        t.define(op, Value(type_, reason="a state that the model does not store"))
        return
    is_parameter = bool(member(fields, 1, int))
    t.add_var(name, type_, persistable=True, is_parameter=is_parameter, stop_gradient=True)
    t.define(op, Value(type_, name))


def _data(t: Translator, op: PirOp) -> None:
    name, type_ = op.attr("name", "str"), result_type(op)
    if not name or name in t.vars:
        t.fail(op, f"the input {brief(name)} is defined twice or has no name")
    t.add_var(name, type_, need_check_feed=True, stop_gradient=True)
    column = Attr("INT", len(t.feeds))
    t.feeds.append(Op("feed", {"X": ["feed"]}, {"Out": [name]}, {"col": column}))
    t.define(op, Value(type_, name))


def _fetch(t: Translator, op: PirOp) -> None:
    value = t.value(op, 0)
    column = op.attr("col", "int", len(t.fetches))
    if column in t.fetches:
        t.fail(op, f"column {column} is fetched twice")
    t.tensor(op, value)
    name = op.attr("name" if "name" in op.attrs else "output_name", "str")
    if name and name == value.name:
        # Seen with Paddle 3.3.1: `return x + 1, weight * 1.0` is written as `return x, weight`,
        # and Paddle's own predictor refuses the file (PreconditionNotMet, shadow output).
        raise UnsupportedError(
            f"output {column} is written as '{name}' itself, an input or a parameter: where a "
            "network returns one unchanged, Paddle 3's exporter loses what other outputs compute "
            "from it and Paddle cannot load the file: return only what the network computes, or "
            "export with FLAGS_enable_pir_api=0"
        )
    t.fetches[column] = (name or "fetch", value)


def _alias(t: Translator, op: PirOp) -> None:
    t.define(op, t.value(op, 0))


def _combine(t: Translator, op: PirOp) -> None:
    t.define(op, Value(items=[t.value(op, index) for index in range(len(op.operands))]))


def _items(t: Translator, op: PirOp) -> list[Value]:
    items = t.value(op, 0).items
    if items is None:
        t.fail(op, "its operand is not a vector")
    return items


def _split_vector(t: Translator, op: PirOp) -> None:
    items = _items(t, op)
    if len(items) != len(op.results):
        t.fail(op, f"splits a vector of {len(items)}")
    for index, item in enumerate(items):
        t.define(op, item, index)


def _slice_vector(t: Translator, op: PirOp) -> None:
    items, index = _items(t, op), op.attr("index", "int")
    if not 0 <= index < len(items):
        t.fail(op, f"takes element {index} of a vector of {len(items)}")
    t.define(op, items[index])


def _define_constant(t: Translator, op: PirOp, values: Any, shape: Iterable[int]) -> None:
    """Numbers as a constant of the result's element type. One number fills any shape."""
    dtype, dims = result_type(op).dtype, tuple(shape)
    numbers = np.dtype({"bfloat16": "float32"}.get(dtype, dtype))
    if any(d < 0 for d in dims) or numbers.kind == "c":
        t.fail(op, f"not a constant of {dtype}{list(dims)}")
    try:
        if numbers.kind in "iu":
            values = [int(v) for v in values]
        with np.errstate(all="ignore"):
            flat = np.asarray(values, np.float64 if numbers.kind == "f" else None)
            if numbers.kind in "iu" and flat.size:
                limits = np.iinfo(numbers)
                if (
                    flat.dtype.kind not in "iu"
                    or flat.min() < limits.min
                    or flat.max() > limits.max
                ):
                    raise OverflowError
            flat = flat.astype(numbers)
        const = np.broadcast_to(flat[0], dims) if len(flat) == 1 else flat.reshape(dims)
    except (ValueError, OverflowError):
        t.fail(op, f"its values are not a constant of {dtype}{list(dims)}")
    value = Value(TensorType(dtype, dims), const=const)
    if numbers.kind in "iu" and len(dims) <= 1 and const.size <= MAX_FOLD:
        value.known = const.ravel().tolist()
    t.define(op, value)


def _declared(t: Translator, op: PirOp) -> list[int]:
    """The attribute `shape`, which must be that of the result."""
    shape: list[int] = op.attr("shape", "longs")
    if tuple(shape) != result_type(op).shape:
        t.fail(op, f"its shape is {brief(shape)}")
    return shape


def _full(t: Translator, op: PirOp) -> None:
    _define_constant(t, op, [op.attr("value", "float")], _declared(t, op))


def _full_int_array(t: Translator, op: PirOp) -> None:
    values = op.attr("value", "longs")
    if result_type(op).shape != (len(values),):
        t.fail(op, f"holds {len(values)} numbers")
    _define_constant(t, op, values, [len(values)])


def _assign_value(t: Translator, op: PirOp) -> None:
    values = read_attribute(op.attrs.get("values"))
    if type(values) is not list:
        t.fail(op, "attribute 'values' is not a list")
    numbers = [v if is_int(v, 64) else float(v) if type(v) is bool else to_float(v) for v in values]
    _define_constant(t, op, numbers, _declared(t, op))


def _shape(t: Translator, op: PirOp) -> None:
    x, type_ = t.value(op, 0), result_type(op)
    if type_.shape != (len(x.type.shape),) or x.items is not None:
        t.fail(op, f"is not the shape of {x.type}")
    if all(d >= 0 for d in x.type.shape):
        _define_constant(t, op, x.type.shape, type_.shape)
        return
    name = t.add_var(f"shape_{op.key}.tmp_0", TensorType("int32", type_.shape))
    t.emit("shape", {"Input": [t.tensor(op, x)]}, {"Out": [name]})
    if type_.dtype == "int64":
        name = t.widen(name)
    known: list[int | tuple[Value, int]] = [
        (x, axis) if size < 0 else size for axis, size in enumerate(x.type.shape)
    ]
    t.define(op, Value(type_, name, known=known))


def _constants(t: Translator, op: PirOp, count: int) -> list[int | float] | None:
    """The operands as numbers, if they are constants of one element each."""
    values = [t.value(op, index).const for index in range(count)]
    numbers = [v.ravel()[0].item() for v in values if v is not None and v.size == 1]
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        return None
    return numbers


def _arange(t: Translator, op: PirOp) -> None:
    type_, numbers = result_type(op), _constants(t, op, 3)
    if numbers is not None and numbers[2] != 0:
        start, end, step = numbers
        steps = max(0.0, (end - start) / step)
        if steps <= MAX_FOLD:
            count = math.ceil(steps)
            _define_constant(t, op, [start + step * n for n in range(count)], [count])
            return
    # Unlike arange, range wants its operands in the type of the result.
    inputs = {}
    for index, slot in enumerate(("Start", "End", "Step")):
        value = t.value(op, index)
        name = t.tensor(op, value, at_least_1d=True)
        if value.type.dtype != type_.dtype:
            name = t.cast(name, t.type_of(name), type_.dtype)
        inputs[slot] = [name]
    out = t.add_var(f"range_{op.key}.tmp_0", type_)
    t.emit("range", inputs, {"Out": [out]})
    t.define(op, Value(type_, out))


def _eye(t: Translator, op: PirOp) -> None:
    numbers = _constants(t, op, 2)
    if numbers is None or not 0 <= numbers[0] * numbers[1] <= MAX_FOLD:
        raise UnsupportedError(f"{op}: its size must be a small constant")
    height, width = int(numbers[0]), int(numbers[1])
    _define_constant(t, op, np.eye(height, width).ravel().tolist(), [height, width])


def _linspace(t: Translator, op: PirOp) -> None:
    numbers = _constants(t, op, 3)
    if numbers is None or not 1 <= numbers[2] <= MAX_FOLD:
        t.by_row(op, rows()["linspace"])
        return
    start, stop, count = numbers
    _define_constant(t, op, np.linspace(start, stop, int(count)).tolist(), [int(count)])


def _full_with_tensor(t: Translator, op: PirOp) -> None:
    value, shape, type_ = t.value(op, 0), t.value(op, 1), result_type(op)
    number = _constants(t, op, 1)
    if number is not None and shape.const is not None and shape.const.size <= 64:
        _define_constant(t, op, number, [int(d) for d in shape.const.ravel()])
        return
    if shape.parts is not None:
        inputs = {"ShapeTensorList": [t.narrow(op, item) for item in shape.parts]}
    else:
        inputs = {"ShapeTensor": [t.narrow(op, shape)]}
    if number is None:
        inputs["ValueTensor"] = [t.tensor(op, value)]
    out = t.add_var(f"fill_constant_{op.key}.tmp_0", type_)
    t.emit(
        "fill_constant",
        inputs,
        {"Out": [out]},
        shape=("LONGS", []),
        dtype=("INT", DTYPE_NUMBERS[type_.dtype]),
        value=("FLOAT", float(number[0]) if number else 0.0),
        str_value=("STRING", str(number[0]) if number else ""),
        force_cpu=("BOOLEAN", False),
        place_type=("INT", -1),
    )
    t.define(op, Value(type_, out))


def _set_value(t: Translator, op: PirOp) -> None:
    """With its numbers in a tensor: the attribute for them differs between Paddle and Lite."""
    key, x = t.new_key(), t.value(op, 0)
    type_ = TensorType(x.type.dtype, tuple(op.attr("shape", "longs")))
    values = PirOp("assign_value", [], [(key, type_)], op.attrs)
    _assign_value(t, values)
    operands = [op.operands[0], key, *op.operands[1:]]
    made = PirOp("set_value_with_tensor", operands, op.results, op.attrs)
    t.by_row(made, rows()["set_value_with_tensor"])


def _linear(t: Translator, op: PirOp) -> None:
    """matmul_v2 and elementwise_add, as the older exporter writes paddle.nn.Linear."""
    transpose = op.attrs.get("transpose_weight", {"#": "0.a_bool", "D": False})
    plain = {"#": "0.a_bool", "D": False}
    attrs = {**op.attrs, "transpose_x": plain, "transpose_y": transpose}
    _with_bias(t, op, "matmul", attrs, -1)


def _conv_bias(t: Translator, op: PirOp) -> None:
    axis = 1 if op.attr("data_format", "str", "NCHW") == "NCHW" else 3
    _with_bias(t, op, op.name.replace("_bias", ""), op.attrs, axis)


def _with_bias(t: Translator, op: PirOp, name: str, attrs: dict[str, Any], axis: int) -> None:
    """An operator with a bias as its third operand -> the one without, and elementwise_add."""
    if len(op.operands) < 3 or op.operands[2] == 0:
        t.by_row(PirOp(name, op.operands[:2], op.results, attrs), rows()[name])
        return
    key, type_ = t.new_key(), result_type(op)
    operands = [*op.operands[:2], *op.operands[3:]]
    t.by_row(PirOp(name, operands, [(key, type_)], attrs), rows()[name])
    x, bias = t.tensor(op, t.values[key]), t.tensor(op, t.value(op, 2))
    out = t.add_var(f"elementwise_add_{op.key}.tmp_0", type_)
    t.emit("elementwise_add", {"X": [x], "Y": [bias]}, {"Out": [out]}, axis=("INT", axis))
    t.define(op, Value(type_, out))


def _index_put(t: Translator, op: PirOp) -> None:
    """By one mask of the shape of x, and one number: masked_fill."""
    indices, x, value = t.value(op, 1).items or [], t.value(op, 0).type, t.value(op, 2).type
    mask = indices[0].type if len(indices) == 1 else value
    if mask != TensorType("bool", x.shape) or math.prod(value.shape) != 1:
        raise UnsupportedError(
            f"{op}: only one number is put, at a mask of the shape of the tensor: use "
            "paddle.where or paddle.put_along_axis"
        )
    if op.attr("accumulate", "bool", False):
        raise UnsupportedError(f"{op}: with accumulate=True")
    _fill(t, op, t.tensor(op, indices[0]))


def _masked_fill(t: Translator, op: PirOp) -> None:
    _fill(t, op, t.tensor(op, t.value(op, 1)))


def _fill(t: Translator, op: PirOp, mask: str) -> None:
    """where(mask, a tensor of the value, x)."""
    x, type_ = t.tensor(op, t.value(op, 0)), result_type(op)
    number = _constants(t, PirOp("", op.operands[2:], []), 1)
    filled = t.add_var(f"fill_any_like_{op.key}.tmp_0", t.type_of(x))
    t.emit(
        "fill_any_like",
        {"X": [x]},
        {"Out": [filled]},
        value=("FLOAT", float(number[0]) if number else 0.0),
        dtype=("INT", DTYPE_NUMBERS[type_.dtype]),
    )
    if number is None:
        value = t.tensor(op, t.value(op, 2), at_least_1d=True)
        added = t.add_var(f"elementwise_add_{op.key}.tmp_0", t.type_of(x))
        inputs = {"X": [filled], "Y": [value]}
        t.emit("elementwise_add", inputs, {"Out": [added]}, axis=("INT", -1))
        filled = added
    out = t.add_var(f"where_{op.key}.tmp_0", type_)
    t.emit("where", {"Condition": [mask], "X": [filled], "Y": [x]}, {"Out": [out]})
    t.define(op, Value(type_, out))


def _median(t: Translator, op: PirOp) -> None:
    """The middle of what argsort gives, or the mean of the two in the middle."""
    x, type_ = t.value(op, 0), result_type(op)
    axes, rank = op.attr("axis", "longs"), len(x.type.shape)
    if len(axes) != 1 or x.type.shape[axes[0] % rank] < 1 or op.attr("mode", "str", "avg") != "avg":
        raise UnsupportedError(f"{op}: only over one axis of a fixed size, and in mode avg")
    axis = axes[0] % rank
    size = x.type.shape[axis]
    order = t.add_var(f"argsort_{op.key}.tmp_0", x.type)
    places = t.add_var(f"argsort_{op.key}.tmp_1", TensorType("int64", x.type.shape))
    t.emit(
        "argsort",
        {"X": [t.tensor(op, x)]},
        {"Out": [order], "Indices": [places]},
        axis=("INT", axis),
        descending=("BOOLEAN", False),
    )
    keep = op.attr("keepdim", "bool")
    middle = []
    for place in ((size - 1) // 2, size // 2):
        name = t.add_var(f"slice_{op.key}.tmp_0", type_)
        t.emit(
            "slice",
            {"Input": [order]},
            {"Out": [name]},
            axes=("INTS", [axis]),
            starts=("INTS", [place]),
            ends=("INTS", [place + 1]),
            infer_flags=("INTS", [1]),
            decrease_axis=("INTS", [] if keep else [axis]),
        )
        middle.append(name)
    total, out = (t.add_var(f"{kind}_{op.key}.tmp_0", type_) for kind in ("add", "median"))
    t.emit(
        "elementwise_add",
        {"X": [middle[0]], "Y": [middle[1]]},
        {"Out": [total]},
        axis=("INT", -1),
    )
    t.emit(
        "scale",
        {"X": [total]},
        {"Out": [out]},
        scale=("FLOAT", 0.5),
        bias=("FLOAT", 0.0),
        bias_after_scale=("BOOLEAN", True),
    )
    t.define(op, Value(type_, out))
    if len(op.results) > 1 and op.results[1][0]:
        t.define(op, Value(reason=f"the places of {op}, which are not translated"), 1)


# Name of a builtin operator, and of a pd_op -> the function that translates it.
BUILTIN: dict[str, Code] = {
    "p": _parameter,
    "combine": _combine,
    "split": _split_vector,
    "slice": _slice_vector,
    "shadow_output": _fetch,
}
CODE: dict[str, Code] = {
    **CONTROL,
    **FOURIER,
    "data": _data,
    "feed": _data,
    "fetch": _fetch,
    "shadow_feed": _alias,
    "full": _full,
    "full_int_array": _full_int_array,
    "full_with_tensor": _full_with_tensor,
    "assign_value": _assign_value,
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "shape": _shape,
    "shape64": _shape,
    "set_value": _set_value,
    "linear_v2": _linear,
    "masked_fill": _masked_fill,
    "index_put": _index_put,
    "median": _median,
    "conv2d_transpose_bias": _conv_bias,
    "depthwise_conv2d_bias": _conv_bias,
}
