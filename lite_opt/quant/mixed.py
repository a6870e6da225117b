"""A quantized model of which any layer can be float again.

quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
mixed = quantized.with_float([quantized.layers[0].layer])  # a Program: one layer in float
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lite_opt.model.program import Op, Program
from lite_opt.quant.equalise import Equalised
from lite_opt.quant.operators import INT8, LAYERS, OPERATORS, QUANTIZE, stored_weight
from py_runner.errors import UsageError

__all__ = ["CENTRED", "CORRECTED", "Quantized", "QuantizedLayer", "is_move", "quantized_layers"]

CORRECTED = ".corrected"  # ends the name of a bias that belongs to a layer in int8
# Ends the name of an activation that was moved for such a layer (centre.py, align.py).
CENTRED = ".centred"


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer that computes in int8: its name (the variable it writes), operator and weights."""

    layer: str
    op: str
    weight: str
    parameters: int


def quantized_layers(program: Program) -> tuple[QuantizedLayer, ...]:
    """The layers of a quantized program that compute in int8, in order."""
    producers = program.producers()
    layers = []
    for op in program.ops:
        weight = stored_weight(program, op, producers)
        if weight is None:
            continue
        source = producers.get(op.inputs[LAYERS[op.type].input][0])
        if source is not None and source.type in OPERATORS:
            count = program.params[weight].size
            layers.append(QuantizedLayer(op.layer, op.type, weight, count))
    return tuple(layers)


@dataclass(frozen=True)
class Quantized:
    """A model that `calibrate` quantized, next to what it was: any layer can be float again.

    `program` has every layer in int8. `floats` maps the weights of a layer to the float ones,
    `exact` to what their integers stand for where the layer reads an input that was multiplied, and
    `biases` a layer whose bias was corrected to the bias that it has in float. `equalised` says how
    variables differ from those of the model that was repaired.
    """

    program: Program
    layers: tuple[QuantizedLayer, ...]
    floats: dict[str, np.ndarray[Any, Any]]
    source: Program
    biases: Mapping[str, str] = field(default_factory=dict)
    equalised: tuple[Equalised, ...] = ()
    exact: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        quantized: Program,
        source: Program,
        aligned: Program | None = None,
        biases: Mapping[str, str] | None = None,
    ) -> Quantized:
        """`source` is the repaired float program that `quantized` was calibrated from, or that
        `aligned` is a form of, which was, with what `align.aligned` says of biases."""
        layers = quantized_layers(quantized)
        floats, exact = (
            {layer.weight: program.params[layer.weight] for layer in layers}
            for program in (source, aligned or source)
        )
        return cls(quantized, layers, floats, source, biases or {}, exact=exact)

    def check(self, layers: Iterable[str]) -> None:
        """Raise UsageError for a name that is no layer of this model."""
        known = {layer.layer for layer in self.layers}
        for name in layers:
            if name not in known:
                raise UsageError(
                    f"no quantized layer is called '{name}': `paddle-edge sensitivity` names them"
                )

    def with_float(self, layers: Collection[str]) -> Program:
        """The program with these layers computed in float, as they were before calibration."""
        program = self.program.copy()
        producers, consumers = program.producers(), program.consumers()
        attrs = {op.layer: op.attrs for op in self.source.ops}
        dropped: list[Op] = []
        for op in program.ops:
            if op.type not in INT8 or op.layer not in layers:
                continue
            slots = LAYERS[op.type]
            quantize = producers[op.inputs[slots.input][0]]
            (dequantize,) = consumers[op.outputs[slots.output][0]]
            weight = op.inputs[slots.weight][0]
            program.set_param(_float_name(weight), self.floats[weight])
            (x,) = quantize.inputs["X"]
            op.inputs[slots.input] = producers[x].inputs["X"] if x.endswith(CENTRED) else [x]
            op.inputs[slots.weight] = [_float_name(weight)]
            op.attrs = dict(attrs[op.layer])
            renamed = {dequantize.outputs["Out"][0]: op.outputs[slots.output][0]}
            bias = self.biases.get(op.layer)
            if bias is not None:
                renamed[f"{bias}{CORRECTED}"] = bias
                program.set_param(bias, self.source.params[bias])
            for reader in consumers[dequantize.outputs["Out"][0]]:
                reader.rename_inputs(renamed)
            dropped.append(dequantize)
        kept: list[Op] = []
        read: set[str] = set()
        for op in reversed(program.ops):
            unread = not read.intersection(op.writes)
            if op in dropped or (unread and (op.type in QUANTIZE or is_move(op))):
                continue
            kept.insert(0, op)
            read.update(op.reads)
        program.blocks[0].ops = kept
        program.remove_unused()
        return program

    def palette(self) -> Program:
        """A program without operators, with the parameters of every program of `with_float`."""
        palette = self.program.copy()
        for weight, value in self.floats.items():
            palette.set_param(_float_name(weight), value)
        for bias in self.biases.values():
            palette.set_param(bias, self.source.params[bias])
        palette.blocks[0].ops = []
        return palette


def is_move(op: Op) -> bool:
    """Whether an operator moves an activation for a layer in int8 (centre.py, align.py)."""
    moves = op.type in ("scale", "batch_norm", "elementwise_add")
    return moves and any(name.endswith(CENTRED) for name in op.writes)


def _float_name(weight: str) -> str:
    return f"{weight}.float"
