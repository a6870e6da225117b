"""Writes a table of docs/quantising.md: that no recipe is a dead end.

    python benchmarks/ways.py --work FOLDER [--only SqueezeNet1_1,AlexNet]

Each network is converted with every recipe, by the command and with its default limits. Where that
ends with exit code 1, each command line that it offers is run as it stands. Weights are random and
settled (zoo.py), which rounding costs more than trained ones; the images are made likewise.

Exports and results stay in FOLDER: started again, only what is missing is done. The table has the
networks that were tried, now or before. Exits 1 where a recipe neither passes nor offers what does,
and where a command line that is offered fails.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from lite_opt.recipes import RECIPES

PAGE = Path(__file__).parents[1] / "docs" / "quantising.md"
MARKS = "<!-- measured by benchmarks/ways.py: -->", "<!-- until here -->"
NETWORKS = ("SqueezeNet1_1", "MobileNetV1_x0_5", "AlexNet", "DarkNet53", "SENet154_vd")
EDGE = (sys.executable, "-m", "lite_opt.cli.main")
CALIBRATION, JUDGED = 16, 16


def tried(name: str, recipe: str, work: Path) -> dict[str, Any]:
    """What the command says, and what comes of the command lines that it offers."""
    model, data = work / name, work / f"{name}.npy"
    if not model.exists():
        zoo.export(name, model)
    if not data.exists():
        spec = zoo.PUBLISHED.get(name) or zoo.NETWORKS[name]
        np.save(data, zoo._images(spec, CALIBRATION + JUDGED, seed=300))
    words = ["convert", str(model), "-o", str(work / "out.bundle"), "--recipe", recipe]
    words += ["--calibration" if recipe == "int8" else "--samples", str(data)]
    if recipe == "int8":
        words += ["--calibration-samples", str(CALIBRATION)]
    code, said = _command(words)
    found: dict[str, Any] = {"code": code, "report": said["report"], "offered": []}
    for way in (said["ways_out"] or {"commands": ()})["commands"]:
        again, _ = _command(shlex.split(way["command"])[1:])
        options = _without_paths(way["command"], work)
        found["offered"].append({"code": again, "options": options, "result": way["result"]})
    return found


def _command(words: list[str]) -> tuple[int, dict[str, Any]]:
    words = [*(word for word in words if word not in ("--json", "--force")), "--json", "--force"]
    done = subprocess.run([*EDGE, *words], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{shlex.join(words)}: exit {done.returncode}: {done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def _without_paths(command: str, work: Path) -> str:
    """The options of a command line but for the data and what is made."""
    kept, words = [], iter(shlex.split(command)[3:])
    for word in words:
        if word in ("-o", "--samples", "--calibration", "--calibration-samples"):
            next(words)
        elif not word.startswith(str(work)) and word not in ("--json", "--force"):
            kept.append(word)
    return shlex.join(kept)


def row(name: str, recipe: str, found: dict[str, Any], failures: list[str]) -> str:
    """One line of the table."""
    report = found["report"]
    cosine = min(output["cosine"] for output in report["outputs"])
    passing = [way for way in found["offered"] if way["code"] == 0]
    if len(passing) < len(found["offered"]):
        failures.append(f"{name}, {recipe}: a command that is offered fails")
    if found["code"] and not passing:
        failures.append(f"{name}, {recipe}: a dead end")
    offered = "<br>".join(f"{_short(way['options'])}: {way['result']}" for way in passing)
    agreement = report["top1_agreement"]
    cells = [
        *(name, recipe, f"{cosine:.5f}", "-" if agreement is None else f"{agreement:.1%}"),
        *("passes" if not found["code"] else "misses its limits", offered or "-"),
    ]
    return f"| {' | '.join(cells)} |"


def _short(options: str) -> str:
    """The options, of all layers the first and how many more there are."""
    layers = re.findall(r" --float-layer \S+", options)
    if len(layers) < 2:
        return f"`{options}`"
    return f"`{options.replace(''.join(layers[1:]), '')}` and {len(layers) - 1} more"


def main() -> None:
    """Try, and write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep exports and results here")
    parser.add_argument("--only", help="names, comma separated; others are not tried")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else NETWORKS
    options.work.mkdir(parents=True, exist_ok=True)
    store = options.work / "ways.json"
    known = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for name in names:
        for recipe in RECIPES:
            key = f"{name} {recipe}"
            if key not in known:
                known[key] = tried(name, recipe, options.work)
                store.write_text(json.dumps(known, indent=1), encoding="utf-8")
                print(key, known[key]["code"], file=sys.stderr, flush=True)
    head = "| | recipe | cosine | top-1 agreement | with default limits | offered, and passes |"
    lines, failures = [head, "| --- | --- | ---: | ---: | --- | --- |"], []
    for key, found in known.items():
        lines.append(row(*key.split(" "), found, failures))
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    assert mark, f"{PAGE.name}: where is {MARKS[0]}?"
    after = rest.partition(MARKS[1])[2]
    table = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
    PAGE.write_text(before + table + after, encoding="utf-8")
    sys.exit("\n".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
