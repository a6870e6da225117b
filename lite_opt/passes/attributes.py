"""Attributes: those that Paddle Lite misses, or reads as another type, and ballast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lite_opt.model.pdmodel import scalars
from lite_opt.model.program import VALUE_LISTS, Op, Program
from lite_opt.passes.rule import Site, program_rule, rule
from py_runner.tensors import DTYPE_NUMBERS, DTYPES

__all__ = ["drop_callstack", "fill_defaults", "narrow_integers", "plain_values"]

# Attributes that Lite reads without asking whether they are there (GetAttr without HasAttr in
# lite/operators/*_op.cc), with the defaults of Paddle's operator definitions (op_compat.yaml,
# ops.yaml). Paddle >= 2.6 does not write the ones at their default.
_Default = bool | int | float | str
_COMPARISONS = ("equal", "not_equal", "less_than", "less_equal", "greater_than", "greater_equal")
_ELEMENTWISE = ("add", "sub", "mul", "div", "min", "max", "mod", "pow", "floordiv")
_NORM: dict[str, _Default] = {"epsilon": 1e-5}
_DEFAULTS: dict[str, dict[str, _Default]] = {
    "relu6": {"threshold": 6.0},
    "swish": {"beta": 1.0},
    "hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0},
    "hard_sigmoid": {"slope": 0.2, "offset": 0.5},
    "leaky_relu": {"alpha": 0.02},
    "elu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "mish": {"threshold": 20.0},
    "thresholded_relu": {"threshold": 1.0},
    "pow": {"factor": 1.0},
    "matmul": {"transpose_X": False, "transpose_Y": False, "alpha": 1.0},
    "matmul_v2": {"trans_x": False, "trans_y": False},
    "flatten_contiguous_range": {"start_axis": 1, "stop_axis": 1},
    "scale": {"scale": 1.0, "bias": 0.0, "bias_after_scale": True},
    "increment": {"step": 1.0},
    "softmax": {"axis": -1},
    "cumsum": {"axis": -1, "exclusive": False, "reverse": False},
    "top_k": {"k": 1},
    "top_k_v2": {"k": 1, "axis": -1},
    "tril_triu": {"diagonal": 0},
    **{name: {"axis": 0} for name in ("concat", "stack", "unstack", "unbind", "split")},
    "batch_norm": {"data_layout": "NCHW", "momentum": 0.9, **_NORM},
    "layer_norm": {"begin_norm_axis": 1, **_NORM},
    "group_norm": _NORM,
    "instance_norm": _NORM,
    "pad": {"pad_value": 0.0},
    "pad2d": {"pad_value": 0.0, "mode": "constant", "data_format": "NCHW"},
    "pad3d": {"value": 0.0, "mode": "constant", "data_format": "NCDHW"},
    "fill_any_like": {"value": 0.0},
    "fill_constant": {"dtype": 5, "value": 0.0, "force_cpu": False},
    "fill_constant_batch_size_like": {"dtype": 5, "value": 0.0},
    "roi_align": {"pooled_height": 1, "pooled_width": 1, "sampling_ratio": -1},
    **{f"elementwise_{name}": {"axis": -1} for name in _ELEMENTWISE},
    **{name: {"axis": -1, "force_cpu": False} for name in _COMPARISONS},
}

# The attributes that Lite reads as 64-bit (GetAttr<int64_t> and vectors of it); all others 32-bit.
_WIDE: dict[str, tuple[str, ...]] = {
    "arg_max": ("axis",),
    "arg_min": ("axis",),
    "assign_value": ("int64_values",),
    "fill_constant": ("shape",),
    "gaussian_random": ("shape",),
    "lookup_table": ("padding_idx",),
    "lookup_table_v2": ("padding_idx",),
    "roll": ("axis", "shifts"),
    "set_value": (
        "starts", "ends", "steps", "axes", "decrease_axes", "none_axes", "shape", "int64_values",
    ),
    "uniform_random": ("shape",),
}  # fmt: skip
_NARROW = {"LONGS": "INTS", "LONG": "INT"}


@program_rule(because="they are several times the size of the topology itself")
def drop_callstack(program: Program) -> Iterator[tuple[str, str]]:
    """Python stack traces of the exporter."""
    ops = [op for block in program.blocks for op in block.ops if "op_callstack" in op.attrs]
    for op in ops:
        del op.attrs["op_callstack"]
    if ops:
        yield f"{len(ops)} operators", "dropped op_callstack"


@rule(
    ops=_DEFAULTS,
    because="lite/operators/*_op.cc read them by GetAttr, without asking HasAttr first",
    everywhere=True,
)
def fill_defaults(op: Op, site: Site) -> Iterator[str]:
    """Write the attributes that Lite demands and newer exporters leave out at their default."""
    for name, value in _DEFAULTS[op.type].items():
        if name not in op.attrs:
            op.set(name, value)
            yield f"added {name} = {value}"


@rule(
    because="GetAttr of lite/model_parser/general/op_desc.h aborts unless the type is its own",
    everywhere=True,
)
def narrow_integers(op: Op, site: Site) -> Iterator[str]:
    """Newer exporters write some attributes as 64-bit, such as the axes of reduce_any."""
    for name, attr in op.attrs.items():
        if attr.type in _NARROW and name not in _WIDE.get(op.type, ()):
            is_list = isinstance(attr.value, list)
            value = [_narrow(v) for v in attr.value] if is_list else _narrow(attr.value)
            op.set(name, value, _NARROW[attr.type])
            yield f"narrowed {name} from {attr.type} to {_NARROW[attr.type]}"


def _narrow(value: int) -> int:
    # "to the end" is written as the largest int64: the largest int32 says the same.
    limit = np.iinfo(np.int32)
    return min(max(value, limit.min), limit.max)


@rule(
    ops=("assign_value", "set_value"),
    because="lite/operators/assign_value_op.cc and set_value_op.cc read one list a dtype, and "
    "have none for float64",
    everywhere=True,
)
def plain_values(op: Op, site: Site) -> Iterator[str]:
    """Paddle 2.6 and later have the numbers in `values`, a list of scalars: they become the older
    lists, and float64 becomes float32."""
    attr = op.attrs.get("values")
    if attr is None or attr.type != "SCALARS":
        return
    if op.type == "assign_value" and op.get("dtype") == DTYPE_NUMBERS["float64"]:
        op.set("dtype", DTYPE_NUMBERS["float32"])
        out = site.block.vars.get(op.output("Out") or "")
        if out is not None:
            out.dtype = "float32"
    dtype = DTYPES.get(op.get("dtype"))
    if dtype in VALUE_LISTS:
        name, type_ = VALUE_LISTS[dtype]
        convert = float if type_ == "FLOATS" else int
        op.set(name, [convert(v) for v in scalars(attr)], type_)
        del op.attrs["values"]
        yield f"values became {name}"
