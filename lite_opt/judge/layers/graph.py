"""A program as a search sees it: layers that are fused into one kernel, taps, and cuts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from lite_opt.model.program import Block, ModelFiles, Op, Program, Var
from lite_opt.quant.operators import DEQUANTIZE_BEHIND
from py_runner.errors import ModelError

__all__ = ["Graph", "Layer", "with_params", "with_source_names"]

_Array = npt.NDArray[Any]

# Operators that represent what another computed otherwise, and are not what a layer is called.
_CASTS = frozenset({*DEQUANTIZE_BEHIND, "cast"})
# Operators that Paddle Lite fuses others into (lite/core/optimizer/mir/fusion), and those that it
# fuses into the one before them. Arithmetic counts where its other operand is a parameter.
_HEADS = frozenset({
    *DEQUANTIZE_BEHIND,
    "conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2", "fc",
    "elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div",
    "batch_norm", "instance_norm", "scale",
})  # fmt: skip
_TAILS = frozenset({
    *DEQUANTIZE_BEHIND,
    "relu", "relu6", "leaky_relu", "prelu", "swish", "hard_swish", "sigmoid", "hard_sigmoid",
    "tanh", "gelu", "elu", "batch_norm", "scale", "dropout",
})  # fmt: skip
_ARITHMETIC = frozenset(f"elementwise_{name}" for name in ("add", "sub", "mul", "div"))


def with_source_names(program: Program) -> Program:
    """The program with every variable called as what it is in the source model."""
    names: dict[str, str] = {}
    for op in program.ops:
        x, out = op.input("X"), op.output("Out")
        if op.type in DEQUANTIZE_BEHIND and x is not None and out is not None:
            names.update({x: program.new_name(f"{x}.integers"), out: x})
    if not names:
        return program
    ops = [
        replace(
            op,
            inputs={slot: [names.get(n, n) for n in given] for slot, given in op.inputs.items()},
            outputs={slot: [names.get(n, n) for n in given] for slot, given in op.outputs.items()},
        )
        for op in program.ops
    ]
    variables = {
        names.get(name, name): replace(var, name=names.get(name, name))
        for name, var in program.vars.items()
    }
    return _program_like(program, variables, ops)


def with_params(program: Program, params: Mapping[str, _Array]) -> Program:
    """The program with other values of some parameters."""
    result = _program_like(program, dict(program.vars), list(program.ops))
    result.params.update(params)
    return result


def _program_like(program: Program, variables: dict[str, Var], ops: list[Op]) -> Program:
    return Program(
        [Block(0, -1, variables, ops), *program.blocks[1:]],
        dict(program.params),
        # No parameter file of its own: its records are not those of the new variables.
        files=ModelFiles(program.files.model, None, program.files.ir),
        version=program.version,
        op_versions=program.op_versions,
    )


@dataclass(eq=False)
class Layer:
    """What is fused into one kernel: a chain of operators, the variables between them, and the
    one that comes out."""

    ops: list[Op]
    output: str
    inner: list[str] = field(default_factory=list)


class Graph:
    """A program with what a search asks of it. Raises ModelError for control flow."""

    def __init__(self, program: Program) -> None:
        flow = next((op for op in program.ops if "sub_block" in op.attrs), None)
        if flow is not None or len(program.blocks) > 1:
            what = f" ({flow.type} '{flow.layer}')" if flow else ""
            raise ModelError(
                f"{program.files.model}: has control flow{what}: its layers cannot be compared"
            )
        self.program = program
        self.writers: dict[str, list[Op]] = {}
        for op in program.ops:
            for name in op.writes:
                self.writers.setdefault(name, []).append(op)
        self.readers = program.consumers()

    def comparable(self, name: str) -> bool:
        """Whether it can be tapped and cut: a float tensor with one writer that somebody reads."""
        var = self.program.vars.get(name)
        writers = self.writers.get(name, [])
        return (
            var is not None
            and not var.persistable
            and not var.other  # a dense tensor
            and var.dtype == "float32"
            and len(var.shape) > 0
            and len(writers) == 1
            and not _is_idle(writers[0])
            and name not in writers[0].reads
            and bool(self.readers.get(name))
        )

    def layers(self) -> list[Layer]:
        """All operators but feed and fetch, grouped as Paddle Lite fuses them."""
        layers: list[Layer] = []
        owner: dict[int, Layer] = {}
        for op in self.program.ops:
            if op.type in ("feed", "fetch"):
                continue
            joined = next((n for n in op.reads if self._is_inner(n, op)), None)
            layer = owner.get(id(self.writers[joined][0])) if joined else None
            if layer is None or joined is None:
                layer = Layer([op], self._result(op))
                layers.append(layer)
            else:
                layer.ops.append(op)
                layer.inner.append(joined)
                layer.output = self._result(op)
            owner[id(op)] = layer
        # A layer is computed where its last operator stands.
        place = {id(op): i for i, op in enumerate(self.program.ops)}
        return sorted(layers, key=lambda layer: place[id(layer.ops[-1])])

    def _result(self, op: Op) -> str:
        """The output that others read; batch_norm, reshape2 and their like have more."""
        read = [n for n in op.writes if self.readers.get(n) and n not in self.program.params]
        return read[0] if read else op.layer

    def computed_by(self, name: str) -> str:
        """The type of the operator that computes a variable, whatever it is then cast to."""
        op = self.writers[name][0]
        while op.type in _CASTS and op.input("X") in self.writers:
            op = self.writers[op.inputs["X"][0]][0]
        return op.type

    def _is_inner(self, name: str, reader: Op) -> bool:
        writers = self.writers.get(name, [])
        if len(writers) != 1 or writers[0].type not in _HEADS:
            return False
        if len(self.readers[name]) != 1:
            return False
        if reader.type in _ARITHMETIC:
            return all(n == name or n in self.program.params for n in reader.reads)
        return reader.type in _TAILS and reader.input("X") == name

    def cone(self, name: str, boundary: Collection[str]) -> list[Op]:
        """The operators that compute a variable from those of the boundary and the inputs."""
        needed, found = {name}, []
        for op in reversed(self.program.ops):
            if op.type in ("feed", "fetch") or needed.isdisjoint(op.writes):
                continue
            found.append(op)
            needed.update(n for n in op.reads if n not in boundary)
        return found[::-1]

    def tapped(self, taps: Sequence[str], cut: Mapping[str, tuple[int, ...]]) -> Program:
        """A program that computes the taps and nothing else, with them as its outputs in order.

        `cut` maps variables to shapes: whatever reads one of them reads a new input instead, called
        by `fed_name`.
        """
        program = self.program
        fed = {name: self.fed_name(name) for name in cut}
        ids = {id(op) for name in taps for op in self.cone(name, cut)}
        ops = []
        for op in program.ops:
            if id(op) in ids:
                copy = replace(op, inputs={slot: list(names) for slot, names in op.inputs.items()})
                copy.rename_inputs(fed)
                ops.append(copy)
        wanted = {n for op in ops for n in op.reads}
        columns = [spec.name for spec in program.inputs if spec.name in wanted]
        columns += [new for new in fed.values() if new in wanted]
        variables = {name: replace(var) for name, var in program.vars.items()}
        for name, shape in cut.items():
            new = fed[name]
            variables[new] = Var(new, "float32", shape, need_check_feed=True)
        variables["feed"] = Var("feed", persistable=True, kind=9, other=b"\x08\x09")
        variables["fetch"] = Var("fetch", persistable=True, kind=10, other=b"\x08\x0a")
        ends = [
            _column(Op("feed", {"X": ["feed"]}, {"Out": [name]}), i)
            for i, name in enumerate(columns)
        ], [
            _column(Op("fetch", {"X": [name]}, {"Out": ["fetch"]}), i)
            for i, name in enumerate(taps)
        ]  # fmt: skip
        result = _program_like(program, variables, [*ends[0], *ops, *ends[1]])
        result.remove_unused()
        return result

    def fed_name(self, name: str) -> str:
        """The input that stands for a variable where the program is cut."""
        return self.program.new_name(f"{name}.fed")


def _column(op: Op, index: int) -> Op:
    op.set("col", index)
    return op


def _is_idle(op: Op) -> bool:
    """Whether engines take an operator out of the graph: two taps then become one output."""
    identity = op.type == "scale" and op.get("scale") == 1.0 and op.get("bias") == 0.0
    return op.type in ("feed", "dropout", "assign") or identity
