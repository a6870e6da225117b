"""Samples for the command `lite_run`, in batches: what it is fed, and what is kept of its answers.

Each batch is a process that opens the model and warms up anew.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from py_runner.errors import RefusedError
from py_runner.files.process import last_words
from py_runner.formats.bundle import SavedSample, save_samples
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.tensors import Sample
from py_runner.watch import Watch

__all__ = ["SPOKE", "answer", "kept", "said_at_last", "stage", "tell_warnings"]

_SAYS = "lite_run: "  # before what the command writes to standard error
SPOKE = re.compile(rf"^{_SAYS}".encode(), re.MULTILINE)  # in a log: it was started
_WARNING = f"{_SAYS}warning: "
# Batches begin small and grow until one takes this.
_BATCH_S = 20
_MOST_IN_BATCH = 128
_MOST_BYTES = 64 << 20  # of its samples, where a batch has several


def answer(
    job: Job,
    samples: Iterator[Sample],
    total: int | None,
    watch: Watch,
    ask: Callable[[list[Sample], Watch, Callable[[], list[Sample]]], Run],
    *,
    size: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[Run, None, None]:
    """The Runs of all samples, part by part; `ask` makes that of a batch, the first of which has
    `size` samples, and `clock` says how many seconds of whichever kind it took. The third argument
    of `ask` is what gives the batch after this one, empty where there is none, to who can prepare
    it meanwhile. A batch that is refused is halved until the sample at fault is alone, where the
    job goes on without it.

    The warnings of the first batch are told, since each has the same. Raises DataError for a sample
    that does not fit the model's inputs.
    """
    answered = 0
    took_s = 0.0
    batch: list[Sample] = []
    waiting: deque[list[Sample]] = deque()

    def follow() -> list[Sample]:
        nonlocal size
        if not waiting:
            if batch:
                size = min(2 * size, _MOST_IN_BATCH) if took_s < _BATCH_S else size
                size = min(size, max(1, _MOST_BYTES // max(1, *map(_bytes, batch))))
            following = list(islice(samples, size))
            for sample in following:
                job.check_feeds(sample)
            waiting.append(following)
        return waiting[0]

    runs: list[Run] = []
    start = time.perf_counter()

    def part() -> Run:
        nonlocal start
        began, start = start, time.perf_counter()
        whole = Run.merge(runs)
        runs.clear()
        return replace(
            whole,
            device=job.device,
            precision=job.model.precision,
            warmup=job.warmup,
            wall_s=start - began,
        )

    while not (watch.enough() and (runs or answered)) and (batch := follow()):
        waiting.popleft()
        began = clock()
        try:
            done = ask(batch, replace(watch, warn=_mute) if answered else watch, follow)
        except RefusedError as error:
            if job.failed is None:
                raise
            if len(batch) == 1:
                job.leave_out(batch[0].id, error, answered=answered)
            else:
                half = len(batch) // 2
                waiting.extendleft((batch[half:], batch[:half]))
            continue
        took_s = clock() - began
        answered += len(batch)
        runs.append(done)
        watch.step(f"engine {job.engine}", answered, total)
        count = sum(len(run.samples) for run in runs)
        if job.ends_part(start, count, sum(map(_answer_bytes, runs))):
            yield part()
    if runs:
        yield part()


def stage(folder: Path, samples: Iterable[Sample]) -> tuple[SavedSample, ...]:
    """Write samples as `lite_run --samples` reads them."""
    saved = save_samples(folder, samples)
    entries = [asdict(entry) for entry in saved]
    (folder / "samples.json").write_text(json.dumps(entries), encoding="ascii")
    return saved


def kept(job: Job, out: Path, batch: Iterable[Sample]) -> Run:
    """The Run that `lite_run` wrote of a batch, in memory, with what the job keeps of it."""
    done = Run.open(out)
    outputs: dict[str, list[np.ndarray[Any, Any]]] = {}
    for place, sample in enumerate(done.samples):
        whole = {name: np.array(values[place]) for name, values in done.outputs.items()}
        for name, value in job.keep(sample.id, whole).items():
            outputs.setdefault(name, []).append(value)
    pixels = {sample.id: sample.pixels for sample in batch}
    infos = tuple(replace(info, pixels=pixels.get(info.id)) for info in done.samples)
    return replace(done, outputs=outputs, samples=infos)


def tell_warnings(said: bytes, watch: Watch) -> None:
    """Pass on what `lite_run` warned of."""
    for line in said.decode("utf-8", "replace").splitlines():
        if line.startswith(_WARNING):
            watch.warn(line.removeprefix(_WARNING))


def said_at_last(log: bytes) -> str:
    """Why `lite_run` failed, in its words and the engine's; "" where it has not said it."""
    lines = [line for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix(_SAYS) if lines and lines[-1].startswith(_SAYS) else ""
    if said.startswith("the engine ended the process"):
        last = last_words("\n".join(lines[:-1]).encode())
        _, _, advice = said.partition("above. ")
        return f"the engine ended the process: {last}. {advice}"
    return said


def _bytes(sample: Sample) -> int:
    return sum(value.nbytes for value in sample.feeds.values())


def _answer_bytes(run: Run) -> int:
    return sum(value.nbytes for values in run.outputs.values() for value in values)


def _mute(text: str) -> None:
    """Each batch has the same warnings."""
