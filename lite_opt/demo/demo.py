"""`paddle-edge demo`: the whole path on trained models, with everything left on disk.

text-direction/    PP-OCR's direction classifier on rendered text lines with known labels
page/              a rendered page, read by PP-OCRv4 and drawn, edge beside server
photographs/       EfficientNet-Lite0, trained on ImageNet, on photographs
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.efficientnet_lite import efficientnet_lite0
from lite_opt.demo.packages import imagenet_labels, ocr_model, photos
from lite_opt.demo.page import PageRead, read_page
from lite_opt.demo.text_lines import TEXT_LINE_LABELS, write_text_lines
from lite_opt.judge.compare import Report, compare
from lite_opt.model.load import load
from lite_opt.views.comparison import verdict
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from py_runner.data.dataset import Dataset, dataset
from py_runner.errors import ConvertError, UsageError
from py_runner.files.folder import whole_folder
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks import TASKS
from py_runner.watch import QUIET, Watch

__all__ = ["Demo", "demo"]

# Fewer lines would make a share of agreement mean little.
_LEAST_LINES = 2


@dataclass(frozen=True)
class Demo:
    """What the demo found: a report on each model, what was read on the page, and the five best
    classes of each photo as pairs (server, edge). `bool(demo)` is whether all pass. `paths` says
    what lies where.
    """

    text_lines: Report
    page: PageRead
    photo_report: Report
    photos: list[tuple[dict[str, Any], dict[str, Any]]]
    paths: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.text_lines and self.page.report and self.photo_report)

    def to_json(self) -> dict[str, Any]:
        """All of it, for --json."""
        return {
            "passed": bool(self),
            "text_lines": self.text_lines.to_json(),
            "page": self.page.report.to_json(),
            "photo_report": self.photo_report.to_json(),
            "photos": [{"server": server, "edge": edge} for server, edge in self.photos],
            "paths": self.paths,
        }


def demo(
    out: str | Path,
    *,
    lines: int = 200,
    force: bool = False,
    watch: Watch = QUIET,
) -> Demo:
    """Convert the models, run them on server and edge engine, compare, and keep everything.

    Args:
        out: a folder to make: bundles, runs, reports, and the rendered lines.
        lines: how many text lines to render, seeded; half of them upside down.

    Raises DataError that names the package to install where a model or its data is missing.
    """
    out = Path(out)
    if lines < _LEAST_LINES:
        raise UsageError(f"the demo needs at least {_LEAST_LINES} text lines")
    with whole_folder(out, force=force) as folder:
        watch.say(f"text direction: rendering {lines} lines")
        data = write_text_lines(folder / "lines", count=lines)
        names = folder / "lines" / "labels.txt"
        names.write_text("\n".join(TEXT_LINE_LABELS) + "\n", encoding="utf-8")
        text = folder / "text-direction"
        text.mkdir()
        _, _, text_report = _both(
            ocr_model("cls"), text, data, watch, image="ppocr-cls", labels=names
        )

        (folder / "page").mkdir()
        page = read_page(folder / "page", text / "bundle", watch)

        watch.say("photographs: EfficientNet-Lite0 becomes a Paddle model")
        pictures = folder / "photographs"
        (pictures / "images").mkdir(parents=True)
        for photo in photos():
            shutil.copy(photo, pictures / "images")
        model = efficientnet_lite0(pictures / "efficientnet-lite0")
        server, edge, photo_report = _both(model, pictures, pictures / "images", watch)
        labels = imagenet_labels()
        best = [TASKS["classification"].decode(answers, labels) for answers in (server, edge)]
    return Demo(
        text_report,
        page,
        photo_report,
        list(zip(*best)),
        {
            "bundles": f"{out / 'text-direction/bundle'}, {out / 'photographs/bundle'}",
            "runs": f"{out / 'text-direction'}/{{server,edge}}.run, "
            f"{out / 'photographs'}/{{server,edge}}.run",
            "reports": f"{out / 'text-direction/report.html'}, {out / 'photographs/report.html'}",
            "text lines": str(out / "lines"),
            "page, drawn": str(out / "page/page.png"),
        },
    )


def _both(
    model: Path, folder: Path, data: Path, watch: Watch, **beside: Any
) -> tuple[Run, Run, Report]:
    """Convert a model, run the source on the server and the bundle on the edge, and compare."""

    def step(text: str) -> None:
        watch.say(f"{folder.name}: {text}")

    converted = convert(
        model, folder / "bundle", samples=data, watch=replace(watch, say=step), **beside
    )
    if converted.bundle is None:
        found = verdict(converted.report) if converted.report is not None else converted.refused
        raise ConvertError(f"{model}: {found}")
    bundle = converted.bundle
    source = Source.of(load(model), **beside)
    samples: Dataset = dataset(data, inputs=bundle.inputs, image=bundle.image, labels=bundle.labels)
    step(f"running {len(samples)} samples on the server engine")
    server = run(source.model(folder), samples, engine="paddle")
    step(f"running {len(samples)} samples on the edge engine")
    edge = run(bundle.model("x86"), samples, engine="lite")
    server.save(folder / "server.run")
    edge.save(folder / "edge.run")
    outcome = compare(server, edge)
    page = html_page(server, [Judged(edge, outcome, "edge.run")], folder="server.run", data=data)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return server, edge, outcome
