"""The cells of a matrix: which there are, which can be, and what came of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lite_opt.judge.evidence import emulated
from lite_opt.lite.targets import cannot
from lite_opt.recipes import RECIPES
from lite_opt.trial.plan import Plan
from lite_opt.trial.work import simulates
from lite_opt.views.report.judged import Judged, agreement
from py_runner.devices import plain_name
from py_runner.errors import UsageError
from py_runner.inference import bundle_target

__all__ = ["Cell", "Result", "cells_of", "impossible", "selected"]


@dataclass(frozen=True)
class Cell:
    """One of each, by name."""

    model: str
    data: str
    recipe: str
    engine: str
    device: str

    @property
    def words(self) -> tuple[str, ...]:
        """In the order of the table's columns."""
        return self.model, self.data, self.recipe, self.engine, self.device

    @property
    def run(self) -> str:
        """The folder of its Run, in that of its model."""
        device = plain_name(self.device)
        if device != self.device:  # others may be written alike
            device += "-" + hashlib.sha256(self.device.encode()).hexdigest()[:6]
        return f"{self.data}/{self.recipe}-{self.engine}-{device[-100:]}.run"


@dataclass(frozen=True)
class Result:
    """What came of a cell. `state` is "done", "kept" (from before), "failed", "impossible", "to do"
    (in a dry run), or "left out"; `why` says why there is no verdict, or that it is red; `wanted`
    is whether it was worked at."""

    cell: Cell
    state: str
    judged: Judged | None = None
    why: str = ""
    bundle: Path | None = None
    wanted: bool = True

    @property
    def verdict(self) -> str:
        """As `Evidence` has it; "" where nothing was judged."""
        return "" if self.judged is None else self.judged.seen.status

    def to_json(self) -> dict[str, Any]:
        """Names, state, verdict and the figures of a table; an emulator's latency is none."""
        report = None if self.judged is None else self.judged.report
        alike = None if report is None else agreement(report)
        about = {} if report is None else report.candidate
        latency = about["latency"].get("p50_ms") if about and not emulated(about) else None
        return {
            **asdict(self.cell),
            "state": self.state,
            "verdict": self.verdict or None,
            "why": self.why or None,
            "run": None if self.judged is None else self.judged.folder,
            "bundle": None if self.bundle is None else str(self.bundle),
            "agreement": None if alike is None else alike.value,
            "cosine": None if report is None else min(o.cosine for o in report.outputs),
            "p50_ms": latency,
        }

    @property
    def red(self) -> bool:
        """Whether it is wanted, and failed or what it answers is not within its limits."""
        broken = self.judged is not None and not self.judged.report
        return self.wanted and (self.state == "failed" or broken)


def cells_of(plan: Plan) -> list[Cell]:
    """All cells, those of a model and data together."""
    names = [[one.name for one in plan.models], [one.name for one in plan.data]]
    return [Cell(*one) for one in product(*names, plan.recipes, plan.engines, plan.devices)]


def selected(cells: Sequence[Cell], only: Sequence[str]) -> set[Cell]:
    """The cells that have all the names of one of these texts, in which they stand with commas
    between; of no text all. Raises UsageError for a name that no cell has."""
    known = {word for cell in cells for word in cell.words}
    groups = [{word.strip() for word in text.split(",")} for text in only]
    for name in (name for group in groups for name in sorted(group)):
        if name not in known:
            raise UsageError(f"--only {name}: no cell has that: choose {', '.join(sorted(known))}")
    return {c for c in cells if not groups or any(g <= {*c.words} for g in groups)}


def impossible(cell: Cell) -> str:
    """Why there is nothing to run of a cell, whatever the model; "" where there is."""
    try:
        target = bundle_target(cell.engine, cell.device)
    except UsageError as error:
        return str(error)
    if cell.engine != "paddle":
        return cannot(target, RECIPES[cell.recipe])
    if cell.recipe == "fp32" or simulates(cell.recipe):
        return ""
    return "the server computes fp32, and fp16 and int8 by their arithmetic"
