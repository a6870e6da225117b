"""A model on a whole data set, whose answers are on disk as they come, and outlive the machine.

    job = Job(model, "lite", failed=[])
    evaluate(job, data, "edge.run", command=("python", "mine.py"), resume=True)

What is answered is added to a Run under way (`py_runner.formats.parts`), part by part; at the end
they become one Run. A run that ends within its first part is written at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from py_runner.cluster.schedule import Open, spread
from py_runner.cluster.task import answered, versions
from py_runner.data.dataset import Dataset
from py_runner.errors import (
    ChangedError,
    DataError,
    EngineError,
    RefusedError,
    StoppedError,
    UsageError,
)
from py_runner.files.folder import check_free
from py_runner.files.url import Place, UnreachedError, place
from py_runner.formats.parts import (
    Begun,
    Part,
    Places,
    UnderWay,
    changed,
    in_words,
    is_under_way,
    locked,
)
from py_runner.formats.run import FailedSample, Run
from py_runner.job import Job
from py_runner.tensors import sample_hash
from py_runner.watch import QUIET, Watch

__all__ = ["check_place", "evaluate"]

_FORMAT = 1
_DIGITS = 16  # of checksums that a person reads
_CLOCK_S = 0.1  # by which clocks of files are late
_CAN_BE_READ = "sample '{}' had no answer, and can be read now"


def check_place(out: str | Place, *, resume: bool = False, force: bool = False) -> None:
    """Raise UsageError where `evaluate` would: call it before long work."""
    if resume and force:
        raise UsageError("--resume goes on, and --force begins anew: give one of them")
    begun = is_under_way(out)
    if begun and not (resume or force):
        raise UsageError(f"{in_words(out)}; or begin anew with --force")
    if not (resume and (begun or _is_run(out))):
        check_free(out, force=force)


def evaluate(
    job: Job,
    data: Dataset,
    out: str | Place,
    *,
    command: Sequence[str],
    shard: dict[str, int] | None = None,
    resume: bool = False,
    force: bool = False,
    finish: Callable[[Run], Run] = lambda run: run,
    on: Open | None = None,
    watch: Watch = QUIET,
) -> None:
    """Run a job on a data set, and write the Run to `out`.

    Args:
        job: `part_s` says after how many seconds answers are on disk at most; with a list as
            `failed` it goes on without samples that the engine fails at, which the Run names.
        command: the words that go on with it, for people.
        shard: which part of a larger data set `data` is, as a Run has it.
        resume: go on with what is there, if the model, the engine, the options that matter for
            answers and the data are the same: samples that were answered, and whose files have
            changed by what the system says, are read again and compared by their checksums, not run
            again; those of damaged parts are. What is complete is compared too, and stays as it is.
        force: replace what is there; it is in `out`/before until the new Run is complete.
        finish: makes the Run that is written of the one of all samples, whose files are no more
            where they are then; it is not asked where a Run is complete already.
        on: opens the workers that answer, side by side: `cluster.processes.local` and
            `cluster.ray_nodes.ray_at` say how. The Run is the same but for its latencies.
        watch: `enough` ends the run after the sample, or batch, that is at work.

    Raises UsageError where there is something that was not to be replaced; ChangedError where what
    it is to go on with is not the same, naming what; StoppedError where `watch` had enough; else as
    `inference.run`. What is on disk by then can be gone on with.
    """
    out = place(out)
    check_place(out, resume=resume, force=force)
    job = replace(job, failed=None if job.failed is None else [])
    same = _same(job, data, shard)
    with ExitStack() as stack:
        begun = Begun(_FORMAT, _program(), same, len(data), tuple(command))
        work = _Work(job, data, out, begun, watch, stack)
        work.shard, work.force = shard, force
        gaps: list[tuple[int, int, Part | None]] = [(0, len(data), None)]
        if force and is_under_way(out):
            stack.enter_context(locked(out))
        if resume and is_under_way(out):
            work.way = way = stack.enter_context(UnderWay(out))
            _refuse(out, way.begun.changed(same))
            for text in way.damaged:
                watch.say(f"{out}: {text}")
            gaps = list(way.gaps())
        elif resume and _is_run(out):
            _check_complete(Run.open(out), out, job, data, shard)
            work.check(out, 0, len(data))
            watch.say(f"{out}: is complete")
            return
        with _kept(work):
            left = []
            for first, end, part in gaps:
                if part is not None:
                    work.check(part.path, part.first, part.end, part.stamp)
                elif on is None:
                    work.run(first, end)
                else:
                    left.append((first, end))
            if on is not None and left:
                work.spread(left, on)
            done = finish(work.whole())
        if work.way is None:
            done.save(out, force=force)
            return
        work.way.check_alone()
        try:
            done.save(out, force=True)
        except (UsageError, UnreachedError) as error:
            raise UsageError(
                f"{error}; all answers are kept, go on with: {work.way.begun.go_on}"
            ) from None


@contextmanager
def _kept(work: _Work) -> Iterator[None]:
    """An error in the block says how to go on, where something was answered."""
    try:
        yield
    except (DataError, EngineError, UnreachedError) as error:
        kind = DataError if isinstance(error, UnreachedError) else type(error)
        told = str(error)
        if work.way is not None:
            told += f"; what was answered is kept, go on with: {work.way.begun.go_on}"
        raise kind(told) from None


def _program() -> str:
    return f"paddle-edge {version('paddle-edge')}"


def _is_run(out: str | Place) -> bool:
    return (place(out) / "run.json").exists()


def _same(job: Job, data: Dataset, shard: dict[str, int] | None) -> dict[str, Any]:
    """What answers depend on, by the names that people know it by."""
    model = job.model
    return {
        "model": model.sha256[:_DIGITS],
        "engine": job.engine,
        "device": job.device,
        "threads": job.threads,
        "warmup": job.warmup,
        "repeat": job.repeat,
        "tensorrt": job.tensorrt,
        "precision": job.precision,
        "unsafe int8": job.unsafe_int8,
        "image": model.image,
        "task": model.task,
        "labels": None if model.labels is None else list(model.labels),
        "inputs": [spec.to_json() for spec in model.inputs],
        "shard": shard,
        "number of samples": len(data),
        "checksum of the samples' names and labels": data.identity()[:_DIGITS],
    }


def _refuse(out: Place, differ: Sequence[str]) -> None:
    if differ:
        raise ChangedError(
            f"{out}: cannot be gone on with: {'; '.join(differ)}: give the same, or begin anew "
            "with --force"
        )


def _check_complete(
    run: Run, out: Place, job: Job, data: Dataset, shard: dict[str, int] | None
) -> None:
    """Raise UsageError where a Run that is complete is another one."""
    now = {
        "model": job.model.sha256,
        "engine": job.engine,
        "device": job.place,
        "threads": job.threads,
        "warmup": job.warmup,
        "repeat": job.repeat,
        "task": job.model.task,
        "shard": shard,
    }
    known = {name: getattr(run, name, None) for name in now}
    known["model"] = run.model["sha256"]
    known["repeat"] = len(next(iter(run.latency_ms), ())) or job.repeat
    differ = changed(known, now)
    ids = iter(data.ids)
    if not differ and not all(info.id in ids for info in run.samples):  # in this order
        differ = ["it has samples that the data has not"]
    _refuse(out, differ)


class _Work:
    """What is done to a Run under way, or to one that has not begun: `way` is None then."""

    way: UnderWay | None = None
    shard: dict[str, int] | None = None
    force = False

    def __init__(
        self, job: Job, data: Dataset, out: Place, begun: Begun, watch: Watch, stack: ExitStack
    ) -> None:
        self._job, self._data, self._out, self._begun = job, data, out, begun
        self._watch, self._stack = watch, stack
        self._only: Run | None = None
        self._late: list[FailedSample] = []  # of workers, after the last answer of a task

    def check(self, answered_in: Place, first: int, end: int, stamp: str | None = None) -> None:
        """Raise UsageError where a sample at these places is not what it was when it was answered
        in that Run. Where their files have that `stamp` still, those without an answer are read."""
        run = Run.open(answered_in)
        others = {one.id for one in run.failed}
        if stamp is not None and stamp == self._stamp(first, end):
            self._check_bad({info.id for info in run.samples} | others, first, end)
            return
        answered = iter(run.samples)
        expected = next(answered, None)
        with closing(self._data.placed(first, end)) as samples:
            for place, sample in samples:
                self._watch.step("checking what is answered", place + 1, len(self._data))
                if self._watch.enough():
                    raise self._stopped()
                if expected is not None and sample.id == expected.id:
                    if sample_hash(sample) != expected.sha256:
                        _refuse(self._out, [f"sample '{sample.id}' is not what it was"])
                    expected = next(answered, None)
                elif sample.id not in others:
                    _refuse(self._out, [_CAN_BE_READ.format(sample.id)])
        if expected is not None:
            _refuse(self._out, [f"sample '{expected.id}' cannot be read any more"])

    def _check_bad(self, known: set[str], first: int, end: int) -> None:
        """Read those of the samples at these places that are not known, for what is wrong with
        them. Raises UsageError where one can be read."""
        for number, id_ in enumerate(self._data.cut(first, end).ids, first):
            if id_ not in known:
                with closing(self._data.placed(number, number + 1)) as samples:
                    if any(True for _ in samples):
                        _refuse(self._out, [_CAN_BE_READ.format(id_)])
        self._watch.step("checking what is answered", end, len(self._data))
        if self._watch.enough():
            raise self._stopped()

    def _stamp(self, first: int, end: int, *, before_s: float | None = None) -> str | None:
        """What is known of the files of samples, and of what makes tensors of them."""
        files = self._data.stamp(first, end, before_s=before_s)
        if files is None:
            return None
        return hashlib.sha256(f"{versions()} {files}".encode()).hexdigest()

    def run(self, first: int, end: int) -> None:
        """Have the samples at these places answered, and kept."""

        def step(what: str, done: int, _: int | None) -> None:
            self._watch.step(what, first + done, len(self._data))

        watch = replace(self._watch, step=step)
        before_s = time.time() - _CLOCK_S
        done = first
        with closing(answered(self._job, self._data, first, end, watch=watch)) as made:
            for run, begun, done in made:
                run = replace(run, shard=self.shard)
                if self.way is None and done == len(self._data):
                    self._only = run
                else:
                    engine = {"engine version": run.engine_version, "machine": run.machine}
                    # What is read line by line is joined so, too.
                    write = partial(run.write, most_inline=0)
                    stamp = self._stamp(begun, done, before_s=before_s)
                    self._keep(write, engine, Places(begun, done, len(run.samples), stamp))
        if done < end and self._watch.enough():
            raise self._stopped()

    def spread(self, left: Sequence[tuple[int, int]], on: Open) -> None:
        """Have the samples at these places answered by workers, and kept."""
        with (
            on(self._job, self.shard) as workers,
            closing(spread(workers, left, self._data, self._job, self._watch)) as results,
        ):
            for result in results:
                for piece in result.pieces:
                    places = Places(piece.first, piece.end, piece.samples)
                    self._keep(piece.write, piece.engine, places)
                self._late += result.failed
        if self._watch.enough():
            raise self._stopped()

    def _keep(
        self,
        write: Callable[[Path], object],
        engine: dict[str, str],
        places: Places,
    ) -> None:
        """Add a part. Raises UsageError where `engine` is not the one that began."""
        if self.way is None:
            begun = replace(self._begun, same={**self._begun.same, **engine})
            self.way = self._stack.enter_context(
                UnderWay.begin(self._out, begun, write, places, force=self.force)
            )
            return
        _refuse(self._out, self.way.begun.changed(engine))
        self.way.add(write, places)

    def _failed(self) -> tuple[FailedSample, ...]:
        """The samples that failed since this was asked last."""
        failed = self._job.failed or []
        found = tuple(FailedSample(id_, why) for id_, why in failed)
        failed.clear()
        return found

    def whole(self) -> Run:
        """The Run of all samples."""
        failed = (*self._failed(), *self._late)  # after the last answer
        if self._only is not None:
            return replace(self._only, failed=(*self._only.failed, *failed))
        if self.way is not None and self.way.parts:
            whole = Run.merge([Run.open(part.path) for part in self.way.parts])
            return replace(whole, failed=(*whole.failed, *failed))
        if failed:
            raise RefusedError(f"{self._out}: every sample fails: {failed[0].reason}")
        raise self._data.nothing_good()

    def _stopped(self) -> StoppedError:
        if self.way is not None:
            return StoppedError(f"stopped: {in_words(self._out)}")
        if self._out.exists():
            return StoppedError(f"stopped: {self._out} is as it was")
        return StoppedError("stopped before the first answer: nothing is kept")
