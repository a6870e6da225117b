"""A bundle that is served: its engines, its self-check, pictures in and a task's answers out."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import kept_limits
from lite_opt.serving.pool import Answer, Engines, joined
from lite_opt.serving.refusals import Refusal
from lite_opt.serving.shadow import Shadow
from lite_opt.views.pictures import check_drawable, drawn
from py_runner.data.decode import open_image
from py_runner.data.image_files import picture_feeds, picture_target
from py_runner.data.random_samples import random_samples
from py_runner.data.source import Wanted
from py_runner.errors import DataError, ModelError, PaddleEdgeError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.tasks import decode, name_of
from py_runner.tasks.embedding import features
from py_runner.tasks.segmentation import masks
from py_runner.tensors import Sample, TensorSpec, sample_hash

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Served", "first_sample", "free_batch"]

_Feeds = Mapping[str, npt.NDArray[Any]]
# What browsers and cameras make. Pillow reads much more, some of it by other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_VERSION_DIGITS = 12
# What the protocol's clients know engines by.
_PLATFORMS = {"lite": "paddle_lite", "native": "paddle_lite", "onnx": "onnxruntime_onnx"}


@dataclass
class Served:
    """A bundle and the engines that run it, in `pools` by "edge" and, where it is there, "server":
    that of the model which the bundle was made from. `state` is "starting", "ready" or "failed",
    and `why` says what is the matter with the last."""

    name: str
    bundle: Bundle
    edge: Engines
    shadow: Shadow | None = None
    max_pixels: int = 50_000_000
    state: str = "starting"
    why: str = ""
    pools: dict[str, Engines] = field(init=False)

    def __post_init__(self) -> None:
        self.pools = {"edge": self.edge}

    def add_server(self, engines: Engines) -> None:
        """Have the server engine beside the edge one."""
        self.pools["server"] = engines

    @property
    def version(self) -> str:
        """The first digits of the bundle's checksum: another bundle is another version."""
        return self.bundle.sha256[:_VERSION_DIGITS]

    @property
    def task(self) -> str:
        """The name of its task."""
        return name_of(self.bundle.task)

    @property
    def ready(self) -> bool:
        """Whether requests are answered: checked, and not without an engine for long."""
        return self.state == "ready" and not self.edge.fault

    def check_version(self, version: str) -> None:
        """Raise Refusal for another version than this one; "" is any."""
        if version not in ("", self.version):
            raise Refusal(404, f"{self.name}: there is no version '{version}', only {self.version}")

    def check_ready(self) -> None:
        """Raise Refusal where requests cannot be answered yet, or no more."""
        if self.state != "ready":
            raise Refusal(503, f"{self.name}: {self.why or 'is being checked'}", retry_after_s=1)

    def metadata(self) -> dict[str, Any]:
        """What the protocol says of a model, dtypes by NumPy's names."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS[self.edge.job.engine],
            "inputs": self.bundle.inputs,
            "outputs": self.bundle.outputs,
        }

    def about(self) -> dict[str, Any]:
        """What people and the page want to know beside that."""
        return {
            "name": self.name,
            "version": self.version,
            "ready": self.ready,
            "state": self.state,
            "task": self.task,
            "precision": self.edge.job.model.precision,
            "engines": {
                role: {"engine": pool.job.engine, "version": pool.version, "alive": pool.alive}
                for role, pool in self.pools.items()
            },
            "pictures": self.bundle.image is not None,
        }

    def check(self) -> str:
        """Run the bundle's samples and hold the answers to its reference; where batches are made,
        in batches too. Returns what is not alike, in words, "" for nothing. Raises ModelError where
        there are no samples."""
        samples = self.bundle.read_samples()
        if not samples:
            raise ModelError(
                f"{self.bundle.path}: holds no samples to check itself with: convert it again, or "
                "serve it unchecked (--no-check)"
            )
        reference = self.bundle.reference().first(len(samples))
        answers = [self._wait(sample.feeds) for sample in samples]
        ways = {"": answers}
        if self.edge.max_batch > 1:
            ways = {"": answers, f" in batches of {self.edge.max_batch}": self._in_batches(samples)}
        for how, given in ways.items():
            report = self._judged(reference, self.run_of("edge", given, samples))
            if not report:
                wrong = "; ".join([*report.failures, *report.unjudged])
                return f"does not answer its own samples as the server did{how}: {wrong}"
        return ""

    def agreement(self, server: Answer, edge: Answer) -> Report:
        """How far an edge's answer to a request is from the server's."""
        return self._judged(self.run_of("server", [server]), self.run_of("edge", [edge]))

    def _judged(self, reference: Run, edge: Run) -> Report:
        """By the limits that the bundle was made with."""
        limits, of_task = kept_limits(self.bundle.recipe, edge.precision)
        return compare(reference, edge, limits=limits, task_limits=of_task)

    def _wait(self, feeds: _Feeds) -> Answer:
        try:
            return self.edge.ask(feeds, give_up=time.monotonic() + 3600).result()
        except Refusal as refusal:
            raise ModelError(f"{self.bundle.path}: {refusal.text}") from None

    def _in_batches(self, samples: Sequence[Sample]) -> list[Answer]:
        """Each sample's answer where it ran in a batch with the others, in a place of its own."""
        count, answers = self.edge.max_batch, []
        for number, sample in enumerate(samples):
            alike = [s.feeds for s in samples if _shapes(s.feeds) == _shapes(sample.feeds)]
            batch = [alike[(number + i) % len(alike)] for i in range(count)]
            place = number % count
            batch[place] = sample.feeds
            whole = self._wait(joined(batch))
            outputs = {n: value[place : place + 1] for n, value in whole.outputs.items()}
            answers.append(replace(whole, outputs=outputs))
        return answers

    def run_of(
        self, role: str, answers: Sequence[Answer], samples: Sequence[Sample] | None = None
    ) -> Run:
        """Answers as a Run: of samples, or of requests, whose tensors nobody compares."""
        pool = self.pools[role]
        ids = [(s.id, sample_hash(s), s.label) for s in samples or ()]
        infos = ids or [(str(number), "", None) for number in range(len(answers))]
        outputs = [self.named(answer).items() for answer in answers]
        return Run(
            engine=pool.job.engine,
            engine_version=pool.version,
            device=pool.job.device,
            machine=machine(),
            threads=pool.job.threads,
            precision=pool.job.model.precision,
            model={"name": self.name, "sha256": pool.job.model.sha256},
            samples=tuple(SampleInfo(*info) for info in infos),
            outputs={name: [dict(each)[name] for each in outputs] for name, _ in outputs[0]},
            latency_ms=[[answer.engine_ms] for answer in answers],
            warmup=pool.job.warmup,
            peak_memory_bytes=0,
            wall_s=0.0,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            task=self.bundle.task,
            labels=self.bundle.labels,
            image=pool.job.model.image,
            inputs=tuple(spec.name for spec in self.bundle.inputs),
        )

    def named(self, answer: Answer) -> dict[str, npt.NDArray[Any]]:
        """Outputs by the names that the bundle says: an engine has its own, in the same order."""
        names = [spec.name for spec in self.bundle.outputs]
        if len(names) != len(answer.outputs):
            raise Refusal(500, f"the engine answered {len(answer.outputs)} outputs, not {names}")
        return dict(zip(names, answer.outputs.values()))

    def picture(self, data: bytes) -> tuple[Image.Image, dict[str, npt.NDArray[Any]]]:
        """A picture that was sent, and the tensors of it. Raises Refusal where it is none."""
        spec = self.bundle.image
        if spec is None:
            raise Refusal(400, f"{self.name}: the bundle does not say how pictures become tensors")
        try:
            picture = open_image(
                io.BytesIO(data), spec, name="the picture", formats=_FORMATS, most=self.max_pixels
            )
            wanted = Wanted(self.bundle.inputs, spec, None)
            target, _ = picture_target(self.bundle.path, wanted)
            pixels = np.asarray(picture)
            feeds = picture_feeds("the picture", pixels, target, spec, self.bundle.inputs)
        except (DataError, UsageError) as error:
            raise Refusal(400, str(error)) from None
        return picture, feeds

    def told(
        self, role: str, answer: Answer, picture: Image.Image, draw: bool, top: int
    ) -> dict[str, Any]:
        """An answer to a picture by the bundle's task, for JSON; with `draw` as a PNG, too."""
        run = self.run_of(role, [answer])
        document: dict[str, Any] = {
            "engine": run.engine,
            "engine_version": run.engine_version,
            "engine_ms": answer.engine_ms,
            "queue_ms": answer.queue_ms,
            "result": self._result(run, top),
        }
        if draw:
            document["drawn"] = self._drawn(run, picture)
        return document

    def _result(self, run: Run, top: int) -> dict[str, Any]:
        task = name_of(run.task)
        try:
            found = decode(run, top=top)
            if task == "embedding":
                return {"features": features(run)[0].tolist()}
            result = found[0] if found else _tensors(run)
            if task == "segmentation":
                result = {**result, "mask": _png(_grey(masks(run)[0]))}
        except PaddleEdgeError as error:
            raise Refusal(500, f"{self.name}: the answer is not decoded: {error}") from None
        return {key: value for key, value in result.items() if key not in ("id", "label")}

    def _drawn(self, run: Run, picture: Image.Image) -> str | None:
        """What was found on the picture, as the address of a PNG; None where it has no place."""
        spec = self.bundle.image
        try:
            check_drawable("", spec, name_of(run.task), run.inputs or ())
            assert spec is not None
            (result,) = drawn(run, [picture], spec, run.inputs or ())
        except PaddleEdgeError:
            return None
        return _png(result)


def free_batch(bundle: Bundle) -> bool:
    """Whether a bundle says that its first dimension may be of any length, in and out."""
    return all(spec.shape[:1] == (-1,) for spec in (*bundle.inputs, *bundle.outputs))


def first_sample(bundle: Bundle, rows: int) -> Sample:
    """A sample of as many rows as may come at once: engines are made ready for its shape."""
    samples = bundle.read_samples() or random_samples(bundle.inputs, image=bundle.image)
    feeds = {name: np.repeat(value, rows, 0) for name, value in samples[0].feeds.items()}
    return Sample(samples[0].id, feeds if rows > 1 else samples[0].feeds)


def _shapes(feeds: _Feeds) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in feeds.items()}


def _tensors(run: Run) -> dict[str, Any]:
    """The outputs themselves, of a task that says no more of them."""
    return {
        "outputs": [
            {**TensorSpec(name, str(v.dtype), v.shape).to_json(), "data": v.ravel().tolist()}
            for name, (v,) in run.outputs.items()
        ]
    }


def _grey(mask: npt.NDArray[Any]) -> Image.Image:
    from PIL import Image

    if mask.max(initial=0) > 255:
        raise DataError("a mask of more than 256 classes is no picture")
    return Image.fromarray(mask.astype(np.uint8))


def _png(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
