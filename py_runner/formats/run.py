"""What one engine on one device answered to which samples, and how fast: a folder.

RUN/
  run.json       engine, device, samples with hashes, latency statistics in ms, peak memory; of a
                 reference also "noise", see `Run`
  latency.csv    every measured inference: sample id, repeat, milliseconds
  output_<i>.npy the answers, samples stacked on a new axis 0; where shapes vary between
                 samples, output_<i>/<sample>.npy instead
  fed/           another such folder, where each step was to be judged alone: see `Run`
"""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from py_runner.errors import ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.folder import whole_folder
from py_runner.files.regular import load_array, open_regular, save_array

__all__ = [
    "FORMAT",
    "Run",
    "SampleInfo",
    "latency_statistics",
    "machine",
]

FORMAT = 1
_MANIFEST = "run.json"
_FED = "fed"


@dataclass(frozen=True)
class SampleInfo:
    """Which sample was fed: its id, the hash of its tensors, its label or None, and of a picture
    the checksum of its decoded pixels."""

    id: str
    sha256: str
    label: Optional[int]  # noqa: UP045  evaluated when a manifest is read, by CPython 3.9 too
    pixels: Optional[str] = None  # noqa: UP045


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
    samples: tuple[SampleInfo, ...]
    noise: dict[str, float] = field(default_factory=dict)
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
    "inputs",
)  # fmt: skip
_WHERE_SAID = ("sensors", "task", "labels", "image", "inputs")  # left out where they are None


@dataclass(frozen=True)
class Run:
    """What one engine on one device answered to which samples, and how fast.

    `outputs` maps an output's name to one array a sample, in the order of `samples`;
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
    the run that this one was made against, where its own are others.
    """

    engine: str
    engine_version: str
    device: str
    machine: str
    threads: int
    precision: str
    model: dict[str, str]
    samples: tuple[SampleInfo, ...]
    outputs: dict[str, list[np.ndarray[Any, Any]]] = field(repr=False)
    latency_ms: list[list[float]] = field(repr=False)
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
    fed: Run | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        ids = [s.id for s in self.samples]
        if not ids:
            raise UsageError("a run holds no samples")
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise UsageError(f"a run holds sample '{twice}' twice")

    @property
    def latency(self) -> dict[str, float]:
        """Statistics over all measured inferences: see `latency_statistics`."""
        return latency_statistics([ms for repeats in self.latency_ms for ms in repeats])

    def summary(self) -> dict[str, Any]:
        """Everything but the arrays, as run.json has it."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _PLAIN if name not in _WHERE_SAID},
            **{name: getattr(self, name) for name in _WHERE_SAID if getattr(self, name)},
            "model": self.model,
            "latency": self.latency,
            **({"noise": self.noise} if self.noise else {}),
            "outputs": [
                {
                    "name": name,
                    "dtype": str(values[0].dtype),
                    "shape": list(values[0].shape) if _alike(values) else None,
                }
                for name, values in self.outputs.items()
            ],
            "samples": [
                {"id": s.id, "sha256": s.sha256, "label": s.label}
                | ({} if s.pixels is None else {"pixels": s.pixels})
                for s in self.samples
            ],
        }

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write a Run folder, whole or not at all. Raises UsageError where `path` is taken."""
        path = Path(path)
        with whole_folder(path, force=force) as folder:
            self.write(folder)
        return path

    def write(self, folder: Path) -> None:
        """Write the files of a Run into an existing folder."""
        for index, values in enumerate(self.outputs.values()):
            if _alike(values):
                save_array(folder / f"output_{index}.npy", np.stack(values))
                continue
            (folder / f"output_{index}").mkdir()
            for number, value in enumerate(values):
                file = folder / f"output_{index}" / f"{number:06d}.npy"
                save_array(file, value)
        with (folder / "latency.csv").open("w", newline="", encoding="utf-8") as file_:
            writer = csv.writer(file_)
            writer.writerow(["sample", "repeat", "ms"])
            for sample, repeats in zip(self.samples, self.latency_ms):
                for number, ms in enumerate(repeats):
                    writer.writerow([_cell(sample.id), number, f"{ms:.6f}"])
        if self.fed is not None:
            (folder / _FED).mkdir()
            self.fed.write(folder / _FED)
        manifest.write(folder / _MANIFEST, self.summary())

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a Run folder; arrays stay on disk until used. Raises ModelError otherwise."""
        path = Path(path)
        manifest.refuse(
            path / "pages.json",
            "is the run of a pipeline: it is compared with another one, and inspected",
        )
        document, _ = manifest.read(
            path / _MANIFEST, what="a run", version=FORMAT, advice="run again"
        )
        try:
            about = manifest.from_json(_Manifest, document)
            outputs = {
                entry.name: _read_output(path, index, entry, len(about.samples))
                for index, entry in enumerate(about.outputs)
            }
            return cls(
                **{name: getattr(about, name) for name in _PLAIN},
                model=asdict(about.model),
                noise=about.noise,
                samples=about.samples,
                outputs=outputs,
                latency_ms=_read_latency(path / "latency.csv", about.samples),
                fed=cls.open(path / _FED) if (path / _FED).exists() else None,
            )
        except ModelError:
            raise
        except (KeyError, TypeError, ValueError, OSError, EOFError, UsageError) as error:
            what = f"sample {error} is not in run.json" if isinstance(error, KeyError) else error
            raise ModelError(f"{path}: damaged run: {what}; run again") from None

    def first(self, count: int) -> Run:
        """The run of the first samples alone."""
        return self.select(range(len(self.samples))[:count])

    def select(self, places: Sequence[int]) -> Run:
        """The run of the samples at these places alone, in that order."""
        return replace(
            self,
            samples=tuple(self.samples[i] for i in places),
            outputs={name: [values[i] for i in places] for name, values in self.outputs.items()},
            latency_ms=[self.latency_ms[i] for i in places],
        )

    @classmethod
    def merge(cls, runs: Sequence[Run]) -> Run:
        """One run of the samples of all: how several devices share a data set.

        Raises UsageError unless all ran the same model in the same precision to the same outputs
        on disjoint samples.
        Where devices differ, the fields list them; latencies stay those of each sample.
        """
        if not runs:
            raise UsageError("no runs to merge")
        first = runs[0]
        for other in runs[1:]:
            if other.model != first.model or list(other.outputs) != list(first.outputs):
                raise UsageError(
                    f"these runs are of different models: {first.model['name']} "
                    f"{first.model['sha256'][:12]}, {other.model['name']} "
                    f"{other.model['sha256'][:12]}"
                )
            if other.precision != first.precision:
                raise UsageError(
                    f"these runs are of different precisions, {first.precision} and "
                    f"{other.precision}: compare them, they do not merge"
                )
            if (other.task, other.labels) != (first.task, first.labels):
                raise UsageError("these runs were made for different tasks, or with other labels")
        return cls(
            engine=_joined(r.engine for r in runs),
            engine_version=_joined(r.engine_version for r in runs),
            device=_joined(r.device for r in runs),
            machine=_joined(r.machine for r in runs),
            threads=max(r.threads for r in runs),
            precision=first.precision,
            model=first.model,
            samples=tuple(s for r in runs for s in r.samples),
            outputs={n: [v for r in runs for v in r.outputs[n]] for n in first.outputs},
            latency_ms=[ms for r in runs for ms in r.latency_ms],
            warmup=min(r.warmup for r in runs),
            peak_memory_bytes=max(r.peak_memory_bytes for r in runs),
            wall_s=sum(r.wall_s for r in runs),
            created=max(r.created for r in runs),
            noise={
                name: max(r.noise[name] for r in runs if name in r.noise)
                for name in dict.fromkeys(n for r in runs for n in r.noise)
            },
            cpu=first.cpu if all(r.cpu == first.cpu for r in runs) else None,
            sensors=_sensors([r.sensors for r in runs if r.sensors]),
            task=first.task,
            labels=first.labels,
            image=first.image,
            inputs=first.inputs,
            fed=cls.merge(fed) if (fed := [r.fed for r in runs if r.fed is not None]) else None,
        )


def _sensors(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """From the beginning of the first run to the end of the last one."""
    if not found:
        return None
    throttled = dict.fromkeys(word for one in found for word in one["throttled"])
    return {
        "before": found[0]["before"],
        "after": found[-1]["after"],
        "throttled": list(throttled),
    }


def machine() -> str:
    """What a run was made on, such as "Linux aarch64"."""
    return f"{platform.system()} {platform.machine()}"


def latency_statistics(latency_ms: Sequence[float]) -> dict[str, float]:
    """count, mean, p50, p90, p99, min, max (ms; percentiles interpolate linearly between ranks)
    and throughput_per_s, the inferences a second that the mean allows. Of none, count alone."""
    if not len(latency_ms):
        return {"count": 0}
    values = np.asarray(latency_ms, np.float64)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    mean = float(values.mean())
    return {
        "count": len(values),
        "mean_ms": mean,
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "min_ms": float(values.min()),
        "max_ms": float(values.max()),
        "throughput_per_s": 1e3 / mean if mean else 0.0,
    }


def _alike(values: Sequence[np.ndarray[Any, Any]]) -> bool:
    return all(v.shape == values[0].shape and v.dtype == values[0].dtype for v in values)


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _read_output(
    path: Path, index: int, entry: _OutputInfo, count: int
) -> list[np.ndarray[Any, Any]]:
    stacked = path / f"output_{index}.npy"
    if entry.shape is not None:
        values = load_array(stacked, mapped=True)
        if len(values) != count or str(values.dtype) != entry.dtype:
            raise ModelError(f"{stacked}: damaged: does not hold the {count} samples of run.json")
        return [np.asarray(value) for value in values]
    folder = path / f"output_{index}"
    return [load_array(folder / f"{n:06d}.npy") for n in range(count)]


def _cell(id_: str) -> str:
    """A sample's id as a cell of latency.csv: a spreadsheet takes what begins like a formula for
    one, and a quote before it for the sign that it is text. Other writers leave ids as they are."""
    return f"'{id_}" if id_[:1] in ("=", "+", "-", "@", "'", "\t", "\r") else id_


def _read_latency(path: Path, samples: Sequence[SampleInfo]) -> list[list[float]]:
    latency: dict[str, list[float]] = {s.id: [] for s in samples}
    ids = {**{s.id: s.id for s in samples}, **{_cell(s.id): s.id for s in samples}}
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not rows.fieldnames:
            raise ModelError(f"{path}: damaged: is empty")
        for row in rows:
            latency[ids[row["sample"]]].append(float(row["ms"]))
    if any(latency.values()) and not all(latency.values()):
        raise ModelError(f"{path}: damaged: not every sample has a latency")
    return list(latency.values())
