"""What is run and measured: a bundle, or a source model, ready for an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from py_runner.data.dataset import Dataset, dataset
from py_runner.data.image import ImageSpec
from py_runner.data.image_text import image_spec
from py_runner.data.labels import check_labels, class_names, read_labels
from py_runner.data.random_samples import Draws, random_samples
from py_runner.data.task_spec import task_spec
from py_runner.devices import is_remote
from py_runner.errors import UsageError
from py_runner.files.folder import temporary_folder
from py_runner.files.url import Place
from py_runner.formats.bundle import Bundle
from py_runner.formats.pipeline import Pipeline
from py_runner.inference import bundle_target
from py_runner.tensors import Model, Sample

__all__ = ["Subject", "bundle_samples", "check_made_from", "opened", "source_models"]


@dataclass(frozen=True)
class Subject:
    """A model and the engine that is to run it, with how to preprocess and the classes' names.

    `task` is what it does, as far as it is said. `left_out` is what lies beside the model and could
    not be followed. `own` is where its own samples are: the bundle, None for a source model.
    """

    model: Model
    engine: str
    image: ImageSpec | None
    labels: Sequence[str] | None
    own: Bundle | None = None
    draws: Draws = field(default_factory=Draws)
    task: Mapping[str, Any] | None = None
    left_out: str = ""

    def samples(
        self,
        data: str | Place | None = None,
        *,
        shapes: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
        limit: int | None = None,
        skip_bad: bool = False,
    ) -> Dataset:
        """At most `limit` samples: of a data set, else the subject's own, else random tensors.

        `shapes`, the shapes of an input that are used in turn, asks for random ones. `skip_bad`
        skips images that cannot be read. Raises DataError, and UsageError as `random_samples`.
        """
        if data is not None:
            try:
                return dataset(
                    data,
                    inputs=self.model.inputs,
                    image=self.image,
                    labels=class_names(self.labels, self.task),
                    skip_bad=skip_bad,
                    limit=limit,
                )
            except UsageError as error:
                if self.image is not None or not self.left_out:
                    raise
                raise UsageError(f"{error}; {self.left_out}") from None
        own = self.own.read_samples() if self.own else []
        if not own or shapes:
            own = random_samples(
                self.model.inputs, image=self.image, shapes=shapes, draws=self.draws
            )
        return Dataset.of(own[:limit])


def bundle_samples(
    path: str | Path, data: str | Path | None = None, *, limit: int | None = None
) -> Dataset | list[Sample] | None:
    """At most `limit` samples for a bundle: of a data set, else its own; None where it has none."""
    bundle = Bundle.open(path)
    if data is None:
        return bundle.read_samples()[:limit] or None
    return dataset(
        data,
        inputs=bundle.inputs,
        image=bundle.image,
        labels=class_names(bundle.labels, bundle.task),
        limit=limit,
    )


@contextmanager
def opened(
    path: str | Path,
    *,
    engine: str | None = None,
    device: str = "cpu",
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
) -> Iterator[Subject]:
    """The subject at `path`, which is there as long as the block lasts.

    By default engine `lite` runs a bundle, `native` does on a machine far away, `onnx` one that
    holds nothing for Paddle Lite, and `paddle` a source model; preprocessing, labels and task are
    those in the bundle or beside the model. Raises UsageError where the engine does not run such a
    subject, ModelError and DataError where a file is at fault.
    """
    if Path(path, "bundle.json").exists():
        yield _of_bundle(path, engine, device, image, labels, task)
        return
    source = Source.of(load(path, params=params), image=image, labels=labels, task=task)
    with temporary_folder() as temporary:
        model = source.model(temporary)
        yield Subject(
            model,
            engine or "paddle",
            source.image,
            source.labels,
            draws=source.draws,
            task=source.task,
            left_out=source.warning,
        )


@contextmanager
def source_models(
    pipeline: Pipeline, paths: Mapping[str, str | Path]
) -> Iterator[dict[str, Model]]:
    """The source models of a pipeline's stages, for engine `paddle`, as long as the block lasts.

    Raises UsageError for a stage that it has not, and for a model that is not the one which the
    stage was made from.
    """
    models = {}
    with temporary_folder() as temporary:
        for stage, path in paths.items():
            if stage not in pipeline.stages:
                raise UsageError(
                    f"{pipeline.path}: has no stage '{stage}': it has {', '.join(pipeline.stages)}"
                )
            source = Source.of(load(path))
            check_made_from(path, source.files.sha256(), pipeline.stages[stage], f"stage {stage}")
            folder = temporary / stage
            folder.mkdir()
            models[stage] = source.model(folder)
        yield models


def check_made_from(path: str | Path, sha256: str, bundle: Bundle, called: str) -> None:
    """Raise UsageError where the model at `path`, of that checksum, is not the one that a bundle
    was made from."""
    if sha256 != bundle.source.get("sha256"):
        raise UsageError(
            f"{path}: is not the model that {called} was made from "
            f"({bundle.source.get('file')}): its checksum is another"
        )


def _of_bundle(
    path: str | Path,
    engine: str | None,
    device: str,
    image: str | Path | None,
    labels: str | Path | None,
    task: str | None,
) -> Subject:
    bundle = Bundle.open(path)
    if engine == "paddle":
        raise UsageError(
            f"{path}: engine paddle runs the source model that a bundle was made from "
            f"({bundle.source.get('file')}): name that one"
        )
    names = read_labels(labels) if labels else bundle.labels
    does = task_spec(task) if task else bundle.task
    check_labels(names, bundle.outputs, does)
    spec = image_spec(image) if image else bundle.image
    if engine is None and is_remote(device):
        engine = "native"
    engine = engine or ("onnx" if [*bundle.targets] == ["onnx"] else "lite")
    model = bundle.model(bundle_target(engine, device))
    known = None if names is None else tuple(names)
    model = replace(
        model,
        task=None if does is None else dict(does),
        labels=known,
        image=None if spec is None else spec.to_json(),
    )
    return Subject(model, engine, spec, names, bundle, task=does)
