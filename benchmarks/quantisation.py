"""Writes the tables of docs/quantising.md: what each recipe costs three trained models.

    python benchmarks/quantisation.py [--work FOLDER] [--only text-direction,photos,reading]

PP-OCR's direction classifier on rendered text lines, EfficientNet-Lite0 (trained on ImageNet) on
crops of photographs, PP-OCRv4's recognizer on rendered lines whose text is known, also on such as
calibration has not seen the like of. Calibration and judgement use different samples. Weight-only
recipes run on Paddle Lite's x86 engine; fp16 and int8 are judged by their arithmetic on the server
engine. No ARM device was measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from rapidfuzz.distance import Levenshtein

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.efficientnet_lite import efficientnet_lite0
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.packages import photos as photo_files
from lite_opt.demo.text_lines import FONTS, TextLine, text_lines, write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load, save, stage
from lite_opt.passes.repair import repair
from lite_opt.quant.mixed import quantized_layers
from lite_opt.quant.simulate import fake_fp16
from lite_opt.recipes import Recipe, recipe
from lite_opt.views.table import percent, size
from py_runner.data.dataset import Dataset, dataset
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks.text_recognition import lines
from py_runner.tensors import Model

PAGE = Path(__file__).parents[1] / "docs" / "quantising.md"
MARK = "<!-- measured by benchmarks/quantisation.py: -->"
CROP = 256
CALIBRATION, JUDGED = 128, 320
# More where many are ties: the best two classes of a crop are often a few points apart.
JUDGED_CROPS = 1280
GOOD = {"effort": "good"}
# Fonts of two families, in sizes up to 48 pixels, calibrate; the third and Pillow's own are unseen.
SEEN = [i for i, font in enumerate(FONTS) if font is not None and "serif" not in font[0]]
UNSEEN = [i for i in range(len(FONTS)) if i not in SEEN]


@dataclass(frozen=True)
class Task:
    """A trained model, how it is fed, data to calibrate and to judge with, and settings of int8
    beside the default ones. `unseen` are data of which calibration has not seen the like."""

    title: str
    model: Path
    image: str | None
    calibration: Path
    judged: Path
    int8: tuple[dict[str, Any], ...]
    unseen: Path | None = None


def text_direction(work: Path) -> Task:
    """PP-OCR's text direction classifier; half of the lines are upside down."""
    return Task(
        "PP-OCR text direction classifier",
        ocr_model("cls"),
        "ppocr-cls",
        write_text_lines(work / "calibration", count=CALIBRATION * 2, seed=1),
        write_text_lines(work / "judged", count=JUDGED, seed=2),
        ({"max_drop": 0.5},),
    )


def photos(work: Path) -> Task:
    """EfficientNet-Lite0; crops of the same photographs, but no crop is in both sets. The first
    photograph shows nothing that ImageNet has a class for."""
    pictures = [Image.open(path).convert("RGB") for path in photo_files()[1:]]
    for name, seed, count in (("calibration", 1, CALIBRATION * 2), ("judged", 2, JUDGED_CROPS)):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            generator = np.random.default_rng((seed, index))
            crop = _crop(pictures[index % len(pictures)], generator)
            crop.save(folder / f"{index:04d}.png")
    return Task(
        "EfficientNet-Lite0 (ImageNet)",
        efficientnet_lite0(work / "model"),
        None,
        work / "calibration",
        work / "judged",
        (GOOD, {**GOOD, "max_float": 5}, {"max_drop": 1}),
    )


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
        "judged": text_lines(JUDGED, seed=2, **seen),
        "unseen": text_lines(JUDGED, seed=3, fonts=UNSEEN, sizes=(49, 72)),
    }
    for name, made in sets.items():
        _write_lines(
            made[::2], work / name, noise=(name == "unseen") * 16.0
        )  # others stand upright
    return Task(
        "PP-OCRv4 text recognizer",
        ocr_model("rec"),
        "resize=pad:48x320,color=BGR,scale=1,divisor=255,mean=0.5,std=0.5",
        work / "calibration",
        work / "judged",
        (GOOD, {"max_float": 15}, {**GOOD, "max_float": 15}),
        work / "unseen",
    )


def _write_lines(made: list[TextLine], folder: Path, *, noise: float) -> None:
    """Pictures and texts of lines, with sensor noise of so many levels on top."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, line in enumerate(made):
        generator = np.random.default_rng((len(made), index))
        pixels = np.asarray(line.image, np.float64)
        pixels = pixels + noise * generator.standard_normal(pixels.shape)
        image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        image.save(folder / f"{index:04d}.png")
    texts = "".join(f"{line.text}\n" for line in made)
    (folder / "texts.txt").write_text(texts, encoding="utf-8")


TASKS = {"text-direction": text_direction, "photos": photos, "reading": reading}


def measure(task: Task, work: Path) -> str:
    """Convert with every recipe, judge on the same samples, and write the task's section."""
    source = Source.of(load(task.model), image=task.image)
    sets = [
        dataset(path, inputs=source.inputs, image=source.image)
        for path in filter(None, (task.judged, task.unseen))
    ]
    servers = [run(source.model(work), data, engine="paddle") for data in sets]
    rows, remarks = [], []
    fp32_bytes = int8_layers = 0
    for number, (title, chosen, calibrated) in enumerate(_plans(task)):
        print(f"  {title}", file=sys.stderr, flush=True)
        saved = work / f"{number}.quantized"
        options: dict[str, Any] = {}
        if calibrated:
            options["calibration"] = task.calibration
        if chosen.calibration:
            options["save_quantized"] = saved
        done = convert(
            task.model,
            work / f"{number}.bundle",
            recipe=chosen,
            image=task.image,
            check=False,
            **options,
        )
        assert done.bundle is not None
        model = _judged_model(chosen, task, source, done.bundle.model("x86"), saved, work)
        engine = "paddle" if chosen.rounds_activations else "lite"
        answers = [run(model, data, engine=engine) for data in sets]
        if title == "int8":
            int8_layers = len(quantized_layers(load(saved)))
        arm = done.bundle.targets["arm"]
        fp32_bytes = fp32_bytes or arm.bytes
        int8 = sum(count for kind, count in arm.kernels.items() if kind.endswith("int8"))
        found = done.float_layers
        rows.append(
            [
                title,
                f"{size(arm.bytes)} ({arm.bytes / fp32_bytes:.2f}x)",
                f"{int8} of {arm.ops}",
                str(arm.calib),
                percent(found.share) if found else "-",
                f"{answers[0].engine} {answers[0].engine_version}",
                *_quality(task, servers, answers),
            ]
        )
        if found is not None:
            remarks.append(
                f"{title} keeps {len(found.layers)} layers in float: {', '.join(found.layers)}."
            )
    nearest = compare(servers[0], _nearest(task, source, sets[0], work))
    agrees = nearest.top1_agreement
    header = ["recipe", "arm .nb", "int8 kernels", "calib", "multiply-adds in float", "judged on"]
    header += _columns(task)
    return "\n".join(
        [
            f"### {task.title}",
            "",
            f"{len(sets[0])} samples; {int8_layers} layers can be int8.",
            "",
            _line(header),
            _line(["---"] + ["---:"] * (len(header) - 1)),
            *map(_line, rows),
            "",
            *remarks,
            "With each weight rounded to the nearest step instead, int8-weights has "
            f"{nearest.outputs[0].sqnr_db:.1f} dB"
            + ("" if agrees is None else f" and agrees on {percent(agrees)}")
            + ".",
            "",
        ]
    )


def _plans(task: Task) -> list[tuple[str, Recipe, bool]]:
    """What is converted: a title, the recipe, and whether it is given calibration data."""
    plans = [(name, recipe(name), False) for name in ("fp32", "fp16", "int16-weights")]
    plans += [
        ("int8-weights", recipe("int8-weights"), False),
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
    folder.mkdir()
    file = folder / "model.nb"
    optimize(stage(program, folder), "x86", file, recipe=recipe("int8-weights"))
    model = replace(source.model(work), files=(file,), precision="int8-weights")
    return run(model, data, engine="lite")


def _columns(task: Task) -> list[str]:
    if task.unseen is None:
        return ["top-1 agreement", "top-1 accuracy", "max \\|dp\\|", "SQNR dB"]
    read = ["characters right", "lines as the server", "characters as the server"]
    return [*read, *(f"{column}, unseen" for column in read)]


def _quality(task: Task, servers: list[Run], answers: list[Run]) -> list[str]:
    if task.unseen is None:
        report = compare(servers[0], answers[0])
        accuracy = report.accuracy
        return [
            percent(report.top1_agreement),
            percent(accuracy["candidate_top1"]) if accuracy else "-",
            f"{report.outputs[0].max_probability_diff:.1e}",
            f"{report.outputs[0].sqnr_db:.1f}",
        ]
    cells = []
    for folder, server, answer in zip((task.judged, task.unseen), servers, answers):
        wanted = (folder / "texts.txt").read_text(encoding="utf-8").splitlines()
        by_server, read = (
            [line.text or "" for line in lines(done, ocr_characters())] for done in (server, answer)
        )
        same = float(np.mean([a == b for a, b in zip(by_server, read)]))
        cells += [_characters(wanted, read), percent(same), _characters(by_server, read)]
    return cells


def _characters(wanted: list[str], read: list[str]) -> str:
    """One less the character error rate."""
    wrong = sum(Levenshtein.distance(a, b) for a, b in zip(wanted, read))
    return percent(1 - wrong / sum(map(len, wanted)))


def main() -> None:
    """Measure, and replace what stands behind the mark in the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep data, bundles and models here")
    parser.add_argument("--only", help="names, comma separated; sections are then printed instead")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(TASKS)
    sections = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            print(name, file=sys.stderr, flush=True)
            work = (options.work or Path(temporary)) / name
            work.mkdir(parents=True)
            sections.append(measure(TASKS[name](work), work))
    if options.only:
        print("\n".join(sections))
        return
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(before + "\n".join([MARK, "", *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
