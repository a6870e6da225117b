"""Partial evaluation: what depends on no input is computed beforehand, by the server engine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lite_opt.model.program import VALUE_LISTS, Op, Program
from lite_opt.passes.duplicates import is_pure
from lite_opt.passes.rule import program_rule
from lite_opt.passes.server import Server, unsure
from py_runner.errors import EngineError
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["evaluate"]

# What carries the scales of a quantized model, whose weights are to stay what they are.
_QUANTIZING = ("quantize", "observer")
# A constant may take as much as this, or what it is made of twice over: a bundle does not grow
# because an `expand` of one number was written out.
_SMALL_BYTES = 1 << 20
# What engines read as a view of other data, exactly: no child is needed for it.
_VIEWS = ("reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range", "transpose2", "assign")


@dataclass
class _Constants:
    """Which operators of block 0 are constant, and which of their results others read."""

    program: Program
    ops: list[Op] = field(default_factory=list)
    # What takes the place of an operator in the program that is evaluated: dimensions of an input,
    # or the operator on zeros of these.
    instead: dict[int, list[Op]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = set(self.program.params)
        for op in self.program.ops:
            if self._is_constant(op):
                self.ops.append(op)
                self.known.update(op.writes)
        self._settle()

    def _is_constant(self, op: Op) -> bool:
        if not is_pure(op) or _quantizes(op):
            return False
        outputs = op.writes
        if not outputs or any(self._writers[name] > 1 for name in outputs):
            return False
        instead = _dimensions(op, self._producers, self.program) or _on_zeros(op, self.program)
        if instead:
            self.instead[id(op)] = instead
        elif not self.known.issuperset(op.reads):
            return False
        return self._size(outputs) <= max(_SMALL_BYTES, 2 * self._size(op.reads))

    @cached_property
    def _producers(self) -> dict[str, Op]:
        return self.program.producers()

    @cached_property
    def _writers(self) -> dict[str, int]:
        count = dict.fromkeys(self.program.params, 1)
        for block in self.program.blocks:
            for op in block.ops:
                for name in op.writes:
                    count[name] = count.get(name, 0) + 1
        return count

    def _size(self, names: list[str]) -> int:
        """Bytes of these variables, as far as their shapes are known."""
        total = 0
        for name in names:
            var = self.program.vars.get(name)
            if var is not None and min(var.shape, default=0) >= 0 and var.dtype in _SIZED:
                total += math.prod(var.shape) * np.dtype(var.dtype).itemsize
        return total

    def _settle(self) -> None:
        """Leave alone what gives something that cannot be a parameter: the program's own outputs,
        which nobody would compute, and what NumPy has no element type for."""
        while True:
            self.read = self._frontier()
            stay = {
                name
                for name in self.read
                if self.program.var(name).dtype not in _SIZED or name in self._kept
            }
            left = [op for op in self.ops if stay.isdisjoint(op.writes)]
            if len(left) == len(self.ops):
                return
            self.ops = left
            # What was made of something that stays is no constant of this program, either.
            self.known = set(self.program.params)
            self.ops = [op for op in self.ops if self._still(op)]

    def _still(self, op: Op) -> bool:
        inputs = [] if id(op) in self.instead else op.reads
        constant = self.known.issuperset(inputs)
        if constant:
            self.known.update(op.writes)
        return constant

    @cached_property
    def _kept(self) -> set[str]:
        """What a fetch reads, or an operator that quantizes: quant_dequant_op_fuser.cc aborts
        (is_weight) where it reads a parameter."""
        readers = (op for op in self.program.ops if op.type == "fetch" or _quantizes(op))
        return {name for op in readers for name in op.reads}

    def _frontier(self) -> list[str]:
        """The results that an operator reads which is not constant itself."""
        made = {name: None for op in self.ops for name in op.writes}
        inside = {id(op) for op in self.ops}
        read = {
            name
            for block in self.program.blocks
            for op in block.ops
            if id(op) not in inside
            for name in op.reads
        }
        return [name for name in made if name in read]


# What NumPy has of the element types.
_SIZED = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def _quantizes(op: Op) -> bool:
    return any(part in op.type for part in _QUANTIZING)


# What reads of its inputs nothing but how large they are behind the batch, and gives the same for
# every batch.
_OF_SIZES = ("prior_box", "density_prior_box", "anchor_generator")


def _on_zeros(op: Op, program: Program) -> list[Op]:
    """An operator that reads sizes, fed with zeros of these; nothing where they are not known."""
    if op.type not in _OF_SIZES:
        return []
    zeros = []
    for name in dict.fromkeys(op.reads):
        dims = [1, *program.var(name).shape[1:]]
        if min(dims) < 0:
            return []
        made = Op("fill_constant", {}, {"Out": [name]})
        made.set("shape", dims, "LONGS")
        made.set("dtype", DTYPE_NUMBERS[program.var(name).dtype])
        made.set("value", 0.0)
        zeros.append(made)
    return [*zeros, op]


def _dimensions(op: Op, producers: dict[str, Op], program: Program) -> list[Op]:
    """What a `shape` gives, or a slice of one, where these dimensions of its input are known."""
    source, part = op, slice(None)
    if op.type == "slice":
        source = producers.get(op.input("Input") or "", op)
        if set(op.inputs) - {"Input"} or len(op.get("starts") or []) != 1:
            return []
        part = slice(op.get("starts")[0], op.get("ends")[0])
    if source.type != "shape":
        return []
    name, out = source.input("Input") or "", op.output("Out") or ""
    dims = list(program.var(name).shape)[part]
    if not dims or min(dims) < 0 or name not in program.vars:
        return []
    shape = [] if op.get("decrease_axis") else [len(dims)]
    var = program.var(out)
    made = Op("assign_value", {}, {"Out": [out]})
    made.set("shape", shape, "INTS")
    made.set("dtype", DTYPE_NUMBERS[var.dtype])
    values, type_ = VALUE_LISTS[var.dtype]
    made.set(values, dims, type_)
    return [made]


def _cone(constants: _Constants) -> list[Op]:
    """The constant operators that make what is read, in order."""
    wanted = set(constants.read)
    cone = []
    for op in reversed(constants.ops):
        if not wanted.isdisjoint(op.writes):
            several = constants.instead.get(id(op), [op])
            cone += several[::-1]
            wanted.update(name for one in several for name in one.reads)
    return cone[::-1]


def _viewed(program: Program, cone: list[Op]) -> dict[str, Any]:
    """The values of a cone that only rearranges parameters."""
    values: dict[str, Any] = dict(program.params)
    for op in cone:
        x, out = values[op.inputs["X"][0]], op.outputs["Out"][0]
        if op.type == "transpose2":
            values[out] = x.transpose(op.get("axis"))
        else:
            values[out] = x.reshape(program.var(out).shape)
    return values


def _is_view(program: Program, op: Op) -> bool:
    shape = program.var(op.output("Out") or op.layer).shape
    return op.type in _VIEWS and min(shape, default=0) >= 0 and len(op.reads) == 1


def _settle_shapes(program: Program, server: Server) -> None:
    """Write what the server says of shapes that the exporter left open."""
    for name, shape in server.shapes(unsure(program)).items():
        program.var(name).shape = shape


@program_rule(because="Lite computes at every inference what no input changes")
def evaluate(program: Program) -> Iterator[tuple[str, str]]:
    """Operators on parameters, constants and known dimensions -> the parameters that they give.

    Where Paddle cannot be asked or refuses, the program stays as it is.
    """
    constants = _Constants(program)
    cone = _cone(constants)
    if all(_is_view(program, op) for op in cone) and not unsure(program):
        values = _viewed(program, cone)
    else:
        try:
            with Server(program) as server:
                _settle_shapes(program, server)
                constants = _Constants(program)
                values = server.compute(_cone(constants), constants.read)
        except EngineError:
            return
    yield from _write(program, constants, values)


def _write(
    program: Program, constants: _Constants, values: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Put parameters in the place of constant operators; equal ones are one."""
    one: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for name in constants.read:
        value = np.ascontiguousarray(values[name])
        if value.ndim == 0:  # Lite has no 0-D tensors
            value = value.reshape(1)
        key = hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).digest()
        if one.setdefault(key, name) == name:
            program.set_param(name, value)
        else:
            same[name] = one[key]
    gone = {id(op) for op in constants.ops}
    for block in program.blocks:
        block.ops = [op for op in block.ops if id(op) not in gone]
        for op in block.ops:
            op.rename_inputs(same)
    if gone:
        yield f"{len(gone)} operators", f"became {len(one)} parameters"
