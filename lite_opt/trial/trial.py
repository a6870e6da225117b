"""One model, its data, every recipe: converted, run, counted and judged, and which one to ship.

A part of the data calibrates, the rest judges. Each step's result lies in the folder of the trial
under its own name, and is taken where it was made of the same things (`work`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.bench import count
from lite_opt.conversion.source import Source
from lite_opt.judge.limits import limits_for, task_limits_for
from lite_opt.lite.refusals import lacks_fp16
from lite_opt.model.load import load
from lite_opt.recipes import RECIPES, recipe
from lite_opt.trial.ledger import Ledger, made_of
from lite_opt.trial.work import Work, checksum_of, simulates, takes_calibration, versions
from lite_opt.views.report.judged import Judged, recommendation
from lite_opt.views.report.page import html_page
from py_runner.data.dataset import Dataset, dataset
from py_runner.data.labels import class_names
from py_runner.data.source import Wanted
from py_runner.data.split import part_of, write_part
from py_runner.devices import BOARDS, FORMS, arm_device, board_words, is_remote
from py_runner.errors import DataError, EngineError, RefusedError, UsageError
from py_runner.files.folder import whole_file, whole_folder
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.tasks import name_of
from py_runner.tensors import sample_hash
from py_runner.watch import QUIET, Watch

__all__ = ["Trial", "Tried", "boards_of", "recipes_of", "try_recipes"]

_CALIBRATE, _JUDGE = 128, 256  # samples at most
_BOARDS = ("qemu-aarch64:pi4", "qemu-aarch64:pi5")  # of each family of int8 kernels


@dataclass(frozen=True)
class Tried:
    """What came of a recipe: its bundle, and the verdict on what that answered. `judged` is None
    where there is no bundle, or nothing ran it: `why` says why. `command` makes the bundle again,
    `uncounted` says of boards why they counted nothing."""

    recipe: str
    command: str
    bundle: Path | None = None
    judged: Judged | None = None
    why: str = ""
    uncounted: Mapping[str, str] | None = None

    @property
    def status(self) -> str:
        """As `Evidence` has it; "failed" where nothing was judged."""
        return self.judged.seen.status if self.judged is not None else "failed"


@dataclass(frozen=True)
class Trial:
    """What came of all recipes. `bool(trial)` is whether there is one to ship. `page` is None where
    nothing could be judged; `calibrated` and `judged` are the numbers of samples."""

    server: Run
    tried: tuple[Tried, ...]
    page: Path | None
    seed: int
    calibrated: int
    judged: int

    def __bool__(self) -> bool:
        return self.chosen is not None

    @property
    def chosen(self) -> tuple[Tried, str] | None:
        """The recipe to ship, and why; None where none holds its limits."""
        ran = [one for one in self.tried if one.judged is not None]
        found = recommendation([one.judged for one in ran if one.judged is not None])
        return None if found is None else (ran[found[0]], found[1])


def recipes_of(text: str) -> tuple[str, ...]:
    """Names of recipes, separated by commas, or "all". Raises UsageError for one there is not."""
    names = tuple(RECIPES) if text.strip() == "all" else tuple(text.split(","))
    return tuple(dict.fromkeys(recipe(name.strip()).name for name in names))


def boards_of(text: str | None) -> tuple[str, ...]:
    """The emulated boards by these names, separated by commas, as devices: "pi4" is
    "qemu-aarch64:pi4". By default a Pi 4 and a Pi 5, where boards are set up.

    Raises UsageError for one there is not, EngineError for one that is not set up."""
    if text is None:
        return tuple(name for name in _BOARDS if not BOARDS[name].missing())
    found = []
    for name in map(str.strip, text.split(",")):
        device = next((d for d in BOARDS if name in (d, d.partition(":")[2])), None)
        if device is None or not name:
            raise UsageError(f"unknown board '{name}': choose {', '.join(board_words())}")
        if missing := BOARDS[device].missing():
            raise EngineError(f"board {name}: {missing}")
        found.append(device)
    return tuple(dict.fromkeys(found))


def try_recipes(
    model: str | Path,
    data: str | Path,
    folder: str | Path,
    *,
    recipes: Sequence[str] = tuple(RECIPES),
    boards: Sequence[str] = (),
    device: str | None = None,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    limits: Mapping[str, float | None] | None = None,
    truth: str | Path | None = None,
    task_limits: Mapping[str, float] | None = None,
    seed: int = 0,
    limit: int | None = None,
    command: str = "",
    watch: Watch = QUIET,
) -> Trial:
    """Convert a model by every recipe, run and count what comes of it, and judge it by the model.

    Args:
        model, params, image, labels, task, limits, truth, task_limits: as for `convert`.
        data: the data set: up to half of it, 128 samples at most, calibrate; of the others up to
            256 judge. Which ones the seed says.
        folder: where results are left, and taken from where they are of the same making.
        boards: emulated boards, on which ARM instructions are counted. What is made for ARM runs on
            the first that can run it; without one x86 judges, or the server for x86.
        device: the device that runs it instead, of engine native: "ssh://..." or "adb://...".
        limit: use so many samples at most.
        command: the command line, for the page.

    Raises what `convert` and `run` raise, but for a recipe that cannot be made or fails.
    """
    places = _places(device, boards)
    program = load(model, params=params)
    source = Source.of(program, image=image, labels=labels, task=task)
    limits_for("fp32", **(limits or {}))
    task_limits_for(name_of(source.task), "fp32", **(task_limits or {}))
    if source.precision == "int8" and tuple(recipes) == tuple(RECIPES):
        recipes = ("fp32",)  # it brings its own
    wanted = Wanted(source.inputs, source.image, class_names(source.labels, source.task))
    chosen = _Chosen.of(Path(data), wanted, seed, limit)
    ledger = Ledger(Path(folder))
    of = made_of(
        model=source.files.sha256(), data=chosen.sha256(watch), versions=versions(),
        beside=[source.image and source.image.to_json(), source.labels, source.task],
        truth=checksum_of(truth),
    )  # fmt: skip
    with ledger.held():
        work = Work(
            Path(model),
            {"params": params, "image": image, "labels": labels, "task": task},
            {"limits": limits or {}, "task_limits": task_limits or {}},
            source,
            ledger,
            of,
            watch,
            tuple(shlex.split(command)),
        )
        trial = _Trial(work, tuple(boards), places, truth)
        trial.split(chosen)
        server = work.server("server.run", trial.data("judged"), of)
        tried = tuple(trial.tried(name, server) for name in recipes)
        ran = [one.judged for one in tried if one.judged is not None]
        page = ledger.folder / "report.html" if ran else None
        if page is not None:
            left_out = [f"Not judged here: {t.recipe}: {t.why}" for t in tried if not t.judged]
            text = html_page(
                server, ran, folder=str(work.path("server.run")), data=trial.data("judged"),
                command=command, besides=left_out,
            )  # fmt: skip
            with whole_file(page) as file:
                file.write(text.encode())
    return Trial(server, tried, page, seed, len(chosen.calibration), len(chosen.judged))


@dataclass(frozen=True)
class _Chosen:
    """Which samples of a data set calibrate, and which judge, by their places."""

    path: Path
    wanted: Wanted
    data: Dataset
    calibration: list[int]
    judged: list[int]

    @classmethod
    def of(cls, path: Path, wanted: Wanted, seed: int, limit: int | None) -> _Chosen:
        """Drawn by the seed. Raises DataError where there is but one sample."""
        data = dataset(path, inputs=wanted.inputs, image=wanted.image, labels=wanted.labels)
        order = np.random.default_rng(seed).permutation(len(data)).tolist()[:limit]
        if len(order) < 2:
            raise DataError(f"{path}: one sample is not enough: some calibrate, others judge")
        count = min(_CALIBRATE, len(order) // 2)
        return cls(path, wanted, data, sorted(order[:count]), sorted(order[count : count + _JUDGE]))

    def sha256(self, watch: Watch) -> str:
        """A checksum of which samples are for what, and of all that they hold."""
        every = [*self.calibration, *self.judged]
        told = []
        for done, sample in enumerate(self.data.select(every), start=1):
            told.append((sample.id, sample.label, sample_hash(sample)))
            watch.step("reading the data", done, len(every))
        return made_of(samples=told, calibration=len(self.calibration))


@dataclass(frozen=True)
class _Trial:
    """A model's recipes, one by one. `places` are the devices that run files for ARM, the first
    that can; `boards` those that count instructions."""

    work: Work
    boards: tuple[str, ...]
    places: tuple[str, ...]
    truth: str | Path | None

    def data(self, part: str) -> Path:
        """What "calibration" or "judged" samples are read from."""
        return part_of(self.work.path("data") / part)

    def split(self, chosen: _Chosen) -> None:
        """Write both parts of the data."""

        def make() -> str:
            numbers = {"calibration": chosen.calibration, "judged": chosen.judged}
            with whole_folder(self.work.path("data")) as folder:
                for name, places in numbers.items():
                    write_part(chosen.path, chosen.data, places, chosen.wanted, folder / name)
                (folder / "split.json").write_text(json.dumps(numbers), encoding="utf-8")
            return ""

        self.work.once("data", self.work.of, make, file="split.json")

    def tried(self, name: str, server: Run) -> Tried:
        """Make a bundle by a recipe, run it, count its instructions, and judge it."""
        command = self._command(name)
        bundle = self.work.bundle(
            name, self.data("judged"), self.data("calibration"), truth=self.truth
        )
        if isinstance(bundle, str):
            return Tried(name, command, why=bundle)
        if why := self._run(name, bundle):
            return Tried(name, command, bundle.path, why=why)
        counts = {board: self._counted(name, bundle, board) for board in self.boards}
        instructions = {board: n for board, n in counts.items() if isinstance(n, int)}
        uncounted = {board: text for board, text in counts.items() if isinstance(text, str)}
        judged = self.work.judged(server, f"{name}.run", bundle, instructions, truth=self.truth)
        why = "; ".join(judged.report.failures)
        return Tried(name, command, bundle.path, judged, why, uncounted)

    def _run(self, name: str, bundle: Bundle) -> str:
        """Have the engine that judges a recipe answer; why none does, "" where one did."""

        def make() -> str:
            self.work.say(name, "running it")
            return self._run_somewhere(name, bundle)

        of = made_of(of=self.work.of, bundle=bundle.sha256, places=self.places)
        return str(self.work.once(f"{name}.run", of, make, file="run.json").get("why", ""))

    def _run_somewhere(self, name: str, bundle: Bundle) -> str:
        whys: list[str] = []
        for path, engine, device in self._engines(name, bundle):
            if engine == "paddle" and whys:
                break  # what boards refused ships no better for right arithmetic
            try:
                self.work.answered(f"{name}.run", path, self.data("judged"), engine, device, name)
            except RefusedError as error:
                # A board without fp16 says nothing of the model.
                whys += [] if name == "fp16" and lacks_fp16(str(error)) else [str(error)]
            else:
                return ""
        return "; ".join(whys) or f"nothing here can run it: {bundle.check['targets']['arm']}"

    def _engines(self, name: str, bundle: Bundle) -> Iterator[tuple[Path, str, str]]:
        """What to run, on which engine and device, until one can: the file for ARM where there is
        somewhere, else that for x86 or, where x86 cannot, the server by the recipe's arithmetic."""
        yield from ((bundle.path, "native", place) for place in self.places)
        if simulates(name):
            yield self.work.simulated(name), "paddle", "cpu"
        elif not self.places and bundle.recipe["name"] == name and "x86" in bundle.targets:
            yield bundle.path, "lite", "cpu"

    def _counted(self, name: str, bundle: Bundle, board: str) -> int | str:
        """ARM instructions of an inference; or why there are none."""

        def make() -> Mapping[str, Any]:
            self.work.say(name, f"counting instructions on {board}")
            try:
                found = count([bundle.path], [board], engine="native")
            except RefusedError as error:
                return {"found": lacks_fp16(str(error)) or str(error)}
            ((number,),) = (by.values() for by in found.instructions.values())
            return {"found": number}

        of = made_of(of=self.work.of, bundle=bundle.sha256)
        found: int | str = self.work.once(f"{name} on {board}", of, make)["found"]
        return found

    def _command(self, name: str) -> str:
        """The command that makes the bundle of a recipe."""
        words = ["paddle-edge", "convert", str(self.work.model), "--recipe", name]
        if takes_calibration(name):
            words += ["--calibration", str(self.data("calibration"))]
        words += ["--samples", str(self.data("judged"))]
        options = {**self.work.beside, **self.work.judging["limits"], "truth": self.truth}
        for key, value in options.items():
            words += [] if value is None else [f"--{key.replace('_', '-')}", str(value)]
        for key, value in self.work.judging["task_limits"].items():
            words += ["--task-limit", f"{key}={value:g}"]
        return shlex.join([*words, "-o", f"{self.work.source.name}-{name}.bundle"])


def _places(device: str | None, boards: Sequence[str]) -> tuple[str, ...]:
    """The devices of engine native that run files for ARM, the first that can."""
    if device is not None:
        if not is_remote(device) and device not in BOARDS:
            raise UsageError(f"device {device} is no board: give {' or '.join(FORMS)}, or --boards")
        return (device,)
    return ("cpu",) if arm_device() == "cpu" else tuple(boards)
