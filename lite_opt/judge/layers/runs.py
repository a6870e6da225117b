"""Running two programs, whole and in parts: what the layers of both make of the same numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lite_opt.judge.layers.graph import Graph, with_params
from lite_opt.judge.layers.result import Numbers, numbers
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import save
from lite_opt.model.program import Program
from lite_opt.quant.simulate import nearest, nearest_values
from lite_opt.recipes import Recipe
from py_runner.errors import ConvertError, DataError, EngineError
from py_runner.files.folder import temporary_folder
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = ["Sides"]

_Array = npt.NDArray[Any]
_Values = dict[str, list[_Array]]  # variable -> one array a sample


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
        engine: str,
        recipe: Recipe,
        watch: Watch,
    ) -> None:
        if not samples:
            raise DataError("there are no samples to compare layers with")
        self.samples, self.rounds = samples, 0
        self._reference, self._candidate = reference, candidate
        self._engine, self._recipe, self._watch = engine, recipe, watch
        self._file = candidate.program.files.model
        rounded = nearest(reference.program, recipe)
        self._rounded = Graph(with_params(reference.program, rounded))
        self._server: _Values = {}

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
        return self._cut_run(self._rounded, names, feeds, samples, "paddle")

    def _on_server(self, names: Sequence[str]) -> _Values:
        """Values of the reference; those of the call before are not computed again."""
        missing = [n for n in names if n not in self._server]
        self._server = {n: self._server[n] for n in names if n in self._server}
        if missing:
            program = self._reference.tapped(missing, {})
            self._server.update(zip(missing, self._run(program, self.samples, "paddle")))
        return self._server

    def _on_edge(self, names: Sequence[str], feeds: _Values) -> _Values:
        self.rounds += 1
        return self._cut_run(self._candidate, names, feeds, self.samples, self._engine)

    def _cut_run(
        self,
        graph: Graph,
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
                kind = ConvertError if isinstance(error, ConvertError) else type(error)
                raise kind(f"{self._file}: with its layers tapped: {words}") from None
        if len(outputs) != len(program.outputs):
            raise EngineError(
                f"{self._file}: engine {engine} gave {len(outputs)} of {len(program.outputs)} taps"
            )
        return outputs


def _common_shape(values: Sequence[_Array]) -> tuple[int, ...]:
    """The shape of all values, with -1 where they differ."""
    shapes = [value.shape for value in values]
    return tuple(dims[0] if len(set(dims)) == 1 else -1 for dims in zip(*shapes))
