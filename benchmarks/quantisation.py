"""Writes the tables of docs/quantising.md: what each recipe costs three trained models.

    python benchmarks/quantisation.py [--work FOLDER] [--only text-direction,photos,reading]

PP-OCR's direction classifier on rendered text lines, EfficientNet-Lite0 (trained on ImageNet) on
crops of photographs, PP-OCRv4's recognizer on rendered lines whose text is known. Calibration and
judgement use different samples. Weight-only recipes run on Paddle Lite's x86 engine; fp16 and
int8 are judged by their arithmetic on the server engine. No ARM device was measured.
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

from lite_opt.conversion.convert import convert
from lite_opt.conversion.losses import layer_losses
from lite_opt.conversion.source import Source
from lite_opt.demo.efficientnet_lite import efficientnet_lite0
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.packages import photos as photo_files
from lite_opt.demo.text_lines import text_lines, write_text_lines
from lite_opt.judge.compare import Report, compare
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load, save, stage
from lite_opt.passes.repair import repair
from lite_opt.quant.simulate import fake_fp16
from lite_opt.recipes import recipe
from lite_opt.views.table import percent, size
from py_runner.data.dataset import Dataset, dataset
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model

PAGE = Path(__file__).parents[1] / "docs" / "quantising.md"
MARK = "<!-- measured by benchmarks/quantisation.py: -->"
CROP = 256
CALIBRATION, JUDGED = 128, 320
# More where many are ties: the best two classes of a crop are often a few points apart.
JUDGED_CROPS = 1280


@dataclass(frozen=True)
class Task:
    """A trained model, how it is fed, and data to calibrate and to judge with."""

    title: str
    model: Path
    image: str | None
    calibration: Path
    judged: Path
    max_drops: tuple[float, ...]


def text_direction(work: Path) -> Task:
    """PP-OCR's text direction classifier; half of the lines are upside down."""
    return Task(
        "PP-OCR text direction classifier",
        ocr_model("cls"),
        "ppocr-cls",
        write_text_lines(work / "calibration", count=CALIBRATION * 2, seed=1),
        write_text_lines(work / "judged", count=JUDGED, seed=2),
        (0.5,),
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
        (2.0,),
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
    """PP-OCRv4's recognizer on lines that stand upright."""
    for name, seed, count in (("calibration", 1, CALIBRATION), ("judged", 2, JUDGED // 2)):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        # Every second line is upside down.
        lines = text_lines(2 * count, seed=seed)[::2]
        for index, line in enumerate(lines):
            line.image.save(folder / f"{index:04d}.png")
        texts = "".join(f"{line.text}\n" for line in lines)
        (folder / "texts.txt").write_text(texts, encoding="utf-8")
    return Task(
        "PP-OCRv4 text recognizer",
        ocr_model("rec"),
        "resize=pad:48x320,color=BGR,scale=1,divisor=255,mean=0.5,std=0.5",
        work / "calibration",
        work / "judged",
        (),
    )


TASKS = {"text-direction": text_direction, "photos": photos, "reading": reading}


def measure(task: Task, work: Path) -> str:
    """Convert with every recipe, judge on the same samples, and write the task's section."""
    source = Source.of(load(task.model), image=task.image)
    data = dataset(task.judged, inputs=source.inputs, image=source.image)
    server = run(source.model(work), data, engine="paddle")
    rows, float_layers = [], []
    fp32_bytes = 0
    plans: list[tuple[str, float | None]] = [
        (name, None) for name in ("fp32", "fp16", "int16-weights", "int8-weights", "int8")
    ]
    plans += [("int8", limit) for limit in task.max_drops]
    for name, max_drop in plans:
        print(f"  {name} {max_drop or ''}", file=sys.stderr, flush=True)
        chosen = recipe(name, max_drop=max_drop)
        saved = work / f"{name}-{max_drop}.quantized"
        calibrated = (
            {"calibration": task.calibration, "save_quantized": saved} if chosen.calibration else {}
        )
        done = convert(
            task.model,
            work / f"{name}-{max_drop}.bundle",
            recipe=chosen,
            image=task.image,
            check=False,
            **calibrated,
        )
        assert done.bundle is not None
        answers = _answers(name, task, source, done.bundle.model("x86"), saved, data, work)
        report = compare(server, answers)
        arm = done.bundle.targets["arm"]
        fp32_bytes = fp32_bytes or arm.bytes
        int8 = sum(count for kind, count in arm.kernels.items() if kind.endswith("int8"))
        title = name if max_drop is None else f"{name}, max-drop {max_drop:g}"
        rows.append(
            [
                title,
                f"{size(arm.bytes)} ({arm.bytes / fp32_bytes:.2f}x)",
                f"{int8} of {arm.ops}",
                str(arm.calib),
                f"{answers.engine} {answers.engine_version}",
                *_quality(task, report, server, answers),
            ]
        )
        if done.float_layers is not None:
            found = done.float_layers
            float_layers.append(
                f"`--max-drop {max_drop:g}` keeps {len(found.layers)} of "
                f"{len(found.layers) + _int8_layers(saved)} layers in float"
                + (f" ({', '.join(found.layers)})" if found.layers else "")
                + f": on {found.samples} samples held out int8 alone loses "
                f"{found.drop_int8:.2f} points, so {found.drop:.2f}."
            )
    nearest = compare(server, _nearest(task, source, data, work))
    losses = layer_losses(task.model, calibration=task.calibration, image=task.image)
    worst = "; ".join(f"{loss.layer} ({loss.op}) {loss.sqnr_db:.1f} dB" for loss in losses[:5])
    header = ["recipe", "arm .nb", "int8 kernels", "calib", "judged on", *_columns(task)]
    return "\n".join(
        [
            f"### {task.title}",
            "",
            f"{len(data)} samples; {len(losses)} layers can be int8.",
            "",
            _line(header),
            _line(["---"] + ["---:"] * (len(header) - 1)),
            *map(_line, rows),
            "",
            *float_layers,
            f"With each weight rounded to the nearest step instead, int8-weights has "
            f"{nearest.outputs[0].sqnr_db:.1f} dB"
            + (
                f" and agrees on {percent(nearest.top1_agreement)}"
                if len(_columns(task)) == 4
                else ""
            )
            + ".",
            f"The layers that lose most alone: {worst}.",
            "",
        ]
    )


def _int8_layers(folder: Path) -> int:
    from lite_opt.quant.mixed import quantized_layers

    return len(quantized_layers(load(folder)))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _answers(
    name: str, task: Task, source: Source, x86: Model, saved: Path, data: Dataset, work: Path
) -> Run:
    if name not in ("fp16", "int8"):
        return run(x86, data, engine="lite")
    if name == "int8":
        model = Source.of(load(saved), image=task.image).model(work)
    else:
        program = load(task.model)
        repair(program, recipe=recipe("fp16"))
        (work / "fp16").mkdir(exist_ok=True)
        files = save(fake_fp16(program), work / "fp16")
        assert files.params is not None
        model = replace(source.model(work), files=(files.model, files.params), precision="fp16")
    return run(model, data, engine="paddle")


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
    reads = (task.judged / "texts.txt").exists() if task.judged.is_dir() else False
    if reads:
        return ["characters right", "lines right", "lines as the server"]
    return ["top-1 agreement", "top-1 accuracy", "max \\|dp\\|", "SQNR dB"]


def _quality(task: Task, report: Report, server: Run, answers: Run) -> list[str]:
    first = report.outputs[0]
    if len(_columns(task)) == 4:
        accuracy = report.accuracy
        return [
            percent(report.top1_agreement),
            percent(accuracy["candidate_top1"]) if accuracy else "-",
            f"{first.max_probability_diff:.1e}",
            f"{first.sqnr_db:.1f}",
        ]
    wanted = (task.judged / "texts.txt").read_text(encoding="utf-8").splitlines()
    read, by_server = (
        [_decode(v) for v in next(iter(r.outputs.values()))] for r in (answers, server)
    )
    characters = sum(map(len, wanted))
    wrong = sum(_distance(a, b) for a, b in zip(wanted, read))
    return [
        percent(1 - wrong / characters),
        percent(float(np.mean([a == b for a, b in zip(wanted, read)]))),
        percent(float(np.mean([a == b for a, b in zip(by_server, read)]))),
    ]


def _decode(scores: Any) -> str:
    """CTC: the best class of each column, repetitions merged, blanks (class 0) dropped."""
    keys = ocr_characters()
    best = scores[0].argmax(-1)
    kept = [k for i, k in enumerate(best) if k and (i == 0 or k != best[i - 1])]
    return "".join(keys[k - 1] for k in kept)


def _distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


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
