"""Running two programs, whole and in parts: what the layers of both make of the same numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.layers.culprit import culprit_on
from lite_opt.judge.layers.graph import Graph, with_params
from lite_opt.judge.layers.result import Numbers, numbers
from lite_opt.lite.part import part, patience_s
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.model.load import save
from lite_opt.model.program import Op, Program
from lite_opt.quant.equalise import Equalised
from lite_opt.quant.simulate import nearest, nearest_values
from lite_opt.recipes import Recipe
from py_runner.errors import ConvertError, DataError, EngineError, RefusedError
from py_runner.files.folder import temporary_folder
from py_runner.formats.run import Run
from py_runner.inference import bundle_target, run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = ["DeadLayerError", "Edge", "Sides"]

_Array = npt.NDArray[Any]
_ONE = np.float32(1)
_Values = dict[str, list[_Array]]  # variable -> one array a sample


@dataclass(frozen=True)
class Edge:
    """What runs the candidate: an engine on a device, as `py_runner.inference.run` has them, with
    the candidate made for it by `recipe`."""

    engine: str
    device: str
    recipe: Recipe

    def __str__(self) -> str:
        return f"engine {self.engine}" + (f" on {self.device}" if self.device != "cpu" else "")


class DeadLayerError(Exception):
    """An engine refused a program, died of it or hung, for an operator of it, with these words.
    Never leaves a search."""

    def __init__(self, op: Op, words: str) -> None:
        super().__init__(words)
        self.op, self.words = op, words


class Sides:
    """The source model on the server and the candidate on the edge, with the same samples.

    `rounds` counts how often a tapped network was run on the edge; the watch is told of each.
    """

    def __init__(
        self,
        reference: Graph,
        candidate: Graph,
        samples: list[Sample],
        *,
        edge: Edge,
        equalised: Iterable[Equalised],
        watch: Watch,
    ) -> None:
        if not samples:
            raise DataError("there are no samples to compare layers with")
        self.samples, self.rounds = samples, 0
        self._reference, self._candidate = reference, candidate
        self._edge, self._recipe, self._watch = edge, edge.recipe, watch
        self._file = candidate.program.files.model
        rounded = nearest(reference.program, edge.recipe)
        self._rounded = Graph(with_params(reference.program, rounded))
        # What the candidate's variables are multiplied by, in a shape to multiply them with.
        self._factors = {
            name: _factors(each, len(candidate.program.var(name).shape))
            for each in equalised
            for name in each.names
            if name in candidate.program.vars
        }
        self._server: _Values = {}
        self._server_ms = 0.0  # the longest that it took for a sample

    def untapped(self, names: Sequence[str]) -> dict[str, Numbers]:
        """Those of the candidate's own outputs, where nothing else is tapped: as it is used."""
        self._watch.say("running the network as it is")
        server = self._on_server(names)
        ends = list(dict.fromkeys(spec.name for spec in self._candidate.program.outputs))
        edge = self._on_edge(ends, {})
        return {name: numbers(name, server[name], edge[name]) for name in names}

    def whole(self, names: Sequence[str]) -> dict[str, Numbers]:
        """Variables of the network as it runs."""
        self._watch.say(f"round {self.rounds + 1}: {len(names)} taps in the network as it runs")
        with ThreadPoolExecutor() as pool:
            server = pool.submit(self._on_server, names)
            edge = self._on_edge(names, {})
        return {n: numbers(n, server.result()[n], edge[n]) for n in names}

    def alone(self, names: Sequence[str], cut: Collection[str]) -> dict[str, tuple[Numbers, float]]:
        """Each variable computed from the server's values of the cut, and the ratio in dB that the
        recipe's rounding gives it on the server; inf for a recipe that does not round."""
        self._watch.say(f"round {self.rounds + 1}: {len(names)} parts on the server's values")
        graphs = self._candidate, self._reference
        used = {n for g in graphs for name in names for op in g.cone(name, cut) for n in op.reads}
        fed = [n for n in cut if n in used]
        server = self._on_server([*dict.fromkeys([*names, *fed])])
        feeds = {n: server[n] for n in fed}
        with ThreadPoolExecutor() as pool:
            rounded = pool.submit(self._expected, names, feeds)
            edge = self._on_edge(names, feeds)
        expected = rounded.result()
        return {
            name: (
                numbers(name, server[name], edge[name]),
                numbers(name, server[name], expected[name]).sqnr_db if expected else math.inf,
            )
            for name in names
        }

    def _expected(self, names: Sequence[str], feeds: _Values) -> _Values:
        """What the source model gives on the server when its numbers are rounded as the recipe
        says; nothing for a recipe that does not round."""
        if not self._recipe.quant_type and not self._recipe.rounds_activations:
            return {}
        samples = self.samples
        if self._recipe.rounds_activations:  # the recipes that round activations as well
            feeds = {name: nearest_values(values, self._recipe) for name, values in feeds.items()}
            columns = {
                n: nearest_values([s.feeds[n] for s in samples], self._recipe)
                for n in samples[0].feeds
            }
            samples = [
                replace(s, feeds={n: columns[n][i] for n in s.feeds}) for i, s in enumerate(samples)
            ]
        return self._cut_run(self._rounded, names, feeds, samples, None)

    def _on_server(self, names: Sequence[str]) -> _Values:
        """Values of the reference; those of the call before are not computed again."""
        missing = [n for n in names if n not in self._server]
        self._server = {n: self._server[n] for n in names if n in self._server}
        if missing:
            program = self._reference.tapped(missing, {})
            self._server.update(zip(missing, self._run(program, self.samples, None)))
        return self._server

    def _on_edge(self, names: Sequence[str], feeds: _Values) -> _Values:
        """Values of the candidate, as they are before their channels are multiplied."""
        self.rounds += 1
        factors = self._factors
        fed = {n: [v * factors.get(n, _ONE) for v in values] for n, values in feeds.items()}
        values = self._cut_run(self._candidate, names, fed, self.samples, self._edge)
        return {
            n: [v / factors[n] for v in found] if n in factors else found
            for n, found in values.items()
        }

    def _cut_run(
        self,
        graph: Graph,
        names: Sequence[str],
        feeds: _Values,
        samples: Sequence[Sample],
        edge: Edge | None,
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
        return dict(zip(names, self._run(program, fed, edge)))

    def _run(
        self, program: Program, samples: Sequence[Sample], edge: Edge | None
    ) -> list[list[_Array]]:
        """One list of arrays an output, in the order of the outputs; `edge` is None for the server.

        Raises DeadLayerError where the edge ends without an answer because of an operator.
        """
        try:
            done = self._answers(program, samples, edge)
        except RefusedError as error:
            words = str(error).removeprefix(f"{self._file}: with its layers tapped: ")
            if edge is None:
                raise
            lacks = lacks_fp16(words) if edge.recipe.fp16 else ""
            if lacks:
                raise EngineError(f"{self._file}: {edge} runs no fp16: {lacks}") from None
            op = self._dead(program, samples[0], edge, words)
            if op is None:
                raise
            raise DeadLayerError(op, words) from None
        if edge is None:
            self._server_ms = max(self._server_ms, done.latency["max_ms"])
        outputs = [list(values) for values in done.outputs.values()]
        if len(outputs) != len(program.outputs):
            raise EngineError(
                f"{self._file}: engine {done.engine} gave {len(outputs)} of "
                f"{len(program.outputs)} taps"
            )
        return outputs

    def _dead(self, program: Program, sample: Sample, edge: Edge, words: str) -> Op | None:
        """The operator of a program that the edge cannot run, None where that is not found."""
        self._watch.say("it does not run: looking for the operator that it cannot run")

        def answer(beginning: Program, fed: Sample) -> Run:
            return self._answers(beginning, [fed], edge)

        return culprit_on(program, sample, answer, words)

    def _answers(self, program: Program, samples: Sequence[Sample], edge: Edge | None) -> Run:
        """What the edge, or the server, answers; errors name the model, and no folder."""
        with temporary_folder() as temporary:
            try:
                if edge is None or edge.engine == "paddle":
                    staged = save(program, temporary)
                    assert staged.params is not None
                    files = staged.model, staged.params
                    model = Model("tapped", "", self._recipe.name, files, tuple(program.inputs))
                    return run(model, samples, engine="paddle", warmup=0)
                target = bundle_target(edge.engine, edge.device)
                return run(
                    part(program, target, edge.recipe, temporary),
                    samples,
                    engine=edge.engine,
                    device=edge.device,
                    warmup=0,
                    time_limit_s=patience_s(self._server_ms) if edge.engine == "native" else None,
                )
            except (ConvertError, EngineError) as error:
                # Without the folder, which is gone.
                words = re.sub(rf"{re.escape(str(temporary))}/?(\S*: )?", "", str(error))
                kind = ConvertError if isinstance(error, ConvertError) else type(error)
                raise kind(f"{self._file}: with its layers tapped: {words}") from None


def _factors(equalised: Equalised, rank: int) -> _Array:
    """Factors in the shape of a variable's last dimensions."""
    factors = np.array(equalised.factors, np.float32)
    return factors.reshape(-1, *[1] * (rank - 1 - equalised.axis))


def _common_shape(values: Sequence[_Array]) -> tuple[int, ...]:
    """The shape of all values, with -1 where they differ."""
    shapes = [value.shape for value in values]
    return tuple(dims[0] if len(set(dims)) == 1 else -1 for dims in zip(*shapes))
