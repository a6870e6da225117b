"""Factors that move on to the weights of what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.passes.parts import affine, tail, written
from lite_opt.passes.rule import place, program_rule, rewritten

__all__ = ["Factors", "gates_by_relu6", "scales_into_weights"]

# What a positive factor passes: f(c * x) is c * f(x).
_PASSED = (
    "elementwise_mul", "flatten_contiguous_range", "pool2d", "relu", "reshape2", "transpose2",
)  # fmt: skip
# As _PASSED, of a factor for each channel: the channels stay the second dimension.
_PASSED_BY_CHANNELS = ("pool2d", "relu")
_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
# Numbers of weights. Such a matrix is read whole at every inference; what a scale in front of it
# costs is no thousandth of that, and a conversion that writes it anew takes twice the time.
_MANY = 1 << 23


@dataclass
class _Weights:
    """Where a factor ends: an operator that is linear in its input, by a parameter."""

    op: Op
    slot: str


@dataclass
class Ends:
    """Where a factor of a variable ends, and the variables that it passes on the way."""

    weights: list[_Weights] = field(default_factory=list)
    through: list[str] = field(default_factory=list)

    @property
    def ops(self) -> list[Op]:
        """The operators whose weights take it."""
        return [end.op for end in self.weights]


class Factors:
    """Who reads what, while factors move on to the weights of who reads them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.readers = program.consumers()
        self.changing = rewritten(program)

    def ends(self, name: str, *, by_channels: bool = False) -> Ends | None:
        """The operators whose weights take a factor of a variable, or one for each of its channels,
        through what it passes; None where anything else reads it."""
        passed = _PASSED_BY_CHANNELS if by_channels else _PASSED
        found = Ends()
        if name in self.changing:
            return None
        for op in self.readers.get(name, []):
            slot = self.weights(op, name)
            rows = op.type == "mul" and by_channels and op.get("x_num_col_dims", 1) != 1
            if slot is not None and not rows:
                found.weights.append(_Weights(op, slot))
                continue
            if op.type not in passed or op.reads.count(name) != 1 or len(op.reads) > 2:
                return None
            behind = self.ends(op.layer, by_channels=by_channels)
            if behind is None:
                return None
            found.weights += behind.weights
            found.through += [op.layer, *behind.through]
        return found if found.weights else None

    def weights(self, op: Op, x: str) -> str | None:
        """The slot of the weights of an operator that is linear in `x`."""
        slots = {"mul": ("X", "Y"), **dict.fromkeys(_CONVOLUTIONS, ("Input", "Filter"))}
        if op.type not in slots:
            return None
        data, weights = slots[op.type]
        value = self.program.params.get(op.input(weights) or "")
        known = value is not None and value.dtype == np.float32 and not op.input("Bias")
        known = known and op.get("data_format", "NCHW") in ("NCHW", "AnyLayout")
        return weights if known and op.reads.count(x) == 1 and op.input(data) == x else None

    def numbers(self, ends: Ends) -> int:
        """How many numbers the weights have that take a factor."""
        return sum(self.program.params[end.op.inputs[end.slot][0]].size for end in ends.weights)

    def multiply(self, ends: Ends, factor: Any, *changed: str) -> None:
        """Take a number, or one for each channel, into the weights. What is passed on the way, and
        `changed`, holds other values now, and gets another name: whoever compares two programs by
        names would take it for what it was."""
        for end in ends.weights:
            weight = self.program.params[end.op.inputs[end.slot][0]]
            vector = np.asarray(factor, np.float64)
            if vector.ndim and end.op.type == "mul":
                vector = np.repeat(vector, len(weight) // len(vector))[:, None]
            elif vector.ndim:
                groups = end.op.get("groups", 1)
                spread = vector.reshape(groups, 1, -1)
                vector = np.repeat(spread, len(weight) // groups, axis=1)
                vector = vector.reshape(*weight.shape[:2], 1, 1)
            end.op.inputs[end.slot] = [self.param(end.op.inputs[end.slot][0], weight * vector)]

        for name in dict.fromkeys((*ends.through, *changed)):
            self._rename(name)

    def _rename(self, name: str) -> None:
        program = self.program
        new = program.new_name(f"{name}.scaled")
        program.vars[new] = replace(program.vars.pop(name), name=new)
        for op in program.ops:
            op.rename_inputs({name: new})
            for names in op.outputs.values():
                names[:] = [new if each == name else each for each in names]
        self.readers[new] = self.readers.pop(name, [])

    def param(self, stem: str, value: Any) -> str:
        name = self.program.new_name(stem)
        self.program.set_param(name, np.ascontiguousarray(value, dtype=np.float32))
        return name


@program_rule(because="Lite would pass over the tensor at every inference, and no fusion takes it")
def scales_into_weights(program: Program) -> Iterator[tuple[str, str]]:
    """scale by a positive number, such as a dropout, that only linear layers read in the end -> the
    weights of these, up to 8 million numbers."""
    graph = Factors(program)
    for op in list(program.ops):
        factor = op.get("scale", 1.0)
        if op.type != "scale" or len(op.reads) != 1 or op.get("bias", 0.0) or factor <= 0:
            continue
        x, out = op.inputs["X"][0], op.outputs["Out"][0]
        ends = None if x in graph.changing else graph.ends(out)
        if ends is None or graph.numbers(ends) > _MANY:
            continue
        graph.multiply(ends, factor)
        for reader in graph.readers[out]:
            reader.rename_inputs({out: x})
        others = [reader for reader in graph.readers[x] if reader is not op]
        graph.readers[x] = others + graph.readers[out]
        program.blocks[0].ops = [each for each in program.ops if each is not op]
        yield place(op), f"moved into the weights of {', '.join(map(place, ends.ops))}"


@program_rule(
    because="conv_activation_fuse_pass.cc fuses relu6 into convolutions on ARM, and no hard_sigmoid"
)
def gates_by_relu6(program: Program) -> Iterator[tuple[str, str]]:
    """hard_sigmoid behind a convolution, as of squeeze-and-excitation -> relu6, with what they
    differ by in the weights of that convolution and of what reads the product in the end."""
    graph = Factors(program)
    producers = {op.outputs["Output"][0]: op for op in program.ops if op.type == "conv2d"}
    for conv in producers.values():
        behind = tail(program, conv, graph.readers)
        x = written(conv, behind)
        readers = graph.readers.get(x, [])
        weights = graph.weights(conv, conv.inputs["Input"][0])
        if len(readers) != 1 or readers[0].type != "hard_sigmoid" or weights is None:
            continue
        gate = readers[0]
        ends = graph.ends(gate.outputs["Out"][0])
        if not behind or ends is None or {x, *conv.writes} & graph.changing:
            continue
        factor, added = affine(program, behind)
        slope, offset = 6 * gate.get("slope", 0.2), 6 * gate.get("offset", 0.5)
        weight = program.params[conv.inputs["Filter"][0]]
        scaled = weight * np.reshape(factor * slope, (-1, 1, 1, 1))
        conv.inputs["Filter"] = [graph.param(conv.inputs["Filter"][0], scaled)]
        bias = np.broadcast_to(added * slope + offset, len(weight))
        total = Op("elementwise_add", {"X": conv.outputs["Output"]}, {"Out": [x]})
        total.inputs["Y"] = [graph.param(f"{x}.bias", bias)]
        total.set("axis", 1)
        program.blocks[0].ops = [
            total if op is behind[-1] else op
            for op in program.ops
            if op is behind[-1] or op not in behind
        ]
        gate.type, gate.attrs = "relu6", {}
        gate.set("threshold", 6.0)
        yield place(gate), "became relu6"
        graph.multiply(ends, 1 / 6, x, *gate.writes, *conv.writes)
