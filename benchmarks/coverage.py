"""Writes docs/coverage.md: which networks convert and agree, from which export.

    python benchmarks/coverage.py --work FOLDER [--exports pir,legacy,paddle26] [--only A,B]
    python benchmarks/coverage.py --work FOLDER --device qemu-aarch64:pi4
    python benchmarks/coverage.py --work FOLDER --onnx

Every network of the zoo is exported by Paddle 3.3.1 as PIR (`pir`), by the same as ProgramDesc
(`legacy`) and by Paddle 2.6.2 (`paddle26`, from an environment of its own that is made on first
use), with the same weights; then converted for arm and x86 with the self-check against the
server. Each export and each conversion is a process of its own with a time limit.

Exports, bundles and results stay in FOLDER: started again, only what is missing is done.
`--redo` converts again what did not agree; `--redo all` everything; `--redo passes`, with a device,
of which the passes of now make another file than was judged; not what was done without passes.

With `--device`, an emulated board that docs/cross-compiling.md sets up, docs/coverage-arm.md is
written instead: what an ARM engine says of each network (from PIR), and how many instructions an
inference executes with the passes of the graph optimizer and without them. Emulation is slow: a
verdict is one inference, the two counts are six, or three where both files are one. `--no-counts`
leaves these to a later run, which does no more than count.

With `--onnx` docs/coverage-onnx.md is written: what ONNX Runtime says of the `model.onnx` that is
made of each network (from PIR), and of which form of the model it was made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import zoo
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from lite_opt.passes.repair import OPTIONAL

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
ARM_PAGE = PAGE.with_name("coverage-arm.md")
ONNX_PAGE = PAGE.with_name("coverage-onnx.md")
EXPORTS = {
    "pir": "Paddle 3.3.1, PIR `inference.json`",
    "legacy": "Paddle 3.3.1, legacy `.pdmodel`",
    "paddle26": "Paddle 2.6.2, legacy `.pdmodel`",
}
TIME_LIMIT_S = 900.0
COUNTS = ("instructions_plain", "instructions_passes")
# An emulated board executes about 50 million instructions a second, and a large network has 5,000
# million.
ARM_LIMIT_S = 4 * TIME_LIMIT_S


def export(name: str, kind: str, work: Path) -> str:
    """Export one network unless that was done; the reason in words where it cannot be."""
    folder = work / kind / name
    if (folder / "inference.pdiparams").exists():
        return ""
    python = sys.executable
    if kind == "paddle26":
        python = str(work / "python26" / "bin" / "python")
        if not Path(python).exists():
            zoo.make_environment(work / "python26")
    try:
        zoo.export(
            name,
            folder,
            export="pir" if kind == "pir" else "legacy",
            weights=work / "weights" / f"{name}.npz",
            python=python,
            timeout_s=TIME_LIMIT_S,
        )
    except zoo.ZooError as error:
        return str(error)
    return ""


def convert(name: str, kind: str, work: Path) -> dict[str, Any]:
    """Convert one export by the command, and say how it came out."""
    bundle = work / "bundles" / kind / name
    bundle.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "lite_opt.cli.main", "convert", str(work / kind / name),
        "-o", str(bundle), "--force", "--json",
    ]  # fmt: skip
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": "hang", "reason": f"no answer within {TIME_LIMIT_S:g} s"}
    seconds = round(time.perf_counter() - start, 1)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return {"status": "crash", "reason": done.stderr[-300:], "seconds": seconds}
    if done.returncode == 3:
        # The folder is this machine's; what is wrong is not.
        reason = answer["error"].replace(f"{work / kind}/", "")
        return {"status": "refused", "reason": reason, "seconds": seconds}
    check = answer["check"] or {}
    if check.get("status") == "unjudged":
        return {"status": "unjudged", "reason": check["reason"], "seconds": seconds}
    report = answer["report"]
    output = report["outputs"][0]
    result = {
        "status": "agrees" if done.returncode == 0 else "wrong numbers",
        "reason": "; ".join(report["failures"] + report["warnings"]),
        "cosine": output["cosine"],
        "max_probability_diff": output["max_probability_diff"],
        "seconds": seconds,
    }
    if answer["bundle"]:
        inspected = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        result["check"] = inspected["check"]
        result["ops_after"] = inspected["targets"]["arm"]["ops"]
        result["ops_before"] = operators(work / kind / name)
        # Bundles of all networks would fill a disk.
        shutil.rmtree(bundle)
    return result


def on_arm(
    name: str, work: Path, device: str, *, counts: bool, known: dict[str, Any]
) -> dict[str, Any]:
    """Convert one PIR export with the verdict of an ARM engine; count operators, and `counts`
    instructions, with the passes of the optimizer and without. What is `known` stays."""
    source, result = work / "pir" / name, {**known}
    bundles = {key: work / "bundles" / f"arm-{name}-{key}" for key in ("plain", "passes")}
    result["ops_before"] = operators(source)
    for key, bundle in bundles.items():
        if f"{'instructions' if counts else 'ops'}_{key}" in result:
            continue
        bundle.parent.mkdir(parents=True, exist_ok=True)
        options = ["--no-passes", "all"] if key == "plain" else []
        options += ["--no-check"] if key == "plain" or "ops_passes" in known else []
        done = command(
            "convert", str(source), "-o", str(bundle), "--force", "--json", "--target", "arm,x86",
            "--check-samples", "1", *options,
        )  # fmt: skip
        if isinstance(done, str):
            result |= {} if key == "plain" else {"status": "refused", "reason": done}
            continue
        made = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        result[f"ops_{key}"] = made["targets"]["arm"]["ops"]
        result[f"file_{key}"] = digest(bundle)
        if "--no-check" not in options:
            check = made["check"]
            on_board = any("qemu" in judge["engine"] for judge in check.get("judges", []))
            result["status"] = check["status"] if on_board else "not judged on ARM"
            result["reason"] = check.get("reason", "")
            result["cosine"] = check["outputs"][0]["cosine"] if "outputs" in check else None
            result["passes"] = [*OPTIONAL]
    for key in [key for key, bundle in bundles.items() if counts and bundle.exists()]:
        same = result[f"file_{key}"] == result.get("file_plain")
        if key == "passes" and same and "instructions_plain" in result:
            result["instructions_passes"] = result["instructions_plain"]
            continue
        counted = command(
            "bench", str(bundles[key]), "--engine", "native", "--device", device, "--json"
        )
        if not isinstance(counted, str):
            result[f"instructions_{key}"] = counted["arm_instructions"]
    for bundle in bundles.values():
        shutil.rmtree(bundle, ignore_errors=True)
    return result


def digest(bundle: Path) -> str:
    """SHA-256 of the file for arm, but for the 16 bytes of its version, behind the two of the
    format: the optimizer leaves there what was in its memory."""
    data = (bundle / "model.arm.nb").read_bytes()
    return hashlib.sha256(data[:2] + data[18:]).hexdigest()


def is_known(name: str, work: Path, known: dict[str, Any]) -> bool:
    """Whether the passes of now make the file that was judged."""
    bundle = work / "bundles" / f"arm-{name}-again"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    argv = ("--target", "arm", "--no-check", "--force", "--json")
    done = command("convert", str(work / "pir" / name), "-o", str(bundle), *argv)
    same = not isinstance(done, str) and digest(bundle) == known.get("file_passes")
    shutil.rmtree(bundle, ignore_errors=True)
    return same


def on_onnx(name: str, work: Path) -> dict[str, Any]:
    """Convert one PIR export for ONNX Runtime alone, which judges it."""
    source, bundle = work / "pir" / name, work / "bundles" / f"onnx-{name}"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    argv = ("--target", "onnx", "--check-samples", "2", "--force", "--json")
    done = command("convert", str(source), "-o", str(bundle), *argv)
    if isinstance(done, str):
        kind = "wrong" if " is below " in done or " is above " in done else "refused"
        return {"status": kind, "reason": done.replace(f"{source.parent}/", "")}
    made, check = done["targets"]["onnx"], done["check"]
    shutil.rmtree(bundle)
    return {
        "status": check["status"],
        "reason": check.get("reason", ""),
        "engine": check.get("engine", ""),
        "made_by": made["opt_version"],
        "made_from": made["onnx"]["made_from"],
        "opset": made["onnx"]["opset"],
        "ops_before": operators(source),
        "ops": made["ops"],
        "outputs": check.get("outputs", []),
    }


def onnx_page(results: dict[str, dict[str, Any]]) -> str:
    """The document on ONNX Runtime."""
    right = {name: r for name, r in results.items() if r["status"] == "passed"}
    opsets = sorted({r["opset"] for r in right.values()})
    lines = [
        "# Coverage of ONNX Runtime",
        "",
        "Written by `python benchmarks/coverage.py --onnx`: the networks of coverage.md, exported",
        "by Paddle 3.3.1 as PIR, converted with `--target onnx` and judged on 2 random images",
        "against the source model on the server, by the limits of recipe fp32. Operators: in the",
        "export -> in `model.onnx`, without its constants.",
        "",
        f"{len(right)} of the {len(results)} that were measured are right (the zoo has",
        f"{len(zoo.NETWORKS)}): made by {_names(right, 'made_by')}, judged by",
        f"{_names(right, 'engine')}, operator set {', '.join(map(str, opsets))}.",
        "",
        "| network | ONNX Runtime | cosine | off by at most | made from | operators |",
        "|---|---|---:|---:|---|---:|",
    ]
    for name, r in results.items():
        if r["status"] != "passed":
            said = f"{r['status']}: {r['reason']}".replace("|", "/")
            lines.append(f"| {name} | {said} | - | - | - | - |")
            continue
        cosine = min(output["cosine"] for output in r["outputs"])
        apart = max(output["max_probability_diff"] for output in r["outputs"])
        lines.append(
            f"| {name} | right | {cosine:.7f} | {apart:.1e} | {r['made_from']} | "
            f"{r['ops_before']} -> {r['ops']} |"
        )
    return "\n".join(lines) + "\n"


def _names(results: dict[str, dict[str, Any]], key: str) -> str:
    return ", ".join(dict.fromkeys(r[key] for r in results.values()))


def command(*arguments: str) -> dict[str, Any] | str:
    """What a command of ours answers to --json; its words where it fails."""
    argv = [sys.executable, "-m", "lite_opt.cli.main", *arguments]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=ARM_LIMIT_S, check=False
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"no answer within {ARM_LIMIT_S:g} s"
    except ValueError:
        return done.stderr.strip().splitlines()[-1][-300:]
    if done.returncode:
        words = answer.get("error") or answer.get("refused")
        failures = (answer.get("report") or {}).get("failures", [])
        return str(words or "; ".join(failures))
    return dict(answer)


def known_of(name: str, work: Path, result: dict[str, Any], redo: str | None) -> dict[str, Any]:
    """What of an earlier result on ARM is not to be done again: all of it where the passes of
    now make the file that was judged then."""
    if redo == "passes" and is_known(name, work, result):
        return {**result, "passes": [*OPTIONAL]}
    if redo is None and result.get("status") == "passed":
        return result
    return {k: v for k, v in result.items() if redo == "passes" and k.endswith("_plain")}


def arm_page(results: dict[str, dict[str, Any]], device: str) -> str:
    """The document on ARM."""
    both = [r for r in results.values() if "instructions_plain" in r and "instructions_passes" in r]
    converted = [r for r in results.values() if "ops_plain" in r and "ops_passes" in r]
    right = sum(r["status"] == "passed" for r in results.values())
    lines = [
        "# Coverage on ARM",
        "",
        f"Written by `python benchmarks/coverage.py --device {device}`: the networks of",
        "coverage.md, exported by Paddle 3.3.1 as PIR, converted with recipe fp32 and judged on",
        "one random image by a real ARM engine (Paddle Lite at commit 044ba5b) under QEMU.",
        "Operators of the arm `.nb` and executed instructions an inference, in millions: without",
        "the passes of the graph optimizer -> with them.",
        "",
        f"{right} of {len(results)} are right on ARM.",
    ]
    earlier = sum(_earlier(r) for r in results.values())
    if earlier:
        lines += [
            f"{earlier} of them, marked *, were judged and counted when there were fewer passes: "
            "these rows",
            "say nothing of the passes that came since.",
        ]
    if both:
        equal = sum(_is_one_file(r) and r not in both for r in results.values())
        instructions = [r["instructions_passes"] / r["instructions_plain"] for r in both]
        lines += [
            f"Over the {len(both)} networks that were counted, and {equal} more whose file is the "
            "same with passes",
            "and without, the geometric mean of instructions is "
            f"{mean([*instructions, *[1.0] * equal]):.3f} of what it is without; of the",
            f"network that gained least, it is {max(instructions):.3f}.",
            "",
            *_of_operators(converted),
        ]
    head = ("network", "on ARM", "operators", "M instructions", "ratio")
    lines += ["", f"| {' | '.join(head)} |", "|---|---|---:|---:|---:|"]
    for name, r in results.items():
        said = "right" if r["status"] == "passed" else f"{r['status']}: {r['reason']}"
        said += " *" if _earlier(r) else ""
        counts = [r.get(f"instructions_{key}") for key in ("plain", "passes")]
        shown = [f"{c / 1e6:.1f}" if c else "-" for c in counts]
        ratio = f"{counts[1] / counts[0]:.2f}" if all(counts) else "1" if _is_one_file(r) else "-"
        lines.append(
            f"| {name} | {said.replace('|', '/')} | {r.get('ops_plain', '-')} -> "
            f"{r.get('ops_passes', '-')} | {shown[0]} -> {shown[1]} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def _is_one_file(result: dict[str, Any]) -> bool:
    """Whether the passes change nothing in what the optimizer makes."""
    plain = result.get("file_plain")
    return plain is not None and bool(plain == result.get("file_passes"))


def _of_operators(results: list[dict[str, Any]]) -> list[str]:
    """How many operators are left, and where there were none to take out."""
    fewer = [r["ops_passes"] / r["ops_plain"] for r in results if r["ops_passes"] < r["ops_plain"]]
    more = [r for r in results if r["ops_passes"] > r["ops_plain"]]
    of_export = mean([r["ops_passes"] / r["ops_before"] for r in results])
    of_plain = mean([r["ops_passes"] / r["ops_plain"] for r in results])
    return [
        f"Of operators the geometric mean over all {len(results)} is {of_plain:.3f} of what the "
        "optimizer leaves without",
        f"passes, and {of_export:.3f} of what the exports have. In {len(fewer)} networks, where it "
        f"is {mean(fewer):.3f}, there was",
        f"something to take out; in {len(results) - len(fewer) - len(more)} the optimizer's own "
        "fusions left as many as with passes; in",
        f"{len(more)} several that are cheap took the place of one.",
    ]


def _earlier(result: dict[str, Any]) -> bool:
    """Whether other passes were there when it was judged."""
    return "ops_passes" in result and result.get("passes") != [*OPTIONAL]


def mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def operators(folder: Path) -> int:
    """How many operators an export has."""
    from lite_opt.views.describe import describe

    return int(describe(folder)["op_count"])


def page(results: dict[str, dict[str, Any]], kinds: list[str]) -> str:
    """The document."""
    names = list(dict.fromkeys(key.split("/", 1)[1] for key in results))
    lines = [
        "# Coverage",
        "",
        "Written by `python benchmarks/coverage.py`: one small member of each family of PaddleClas",
        "and some networks of paddle.vision, with seeded random weights and settled statistics:",
        "converted for arm and x86 with recipe fp32, judged on 4 random images by the x86 engine",
        "against the source model on the server. *agrees*: cosine on centred logits >= 0.99999 and",
        "no probability off by more than 1e-4. Operators: in the export -> in the arm `.nb`.",
        "",
        "| export | tried | agree | refused or wrong | not exported |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in kinds:
        mine = [r for key, r in results.items() if key.startswith(f"{kind}/")]
        absent = sum(r["status"] == "not exported" for r in mine)
        agree = sum(r["status"] == "agrees" for r in mine)
        tried = len(mine) - absent
        lines.append(f"| {EXPORTS[kind]} | {tried} | {agree} | {tried - agree} | {absent} |")
    lines += ["", f"| network | {' | '.join(EXPORTS[k] for k in kinds)} |"]
    lines += ["|---" * (len(kinds) + 1) + "|"]
    for name in names:
        cells = [cell(results.get(f"{kind}/{name}")) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(result: dict[str, Any] | None) -> str:
    """One network from one export."""
    if result is None:
        return "-"
    if result["status"] == "agrees":
        return f"agrees, {result['cosine']:.7f}, {result['ops_before']} -> {result['ops_after']}"
    return f"{result['status']}: {result['reason']}".replace("|", "\\|")


def main() -> None:
    """Export, convert, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep everything here")
    parser.add_argument("--exports", default=",".join(EXPORTS), help="which, comma separated")
    parser.add_argument("--only", help="names, comma separated; the page is not written")
    parser.add_argument("--redo", nargs="?", const="failed", choices=["failed", "passes", "all"])
    parser.add_argument("--device", help="an emulated board: write docs/coverage-arm.md instead")
    parser.add_argument("--onnx", action="store_true", help="write docs/coverage-onnx.md instead")
    parser.add_argument("--no-counts", action="store_true", help="no instructions, with --device")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    (work / "weights").mkdir(parents=True, exist_ok=True)
    kinds = ["pir"] if options.device or options.onnx else options.exports.split(",")
    names = options.only.split(",") if options.only else list(zoo.NETWORKS)
    stores = {"coverage-arm.json": options.device, "coverage-onnx.json": options.onnx}
    store = work / next((name for name, asked in stores.items() if asked), "coverage.json")
    results: dict[str, dict[str, Any]] = (
        json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    )
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=len(names) * len(kinds))
        for name in names:
            for kind in kinds:
                key = f"{kind}/{name}"
                bar.update(task, description=key)
                old = results.get(key)
                counts = bool(options.device) and not options.no_counts
                again = options.redo in ("all", "passes") or (
                    options.redo and old and old["status"] not in ("agrees", "passed")
                )
                again = again or (old and counts and not {*COUNTS} <= {*old})
                if old is None or again:
                    reason = export(name, kind, work)
                    known = known_of(name, work, old or {}, options.redo)
                    results[key] = (
                        {"status": "not exported", "reason": reason}
                        if reason
                        else on_arm(name, work, options.device, counts=counts, known=known)
                        if options.device
                        else on_onnx(name, work)
                        if options.onnx
                        else convert(name, kind, work)
                    )
                    store.write_text(json.dumps(results, indent=1), encoding="utf-8")
                    result = results[key]
                    console.print(f"{key}: {result['status']} {result.get('reason', '')}"[:300])
                bar.advance(task)
    if options.device:
        of_all = {key.split("/", 1)[1]: result for key, result in results.items()}
        ARM_PAGE.write_text(arm_page(of_all, options.device), encoding="utf-8")
        print(f"wrote {ARM_PAGE.name}")
        return
    if options.onnx:
        of_all = {key.split("/", 1)[1]: result for key, result in results.items()}
        in_order = {name: of_all[name] for name in zoo.NETWORKS if name in of_all}
        ONNX_PAGE.write_text(onnx_page(in_order), encoding="utf-8")
        print(f"wrote {ONNX_PAGE.name}")
        return
    shown = {key: results[key] for key in results if key.split("/", 1)[0] in kinds}
    if options.only:
        print(page({k: v for k, v in shown.items() if k.split("/", 1)[1] in names}, kinds))
    else:
        PAGE.write_text(page(shown, kinds), encoding="utf-8")
        print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
