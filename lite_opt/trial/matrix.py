"""Models, recipes, engines, devices and data, each with each: made once, and judged.

FOLDER/
  matrix.json                      what each result was made of
  report.html                      all cells, and which page tells more
  <model>/<recipe>.bundle
  <model>/<data>/server.run        what the source model answers
  <model>/<data>/<recipe>-<engine>-<device>.run
  <model>/<data>.html              the report of these
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

from lite_opt.conversion.source import Source
from lite_opt.judge.evidence import emulated
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.lite.targets import LITE, cannot
from lite_opt.model.load import load
from lite_opt.recipes import RECIPES
from lite_opt.trial.ledger import Ledger, made_of
from lite_opt.trial.plan import Data, ModelEntry, Plan
from lite_opt.trial.work import ToDo, Work, checksum_of, simulates, versions
from lite_opt.views.matrix import matrix_page
from lite_opt.views.report.judged import Judged, agreement
from lite_opt.views.report.page import html_page
from py_runner.data.mentions import with_mentioned
from py_runner.errors import ModelError, PaddleEdgeError, UsageError
from py_runner.files.checksum import sha256
from py_runner.files.folder import whole_file
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import bundle_target
from py_runner.watch import QUIET, Watch

__all__ = ["Cell", "Matrix", "Result", "run_matrix"]

_LEDGER = "matrix.json"


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
        device = re.sub(r"[^\w.-]+", "_", self.device.removeprefix("ssh://"))
        if device != self.device:  # others may be written alike
            device += "-" + hashlib.sha256(self.device.encode()).hexdigest()[:6]
        return f"{self.data}/{self.recipe}-{self.engine}-{device[-100:]}.run"


@dataclass(frozen=True)
class Result:
    """What came of a cell. `state` is "done", "kept" (from before), "failed", "impossible", "to do"
    (in a dry run), or "left out"; `why` says why there is no verdict, or that it is red."""

    cell: Cell
    state: str
    judged: Judged | None = None
    why: str = ""
    bundle: Path | None = None

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
        """Whether it failed, or what it answers is not within its limits."""
        return self.state == "failed" or (self.judged is not None and not self.judged.report)


@dataclass(frozen=True)
class Matrix:
    """What came of all cells. `bool(matrix)` is whether none is red. `pages` are those of each
    model and data; `page` leads to them."""

    results: tuple[Result, ...]
    page: Path | None = None
    pages: Mapping[tuple[str, str], Path] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not any(one.red for one in self.results)


Tell = Callable[[Result, int, int], None]  # a result, its number, and how many there are


def _cells(plan: Plan) -> list[Cell]:
    """All cells, those of a model and data together."""
    names = [[one.name for one in plan.models], [one.name for one in plan.data]]
    return [Cell(*one) for one in product(*names, plan.recipes, plan.engines, plan.devices)]


def _selected(cells: Sequence[Cell], only: Sequence[str]) -> set[Cell]:
    """The cells that have all the names of one of these texts, in which they stand with commas
    between; of no text all. Raises UsageError for a name that no cell has."""
    known = {word for cell in cells for word in cell.words}
    groups = [{word.strip() for word in text.split(",")} for text in only]
    for name in (name for group in groups for name in sorted(group)):
        if name not in known:
            raise UsageError(f"--only {name}: no cell has that: choose {', '.join(sorted(known))}")
    return {c for c in cells if not groups or any(g <= {*c.words} for g in groups)}


def run_matrix(
    plan: Plan,
    folder: str | Path,
    *,
    only: Sequence[str] = (),
    dry: bool = False,
    command: str = "",
    tell: Tell = lambda *_: None,
    watch: Watch = QUIET,
) -> Matrix:
    """Make what is not there yet, judge everything, and write the page.

    Args:
        only: work at these cells alone, see `_selected`.
        dry: make nothing; say of each cell what would be done.
        command: the command line, for the page.
        tell: is told of each cell as soon as it is known what came of it.

    A cell that fails is a Result; the others go on. It is tried again by the next call. Raises
    UsageError where the folder cannot be used.
    """
    cells = _cells(plan)
    wanted = _selected(cells, only)
    ledger = Ledger(Path(folder), _LEDGER)
    results: list[Result] = []
    with nullcontext() if dry else ledger.held():
        crossing = _Crossing(plan, ledger, dry, watch)
        for model in plan.models:
            for result in crossing.of(model, [c for c in cells if c.model == model.name], wanted):
                results.append(result)
                tell(result, len(results), len(cells))
        if dry:
            return Matrix(tuple(results))
        pages: dict[tuple[str, str], Path] = {}
        for key, own in groupby(results, key=lambda one: (one.cell.model, one.cell.data)):
            page = _page(plan, ledger.folder, list(own), crossing.servers, command)
            pages |= {} if page is None else {key: page}
        done = Matrix(tuple(results), ledger.folder / "report.html", pages)
        _leading_page(done, plan.path.stem, command)
    return done


class _Crossing:
    """The cells of a plan, model by model. `servers` are the Runs that they were judged by."""

    def __init__(self, plan: Plan, ledger: Ledger, dry: bool, watch: Watch) -> None:
        self.plan, self.ledger, self.dry, self.watch = plan, ledger, dry, watch
        self.servers: dict[tuple[str, str], Run] = {}
        self._bundles: dict[tuple[str, str], Bundle | PaddleEdgeError | ToDo] = {}
        self._data = {one.name: one for one in plan.data}
        self._sums: dict[str, str] = {}

    def of(self, model: ModelEntry, cells: Sequence[Cell], wanted: set[Cell]) -> Iterator[Result]:
        """What comes of the cells of a model."""
        try:
            work = self._work(model)
        except PaddleEdgeError as error:
            yield from (Result(cell, "failed", why=str(error)) for cell in cells)
            return
        for cell in cells:
            why = _impossible(cell)
            if why:
                yield Result(cell, "impossible", why=why)
                continue
            dry = self.dry or cell not in wanted
            try:
                yield self._judged(cell, replace(work, dry=dry))
            except ToDo as what:
                yield Result(cell, "to do" if cell in wanted else "left out", why=str(what))
            except PaddleEdgeError as error:
                # What a board lacks says nothing of the model.
                lacking = lacks_fp16(str(error)) if cell.recipe == "fp16" else ""
                told = " ".join(str(error).split())
                yield Result(cell, "impossible" if lacking else "failed", why=lacking or told)
            except Exception as error:
                told = " ".join(str(error).split())
                why = f"internal error: {type(error).__name__}: {told}"
                yield Result(cell, "failed", why=why)

    def _work(self, model: ModelEntry) -> Work:
        beside = model.beside
        program = load(model.path, params=beside["params"])
        aside = {name: beside[name] for name in ("image", "labels", "task")}
        source = Source.of(program, **aside)
        read = [source.image and source.image.to_json(), source.labels, source.task]
        of = made_of(model=source.files.sha256(), beside=read, versions=versions())
        judging = {"limits": self.plan.limits, "task_limits": self.plan.task_limits}
        return Work(
            model.path, beside, judging, source, self.ledger, of, self.watch, model.name, retry=True
        )

    def _judged(self, cell: Cell, work: Work) -> Result:
        data = self._data[cell.data]
        server = self._server(work, data)
        bundle = None
        if cell.engine != "paddle" or simulates(cell.recipe):
            bundle = self._bundle(work, cell.recipe)
        state = self._run(work, cell, data, bundle)
        try:
            judged = work.judged(server, cell.run, bundle, {}, truth=data.truth)
        except ModelError:
            if not work.dry:
                self.ledger.clear(work.key(cell.run))  # damaged: the next call makes it again
            raise
        path = None if bundle is None else bundle.path
        return Result(cell, state, judged, "; ".join(judged.report.failures), path)

    def _server(self, work: Work, data: Data) -> Run:
        key = (work.place, data.name)
        if key not in self.servers:
            of = made_of(of=work.of, data=self._sum(data))
            name = f"{data.name}/server.run"
            self.servers[key] = work.server(name, data.path, of, limit=data.limit)
        return self.servers[key]

    def _bundle(self, work: Work, recipe: str) -> Bundle:
        """Of each model and recipe one, which is tried once."""
        key = (work.place, recipe)
        if key not in self._bundles or isinstance(self._bundles[key], ToDo):
            self._bundles[key] = self._made(work, recipe)
        found = self._bundles[key]
        if isinstance(found, Bundle):
            return found
        raise found

    def _made(self, work: Work, recipe: str) -> Bundle | PaddleEdgeError | ToDo:
        first = self.plan.data[0]
        onnx = "onnx" in self.plan.engines and not cannot("onnx", RECIPES[recipe])
        calibration = self.plan.calibration
        try:
            of = made_of(
                first=self._sum(first), truth=checksum_of(first.truth),
                calibration="" if calibration is None else _checksum(calibration),
            )  # fmt: skip
            made = work.bundle(
                recipe, first.path, calibration, of=of, truth=first.truth,
                target=(*LITE, "onnx") if onnx else LITE,
            )  # fmt: skip
        except (PaddleEdgeError, ToDo) as error:
            return error
        return PaddleEdgeError(made) if isinstance(made, str) else made

    def _run(self, work: Work, cell: Cell, data: Data, bundle: Bundle | None) -> str:
        """Have the engine of a cell answer: "done", or "kept" where it has before."""
        state = "kept"

        def make() -> str:
            nonlocal state
            state = "done"
            path = work.model if bundle is None else bundle.path
            if cell.engine == "paddle" and bundle is not None:
                path = work.simulated(cell.recipe)
            work.say(cell.run, "running it")
            try:
                work.answered(
                    cell.run, path, data.path, cell.engine, cell.device, cell.recipe,
                    limit=data.limit, **self.plan.options,
                )  # fmt: skip
            except PaddleEdgeError as error:
                return str(error)
            return ""

        of = made_of(
            of=work.of, data=self._sum(data), bundle=bundle and bundle.sha256,
            device=cell.device, options=self.plan.options,
        )  # fmt: skip
        step = work.once(cell.run, of, make, file="run.json")
        if "why" in step:
            raise PaddleEdgeError(str(step["why"]))
        return state

    def _sum(self, data: Data) -> str:
        if data.name not in self._sums:
            self.watch.say(f"reading {data.path}")
            self._sums[data.name] = made_of(files=_checksum(data.path), limit=data.limit)
        return self._sums[data.name]


def _impossible(cell: Cell) -> str:
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


def _checksum(path: Path) -> str:
    """Of a data set's files with their names: of a folder all, of a list those that it names."""
    files = {p for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path}
    files |= {p for p in with_mentioned([path]) if p.is_file()}
    return made_of(files=[(str(file), sha256(file)) for file in sorted(files)])


def _page(
    plan: Plan, folder: Path, own: Sequence[Result], servers: Mapping[Any, Run], command: str
) -> Path | None:
    """The report on a model and data; None where nothing was judged."""
    model, data, *_ = own[0].cell.words
    ran = [one.judged for one in own if one.judged is not None]
    if not ran:
        return None
    page = folder / model / f"{data}.html"
    besides = [
        f"Not judged here: {', '.join(one.cell.words[2:])}: {one.why or one.state}"
        for one in own
        if one.judged is None
    ]
    text = html_page(
        servers[model, data], ran, folder=str(folder / model / data / "server.run"),
        data=next(one.path for one in plan.data if one.name == data), command=command,
        besides=besides,
    )  # fmt: skip
    with whole_file(page) as file:
        file.write(text.encode())
    return page


def _leading_page(done: Matrix, title: str, command: str) -> None:
    """Write the page of all cells, which leads to those of models and data."""
    assert done.page is not None
    rows = []
    for one in done.results:
        link = f"{one.cell.model}/{one.cell.data}.html" if one.judged is not None else None
        rows.append(one.to_json() | {"page": link})
    with whole_file(done.page) as file:
        file.write(matrix_page(rows, bool(done), title=title, command=command).encode())
