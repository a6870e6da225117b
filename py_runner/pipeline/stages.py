"""One stage of a pipeline: how what it is given becomes its tensor, its engine, and its answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy.typing as npt

from py_runner.data.crop import on_page, reading_order
from py_runner.data.image import ImageSpec
from py_runner.errors import DataError
from py_runner.formats.bundle import Bundle
from py_runner.formats.pages import StageInfo
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks.options import array_of
from py_runner.tasks.text_detection import MAP, is_map, polygons_of
from py_runner.tasks.text_recognition import STEPS, Line, characters_of, is_steps, line_of
from py_runner.tensors import Model, Sample
from py_runner.watch import QUIET, Watch

__all__ = [
    "Found",
    "Stage",
    "direction",
    "fitted",
    "group_width",
    "is_turn",
    "lines_in",
    "read",
    "text_of",
]

_Array = npt.NDArray[Any]
# What a stage answered: an id, and its outputs.
Take = Callable[[str, Mapping[str, _Array]], None]


@dataclass
class Stage:
    """A stage at work. `how` are arguments of `inference.run`; `watch` is told how many it has
    answered in all; `spent` counts milliseconds."""

    name: str
    bundle: Bundle
    model: Model
    how: Mapping[str, Any]
    watch: Watch = QUIET
    spent: dict[str, float] = field(default_factory=lambda: {"prepare_ms": 0.0, "answer_ms": 0.0})
    runs: list[Run] = field(default_factory=list)

    @property
    def spec(self) -> ImageSpec:
        """How pixels become its tensor."""
        assert self.bundle.image is not None  # Pipeline.make has seen to it
        return self.bundle.image

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes, or its dictionary."""
        return self.bundle.labels or ()

    def tensor(self, pixels: _Array, width: int | None = None) -> _Array:
        """What it is fed for these pixels; `width` is that of the lines fed with it."""
        with self.timed("prepare_ms"):
            return fitted(self.spec, width).apply(pixels)

    def answer(self, tensors: Iterable[tuple[str, _Array]], take: Take, *, count: bool) -> None:
        """Feed tensors by their ids; `take` is told each answer. Those that do not `count` are no
        part of what is said of the stage."""
        (name,) = (spec.name for spec in self.model.inputs)
        samples = (Sample(id_, {name: value}) for id_, value in tensors)
        first = next(samples, None)
        if first is None:
            return

        def keep(id_: str, outputs: Mapping[str, _Array]) -> dict[str, _Array]:
            with self.timed("answer_ms"):
                take(id_, outputs)
            return {}

        before = dict(self.spent)
        so_far = sum(len(one.samples) for one in self.runs)
        watch = replace(
            self.watch, step=lambda _, done, __: self.watch.step(self.name, so_far + done, None)
        )
        done = run(self.model, chain([first], samples), keep=keep, watch=watch, **self.how)
        if count:
            self.runs.append(done)
        else:
            self.spent = before

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the time of a block."""
        start = time.perf_counter()
        yield
        self.spent[what] += (time.perf_counter() - start) * 1e3

    def info(self) -> StageInfo:
        """What is kept of it. Of a stage that was given nothing, the engine's version is ""."""
        last = self.runs[-1] if self.runs else None
        latency = [ms for one in self.runs for repeats in one.latency_ms for ms in repeats]
        text = "".join(f"{label}\n" for label in self.labels)
        return StageInfo(
            engine=str(self.how["engine"]),
            engine_version=last.engine_version if last else "",
            device=str(self.how["device"]),
            precision=self.model.precision,
            model={"name": self.model.name, "sha256": self.model.sha256},
            image=self.spec.to_json(),
            task=self.bundle.task,
            labels=len(self.labels),
            labels_sha256=hashlib.sha256(text.encode()).hexdigest(),
            inferences=len(latency),
            graph_ms=float(sum(latency)),
            peak_memory_bytes=max((one.peak_memory_bytes for one in self.runs), default=0),
            **self.spent,
        )


def fitted(spec: ImageSpec, width: int | None) -> ImageSpec:
    """How a line becomes a tensor of this width, where the width is up to the lines."""
    if width is None or spec.resize != "line" or not isinstance(spec.size, tuple):
        return spec
    return replace(spec, resize="pad", size=(spec.size[0], width))


def group_width(spec: ImageSpec, lines: Sequence[_Array]) -> int | None:
    """The width of the tensors of lines that are fed together; None where it is fixed."""
    if spec.resize != "line":
        return None
    return max(spec.placed(*line.shape[:2]).full_width for line in lines)


@dataclass(frozen=True)
class Found:
    """A line that a detector found: its corners, float32 [4, 2] on the page, and how surely."""

    corners: _Array
    score: float


def lines_in(
    outputs: Mapping[str, _Array], task: Mapping[str, Any] | None, size: tuple[int, int], name: str
) -> list[Found]:
    """The lines that a detector's outputs show on a page of this (height, width), in the order in
    which they are read."""
    scores = array_of(outputs, is_map, MAP, model=name, task=task)[0, 0]
    placed = [
        Found(corners, polygon.score)
        for polygon in polygons_of(scores, task, size)
        if (corners := on_page(polygon.corners, *size)) is not None
    ]
    return [placed[i] for i in reading_order([line.corners for line in placed])]


def is_turn(label: str, score: float, least: float) -> bool:
    """Whether a line is to be turned by 180 degrees."""
    return "180" in label and score > least


def direction(outputs: Mapping[str, _Array], labels: Sequence[str], name: str) -> tuple[int, float]:
    """The class of a line's direction and its score."""
    for value in outputs.values():
        if value.dtype.kind == "f" and value.size == len(labels):
            index = int(value.argmax())
            return index, float(value.ravel()[index])
    raise DataError(f"{name}: stage direction needs an output of {len(labels)} scores")


def read(outputs: Mapping[str, _Array], labels: Sequence[str], name: str) -> Line:
    """What a line says."""
    steps = array_of(outputs, is_steps, STEPS, model=name, task={"name": "text-recognition"})
    return line_of(steps[0], characters_of(labels, steps.shape[-1]))


def text_of(classes: Sequence[int], labels: Sequence[str]) -> str:
    """What classes say in another dictionary; those that it lacks are spaces, as CTC's last is."""
    return "".join(labels[i - 1] if i <= len(labels) else " " for i in classes)
