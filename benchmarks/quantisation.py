"""Writes the tables of docs/quantising.md: what each recipe costs trained models.

    python benchmarks/quantisation.py --work FOLDER [--only text-direction,reading] [--board 200]

PP-OCR's direction classifier, PP-OCRv4's recognizer and detector on rendered lines and pages whose
text is known, the recognizer also on lines such as calibration has not seen the like of;
EfficientNet-Lite0, 1 and 2 (trained on ImageNet) on crops of photographs. Calibration and judgement
use different samples. Weight-only recipes run on Paddle Lite's x86 engine; fp16 and int8 are judged
by their arithmetic on the server engine. With --board the int8 files of classifiers also run on the
ARM engine of emulated boards, on so many samples, beside that arithmetic, and that arithmetic on
oneDNN, which adds in another order.

Data, bundles and results stay in FOLDER: started again, only what is missing is measured. The
sections of the tasks that were measured take the place of theirs in the page; others stay. With
--known nothing is measured, and the page gets what FOLDER has.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from rapidfuzz.distance import Levenshtein

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.efficientnet_lite import efficientnet_lite
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.packages import photos as photo_files
from lite_opt.demo.text_lines import FONTS, TextLine, text_lines, write_text_lines
from lite_opt.demo.text_pages import write_text_pages
from lite_opt.judge.compare import Report, compare
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load, save
from lite_opt.passes.repair import repair
from lite_opt.quant.mixed import quantized_layers
from lite_opt.quant.simulate import fake_fp16
from lite_opt.recipes import Recipe, recipe
from lite_opt.views.table import percent, size
from py_runner.data.dataset import Dataset, dataset
from py_runner.devices import BOARDS
from py_runner.errors import EngineError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks.text_recognition import lines
from py_runner.tensors import Model

PAGE = Path(__file__).parents[1] / "docs" / "quantising.md"
MARK = "<!-- measured by benchmarks/quantisation.py: -->"
CROP = 256
CALIBRATION, JUDGED = 128, 320
JUDGED_LINES = 640  # half of them upside down, and left out
# More where many are ties: the best two classes of a crop are often a few points apart.
JUDGED_CROPS = 1280
CALIBRATION_PAGES, JUDGED_PAGES = 16, 20
TEXT_MAP = 0.3  # from where on a pixel of a detector's map is text
FAST = {"effort": "fast"}
# One of each family of int8 kernels: without dot product, and with.
DEVICES = {"Pi 4": "qemu-aarch64:pi4", "Pi 5": "qemu-aarch64:pi5"}
# Fonts of two families, in sizes up to 48 pixels, calibrate; the third and Pillow's own are unseen.
SEEN = [i for i, font in enumerate(FONTS) if font is not None and "serif" not in font[0]]
UNSEEN = [i for i in range(len(FONTS)) if i not in SEEN]


Quality = Callable[[Path, Run, Run], list[str]]


@dataclass(frozen=True)
class Task:
    """A trained model, how it is fed, data to calibrate and to judge with, and settings of int8
    beside the default ones. `unseen` are data of which calibration has not seen the like.

    `quality` is what `columns` say of an answer: given the data, the server's run and the other.
    `plain` are the recipes without calibration; with `rounding` int8-weights is also measured
    without rounding.py."""

    title: str
    model: Path
    image: str | None
    calibration: Path
    judged: Path
    int8: tuple[dict[str, Any], ...]
    columns: tuple[str, ...]
    quality: Quality
    unseen: Path | None = None
    plain: tuple[str, ...] = ("fp32", "int8-weights")
    rounding: bool = False


def text_direction(work: Path) -> Task:
    """PP-OCR's text direction classifier; half of the lines are upside down."""
    for name, count, seed in (("calibration", CALIBRATION * 2, 1), ("judged", JUDGED, 2)):
        _made(work / name, lambda to, n=count, s=seed: write_text_lines(to, count=n, seed=s))  # type: ignore[misc]
    return Task(
        "PP-OCR text direction classifier",
        ocr_model("cls"),
        "ppocr-cls",
        work / "calibration" / "list.txt",
        work / "judged" / "list.txt",
        (FAST, {"max_drop": 0.5}),
        CLASSES,
        classes,
        plain=("fp32", "fp16", "int16-weights", "int8-weights"),
        rounding=True,
    )


def photos(work: Path) -> Task:
    """EfficientNet-Lite0, for which the recipes were made."""
    return _efficientnet(work, 0, (FAST,), rounding=True)


def photos1(work: Path) -> Task:
    """EfficientNet-Lite1, which nothing here was made for."""
    return _efficientnet(work, 1)


def photos2(work: Path) -> Task:
    """EfficientNet-Lite2, which nothing here was made for."""
    return _efficientnet(work, 2)


def _efficientnet(
    work: Path, number: int, int8: tuple[dict[str, Any], ...] = (), *, rounding: bool = False
) -> Task:
    """Crops of the same photographs, but no crop is in both sets."""
    for name, seed, count in (("calibration", 1, CALIBRATION * 2), ("judged", 2, JUDGED_CROPS)):
        _made(work / name, lambda to, s=seed, n=count: _write_crops(to, s, n))  # type: ignore[misc]
    return Task(
        f"EfficientNet-Lite{number} (ImageNet)",
        _made(work / "model", lambda to: efficientnet_lite(number, to)),
        None,
        work / "calibration",
        work / "judged",
        int8,
        CLASSES,
        classes,
        rounding=rounding,
    )


def _made(folder: Path, write: Callable[[Path], object]) -> Path:
    """A folder that is written once, whole or not at all."""
    if not folder.exists():
        begun = folder.with_name(f"{folder.name}.begun")
        shutil.rmtree(begun, ignore_errors=True)
        write(begun)
        begun.rename(folder)
    return folder


def _write_crops(folder: Path, seed: int, count: int) -> None:
    """The first photograph is left out: it shows nothing that ImageNet has a class for."""
    pictures = [Image.open(path).convert("RGB") for path in photo_files()[1:]]
    folder.mkdir()
    for index in range(count):
        generator = np.random.default_rng((seed, index))
        crop = _crop(pictures[index % len(pictures)], generator)
        crop.save(folder / f"{index:04d}.png")


def _crop(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """3/4 to all of the short side, somewhere; every second mirrored; darker or brighter."""
    side = int(min(picture.size) * generator.uniform(0.75, 1))
    left, top = (int(generator.integers(0, whole - side + 1)) for whole in picture.size)
    crop = picture.resize(
        (CROP, CROP), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )
    if generator.random() < 0.5:
        crop = ImageOps.mirror(crop)
    return ImageEnhance.Brightness(crop).enhance(generator.uniform(0.7, 1.3))


def reading(work: Path) -> Task:
    """PP-OCRv4's recognizer on lines that stand upright. Those of the calibration are in other
    fonts, smaller and less noisy than the unseen ones."""
    seen: dict[str, Any] = {"fonts": SEEN}
    sets = {
        "calibration": text_lines(2 * CALIBRATION, seed=1, **seen),
        "judged": text_lines(JUDGED_LINES, seed=2, **seen),
        "unseen": text_lines(JUDGED_LINES, seed=3, fonts=UNSEEN, sizes=(49, 72)),
    }
    for name, made in sets.items():
        upright, noise = made[::2], 16.0 * (name == "unseen")
        _made(work / name, lambda to, m=upright, n=noise: _write_lines(m, to, noise=n))  # type: ignore[misc]
    return Task(
        "PP-OCRv4 text recognizer",
        ocr_model("rec"),
        "resize=pad:48x320,color=BGR,scale=1,divisor=255,mean=0.5,std=0.5",
        work / "calibration",
        work / "judged",
        (FAST, {"max_float": 15}),
        ("characters right", "lines as the server", "characters as the server"),
        texts,
        work / "unseen",
    )


def _write_lines(made: list[TextLine], folder: Path, *, noise: float) -> None:
    """Pictures and texts of lines, with sensor noise of so many levels on top."""
    folder.mkdir()
    for index, line in enumerate(made):
        generator = np.random.default_rng((len(made), index))
        pixels = np.asarray(line.image, np.float64)
        pixels = pixels + noise * generator.standard_normal(pixels.shape)
        image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        image.save(folder / f"{index:04d}.png")
    texts = "".join(f"{line.text}\n" for line in made)
    (folder / "texts.txt").write_text(texts, encoding="utf-8")


def finding(work: Path) -> Task:
    """PP-OCRv4's detector on pages, most of them upright."""
    for name, count, seed in (("calibration", CALIBRATION_PAGES, 1), ("judged", JUDGED_PAGES, 2)):
        _made(work / name, lambda to, n=count, s=seed: write_text_pages(to, count=n, seed=s))  # type: ignore[misc]
    return Task(
        "PP-OCRv4 text detector",
        ocr_model("det"),
        "ppocr-det",
        work / "calibration",
        work / "judged",
        (FAST,),
        ("mean IoU of maps", "hmean of boxes, IoU 0.5", "hmean of boxes, IoU 0.9", "SQNR dB"),
        maps,
    )


CLASSES = ("top-1 agreement", "top-1 accuracy", "max \\|dp\\|", "SQNR dB")


def classes(data: Path, server: Run, answer: Run) -> list[str]:
    """Of scores of classes."""
    report = compare(server, answer)
    accuracy = report.accuracy
    return [
        percent(report.top1_agreement),
        percent(accuracy["candidate_top1"]) if accuracy else "-",
        f"{report.outputs[0].max_probability_diff:.1e}",
        f"{report.outputs[0].sqnr_db:.1f}",
    ]


def texts(data: Path, server: Run, answer: Run) -> list[str]:
    """Of lines that are read."""
    wanted = (data / "texts.txt").read_text(encoding="utf-8").splitlines()
    by_server, read = (
        [line.text or "" for line in lines(done, ocr_characters())] for done in (server, answer)
    )
    same = float(np.mean([a == b for a, b in zip(by_server, read)]))
    return [_characters(wanted, read), percent(same), _characters(by_server, read)]


def _characters(wanted: list[str], read: list[str]) -> str:
    """One less the character error rate."""
    wrong = sum(Levenshtein.distance(a, b) for a, b in zip(wanted, read))
    return percent(1 - wrong / sum(map(len, wanted)))


def maps(data: Path, server: Run, answer: Run) -> list[str]:
    """Of texts that are found: the pixels of text, as the server sees them, and the boxes."""
    task = {"name": "text-detection"}
    report = compare(replace(server, task=task), replace(answer, task=task))
    assert report.scores is not None
    (ours,), (theirs,) = answer.outputs.values(), server.outputs.values()
    shares = []
    for a, b in zip(ours, theirs):
        either = np.count_nonzero((a > TEXT_MAP) | (b > TEXT_MAP))
        shares.append(np.count_nonzero((a > TEXT_MAP) & (b > TEXT_MAP)) / either if either else 1)
    boxes = [percent(report.scores.figures[f"hmean at IoU {least}"]) for least in (0.5, 0.9)]
    return [percent(float(np.mean(shares))), *boxes, f"{report.outputs[0].sqnr_db:.1f}"]


TASKS = {
    "text-direction": text_direction,
    "reading": reading,
    "finding": finding,
    "photos": photos,
    "photos1": photos1,
    "photos2": photos2,
}


class Measured:
    """A task's data and results in a folder, of which what is missing is measured."""

    def __init__(self, task: Task, work: Path, *, known: bool) -> None:
        self.task, self.work = task, work
        self._known = known  # and nothing else
        self.source = Source.of(load(task.model), image=task.image)
        self.sets = [
            dataset(path, inputs=self.source.inputs, image=self.source.image)
            for path in filter(None, (task.judged, task.unseen))
        ]
        self._store = work / "results.json"
        self._servers: list[Run] = []

    def known(self, key: str, measure: Callable[[], Any] | None) -> Any:
        """What was measured under a key, now or before; None where it is not to be measured."""
        results = self._results()
        if key not in results and measure is not None and not self._known:
            start = time.monotonic()
            found = measure()
            seconds = time.monotonic() - start
            print(f"  {key}: {seconds:.0f} s: {found}", file=sys.stderr, flush=True)
            results = {**self._results(), key: found}  # others may have measured meanwhile
            self._store.write_text(json.dumps(results, indent=1), encoding="utf-8")
        return results.get(key)

    def _results(self) -> dict[str, Any]:
        if not self._store.exists():
            return {}
        found: dict[str, Any] = json.loads(self._store.read_text(encoding="utf-8"))
        return found

    def servers(self) -> list[Run]:
        """What the server answers to each set."""
        if not self._servers:
            model = self.source.model(self.work)
            self._servers = [run(model, data, engine="paddle") for data in self.sets]
        return self._servers

    def quality(self, answers: Sequence[Run]) -> list[str]:
        """The cells of all sets."""
        data = filter(None, (self.task.judged, self.task.unseen))
        triples = zip(data, self.servers(), answers)
        return [cell for triple in triples for cell in self.task.quality(*triple)]

    def recipe(self, number: int, chosen: Recipe, calibrated: bool) -> dict[str, Any]:
        """Convert with a recipe, and judge."""
        task, work = self.task, self.work
        saved = work / f"{number}.quantized"
        options: dict[str, Any] = {"calibration": task.calibration} if calibrated else {}
        if chosen.calibration:
            options["save_quantized"] = saved
        done = convert(
            task.model, work / f"{number}.bundle", recipe=chosen, image=task.image, check=False,
            force=True, **options,
        )  # fmt: skip
        assert done.bundle is not None
        model = _judged_model(chosen, task, self.source, done.bundle.model("x86"), saved, work)
        engine = "paddle" if chosen.rounds_activations else "lite"
        answers = [run(model, data, engine=engine) for data in self.sets]
        arm, found = done.bundle.targets["arm"], done.float_layers
        return {
            "bytes": arm.bytes,
            "int8": sum(count for kind, count in arm.kernels.items() if kind.endswith("int8")),
            "ops": arm.ops,
            "calib": arm.calib,
            "share": found.share if found else None,
            "float": list(found.layers) if found else [],
            "layers": len(quantized_layers(load(saved))) if chosen.calibration else None,
            "engine": f"{answers[0].engine} {answers[0].engine_version}",
            "cells": self.quality(answers),
        }

    def board(self, number: int, device: str, count: int) -> list[int]:
        """Of how many samples the ARM engine says the class that the simulation does, and of how
        many there are."""
        data = self.sets[0].select(range(min(count, len(self.sets[0]))))
        bundle = Bundle.open(self.work / f"{number}.bundle")
        report = compare(
            run(self._simulated(number), data, engine="paddle"),
            run(bundle.model("arm"), data, engine="native", device=device),
        )
        return _alike(report)

    def other_order(self, number: int) -> list[int]:
        """The same of the simulation and itself, with float sums in another order: what a place
        less in a float does to values that lie between two steps."""
        simulated = self._simulated(number)
        try:
            answers = [
                run(simulated, self.sets[0], engine="paddle", device=device)
                for device in ("cpu", "cpu+onednn")
            ]
        except EngineError:  # oneDNN computes not every network that has these operators
            return [0, 0]
        return _alike(compare(*answers))

    def _simulated(self, number: int) -> Model:
        """The quantized model that the server engine computes in place of a board."""
        quantized = load(self.work / f"{number}.quantized")
        return Source.of(quantized, image=self.task.image).model(self.work)

    def nearest(self) -> list[float | None]:
        """The SQNR and the agreement of int8-weights without rounding.py."""
        report = compare(
            self.servers()[0], _nearest(self.task, self.source, self.sets[0], self.work)
        )
        return [report.outputs[0].sqnr_db, report.top1_agreement]


def _alike(report: Report) -> list[int]:
    """Of how many samples both say the same class, and of how many there are."""
    assert report.top1_agreement is not None
    return [round(report.top1_agreement * report.samples), report.samples]


def measure(task: Task, work: Path, board: int, *, known: bool) -> str:
    """The task's section: every recipe, judged on the same samples."""
    measured = Measured(task, work, known=known)
    rows, remarks = [], []
    fp32_bytes = int8_layers = 0
    for number, (title, chosen, calibrated) in enumerate(_plans(task)):
        found = measured.known(
            title, lambda n=number, c=chosen, d=calibrated: measured.recipe(n, c, d)
        )
        if found is None:
            continue
        fp32_bytes = fp32_bytes or found["bytes"]
        int8_layers = max(int8_layers, (found["layers"] or 0) + len(found["float"]))
        rows.append(
            [
                title,
                f"{size(found['bytes'])} ({found['bytes'] / fp32_bytes:.2f}x)",
                f"{found['int8']} of {found['ops']}",
                str(found["calib"]),
                "-" if found["share"] is None else percent(found["share"]),
                found["engine"],
                *found["cells"],
            ]
        )
        if found["float"]:
            remarks.append(f"{title} keeps {len(found['float'])} layers in float.")
        if title == "int8" and task.quality is classes:
            remarks += _boards(measured, number, board)
    nearest = measured.known("nearest", measured.nearest) if task.rounding else None
    if nearest is not None:
        sqnr_db, agrees = nearest
        remarks.append(
            "With each weight rounded to the nearest step instead, int8-weights has "
            f"{sqnr_db:.1f} dB and agrees on {percent(agrees)}."
        )
    header = ["recipe", "arm .nb", "int8 kernels", "calib", "multiply-adds in float", "judged on"]
    header += task.columns
    header += [f"{column}, unseen" for column in task.columns] if task.unseen else []
    return "\n".join(
        [
            f"### {task.title}",
            "",
            f"{len(measured.sets[0])} samples; {int8_layers} layers can be int8.",
            "",
            _line(header),
            _line(["---"] + ["---:"] * (len(header) - 1)),
            *map(_line, rows),
            "",
            *remarks,
            "",
        ]
    )


def _boards(measured: Measured, number: int, count: int) -> list[str]:
    """What the ARM engine says beside the simulation, where a board is here or was."""
    said = []
    for name, device in DEVICES.items():
        here = count and not BOARDS[device].missing()
        measure = (lambda d=device: measured.board(number, d, count)) if here else None  # type: ignore[misc]
        found = measured.known(f"int8 on {name}", measure)
        if found is not None:
            said.append(f"on an emulated {name} {found[0]} of {found[1]}")
    if not said:
        return []
    same, of = measured.known("int8, other order", lambda: measured.other_order(number)) or (0, 0)
    itself = f"; the simulation as itself, with float sums in another order: {same} of {of}"
    return [
        f"Samples that the ARM engine labels as its simulation does: {', '.join(said)}"
        f"{itself if of else ''}."
    ]


def _plans(task: Task) -> list[tuple[str, Recipe, bool]]:
    """What is converted: a title, the recipe, and whether it is given calibration data."""
    plans = [(name, recipe(name), False) for name in task.plain]
    plans += [
        ("int8-weights, calibrated", recipe("int8-weights"), True),
        ("int8", recipe("int8"), True),
    ]
    for settings in task.int8:
        words = [f"{key.replace('_', '-')} {value}" for key, value in settings.items()]
        plans.append((", ".join(["int8", *words]), recipe("int8", **settings), True))
    return plans


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _judged_model(
    chosen: Recipe, task: Task, source: Source, x86: Model, saved: Path, work: Path
) -> Model:
    if not chosen.rounds_activations:
        return x86
    if chosen.calibration:
        return Source.of(load(saved), image=task.image).model(work)
    program = load(task.model)
    repair(program, recipe=chosen)
    (work / "fp16").mkdir(exist_ok=True)
    files = save(fake_fp16(program), work / "fp16")
    assert files.params is not None
    return replace(source.model(work), files=(files.model, files.params), precision="fp16")


def _nearest(task: Task, source: Source, data: Dataset, work: Path) -> Run:
    """What recipe int8-weights would be without rounding.py."""
    program = load(task.model)
    repair(program)
    folder = work / "nearest"
    folder.mkdir(exist_ok=True)
    file = folder / "model.nb"
    optimize(program, "x86", file, recipe=recipe("int8-weights"))
    model = replace(source.model(work), files=(file,), precision="int8-weights")
    return run(model, data, engine="lite")


def main() -> None:
    """Measure, and replace the sections of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep data, results, bundles and models here")
    parser.add_argument("--only", help=f"names, comma separated, of {', '.join(TASKS)}")
    parser.add_argument("--known", action="store_true", help="write what FOLDER has")
    parser.add_argument("--board", type=int, default=0, help="samples for emulated boards")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(TASKS)
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            print(name, file=sys.stderr, flush=True)
            work = (options.work or Path(temporary)) / name
            work.mkdir(parents=True, exist_ok=True)
            task = TASKS[name](work)
            _write(task.title, measure(task, work, options.board, known=options.known))


def _write(title: str, section: str) -> None:
    """Put a section in the place of the one of that title, or behind all others."""
    head, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    start = rest.find(f"### {title}\n")
    end = rest.find("### ", start + 1)
    before, after = (rest, "") if start < 0 else (rest[:start], rest[end:] if end >= 0 else "")
    parts = [f"{part.strip()}\n" for part in (before, section, after) if part.strip()]
    PAGE.write_text(f"{head}{mark}\n\n" + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
