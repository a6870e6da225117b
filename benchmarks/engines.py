"""Writes the table of docs/onnx.md: which engine costs less on ARM, Paddle Lite or ONNX Runtime.

    python benchmarks/engines.py --work FOLDER [--only SqueezeNet1_1,LeViT_128S]

Executed ARM instructions of one inference in fp32, counted on an emulated Raspberry Pi 4: needs
what docs/cross-compiling.md and armlinux/toolchains/make_python.sh set up. Exports (FOLDER/NAME is
taken where it is there) and results stay in FOLDER: only what is missing is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import zoo

from lite_opt.bench import bench
from lite_opt.conversion.convert import convert
from lite_opt.model.cost import convolution_share
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from py_runner.errors import PaddleEdgeError

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"
MARKS = "<!-- measured by benchmarks/engines.py: -->", "<!-- until here -->"
DEVICE = "qemu-aarch64:pi4"
NETWORKS = (
    "SqueezeNet1_1",
    "MobileNetV1_x0_25",
    "MobileNetV3_small_x0_35",
    "PPLCNet_x0_25",
    "ShuffleNetV2_x0_25",
    "GhostNet_x0_5",
    "MixNet_S",
    "ResNet18",
    "LeViT_128S",
    "MobileViT_XXS",
    "PVT_V2_B0",
    "DeiT_tiny_patch16_224",
)


def measure(name: str, work: Path) -> dict[str, Any]:
    """Both counts of a network, and what part of its operations is of convolutions."""
    folder, bundle = work / name, work / f"{name}.both.bundle"
    if not (folder / "inference.pdiparams").exists():
        zoo.export(name, folder, export="pir")
    program = load(folder)
    repair(program)  # before it, some shapes are only known when the model runs
    found: dict[str, Any] = {"share": convolution_share(program)}
    # What each says of the model is judged by coverage.py.
    convert(folder, bundle, target=["arm", "onnx"], check=False, force=True)
    for engine in ("native", "onnx"):
        try:
            counted = bench(bundle, engine=engine, device=DEVICE, check_shape=_one(folder))
        except PaddleEdgeError as error:
            found[engine] = str(error).replace(str(work), "")
        else:
            found[engine] = counted.arm_instructions
    return found


def _one(folder: Path) -> dict[str, list[tuple[int, ...]]]:
    """Shapes for one image: a bundle that was not checked has no samples."""
    return {
        spec.name: [tuple(1 if side < 0 else side for side in spec.shape)]
        for spec in load(folder).inputs
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The networks by the part of convolutions, and in a sentence what they tell."""
    lines = [
        "",
        "| network | operations in convolutions | Paddle Lite | ONNX Runtime | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    both = {n: r for n, r in results.items() if all(type(r[e]) is int for e in ("native", "onnx"))}
    for name, r in sorted(both.items(), key=lambda item: -item[1]["share"]):
        ratio = r["onnx"] / r["native"]
        lines.append(
            f"| {name} | {100 * r['share']:.0f} % | {r['native'] / 1e6:.1f} M | "
            f"{r['onnx'] / 1e6:.1f} M | {ratio:.2f} |"
        )
    lines.append("")
    for engine, more in (("Paddle Lite", True), ("ONNX Runtime", False)):
        cheaper = [
            r["onnx"] / r["native"] for r in both.values() if (r["onnx"] > r["native"]) == more
        ]
        if not cheaper:
            continue
        mean = math.exp(sum(map(math.log, cheaper)) / len(cheaper))
        shares = [r["share"] for r in both.values() if (r["onnx"] > r["native"]) == more]
        lines.append(
            f"{engine} costs less in {len(cheaper)} of {len(both)}, whose operations are "
            f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % convolutions: by the factor "
            f"{max(mean, 1 / mean):.2f} (geometric mean)."
        )
    lines += [f"{n}: {r[e]}" for n, r in results.items() for e in r if isinstance(r[e], str)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the table between its marks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep everything here")
    parser.add_argument("--only", help="names, comma separated")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    store = work / "engines.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for name in options.only.split(",") if options.only else NETWORKS:
        if name not in results:
            results[name] = measure(name, work)
            print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
            store.write_text(json.dumps(results, indent=1), encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = f"{before}{MARKS[0]}\n{table(results)}\n{MARKS[1]}{after}"
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
