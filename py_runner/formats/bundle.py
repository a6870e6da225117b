"""The deployable folder: a model for one or more targets, how to feed it, what the server said.

NAME.bundle/
  bundle.json        the manifest (fields: see `Bundle`); written last, so that a folder
                     without it is not a bundle
  model.<target>.nb  one Paddle Lite file a target
  model.onnx         the file of target onnx
  samples/           the tensors of the samples, one .npy an input and sample
  reference/         the Run of the source model on these samples, on the server engine
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

import numpy as np

from py_runner.data.image import ImageSpec
from py_runner.data.task_spec import check_task
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.files import checksum, manifest
from py_runner.files.regular import load_array, save_array
from py_runner.formats.run import Run
from py_runner.tensors import Model, Sample, TensorSpec, sample_hash

__all__ = [
    "FORMAT",
    "LIMIT_RANGES",
    "Bundle",
    "InFloat",
    "OnnxFacts",
    "SavedSample",
    "Target",
    "check_limit",
    "refuse_pipeline",
    "save_samples",
]

FORMAT = 1
_MANIFEST = "bundle.json"


def refuse_pipeline(folder: Path) -> None:
    """Raise ModelError where a folder is a pipeline, which has its bundles within."""
    manifest.refuse(
        folder / "pipeline.json",
        "is a pipeline: name a stage, such as {0}/detection (run, compare and inspect take it)",
    )


# Least and most of the limits that a recipe is kept with; None is none. Those of a task are shares,
# and points lost, by names that end in "_drop".
LIMIT_RANGES: dict[str, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "max_abs_diff": (0.0, math.inf),
    "top1_drop": (-100.0, 100.0),
    "noise_times": (0.0, math.inf),
}


def check_limit(name: str, value: Any) -> None:
    """Raise ValueError for a limit of a recipe or a task that is no finite number of its range."""
    of_task = (-100.0, 100.0) if name.endswith("_drop") else (0.0, 1.0)
    least, most = LIMIT_RANGES.get(name, of_task)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not "value < least": NaN is less than nothing, and would let everything pass.
    if not (number and math.isfinite(value) and least <= value <= most):
        span = f"{least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise ValueError(f"the limit {name} is a number, {span}, not {value}")


@dataclass(frozen=True)
class InFloat:
    """Layers of one kind that are in float, in a file of fewer bits, and the bytes of their
    weights: 0 of products of two activations."""

    layers: int
    bytes: int


@dataclass(frozen=True)
class OnnxFacts:
    """What a bundle says of its `model.onnx` beyond what it says of any file: the version of the
    operator set, and what it was made from, in words: the repaired model or the source model."""

    opset: int
    made_from: str


@dataclass(frozen=True)
class Target:
    """One model file of a bundle, and what it was really made of.

    `kernels` counts its kernels by "target/precision", `calib` the conversions between int8 and
    float among them; `weights` has the bytes of parameters by dtype. `precision` is a recipe's
    name, "fp32" for the x86 twin of a recipe that is for ARM only. `needs` maps operators to the
    first release of Paddle Lite that has them, where that is later than v2.10; `in_float` those
    with weights, and products, to what of them a recipe of fewer bits leaves in float.

    Of an ONNX file, which `onnx` tells, `opt_version` is that of Paddle2ONNX, and `kernels` are
    none: they are chosen where it runs.
    """

    file: str
    sha256: str
    crc32: str
    bytes: int
    opt_version: str
    ops: int
    kernels: dict[str, int]
    calib: int
    weights: dict[str, int]
    precision: str
    needs: dict[str, str] = field(default_factory=dict)
    in_float: dict[str, InFloat] = field(default_factory=dict)
    onnx: Optional[OnnxFacts] = None  # noqa: UP045  evaluated, as in SavedSample


@dataclass(frozen=True)
class SavedSample:
    """A sample of a bundle: `feeds` maps an input to a `.npy` file, relative to the bundle."""

    id: str
    label: Optional[int]  # noqa: UP045  evaluated when a manifest is read, by CPython 3.9 too
    sha256: str
    feeds: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, as its manifest describes it. Open one with `Bundle.open`.

    `source` says what it was made from: file, sha256, ir, paddle_version. `repairs` are the
    changes that made it acceptable to Paddle Lite, in words. `task` is what the model does, see
    `task_spec`; where it is not said, a first output of one row of scores is a classification.
    `check` is the self-check: which engine judged which target, and how it came out.
    """

    path: Path
    name: str
    source: dict[str, Any]
    recipe: dict[str, Any]
    repairs: tuple[str, ...]
    targets: dict[str, Target]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image: ImageSpec | None = None
    labels: tuple[str, ...] | None = None
    samples: tuple[SavedSample, ...] = ()
    check: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    task: dict[str, Any] | None = None

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest of a bundle. Raises ModelError in one line for anything else.

        The model files are verified when they are asked for (`model`), not here.
        """
        path = Path(path)
        refuse_pipeline(path)
        document, data = manifest.read(
            path / _MANIFEST, what="a bundle", version=FORMAT, advice="convert the model again"
        )
        try:
            about = manifest.from_json(_Manifest, document)
            known = {f.name: getattr(about, f.name) for f in fields(about) if f.name != "format"}
            known["image"] = ImageSpec.from_json(about.image) if about.image else None
            bundle = cls(path=path, sha256=hashlib.sha256(data).hexdigest(), **known)
            _check(bundle)
        except (TypeError, ValueError, UsageError, DataError) as error:
            raise ModelError(
                f"{path / _MANIFEST}: damaged: {error}; convert the model again"
            ) from None
        return bundle

    def model(self, target: str) -> Model:
        """The file of a target, ready to run. Raises ModelError where it is not intact."""
        if target not in self.targets:
            has = ", ".join(self.targets)
            raise UsageError(
                f"{self.path}: has no {target} model, only {has}: "
                f"convert with --target {target} as well"
            )
        entry = self.targets[target]
        file = self._inside(entry.file)
        try:
            size = file.stat().st_size
            digest = checksum.sha256(file) if size == entry.bytes else ""
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
        if size != entry.bytes:
            raise ModelError(
                f"{file}: damaged: {size} bytes, the bundle says {entry.bytes}; copy it again"
            )
        if digest != entry.sha256:
            raise ModelError(f"{file}: damaged: its checksum is not the bundle's; copy it again")
        about = (self.name, self.sha256, entry.precision)
        image = None if self.image is None else self.image.to_json()
        return Model(*about, (file,), self.inputs, self.task, self.labels, image)

    def read_samples(self) -> list[Sample]:
        """The samples with their tensors. Raises ModelError where a file is missing or altered."""
        result = []
        for saved in self.samples:
            feeds = {}
            for name, file in saved.feeds.items():
                try:
                    feeds[name] = load_array(self._inside(file))
                except (OSError, ValueError, EOFError):
                    raise ModelError(f"{self.path / file}: missing or damaged") from None
            sample = Sample(saved.id, feeds, saved.label)
            if sample_hash(sample) != saved.sha256:
                raise ModelError(f"{self.path}: the tensors of sample '{saved.id}' were altered")
            result.append(sample)
        return result

    def _inside(self, name: str) -> Path:
        """A file of the bundle. Raises ModelError for a link that leads out of it: a copy of the
        bundle would lack it, and somebody else's would show us what it likes."""
        file = self.path / name
        try:
            inside = self.path.resolve() in file.resolve().parents
        except (OSError, RuntimeError):  # a link to itself
            inside = False
        if not inside:
            raise ModelError(f"{file}: is a link that leads out of the bundle; copy the file here")
        return file

    def reference(self) -> Run:
        """What the source model answered to the samples on the server engine."""
        return Run.open(self.path / "reference")

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder that holds the files already."""
        document = {"format": FORMAT, **asdict(self)}
        del document["path"], document["sha256"]
        if self.task is None:
            del document["task"]  # bundles without it read as before
        for target in document["targets"].values():
            if target["onnx"] is None:
                del target["onnx"]
        document["image"] = self.image.to_json() if self.image else None
        manifest.write(folder / _MANIFEST, document)


@dataclass(frozen=True)
class _Manifest:
    """bundle.json: a Bundle but for where it lies, with `image` as ImageSpec writes it."""

    format: int
    name: str
    source: dict[str, Any]
    recipe: dict[str, Any]
    repairs: tuple[str, ...]
    targets: dict[str, Target]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image: Optional[dict[str, Any]]  # noqa: UP045  as in SavedSample
    labels: Optional[tuple[str, ...]]  # noqa: UP045
    samples: tuple[SavedSample, ...]
    check: dict[str, Any]
    task: Optional[dict[str, Any]] = None  # noqa: UP045


def save_samples(folder: Path, samples: Iterable[Sample]) -> tuple[SavedSample, ...]:
    """Write the tensors of samples into `folder/samples` and return their manifest entries."""
    (folder / "samples").mkdir()
    saved = []
    for index, sample in enumerate(samples):
        feeds = {}
        for column, (name, value) in enumerate(sample.feeds.items()):
            # Names of inputs and samples are not file names: count instead.
            feeds[name] = f"samples/{index:04d}.{column}.npy"
            save_array(folder / feeds[name], value)
        saved.append(SavedSample(sample.id, sample.label, sample_hash(sample), feeds))
    return tuple(saved)


def _check(bundle: Bundle) -> None:
    """Raise ValueError for what no bundle of ours says: it comes from elsewhere."""
    for spec in bundle.inputs:
        if np.dtype(spec.dtype).name != spec.dtype:
            raise ValueError(f"'{spec.dtype}' is not the name of a data type")
    files = [target.file for target in bundle.targets.values()]
    for file in (*files, *(f for sample in bundle.samples for f in sample.feeds.values())):
        if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file:
            raise ValueError(f"the file name '{file}' leads out of the bundle")
    for kind in ("limits", "task_limits"):
        if not isinstance(bundle.recipe.get(kind, {}), dict):
            raise ValueError(f"field 'recipe.{kind}' is not of its type")
    for name, value in bundle.recipe.get("limits", {}).items():
        if name in LIMIT_RANGES and value is not None:
            check_limit(name, value)
    for name, value in bundle.recipe.get("task_limits", {}).items():
        check_limit(name, value)
    if bundle.task is not None:
        try:
            check_task(bundle.task)
        except ValueError as error:
            raise ValueError(f"task: {error}") from None
