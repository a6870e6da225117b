"""The search: a few layers at a time, and the first part that fails in ever smaller pieces."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lite_opt.judge.layers.graph import Graph, Layer
from lite_opt.judge.layers.result import (
    Divergence,
    LayersReport,
    Numbers,
    Tap,
    numbers,
    reason,
)
from lite_opt.judge.layers.runs import DeadLayerError, Edge, Sides
from lite_opt.judge.limits import LayerLimits
from lite_opt.judge.numbers import noise_of
from lite_opt.lite.refusals import cannot_run
from lite_opt.model.program import Op
from lite_opt.quant.equalise import Equalised
from lite_opt.quant.operators import BOTH, QUANTIZE
from py_runner.errors import ModelError
from py_runner.tensors import Sample
from py_runner.watch import Watch

__all__ = ["Search"]

# Operators that quantize an activation by the largest magnitude that they expect: their "scale".
_SCALED = (*QUANTIZE, *BOTH)
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


class Search:
    """One call of `first_difference`: runs taps on both sides and keeps what was measured."""

    def __init__(
        self,
        *,
        reference: Graph,
        candidate: Graph,
        samples: list[Sample],
        edge: Edge,
        limits: LayerLimits,
        most: int | None,
        equalised: Iterable[Equalised],
        watch: Watch,
    ) -> None:
        self._sides = Sides(
            reference, candidate, samples, edge=edge, equalised=equalised, watch=watch
        )
        self._reference, self._candidate = reference, candidate
        self._edge = edge
        self._limits, self._most = limits, most
        everything = candidate.layers()
        self._layers = [layer for layer in everything if self._comparable(layer.output)]
        self._groups = len(everything)
        self._by_output = {layer.output: layer for layer in self._layers}
        if not self._layers:
            mine, other = (graph.program.files.model for graph in (candidate, reference))
            raise ModelError(
                f"{mine}: no variable can be compared: none that holds floats has the name of one "
                f"in {other}"
            )
        self._whole: dict[str, Numbers] = {}
        self._alone: dict[str, _Part] = {}
        self._together: Divergence | None = None  # of several layers; one alone goes first

    def _comparable(self, name: str) -> bool:
        """Whether a variable is on both sides and can be tapped on both."""
        sides = self._reference, self._candidate
        if not all(graph.comparable(name) for graph in sides):
            return False
        ranks = {len(graph.program.var(name).shape) for graph in sides}
        return len(ranks) == 1

    def report(self) -> LayersReport:
        """Search, and say what was found."""
        try:
            found = self._find()
        except DeadLayerError as dead:
            found = self._dead(dead)
        order = [layer.output for layer in self._layers]
        seen = [n for n in order if n in self._whole or n in self._alone]
        return LayersReport(
            divergence=found,
            engine=self._edge.engine,
            device=self._edge.device,
            recipe=self._edge.recipe.name,
            limits=self._limits,
            operators=sum(len(layer.ops) for layer in self._candidate.layers()),
            groups=self._groups,
            layers=len(self._layers),
            rounds=self._sides.rounds,
            samples=tuple(s.id for s in self._sides.samples),
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
        # An engine on a device may die of what a tap would keep it from fusing.
        untapped = self._untapped() if self._edge.engine == "native" else {}
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
        if low:
            return self._accumulated(low[0], set(picked) - set(low))
        for name, measured in untapped.items():
            if measured.sqnr_db < self._limits.whole_db:
                return self._fused(name, measured)
        return None

    def _untapped(self) -> dict[str, Numbers]:
        """The outputs of the network that can be compared, as it is without a tap."""
        ends = dict.fromkeys(spec.name for spec in self._candidate.program.outputs)
        return self._sides.untapped([name for name in ends if self._comparable(name)])

    def _dead(self, dead: DeadLayerError) -> Divergence:
        """The layer of an operator that the engine cannot run."""
        op = next(op for op in self._candidate.program.ops if op.layer == dead.op.layer)
        found = (layer for layer in self._candidate.layers() if any(o is op for o in layer.ops))
        layer = next(found)
        return Divergence(
            name=layer.output,
            op=op.type,
            ops=tuple(o.type for o in layer.ops),
            cause="dead",
            inputs=(),
            output=None,
            alone=None,
            reason=cannot_run(op, str(self._edge), dead.words),
        )

    def _fused(self, name: str, measured: Numbers) -> Divergence:
        """An output that is right as long as layers are tapped."""
        op = self._candidate.computed_by(name)
        return Divergence(
            name=name,
            op=op,
            ops=(op,),
            cause="fused",
            inputs=(),
            output=measured,
            alone=None,
            reason=reason(name, op, 1, "fused", (), measured, None, ""),
        )

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
            if op.type in _SCALED and scale is not None and scale.size == 1:
                largest = self._largest(op.input("X") or "")
            if scale is not None and largest:
                found.append((op, float(scale.ravel()[0]) / largest))
        return found

    def _largest(self, name: str) -> float:
        """The largest magnitude of a variable on the server, 0 where it was not measured."""
        if self._fed(name):
            return max(float(np.abs(s.feeds[name]).max(initial=0)) for s in self._sides.samples)
        writer = self._candidate.writers.get(name, [None])[0]
        if writer is not None and writer.type == "dropout":  # which cannot be tapped
            kept = 1.0
            if writer.get("dropout_implementation") != "upscale_in_train":
                kept -= writer.get("dropout_prob", 0.5)
            return kept * self._largest(writer.inputs["X"][0])
        part = self._alone.get(name)
        numbers = part.numbers if part else self._whole.get(name)
        return max(abs(numbers.server.minimum), abs(numbers.server.maximum)) if numbers else 0.0

    def _pick(self, layers: Sequence[Layer]) -> list[str]:
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
        noise = sum(noise_of(self._alone[n].numbers.sqnr_db) for n in (*picked, name))
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

    def _between(self, name: str, boundary: Collection[str]) -> list[Layer]:
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
        inner = {n for op in cone for n in op.writes}
        names = list(dict.fromkeys(n for op in cone for n in op.reads if n not in inner))
        tapped = [n for n in names if n in cut and n != name]
        self._measure_whole([*tapped, name])
        inputs = [self._whole[n] for n in tapped] + [
            numbers(n, values, values)
            for n, values in (
                (n, [s.feeds[n] for s in self._sides.samples]) for n in names if self._fed(n)
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
            reason=reason(
                name, op, len(cone), cause, inputs, output, alone, note if scales else ""
            ),
        )

    def _main(self, name: str) -> str:
        """The type of the operator that a layer is known by, such as conv2d."""
        layer = self._by_output[name]
        return self._candidate.computed_by((*layer.inner, name)[0])

    def _fed(self, name: str) -> bool:
        return all(name in sample.feeds for sample in self._sides.samples)

    def _measure_whole(self, names: Sequence[str]) -> None:
        missing = [n for n in names if n not in self._whole]
        if missing:
            self._whole.update(self._sides.whole(missing))

    def _measure_alone(self, names: Sequence[str], cut: set[str]) -> None:
        self._alone.update(self._parts(names, cut))

    def _parts(self, names: Sequence[str], cut: set[str]) -> dict[str, _Part]:
        """Each name computed from the server's values of the cut."""
        return {
            name: _Part(measured, expected_db, layers=len(self._between(name, cut)))
            for name, (measured, expected_db) in self._sides.alone(names, cut).items()
        }
