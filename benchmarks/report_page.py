"""Writes docs/report-light.png, -dark.png, -phone.png and -lines.png: reports of trained models.

    python benchmarks/report_page.py [--work FOLDER] [--lines 200]

PP-OCR's direction classifier on rendered text lines whose direction is known, half of them upside
down: fp32, int8-weights and int8 by Paddle Lite on x86 (not int8, which has no right kernels there)
and, with a board (PADDLE_EDGE_LITE_RUN_AARCH64), on an emulated Raspberry Pi 5, judged by the
server; ARM instructions on a Pi 4 and a Pi 5. And PP-OCRv4's recognizer with weights of 8 bits, as
the x86 engine reads the upright lines: what two sides read differently. Says how long the page took
and how large it is. What is in FOLDER already is not run again. Needs the group `demo`, the extra
`report`, chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from lite_opt.bench import count
from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.text_lines import TEXT_LINE_LABELS, write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.model.load import load
from lite_opt.views.report.judged import Judged, recommendation
from lite_opt.views.report.page import html_page
from lite_opt.views.report.sources import Counted, known_of
from py_runner.data.dataset import Dataset, dataset
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import bundle_target, run

DOCS = Path(__file__).parents[1] / "docs"
RECIPES = ("fp32", "int8-weights", "int8")
BOARDS = ("qemu-aarch64:pi4", "qemu-aarch64:pi5")
UPRIGHT = 60  # lines that are read
SEED = 7  # of the lines that calibrate: others than those that are judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--lines", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(exist_ok=True)
        page = _report(work, given.lines)
        with sync_playwright() as driver:
            root = ["--no-sandbox"] if os.geteuid() == 0 else []
            it = driver.chromium.launch(executable_path=shutil.which("chromium"), args=root)
            _shot(it, page, "light", "light", 1000)
            _shot(it, page, "dark", "dark", 1000)
            _shot(it, page, "phone", "light", 390)
            _shot(it, _lines(work), "lines", "light", 900)


def _report(work: Path, lines: int) -> Path:
    """The page, of runs that are made where they are not there yet."""
    names = work / "labels.txt"
    names.write_text("\n".join(TEXT_LINE_LABELS) + "\n", encoding="utf-8")
    data, calibration = (
        write_text_lines(work / folder, count=size, seed=seed)
        for folder, seed, size in (("lines", 0, lines), ("calibration", SEED, 128))
    )
    beside = {"image": "ppocr-cls", "labels": names}
    server = work / "server.run"
    board = bool(os.environ.get("PADDLE_EDGE_LITE_RUN_AARCH64"))
    made, bundles = [], []
    for recipe in RECIPES:
        path = work / f"{recipe}.bundle"
        if not path.exists():
            extra = {"calibration": calibration} if recipe == "int8" else {}
            done = convert(
                ocr_model("cls"), path, recipe=recipe, samples=data, check_samples=8,
                **beside, **extra,
            )  # fmt: skip
            assert done.bundle is not None, done.report
        bundles.append(Bundle.open(path))
        if not server.exists():
            source = Source.of(load(ocr_model("cls")), **beside).model(work)
            run(source, _samples(bundles[-1], data), engine="paddle").save(server)
        engines = [("lite", "cpu")] * (recipe != "int8")
        engines += [("native", BOARDS[1])] * board
        made += [_run(work, bundles[-1], data, recipe, *engine) for engine in engines]
    counted = []
    if board:
        found = count([str(b.path) for b in bundles], BOARDS, engine="native").to_json()["counts"]
        counted = [Counted(r["sha256"], r["device"], r["arm_instructions"]) for r in found]
    reference = Run.open(server)
    judged = []
    for path in made:
        edge = Run.open(path)
        report = compare(reference, edge)
        judged.append(Judged(edge, report, path.name, known_of(report.candidate, bundles, counted)))
    start = time.process_time()
    text = html_page(reference, judged, folder=server.name, data=data, command=_command(judged))
    print(
        f"{len(judged)} runs on {lines} images: {len(text.encode()) / 1e6:.2f} MB, "
        f"{time.process_time() - start:.1f} s of processor time; recommended: "
        f"{recommendation(judged)}"
    )
    (work / "report.html").write_text(text, encoding="utf-8")
    return work / "report.html"


def _lines(work: Path) -> Path:
    """The page of the recognizer, of runs that are made where they are not there yet."""
    keys, upright = work / "keys.txt", work / "upright"
    keys.write_text("".join(f"{c}\n" for c in ocr_characters()[:-1]), "utf-8")
    upright.mkdir(exist_ok=True)
    listed = [line.split() for line in (work / "lines" / "list.txt").read_text().splitlines()]
    for name in [name for name, label in listed if label == "0"][:UPRIGHT]:
        shutil.copy(work / "lines" / name, upright)
    beside = {"image": "ppocr-rec", "task": "text-recognition", "labels": keys}
    path = work / "rec.bundle"
    if not path.exists():
        done = convert(
            ocr_model("rec"), path, recipe="int8-weights", target=["x86"], samples=upright,
            check_samples=2, **beside,
        )  # fmt: skip
        assert done.bundle is not None, done.report
    bundle, server, edge = Bundle.open(path), work / "rec-server.run", work / "rec-x86.run"
    if not server.exists():
        source = Source.of(load(ocr_model("rec")), **beside).model(work)
        run(source, _samples(bundle, upright), engine="paddle").save(server)
    if not edge.exists():
        run(bundle.model("x86"), _samples(bundle, upright), engine="lite").save(edge)
    runs = Run.open(server), Run.open(edge)
    judged = Judged(runs[1], compare(*runs), edge.name)
    command = f"paddle-edge compare {server.name} {edge.name} --data upright/ --html report.html"
    text = html_page(runs[0], [judged], folder=server.name, data=upright, command=command)
    (work / "lines.html").write_text(text, encoding="utf-8")
    return work / "lines.html"


def _run(work: Path, bundle: Bundle, data: Path, recipe: str, engine: str, device: str) -> Path:
    path = work / f"{recipe}-{'pi5' if device != 'cpu' else 'x86'}.run"
    if not path.exists():
        model = bundle.model(bundle_target(engine, device))
        run(model, _samples(bundle, data), engine=engine, device=device).save(path)
        print(f"ran {path.name}", file=sys.stderr)
    return path


def _samples(bundle: Bundle, data: Path) -> Dataset:
    return dataset(data, inputs=bundle.inputs, image=bundle.image, labels=bundle.labels)


def _command(judged: list[Judged]) -> str:
    runs = " ".join(one.folder for one in judged)
    return f"paddle-edge report {runs} --reference server.run --data lines/ -o report.html"


def _shot(browser: Browser, page: Path, name: str, scheme: str, width: int) -> None:
    it = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    it.goto(page.absolute().as_uri())
    taken = Image.open(io.BytesIO(it.screenshot(full_page=True)))
    part = taken.crop((0, 0, taken.width, min(taken.height, 2 * taken.width + 900)))
    part.quantize(96).save(DOCS / f"report-{name}.png", optimize=True)
    it.close()
    print(f"wrote report-{name}.png")


if __name__ == "__main__":
    main()
