"""Counts what depthwise layers cost in int8 and in float: what judge/spare.py decides by.

    python benchmarks/depthwise.py --work FOLDER [--page]

Needs an emulated board with a real Paddle Lite (docs/cross-compiling.md). First blocks of three
layers, a 1x1 convolution, a depthwise one and a 1x1 one, all in int8 and with the depthwise one in
float: conversions between the two are counted with it. Then whole networks: in fp32, in int8 all
through, and with the depthwise layers in float that `cheaper_in_float` names. Weights are random,
which have no say in that.

Results stay in FOLDER: started again, only what is missing is counted. They take the place of what
stands between the marks in docs/quantising.md; with `--page` nothing is counted. Exits 1 where a
network takes more instructions with its depthwise layers in float.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import make_model

from lite_opt.conversion.costs import FAMILIES
from lite_opt.demo.packages import ocr_model
from lite_opt.judge.spare import cheaper_in_float
from lite_opt.judge.variants import Variants
from lite_opt.lite.part import part
from lite_opt.model.load import load
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.centre import centred, lowered
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import RECIPES, Calibration
from py_runner.devices import BOARDS
from py_runner.files.folder import temporary_folder
from py_runner.tensors import Sample

PAGE = Path(__file__).parents[1] / "docs" / "quantising.md"
MARKS = "<!-- measured by benchmarks/depthwise.py: -->", "<!-- until here -->"
CHANNELS = 96
# Window, strides, paddings, sides of the input.
BLOCKS = [
    *((k, (s, s), (k // 2, k // 2), (n, n)) for k in (3, 5) for s in (1, 2) for n in (56, 28, 14)),
    (3, (1, 1), (1, 1), (7, 7)),
    (5, (1, 1), (2, 2), (7, 7)),
    (3, (2, 2), (0, 1, 0, 1), (28, 28)),
    (5, (2, 2), (1, 2, 1, 2), (28, 28)),
    (3, (2, 1), (1, 1), (12, 160)),
    (5, (2, 1), (2, 2), (12, 80)),
]
# Of PP-OCR its title, and the sides of a picture.
OCR = {
    "cls": ("PP-OCR direction classifier", (48, 192)),
    "rec": ("PP-OCRv4 recognizer", (48, 320)),
    "det": ("PP-OCRv4 detector", (320, 320)),
}
NETWORKS = (
    *("MobileNetV1_x0_5", "MobileNetV2_x0_25", "MobileNetV3_small_x1_0", "PPLCNet_x0_25"),
    *("GhostNet_x0_5", "MixNet_S", "EfficientNetB0", "MobileNetV4_conv_small", *OCR),
)


def block(
    window: int, strides: tuple[int, int], pads: tuple[int, ...], sides: tuple[int, int]
) -> Program:
    """1x1, ReLU6, depthwise, ReLU6, 1x1."""
    four = pads if len(pads) == 4 else (pads[0], pads[0], pads[1], pads[1])
    small = tuple(
        (sides[i] + four[2 * i] + four[2 * i + 1] - window) // strides[i] + 1 for i in (0, 1)
    )
    before, behind = (1, CHANNELS, *sides), (1, CHANNELS, *small)
    b = make_model.Builder(3)

    def active(x: str, shape: tuple[int, ...]) -> str:
        bias = b.param(f"{x}.b", (CHANNELS,))
        x = b.op("elementwise_add", {"X": [x], "Y": [bias]}, f"{x}.added", shape, axis=1)
        return b.op("relu6", {"X": [x]}, f"{x}.active", shape, threshold=6.0)

    x = b.input("x", before)
    weight = b.param("first.w", (CHANNELS, CHANNELS, 1, 1))
    x = active(b.conv2d(x, weight, "first", before, padding=0), before)
    x = b.conv2d(x, b.param("depthwise.w", (CHANNELS, 1, window, window)), "depthwise", behind)
    b.ops[-1].type = "depthwise_conv2d"
    settings = {"groups": CHANNELS, "strides": list(strides), "paddings": list(pads)}
    for name, value in settings.items():
        b.ops[-1].set(name, value)
    x = active(x, behind)
    weight = b.param("last.w", (CHANNELS, CHANNELS, 1, 1))
    return b.program(b.conv2d(x, weight, "last", behind, padding=0))


def network(name: str, work: Path) -> tuple[Program, np.ndarray[Any, Any]]:
    """A network, and two pictures for it."""
    if name in OCR:
        pictures = np.random.default_rng(0).standard_normal((2, 3, *OCR[name][1]))
        return load(ocr_model(name)), pictures.astype(np.float32)
    if not (work / name).exists():
        zoo.export(name, work / name, export="pir")
    spec = zoo.PUBLISHED.get(name) or zoo.NETWORKS[name]
    return load(work / name), zoo._images(spec, 2, seed=300)


def count(program: Program, pictures: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Instructions of a program by board and form; how many depthwise layers there are, and their
    share of the multiply-adds."""
    repair(program)
    (spec,) = program.inputs
    samples = [Sample(str(i), {spec.name: pictures[i : i + 1]}) for i in range(len(pictures))]
    # What the ranges are has no say in the cost, but which activations can be centred has.
    full = calibrate(program, samples, Calibration(algorithm="abs_max"))
    quantized, _ = centred(Quantized.of(full, program))
    ops = quantized.program.producers()
    names = [layer.layer for layer in quantized.layers]
    floats = [name for name in names if cheaper_in_float(quantized.program, ops[name])]
    with Variants(quantized, samples[:1]) as variants:
        adds = variants.multiply_adds()
    forms = {
        "fp32": (program, "fp32"),
        "int8": (lowered(quantized.program), "int8"),
        "float": (lowered(quantized.with_float(floats)), "int8"),
    }
    share = sum(adds[name] for name in floats) / sum(adds.values())
    counted: dict[str, Any] = {"layers": len(floats), "share": share}
    for form, (made, kind) in forms.items():
        with temporary_folder() as folder:
            model = part(made, "arm", RECIPES[kind], folder)
            for board, device in FAMILIES.items():
                found = BOARDS[device].count_instructions(model, samples[0])
                counted[f"{board} {form}"] = found
    return counted


def cells(found: dict[str, Any], forms: tuple[str, ...]) -> list[str]:
    """Of each board the counts, in millions, and the last by the one before."""
    row = []
    for board in FAMILIES:
        numbers = [found[f"{board} {form}"] for form in forms]
        row += [f"{number / 1e6:.2f}" for number in numbers]
        row.append(f"{100 * (numbers[-1] / numbers[-2] - 1):+.1f} %")
    return row


def tables(results: dict[str, Any]) -> list[str]:
    """Both, of what was counted."""
    forms = ("int8", "float")
    head = [f"{board}, {what}" for board in FAMILIES for what in (*forms, "difference")]
    lines = [_row(["depthwise", *head]), _row(["---", *["---:"] * len(head)])]
    for window, strides, pads, sides in BLOCKS:
        found = results.get(repr((window, strides, pads, sides)))
        if found:
            stride = strides[0] if strides[0] == strides[1] else f"{strides[0]}x{strides[1]}"
            uneven = f", padded by {list(pads)}" if len(pads) == 4 else ""
            title = f"{window}x{window}, stride {stride}{uneven}, on {sides[0]}x{sides[1]}"
            lines.append(_row([title, *cells(found, forms)]))
    forms = ("fp32", *forms)
    head = [f"{board}, {what}" for board in FAMILIES for what in (*forms, "difference")]
    head = ["network", "depthwise layers", "their multiply-adds", *head]
    lines += ["", _row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for name in NETWORKS:
        found = results.get(name)
        if found:
            title = OCR[name][0] if name in OCR else name
            share = f"{100 * found['share']:.1f} %"
            lines.append(_row([title, str(found["layers"]), share, *cells(found, forms)]))
    return lines


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def main() -> None:
    """Count what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep networks and results here")
    parser.add_argument("--page", action="store_true", help="count nothing")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    store = options.work / "depthwise.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for key in () if options.page else (*BLOCKS, *NETWORKS):
        name = key if isinstance(key, str) else repr(key)
        if name in results:
            continue
        if isinstance(key, str):
            results[name] = count(*network(key, options.work))
        else:
            pictures = np.random.default_rng(0).standard_normal((1, CHANNELS, *key[3]))
            results[name] = count(block(*key), pictures.astype(np.float32))
        print(name, results[name], file=sys.stderr, flush=True)
        store.write_text(json.dumps(results, indent=1), encoding="utf-8")
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    assert mark, f"{PAGE.name}: where is {MARKS[0]}?"
    after = rest.partition(MARKS[1])[2]
    text = "\n".join([MARKS[0], "", *tables(results), "", MARKS[1]])
    PAGE.write_text(before + text + after, encoding="utf-8")
    dearer = [
        f"{name} on {board}"
        for name in NETWORKS
        for board in FAMILIES
        if name in results and results[name][f"{board} float"] > results[name][f"{board} int8"]
    ]
    sys.exit(f"dearer in float: {', '.join(dearer)}" if dearer else 0)


if __name__ == "__main__":
    main()
