"""Rules that make a Program acceptable to Paddle Lite 2.13's optimizer and loader.

Each rule is a function `rule(program) -> list[Change]` that edits the program in place, changes
no number that it computes, and finds nothing to do on its own result. `repair` applies them in
the order of RULES. What Lite does is read in its sources (tag v2.13-rc); the file is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite_opt.model.pdmodel import scalars
from lite_opt.model.program import Op, Program, Var

__all__ = ["RULES", "Change", "repair"]


@dataclass(frozen=True)
class Change:
    """What a rule did: the rule's name, the operator ("conv2d 'relu_0.tmp_0'"), and the edit."""

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.what}"


Rule = Callable[[Program], "list[Change]"]


def _change(rule: Rule, op: Op, what: str) -> Change:
    return Change(rule.__name__, f"{op.type} '{op.layer}'", what)


def drop_callstack(program: Program) -> list[Change]:
    """Python stack traces of the exporter, several times the size of the topology itself."""
    count = 0
    for block in program.blocks:
        for op in block.ops:
            count += op.attrs.pop("op_callstack", None) is not None
    return [Change("drop_callstack", f"{count} operators", "dropped op_callstack")] if count else []


_XSHAPE_OPS = ("flatten_contiguous_range", "reshape2", "transpose2", "squeeze2", "unsqueeze2")


def add_xshape(program: Program) -> list[Change]:
    """Paddle >= 2.6 omits the output XShape; lite/operators/flatten_op.cc dereferences it."""
    changes = []
    for block in program.blocks:
        for op in block.ops:
            if op.type not in _XSHAPE_OPS or op.output("XShape"):
                continue
            name = program.new_name(f"{op.layer}.xshape")
            x = block.vars.get(op.input("X") or "")
            shape = (0, *x.shape) if x else (0,)
            block.vars[name] = Var(name, x.dtype if x else "float32", shape)
            op.outputs["XShape"] = [name]
            changes.append(_change(add_xshape, op, "added the output XShape"))
    return changes


# Attributes that Lite reads without asking whether they are there (GetAttr without HasAttr in
# lite/operators/*_op.cc), with the defaults of Paddle's operator definitions (op_compat.yaml,
# ops.yaml). Paddle >= 2.6 does not write the ones at their default.
_DEFAULTS: dict[str, dict[str, bool | int | float]] = {
    "relu6": {"threshold": 6.0},
    "swish": {"beta": 1.0},
    "hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0},
    "hard_sigmoid": {"slope": 0.2, "offset": 0.5},
    "leaky_relu": {"alpha": 0.02},
    "elu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "mish": {"threshold": 20.0},
    "thresholded_relu": {"threshold": 1.0},
    "matmul": {"transpose_X": False, "transpose_Y": False, "alpha": 1.0},
    "matmul_v2": {"trans_x": False, "trans_y": False},
    "flatten_contiguous_range": {"start_axis": 1, "stop_axis": 1},
    "scale": {"scale": 1.0, "bias": 0.0, "bias_after_scale": True},
    "softmax": {"axis": -1},
    "elementwise_add": {"axis": -1},
    "elementwise_sub": {"axis": -1},
    "elementwise_mul": {"axis": -1},
    "elementwise_div": {"axis": -1},
}


def fill_defaults(program: Program) -> list[Change]:
    """Write the attributes that Lite demands and newer exporters leave out at their default."""
    changes = []
    for block in program.blocks:
        for op in block.ops:
            for name, value in _DEFAULTS.get(op.type, {}).items():
                if name not in op.attrs:
                    op.set(name, value)
                    changes.append(_change(fill_defaults, op, f"added {name} = {value}"))
    return changes


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
_FLOAT32, _FLOAT64 = 5, 6  # VarType numbers
_NARROW = {"LONGS": "INTS", "LONG": "INT"}


def narrow_integers(program: Program) -> list[Change]:
    """Newer exporters write some attributes as 64-bit; Lite aborts unless the type is its own."""
    changes = []
    for block in program.blocks:
        for op in block.ops:
            for name, attr in op.attrs.items():
                if attr.type not in _NARROW or name in _WIDE.get(op.type, ()):
                    continue
                # "to the end" is written as the largest int64: the largest int32 says the same.
                limit = np.iinfo(np.int32)
                value = (
                    [min(max(v, limit.min), limit.max) for v in attr.value]
                    if isinstance(attr.value, list)
                    else min(max(attr.value, limit.min), limit.max)
                )
                op.set(name, value, _NARROW[attr.type])
                what = f"narrowed {name} from {attr.type} to {_NARROW[attr.type]}"
                changes.append(_change(narrow_integers, op, what))
    return changes


def scalars_to_vectors(program: Program) -> list[Change]:
    """Constants of shape [] -> [1]: Lite has no 0-D tensors, and an empty shape is to it a missing
    one (lite/operators/fill_constant_op.cc). The number of elements stays the same."""
    changes = []
    for block in program.blocks:
        for op in block.ops:
            if op.type not in ("fill_constant", "assign_value") or op.get("shape") != []:
                continue
            if any(op.inputs.get(slot) for slot in ("ShapeTensor", "ShapeTensorList")):
                continue
            op.set("shape", [1], op.attrs["shape"].type)
            out = block.vars.get(op.output("Out") or "")
            if out is not None:
                out.shape = (1,)
            changes.append(_change(scalars_to_vectors, op, "shape [] became [1]"))
    return changes


def fold_to_transpose(program: Program) -> list[Change]:
    """fold of patches that neither overlap nor leave gaps -> a transposition between reshapes: Lite
    has no kernel for fold. [N, C*kh*kw, L] is [N, C, kh, kw, rows, columns], L = rows*columns."""
    changes = []
    ops = []
    for op in program.ops:
        ops.append(op)
        if op.type != "fold":
            continue
        x, out = op.inputs["X"][0], op.outputs["Y"][0]
        (high, wide), kernel = op.get("output_sizes"), op.get("kernel_sizes")
        batch, depth = program.var(x).shape[:2]
        if (
            op.get("strides") != kernel
            or any(op.get("paddings"))
            or set(op.get("dilations")) != {1}
        ):
            continue
        if depth < 0 or high % kernel[0] or wide % kernel[1]:
            continue
        channels, rows, columns = depth // np.prod(kernel), high // kernel[0], wide // kernel[1]
        parts = (batch, int(channels), *kernel, rows, columns)
        order = [0, 1, 4, 2, 5, 3]
        names = [program.new_name(f"{out}.{part}") for part in ("patches", "places")]
        program.vars[names[0]] = Var(names[0], program.var(out).dtype, parts)
        program.vars[names[1]] = Var(
            names[1], program.var(out).dtype, tuple(parts[i] for i in order)
        )
        transpose = Op("transpose2", {"X": [names[0]]}, {"Out": [names[1]]})
        transpose.set("axis", order)
        ops[-1:] = [
            _reshape(x, names[0], list(parts)),
            transpose,
            _reshape(names[1], out, [batch, int(channels), high, wide]),
        ]
        changes.append(_change(fold_to_transpose, op, "became a transposition"))
    program.blocks[0].ops = ops
    return changes


# VarType number of the dtype -> the attribute that Lite reads instead of `values`
# (lite/operators/assign_value_op.cc, set_value_op.cc), its type, and the Python type of its items.
_VALUES: dict[int, tuple[str, str, type]] = {
    0: ("bool_values", "INTS", int),
    2: ("int32_values", "INTS", int),
    3: ("int64_values", "LONGS", int),
    5: ("fp32_values", "FLOATS", float),
}


def plain_values(program: Program) -> list[Change]:
    """assign_value and set_value of Paddle 2.6 and later have their numbers in `values`, a list of
    scalars; Lite reads the older lists, one a dtype, and has no float64, which becomes float32."""
    changes = []
    for block in program.blocks:
        for op in block.ops:
            attr = op.attrs.get("values")
            if op.type not in ("assign_value", "set_value"):
                continue
            if attr is None or attr.type != "SCALARS":
                continue
            if op.get("dtype") == _FLOAT64 and op.type == "assign_value":
                op.set("dtype", _FLOAT32)
                out = block.vars.get(op.output("Out") or "")
                if out is not None:
                    out.dtype = "float32"
            if op.get("dtype") not in _VALUES:
                continue
            name, type_, kind = _VALUES[op.get("dtype")]
            op.set(name, [kind(v) for v in scalars(attr)], type_)
            del op.attrs["values"]
            changes.append(_change(plain_values, op, f"values became {name}"))
    return changes


def matmul_to_mul(program: Program) -> list[Change]:
    """`matmul` with a 2-D parameter -> `mul`: opt quantises the weights of both, but the loader
    (LightPredictor::DequantizeWeight in lite/api/light_api.cc) restores only those of `mul`."""
    changes = []
    transposed: dict[str, str] = {}
    for op in program.ops:
        flags = {"matmul_v2": ("trans_x", "trans_y"), "matmul": ("transpose_X", "transpose_Y")}
        if op.type not in flags or op.get("alpha", 1.0) != 1.0:
            continue
        trans_x, trans_y = (bool(op.get(name, False)) for name in flags[op.type])
        x, y = op.input("X"), op.input("Y")
        weight = program.params.get(y or "")
        if trans_x or x is None or y is None or weight is None or weight.ndim != 2:
            continue
        rank = len(program.var(x).shape)
        if rank < 2:
            continue
        if trans_y:
            if y not in transposed:
                transposed[y] = program.new_name(f"{y}.transposed")
                program.set_param(transposed[y], np.ascontiguousarray(weight.T))
            op.inputs["Y"] = [transposed[y]]
        changes.append(_change(matmul_to_mul, op, "replaced by mul"))
        op.type = "mul"
        for name in (*flags["matmul"], *flags["matmul_v2"], "alpha"):
            op.attrs.pop(name, None)
        op.set("x_num_col_dims", rank - 1)
        op.set("y_num_col_dims", 1)
    return changes


_ELEMENTWISE = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div")


def fold_bias_reshape(program: Program) -> list[Change]:
    """reshape2(bias [C] -> [1,C,1,1]) + elementwise(axis=-1) -> elementwise(axis=1), which Lite's
    conv_elementwise_fuser.cc needs (it fuses 1-D biases only)."""
    changes = []
    consumers = program.consumers()
    removed = []
    for reshape in [op for op in program.ops if op.type == "reshape2"]:
        bias, out = reshape.input("X"), reshape.output("Out")
        if bias not in program.params or out is None or program.params[bias].ndim != 1:
            continue
        shape = program.var(out).shape
        size = program.params[bias].size
        axis = next((i for i, d in enumerate(shape) if d == size), None)
        users = consumers.get(out, [])
        if axis is None or sum(d != 1 for d in shape) > 1 or not users:
            continue
        if size == 1:
            axis = min(1, len(shape) - 1)  # any axis is right; 1 is the one that fuses
        ranks = [len(program.var(u.input("X") or out).shape) for u in users]
        if any(
            u.type not in _ELEMENTWISE
            or u.input("Y") != out
            or u.input("X") == out
            or u.get("axis", -1) not in (-1, 0)
            or rank != len(shape)
            for u, rank in zip(users, ranks)
        ):
            continue
        for user in users:
            user.inputs["Y"] = [bias]
            user.set("axis", axis)
            changes.append(_change(fold_bias_reshape, user, f"bias '{bias}' on axis {axis}"))
        removed.append(reshape)
    program.blocks[0].ops = [op for op in program.ops if not any(op is r for r in removed)]
    return changes


def powers_to_products(program: Program) -> list[Change]:
    """pow(x, 2) -> x * x: the x86 kernel computes exp(2 log x), which is NaN for a negative x
    (lite/backends/x86/math/power.cc), and a product is cheaper anywhere."""
    changes = []
    for op in program.ops:
        if op.type != "pow" or op.get("factor") != 2.0 or op.input("FactorTensor"):
            continue
        changes.append(_change(powers_to_products, op, "replaced by elementwise_mul"))
        op.type = "elementwise_mul"
        op.inputs = {"X": list(op.inputs["X"]), "Y": list(op.inputs["X"])}
        op.attrs.pop("factor")
        op.set("axis", -1)
    return changes


def complete_batch_norm(program: Program) -> list[Change]:
    """batch_norm without Scale or Bias (weight_attr=False): lite/operators/batch_norm_op.cc wants
    both, so ones and zeros."""
    changes = []
    for op in program.ops:
        mean = program.params.get(op.input("Mean") or "")
        if op.type != "batch_norm" or mean is None:
            continue
        for slot, value in (("Scale", np.ones_like(mean)), ("Bias", np.zeros_like(mean))):
            if op.input(slot) is None:
                name = program.new_name(f"{op.layer}.{slot.lower()}")
                program.set_param(name, value)
                op.inputs[slot] = [name]
                changes.append(_change(complete_batch_norm, op, f"added the input {slot}"))
    return changes


_REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod")


def reduce_in_3d(program: Program) -> list[Change]:
    """A reduction over neighbouring axes of a tensor of rank 5 or more -> the same in 3-D, between
    two reshapes: lite/kernels/x86/reduce_compute.h handles ranks up to 4 and is silently wrong
    beyond, and so are kernels of lite/kernels/arm."""
    changes = []
    ops = []
    for op in program.ops:
        ops.append(op)
        shape = program.var(op.input("X") or op.layer).shape if op.type in _REDUCTIONS else ()
        rank = len(shape)
        if rank < 5 or op.get("reduce_all") or -1 in shape[1:]:
            continue
        axes = sorted(d % rank for d in op.get("dim"))
        if axes != list(range(axes[0], axes[-1] + 1)) or axes[0] == 0:
            continue
        before, after = int(np.prod(shape[1 : axes[0]])), int(np.prod(shape[axes[-1] + 1 :]))
        over = int(np.prod(shape[axes[0] : axes[-1] + 1]))
        rows = -1 if shape[0] < 0 else shape[0] * before
        out = op.outputs["Out"][0]
        flat, flat_out = program.new_name(f"{out}.3d_in"), program.new_name(f"{out}.3d_out")
        dtype = program.var(out).dtype
        program.vars[flat] = Var(flat, dtype, (rows, over, after))
        program.vars[flat_out] = Var(flat_out, dtype, (rows, after))
        ops[-1:] = [
            _reshape(op.inputs["X"][0], flat, [rows, over, after]),
            op,
            _reshape(flat_out, out, list(program.var(out).shape)),
        ]
        changes.append(_change(reduce_in_3d, op, f"rank {rank} became 3"))
        op.inputs["X"], op.outputs["Out"] = [flat], [flat_out]
        op.set("dim", [1])
        op.set("keep_dim", False)
    program.blocks[0].ops = ops
    return changes


def _reshape(x: str, out: str, shape: list[int]) -> Op:
    op = Op("reshape2", {"X": [x]}, {"Out": [out]})
    op.set("shape", shape)
    return op


def fold_matmul_heads(program: Program) -> list[Change]:
    """matmul_v2 of [N,H,M,K] with one [N,1,K,P] for all heads -> [N,H*M,K] with [N,K,P], between
    reshapes: the x86 kernel of matmul_v2 does not broadcast (lite/kernels/x86/matmul_v2_compute.cc
    aborts), and one product is cheaper than H."""
    changes = []
    ops = []
    for op in program.ops:
        ops.append(op)
        if op.type != "matmul_v2" or op.get("trans_x", False):
            continue
        x, y = op.inputs["X"][0], op.inputs["Y"][0]
        a, b = program.var(x).shape, program.var(y).shape
        if len(a) != 4 or len(b) != 4 or b[1] != 1 or a[1] == 1 or -1 in (*a[1:], *b[1:]):
            continue
        out = op.outputs["Out"][0]
        names = [program.new_name(f"{out}.{part}") for part in ("x3", "y3", "out3")]
        shapes = [(a[0], a[1] * a[2], a[3]), (b[0], b[2], b[3])]
        shapes.append((a[0], a[1] * a[2], program.var(out).shape[-1]))
        for name, shape in zip(names, shapes):
            program.vars[name] = Var(name, program.var(out).dtype, shape)
        ops[-1:] = [
            _reshape(x, names[0], list(shapes[0])),
            _reshape(y, names[1], list(shapes[1])),
            op,
            _reshape(names[2], out, list(program.var(out).shape)),
        ]
        changes.append(_change(fold_matmul_heads, op, f"{a[1]} heads became rows"))
        op.inputs["X"], op.inputs["Y"], op.outputs["Out"] = [[name] for name in names]
    program.blocks[0].ops = ops
    return changes


_RESHAPES = ("reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range")


def fold_constants(program: Program) -> list[Change]:
    """Shapes, permutations and bicubic resizes of parameters -> parameters: Lite would compute them
    at every inference, and has no kernel for bicubic_interp_v2 (position embeddings)."""
    changes = []
    kept = []
    for op in program.ops:
        value = _constant(program, op)
        if value is None:
            kept.append(op)
            continue
        program.set_param(op.outputs["Out"][0], np.ascontiguousarray(value))
        changes.append(_change(fold_constants, op, "computed beforehand"))
    program.blocks[0].ops = kept
    return changes


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


def fix_reshapes(program: Program) -> list[Change]:
    """reshape2 by a computed shape of which all but one dimension are known -> by that shape with
    one -1: what computed it (shape, slice, fill_constant) is then dead."""
    changes = []
    producers = program.producers()
    for op in program.ops:
        tensors = op.inputs.get("ShapeTensor") or []
        shape = op.get("shape") or []
        if op.type != "reshape2" or len(tensors) != len(shape) or sum(d <= 0 for d in shape) > 1:
            continue
        known = [_filled(producers.get(name)) for name in tensors]
        if any(d > 0 and d != value for d, value in zip(shape, known)):
            continue
        op.set("shape", [d if d > 0 else -1 for d in shape])
        del op.inputs["ShapeTensor"]
        changes.append(_change(fix_reshapes, op, f"its shape is {op.get('shape')}"))
    return changes


def _filled(op: Op | None) -> float | None:
    """The number that a fill_constant of one element holds."""
    if op is None or op.type != "fill_constant" or op.get("shape") not in ([], [1]):
        return None
    if any(op.inputs.get(slot) for slot in ("ShapeTensor", "ShapeTensorList", "ValueTensor")):
        return None
    return float(op.get("value"))


# Operators whose effect is not their outputs, or whose outputs are used by name in other blocks.
_KEPT = ("fetch", "while", "conditional_block", "write_to_array", "print")


def drop_dead_code(program: Program) -> list[Change]:
    """Operators of block 0 whose outputs nobody reads."""
    count = 0
    while True:
        read = set(program.consumers())
        live = [
            op
            for op in program.ops
            if op.type in _KEPT or any(n in read for names in op.outputs.values() for n in names)
            or op.type == "feed"
        ]  # fmt: skip
        if len(live) == len(program.ops):
            break
        count += len(program.ops) - len(live)
        program.blocks[0].ops = live
    return [Change("drop_dead_code", f"{count} operators", "nobody reads them")] if count else []


RULES: tuple[Rule, ...] = (
    drop_callstack,
    narrow_integers,
    fill_defaults,
    scalars_to_vectors,
    plain_values,
    complete_batch_norm,
    powers_to_products,
    fold_bias_reshape,
    fold_constants,
    matmul_to_mul,
    fold_matmul_heads,
    fold_to_transpose,
    reduce_in_3d,
    fix_reshapes,
    drop_dead_code,
    add_xshape,
)


def repair(program: Program) -> list[Change]:
    """Apply all rules to a program, in place, and return every change."""
    changes = [change for rule in RULES for change in rule(program)]
    program.remove_unused()
    return changes
