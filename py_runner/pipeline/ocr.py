"""Run a pipeline that reads pages: detect lines, cut them out, turn them, read them.

Pages are worked on in portions, stage after stage, so that an engine is started once a portion and
few pixels are in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.data.crop import cut, upside_down
from py_runner.data.decode import open_image
from py_runner.data.image_files import pictures
from py_runner.errors import DataError, UsageError
from py_runner.formats.pages import Line, Page, Pages, Turn
from py_runner.formats.pipeline import Pipeline
from py_runner.formats.run import machine
from py_runner.inference import bundle_target
from py_runner.pipeline.fed import Feeding
from py_runner.pipeline.stages import (
    Found,
    Stage,
    direction,
    group_width,
    is_turn,
    lines_in,
    read,
)
from py_runner.tensors import Model, digest
from py_runner.watch import QUIET, Watch

__all__ = ["read_pages"]

_Array = npt.NDArray[Any]
_PORTION = 48  # pages


@dataclass
class _Cut:
    """A line on its way through the stages; `pixels` are turned when that is known."""

    found: Found
    pixels: _Array
    sha256: str
    turn: Turn | None = None
    line: Line | None = None


@dataclass
class _Sheet:
    """A page on its way."""

    id: str
    pixels: str
    tensor: str
    height: int
    width: int
    lines: list[_Cut] = field(default_factory=list)

    def page(self) -> Page:
        lines = tuple(cut.line for cut in self.lines if cut.line is not None)
        return Page(self.id, self.pixels, self.tensor, self.height, self.width, lines)


def read_pages(
    pipeline: Pipeline,
    data: str | Path,
    *,
    models: Mapping[str, Model] | None = None,
    engine: str = "lite",
    device: str = "cpu",
    limit: int | None = None,
    skip_bad: bool = False,
    against: Pages | None = None,
    watch: Watch = QUIET,
    **how: Any,
) -> Pages:
    """What a pipeline reads on the pages of a folder, a list, or one picture.

    Args:
        models: what the stages run, by their names, for engine `paddle`: the source models.
        engine, device, how: as of `inference.run`, for every stage.
        skip_bad: pass over pictures that cannot be decoded.
        against: a run of the same pages: each stage is also fed what that run's stage was fed, see
            `Fed`.

    Raises UsageError where a library or a source model is missing, DataError for pages at fault,
    and what `inference.run` raises.
    """
    start = time.perf_counter()
    files = pictures(Path(data))[:limit]
    warn = dict.fromkeys(pipeline.stages, False)
    stages = {
        name: Stage(
            name,
            bundle,
            _model(pipeline, name, models, engine, device),
            {**how, "engine": engine, "device": device},
            _of_stage(watch, name, warn),
        )
        for name, bundle in pipeline.stages.items()
    }
    reading = _Reading(pipeline, stages, skip_bad)
    feeding = Feeding(against, pipeline, stages) if against is not None else None
    pages: list[Page] = []
    for begin in range(0, len(files), _PORTION):
        portion = reading.portion(files[begin : begin + _PORTION])
        pages += portion
        watch.step("pages", len(pages), len(files))
        if feeding is not None:
            feeding.add(portion, dict(files))
    if not pages:
        raise DataError(f"{data}: all {len(files)} pages are bad: {reading.skipped[0][1]}")
    return Pages(
        pipeline={"name": pipeline.name, "sha256": pipeline.sha256},
        kind=pipeline.kind,
        options=pipeline.options,
        machine=machine(),
        created=datetime.now(timezone.utc).isoformat(),
        wall_s=time.perf_counter() - start,
        decode_ms=reading.spent["decode"],
        crop_ms=reading.spent["crop"],
        stages={name: stage.info() for name, stage in stages.items()},
        pages=tuple(pages),
        skipped=tuple(reading.skipped),
        fed=feeding.result() if feeding is not None else None,
    )


def _model(
    pipeline: Pipeline, name: str, models: Mapping[str, Model] | None, engine: str, device: str
) -> Model:
    """What a stage runs, with the bundle's own task and labels."""
    bundle = pipeline.stages[name]
    if engine != "paddle":
        return bundle.model(bundle_target(engine, device))
    if models is None or name not in models:
        raise UsageError(
            f"{pipeline.path}: engine paddle runs the models that the stages were made from "
            f"({name}: {bundle.source.get('file')}): name them, such as --server {name}=MODEL"
        )
    return replace(models[name], task=bundle.task, labels=bundle.labels)


def _of_stage(watch: Watch, name: str, warned: dict[str, bool]) -> Watch:
    """What a stage says: once, with its name."""

    def warn(text: str) -> None:
        if not warned[name]:
            watch.warn(f"{name}: {text}")
        warned[name] = True

    return replace(watch, warn=warn)


@dataclass
class _Reading:
    """The stages of one run, with what is counted over its portions."""

    pipeline: Pipeline
    stages: Mapping[str, Stage]
    skip_bad: bool
    spent: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "crop": 0.0})
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def portion(self, files: Sequence[tuple[str, Path]]) -> list[Page]:
        """A few pages through all stages."""
        sheets = self._detect(files)
        lines = {f"{i}.{k}": cut for i, s in enumerate(sheets) for k, cut in enumerate(s.lines)}
        if "direction" in self.stages:
            self._turn(lines)
        self._recognize(sheets)
        return [sheet.page() for sheet in sheets]

    def _detect(self, files: Sequence[tuple[str, Path]]) -> list[_Sheet]:
        stage = self.stages["detection"]
        sheets: dict[str, _Sheet] = {}
        open_: dict[str, _Array] = {}  # pages whose lines are not known yet

        def tensors() -> Iterator[tuple[str, _Array]]:
            for id_, file in files:
                pixels = self._decoded(id_, file, stage)
                if pixels is None:
                    continue
                tensor = stage.tensor(pixels)
                open_[id_] = pixels
                height, width = pixels.shape[:2]
                sheets[id_] = _Sheet(id_, digest(pixels), digest(tensor), height, width)
                yield id_, tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            pixels = open_.pop(id_)
            size = (pixels.shape[0], pixels.shape[1])
            found = lines_in(outputs, stage.bundle.task, size, stage.model.name)
            start = time.perf_counter()
            for line in found:
                cut_out = cut(pixels, line.corners)
                sheets[id_].lines.append(_Cut(line, cut_out, digest(cut_out)))
            spent = (time.perf_counter() - start) * 1e3
            self.spent["crop"] += spent
            stage.spent["answer_ms"] -= spent  # within which this was called

        stage.answer(tensors(), take, count=True)
        return list(sheets.values())

    def _decoded(self, id_: str, file: Path, stage: Stage) -> _Array | None:
        start = time.perf_counter()
        try:
            return np.asarray(open_image(file, stage.spec))
        except DataError as error:
            if not self.skip_bad:
                raise
            self.skipped.append((id_, str(error)))
            return None
        finally:
            self.spent["decode"] += (time.perf_counter() - start) * 1e3

    def _turn(self, lines: Mapping[str, _Cut]) -> None:
        stage = self.stages["direction"]
        fed: dict[str, str] = {}

        def tensors() -> Iterator[tuple[str, _Array]]:
            for id_, line in lines.items():
                tensor = stage.tensor(line.pixels)
                fed[id_] = digest(tensor)
                yield id_, tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            index, score = direction(outputs, stage.labels, stage.model.name)
            label, line = stage.labels[index], lines[id_]
            turned = is_turn(label, score, self.pipeline.options.turn_score)
            line.turn = Turn(fed[id_], index, label, score, turned)
            if turned:
                line.pixels = upside_down(line.pixels)

        stage.answer(tensors(), take, count=True)

    def _recognize(self, sheets: Sequence[_Sheet]) -> None:
        stage, options = self.stages["recognition"], self.pipeline.options
        # Padded with those of their page, and all pages in the order of widths: an engine that is
        # opened anew for another shape is so less often.
        waiting: list[tuple[int, _Cut]] = []
        for sheet in sheets:
            ordered = sorted(sheet.lines, key=lambda c: c.pixels.shape[1] / c.pixels.shape[0])
            for begin in range(0, len(ordered), options.batch):
                group = ordered[begin : begin + options.batch]
                width = group_width(stage.spec, [line.pixels for line in group])
                waiting += [(width or 0, line) for line in group]
        waiting.sort(key=lambda entry: entry[0])
        fed: dict[str, tuple[str, int]] = {}

        def tensors() -> Iterator[tuple[str, _Array]]:
            for place, (width, line) in enumerate(waiting):
                tensor = stage.tensor(line.pixels, width or None)
                fed[str(place)] = digest(tensor), tensor.shape[-1]
                yield str(place), tensor

        def take(id_: str, outputs: Mapping[str, _Array]) -> None:
            line = waiting[int(id_)][1]
            said = read(outputs, stage.labels, stage.model.name)
            tensor, width = fed[id_]
            line.line = Line(
                points=tuple(tuple(map(float, point)) for point in line.found.corners),
                found=line.found.score,
                pixels=line.sha256,
                turn=line.turn,
                tensor=tensor,
                width=width,
                classes=said.classes,
                text=said.text or "",
                score=said.score,
                kept=said.score >= options.line_score,
            )

        stage.answer(tensors(), take, count=True)
