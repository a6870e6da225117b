"""How fast a bundle or a source model is, by the number of threads; what it costs on boards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.conversion.costs import LayerCost, layer_costs
from lite_opt.conversion.plan import fix_shapes
from lite_opt.judge.speed import intervals, until_steady
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from lite_opt.subject import Subject, check_made_from, opened
from py_runner.devices import BOARDS, COUNTERS, board_words, is_remote, sensors
from py_runner.errors import UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import QUIET, Watch

__all__ = ["Bench", "Counts", "bench", "by_layer", "count"]


_WARMUP, _REPEAT, _ROUNDS = 5, 50, 5


@dataclass(frozen=True)
class Bench:
    """What was measured of `model`, a path: a run's summary for each engine, precision, batch and
    number of threads, and what the engines warned of. Beside what `Run.summary()` has, that is its
    `batch` and `latency_interval`, low and high of p50, p90 and p99 (95 %, in ms). `measured` are
    these runs, with all latencies but those before the engine was warm. On an emulated
    board `arm_instructions` an inference instead, the same number each time. `sha256` is
    the model's, as runs of it have it.
    """

    model: str
    device: str
    runs: tuple[dict[str, Any], ...] = ()
    measured: tuple[Run, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    arm_instructions: int | None = None
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """What was measured, for --json."""
        if self.arm_instructions is None:
            return {"model": self.model, "runs": self.runs, "warnings": self.warnings}
        counted = {
            "sha256": self.sha256,
            "device": self.device,
            "arm_instructions": self.arm_instructions,
        }
        return {"model": self.model, **counted, "runs": []}


@dataclass(frozen=True)
class Counts:
    """Executed ARM instructions an inference: of each bundle, a path (with the engine's name, where
    several were asked), on each emulated board. `sha256` has the checksum of each, as runs do."""

    devices: tuple[str, ...]
    instructions: dict[str, dict[str, int]]
    sha256: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What was counted, for --json."""
        return {
            "counts": [
                {"model": model, "device": device, "arm_instructions": number}
                | ({"sha256": self.sha256[model]} if model in self.sha256 else {})
                for model, by_device in self.instructions.items()
                for device, number in by_device.items()
            ]
        }


def count(
    models: Sequence[str | Path],
    devices: Sequence[str],
    *,
    engine: str | Sequence[str] | None = None,
    watch: Watch = QUIET,
    **given: Any,
) -> Counts:
    """Count the instructions of one inference of each bundle's first sample on each board.

    `given` are options of `bench` by name; those that mean nothing here have
    to be at their defaults. Raises UsageError as `bench` does, for a device that is no emulated
    board, and for a bundle or a device that is named twice.
    """
    other = next((device for device in devices if device not in BOARDS), None)
    if other is not None:
        raise UsageError(
            f"several are compared by counting instructions, on emulated boards; '{other}' is "
            f"none: {', '.join(board_words())}"
        )
    paths = [str(model) for model in models]
    for name in (*paths, *devices):
        if (*paths, *devices).count(name) > 1:
            raise UsageError(f"'{name}' is given twice")
    engines = _listed(engine) or [None]
    cases = list(product(paths, engines, devices))
    instructions: dict[str, dict[str, int]] = {}
    checksums: dict[str, str] = {}
    for done, (path, name, device) in enumerate(cases, start=1):
        found = bench(path, engine=name, device=device, **given)
        if found.arm_instructions is None:
            raise UsageError(f"engine {name} runs on no emulated board: {', '.join(COUNTERS)} do")
        row = path if len(engines) == 1 else f"{path} ({name})"
        instructions.setdefault(row, {})[device] = found.arm_instructions
        checksums[row] = found.sha256
        watch.step("counts", done, len(cases))
    return Counts(tuple(devices), instructions, checksums)


def by_layer(
    model: str | Path,
    device: str,
    *,
    params: str | Path | None = None,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    watch: Watch = QUIET,
) -> list[LayerCost]:
    """Count the instructions of each layer of a source model as it would be converted to fp32, on
    an emulated board, the dearest first. Raises what `load` and `layer_costs` raise, and UsageError
    for a bundle, which does not keep the model that it was made from."""
    if (Path(model) / "bundle.json").is_file():
        raise UsageError(f"{model}: is a bundle: name the model that it was made from")
    program = load(model, params=params)
    fix_shapes(program, input_shape or {})
    repair(program)
    return layer_costs(program, device, watch=watch)


@dataclass(frozen=True)
class _Cell:
    """One thing that is measured."""

    subject: Subject
    samples: Sequence[Sample]
    threads: int
    batch: int
    precision: str


def bench(
    model: str | Path,
    *,
    threads: Sequence[int] = (1,),
    batch: Sequence[int] = (1,),
    engine: str | Sequence[str] | None = None,
    device: str = "cpu",
    server: str | Path | None = None,
    params: str | Path | None = None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    warmup: int | None = None,
    repeat: int | None = None,
    tensorrt: bool = False,
    precision: str | Sequence[str] = "fp32",
    watch: Watch = QUIET,
) -> Bench:
    """Measure the latency of one sample, for one or more engines, batches, precisions and numbers
    of threads.

    Several engines take turns, five times: what else the machine does is then not one's misfortune.
    On an emulated board the executed ARM instructions are counted instead, on one thread, because
    its latencies say nothing of a board's. `watch` is told how many measurements are done.

    Args:
        model: a bundle, or a source model, with `params` where its name does not tell them.
        batch: how many samples are fed at once: the one, repeated.
        engine: one or several; by default the one that `subject.opened` says.
        server: the source model of a bundle, for engine `paddle`.
        check_shape: shapes of a random tensor by input; by default the bundle's first sample.
        device, warmup, repeat, tensorrt, precision: as for `py_runner.inference.run`; by
            default 5 inferences warm up, and 50 are measured, of which those do not count that
            were made before the engine was warm (`speed.until_steady`).

    Raises UsageError where an emulated board is given an option that means nothing there, or a
    batch is fixed, and what `subject.opened` and `py_runner.inference.run` raise.
    """
    engines = _listed(engine) or [None]
    precisions = _listed(precision)
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(_opened(model, name, device, params, server)) for name in engines
        ]
        samples = [subject.samples(shapes=check_shape, limit=1) for subject in subjects]
        if len(engines) == 1 and device in BOARDS and subjects[0].engine in COUNTERS:
            _refuse(
                device,
                threads=tuple(threads) != (1,),
                batch=tuple(batch) != (1,),
                warmup=warmup is not None,
                repeat=repeat is not None,
                tensorrt=tensorrt,
                precision=precisions != ["fp32"],
            )
            (sample,) = samples[0]
            count = COUNTERS[subjects[0].engine][device].count_instructions(
                subjects[0].model, sample
            )
            sha256 = subjects[0].model.sha256
            return Bench(str(model), device, arm_instructions=count, sha256=sha256)
        cells = [
            _Cell(subject, [_batched(subject.model, own[0], size)], count, size, kind)
            for subject, own in zip(subjects, map(list, samples))
            for kind in precisions
            for size in batch
            for count in threads
        ]
        return _measured(
            str(model), cells, device, _ROUNDS if len(engines) > 1 else 1, watch,
            warmup=_WARMUP if warmup is None else warmup,
            steady=warmup is None,
            repeat=_REPEAT if repeat is None else repeat,
            tensorrt=tensorrt,
        )  # fmt: skip


def _measured(
    model: str,
    cells: Sequence[_Cell],
    device: str,
    rounds: int,
    watch: Watch,
    *,
    repeat: int,
    steady: bool,
    **options: Any,
) -> Bench:
    """Run every cell in each round, so many times in all."""
    runs: list[list[Run]] = [[] for _ in cells]
    warnings: dict[str, None] = {}  # as a set that keeps their order
    rounds = min(rounds, repeat)
    before = None if device in BOARDS or is_remote(device) else sensors.read()
    for turn in range(rounds):
        for place, cell in enumerate(cells):
            measured = run(
                cell.subject.model,
                cell.samples,
                engine=cell.subject.engine,
                device=device,
                threads=cell.threads,
                precision=cell.precision,
                repeat=repeat // rounds + (turn < repeat % rounds),
                watch=Watch(warn=lambda text: warnings.update({text: None})),
                **options,
            )
            runs[place].append(measured)
            watch.step("measurements", turn * len(cells) + place + 1, rounds * len(cells))
    found = sensors.between(before, after) if before and (after := sensors.read()) else None
    slowed = found["throttled"] if found else ()
    warnings.update({f"this machine was throttled: {word}": None for word in slowed})
    whole = tuple(replace(_joined(own, steady), sensors=own[0].sensors or found) for own in runs)
    summaries = (
        {
            **one.summary(),
            "latency_interval": intervals(one.latency_ms[0]),
            "batch": cell.batch,
        }
        for one, cell in zip(whole, cells)
    )
    return Bench(model, device, tuple(summaries), whole, tuple(warnings))


def _joined(runs: Sequence[Run], steady: bool) -> Run:
    """The runs of one cell, of one sample, as one. Where `steady`, the first inferences of each,
    until the engine is warm, count as warm-up."""
    each = [[ms for repeats in one.latency_ms for ms in repeats] for one in runs]
    cold = [until_steady(own) if steady else 0 for own in each]
    return replace(
        runs[0],
        latency_ms=[[ms for own, count in zip(each, cold) for ms in own[count:]]],
        warmup=runs[0].warmup + max(cold),
        peak_memory_bytes=max(one.peak_memory_bytes for one in runs),
        wall_s=sum(one.wall_s for one in runs),
    )


@contextmanager
def _opened(
    model: str | Path,
    engine: str | None,
    device: str,
    params: str | Path | None,
    server: str | Path | None,
) -> Iterator[Subject]:
    """What an engine runs: of a bundle on engine paddle, the model that it was made from, on the
    bundle's own samples."""
    if engine != "paddle" or server is None:
        with opened(model, engine=engine, device=device, params=params) as subject:
            yield subject
        return
    bundle = Bundle.open(model)
    with opened(server, engine=engine, device=device, params=params) as subject:
        check_made_from(server, subject.model.sha256, bundle, str(model))
        yield replace(subject, own=bundle)


def _batched(model: Model, sample: Sample, size: int) -> Sample:
    """So many copies of a sample at once. Raises UsageError where the model takes only one."""
    if size == 1:
        return sample
    fixed = next((spec for spec in model.inputs if spec.shape[:1] != (-1,)), None)
    if fixed is not None:
        raise UsageError(
            f"{model.files[0]}: input '{fixed.name}' is {fixed}: its batch is fixed: leave --batch "
            "out, or export with a free one"
        )
    feeds = {name: np.concatenate([value] * size) for name, value in sample.feeds.items()}
    return replace(sample, feeds=feeds)


def _listed(names: str | Sequence[str] | None) -> list[Any]:
    """Names, given one by one or in a text, separated by commas."""
    if isinstance(names, str):
        names = names.split(",")
    return [name.strip() for name in names or ()]


def _refuse(device: str, **given: bool) -> None:
    """Refuse what would be ignored where instructions are counted."""
    named = [f"--{name}" for name, is_given in given.items() if is_given]
    if named:
        raise UsageError(
            f"on {device} instructions are counted, of one inference on one thread: leave "
            f"{', '.join(named)} out"
        )
