"""What a verdict rests on: whether what ships was seen to run, where, and on enough samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lite_opt.judge.compare import Report

__all__ = ["Evidence", "emulated", "evidence", "is_arm"]

_DIAGNOSIS = "diagnosis:"


@dataclass(frozen=True)
class Evidence:
    """`status` is "failed", "passed", or "unsure": no limit is broken, and not enough was seen.

    `unseen` are sentences, each of something that the verdict does not rest on.
    """

    status: str
    unseen: tuple[str, ...]


def evidence(report: Report) -> Evidence:
    """What speaks for a report's candidate. Without an ARM engine no verdict is more than unsure:
    the kit is for what runs on ARM."""
    run = report.candidate
    doubts = [*_unrun(run), *report.unjudged, *_too_few(report)]
    doubts += [text for text in report.warnings if not text.startswith(_DIAGNOSIS)]
    status = "failed" if report.failures else "unsure" if doubts else "passed"
    speed = (
        ["Latencies are the emulator's: how fast the board is was not seen."]
        if emulated(run)
        else []
    )
    return Evidence(status, tuple(dict.fromkeys([*doubts, *speed])))


def is_arm(run: Mapping[str, Any]) -> bool:
    """Whether all of a run (`Run.summary()`) was answered by a CPU of ARM's, real or emulated."""
    machines = str(run["machine"]).split(", ")
    return all(re.search(r"\b(aarch64|arm\w*)\b", machine) for machine in machines)


def emulated(run: Mapping[str, Any]) -> bool:
    """Whether a run (`Run.summary()`) was answered under QEMU."""
    return "qemu" in str(run["device"])


def _unrun(run: Mapping[str, Any]) -> list[str]:
    if run["engine"] == "paddle":
        return [
            "No edge engine ran: the server's engine answered here. The file for the device was "
            "not seen."
        ]
    if is_arm(run):
        return []
    file = "The ONNX file ran, but" if run["engine"] == "onnx" else "The ARM file did not run:"
    return [
        f"{file} an x86 CPU answered, by other kernels than the device's. Run it on the board, or "
        "emulated: paddle-edge run BUNDLE --engine native --device qemu-aarch64:pi5."
    ]


def _too_few(report: Report) -> list[str]:
    """Where the samples leave a limit open. A task says so among the report's warnings."""
    told = report.scores.rates if report.scores is not None else ()
    few = ["One sample does not show that the answer moves with the input."]
    open_ = [
        f"{rate.name}: {rate.samples} samples do not decide about the limit {rate.limit:g} "
        f"(95 % interval {rate.low:.4g} to {rate.high:.4g})"
        + (f": {rate.more} more would." if rate.more else ".")
        for rate in report.rates
        if rate not in told and not rate.decided
    ]
    return few * (report.samples == 1) + open_
