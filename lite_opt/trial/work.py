"""Bundles of a model, what engines answer with them, and the verdicts: each made once.

A result lies in the ledger's folder under its own name, and is taken where it was made of the same
things. It takes that name when it is whole, so that whatever kills the process leaves nothing half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import limits_for
from lite_opt.lite.targets import LITE, cannot
from lite_opt.recipes import RECIPES
from lite_opt.subject import opened
from lite_opt.trial.ledger import Ledger, made_of
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.sources import Known
from py_runner.devices import arm_device
from py_runner.errors import ConvertError, DataError, ModelError, RefusedError, UsageError
from py_runner.evaluation import evaluate
from py_runner.files.checksum import sha256
from py_runner.formats.bundle import Bundle
from py_runner.formats.parts import is_under_way
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.watch import Watch

__all__ = ["ToDo", "Work", "checksum_of", "simulates", "takes_calibration", "versions"]

_ENGINES = ("paddle-edge", "paddlepaddle", "paddlelite", "onnxruntime")  # whose versions count


class ToDo(Exception):  # noqa: N818  nothing went wrong
    """What is not made yet, where nothing is to be; `str()` is why it failed before, or ""."""


@dataclass(frozen=True)
class Work:
    """The steps on one model.

    Args:
        model: the source model; `source` is what it is read as.
        beside: `params`, `image`, `labels` and `task`, as for `convert`.
        judging: `limits` and `task_limits`, as for `convert`.
        of: a checksum of what all steps are made of.
        place: the folder of the results inside the ledger's; "" for that one itself.
        command: the words that go on with all of it.
        retry: whether what failed is tried again.
        dry: whether nothing is made: what would be raises ToDo.
    """

    model: Path
    beside: Mapping[str, Any]
    judging: Mapping[str, Any]
    source: Source
    ledger: Ledger
    of: str
    watch: Watch
    command: tuple[str, ...] = ()
    place: str = ""
    retry: bool = False
    dry: bool = False

    def path(self, name: str) -> Path:
        """Where the result of that name lies."""
        return self.ledger.folder / self.place / name

    def key(self, name: str) -> str:
        """What the ledger calls the result of that name."""
        return str(PurePosixPath(self.place, name))

    def once(
        self, name: str, of: str, make: Callable[[], str | Mapping[str, Any]], *, file: str = ""
    ) -> Mapping[str, Any]:
        """What the ledger has of a step that is made of `of`; it is made where it has nothing.

        `make` returns why it failed, "" where it did not, or what else is to be kept. `file` is the
        one in the folder `name` that comes last.
        """
        key = self.key(name)
        step = self.ledger.done(key, of)
        if step is not None and not (self.retry and "why" in step):
            self.watch.say(f"{key}: taken as it is")
            return step
        if self.dry:
            raise ToDo(str(step["why"]) if step else "")
        if not is_under_way(self.path(name)):
            self.ledger.clear(key)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        made = make()
        if isinstance(made, str):
            made = {"why": made} if made else {"file": f"{key}/{file}"}
        return self.ledger.keep(key, of, **made)

    def server(self, name: str, data: Path, of: str, *, limit: int | None = None) -> Run:
        """What the source model answers to the data, on the server engine."""

        def make() -> str:
            self.say(name, "running the source model")
            self.answered(name, self.model, data, "paddle", "cpu", "fp32", limit=limit)
            return ""

        self.once(name, of, make, file="run.json")
        return Run.open(self.path(name))

    def bundle(
        self,
        recipe: str,
        samples: Path,
        calibration: Path | None,
        *,
        of: str = "",
        truth: str | Path | None = None,
        target: Sequence[str] = LITE,
    ) -> Bundle | str:
        """A bundle by a recipe; or why there is none. `of` is a checksum of data and truth."""

        def make() -> str:
            self.say(recipe, "converting")
            self.ledger.clear(self.key(self.simulated(recipe).name))
            try:
                done = convert(
                    self.model, self.path(name), recipe=recipe, samples=samples, target=target,
                    calibration=calibration if takes_calibration(recipe) else None,
                    save_quantized=self.simulated(recipe) if simulates(recipe) else None,
                    truth=truth, look_on=False, watch=self._of(recipe), **self.beside,
                    **self.judging,
                )  # fmt: skip
            except (ConvertError, RefusedError) as error:
                return str(error)
            if done.bundle is not None:
                return ""
            broken = () if done.report is None else done.report.failures
            return done.refused or f"its self-check failed: {'; '.join(broken)}"

        name = f"{recipe}.bundle"
        all_of = made_of(
            of=self.of, data=of, recipe=asdict(RECIPES[recipe]), arm=arm_device(),
            target=target, **self.judging,
        )  # fmt: skip
        step = self.once(name, all_of, make, file="bundle.json")
        return str(step["why"]) if "why" in step else Bundle.open(self.path(name))

    def answered(
        self,
        name: str,
        path: Path,
        data: Path,
        engine: str,
        device: str,
        precision: str,
        *,
        limit: int | None = None,
        **options: Any,
    ) -> None:
        """Leave what an engine answers to the data as the Run of that name, and go on with what is
        there of it: with the bundle at `path`, or on engine paddle with a source model that
        computes in this precision; `options` are those of `Job`."""
        beside = {}
        if engine == "paddle":
            own = path == self.model
            beside = {**self.beside, "params": self.beside.get("params") if own else None}
        with opened(path, engine=engine, device=device, **beside) as subject:
            model = subject.model
            if engine == "paddle" and model.precision != "int8":
                model = replace(model, precision=precision)  # by what it simulates
            again = partial(
                evaluate,
                Job(model, engine, device, **options),
                subject.samples(data, limit=limit),
                self.path(name),
                command=self.command,
                watch=self._of(precision),
            )
            try:
                again(resume=True)
            except (UsageError, ModelError):
                if not is_under_way(self.path(name)):
                    raise
                self.ledger.clear(self.key(name))  # of other things, or damaged
                again()

    def judged(
        self,
        server: Run,
        name: str,
        bundle: Bundle | None,
        instructions: Mapping[str, int],
        *,
        truth: str | Path | None = None,
    ) -> Judged:
        """The Run of that name, of a bundle (None: of the source model), judged by the server's."""
        edge = Run.open(self.path(name))
        if bundle is not None:
            server = replace(server, noise=Run.open(bundle.path / "reference").noise)
        report: Report = compare(
            server,
            edge,
            limits=limits_for(edge.precision, **self.judging["limits"]),
            task_limits=self.judging["task_limits"],
            truth=truth,
        )
        ran = None if edge.engine == "paddle" else bundle
        size = None if bundle is None else bundle.targets["arm"].bytes
        return Judged(edge, report, str(self.path(name)), Known(ran, size, instructions))

    def simulated(self, recipe: str) -> Path:
        """Where the model lies by which the server computes as the recipe does."""
        return self.path(f"{recipe}.simulated")

    def say(self, recipe: str, text: str) -> None:
        """Tell of a step, with what it is of before it."""
        self.watch.say(f"{self.key(recipe)}: {text}")

    def _of(self, recipe: str) -> Watch:
        """What a step tells, with what it is of before it."""
        return replace(
            self.watch,
            say=lambda text: self.say(recipe, text),
            warn=lambda text: self.watch.warn(f"{self.key(recipe)}: {text}"),
        )


def simulates(recipe: str) -> bool:
    """Whether x86 cannot compute a recipe, so that the server does by its arithmetic."""
    return bool(cannot("x86", RECIPES[recipe]))


def takes_calibration(recipe: str) -> bool:
    """Whether a recipe looks at data that calibrate."""
    return RECIPES[recipe].calibration is not None or RECIPES[recipe].rounds_for_data


def versions() -> dict[str, str]:
    """Those of the engines that are here, and of the kit."""
    found = {}
    for name in _ENGINES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def checksum_of(path: str | Path | None) -> str:
    """Of a file, or of all files of a folder; "" of nothing. Raises DataError where it is not
    there."""
    if path is None:
        return ""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return sha256(*files)
