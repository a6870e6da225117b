"""A pipeline: several bundles, each of which takes what another found, in one folder.

NAME.bundle/
  pipeline.json   the manifest (fields: see `Pipeline`); written last
  detection/      a bundle a stage, as `convert` made it: where is text on a page
  direction/      which lines stand on their heads; may be missing
  recognition/    what does a line say
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from py_runner.errors import ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.folder import whole_folder
from py_runner.formats.bundle import Bundle

__all__ = ["FORMAT", "MANIFEST", "STAGES", "OcrOptions", "Pipeline", "is_pipeline"]

FORMAT = 1
MANIFEST = "pipeline.json"
# The stages of "ocr" in their order, with the task of each.
STAGES = {
    "detection": "text-detection",
    "direction": "classification",
    "recognition": "text-recognition",
}
_OPTIONAL = "direction"


@dataclass(frozen=True)
class OcrOptions:
    """How lines go from stage to stage; the defaults are PaddleOCR's.

    Args:
        turn_score: a line is turned by 180 degrees where the classifier says so more surely.
        line_score: lines that are read less surely are no part of a page's text.
        batch: so many lines of like widths are padded to the widest of them.
    """

    turn_score: float = 0.9
    line_score: float = 0.5
    batch: int = 6

    def __post_init__(self) -> None:
        for name in ("turn_score", "line_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is from 0 to 1, not {getattr(self, name)}")
        if self.batch < 1:
            raise UsageError(f"a batch has at least one line, not {self.batch}")


@dataclass(frozen=True)
class _Stage:
    """A stage in pipeline.json: its bundle's name, the checksum of its manifest, which has those of
    the models, and its recipe."""

    name: str
    sha256: str
    recipe: str


@dataclass(frozen=True)
class _Manifest:
    format: int
    kind: str
    options: OcrOptions
    stages: dict[str, _Stage]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline on disk. Open one with `Pipeline.open`, make one with `Pipeline.make`.

    `stages` are in the order of STAGES; `sha256` is the manifest's, and with it everything's.
    """

    path: Path
    kind: str
    options: OcrOptions
    stages: dict[str, Bundle]
    sha256: str

    @classmethod
    def open(cls, path: str | Path) -> Pipeline:
        """Read the manifests. Raises ModelError in one line where a bundle is not the one that the
        pipeline was made of."""
        path = Path(path)
        document, data = manifest.read(
            path / MANIFEST, what="a pipeline", version=FORMAT, advice="make the pipeline again"
        )
        try:
            about = manifest.from_json(_Manifest, document)
            _check_stages(about.kind, about.stages)
        except (TypeError, ValueError, UsageError) as error:
            raise ModelError(
                f"{path / MANIFEST}: damaged: {error}; make the pipeline again"
            ) from None
        stages = {name: Bundle.open(path / name) for name in STAGES if name in about.stages}
        for name, bundle in stages.items():
            if bundle.sha256 != about.stages[name].sha256:
                raise ModelError(
                    f"{path / name}: is not the bundle that the pipeline was made of: its manifest "
                    "was altered; make the pipeline again"
                )
        return cls(path, about.kind, about.options, stages, hashlib.sha256(data).hexdigest())

    @classmethod
    def make(
        cls,
        stages: Mapping[str, str | Path],
        path: str | Path,
        *,
        options: OcrOptions | None = None,
        force: bool = False,
    ) -> Pipeline:
        """Put bundles together: their folders are copied.

        Raises UsageError for a bundle that is of another task, or that does not say how pages and
        lines become its tensors or what its classes are; ModelError for what is no bundle.
        """
        options = options or OcrOptions()
        path = Path(path)
        bundles = {name: Bundle.open(stages[name]) for name in STAGES if name in stages}
        for name, bundle in bundles.items():
            _check_stage(name, bundle)
        entries = {
            name: _Stage(bundle.name, bundle.sha256, str(bundle.recipe.get("name", "fp32")))
            for name, bundle in bundles.items()
        }
        _check_stages("ocr", stages)
        document = asdict(_Manifest(FORMAT, "ocr", options, entries))
        with whole_folder(path, force=force) as folder:
            for name, bundle in bundles.items():
                for target in bundle.targets:
                    bundle.model(target)  # intact, or it is not copied
                shutil.copytree(bundle.path, folder / name)
            manifest.write(folder / MANIFEST, document)
        return cls.open(path)

    @property
    def name(self) -> str:
        """The folder's name without its suffix."""
        return self.path.absolute().name.removesuffix(".bundle")


def is_pipeline(path: str | Path) -> bool:
    """Whether a folder says that it is a pipeline."""
    return Path(path, MANIFEST).exists()


def _check_stages(kind: str, stages: Mapping[str, object]) -> None:
    """Raise UsageError where these are not the stages of a kind."""
    if kind != "ocr":
        raise UsageError(f"the kind {kind!r} of pipelines is not known: there is ocr")
    wrong = [name for name in stages if name not in STAGES]
    lacking = [name for name in STAGES if name not in stages and name != _OPTIONAL]
    if wrong or lacking:
        what = f"stage {wrong[0]} is not known" if wrong else f"stage {lacking[0]} is missing"
        raise UsageError(f"{what}: a pipeline has {', '.join(STAGES)}, {_OPTIONAL} if need be")


def _check_stage(name: str, bundle: Bundle) -> None:
    task = (bundle.task or {}).get("name", "classification")
    if task != STAGES[name]:
        raise UsageError(
            f"{bundle.path}: its task is {task}, and stage {name} takes {STAGES[name]}: convert it "
            f"with --task {STAGES[name]}"
        )
    if bundle.image is None or len(bundle.inputs) != 1:
        raise UsageError(
            f"{bundle.path}: stage {name} is fed pictures: convert it with --image, such as "
            "ppocr-det, ppocr-cls or ppocr-rec"
        )
    if name != "detection" and not bundle.labels:
        what = "the dictionary" if name == "recognition" else "two names of directions"
        raise UsageError(f"{bundle.path}: stage {name} needs {what}: convert it with --labels")
    if name == "direction" and not any("180" in label for label in bundle.labels or ()):
        raise UsageError(
            f"{bundle.path}: stage direction needs a class with '180' in its name, as PaddleOCR's "
            "0_degree and 180_degree: convert it with --labels"
        )
