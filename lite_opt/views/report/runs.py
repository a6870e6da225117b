"""All runs of a report in a table, and what each was made with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lite_opt.judge.compare import Report
from lite_opt.judge.evidence import emulated
from lite_opt.views.report.judged import NOTHING, Judged, agreement
from lite_opt.views.report.sources import Known
from lite_opt.views.table import percent, size

__all__ = ["environment", "overview"]


def overview(
    names: Sequence[str], abouts: Sequence[Mapping[str, Any]], judged: Sequence[Judged]
) -> dict[str, Any]:
    """A table of all runs, the reference first. An emulator's latencies are none."""
    boards = list(dict.fromkeys(board for one in judged for board in one.known.instructions))
    sized = any(one.known.bytes for one in judged)
    header = ["run", "verdict", "agreement", "accuracy", "p50 ms", "p90 ms", "memory"]
    header += ["file"] * sized + [f"M instructions, {board}" for board in boards]
    rows = []
    for number, (name, about) in enumerate(zip(names, abouts)):
        one = judged[number - 1] if number else None
        rate = agreement(one.report) if one else None
        latency = {} if emulated(about) else about["latency"]
        row = [
            name,
            one.seen.status if one else "reference",
            "-" if rate is None else f"{percent(rate.value)} ({percent(rate.low)} or more)",
            percent(_accuracy(one.report if one else judged[0].report, one is not None)),
            *("-" if latency.get(k) is None else f"{latency[k]:.2f}" for k in ("p50_ms", "p90_ms")),
            size(about["peak_memory_bytes"]),
        ]
        known = one.known if one else NOTHING
        row += ["-" if known.bytes is None else size(known.bytes)] * sized
        row += [
            f"{known.instructions[board] / 1e6:.2f}" if board in known.instructions else "-"
            for board in boards
        ]
        rows.append(row)
    return {"header": header, "rows": rows}


def _accuracy(report: Report, candidate: bool) -> float | None:
    side = "candidate" if candidate else "reference"
    if report.accuracy is not None:
        return report.accuracy[f"{side}_top1"]
    rates = (rate.value for rate in report.rates if rate.name.endswith(f", {side}"))
    return next(rates, None)


def environment(
    names: Sequence[str],
    abouts: Sequence[Mapping[str, Any]],
    folders: Sequence[str],
    knowns: Sequence[Known],
) -> list[dict[str, Any]]:
    """What each run was made with, and the command that makes it again."""
    result = []
    for name, about, folder, known in zip(names, abouts, folders, knowns):
        cpu = about["cpu"] or {}
        rows = {
            "folder": folder or "-",
            "engine": f"{about['engine']} {about['engine_version']}",
            "device": f"{about['device']}, {about['machine']}",
            "CPU": ", ".join(map(str, cpu.get("parts", ()))) or "-",
            "features used": ", ".join(cpu.get("engine_features", ())) or "-",
            "threads": str(about["threads"]),
            "precision": str(about["precision"]),
            "model": f"{about['model']['name']}, sha256 {about['model']['sha256']}",
            "warm-up, measured": f"{about['warmup']}, {about['latency']['count']}",
            "made": str(about["created"]),
        }
        model = "MODEL" if about["engine"] == "paddle" else "BUNDLE"
        if known.bundle is not None:
            model = str(known.bundle.path)
        words = [
            "paddle-edge run",
            shlex.quote(model),
            "--data DATA",
            f"--engine {about['engine']}",
        ]
        words += [f"--device {about['device']}", f"--threads {about['threads']}"]
        words += ["-o", shlex.quote(folder or "RUN")]
        result.append({"name": name, "rows": rows, "command": " ".join(words)})
    return result
