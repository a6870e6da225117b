"""What a pipeline read on pages: a folder with one file, pages.json.

It has, beside the lines of each page, the checksums of what each stage was fed: by them another run
can be judged stage by stage, and the same inputs be made again from the pages themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from py_runner.data.image import ImageSpec
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.folder import whole_folder
from py_runner.formats.pipeline import OcrOptions

__all__ = ["FORMAT", "MANIFEST", "Fed", "Line", "Page", "Pages", "StageInfo", "Turn", "is_pages"]

FORMAT = 1
MANIFEST = "pages.json"
# Of a stage, what is added up when runs merge.
_COUNTED: dict[str, Any] = {
    "inferences": 0,
    "prepare_ms": 0.0,
    "graph_ms": 0.0,
    "answer_ms": 0.0,
    "peak_memory_bytes": 0,
}


@dataclass(frozen=True)
class StageInfo:
    """How a stage was run, as in a Run: `model` is {name, sha256}; `image` and `task` as in its
    bundle; `labels` counts its names, `labels_sha256` is of them, one a line.

    Milliseconds over all pages: `prepare_ms` of making tensors, `graph_ms` of the engine's
    inferences, `answer_ms` of post-processing.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    model: dict[str, str]
    image: dict[str, Any]
    task: Optional[dict[str, Any]]  # noqa: UP045  evaluated when a manifest is read, by 3.9 too
    labels: int
    labels_sha256: str
    inferences: int = 0
    prepare_ms: float = 0.0
    graph_ms: float = 0.0
    answer_ms: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def spec(self) -> ImageSpec:
        """How pixels became its tensor."""
        return ImageSpec.from_json(self.image)


@dataclass(frozen=True)
class Turn:
    """What the classifier of directions said of a line, and whether that turned it; `tensor` is the
    checksum of what it was fed."""

    tensor: str
    index: int
    label: str
    score: float
    turned: bool


@dataclass(frozen=True)
class Line:
    """One line: its corners on the page from top left clockwise, how sure the detector is, the
    checksums of its pixels and of the recognizer's tensor, whose width is `width`; the classes that
    were read without blanks and repetitions, as text, and how surely. `kept` is whether that is
    sure enough for the page's text."""

    points: tuple[tuple[float, ...], ...]
    found: float
    pixels: str
    turn: Optional[Turn]  # noqa: UP045
    tensor: str
    width: int
    classes: tuple[int, ...]
    text: str
    score: float
    kept: bool

    @property
    def turned(self) -> bool:
        """Whether it stood on its head."""
        return self.turn is not None and self.turn.turned


@dataclass(frozen=True)
class Page:
    """One page: its id in the data set, checksums of its pixels and of the detector's tensor, its
    sides, and its lines from top to bottom, those that are not kept as well."""

    id: str
    pixels: str
    tensor: str
    height: int
    width: int
    lines: tuple[Line, ...]

    @property
    def text(self) -> tuple[Line, ...]:
        """The lines that are kept."""
        return tuple(line for line in self.lines if line.kept)


@dataclass(frozen=True)
class Fed:
    """What the stages answered to another run's own inputs, step by step.

    `against` is what that run is known by (`Pages.sha256`). A step is "STAGE: WHAT", in the order
    of the work; `alike` and `counts` are, for each page of that run, how many of its things came
    out as there, and of how many that could be judged; `largest` is by how much a score moved.
    """

    against: str
    pages: tuple[str, ...]
    alike: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[float, ...]]
    largest: dict[str, float]


@dataclass(frozen=True)
class Pages:
    """What a pipeline read on pages. Open one with `Pages.open`.

    `pipeline` is {name, sha256}; `decode_ms` and `crop_ms` are the milliseconds of decoding the
    pages and of cutting out lines; `skipped` are pages that could not be read, with the reason.
    """

    pipeline: dict[str, str]
    kind: str
    options: OcrOptions
    machine: str
    created: str
    wall_s: float
    decode_ms: float
    crop_ms: float
    stages: dict[str, StageInfo]
    pages: tuple[Page, ...] = field(repr=False)
    skipped: tuple[tuple[str, ...], ...] = ()
    fed: Optional[Fed] = None  # noqa: UP045

    def __post_init__(self) -> None:
        ids = [page.id for page in self.pages]
        if not ids:
            raise UsageError("a run of a pipeline holds no pages")
        if len(set(ids)) != len(ids):
            raise UsageError("a run of a pipeline holds a page twice")

    @property
    def key(self) -> str:
        """What this run is known by: when it was made, of which pipeline."""
        return f"{self.created} {self.pipeline['sha256']}"

    def to_json(self) -> dict[str, Any]:
        """As pages.json has it."""
        return {"format": FORMAT, **asdict(self)}

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the folder, whole or not at all. Raises UsageError where `path` is taken."""
        with whole_folder(path, force=force) as folder:
            manifest.write(folder / MANIFEST, self.to_json())
        return Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Pages:
        """Read the folder. Raises ModelError for anything else."""
        path = Path(path)
        document, _ = manifest.read(
            path / MANIFEST, what="a run of a pipeline", version=FORMAT, advice="run again"
        )
        try:
            run = manifest.from_json(cls, document)
            for stage in run.stages.values():
                _ = stage.spec
        except (TypeError, ValueError, UsageError, DataError) as error:
            raise ModelError(f"{path / MANIFEST}: damaged: {error}; run again") from None
        return run

    @classmethod
    def merge(cls, runs: Sequence[Pages]) -> Pages:
        """One run of the pages of all, as several devices share them.

        Raises UsageError unless all are of one pipeline, run in the same way, on disjoint pages.
        """
        if not runs:
            raise UsageError("no runs to merge")
        first = runs[0]
        if any(run.pipeline["sha256"] != first.pipeline["sha256"] for run in runs):
            raise UsageError("these runs are of different pipelines")
        return replace(
            first,
            machine=", ".join(dict.fromkeys(run.machine for run in runs)),
            created=max(run.created for run in runs),
            wall_s=sum(run.wall_s for run in runs),
            decode_ms=sum(run.decode_ms for run in runs),
            crop_ms=sum(run.crop_ms for run in runs),
            stages={name: _joined([run.stages[name] for run in runs]) for name in first.stages},
            pages=tuple(page for run in runs for page in run.pages),
            skipped=tuple(entry for run in runs for entry in run.skipped),
            fed=_all_fed(runs),
        )

    def select(self, ids: Sequence[str]) -> Pages:
        """The run of these pages alone, in that order."""
        known = {page.id: page for page in self.pages}
        return replace(self, pages=tuple(known[id_] for id_ in ids))


def _joined(stages: Sequence[StageInfo]) -> StageInfo:
    """One stage of several runs; raises UsageError where it was run in different ways."""
    first = max(stages, key=lambda stage: stage.inferences)
    for stage in stages:
        if replace(stage, **_COUNTED, engine_version="") != replace(
            first, **_COUNTED, engine_version=""
        ):
            raise UsageError(f"these runs are of different models or engines ({stage.model})")
    return replace(
        first,
        inferences=sum(stage.inferences for stage in stages),
        prepare_ms=sum(stage.prepare_ms for stage in stages),
        graph_ms=sum(stage.graph_ms for stage in stages),
        answer_ms=sum(stage.answer_ms for stage in stages),
        peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
    )


def _all_fed(runs: Sequence[Pages]) -> Fed | None:
    found = [run.fed for run in runs if run.fed is not None]
    if len(found) < len(runs) or len({fed.against for fed in found}) > 1:
        return None
    steps = dict.fromkeys(step for fed in found for step in fed.largest)
    return Fed(
        found[0].against,
        tuple(id_ for fed in found for id_ in fed.pages),
        {step: tuple(n for fed in found for n in fed.alike[step]) for step in found[0].alike},
        {step: tuple(n for fed in found for n in fed.counts[step]) for step in found[0].counts},
        {step: max(fed.largest.get(step, 0.0) for fed in found) for step in steps},
    )


def is_pages(path: str | Path) -> bool:
    """Whether a folder says that it is the run of a pipeline."""
    return Path(path, MANIFEST).exists()
