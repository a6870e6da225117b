"""A comparison as a row: what was judged, when, by what, and what it came to."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from lite_opt.judge.compare import Report
from lite_opt.judge.evidence import emulated
from py_runner.errors import EngineError
from py_runner.files.process import Child
from py_runner.formats.run import Run

__all__ = ["Entry", "revision_of"]

_GIT_S = 10.0
_LATENCIES = ("p50_ms", "p90_ms", "p99_ms")


@dataclass(frozen=True)
class Entry:
    """One comparison.

    `time` is in UTC, `revision` git's of the folder that the model or the run lies in. `model` and
    `model_sha256` are of the source model, as far as the reference says it; `bundle_sha256` is None
    where no bundle ran. `data_sha256` is of the samples' ids and tensors. `verdict` is "passed",
    "failed" or "unjudged", `why` says why it is not the first. `metrics` have the names of the
    report's rates, and: cosine (of the worst output), max_abs_diff, sqnr_db (dB), p50_ms, p90_ms
    and p99_ms (none of an emulator), peak_memory_bytes, file_bytes, and
    "arm_instructions, <board>". An `id` is in a table once.
    """

    time: str
    revision: str | None
    model: str
    model_sha256: str | None
    bundle_sha256: str | None
    recipe: str
    engine: str
    engine_version: str
    device: str
    machine: str
    threads: int
    data_sha256: str
    samples: int
    verdict: str
    why: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))

    @classmethod
    def of(
        cls,
        report: Report,
        candidate: Run,
        *,
        revision: str | None = None,
        file_bytes: int | None = None,
        instructions: Mapping[str, int] | None = None,
        once: bool = False,
    ) -> Entry:
        """The row of a report on a candidate. With `once` the same runs by the same limits have the
        same id."""
        about, reference = report.candidate, report.reference
        # What a bundle was made from, its reference says, and no other run of a bundle.
        source = next((side for side in (reference, about) if side["engine"] == "paddle"), None)
        verdict = "passed" if report else "failed" if report.failures else "unjudged"
        counted = {f"arm_instructions, {board}": n for board, n in (instructions or {}).items()}
        metrics = _metrics(report) | counted
        if file_bytes is not None:
            metrics["file_bytes"] = file_bytes
        told = [side[key] for side in (reference, about) for key in ("created", "model", "engine")]
        one = hashlib.sha256(repr([*told, report.limits, about["device"]]).encode()).hexdigest()
        return cls(
            time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            revision=revision,
            model=str((source or about)["model"]["name"]),
            model_sha256=None if source is None else str(source["model"]["sha256"]),
            bundle_sha256=None if about["engine"] == "paddle" else str(about["model"]["sha256"]),
            recipe=str(about["precision"]),
            engine=str(about["engine"]),
            engine_version=str(about["engine_version"]),
            device=str(about["device"]),
            machine=str(about["machine"]),
            threads=int(about["threads"]),
            data_sha256=_checksum(candidate),
            samples=report.samples,
            verdict=verdict,
            why="; ".join(report.failures or report.unjudged),
            metrics={name: float(value) for name, value in metrics.items() if math.isfinite(value)},
            **({"id": one} if once else {}),
        )


def _metrics(report: Report) -> dict[str, float]:
    about = report.candidate
    latency = {} if emulated(about) else about["latency"]
    return {
        "cosine": min(output.cosine for output in report.outputs),
        "max_abs_diff": max(output.max_probability_diff for output in report.outputs),
        "sqnr_db": min(output.sqnr_db for output in report.outputs),
        **{rate.name: rate.value for rate in report.rates},
        **{name: latency[name] for name in _LATENCIES if name in latency},
        "peak_memory_bytes": about["peak_memory_bytes"],
    }


def _checksum(run: Run) -> str:
    digest = hashlib.sha256()
    for text in sorted(f"{sample.sha256} {sample.id}" for sample in run.samples):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def revision_of(path: str | Path) -> str | None:
    """What git calls the state of the folder at `path`, or of the one that the file lies in; None
    where it is in no repository, or git is not installed."""
    path = Path(path).absolute()
    folder = path if path.is_dir() else path.parent
    words = ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"]
    with suppress(EngineError), Child(words, output="lines") as git:
        git.tell()
        found = b"".join(git.lines()).decode("ascii", "replace").strip()
        if git.wait(_GIT_S) == 0 and re.fullmatch(r"[0-9a-f]{40,64}", found):
            return found
    return None
