"""What one engine on one device answered to which samples, and how fast: a folder.

RUN/
  run.json       engine, device, samples with hashes, latency statistics in ms, peak memory; of a
                 reference also "noise", see `Run`
  samples.jsonl  of a Run of more than MOST_INLINE samples: these, one a line, and run.json says how
                 many (format 2)
  latency.csv    every measured inference: sample id, repeat, milliseconds
  output_<i>.npy the answers, samples stacked on a new axis 0; where shapes vary between
                 samples, output_<i>/<sample>.npy instead
  fed/           another such folder, where each step was to be judged alone: see `Run`

The files are read and written by `run_samples`, `run_arrays` and `run_latency`: a Run that was
opened reads them when it is asked, and a few bytes a sample of it are in memory.
"""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from py_runner.errors import ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.folder import whole_folder
from py_runner.files.url import Place, Url, place
from py_runner.formats.lazy import chosen
from py_runner.formats.parts import in_words, is_under_way
from py_runner.formats.run_arrays import form_of, open_output, write_output
from py_runner.formats.run_latency import flat, latency_statistics, read_latency, write_latency
from py_runner.formats.run_merge import merged
from py_runner.formats.run_samples import (
    SAMPLES,
    FailedSample,
    SampleInfo,
    check_once,
    keys_of,
    open_samples,
    sample_json,
    write_samples,
)

__all__ = [
    "FORMAT",
    "MOST_INLINE",
    "FailedSample",
    "Run",
    "SampleInfo",
    "latency_statistics",
    "machine",
]

FORMAT = 1
_LARGE = 2  # the format of Runs whose samples are in a file of their own
MOST_INLINE = 1000
"""Of a Run of so many samples run.json has them: whoever reads format 1 reads it."""
_MANIFEST = "run.json"
_LATENCY = "latency.csv"
_FED = "fed"


@dataclass(frozen=True)
class _ModelInfo:
    name: str
    sha256: str


@dataclass(frozen=True)
class _OutputInfo:
    """An output in run.json; `shape` is None where it varies between samples."""

    name: str
    dtype: str
    shape: Optional[tuple[int, ...]]  # noqa: UP045


@dataclass(frozen=True)
class _Manifest:
    """run.json: what a Run is, but its arrays. `latency` is for whoever reads the file itself."""

    format: int
    engine: str
    engine_version: str
    device: str
    machine: str
    threads: int
    precision: str
    model: _ModelInfo
    warmup: int
    peak_memory_bytes: int
    wall_s: float
    created: str
    latency: dict[str, Any]
    outputs: tuple[_OutputInfo, ...]
    noise: dict[str, float] = field(default_factory=dict)
    failed: tuple[FailedSample, ...] = ()
    shard: Optional[dict[str, int]] = None  # noqa: UP045
    side_by_side: Optional[int] = None  # noqa: UP045
    cpu: Optional[dict[str, Any]] = None  # noqa: UP045
    sensors: Optional[dict[str, Any]] = None  # noqa: UP045
    task: Optional[dict[str, Any]] = None  # noqa: UP045
    labels: Optional[tuple[str, ...]] = None  # noqa: UP045
    image: Optional[dict[str, Any]] = None  # noqa: UP045
    inputs: Optional[tuple[str, ...]] = None  # noqa: UP045


# The fields that a Run and its manifest have alike.
_PLAIN = (
    "engine", "engine_version", "device", "machine", "threads", "precision", "warmup",
    "peak_memory_bytes", "wall_s", "created", "cpu", "sensors", "task", "labels", "image",
    "inputs", "shard", "side_by_side",
)  # fmt: skip
# Left out where they are None.
_WHERE_SAID = ("sensors", "task", "labels", "image", "inputs", "shard", "side_by_side")


@dataclass(frozen=True)
class Run:
    """What one engine on one device answered to which samples, and how fast.

    `outputs` maps an output's name to one array a sample, in the order of `samples`; of a Run that
    was opened these sequences, and `samples` and `latency_ms`, read what they are asked for. Going
    through them is fast; whoever wants all arrays in memory says list().
    `latency_ms[i][r]` is repeat `r` of sample `i`: copy in, inference, copy out; empty for every
    sample where nobody measured.
    `wall_s` is the time of everything: starting the engine, reading the data, warm-up.
    `model` is {name, sha256}; `precision` is the recipe's name. `noise` is, by output, how far the
    answers move when the inputs do by one unit in the last place, on the scale of the limits that
    they are judged by: a bundle's reference has it where a judge had doubts; else it is empty.
    `cpu` is what engine native says of the CPU, and by which of its features the engine chose
    kernels: `lr_cpu` in lite_run.h. `sensors` are, of a device far away, temperatures and
    frequencies "before" and "after", and whether it was "throttled" between, in words: see
    `py_runner.devices.sensors`. `task` says what the outputs mean: {"name", and the options of
    `py_runner.tasks`}; `labels` are the names of its classes, or the characters of a recognizer.
    Both are None where nobody said. Where a task is said, `image` is how pictures became tensors,
    as `ImageSpec.to_json` has it, and `inputs` are the names of what the model is fed: by them it
    is known where answers lie on a picture. `fed` is what the same model answered to the tensors of
    the run that this one was made against, where its own are others. `failed` are samples to which
    there is no answer because the engine died on them. `shard` says which part of a data set this
    is: {"index": 3, "of": 16, "total": samples of all parts}, the first being 1; None for all.
    `side_by_side` is how many engines of this run worked beside each other on a machine: latencies
    are then not those that one has alone, and `wall_s` is the sum of what each took; None of one.
    """

    engine: str
    engine_version: str
    device: str
    machine: str
    threads: int
    precision: str
    model: dict[str, str]
    samples: Sequence[SampleInfo]
    outputs: Mapping[str, Sequence[np.ndarray[Any, Any]]] = field(repr=False)
    latency_ms: Sequence[Sequence[float]] = field(repr=False)
    warmup: int
    peak_memory_bytes: int
    wall_s: float
    created: str
    noise: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, Any] | None = None
    sensors: dict[str, Any] | None = None
    task: dict[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    image: dict[str, Any] | None = None
    inputs: tuple[str, ...] | None = None
    failed: Sequence[FailedSample] = ()
    shard: dict[str, int] | None = None
    side_by_side: int | None = None
    fed: Run | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_once(self.samples)

    @property
    def latency(self) -> dict[str, float]:
        """Statistics over all measured inferences: see `latency_statistics`."""
        return latency_statistics(flat(self.latency_ms))

    def about(self) -> dict[str, Any]:
        """What run.json says but for the samples and the outputs."""
        return {
            **{name: getattr(self, name) for name in _PLAIN if name not in _WHERE_SAID},
            **{name: getattr(self, name) for name in _WHERE_SAID if getattr(self, name)},
            "model": self.model,
            "latency": self.latency,
            **({"noise": self.noise} if self.noise else {}),
            **({"failed": [asdict(one) for one in self.failed]} if self.failed else {}),
        }

    def summary(self, *, most_inline: int = MOST_INLINE) -> dict[str, Any]:
        """Everything but the arrays, as run.json has it: of more samples than `most_inline`, their
        number."""
        inline = len(self.samples) <= most_inline
        forms = {name: form_of(values) for name, values in self.outputs.items()}
        return {
            "format": FORMAT if inline else _LARGE,
            **self.about(),
            "outputs": [
                {"name": name, "dtype": dtype, "shape": None if shape is None else list(shape)}
                for name, (dtype, shape) in forms.items()
            ],
            "samples": list(map(sample_json, self.samples)) if inline else len(self.samples),
        }

    def save(self, path: str | Place, *, force: bool = False) -> Place:
        """Write a Run folder, whole or not at all. Raises UsageError where `path` is taken. At a
        URL run.json comes last."""
        path = place(path)
        with whole_folder(path, force=force) as folder:
            self.write(folder)
        return path

    def write(self, folder: Path, *, most_inline: int = MOST_INLINE) -> None:
        """Write the files of a Run into an existing folder, run.json last. Where there are more
        samples than `most_inline` they are in a file of their own, which is read bit by bit."""
        for index, values in enumerate(self.outputs.values()):
            write_output(folder, index, values)
        write_latency(folder / _LATENCY, self.samples, self.latency_ms)
        if len(self.samples) > most_inline:
            write_samples(folder / SAMPLES, self.samples)
        if self.fed is not None:
            (folder / _FED).mkdir()
            self.fed.write(folder / _FED, most_inline=most_inline)
        manifest.write(folder / _MANIFEST, self.summary(most_inline=most_inline))

    @classmethod
    def open(cls, path: str | Place) -> Run:
        """Read a Run folder; its arrays, and the samples and latencies of a large one, stay where
        they are, on disk or at a URL, until they are asked for. Raises ModelError otherwise."""
        path = place(path)
        manifest.refuse(
            path / "pages.json",
            "is the run of a pipeline: it is compared with another one, and inspected",
        )
        if is_under_way(path):
            raise ModelError(in_words(path))
        if isinstance(path, Url) and path.is_dir() and not (path / _MANIFEST).exists():
            raise ModelError(f"{path}: not a run, or not complete: no {_MANIFEST} in it, the last")
        document, _ = manifest.read(
            path / _MANIFEST, what="a run", version=(FORMAT, _LARGE), advice="run again"
        )
        try:
            return cls._of(path, document)
        except ModelError:
            raise
        except (
            KeyError, IndexError, TypeError, ValueError, OSError, EOFError, UsageError, csv.Error,
        ) as error:  # fmt: skip
            what = f"sample {error} is not in run.json" if isinstance(error, KeyError) else error
            raise ModelError(f"{path}: damaged run: {what}; run again") from None

    @classmethod
    def _of(cls, path: Place, document: dict[str, Any]) -> Run:
        about = manifest.from_json(_Manifest, document)
        large = document["format"] == _LARGE
        samples = open_samples(path, document.get("samples"), large=large, keep=MOST_INLINE)
        check_once(samples)
        return cls(
            **{name: getattr(about, name) for name in _PLAIN},
            model=asdict(about.model),
            noise=about.noise,
            failed=about.failed,
            samples=samples,
            outputs={
                entry.name: open_output(
                    path,
                    index,
                    entry.dtype,
                    stacked=entry.shape is not None,
                    count=len(samples),
                )
                for index, entry in enumerate(about.outputs)
            },
            latency_ms=read_latency(path / _LATENCY, keys_of(samples)),
            fed=cls.open(path / _FED) if (path / _FED).exists() else None,
        )

    def first(self, count: int) -> Run:
        """The run of the first samples alone."""
        return self.select(range(len(self.samples))[:count])

    def select(self, places: Iterable[int]) -> Run:
        """The run of the samples at these places alone, in that order."""
        return replace(
            self,
            samples=chosen(self.samples, places),
            outputs={name: chosen(values, places) for name, values in self.outputs.items()},
            latency_ms=chosen(self.latency_ms, places),
        )

    @classmethod
    def merge(cls, runs: Sequence[Run], *, names: Sequence[str] = ()) -> Run:
        """One run of the samples of all: how several devices share a data set.

        Raises UsageError unless all ran the same model, fed alike, in the same precision and for
        the same task, to the same outputs on disjoint samples; and, of shards, unless they are
        of one division and all are there, or all are the same one. It calls them by `names`.
        Where devices differ, the fields list them; latencies stay those of each sample.
        What was opened stays on disk, and is read when this run is saved.
        """
        fields = merged(runs, names or [f"run {number}" for number, _ in enumerate(runs, 1)])
        return replace(runs[0], **fields)


def machine() -> str:
    """What a run was made on, such as "Linux aarch64"."""
    return f"{platform.system()} {platform.machine()}"
