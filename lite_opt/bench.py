"""How fast a bundle or a source model is, by the number of threads; what it costs on boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lite_opt.conversion.costs import LayerCost, layer_costs
from lite_opt.conversion.plan import fix_shapes
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from lite_opt.subject import opened
from py_runner.devices import BOARDS, board_words
from py_runner.errors import UsageError
from py_runner.inference import run
from py_runner.watch import QUIET, Watch

__all__ = ["Bench", "Counts", "bench", "by_layer", "count"]


_WARMUP, _REPEAT = 5, 50


@dataclass(frozen=True)
class Bench:
    """What was measured of `model`, a path: a run's summary (`Run.summary()`) for each number of
    threads, and what the engine warned of; on an emulated board `arm_instructions` an inference
    instead, the same number each time.
    """

    model: str
    device: str
    runs: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    arm_instructions: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What was measured, for --json."""
        if self.arm_instructions is None:
            return {"model": self.model, "runs": self.runs, "warnings": self.warnings}
        counted = {"device": self.device, "arm_instructions": self.arm_instructions}
        return {"model": self.model, **counted, "runs": []}


@dataclass(frozen=True)
class Counts:
    """Executed ARM instructions an inference: of each bundle, a path, on each emulated board."""

    devices: tuple[str, ...]
    instructions: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """What was counted, for --json."""
        return {
            "counts": [
                {"model": model, "device": device, "arm_instructions": number}
                for model, by_device in self.instructions.items()
                for device, number in by_device.items()
            ]
        }


def count(
    models: Sequence[str | Path], devices: Sequence[str], *, watch: Watch = QUIET, **given: Any
) -> Counts:
    """Count the instructions of one inference of each bundle's first sample on each board.

    `given` are options of `bench` by name, `engine` among them; those that mean nothing here have
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
    instructions: dict[str, dict[str, int]] = {path: {} for path in paths}
    for done, (path, device) in enumerate(product(paths, devices), start=1):
        found = bench(path, device=device, **given)
        assert found.arm_instructions is not None
        instructions[path][device] = found.arm_instructions
        watch.step("counts", done, len(paths) * len(devices))
    return Counts(tuple(devices), instructions)


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


def bench(
    model: str | Path,
    *,
    threads: Sequence[int] = (1,),
    engine: str | None = None,
    device: str = "cpu",
    params: str | Path | None = None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    warmup: int | None = None,
    repeat: int | None = None,
    tensorrt: bool = False,
    precision: str = "fp32",
    watch: Watch = QUIET,
) -> Bench:
    """Measure the latency of one sample, for one or more numbers of threads.

    On an emulated board the executed ARM instructions are counted instead, on one thread, because
    its latencies say nothing of a board's. `watch` is told how many numbers of threads are done.

    Args:
        model: a bundle, or a source model, with `params` where its name does not tell them.
        check_shape: shapes of a random tensor by input; by default the bundle's first sample.
        engine, device, warmup, repeat, tensorrt, precision: as for `py_runner.inference.run`; by
            default 5 inferences warm up, and 50 are measured.

    Raises UsageError where an emulated board is given an option that means nothing there, and what
    `subject.opened` and `py_runner.inference.run` raise.
    """
    with opened(model, engine=engine, device=device, params=params) as subject:
        samples = subject.samples(shapes=check_shape, limit=1)
        if engine == "native" and device in BOARDS:
            _refuse(
                device,
                threads=tuple(threads) != (1,),
                warmup=warmup is not None,
                repeat=repeat is not None,
                tensorrt=tensorrt,
                precision=precision != "fp32",
            )
            (sample,) = samples
            count = BOARDS[device].count_instructions(subject.model, sample)
            return Bench(str(model), device, arm_instructions=count)
        runs = []
        warnings: dict[str, None] = {}  # as a set that keeps their order
        for done, count in enumerate(threads, start=1):
            measured = run(
                subject.model,
                samples,
                engine=subject.engine,
                device=device,
                threads=count,
                warmup=_WARMUP if warmup is None else warmup,
                repeat=_REPEAT if repeat is None else repeat,
                tensorrt=tensorrt,
                precision=precision,
                watch=Watch(warn=lambda text: warnings.update({text: None})),
            )
            runs.append(measured.summary())
            watch.step("threads", done, len(threads))
    return Bench(str(model), device, tuple(runs), tuple(warnings))


def _refuse(device: str, **given: bool) -> None:
    """Refuse what would be ignored where instructions are counted."""
    named = [f"--{name}" for name, is_given in given.items() if is_given]
    if named:
        raise UsageError(
            f"on {device} instructions are counted, of one inference on one thread: leave "
            f"{', '.join(named)} out"
        )
