"""From bundles on disk to models that can be served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from lite_opt.serving.metrics import Metrics
from lite_opt.serving.pool import Engines
from lite_opt.serving.served import Served, first_sample, free_batch
from lite_opt.serving.shadow import Shadow
from py_runner.engines import ENGINES, native
from py_runner.errors import UsageError
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Bundle
from py_runner.inference import bundle_target
from py_runner.job import Job
from py_runner.tensors import Model

__all__ = ["Choices", "opened_models"]

_SHADOW_QUEUE = 4  # requests that wait for the server engine before others are skipped


@dataclass(frozen=True)
class Choices:
    """How models are run.

    engine: "lite", "native" or "onnx"; by default what this machine has kernels for.
    engines: how many children each model has, `threads` each has that many.
    queue, max_batch, batch_delay_ms, time_limit_s, memory_limit_gb: see `Engines` and `Job`.
    servers: source models, each of which answers beside the bundle that was made from it.
    share: of the requests that the server engine answers too; 0 for none.
    device, tensorrt, precision: of the server engine, as `run` has them.
    """

    engine: str | None = None
    threads: int = 1
    engines: int = 1
    queue: int = 32
    max_batch: int = 1
    batch_delay_ms: float = 2.0
    time_limit_s: float = 60.0
    memory_limit_gb: float | None = None
    servers: Sequence[str | Path] = ()
    share: float = 0.0
    device: str = "cpu"
    tensorrt: bool = False
    precision: str = "fp32"

    def __post_init__(self) -> None:
        known = [name for name, kind in ENGINES.items() if kind.suffix]
        if self.engine not in (None, *known):
            names = ", ".join(known)
            raise UsageError(f"bundles are served by engine {names}, not '{self.engine}'")
        for name in ("engines", "queue", "max_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is at least 1, not {getattr(self, name)}")
        if not 0 <= self.batch_delay_ms <= 1e4:
            raise UsageError(f"batch_delay_ms is 0 to 10000, not {self.batch_delay_ms}")
        if not 0 <= self.share <= 1:
            raise UsageError(f"the share of requests is 0 to 1, not {self.share}")
        if self.share and not self.servers:
            raise UsageError("a shadow needs the model of the server engine: --server MODEL")
        if not self.servers and (self.device != "cpu" or self.tensorrt or self.precision != "fp32"):
            raise UsageError("--device, --tensorrt and --precision are of the server engine: "
                             "--server MODEL")  # fmt: skip


@contextmanager
def opened_models(
    paths: Sequence[str | Path], choices: Choices, metrics: Metrics, *, max_pixels: int
) -> Iterator[list[Served]]:
    """The bundles at these paths, ready to be started, as long as the block lasts.

    Raises UsageError where two have one name, a server model belongs to none of them, or an option
    fits none; ModelError and EngineError where a file is at fault.
    """
    bundles = [Bundle.open(path) for path in paths]
    names = [bundle.name for bundle in bundles]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two bundles are named '{name}': serve them from two servers")
        if not name or "/" in name:
            raise UsageError(f"a model cannot be served by the name '{name}': rename it")
    with temporary_folder() as temporary:
        servers = _sources(choices.servers, bundles, temporary)
        yield [_served(b, servers.get(b.name), choices, metrics, max_pixels) for b in bundles]


def _sources(
    paths: Sequence[str | Path], bundles: Sequence[Bundle], folder: Path
) -> dict[str, Model]:
    """Source models by the name of the bundle that was made from each."""
    found = {}
    for number, path in enumerate(paths):
        source = Source.of(load(path))
        checksum = source.files.sha256()
        mine = [bundle.name for bundle in bundles if bundle.source.get("sha256") == checksum]
        if not mine:
            raise UsageError(f"{path}: none of these bundles was made from this model")
        place = folder / str(number)
        place.mkdir()
        found.update(dict.fromkeys(mine, source.model(place)))
    return found


def _served(
    bundle: Bundle, source: Model | None, choices: Choices, metrics: Metrics, max_pixels: int
) -> Served:
    engine = choices.engine or ("native" if native.target() == "arm" else "lite")
    if choices.max_batch > 1 and not free_batch(bundle):
        raise UsageError(
            f"{bundle.path}: its batch is not free, as --max-batch takes: convert a model with a "
            "batch of ?"
        )
    job = Job(
        bundle.model(bundle_target(engine)),
        engine,
        threads=choices.threads,
        time_limit_s=choices.time_limit_s,
        memory_limit_gb=choices.memory_limit_gb,
    )
    job.check_file(bundle_target(engine))
    edge = _engines(job, bundle, "edge", choices, metrics)
    served = Served(bundle.name, bundle, edge, max_pixels=max_pixels)
    if source is not None:
        beside = Job(
            source,
            "paddle",
            choices.device,
            threads=choices.threads,
            tensorrt=choices.tensorrt,
            precision=choices.precision,
            time_limit_s=choices.time_limit_s,
            memory_limit_gb=choices.memory_limit_gb,
        )
        served.add_server(_engines(beside, bundle, "server", choices, metrics))
        if choices.share:
            named = (served.name, served.pools["server"], choices.share, served.agreement, metrics)
            served.shadow = Shadow(*named)
    return served


def _engines(job: Job, bundle: Bundle, role: str, choices: Choices, metrics: Metrics) -> Engines:
    alone: dict[str, Any] = {"count": 1, "queue": _SHADOW_QUEUE, "max_batch": 1}
    as_asked = {
        "count": choices.engines, "queue": choices.queue, "max_batch": choices.max_batch,
        "batch_delay_s": choices.batch_delay_ms / 1e3,
    }  # fmt: skip
    engines = Engines(
        job,
        first_sample(bundle, choices.max_batch if role == "edge" else 1),
        died=lambda _: metrics.deaths.labels(bundle.name, role).inc(),
        **(as_asked if role == "edge" else alone),
    )
    metrics.watch(engines, bundle.name, role)
    return engines
