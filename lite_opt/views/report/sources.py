"""What a report knows beside the runs: sizes of the files, and what they cost on boards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lite_opt.judge.evidence import is_arm
from py_runner.errors import DataError
from py_runner.files import regular
from py_runner.formats.bundle import Bundle

__all__ = ["Counted", "Known", "counted", "known_of"]


@dataclass(frozen=True)
class Counted:
    """Executed ARM instructions of one inference of a model, by its checksum, on a board."""

    sha256: str
    device: str
    instructions: int


def counted(path: str) -> list[Counted]:
    """What `paddle-edge bench --json` counted on emulated boards. Raises DataError where the file
    holds nothing of the kind."""
    try:
        document = json.loads(regular.read_bytes(path))
        rows = [
            (row["sha256"], row["device"], row["arm_instructions"])
            for row in document.get("counts", [document])
        ]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        rows = []
    if not rows or any(list(map(type, row)) != [str, str, int] for row in rows):
        raise DataError(f"{path}: is not what bench --json prints of an emulated board")
    return [Counted(*row) for row in rows]


@dataclass(frozen=True)
class Known:
    """Of one run: the bundle that it ran (None where no one named it), the bytes of the file for
    the device, and executed ARM instructions an inference by board."""

    bundle: Bundle | None
    bytes: int | None
    instructions: Mapping[str, int]


def known_of(run: Mapping[str, Any], bundles: Iterable[Bundle], counts: Iterable[Counted]) -> Known:
    """What `bundles`, and what was counted, tell of a run (its summary).

    Both are found by the bundle's checksum, that run and rows have. Static int8 on x86 is an fp32
    twin: what its bundle ships is not what ran, so its size is not the run's either.
    """
    sha256 = run["model"]["sha256"]
    bundle = next((b for b in bundles if b.sha256 == sha256), None)
    instructions = {row.device: row.instructions for row in counts if row.sha256 == sha256}
    size = None
    if bundle is not None and run["engine"] != "paddle":
        name = "onnx" if run["engine"] == "onnx" else "arm"
        ran = bundle.targets.get(name if is_arm(run) or name == "onnx" else "x86")
        ships = bundle.targets.get(name)
        if ships is not None and ran is not None and ran.precision == ships.precision:
            size = ships.bytes
    return Known(bundle, size, instructions)
