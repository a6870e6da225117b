"""What multiplies and adds behind a linear layer becomes part of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import place, program_rule

__all__ = ["batch_norm_factors", "fold_affine", "fold_attention_scale"]

_AFFINE = (
    "batch_norm", "scale", "elementwise_add", "elementwise_sub", "elementwise_mul",
    "elementwise_div",
)  # fmt: skip


@dataclass
class _Linear:
    """A `mul` by a parameter, the sum with a bias behind it, and what others would take it for."""

    product: Op
    bias: Op | None


class _Graph:
    """Who writes and who reads, while the program is edited."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.producers = program.producers()
        self.consumers = program.consumers()
        bodies = (op for block in program.blocks[1:] for op in block.ops)
        self.inner = {n for op in bodies for n in op.writes}

    def only_reader(self, name: str) -> bool:
        return len(self.consumers.get(name, [])) == 1 and name not in self.inner

    def linear(self, name: str) -> _Linear | None:
        """The linear layer that writes a variable, which nobody but one operator reads."""
        op = self.producers.get(name)
        if op is None or not self.only_reader(name):
            return None
        if op.type == "elementwise_add" and self._is_bias(op):
            layer = self.linear(op.inputs["X"][0])
            return None if layer is None or layer.bias is not None else _Linear(layer.product, op)
        weight = self.program.params.get(op.input("Y") or "")
        if op.type != "mul" or weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            return None
        return _Linear(op, None)

    def _is_bias(self, op: Op) -> bool:
        bias = self.program.params.get(op.input("Y") or "")
        rank = len(self.program.var(op.inputs["X"][0]).shape)
        return bias is not None and bias.ndim == 1 and op.get("axis", -1) in (-1, rank - 1)

    def above_reshapes(self, name: str) -> str:
        """What a variable is before it was reshaped, where its last dimension stayed."""
        op = self.producers.get(name)
        while op is not None and op.type == "reshape2" and set(op.inputs) == {"X"}:
            x = op.inputs["X"][0]
            if not self.only_reader(name):
                break
            if self.program.var(x).shape[-1:] != self.program.var(name).shape[-1:]:
                break
            name, op = x, self.producers.get(x)
        return name


def batch_norm_factors(program: Program, op: Op) -> tuple[Any, Any] | None:
    """What a batch_norm multiplies each channel by, and what it adds then; None where that is not
    known beforehand."""
    mean, variance, scale, bias = (
        program.params.get(op.input(slot) or "") for slot in ("Mean", "Variance", "Scale", "Bias")
    )
    if mean is None or variance is None or scale is None or bias is None:
        return None
    factor = scale.astype(np.float64) / np.sqrt(
        variance.astype(np.float64) + op.get("epsilon", 1e-5)
    )
    return factor, bias - mean * factor


def _factors(program: Program, op: Op) -> tuple[Any, Any] | None:
    """What an operator multiplies each element of the last axis by, and what it adds then."""
    x = program.var(op.input("X") or "").shape
    if op.type == "scale":
        if op.inputs.get("ScaleTensor"):
            return None
        factor, added = op.get("scale", 1.0), op.get("bias", 0.0)
        return factor, added if op.get("bias_after_scale", True) else added * factor
    if op.type == "batch_norm":
        if len(x) != 2 and op.get("data_layout", "NCHW") != "NHWC":
            return None
        return batch_norm_factors(program, op)
    y = program.params.get(op.input("Y") or "")
    if y is None or y.dtype != np.float32 or not (y.size == 1 or y.shape == x[-1:]):
        return None
    if y.size > 1 and op.get("axis", -1) not in (-1, len(x) - 1):
        return None
    value = y.astype(np.float64).ravel() if y.size > 1 else float(y.ravel()[0])
    return {
        "elementwise_add": (1.0, value),
        "elementwise_sub": (1.0, -value),
        "elementwise_mul": (value, 0.0),
        "elementwise_div": (1 / value if np.all(value) else None, 0.0),
    }[op.type]


@program_rule(
    because="lite/core/optimizer/mir/fusion fuses batch_norm into convolutions only, and scale "
    "into nothing that a matrix product is"
)
def fold_affine(program: Program) -> Iterator[tuple[str, str]]:
    """batch_norm, scale, and products and sums with a vector of the last axis, behind a linear
    layer, with or without a reshape between -> its weights and its bias."""
    graph = _Graph(program)
    behind: dict[int, Op] = {}
    instead: dict[str, str] = {}
    ops = []
    for op in program.ops:
        op.rename_inputs(instead)
        out = op.output("Y" if op.type == "batch_norm" else "Out")
        if op.type not in _AFFINE or out is None or op.input("X") in (None, out):
            ops.append(op)
            continue
        x = op.inputs["X"][0]
        layer = graph.linear(graph.above_reshapes(x)) if graph.only_reader(x) else None
        factors = None if layer is None else _factors(program, op)
        fetched = any(user.type == "fetch" for user in graph.consumers.get(out, []))
        kept = fetched or program.var(out).shape != program.var(x).shape
        if layer is None or factors is None or factors[0] is None or layer.bias is op or kept:
            ops.append(op)
            continue
        if layer.bias is None and op.type == "elementwise_add" and graph.above_reshapes(x) == x:
            ops.append(op)  # it is the bias
            continue
        _fold(program, layer, *factors, behind)
        instead[out] = x
        graph.consumers[x] = graph.consumers.get(out, [])
        yield place(op), f"folded into the weights of {place(layer.product)}"
    program.blocks[0].ops = [each for op in ops for each in (op, behind.get(id(op))) if each]
    for block in program.blocks[1:]:
        for op in block.ops:
            op.rename_inputs(instead)


def _fold(program: Program, layer: _Linear, factor: Any, added: Any, behind: dict[int, Op]) -> None:
    """Multiply and add in the weights of a layer; a bias is put behind the product in `behind`."""
    product = layer.product
    weight = program.params[product.inputs["Y"][0]]
    product.inputs["Y"] = [_new(program, product.inputs["Y"][0], weight * factor)]
    bias = layer.bias or behind.get(id(product))
    if bias is not None:
        old = program.params[bias.inputs["Y"][0]]
        bias.inputs["Y"] = [_new(program, bias.inputs["Y"][0], old * factor + added)]
        return
    if not np.any(added):
        return
    vector = np.broadcast_to(np.asarray(added, np.float64), weight.shape[1:])
    out = product.outputs["Out"][0]
    var = program.var(out)
    plain = program.new_name(f"{out}.product")
    program.vars[plain] = type(var)(plain, var.dtype, var.shape)
    product.outputs["Out"] = [plain]
    name = _new(program, f"{out}.bias", vector)
    behind[id(product)] = Op("elementwise_add", {"X": [plain], "Y": [name]}, {"Out": [out]})
    behind[id(product)].set("axis", len(var.shape) - 1)


def _new(program: Program, stem: str, value: Any) -> str:
    name = program.new_name(stem)
    program.set_param(name, np.ascontiguousarray(value, dtype=np.float32))
    return name


@program_rule(because="it is a pass over all attention maps, and the weights can hold it")
def fold_attention_scale(program: Program) -> Iterator[tuple[str, str]]:
    """scale of a product of activations -> the weights of the linear layer that made one of its
    factors, where no other result of that layer reads the same columns."""
    graph = _Graph(program)
    instead: dict[str, str] = {}
    ops = []
    for op in program.ops:
        op.rename_inputs(instead)
        plain = op.type == "scale" and op.get("bias", 0.0) == 0.0 and set(op.inputs) == {"X"}
        x, out = op.input("X") or "", op.layer
        fetched = any(user.type == "fetch" for user in graph.consumers.get(out, []))
        found = _columns(graph, x) if plain and not fetched else None
        if found is None:
            ops.append(op)
            continue
        layer, columns = found
        factor = np.ones(program.params[layer.product.inputs["Y"][0]].shape[1])
        factor[columns] = op.get("scale", 1.0)
        _fold(program, layer, factor, 0.0, {})
        instead[out] = x
        graph.consumers[x] = graph.consumers.get(out, [])
        yield place(op), f"folded into the weights of {place(layer.product)}"
    program.blocks[0].ops = ops
    for block in program.blocks[1:]:
        for op in block.ops:
            op.rename_inputs(instead)


def _columns(graph: _Graph, name: str) -> tuple[_Linear, Any] | None:
    """The linear layer that a variable depends on linearly, and which of its columns it holds;
    None where what else depends on the layer sees one of these."""
    path: list[tuple[Op, str]] = []
    layer = graph.linear(name)
    while layer is None:
        op = graph.producers.get(name)
        sliced = bool(path) and path[0][0].type == "slice"
        if op is None or not (graph.only_reader(name) or sliced):
            return None
        if op.type in ("matmul_v2", "matmul"):
            path = []
        elif op.type in (*_MOVES, "split", "slice") and sum(map(len, op.inputs.values())) == 1:
            path.insert(0, (op, name))
        else:
            return None
        name = op.input("X") or op.inputs["Input"][0]
        layer = graph.linear(name)
    width = graph.program.params[layer.product.inputs["Y"][0]].shape[1]
    shape = graph.program.var(name).shape
    if -1 in shape[1:]:
        return None
    held = np.broadcast_to(np.arange(width), (1, *shape[1:]))
    for op, out in path:
        if op.type in _MOVES:
            wanted = graph.program.var(out).shape
            if -1 in wanted[1:] and op.type == "reshape2":
                return None
            moved = op.type == "transpose2"
            held = held.transpose(op.get("axis")) if moved else held.reshape((-1, *wanted[1:]))
            continue
        parts = _parts(graph, op, out, held)
        if parts is None or any(np.isin(other, parts[0]).any() for other in parts[1:]):
            return None
        held = parts[0]
    return layer, np.unique(held)


_MOVES = ("reshape2", "transpose2")


def _parts(graph: _Graph, op: Op, out: str, x: Any) -> list[Any] | None:
    """What an operator takes out of an array, and then what its siblings take."""
    if op.type == "split":
        parts = _split(op, x)
        mine = op.outputs["Out"].index(out)
        return [parts[mine], *(part for i, part in enumerate(parts) if i != mine)]
    siblings = [each for each in graph.consumers[op.inputs["Input"][0]] if each is not op]
    if any(each.type != "slice" or set(each.inputs) != {"Input"} for each in siblings):
        return None
    return [_slice(each, x) for each in (op, *siblings)]


def _slice(op: Op, x: Any) -> Any:
    taken = [slice(None)] * x.ndim
    for axis, start, end in zip(op.get("axes"), op.get("starts"), op.get("ends")):
        taken[axis] = slice(start, end)
    gone = tuple(op.get("decrease_axis") or [])
    return np.squeeze(x[tuple(taken)], axis=gone) if gone else x[tuple(taken)]


def _split(op: Op, x: Any) -> list[Any]:
    axis, sections = op.get("axis", 0), op.get("sections") or []
    if not sections or op.get("num", 0):
        return list(np.split(x, len(op.outputs["Out"]), axis))
    known = sum(s for s in sections if s >= 0)
    sizes = [s if s >= 0 else x.shape[axis] - known for s in sections]
    return list(np.split(x, np.cumsum(sizes)[:-1], axis))
