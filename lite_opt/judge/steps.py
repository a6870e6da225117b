"""Which step of a pipeline makes a difference, and why, as far as two runs of it tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite_opt.judge.rates import Rate, share
from py_runner.formats.pages import Line, Page, Pages, StageInfo
from py_runner.formats.run import Run
from py_runner.pipeline.fed import STEPS, same_lines

__all__ = ["MOST_MOVED", "Step", "differences", "engines_of", "guilty", "steps_of"]

# By the keys of TASK_LIMITS["ocr"]. All else is arithmetic on the same input by the same rules,
# which comes out the same or is another rule.
_GRAPHS = {
    "detection: graph": "texts",
    "direction: graph": "turns",
    "recognition: graph": "lines",
}
# In fp32, the scores of PP-OCRv4 move by 2e-5 between engines; a wrong weight moves them by more.
MOST_MOVED = 1e-3
_UNITS = {"decode": "pages", "detection: preprocessing": "pages"}


@dataclass(frozen=True)
class Step:
    """How one step answers to the same input: `rate` is the share of what comes out alike, None
    where nothing was the same; `largest` by how much a score moves, None where there are none, and
    `most` by how much it may, None for no limit; `why` what differs by what the runs say of
    themselves, "" for nothing."""

    name: str
    rate: Rate | None
    largest: float | None = None
    why: str = ""
    most: float | None = None

    @property
    def broken(self) -> bool:
        """Whether too much of it comes out otherwise."""
        return self.moves or (self.rate is not None and self.rate.broken)

    @property
    def moves(self) -> bool:
        """Whether a score moves by too much."""
        return None not in (self.most, self.largest) and not self.largest <= self.most  # type: ignore[operator]

    @property
    def said(self) -> str:
        """The step as the one to blame, in words."""
        assert self.rate is not None
        rate = self.rate
        unlike = rate.units - round(rate.value * rate.units)
        why = f": {self.why}" if self.why else ""
        if self.moves:
            return f"{self.name} (a score moves by {self.largest:.2g}{why})"
        if not why and not self.name.endswith("graph"):
            why = ": by the same settings, so that the code or a library of it is another"
        return f"{self.name} ({unlike} of {rate.units} {rate.unit} come out otherwise{why})"

    @property
    def failure(self) -> str:
        """What is said of a step whose limit is broken."""
        if self.moves:
            return f"{self.name}: a score moves by {self.largest:.2g}, and {self.most:g} is allowed"
        assert self.rate is not None
        return self.rate.failure


def steps_of(
    reference: Pages, candidate: Pages, limits: Mapping[str, float]
) -> tuple[tuple[Step, ...], bool]:
    """The steps in the order of the work, and whether the candidate was fed the reference's inputs.

    Where it was not, a step is judged on what happened to be the same in both runs.
    """
    fed = candidate.fed
    direct = fed is not None and fed.against == reference.key
    if fed is not None and direct:
        known = {page.id for page in reference.pages}
        places = [i for i, id_ in enumerate(fed.pages) if id_ in known]
        tallies = {
            step: [(fed.alike[step][i], fed.counts[step][i]) for i in places] for step in STEPS
        }
        largest = fed.largest
    else:
        pages = {page.id: page for page in candidate.pages}
        both = [(page, pages[page.id]) for page in reference.pages if page.id in pages]
        tallies = {step: [] for step in STEPS}
        largest = {}
        for left, right in both:
            for step, counted in _of_records(reference, candidate, left, right).items():
                tallies[step].append(counted)
    found = []
    for step in STEPS:
        limit = limits[_GRAPHS[step]] if step in _GRAPHS else 1.0
        hits, counts = [a for a, _ in tallies[step]], [n for _, n in tallies[step]]
        unit = _UNITS.get(step, "lines")
        rate = share(step, hits, counts, unit=unit, limit=limit)
        why = _why(step, reference, candidate)
        most = _most(step, reference, candidate)
        found.append(Step(step, rate, largest.get(step), why, most))
    return tuple(found), direct


def guilty(steps: Sequence[Step]) -> Step | None:
    """The step that makes the difference: the first whose limit is broken, else the one of which
    most comes out otherwise; None where all is alike."""
    broken = [step for step in steps if step.broken]
    if broken:
        return broken[0]
    unlike = [step for step in steps if step.rate is not None and step.rate.value < 1]
    return max(unlike, key=_unlike, default=None)


def _most(step: str, reference: Pages, candidate: Pages) -> float | None:
    """By how much a score may move on the same input; None for no limit."""
    stages = [run.stages.get(step.partition(":")[0]) for run in (reference, candidate)]
    exact = all(stage is not None and stage.precision == "fp32" for stage in stages)
    return MOST_MOVED if exact and step in _GRAPHS else None


def _unlike(step: Step) -> float:
    assert step.rate is not None
    return (1 - step.rate.value) * step.rate.units


def _of_records(
    reference: Pages, candidate: Pages, left: Page, right: Page
) -> dict[str, tuple[float, float]]:
    """(alike, of how many) of each step on one page, where the step before came out the same."""
    counted = {step: [0.0, 0.0] for step in STEPS}

    def add(step: str, alike: float, of: float = 1) -> None:
        counted[step][0] += alike
        counted[step][1] += of

    add("decode", left.pixels == right.pixels)
    if left.pixels == right.pixels:
        add("detection: preprocessing", left.tensor == right.tensor)
    corners = [[np.array(line.points) for line in page.lines] for page in (left, right)]
    pairs = same_lines(*corners)
    a, b = reference.stages["detection"], candidate.stages["detection"]
    if left.tensor == right.tensor and a.task == b.task:
        add("detection: graph", len(pairs), len(corners[0]) + len(corners[1]) - len(pairs))
    for i, j in pairs:
        one, other = left.lines[i], right.lines[j]
        if one.points == other.points and left.pixels == right.pixels:
            add("crop", one.pixels == other.pixels)
        if one.pixels == other.pixels:
            for step, alike in _of_lines(one, other):
                add(step, alike)
    return {step: (alike, of) for step, (alike, of) in counted.items()}


def _of_lines(left: Line, right: Line) -> Iterator[tuple[str, bool]]:
    """Of two lines of the same pixels."""
    a, b = left.turn, right.turn
    if a is not None and b is not None:
        yield "direction: preprocessing", a.tensor == b.tensor
        if a.tensor == b.tensor:
            yield "direction: graph", a.index == b.index
        if a.index == b.index and abs(a.score - b.score) < 1e-3:
            yield "direction: post-processing", (a.label, a.turned) == (b.label, b.turned)
    if left.turned == right.turned and left.width == right.width:
        yield "recognition: preprocessing", left.tensor == right.tensor
    if left.tensor == right.tensor:
        yield "recognition: graph", left.classes == right.classes
    if left.classes == right.classes:
        yield "recognition: post-processing", left.text == right.text


def _why(step: str, reference: Pages, candidate: Pages) -> str:
    """What differs in a step by what the runs say of themselves."""
    stage, _, what = step.partition(": ")
    a, b = reference.stages.get(stage), candidate.stages.get(stage)
    if a is None or b is None:
        return ""
    if what == "preprocessing":
        return "; ".join(differences(a.image, b.image))
    if what == "graph":
        return engines_of(a, b)
    found = list(differences(a.task or {}, b.task or {}))
    if a.labels_sha256 != b.labels_sha256:
        found.append("the dictionary is another" if stage == "recognition" else "other labels")
    if stage == "direction" and reference.options.turn_score != candidate.options.turn_score:
        found.append("the score from which a line is turned is another")
    return "; ".join(found)


def engines_of(a: StageInfo | Run, b: StageInfo | Run) -> str:
    """How the engines of two runs differ, in words."""
    left, right = (f"{s.engine} {s.engine_version} ({s.device}, {s.precision})" for s in (a, b))
    return "" if left == right else f"{left} against {right}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """In which settings two runs differ, a sentence each."""
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            left, right = (values.get(name, "by default") for values in (a, b))
            yield f"{name} is {left} in the reference and {right} in the candidate"
