"""Where edge and server first diverge: intermediate variables of both, compared by name.

A variable is *tapped* by a `fetch` operator appended to the program, which stock engines
understand. Each set of taps is looked at twice:

- *whole*: the edge network as it runs. Rounding adds up from layer to layer, so these numbers fall
  slowly with depth, and only a wide limit can be set for them.
- *alone*: the program is also cut at its taps, and what lies behind a tap is fed the server's
  values of it. What is measured is then what the few layers between taps add by themselves,
  whatever the depth, and every part is judged independently of the others: against what the same
  layers cost on the server when their numbers are rounded as the recipe says.

A tap keeps the optimizer from fusing across it, so taps stand behind activations, at the outputs
of what Paddle Lite fuses (a *layer* here), and few at a time: the first part that fails is cut
into smaller ones until it is one layer, and last into that layer's own operators. Where no part
fails, every layer is measured alone before nothing is said to diverge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load, save
from lite_opt.model.program import Block, ModelFiles, Op, Program, Var
from lite_opt.passes.repair import repair
from lite_opt.quant.quantize import fake_fp16, is_quantized
from lite_opt.quant.rounding import round_weights
from lite_opt.recipes import RECIPES, Recipe
from lite_opt.recipes import recipe as find_recipe
from py_runner.errors import ConvertError, DataError, EngineError, ModelError, UsageError
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import QUIET, Watch

__all__ = [
    "LAYER_LIMITS",
    "Divergence",
    "LayerLimits",
    "LayersReport",
    "Numbers",
    "Side",
    "Tap",
    "bundle_layers",
    "first_difference",
]

_Array = npt.NDArray[Any]
_Values = dict[str, list[_Array]]  # variable -> one array a sample


@dataclass(frozen=True)
class LayerLimits:
    """The least signal-to-noise ratio (see `Numbers.sqnr_db`) before a layer counts as wrong.

    Args:
        alone_db: of one layer that is fed the server's values; it is right above this, and also
            within `margin_db` of what the recipe's rounding costs there (see `Tap.expected_db`).
        margin_db: how far below that it may be.
        whole_db: of any variable of the network as it runs.
    """

    alone_db: float
    whole_db: float
    margin_db: float = 10.0


# By recipe, from SqueezeNet1_1, EfficientNet-Lite0 and PP-OCR's three models without a fault. One
# layer alone has 125 dB or more in fp32; in int8-weights and int16-weights it is within 0.2 dB of
# what is expected; in static int8 up to 10 dB below, where calibration cuts off rare large values.
# The network as it runs has at the least 98 dB in fp32, 42 in fp16, 52 in int16-weights, 9 in
# int8-weights and 16 in int8.
LAYER_LIMITS: dict[str, LayerLimits] = {
    "fp32": LayerLimits(80.0, 60.0),
    "fp16": LayerLimits(55.0, 25.0),
    "int16-weights": LayerLimits(80.0, 35.0, 6.0),
    "int8-weights": LayerLimits(80.0, 3.0, 6.0),
    "int8": LayerLimits(30.0, 3.0),
}


@dataclass(frozen=True)
class Side:
    """The values of a variable on one side, over all samples: of those that are finite the mean,
    least and largest (0 where none is), and how many are NaN or Inf."""

    mean: float
    minimum: float
    maximum: float
    not_finite: int


@dataclass(frozen=True)
class Numbers:
    """One variable on both sides, over all samples.

    `sqnr_db` is 10 log10(sum of server^2 / sum of (server - edge)^2): inf where both are equal,
    -inf where the edge has a NaN, an Inf or a shape that the server has not. `cosine` is the
    cosine similarity; it does not see a wrong scale, so nothing is judged by it. `max_diff` is the
    largest difference relative to the largest magnitude on the server. `shape` is that of the first
    sample on the server; `note` says what else is wrong.
    """

    name: str
    shape: tuple[int, ...]
    sqnr_db: float
    cosine: float
    max_diff: float
    server: Side
    edge: Side
    note: str = ""


@dataclass(frozen=True)
class Tap:
    """A tapped layer: its variable, the type of its main operator, and what was measured there.

    `alone` covers the `layers` layers since the taps before it, and `expected_db` is the ratio of
    these layers on the server with their weights (int8, fp16: and their inputs) rounded as the
    recipe says; inf for one that does not round. What was not measured is None.
    """

    name: str
    op: str
    whole: Numbers | None
    alone: Numbers | None
    expected_db: float | None
    layers: int


@dataclass(frozen=True)
class Divergence:
    """The first layer, in the order of execution, that goes wrong.

    Args:
        name: its output variable, under which the source model knows it as well.
        op: the type of the operator at fault, as far as its operators can be told apart.
        ops: the types of all operators of the layer, in order.
        cause: "layer": fed the server's values, it gives others;
            "scale": it gives the server's values within the limits, but its input is quantized by
            a scale that does not fit them, unlike those of the other layers;
            "together": its parts are right one by one and wrong as they are optimized together;
            "accumulated": no layer is wrong alone, and the sum of their rounding is too much here.
        inputs: what it reads, in the network as it runs; good, if the cause is "layer".
        output: what it makes of them, in the network as it runs.
        alone: what it makes of the server's values; None for "accumulated".
        reason: the verdict in one line.
    """

    name: str
    op: str
    ops: tuple[str, ...]
    cause: str
    inputs: tuple[Numbers, ...]
    output: Numbers
    alone: Numbers | None
    reason: str


@dataclass(frozen=True)
class LayersReport:
    """The outcome of `first_difference`. `bool(report)` is whether nothing diverges.

    `layers` of the `operators` operators' groups can be compared (the others have no counterpart
    of the same name and rank on the server, or are not float32); `taps` are those that were, in
    the order of execution; `rounds` is how often a tapped network was run on the edge.
    """

    divergence: Divergence | None
    engine: str
    recipe: str
    limits: LayerLimits
    operators: int
    groups: int
    layers: int
    rounds: int
    samples: tuple[str, ...]
    taps: tuple[Tap, ...]
    warnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.divergence is None

    def to_json(self) -> dict[str, Any]:
        """All of it, with the verdict as "passed"."""
        return {"passed": bool(self), **asdict(self)}

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        if self.divergence is not None:
            return self.divergence.reason
        alone = [t.alone.sqnr_db for t in self.taps if t.alone is not None]
        whole = [t.whole.sqnr_db for t in self.taps if t.whole is not None]
        return (
            f"no layer diverges: {len(self.taps)} of {self.layers} layers tapped; the noisiest "
            f"alone has {min(alone):.0f} dB, and {min(whole):.0f} dB is the least in the network "
            f"as it runs ({self.recipe} on engine {self.engine}, {len(self.samples)} samples)"
        )


def first_difference(
    reference: Program,
    candidate: Program,
    samples: Iterable[Sample],
    *,
    engine: str = "lite",
    recipe: Recipe = RECIPES["fp32"],
    limits: LayerLimits | None = None,
    taps: int | None = 8,
    watch: Watch = QUIET,
) -> LayersReport:
    """Find the first layer of `candidate` whose output is not what `reference` computes.

    Args:
        reference: the source model; it runs on the server engine.
        candidate: what was made of it, still a Program: repaired, or quantised as well. Operators
            correspond by the names of their output variables. Neither program is changed.
        samples: a few that fit the inputs. The values of all taps of a round and all samples are
            held in memory, twice.
        engine: what runs the candidate: "lite" (optimized for x86 with `recipe`) or "paddle" (as
            it is: for the programs that simulate what x86 cannot do, see quantize.py).
        recipe: also chooses the default limits.
        limits: how far a layer may be off, by default `LAYER_LIMITS` of the recipe.
        taps: how many variables to tap in a round, or None to tap every layer at once, which
            takes fewer rounds and more memory, and fuses nothing between layers.
        watch: is told of each round.

    Raises:
        UsageError: a recipe that the engine cannot run; taps below 1.
        DataError: no samples, or samples that do not fit.
        ModelError: control flow, or no variable that can be compared.
        ConvertError, EngineError: the optimizer or an engine died on the tapped model.
    """
    if engine not in ("lite", "paddle"):
        raise UsageError(f"layers cannot be compared on engine '{engine}': choose lite or paddle")
    if engine == "lite" and (recipe.arm_only or is_quantized(candidate)):
        why = recipe.arm_only or RECIPES["int8"].arm_only
        raise UsageError(
            f"{candidate.files.model}: recipe {recipe.name}: engine lite would mislead: {why}; "
            "compare what simulates it on engine paddle"
        )
    if taps is not None and taps < 1:
        raise UsageError("taps is at least 1")
    if limits is None:
        limits = LAYER_LIMITS.get(recipe.name, LAYER_LIMITS["fp32"])
    search = _Search(
        reference=_Graph(_with_source_names(reference)),
        candidate=_Graph(_with_source_names(candidate)),
        samples=list(samples),
        engine=engine,
        recipe=recipe,
        limits=limits,
        most=taps,
        watch=watch,
    )
    return search.report()


def bundle_layers(
    model: str | Path,
    bundle: str | Path,
    *,
    params: str | Path | None = None,
    quantized: str | Path | None = None,
    samples: Iterable[Sample] | None = None,
    limits: LayerLimits | None = None,
    taps: int | None = 8,
    watch: Watch = QUIET,
) -> LayersReport:
    """`first_difference` of a source model and the bundle that was made from it.

    The bundle's `.nb` cannot be tapped any more: the model is repaired again, and optimized for x86
    by the bundle's recipe. What x86 cannot do is simulated on the server engine: fp16 by
    `quantize.fake_fp16`, int8 by the quantized Paddle model, which the caller names.

    Args:
        model, params: the source model, as `convert` took it.
        quantized: of a bundle of recipe int8 what `convert(save_quantized=...)` wrote.
        samples: by default the bundle's own.

    Raises what `first_difference` raises; ModelError where the bundle is not of this model;
    UsageError where `quantized` is missing or makes no sense; DataError without samples.
    """
    opened = Bundle.open(bundle)
    chosen = find_recipe(str(opened.recipe.get("name")))
    reference = load(model, params=params)
    if reference.files.sha256() != opened.source["sha256"]:
        raise ModelError(
            f"{reference.files.model}: is not the model that {bundle} was made from: "
            "its checksum is another"
        )
    static = chosen.name == "int8" and not is_quantized(reference)
    if static and quantized is None:
        raise UsageError(
            f"{bundle}: static int8 is judged by its quantized Paddle model: convert with "
            "--save-quantized FOLDER, and pass --quantized FOLDER here"
        )
    if quantized is not None and not static:
        raise UsageError(f"{bundle}: is of recipe {chosen.name}: leave out --quantized")
    if samples is None:
        samples = opened.read_samples()
        if not samples:
            raise DataError(f"{bundle}: holds no samples: give some with --samples")
    candidate = load(quantized or model, params=None if quantized else params)
    # The conversion may have fixed dimensions of the inputs.
    for program in (reference, candidate):
        for spec in opened.inputs:
            program.var(spec.name).shape = spec.shape
    if quantized is None:
        repair(candidate)
    if chosen.fp16:
        candidate = fake_fp16(candidate)
    elif chosen.quant_type == "QUANT_INT8":
        candidate = round_weights(candidate)
    return first_difference(
        reference,
        candidate,
        samples,
        engine="paddle" if chosen.arm_only else "lite",
        recipe=chosen,
        limits=limits,
        taps=taps,
        watch=watch,
    )


# What Paddle's quantisation puts behind an operator on integers: `v` then holds these integers, and
# `v.dequantized` what `v` is in the source model.
_DEQUANTIZE = frozenset({"fake_dequantize_max_abs", "fake_channel_wise_dequantize_max_abs"})


# Operators that represent a number otherwise, and are not what a layer is called.
_CASTS = _DEQUANTIZE | {"cast", "quantize_linear", "dequantize_linear"}


def _with_source_names(program: Program) -> Program:
    """The program with every variable called as what it is in the source model."""
    names: dict[str, str] = {}
    for op in program.ops:
        x, out = op.input("X"), op.output("Out")
        if op.type in _DEQUANTIZE and x is not None and out is not None:
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


def _program_like(
    program: Program,
    variables: dict[str, Var],
    ops: list[Op],
    params: Mapping[str, _Array] | None = None,
) -> Program:
    return Program(
        [Block(0, -1, variables, ops), *program.blocks[1:]],
        dict(program.params if params is None else params),
        # No parameter file of its own: its records are not those of the new variables.
        files=ModelFiles(program.files.model, None, program.files.ir),
        version=program.version,
        op_versions=program.op_versions,
    )


# Operators that Paddle Lite fuses others into (lite/core/optimizer/mir/fusion), and those that it
# fuses into the one before them. Arithmetic counts where its other operand is a parameter.
_HEADS = _DEQUANTIZE | {
    "conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2", "fc",
    "elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div",
    "batch_norm", "instance_norm", "scale",
}  # fmt: skip
_TAILS = _DEQUANTIZE | {
    "relu", "relu6", "leaky_relu", "prelu", "swish", "hard_swish", "sigmoid", "hard_sigmoid",
    "tanh", "gelu", "elu", "batch_norm", "scale", "dropout",
}  # fmt: skip
_ARITHMETIC = frozenset(f"elementwise_{name}" for name in ("add", "sub", "mul", "div"))


@dataclass(eq=False)
class _Layer:
    """What is fused into one kernel: a chain of operators, the variables between them, and the
    one that comes out."""

    ops: list[Op]
    output: str
    inner: list[str] = field(default_factory=list)


class _Graph:
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
            for name in _written(op):
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
            and name not in _read(writers[0])
            and bool(self.readers.get(name))
        )

    def layers(self) -> list[_Layer]:
        """All operators but feed and fetch, grouped as Paddle Lite fuses them."""
        layers: list[_Layer] = []
        owner: dict[int, _Layer] = {}
        for op in self.program.ops:
            if op.type in ("feed", "fetch"):
                continue
            joined = next((n for n in _read(op) if self._is_inner(n, op)), None)
            layer = owner.get(id(self.writers[joined][0])) if joined else None
            if layer is None or joined is None:
                layer = _Layer([op], self._result(op))
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
        read = [n for n in _written(op) if self.readers.get(n) and n not in self.program.params]
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
            return all(n == name or n in self.program.params for n in _read(reader))
        return reader.type in _TAILS and reader.input("X") == name

    def cone(self, name: str, boundary: Collection[str]) -> list[Op]:
        """The operators that compute a variable from those of the boundary and the inputs."""
        needed, found = {name}, []
        for op in reversed(self.program.ops):
            if op.type in ("feed", "fetch") or needed.isdisjoint(_written(op)):
                continue
            found.append(op)
            needed.update(n for n in _read(op) if n not in boundary)
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
        wanted = {n for op in ops for n in _read(op)}
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


def _read(op: Op) -> list[str]:
    return [name for names in op.inputs.values() for name in names]


def _written(op: Op) -> list[str]:
    return [name for names in op.outputs.values() for name in names]


# Operators that quantize an activation by the largest magnitude that they expect: their "scale".
_QUANTIZE = ("fake_quantize_", "quantize_linear")
# How far the ratio of that scale to the largest value may be from what it is in the other layers:
# without a fault it is 0.7 to 1.4, whatever the model.
_SCALE_FACTOR = 2.5


# Layers measured at once where all are: a bound for memory, as each holds its output's values.
_SWEPT_AT_ONCE = 64


@dataclass(frozen=True)
class _Part:
    """What was measured of the layers between taps, on the server's values: see `Tap`."""

    numbers: Numbers
    expected_db: float
    layers: int


class _Search:
    """One call of `first_difference`: runs taps on both sides and keeps what was measured."""

    def __init__(
        self,
        *,
        reference: _Graph,
        candidate: _Graph,
        samples: list[Sample],
        engine: str,
        recipe: Recipe,
        limits: LayerLimits,
        most: int | None,
        watch: Watch,
    ) -> None:
        if not samples:
            raise DataError("there are no samples to compare layers with")
        self._reference, self._candidate = reference, candidate
        self._samples, self._engine, self._recipe = samples, engine, recipe
        self._limits, self._most, self._say = limits, most, watch.say
        self._file = candidate.program.files.model
        everything = candidate.layers()
        self._layers = [layer for layer in everything if self._comparable(layer.output)]
        self._groups = len(everything)
        self._by_output = {layer.output: layer for layer in self._layers}
        if not self._layers:
            raise ModelError(
                f"{self._file}: no variable can be compared: none that holds floats has the name "
                f"of one in {reference.program.files.model}"
            )
        self._server: _Values = {}
        self._whole: dict[str, Numbers] = {}
        self._alone: dict[str, _Part] = {}
        self._rounded = _Graph(_rounded(reference.program, recipe))
        self._together: Divergence | None = None  # of several layers; one alone goes first
        self._rounds = 0

    def _comparable(self, name: str) -> bool:
        """Whether a variable is on both sides and can be tapped on both."""
        sides = self._reference, self._candidate
        if not all(graph.comparable(name) for graph in sides):
            return False
        ranks = {len(graph.program.var(name).shape) for graph in sides}
        return len(ranks) == 1

    def report(self) -> LayersReport:
        """Search, and say what was found."""
        found = self._find()
        order = [layer.output for layer in self._layers]
        seen = [n for n in order if n in self._whole or n in self._alone]
        return LayersReport(
            divergence=found,
            engine=self._engine,
            recipe=self._recipe.name,
            limits=self._limits,
            operators=sum(len(layer.ops) for layer in self._candidate.layers()),
            groups=self._groups,
            layers=len(self._layers),
            rounds=self._rounds,
            samples=tuple(s.id for s in self._samples),
            taps=tuple(
                Tap(
                    name,
                    self._main(name),
                    self._whole.get(name),
                    part.numbers if part else None,
                    part.expected_db if part else None,
                    part.layers if part else 0,
                )
                for name, part in ((name, self._alone.get(name)) for name in seen)
            ),
            warnings=self._warnings(seen),
        )

    def _warnings(self, seen: Sequence[str]) -> tuple[str, ...]:
        for name in seen:
            numbers = self._whole.get(name) or self._alone[name].numbers
            if numbers.server.not_finite:
                return (
                    f"the server's own '{name}' holds {numbers.server.not_finite} NaN or Inf: "
                    "compared is what is finite",
                )
        return ()

    def _find(self) -> Divergence | None:
        picked = self._pick(self._layers)
        self._measure_whole(picked)
        self._measure_alone(picked, set(picked))
        for name in picked:
            found = None if self._is_right(name) else self._narrow(name, set(picked))
            if found is not None:
                return found
        found = self._sweep(picked) or self._wrong_scale() or self._together
        if found is not None:
            return found
        low = [n for n in picked if self._whole[n].sqnr_db < self._limits.whole_db]
        return self._accumulated(low[0], set(picked) - set(low)) if low else None

    def _sweep(self, picked: Sequence[str]) -> Divergence | None:
        """The first layer that is wrong on its own. What comes after it can hide that: a softmax
        that saturates, or a shortcut that drowns a branch."""
        every = [layer.output for layer in self._layers]
        if len(picked) == len(every):
            return None
        for start in range(0, len(every), _SWEPT_AT_ONCE):
            names = every[start : start + _SWEPT_AT_ONCE]
            self._measure_alone(names, set(every))
            wrong = [n for n in names if not self._is_right(n)]
            if wrong:
                return self._inside(wrong[0], set(every))
        return None

    def _wrong_scale(self) -> Divergence | None:
        """The first layer whose input is quantized by a scale unlike those of the other layers."""
        ratios = self._scales(self._candidate.program.ops)
        if not ratios:
            return None
        usual = float(np.median([ratio for _, ratio in ratios]))
        every = {layer.output for layer in self._layers}
        for op, ratio in ratios:
            if usual / _SCALE_FACTOR <= ratio <= usual * _SCALE_FACTOR:
                continue
            for layer in self._layers:
                if any(op is other for other in self._candidate.cone(layer.output, every)):
                    alone = self._alone[layer.output].numbers
                    return self._divergence(layer.output, "scale", None, every, alone, usual=usual)
        return None

    def _scales(self, ops: Iterable[Op]) -> list[tuple[Op, float]]:
        """The operators that quantize an activation, with their scale as a multiple of its largest
        magnitude on the server, where that was measured."""
        found = []
        for op in ops:
            name = op.input("InScale") or op.input("Scale") or ""
            scale, largest = self._candidate.program.params.get(name), 0.0
            if op.type.startswith(_QUANTIZE) and scale is not None and scale.size == 1:
                largest = self._largest(op.input("X") or "")
            if scale is not None and largest:
                found.append((op, float(scale.ravel()[0]) / largest))
        return found

    def _largest(self, name: str) -> float:
        """The largest magnitude of a variable on the server, 0 where it was not measured."""
        if self._fed(name):
            return max(float(np.abs(s.feeds[name]).max(initial=0)) for s in self._samples)
        writer = self._candidate.writers.get(name, [None])[0]
        if writer is not None and writer.type == "dropout":  # which cannot be tapped
            kept = 1.0
            if writer.get("dropout_implementation") != "upscale_in_train":
                kept -= writer.get("dropout_prob", 0.5)
            return kept * self._largest(writer.inputs["X"][0])
        part = self._alone.get(name)
        numbers = part.numbers if part else self._whole.get(name)
        return max(abs(numbers.server.minimum), abs(numbers.server.maximum)) if numbers else 0.0

    def _pick(self, layers: Sequence[_Layer]) -> list[str]:
        """Outputs of layers, evenly spaced, the last one included."""
        count = len(layers)
        most = count if self._most is None else min(self._most, count)
        return [layers[(i + 1) * count // most - 1].output for i in range(most)]

    def _is_right(self, name: str) -> bool:
        """Whether the part that ends in a tap was right on the server's values, last time."""
        return self._holds(self._alone[name])

    def _holds(self, part: _Part) -> bool:
        if part.numbers.note:  # whatever else rounding may cost
            return False
        least = min(self._limits.alone_db, part.expected_db - self._limits.margin_db)
        return part.numbers.sqnr_db >= least

    def _narrow(self, name: str, cut: set[str]) -> Divergence | None:
        """The layer to blame in a part that fails, or None where it is the sum of small errors."""
        before = self._alone[name].numbers
        inside = [layer for layer in self._between(name, cut) if layer.output != name]
        if not inside:
            return self._inside(name, cut)
        picked = self._pick(inside)
        finer = cut | set(picked)
        self._measure_alone([*picked, name], finer)
        wrong = [n for n in (*picked, name) if not self._is_right(n)]
        for part in wrong:
            found = self._narrow(part, finer)
            if found is not None:
                return found
        if wrong:
            return None
        noise = sum(_noise(self._alone[n].numbers) for n in (*picked, name))
        # Where layers round coarsely, one may magnify the noise of another a hundredfold.
        if self._together is None and noise < 10 ** (-(self._limits.alone_db + 20) / 10):
            self._together = self._divergence(name, "together", None, cut, before)
        return None

    def _inside(self, name: str, cut: set[str]) -> Divergence:
        """The operator to blame in one layer that fails."""
        alone = self._alone[name].numbers
        inner = [n for n in self._by_output[name].inner if self._comparable(n)]
        if not inner:
            return self._divergence(name, "layer", name, cut, alone)
        parts = self._parts([*inner, name], cut | set(inner))
        wrong = [n for n, part in parts.items() if not self._holds(part)]
        if not wrong:
            return self._divergence(name, "together", None, cut, alone)
        return self._divergence(name, "layer", wrong[0], cut, alone)

    def _accumulated(self, name: str, good: set[str]) -> Divergence:
        """Where the network as it runs first falls below its limit."""
        while True:
            inside = [layer for layer in self._between(name, good) if layer.output != name]
            if not inside:
                return self._divergence(name, "accumulated", None, good, None)
            picked = self._pick(inside)
            self._measure_whole(picked)
            low = [n for n in picked if self._whole[n].sqnr_db < self._limits.whole_db]
            good |= set(picked) - set(low)
            name = low[0] if low else name

    def _between(self, name: str, boundary: Collection[str]) -> list[_Layer]:
        """The comparable layers that a variable is computed by from the boundary, in order."""
        ids = {id(op) for op in self._candidate.cone(name, boundary)}
        return [layer for layer in self._layers if id(layer.ops[-1]) in ids]

    def _divergence(
        self,
        name: str,
        cause: str,
        culprit: str | None,
        cut: set[str],
        alone: Numbers | None,
        *,
        usual: float | None = None,
    ) -> Divergence:
        cone = self._candidate.cone(name, cut - {name})
        inner = {n for op in cone for n in _written(op)}
        read = list(dict.fromkeys(n for op in cone for n in _read(op) if n not in inner))
        tapped = [n for n in read if n in cut and n != name]
        self._measure_whole([*tapped, name])
        inputs = [self._whole[n] for n in tapped] + [
            _numbers(n, values, values)
            for n, values in (
                (n, [s.feeds[n] for s in self._samples]) for n in read if self._fed(n)
            )
        ]
        op = self._main(name) if culprit is None else self._candidate.computed_by(culprit)
        output = self._whole[name]
        scales = [f"{ratio:.2g}" for _, ratio in self._scales(cone)]
        note = f"its input is quantized by {', '.join(scales)} times its largest value"
        if usual is not None:
            note += f", other layers by {usual:.2g} times"
        return Divergence(
            name=name,
            op=op,
            ops=tuple(o.type for o in cone),
            cause=cause,
            inputs=tuple(inputs),
            output=output,
            alone=alone,
            reason=_reason(
                name, op, len(cone), cause, inputs, output, alone, note if scales else ""
            ),
        )

    def _main(self, name: str) -> str:
        """The type of the operator that a layer is known by, such as conv2d."""
        layer = self._by_output[name]
        return self._candidate.computed_by((*layer.inner, name)[0])

    def _fed(self, name: str) -> bool:
        return all(name in sample.feeds for sample in self._samples)

    def _measure_whole(self, names: Sequence[str]) -> None:
        missing = [n for n in names if n not in self._whole]
        if missing:
            self._say(f"round {self._rounds + 1}: {len(missing)} taps in the network as it runs")
            with ThreadPoolExecutor() as pool:
                server = pool.submit(self._on_server, missing)
                edge = self._on_edge(missing, {})
            self._whole.update((n, _numbers(n, server.result()[n], edge[n])) for n in missing)

    def _measure_alone(self, names: Sequence[str], cut: set[str]) -> None:
        self._alone.update(self._parts(names, cut))

    def _parts(self, names: Sequence[str], cut: set[str]) -> dict[str, _Part]:
        """Each name computed from the server's values of the cut."""
        self._say(f"round {self._rounds + 1}: {len(names)} parts on the server's values")
        graphs = self._candidate, self._reference
        read = {n for g in graphs for name in names for op in g.cone(name, cut) for n in _read(op)}
        fed = [n for n in cut if n in read]
        server = self._on_server([*dict.fromkeys([*names, *fed])])
        feeds = {n: server[n] for n in fed}
        with ThreadPoolExecutor() as pool:
            rounded = pool.submit(self._expected, names, feeds)
            edge = self._on_edge(names, feeds)
        expected = rounded.result()
        return {
            name: _Part(
                numbers=_numbers(name, server[name], edge[name]),
                expected_db=_numbers(name, server[name], expected[name]).sqnr_db
                if expected
                else math.inf,
                layers=len(self._between(name, cut)),
            )
            for name in names
        }

    def _expected(self, names: Sequence[str], feeds: _Values) -> _Values:
        """What the source model gives on the server when its numbers are rounded as the recipe
        says; nothing for a recipe that does not round."""
        if self._rounded.program is self._reference.program:
            return {}
        samples = self._samples
        if self._recipe.arm_only:  # the recipes that round activations as well
            feeds = {name: _round_values(values, self._recipe) for name, values in feeds.items()}
            columns = {
                n: _round_values([s.feeds[n] for s in samples], self._recipe)
                for n in samples[0].feeds
            }
            samples = [
                replace(s, feeds={n: columns[n][i] for n in s.feeds}) for i, s in enumerate(samples)
            ]
        return self._cut_run(self._rounded, names, feeds, samples, "paddle")

    def _on_server(self, names: Sequence[str]) -> _Values:
        """Values of the reference; those of the call before are not computed again."""
        missing = [n for n in names if n not in self._server]
        self._server = {n: self._server[n] for n in names if n in self._server}
        if missing:
            program = self._reference.tapped(missing, {})
            self._server.update(zip(missing, self._run(program, self._samples, "paddle")))
        return self._server

    def _on_edge(self, names: Sequence[str], feeds: _Values) -> _Values:
        self._rounds += 1
        return self._cut_run(self._candidate, names, feeds, self._samples, self._engine)

    def _cut_run(
        self,
        graph: _Graph,
        names: Sequence[str],
        feeds: _Values,
        samples: Sequence[Sample],
        engine: str,
    ) -> _Values:
        """Values of variables of a graph that is cut where `feeds` has values to go on with."""
        shapes = {name: _common_shape(values) for name, values in feeds.items()}
        program = graph.tapped(names, shapes)
        inputs = [spec.name for spec in program.inputs]
        fed = []
        for index, sample in enumerate(samples):
            given = {graph.fed_name(name): values[index] for name, values in feeds.items()}
            tensors = {**sample.feeds, **given}
            fed.append(Sample(sample.id, {n: tensors[n] for n in inputs if n in tensors}))
        return dict(zip(names, self._run(program, fed, engine)))

    def _run(self, program: Program, samples: Sequence[Sample], engine: str) -> list[list[_Array]]:
        """One list of arrays an output, in the order of the outputs."""
        with temporary_folder() as temporary:
            files: tuple[Path, ...]
            try:
                staged = save(program, temporary)
                assert staged.params is not None
                files = staged.model, staged.params
                if engine == "lite":
                    files = (temporary / "tapped.nb",)
                    optimize(staged, "x86", files[0], recipe=self._recipe)
                model = Model("tapped", "", self._recipe.name, files, tuple(program.inputs))
                outputs = list(run(model, samples, engine=engine, warmup=0).outputs.values())
            except (ConvertError, EngineError) as error:
                # Without the folder, which is gone.
                words = re.sub(rf"{re.escape(str(temporary))}/\S*: ", "", str(error))
                raise type(error)(f"{self._file}: with its layers tapped: {words}") from None
        if len(outputs) != len(program.outputs):
            raise EngineError(
                f"{self._file}: engine {engine} gave {len(outputs)} of {len(program.outputs)} taps"
            )
        return outputs


def _rounded(program: Program, recipe: Recipe) -> Program:
    """The program with its weights rounded as by the recipe: integers by a scale for each output
    channel (Paddle Lite's lite/core/optimizer/mir/post_quant_dynamic_pass.cc), or half floats.

    Each to the nearest: what that costs a layer, the balanced rounding of rounding.py may cost."""
    bits = {"QUANT_INT8": 8, "QUANT_INT16": 16}.get(recipe.quant_type, 8 if recipe.arm_only else 0)
    if not bits:
        return program
    params = dict(program.params)
    for op in program.ops:
        for slot, names in op.inputs.items():
            for name in names:
                value = program.params.get(name)
                if value is None or value.ndim < 2 or value.dtype != np.float32:
                    continue
                if recipe.fp16:
                    params[name] = value.astype(np.float16).astype(np.float32)
                    continue
                out = (1 if "transpose" in op.type else 0) if slot == "Filter" else value.ndim - 1
                axes = tuple(axis for axis in range(value.ndim) if axis != out)
                params[name] = _round(value, np.abs(value).max(axes, keepdims=True), bits)
    return _program_like(program, dict(program.vars), list(program.ops), params)


def _round_values(values: Sequence[_Array], recipe: Recipe) -> list[_Array]:
    """Activations rounded as by a recipe that does, with the best scale there is for them."""
    if values[0].dtype != np.float32:
        return list(values)
    if recipe.fp16:
        return [value.astype(np.float16).astype(np.float32) for value in values]
    largest = np.float32(max(float(np.abs(value).max(initial=0)) for value in values))
    return [_round(value, largest, 8) for value in values]


def _round(value: _Array, largest: Any, bits: int) -> _Array:
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float64) / most
    return np.asarray(np.rint(value / scale) * scale, np.float32)


def _common_shape(values: Sequence[_Array]) -> tuple[int, ...]:
    """The shape of all values, with -1 where they differ."""
    shapes = [value.shape for value in values]
    return tuple(dims[0] if len(set(dims)) == 1 else -1 for dims in zip(*shapes))


def _noise(numbers: Numbers) -> float:
    """Noise power relative to the signal's."""
    return float(10 ** (-numbers.sqnr_db / 10))


def _numbers(name: str, server: Sequence[_Array], edge: Sequence[_Array]) -> Numbers:
    dot = signal = power = noise = largest = magnitude = 0.0
    wrong, note = 0, ""
    for left, right in zip(server, edge):
        if left.shape != right.shape:
            note = note or f"shape {list(right.shape)} instead of {list(left.shape)}"
            continue
        a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        finite = np.isfinite(a) & np.isfinite(b)
        # An infinity that both have is no difference: masks of attention are made of them.
        wrong += int(np.count_nonzero(~finite & ~((a == b) | (np.isnan(a) & np.isnan(b)))))
        a, b = a[finite], b[finite]
        gap = a - b
        dot, signal, power = dot + float(a @ b), signal + float(a @ a), power + float(b @ b)
        noise += float(gap @ gap)
        largest = max(largest, float(np.abs(gap).max(initial=0)))
        magnitude = max(magnitude, float(np.abs(a).max(initial=0)))
    if wrong:
        note = note or f"{wrong} values are NaN or Inf on one side only"
    if note:
        sqnr = -math.inf
    elif noise == 0:
        sqnr = math.inf
    else:
        sqnr = 10 * math.log10(signal / noise) if signal else -math.inf
    norm = math.sqrt(signal * power)
    return Numbers(
        name=name,
        shape=tuple(server[0].shape),
        sqnr_db=sqnr,
        cosine=dot / norm if norm else float(signal == power),
        max_diff=largest / magnitude if magnitude else largest,
        server=_side(server),
        edge=_side(edge),
        note=note,
    )


def _side(values: Sequence[_Array]) -> Side:
    flat = np.concatenate([value.astype(np.float64).ravel() for value in values])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return Side(0.0, 0.0, 0.0, flat.size)
    return Side(
        float(finite.mean()), float(finite.min()), float(finite.max()), flat.size - finite.size
    )


def _reason(
    name: str,
    op: str,
    operators: int,
    cause: str,
    inputs: Sequence[Numbers],
    output: Numbers,
    alone: Numbers | None,
    note: str,
) -> str:
    good = min((n.sqnr_db for n in inputs), default=math.inf)
    what = output.note or f"{output.sqnr_db:.1f} dB"
    if cause == "layer" and alone is not None:
        own = alone.note or f"{alone.sqnr_db:.1f} dB"
        return (
            f"{op} '{name}' is the first layer that diverges: inputs {good:.1f} dB, output {what}; "
            f"fed the server's values, {own}" + (f"; {note}" if note else "")
        )
    if cause == "scale" and alone is not None:
        return (
            f"{op} '{name}' is the first layer with a scale that does not fit: {note}; fed the "
            f"server's values, {alone.sqnr_db:.1f} dB"
        )
    if cause == "together" and alone is not None:
        own = alone.note or f"{alone.sqnr_db:.1f} dB"
        return (
            f"the {operators} operators that end in '{name}' are right one by one and wrong "
            f"together ({own}): the way they are fused is at fault, or one magnifies the rounding "
            "of another"
        )
    return (
        f"no layer is wrong alone, but their rounding adds up to {what} at '{name}' "
        f"(inputs {good:.1f} dB)"
    )
