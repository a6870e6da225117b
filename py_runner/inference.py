"""Run a model on an engine and a device, and keep what it answered and how fast."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sized
from contextlib import closing
from dataclasses import replace
from itertools import chain

from py_runner.devices import (
    BOARDS,
    COUNTERS,
    FORMS,
    HERE,
    Device,
    board_words,
    is_remote,
    remote_device,
)
from py_runner.engines import ENGINES
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run
from py_runner.job import Job, Keep, everything
from py_runner.tensors import Model, Sample
from py_runner.watch import QUIET, Watch

__all__ = ["bundle_target", "parts", "run"]


def run(
    model: Model,
    samples: Iterable[Sample],
    *,
    engine: str = "lite",
    device: str = "cpu",
    threads: int = 1,
    warmup: int = 1,
    repeat: int = 1,
    tensorrt: bool = False,
    precision: str = "fp32",
    time_limit_s: float | None = None,
    unsafe_int8: bool = False,
    memory_limit_gb: float | None = None,
    keep: Keep = everything,
    watch: Watch = QUIET,
    here: Device = HERE,
) -> Run:
    """Feed samples to a model on an engine, which works in a process of its own.

    Args:
        model: what to run: for engines `lite`, `native` and `onnx` the model of a bundle
            that `bundle_target` says, a source model for `paddle`.
        samples: consumed once, ahead of the engine by as much as fits a pipe.
        engine: "lite", "native", "onnx" or "paddle".
        device: "cpu"; for engine `paddle` also "cpu+onednn", "gpu" and "gpu:N"; for `native` also
            "qemu-aarch64", "qemu-arm" and "qemu-aarch64:pi5" or another of devices/boards.py,
            which emulate a board: see devices/qemu.py. Its latencies
            are the emulator's and say nothing of a board's; and a machine far away,
            "ssh://[user@]host[:port][/folder]" or "adb://SERIAL[/folder]", see devices/remote.py.
            For `onnx` boards of 64 bits, see devices/qemu_python.py.
        threads: CPU threads of the engine.
        warmup: unmeasured inferences of the first sample.
        repeat: measured inferences a sample; the answer of the last one is kept.
        tensorrt, precision: for engine `paddle` on a GPU: TensorRT, "fp32" or "fp16".
        time_limit_s: how long one sample may take, repeats included, and to open the model.
        unsafe_int8: run int8 kernels on x86 all the same, where they compute wrong numbers.
        memory_limit_gb: how much memory the engine may map on this machine (10^9 bytes); by default
            several times what the sizes of model and sample tell.
        keep: is given the id of each sample and its outputs, and says what the Run keeps of them:
            answers that are read at once need not all be held.
        watch: is told the number of samples answered so far, and warned of what the native engine
            has to say of a bundle that it runs all the same, such as that its library is of another
            version.
        here: this machine, where its engine is not to be started anew.

    Raises:
        UsageError: an unknown engine, or options that it does not have.
        EngineError: the engine is not installed.
        RefusedError: it refused the model or died; names the sample and its last words.
        DataError: a sample does not fit the model's inputs, or there is none.
    """
    _place(engine, device)  # of a device that is unknown nothing else is to be said
    job = Job(
        model,
        engine,
        device,
        threads=threads,
        warmup=warmup,
        repeat=repeat,
        tensorrt=tensorrt,
        precision=precision,
        time_limit_s=time_limit_s,
        unsafe_int8=unsafe_int8,
        memory_limit_gb=memory_limit_gb,
        keep=keep,
    )
    return Run.merge(list(parts(job, samples, watch=watch, here=here)))


def parts(
    job: Job, samples: Iterable[Sample], *, watch: Watch = QUIET, here: Device = HERE
) -> Generator[Run, None, None]:
    """The Run of `run`, part by part as it is made, each of the samples after those of the one
    before: see `Device.parts`. A closed iterator ends the engine. Errors are those of `run`, those
    of the engine and of later samples when their turn comes."""
    place = _place(job.engine, job.device)
    place = here if place is HERE else place
    if job.kind.suffix == ".nb":
        job.check_file(place.target(job.engine))
    total = len(samples) if isinstance(samples, Sized) else None
    # The sample's shape is part of TensorRT's configuration, and an empty data set needs no engine.
    pending = iter(samples)
    first = next(pending, None)
    if first is None:
        raise DataError("there are no samples to run")
    made = place.parts(job, chain([first], pending), total, watch)
    return made if job.model.task is None else _said(made, job.model)


def _said(made: Generator[Run, None, None], model: Model) -> Generator[Run, None, None]:
    """The parts with what the model's outputs mean."""
    inputs = tuple(spec.name for spec in model.inputs)
    with closing(made):
        for part in made:
            yield replace(
                part, task=model.task, labels=model.labels, image=model.image, inputs=inputs
            )


def bundle_target(engine: str, device: str = "cpu") -> str:
    """Which of a bundle's models an engine runs on a device: "arm", "x86" or "onnx"."""
    return _place(engine, device).target(engine)


def _place(engine: str, device: str) -> Device:
    """The device of that name. Raises UsageError where the engine does not run there."""
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}': choose {', '.join(ENGINES)}")
    kind = ENGINES[engine]
    if is_remote(device) and engine == "native":
        return remote_device(device)
    if device in COUNTERS.get(engine, ()):
        return COUNTERS[engine][device]
    pattern, words = kind.devices
    if not re.fullmatch(pattern, device):
        known = device in BOARDS or is_remote(device)
        known = known or any(re.fullmatch(other.devices[0], device) for other in ENGINES.values())
        what = "" if known else f"unknown device '{device}': "
        boards = [
            text for text in board_words() if text.partition(":")[0] in COUNTERS.get(engine, ())
        ]
        boards += FORMS if engine == "native" else []
        places = ", ".join((words, *boards))
        raise UsageError(f"{what}engine {engine} runs on device {places}")
    return HERE
