"""A rendered page that PP-OCRv4 reads on server and edge: the third part of `paddle-edge demo`.

Where text is and what it says are two trained models of PP-OCRv4; how lines stand is said by the
classifier of directions that the demo has made already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.text_pages import write_text_pages
from lite_opt.judge.pages import PagesReport, compare_pages
from lite_opt.subject import source_models
from lite_opt.views.page_pictures import beside_each_other
from py_runner.errors import ConvertError
from py_runner.formats.pages import Pages
from py_runner.formats.pipeline import Pipeline
from py_runner.pipeline.ocr import read_pages
from py_runner.watch import Watch

__all__ = ["PageRead", "read_page"]

_SEED = 112  # of an upright page of seven lines

_KINDS = {"detection": "det", "direction": "cls", "recognition": "rec"}


@dataclass(frozen=True)
class PageRead:
    """What server and edge read on the page, and how that compares with each other and with what
    is written there."""

    server: Pages
    edge: Pages
    report: PagesReport


def read_page(folder: Path, direction: Path, watch: Watch) -> PageRead:
    """Render a page, make a pipeline of three bundles and read it on both engines.

    `direction` is the bundle of the classifier. Leaves in `folder` pages/, det.bundle, rec.bundle,
    ocr.bundle, server.run, edge.run and page.png, which shows both readings side by side. Raises
    DataError and UsageError that name what is not installed.
    """
    watch.say("page: rendering it")
    truth = write_text_pages(folder / "pages", count=1, seed=_SEED)
    (folder / "keys.txt").write_text("".join(f"{c}\n" for c in ocr_characters()[:-1]), "utf-8")
    stages = {"detection": folder / "det.bundle", "recognition": folder / "rec.bundle"}
    for kind, stage in (("det", "detection"), ("rec", "recognition")):
        watch.say(f"page: converting the model for text {stage}")
        labels = folder / "keys.txt" if kind == "rec" else None
        task = f"text-{stage}"
        done = convert(
            ocr_model(kind),
            stages[stage],
            image=f"ppocr-{kind}",
            task=task,
            labels=labels,
            check_samples=1,
        )
        if done.bundle is None:
            raise ConvertError(f"{ocr_model(kind)}: did not pass its self-check")
    made = Pipeline.make({**stages, "direction": direction}, folder / "ocr.bundle")
    models = {stage: ocr_model(kind) for stage, kind in _KINDS.items()}
    watch.say("page: reading it on the server engine")
    with source_models(made, models) as sources:
        server = read_pages(made, truth.parent, models=sources, engine="paddle", warmup=0)
    watch.say("page: reading it on the edge engine")
    edge = read_pages(made, truth.parent, against=server, warmup=0)
    server.save(folder / "server.run")
    edge.save(folder / "edge.run")
    for page in server.pages:
        drawn = beside_each_other(truth.parent / page.id, page.id, server, edge)
        drawn.save(folder / "page.png")
    return PageRead(server, edge, compare_pages(server, edge, truth=truth))
