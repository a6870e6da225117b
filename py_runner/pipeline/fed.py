"""Which step makes a difference: the stages fed what another run's stages were fed.

What those were fed is made again, from the pages and from what that run says of itself, and counts
only where its checksum is that run's. So each step is judged on the same input on both sides,
whatever came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.data.crop import cut, upside_down
from py_runner.data.decode import open_image
from py_runner.formats.pages import Fed, Line, Page, Pages
from py_runner.formats.pipeline import Pipeline
from py_runner.pipeline.stages import (
    Found,
    Stage,
    direction,
    fitted,
    is_turn,
    lines_in,
    read,
    text_of,
)
from py_runner.tensors import digest

__all__ = ["STEPS", "Feeding", "same_lines"]

_Array = npt.NDArray[Any]
_WHAT = ("preprocessing", "graph", "post-processing")
# The steps in the order of the work.
STEPS = (
    "decode",
    *(f"detection: {what}" for what in _WHAT),
    "crop",
    *(f"direction: {what}" for what in _WHAT),
    *(f"recognition: {what}" for what in _WHAT),
)
# How far corners may be from each other: of a line's height, and in pixels at the least.
_NEAR, _NEAR_PIXELS = 0.1, 2.0


def same_lines(left: Sequence[_Array], right: Sequence[_Array]) -> list[tuple[int, int]]:
    """Pairs of lines [4, 2] whose corners are within a tenth of the line's height, or 2 pixels."""
    pairs: list[tuple[int, int]] = []
    free = set(range(len(right)))
    for i, one in enumerate(left):
        height = float(np.linalg.norm(one[0] - one[3]))
        distances = {j: float(np.abs(one - right[j]).max()) for j in free}
        best = min(distances, key=lambda j: distances[j], default=None)
        if best is not None and distances[best] <= max(_NEAR * height, _NEAR_PIXELS):
            pairs.append((i, best))
            free.remove(best)
    return pairs


@dataclass
class Feeding:
    """Collects, portion by portion, how `stages` answer to the inputs of the run `against`."""

    against: Pages
    pipeline: Pipeline
    stages: Mapping[str, Stage]
    pages: list[str] = field(default_factory=list)
    tallies: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, own: Sequence[Page], files: Mapping[str, Path]) -> None:
        """Judge the pages that both runs have; `own` is what the stages found by themselves."""
        theirs = {page.id: page for page in self.against.pages}
        both = [(page, theirs[page.id]) for page in own if page.id in theirs]
        tally = _Tally(len(both))
        pages = {
            place: their.id
            for place, (page, their) in enumerate(both)
            if tally.add("decode", place, page.pixels == their.pixels)
        }
        self._detection(both, pages, files, tally)
        lines = self._lines(both, pages, files, tally)
        known = [line for page in own for line in page.lines]
        if "direction" in self.stages and "direction" in self.against.stages:
            self._direction(lines, known, tally)
        self._recognition(lines, known, tally)
        self.pages += [their.id for _, their in both]
        for step in STEPS:
            self.tallies.setdefault(step, []).extend(tally.of(step))
        for step, value in tally.largest.items():
            self.largest[step] = max(value, self.largest.get(step, 0.0))

    def result(self) -> Fed:
        """All of it."""
        return Fed(
            against=self.against.key,
            pages=tuple(self.pages),
            alike={step: tuple(hit for hit, _ in self.tallies.get(step, ())) for step in STEPS},
            counts={step: tuple(n for _, n in self.tallies.get(step, ())) for step in STEPS},
            largest=self.largest,
        )

    def _pixels(self, file: Path) -> _Array:
        return np.asarray(open_image(file, self.against.stages["detection"].spec))

    def _detection(
        self,
        both: Sequence[tuple[Page, Page]],
        pages: Mapping[int, str],
        files: Mapping[str, Path],
        tally: _Tally,
    ) -> None:
        stage, theirs = self.stages["detection"], self.against.stages["detection"]
        same_task = stage.bundle.task == theirs.task
        again = []
        for place in pages:
            own, their = both[place]
            tally.add("detection: preprocessing", place, own.tensor == their.tensor)
            if own.tensor == their.tensor and same_task:
                found = [Found(np.array(x.points), x.found) for x in own.lines]
                self._found(place, their, found, found, tally)
            else:
                again.append(place)

        def tensors() -> Iterator[tuple[str, _Array]]:
            for place in again:
                tensor = theirs.spec.apply(self._pixels(files[pages[place]]))
                if digest(tensor) == both[place][1].tensor:
                    yield str(place), tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            their = both[int(id_)][1]
            size = (their.height, their.width)
            by_theirs, by_own = (
                lines_in(outputs, task, size, stage.model.name)
                for task in (theirs.task, stage.bundle.task)
            )
            self._found(int(id_), their, by_theirs, by_own, tally)

        stage.answer(tensors(), take, count=False)

    def _found(
        self, place: int, their: Page, graph: Sequence[Found], own: Sequence[Found], tally: _Tally
    ) -> None:
        """Lines of one page: what they found, and on the same input this graph by their
        post-processing and by its own."""
        wanted = [np.array(line.points) for line in their.lines]
        here = [line.corners for line in graph]
        pairs = same_lines(wanted, here)
        tally.add("detection: graph", place, len(pairs), len(wanted) + len(here) - len(pairs))
        for i, j in pairs:
            if not np.array_equal(wanted[i], here[j]):
                continue  # of other pixels
            tally.moved("detection: graph", their.lines[i].found - graph[j].score)
        left, right = ({line.corners.tobytes() for line in found} for found in (graph, own))
        tally.add("detection: post-processing", place, len(left & right), len(left | right))

    def _lines(
        self,
        both: Sequence[tuple[Page, Page]],
        pages: Mapping[int, str],
        files: Mapping[str, Path],
        tally: _Tally,
    ) -> list[tuple[int, Line, _Array]]:
        """Their lines, cut out again where that gives the same pixels, with their page's place."""
        lines = []
        for place, id_ in pages.items():
            pixels = self._pixels(files[id_])
            for line in both[place][1].lines:
                part = cut(pixels, np.array(line.points))
                if tally.add("crop", place, digest(part) == line.pixels):
                    lines.append((place, line, part))
        return lines

    def _direction(
        self, lines: Sequence[tuple[int, Line, _Array]], own: Sequence[Line], tally: _Tally
    ) -> None:
        stage, theirs = self.stages["direction"], self.against.stages["direction"]
        least, their_least = self.pipeline.options.turn_score, self.against.options.turn_score
        known = {line.turn.tensor: (line.turn.index, line.turn.score) for line in own if line.turn}

        def judge(place: int, line: Line, index: int, score: float) -> None:
            turn = line.turn
            assert turn is not None
            turned = is_turn(turn.label, score, their_least)
            alike = index == turn.index and turned == turn.turned
            tally.add("direction: graph", place, alike)
            tally.moved("direction: graph", score - turn.score if index == turn.index else 1.0)

        def tensors() -> Iterator[tuple[str, _Array]]:
            for number, (place, line, pixels) in enumerate(lines):
                turn = line.turn
                if turn is None:
                    continue
                own_label = stage.labels[turn.index] if turn.index < len(stage.labels) else ""
                decided = own_label, is_turn(own_label, turn.score, least)
                tally.add("direction: post-processing", place, decided == (turn.label, turn.turned))
                alike = digest(stage.tensor(pixels)) == turn.tensor
                tally.add("direction: preprocessing", place, alike)
                if turn.tensor in known:
                    judge(place, line, *known[turn.tensor])
                elif digest(tensor := theirs.spec.apply(pixels)) == turn.tensor:
                    yield str(number), tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            place, line, _ = lines[int(id_)]
            judge(place, line, *direction(outputs, stage.labels, stage.model.name))

        stage.answer(tensors(), take, count=False)

    def _recognition(
        self, lines: Sequence[tuple[int, Line, _Array]], own: Sequence[Line], tally: _Tally
    ) -> None:
        stage, theirs = self.stages["recognition"], self.against.stages["recognition"]
        known = {line.tensor: (line.classes, line.score) for line in own}

        def judge(place: int, line: Line, classes: Sequence[int], score: float) -> None:
            tally.add("recognition: graph", place, tuple(classes) == line.classes)
            tally.moved("recognition: graph", score - line.score)

        def tensors() -> Iterator[tuple[str, _Array]]:
            for number, (place, line, upright) in enumerate(lines):
                pixels = upside_down(upright) if line.turned else upright
                text = text_of(line.classes, stage.labels)
                tally.add("recognition: post-processing", place, text == line.text)
                alike = digest(stage.tensor(pixels, line.width)) == line.tensor
                tally.add("recognition: preprocessing", place, alike)
                if line.tensor in known:
                    judge(place, line, *known[line.tensor])
                    continue
                tensor = fitted(theirs.spec, line.width).apply(pixels)
                if digest(tensor) == line.tensor:
                    yield str(number), tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            place, line, _ = lines[int(id_)]
            said = read(outputs, stage.labels, stage.model.name)
            judge(place, line, said.classes, said.score)

        stage.answer(tensors(), take, count=False)


@dataclass
class _Tally:
    """How many things of each page came out alike, and of how many, by step."""

    pages: int
    rows: dict[str, list[list[float]]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, step: str, place: int, alike: float, of: float = 1) -> bool:
        """Count; whether it is alike, for one thing."""
        row = self.rows.setdefault(step, [[0.0, 0.0] for _ in range(self.pages)])[place]
        row[0] += alike
        row[1] += of
        return bool(alike)

    def moved(self, step: str, difference: float) -> None:
        """A score that is so far from theirs."""
        self.largest[step] = max(abs(difference), self.largest.get(step, 0.0))

    def of(self, step: str) -> list[tuple[float, float]]:
        """(alike, of how many) of each page."""
        return [(a, b) for a, b in self.rows.get(step, [[0.0, 0.0]] * self.pages)]
