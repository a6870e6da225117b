"""A task of a worker: to answer some samples of a data set. And what it hands back.

Places are those of the samples in the data set that is being run.
"""

from __future__ import annotations

import hashlib
import io
import platform
import tarfile
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from py_runner.data.dataset import Dataset
from py_runner.devices import HERE, Device
from py_runner.devices.here import Here, Kept
from py_runner.errors import EngineError, ModelError, PaddleEdgeError
from py_runner.files.folder import temporary_folder
from py_runner.formats.run import FailedSample, Run
from py_runner.inference import parts
from py_runner.job import Job
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["Orders", "Piece", "Result", "Runner", "Task", "answered", "pack", "unpack", "versions"]

_WHOLE_S = 1e6  # a task makes one part, but for what memory forbids
_NEVER = 1 << 62  # whether the engine is dead, who sees all workers says


@dataclass(frozen=True)
class Orders:
    """What every task of a worker is about: a job; which shard of a data set is run, as a Run has
    it; how many engines work beside each other on a machine; and whether others work on machines
    of other kinds, as devices may be."""

    job: Job
    shard: dict[str, int] | None
    side_by_side: int | None
    any_machine: bool = False


@dataclass(frozen=True)
class Task:
    """The samples at the places from `first` to `end`: `data` has these alone."""

    first: int
    end: int
    data: Dataset


@dataclass(frozen=True)
class Piece:
    """A part of a Run on its way: its files, packed, and their checksum; the places that it is done
    with, how many samples it answers, and what must be alike in all parts."""

    first: int
    end: int
    samples: int
    engine: dict[str, str]
    packed: bytes
    sha256: str

    @classmethod
    def of(cls, run: Run, first: int, end: int, *, any_machine: bool = False) -> Piece:
        with temporary_folder() as folder:
            run.write(folder, most_inline=0)
            packed = pack(folder, sorted(folder.rglob("*")))
        engine = {"engine version": run.engine_version}
        if not any_machine:
            engine["machine"] = run.machine
        digest = hashlib.sha256(packed).hexdigest()
        return cls(first, end, len(run.samples), engine, packed, digest)

    def write(self, folder: Path) -> None:
        """Write the files into a folder. Raises ModelError where they are not what was sent."""
        if hashlib.sha256(self.packed).hexdigest() != self.sha256:
            raise ModelError(f"{folder}: a part was damaged on its way: run again with --resume")
        unpack(self.packed, folder)


@dataclass(frozen=True)
class Result:
    """What came of a task: it is done with the places from `first` to `end`, all of them unless it
    was stopped or ended by an `error`.

    `bad` are samples that could not be read, with their places and the reason; `failed` those after
    the last answer that the engine failed at. `took_s` does not count what opened the engine.
    """

    first: int
    end: int
    pieces: tuple[Piece, ...] = ()
    bad: tuple[tuple[int, str], ...] = ()
    failed: tuple[FailedSample, ...] = ()
    warnings: tuple[str, ...] = ()
    took_s: float = 0.0
    error: PaddleEdgeError | None = None

    @property
    def answered(self) -> int:
        return sum(piece.samples for piece in self.pieces)


class Runner:
    """Does one task after another on an engine that stays open. Closing it ends the engine."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._engine = Kept()
        self._here = Here(engine=self._engine.opened)
        self._stop = threading.Event()

    def do(self, task: Task) -> Result:
        """The result of a task; errors are in it."""
        failed: list[tuple[str, str]] | None = None if self._orders.job.failed is None else []
        job = replace(self._orders.job, failed=failed, part_s=_WHOLE_S, dead_after=_NEVER)
        pieces: list[Piece] = []
        warnings: list[str] = []
        end, error = 0, None
        watch = Watch(warn=warnings.append, enough=self._stop.is_set)
        opened_s, began_s = self._engine.opened_s, time.perf_counter()
        try:
            if not self._stop.is_set():
                for run, first, end in answered(job, task.data, watch=watch, here=self._here):
                    run = replace(
                        run, shard=self._orders.shard, side_by_side=self._orders.side_by_side
                    )
                    places = task.first + first, task.first + end
                    pieces.append(Piece.of(run, *places, any_machine=self._orders.any_machine))
                if not self._stop.is_set():
                    end = len(task.data)
        except PaddleEdgeError as caught:
            error = caught
        except Exception as caught:  # whatever it is, who gave the task must hear of it
            error = EngineError(f"internal error: {type(caught).__name__}: {caught}")
        return Result(
            task.first,
            task.first + end,
            tuple(pieces),
            tuple((task.first + place, why) for place, why in task.data.bad),
            tuple(FailedSample(*one) for one in failed or ()),
            tuple(warnings),
            time.perf_counter() - began_s - (self._engine.opened_s - opened_s),
            error,
        )

    def stop(self) -> None:
        """Have the task that is at work end after its sample, and those after it at once."""
        self._stop.set()

    def close(self) -> None:
        """End the engine. Closing twice is fine."""
        self._engine.close()


def answered(
    job: Job,
    data: Dataset,
    first: int = 0,
    end: int | None = None,
    *,
    watch: Watch = QUIET,
    here: Device = HERE,
) -> Generator[tuple[Run, int, int], None, None]:
    """The samples at the places from `first` to before `end` answered, part by part: each with the
    places that it is done with, which are those of samples that are bad or failed, too.

    Errors are those of `inference.parts`.
    """
    feed = _Feed(data, first, len(data) if end is None else end)
    with closing(feed.samples()) as samples:
        head = next(samples, None)
        if head is None:  # all are bad
            return
        with closing(parts(job, chain([head], samples), watch=watch, here=here)) as made:
            for run in made:
                failed = tuple(FailedSample(*one) for one in job.failed or ())
                if job.failed:
                    job.failed.clear()
                yield (replace(run, failed=failed), *feed.answered(run.samples[-1].id, failed))


class _Feed:
    """The samples at some places on their way to an engine; `sent` are those not yet answered."""

    def __init__(self, data: Dataset, first: int, end: int) -> None:
        self._data, self.first, self.end = data, first, end
        self.sent: deque[tuple[int, str]] = deque()
        self._ended = False

    def samples(self) -> Generator[Sample, None, None]:
        with closing(self._data.placed(self.first, self.end)) as placed:
            for place, sample in placed:
                self.sent.append((place, sample.id))
                yield sample
        self._ended = True

    def answered(self, last: str, failed: Sequence[FailedSample]) -> tuple[int, int]:
        """The places that are done with, up to the sample of that id and those that failed after
        it."""
        first, found = self.first, ""
        while found != last:
            place, found = self.sent.popleft()
        ids = {one.id for one in failed}
        while self.sent and self.sent[0][1] in ids:
            place, _ = self.sent.popleft()
        self.first = self.end if self._ended and not self.sent else place + 1
        return first, self.first


def pack(folder: Path, paths: Sequence[Path]) -> bytes:
    """Files of a folder as a tar archive, in bytes."""
    buffer = io.BytesIO()
    with tarfile.open(None, "w", buffer) as archive:
        for path in paths:
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return buffer.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write what was packed into a folder: files and folders alone, and none outside of it."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:
        archive.extractall(folder, filter="data")


def versions() -> dict[str, str]:
    """What has to be alike where the parts of one Run are made: what makes tensors and Runs."""
    packages = {name: version(name) for name in ("paddle-edge", "numpy", "pillow")}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **packages}
