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

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lite_opt.conversion.source import Source
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.lite.targets import LITE, cannot
from lite_opt.model.load import load
from lite_opt.recipes import RECIPES
from lite_opt.trial.cells import Cell, Result, cells_of, impossible, selected
from lite_opt.trial.ledger import Ledger, made_of
from lite_opt.trial.plan import Data, ModelEntry, Plan
from lite_opt.trial.work import ToDo, Work, checksum_of, simulates, versions
from lite_opt.views.matrix import matrix_page
from lite_opt.views.report.page import html_page
from py_runner.data.mentions import with_mentioned
from py_runner.errors import ModelError, PaddleEdgeError
from py_runner.files.checksum import sha256
from py_runner.files.folder import whole_file
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import bundle_target
from py_runner.watch import QUIET, Watch

__all__ = ["Matrix", "run_matrix"]

_LEDGER = "matrix.json"


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
        only: work at these cells alone, see `cells.selected`.
        dry: make nothing; say of each cell what would be done.
        command: the command line, for the page.
        tell: is told of each cell as soon as it is known what came of it.

    A cell that fails is a Result; the others go on. It is tried again by the next call. Raises
    UsageError where the folder cannot be used.
    """
    cells = cells_of(plan)
    wanted = selected(cells, only)
    ledger = Ledger(Path(folder), _LEDGER)
    results: list[Result] = []
    with nullcontext() if dry else ledger.held():
        crossing = _Crossing(plan, ledger, dry, tuple(shlex.split(command)), watch)
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

    def __init__(
        self, plan: Plan, ledger: Ledger, dry: bool, command: tuple[str, ...], watch: Watch
    ) -> None:
        self.plan, self.ledger, self.dry = plan, ledger, dry
        self.command, self.watch = command, watch
        self.servers: dict[tuple[str, str], Run] = {}
        self._known: dict[tuple[str, ...], Any] = {}
        self._data = {one.name: one for one in plan.data}
        self._sums: dict[str, str] = {}

    def of(self, model: ModelEntry, cells: Sequence[Cell], wanted: set[Cell]) -> Iterator[Result]:
        """What comes of the cells of a model; of those that are not wanted what is there."""
        work: Work | PaddleEdgeError
        try:
            work = self._work(model)
        except PaddleEdgeError as error:
            work = error
        for cell in cells:
            result = self._result(cell, work, self.dry or cell not in wanted)
            if cell not in wanted:
                there = result.state in ("kept", "impossible")
                result = replace(result, state=result.state if there else "left out", wanted=False)
            yield result

    def _result(self, cell: Cell, work: Work | PaddleEdgeError, dry: bool) -> Result:
        why = impossible(cell)
        if why:
            return Result(cell, "impossible", why=why)
        try:
            if isinstance(work, PaddleEdgeError):
                raise work
            return self._judged(cell, replace(work, dry=dry))
        except ToDo as what:
            return Result(cell, "to do", why=str(what))
        except PaddleEdgeError as error:
            # What a board lacks says nothing of the model.
            lacking = lacks_fp16(str(error)) if cell.recipe == "fp16" else ""
            told = " ".join(str(error).split())
            return Result(cell, "impossible" if lacking else "failed", why=lacking or told)
        except Exception as error:
            told = " ".join(str(error).split())
            return Result(cell, "failed", why=f"internal error: {type(error).__name__}: {told}")

    def _work(self, model: ModelEntry) -> Work:
        beside = model.beside
        program = load(model.path, params=beside["params"])
        aside = {name: beside[name] for name in ("image", "labels", "task")}
        source = Source.of(program, **aside)
        read = [source.image and source.image.to_json(), source.labels, source.task]
        of = made_of(model=source.files.sha256(), beside=read, versions=versions())
        judging = {"limits": self.plan.limits, "task_limits": self.plan.task_limits}
        return Work(
            model.path, beside, judging, source, self.ledger, of, self.watch, self.command,
            model.name, retry=True,
        )  # fmt: skip

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
        def make() -> Run:
            of = made_of(of=work.of, data=self._sum(data))
            return work.server(f"{data.name}/server.run", data.path, of, limit=data.limit)

        run: Run = self._tried((work.place, "data", data.name), make)
        self.servers[work.place, data.name] = run
        return run

    def _bundle(self, work: Work, recipe: str) -> Bundle:
        """One of each model and recipe. Raises PaddleEdgeError that says why there is none."""
        first, calibration = self.plan.data[0], self.plan.calibration
        onnx = "onnx" in self.plan.engines and not cannot("onnx", RECIPES[recipe])

        def make() -> Bundle:
            of = made_of(
                first=self._sum(first), truth=checksum_of(first.truth),
                calibration="" if calibration is None else _checksum(calibration),
            )  # fmt: skip
            made = work.bundle(
                recipe, first.path, calibration, of=of, truth=first.truth,
                target=(*LITE, "onnx") if onnx else LITE,
            )  # fmt: skip
            if isinstance(made, str):
                raise PaddleEdgeError(made)
            return made

        bundle: Bundle = self._tried((work.place, "recipe", recipe), make)
        return bundle

    def _tried(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """What several cells need: it is made, or fails, once."""
        if key not in self._known:
            try:
                self._known[key] = make()
            except PaddleEdgeError as error:
                self._known[key] = error
        if isinstance(self._known[key], PaddleEdgeError):
            raise self._known[key]
        return self._known[key]

    def _run(self, work: Work, cell: Cell, data: Data, bundle: Bundle | None) -> str:
        """Have the engine of a cell answer: "done", or "kept" where it has before."""
        state = "kept"
        target = bundle_target(cell.engine, cell.device)
        if bundle is not None and cell.engine != "paddle" and target not in bundle.targets:
            told = bundle.check["targets"]["arm"]
            raise PaddleEdgeError(f"its bundle has no file for {target}: {told}")

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


def _checksum(path: Path) -> str:
    """Of a data set's files with their names: of a folder all, of a list those that it names."""
    files = {p for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path}
    files |= {p for p in with_mentioned([path]) if p.is_file()}
    names = {os.path.relpath(file, path): file for file in files}
    return made_of(files=[(name, sha256(names[name])) for name in sorted(names)])


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
