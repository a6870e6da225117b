"""The deployable folder: a model for one or more targets, how to feed it, what the server said.

NAME.bundle/
  bundle.json        the manifest (fields: see `Bundle`); written last, so that a folder
                     without it is not a bundle
  model.<target>.nb  one Paddle Lite file a target
  samples/           the tensors of the samples, one .npy an input and sample
  reference/         the Run of the source model on these samples, on the server engine
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from py_runner import checksum
from py_runner.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from py_runner.dataset import Sample
    from py_runner.image import ImageSpec
    from py_runner.run import Run

__all__ = ["FORMAT", "Bundle", "Model", "SavedSample", "Target", "TensorSpec", "save_samples"]

FORMAT = 1
_MANIFEST = "bundle.json"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, NumPy dtype name and shape, where -1 is a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def mismatch(self, value: np.ndarray[Any, Any]) -> str | None:
        """Why `value` cannot be fed here, in words, or None where it can."""
        fits = len(value.shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, value.shape)
        )
        if fits and str(value.dtype) == self.dtype and value.size:
            return None
        return f"input '{self.name}' takes {self}, not {value.dtype}{list(value.shape)}"

    def __str__(self) -> str:
        shape = ", ".join("?" if d < 0 else str(d) for d in self.shape)
        return f"{self.dtype}[{shape}]"


@dataclass(frozen=True)
class Model:
    """What an engine is asked to run: files in its own format, and what they take.

    `sha256` identifies the model across runs; `precision` is a recipe's name; `files` are one
    `.nb` for engine `lite`, model and parameters for engine `paddle`.
    """

    name: str
    sha256: str
    precision: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Target:
    """One `.nb` file of a bundle, and what it was really made of.

    `kernels` counts its kernels by "target/precision", `calib` the conversions between int8 and
    float among them; `weights` has the bytes of parameters by dtype. `precision` is a recipe's
    name, "fp32" for the x86 twin of a recipe that is for ARM only.
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


@dataclass(frozen=True)
class SavedSample:
    """A sample of a bundle: `feeds` maps an input to a `.npy` file, relative to the bundle."""

    id: str
    label: int | None
    sha256: str
    feeds: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, as its manifest describes it. Open one with `Bundle.open`.

    `source` says what it was made from: file, sha256, ir, paddle_version. `repairs` are the
    changes that made it acceptable to Paddle Lite, in words. `check` is the self-check: which
    engine judged which target, and how it came out.
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

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest of a bundle. Raises ModelError in one line for anything else.

        The model files are verified when they are asked for (`model`), not here.
        """
        path = Path(path)
        manifest = path / _MANIFEST
        try:
            data = manifest.read_bytes()
            document = json.loads(data)
        except FileNotFoundError:
            missing = "no such folder" if not path.exists() else f"no {_MANIFEST} in it"
            raise ModelError(f"{path}: not a bundle: {missing}") from None
        except OSError as error:
            raise ModelError(f"{manifest}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ModelError(f"{manifest}: damaged: not JSON; convert the model again") from None
        if not isinstance(document, dict) or "format" not in document:
            raise ModelError(f"{manifest}: not the manifest of a bundle")
        if document["format"] != FORMAT:
            raise ModelError(
                f"{manifest}: bundle format {document['format']}, and this version of paddle-edge "
                f"reads format {FORMAT}: convert the model again, or update paddle-edge"
            )
        try:
            return _from_json(path, document, hashlib.sha256(data).hexdigest())
        except (KeyError, TypeError, ValueError, AttributeError, UsageError, DataError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"{manifest}: damaged: {what}; convert the model again") from None

    def model(self, target: str) -> Model:
        """The `.nb` file of a target, ready to run. Raises ModelError where it is not intact."""
        if target not in self.targets:
            has = ", ".join(self.targets)
            raise UsageError(
                f"{self.path}: has no {target} model, only {has}: "
                f"convert with --target {target} as well"
            )
        entry = self.targets[target]
        file = self.path / entry.file
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
        return Model(self.name, self.sha256, entry.precision, (file,), self.inputs)

    def read_samples(self) -> list[Sample]:
        """The samples with their tensors. Raises ModelError where a file is missing or altered."""
        from py_runner.dataset import Sample, sample_hash

        result = []
        for saved in self.samples:
            feeds = {}
            for name, file in saved.feeds.items():
                try:
                    feeds[name] = np.load(self.path / file, allow_pickle=False)
                except (OSError, ValueError, EOFError):
                    raise ModelError(f"{self.path / file}: missing or damaged") from None
            sample = Sample(saved.id, feeds, saved.label)
            if sample_hash(sample) != saved.sha256:
                raise ModelError(f"{self.path}: the tensors of sample '{saved.id}' were altered")
            result.append(sample)
        return result

    def reference(self) -> Run:
        """What the source model answered to the samples on the server engine."""
        from py_runner.run import Run

        return Run.open(self.path / "reference")

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder that holds the files already."""
        document = {"format": FORMAT, **asdict(self)}
        del document["path"], document["sha256"]
        document["image"] = self.image.to_json() if self.image else None
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")


def save_samples(folder: Path, samples: Iterable[Sample]) -> tuple[SavedSample, ...]:
    """Write the tensors of samples into `folder/samples` and return their manifest entries."""
    from py_runner.dataset import sample_hash

    (folder / "samples").mkdir()
    saved = []
    for index, sample in enumerate(samples):
        feeds = {}
        for column, (name, value) in enumerate(sample.feeds.items()):
            # Names of inputs and samples are not file names: count instead.
            feeds[name] = f"samples/{index:04d}.{column}.npy"
            np.save(folder / feeds[name], value, allow_pickle=False)
        saved.append(SavedSample(sample.id, sample.label, sample_hash(sample), feeds))
    return tuple(saved)


def _from_json(path: Path, document: dict[str, Any], sha256: str) -> Bundle:
    from py_runner.image import ImageSpec

    labels = document["labels"]
    return Bundle(
        path=path,
        name=_typed(document["name"], str, "name"),
        source=_typed(document["source"], dict, "source"),
        recipe=_typed(document["recipe"], dict, "recipe"),
        repairs=tuple(_typed(r, str, "repairs") for r in document["repairs"]),
        targets={name: _target(entry) for name, entry in document["targets"].items()},
        inputs=_input_specs(document["inputs"]),
        outputs=_specs(document["outputs"]),
        image=ImageSpec.from_json(document["image"]) if document["image"] else None,
        labels=None if labels is None else tuple(_typed(n, str, "labels") for n in labels),
        samples=tuple(_saved_sample(entry) for entry in document["samples"]),
        check=_typed(document["check"], dict, "check"),
        sha256=sha256,
    )


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"field '{name}' is not of type {kind.__name__}")
    return value


def _inside(file: Any) -> str:
    # A bundle comes from elsewhere: it must not name files outside itself.
    text: str = _typed(file, str, "file")
    if Path(text).is_absolute() or ".." in Path(text).parts or "\0" in text:
        raise ValueError(f"the file name '{text}' leads out of the bundle")
    return text


def _target(entry: dict[str, Any]) -> Target:
    target = Target(**entry)
    _inside(target.file)
    _typed(target.bytes, int, "bytes")
    _typed(target.sha256, str, "sha256")
    return target


def _saved_sample(entry: dict[str, Any]) -> SavedSample:
    sample = SavedSample(**entry)
    _typed(sample.id, str, "id")
    for file in sample.feeds.values():
        _inside(file)
    return sample


def _input_specs(entries: Sequence[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    specs = _specs(entries)
    for spec in specs:
        if np.dtype(spec.dtype).name != spec.dtype:
            raise ValueError(f"'{spec.dtype}' is not the name of a data type")
    return specs


def _specs(entries: Sequence[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            _typed(e["name"], str, "name"),
            _typed(e["dtype"], str, "dtype"),
            tuple(_typed(d, int, "shape") for d in e["shape"]),
        )
        for e in entries
    )
