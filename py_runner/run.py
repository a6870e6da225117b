"""Run a model on an engine, and keep what it answered and how fast.

RUN/
  run.json       engine, device, samples with hashes, latency statistics in ms, peak memory
  latency.csv    every measured inference: sample id, repeat, milliseconds
  output_<i>.npy the answers, samples stacked on a new axis 0; where shapes vary between
                 samples, output_<i>/<sample>.npy instead
"""

from __future__ import annotations

import csv
import json
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from py_runner import emulator
from py_runner.bundle import Model
from py_runner.child import Worker, serve_script
from py_runner.dataset import Sample, sample_hash
from py_runner.engines import lite, native, paddle
from py_runner.errors import DataError, EngineError, ModelError, UsageError
from py_runner.folder import temporary_folder, whole_folder
from py_runner.nb import read_nb

__all__ = [
    "ENGINES",
    "FORMAT",
    "Run",
    "SampleInfo",
    "bundle_target",
    "latency_statistics",
    "machine",
    "run",
]

FORMAT = 1
ENGINES = ("lite", "native", "paddle")
# What each runs on: a pattern, and in words.
_DEVICES = {
    "lite": ("cpu", "cpu only"),
    "native": ("|".join(("cpu", *emulator.DEVICES)), ", ".join(("cpu", *emulator.DEVICES))),
    "paddle": (r"cpu(\+onednn)?|gpu(:[0-9]+)?", "cpu, cpu+onednn, gpu or gpu:N"),
}
_MANIFEST = "run.json"
_LONGEST_S = 1e6  # what select() surely takes
# An emulated board answers to samples in batches, which begin small and grow until one takes this.
_BATCH_S = 20
_MOST_IN_BATCH = 64
# The fields of a Run that run.json holds as they are.
_PLAIN: dict[str, Any] = {
    "engine": str, "engine_version": str, "device": str, "machine": str, "threads": int,
    "precision": str, "model": dict, "warmup": int, "peak_memory_bytes": int,
    "wall_s": (int, float), "created": str,
}  # fmt: skip


@dataclass(frozen=True)
class SampleInfo:
    """Which sample was fed: its id, the hash of its tensors, its label or None."""

    id: str
    sha256: str
    label: int | None


@dataclass(frozen=True)
class Run:
    """What one engine on one device answered to which samples, and how fast.

    `outputs` maps an output's name to one array a sample, in the order of `samples`;
    `latency_ms[i][r]` is repeat `r` of sample `i`: copy in, inference, copy out.
    `wall_s` is the time of everything: starting the engine, reading the data, warm-up.
    `model` is {name, sha256}; `precision` is the recipe's name.
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
            **{name: getattr(self, name) for name in _PLAIN},
            "latency": self.latency,
            "outputs": [
                {
                    "name": name,
                    "dtype": str(values[0].dtype),
                    "shape": list(values[0].shape) if _alike(values) else None,
                }
                for name, values in self.outputs.items()
            ],
            "samples": [{"id": s.id, "sha256": s.sha256, "label": s.label} for s in self.samples],
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
                np.save(folder / f"output_{index}.npy", np.stack(values), allow_pickle=False)
                continue
            (folder / f"output_{index}").mkdir()
            for number, value in enumerate(values):
                file = folder / f"output_{index}" / f"{number:06d}.npy"
                np.save(file, value, allow_pickle=False)
        with (folder / "latency.csv").open("w", newline="", encoding="utf-8") as file_:
            writer = csv.writer(file_)
            writer.writerow(["sample", "repeat", "ms"])
            for sample, repeats in zip(self.samples, self.latency_ms):
                for number, ms in enumerate(repeats):
                    writer.writerow([sample.id, number, f"{ms:.6f}"])
        text = json.dumps(self.summary(), indent=1, ensure_ascii=False)
        (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a Run folder; arrays stay on disk until used. Raises ModelError otherwise."""
        path = Path(path)
        manifest = path / _MANIFEST
        try:
            document = json.loads(manifest.read_bytes())
        except FileNotFoundError:
            missing = "no such folder" if not path.exists() else f"no {_MANIFEST} in it"
            raise ModelError(f"{path}: not a run: {missing}") from None
        except OSError as error:
            raise ModelError(f"{manifest}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ModelError(f"{manifest}: damaged: not JSON; run again") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ModelError(f"{manifest}: not a run of format {FORMAT}; run again")
        try:
            _check_types(document)
            samples = tuple(SampleInfo(**entry) for entry in document["samples"])
            outputs = {
                entry["name"]: _read_output(path, index, entry, len(samples))
                for index, entry in enumerate(document["outputs"])
            }
            return cls(
                **{name: document[name] for name in _PLAIN},
                samples=samples,
                outputs=outputs,
                latency_ms=_read_latency(path / "latency.csv", samples),
            )
        except ModelError:
            raise
        except (
            KeyError, TypeError, ValueError, OSError, EOFError, AttributeError, UsageError,
        ) as error:  # fmt: skip
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"{path}: damaged run: {what}; run again") from None

    def first(self, count: int) -> Run:
        """The run of the first samples alone."""
        return replace(
            self,
            samples=self.samples[:count],
            outputs={name: values[:count] for name, values in self.outputs.items()},
            latency_ms=self.latency_ms[:count],
        )

    @classmethod
    def merge(cls, runs: Sequence[Run]) -> Run:
        """One run of the samples of all: how several devices share a data set.

        Raises UsageError unless all ran the same model to the same outputs on disjoint samples.
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
        )


def machine() -> str:
    """What a run was made on, such as "Linux aarch64"."""
    return f"{platform.system()} {platform.machine()}"


def latency_statistics(latency_ms: Sequence[float]) -> dict[str, float]:
    """count, mean, p50, p90, p99, min, max (ms; percentiles interpolate linearly between ranks)
    and throughput_per_s, the inferences a second that the mean allows."""
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
    progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Run:
    """Feed samples to a model on an engine, which works in a process of its own.

    Args:
        model: what to run: for engines `lite` and `native` the model of a bundle that
            `bundle_target` says, a source model for `paddle`.
        samples: consumed once, ahead of the engine by as much as fits a pipe.
        engine: "lite", "native" or "paddle".
        device: "cpu"; for engine `paddle` also "cpu+onednn", "gpu" and "gpu:N"; for `native` also
            "qemu-aarch64" and "qemu-arm", which emulate a board: see emulator.py. Its latencies
            are the emulator's and say nothing of a board's.
        threads: CPU threads of the engine.
        warmup: unmeasured inferences of the first sample.
        repeat: measured inferences a sample; the answer of the last one is kept.
        tensorrt, precision: for engine `paddle` on a GPU: TensorRT, "fp32" or "fp16".
        time_limit_s: how long one sample may take, repeats included.
        unsafe_int8: run int8 kernels on x86 all the same, where they compute wrong numbers.
        progress: called with the number of samples answered so far.
        warn: called with what the native engine has to say of a bundle that it runs all the same,
            such as that its library is of another version.

    Raises:
        UsageError: an unknown engine, or options that it does not have.
        EngineError: the engine is not installed, or died; names the sample and its last words.
        DataError: a sample does not fit the model's inputs, or there is none.
    """
    _check_options(model, engine, device, threads, warmup, repeat, tensorrt, precision)
    if engine != "paddle":
        _check_file(model, bundle_target(engine, device), unsafe_int8=unsafe_int8)
    if time_limit_s is not None and not 0 < time_limit_s <= _LONGEST_S:
        raise UsageError(f"the time limit is above 0 s, at most {_LONGEST_S:g}, not {time_limit_s}")
    # The sample's shape is part of TensorRT's configuration, and an empty data set needs no engine.
    pending = iter(samples)
    first = next(pending, None)
    if first is None:
        raise DataError("there are no samples to run")
    if device in emulator.DEVICES:
        return _run_emulated(
            model,
            _with_first(first, pending),
            device=device,
            threads=threads,
            warmup=warmup,
            repeat=repeat,
            time_limit_s=time_limit_s,
            progress=progress,
            warn=warn,
        )
    config: dict[str, Any] = {
        "files": [str(f) for f in model.files],
        "inputs": [spec.name for spec in model.inputs],
        "device": device,
        "threads": threads,
        "warmup": warmup,
        "repeat": repeat,
        "tensorrt": tensorrt,
        "precision": precision,
        "shapes": {
            spec.name: {"model": spec.shape, "sample": first.feeds[spec.name].shape}
            for spec in model.inputs
            if spec.name in first.feeds
        },
    }
    python = lite.interpreter() if engine == "lite" else sys.executable
    module = {"lite": lite, "native": native, "paddle": paddle}[engine]
    argv = [python, "-W", "ignore", serve_script(), str(module.__file__)]
    # Neither engine on x86 takes every thread count through its API; their OpenMP does.
    env = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    infos: list[SampleInfo] = []
    outputs: dict[str, list[np.ndarray[Any, Any]]] = {}
    latency_ms: list[list[float]] = []
    peak = 0
    start = time.perf_counter()
    try:
        worker = Worker(argv, config, name=engine, env=env)
    except EngineError as error:
        text = str(error)
        if engine == "native" and str(model.files[0].parent) in text:
            raise  # the library names what is at fault itself
        if engine == "lite" and re.search("ModuleNotFoundError|SyntaxError|code 127", text):
            text = lite.missing(python)  # not even what serve.py needs; 127: a shim of pyenv
        raise EngineError(f"{model.files[0]}: {text}") from None
    with worker, _Sender(worker, _with_first(first, pending), model, infos) as sender:
        if warn:
            for text in worker.ready["warnings"]:
                warn(text)
        while True:
            sender.wait_for(len(latency_ms))
            if sender.done and len(latency_ms) == len(infos):
                break
            try:
                header, answer = worker.receive(time_limit_s=time_limit_s)
            except EngineError as error:
                sample = infos[len(latency_ms)].id
                raise EngineError(f"{model.files[0]}: sample '{sample}': {error}") from None
            for name, value in answer.items():
                outputs.setdefault(name, []).append(value)
            latency_ms.append(header["latency_ms"])
            peak = max(peak, header["peak_memory_bytes"])
            if progress:
                progress(len(latency_ms))
        if sender.error is not None:
            raise sender.error
    return Run(
        engine=engine,
        engine_version=str(worker.ready["version"]),
        device=device + ("+tensorrt" if tensorrt else ""),
        machine=machine(),
        threads=threads,
        precision=precision if device.startswith("gpu") else model.precision,
        model={"name": model.name, "sha256": model.sha256},
        samples=tuple(infos),
        outputs=outputs,
        latency_ms=latency_ms,
        warmup=warmup,
        peak_memory_bytes=peak,
        wall_s=time.perf_counter() - start,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def bundle_target(engine: str, device: str = "cpu") -> str:
    """Which of a bundle's models `lite` or `native` runs on a device: "arm" or "x86"."""
    if engine == "native":
        return "arm" if device in emulator.DEVICES else native.target()
    return "x86"


def _run_emulated(
    model: Model,
    samples: Iterator[Sample],
    *,
    device: str,
    threads: int,
    warmup: int,
    repeat: int,
    time_limit_s: float | None,
    progress: Callable[[int], None] | None,
    warn: Callable[[str], None] | None,
) -> Run:
    """`run` on an emulated board: batch by batch, each in a process that warms up anew."""
    problem = emulator.missing(device)
    if problem:
        raise EngineError(problem)
    runs: list[Run] = []
    answered, size = 0, 1
    start = time.perf_counter()
    while batch := list(islice(samples, size)):
        for sample in batch:
            _check_feeds(sample, model)
        began = time.perf_counter()
        with temporary_folder() as folder:
            out = folder / "run"
            try:
                warnings = emulator.answer(
                    model,
                    batch,
                    out,
                    device=device,
                    threads=threads,
                    warmup=warmup,
                    repeat=repeat,
                    time_limit_s=time_limit_s and time_limit_s * len(batch),
                )
            except EngineError as error:
                if str(model.files[0].parent) in str(error):
                    raise  # lite_run names what is at fault itself
                which = " to ".join(dict.fromkeys(f"'{s.id}'" for s in (batch[0], batch[-1])))
                raise EngineError(f"{model.files[0]}: sample {which}: {error}") from None
            done = Run.open(out)
            outputs = {name: [np.array(v) for v in values] for name, values in done.outputs.items()}
            if warn and not runs:  # each batch has the same
                for text in warnings:
                    warn(text)
            runs.append(replace(done, outputs=outputs))
        answered += len(batch)
        if progress:
            progress(answered)
        if time.perf_counter() - began < _BATCH_S:
            size = min(2 * size, _MOST_IN_BATCH)
    return replace(
        Run.merge(runs),
        device=device,
        precision=model.precision,
        warmup=warmup,
        wall_s=time.perf_counter() - start,
    )


class _Sender:
    """Sends samples from a thread, so that the next is there before the engine asks for it.

    `infos` grows before a sample is sent; `wait_for(n)` returns when the n-th has been, or when
    there are no more. Leaving kills the worker, whose answers have been received or given up.
    """

    def __init__(
        self, worker: Worker, samples: Iterator[Sample], model: Model, infos: list[SampleInfo]
    ) -> None:
        self._worker, self._samples, self._model, self._infos = worker, samples, model, infos
        self._changed = threading.Condition()
        self.done = False
        self._stopped = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._send_all, name="samples", daemon=True)

    def _send_all(self) -> None:
        try:
            for sample in self._samples:
                if self._stopped:
                    break
                _check_feeds(sample, self._model)
                info = SampleInfo(sample.id, sample_hash(sample), sample.label)
                with self._changed:
                    self._infos.append(info)
                    self._changed.notify()
                self._worker.send({}, {s.name: sample.feeds[s.name] for s in self._model.inputs})
        except BaseException as error:  # raised again by run(), in its own thread
            self.error = error
        finally:
            with self._changed:
                self.done = True
                self._changed.notify()

    def wait_for(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._infos) > count or self.done)

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True  # do not prepare samples that nobody waits for
        self._worker.kill()  # a thread that still writes gets a broken pipe
        self._thread.join()


def _with_first(first: Sample, others: Iterator[Sample]) -> Iterator[Sample]:
    yield first
    yield from others


def _check_options(
    model: Model,
    engine: str,
    device: str,
    threads: int,
    warmup: int,
    repeat: int,
    tensorrt: bool,
    precision: str,
) -> None:
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}': choose {', '.join(ENGINES)}")
    pattern, words = _DEVICES[engine]
    if not re.fullmatch(pattern, device):
        known = any(re.fullmatch(other, device) for other, _ in _DEVICES.values())
        what = "" if known else f"unknown device '{device}': "
        raise UsageError(f"{what}engine {engine} runs on device {words}")
    if precision not in ("fp32", "fp16"):
        raise UsageError(f"unknown precision '{precision}': choose fp32 or fp16")
    if not device.startswith("gpu") and (tensorrt or precision != "fp32"):
        raise UsageError("TensorRT and fp16 belong to engine paddle on a GPU: add --device gpu")
    if threads < 1 or repeat < 1 or warmup < 0:
        raise UsageError("threads and repeat are at least 1, warmup at least 0")
    file = model.files[0]
    if (file.suffix == ".nb") != (engine != "paddle"):
        raise UsageError(
            f"{file}: "
            + (
                "engine paddle runs the source model: name that one"
                if engine == "paddle"
                else f"engine {engine} runs bundles: convert the model first"
            )
        )


def _check_file(model: Model, target: str, *, unsafe_int8: bool) -> None:
    """Raise EngineError for a file on which an engine of this target would say what is not so."""
    nb = read_nb(model.files[0])
    if nb.target not in (target, "host"):
        # Measured on x86: it "runs", exits 0, and leaves the outputs uninitialised.
        raise EngineError(
            f"{model.files[0]}: is made for {nb.target}, and the engine here is {target}: "
            f"convert with --target {target} as well"
        )
    if (
        target == "x86"
        and not unsafe_int8
        and any(precision == "int8" for _, precision in nb.kernels)
    ):
        # Measured: accuracy 0.5 instead of 0.95, NaN, and other numbers in the next run.
        raise EngineError(
            f"{model.files[0]}: has int8 kernels, which compute wrong numbers on x86: run the "
            "quantized model on engine paddle (convert --save-quantized), or pass --unsafe-int8"
        )


def _check_feeds(sample: Sample, model: Model) -> None:
    for spec in model.inputs:
        if spec.name not in sample.feeds:
            raise DataError(f"sample '{sample.id}': nothing for input '{spec.name}'")
        wrong = spec.mismatch(sample.feeds[spec.name])
        if wrong:
            # An engine that is fed it all the same reads garbage and says nothing.
            raise DataError(f"sample '{sample.id}': {wrong}")


def _check_types(document: dict[str, Any]) -> None:
    """Raise ValueError where a field of run.json, which may come from elsewhere, is of no use."""
    fields = [(name, document[name], kind) for name, kind in _PLAIN.items()]
    fields += [(f"model.{name}", document["model"][name], str) for name in ("name", "sha256")]
    fields += [("outputs.name", entry["name"], str) for entry in document["outputs"]]
    for entry in document["samples"]:
        fields += [("samples.id", entry["id"], str), ("samples.sha256", entry["sha256"], str)]
        fields += [("samples.label", entry["label"], (int, type(None)))]
    for name, value, kind in fields:
        if not isinstance(value, kind):
            raise ValueError(f"field '{name}' is not of its type")


def _alike(values: Sequence[np.ndarray[Any, Any]]) -> bool:
    return all(v.shape == values[0].shape and v.dtype == values[0].dtype for v in values)


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _read_output(
    path: Path, index: int, entry: dict[str, Any], count: int
) -> list[np.ndarray[Any, Any]]:
    stacked = path / f"output_{index}.npy"
    if entry["shape"] is not None:
        values = np.load(stacked, mmap_mode="r", allow_pickle=False)
        if len(values) != count or str(values.dtype) != entry["dtype"]:
            raise ModelError(f"{stacked}: damaged: does not hold the {count} samples of run.json")
        return [np.asarray(value) for value in values]
    folder = path / f"output_{index}"
    return [np.load(folder / f"{n:06d}.npy", allow_pickle=False) for n in range(count)]


def _read_latency(path: Path, samples: Sequence[SampleInfo]) -> list[list[float]]:
    latency: dict[str, list[float]] = {s.id: [] for s in samples}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            latency[row["sample"]].append(float(row["ms"]))
    if not all(latency.values()):
        raise ModelError(f"{path}: damaged: not every sample has a latency")
    return list(latency.values())
