"""One bundle on several devices at once: a Run of each, and which are unlike the others.

Each device is served by a process of its own, the command `run`, so that none waits for another or
falls with it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import Limits, limits_for
from py_runner.devices import is_remote, plain_name
from py_runner.devices.facts import Facts, unlike
from py_runner.devices.install import check_each
from py_runner.errors import DataError, StoppedError, UsageError
from py_runner.files.folder import whole_file
from py_runner.files.process import Child, how_it_ended
from py_runner.files.regular import read_text
from py_runner.formats.run import Run
from py_runner.watch import Watch

__all__ = ["is_fleet", "judge_each", "run_each"]

_MANIFEST = "fleet.json"
_COMMAND = (sys.executable, "-m", "lite_opt.cli.main")
_NAME = 200  # characters of a file's name that are the device's
_LOOK_EVERY_S = 0.1
_TO_END_S = 5.0  # all have together, where they are to end at once


def run_each(
    arguments: Sequence[str], devices: Sequence[str], folder: Path, watch: Watch
) -> dict[str, Any]:
    """Run the command with these arguments on each device, side by side.

    Writes FOLDER/<device>.run of each that succeeds, and FOLDER/fleet.json, which is what it
    returns: {"folder", "passed", "devices"}: of each device its "device", "run", "samples",
    "p50_ms", "lite_run", "error", "answers" (in words, against the run that most are bit by bit
    like), "passed", and how it is "unlike" the others. Raises UsageError for a folder that holds
    other things.
    """
    twice = [device for device, count in Counter(devices).items() if count > 1]
    if twice:
        raise UsageError(f"device '{twice[0]}' is given twice")
    folder.mkdir(parents=True, exist_ok=True)
    if any(there.name != _MANIFEST and there.suffix != ".run" for there in folder.iterdir()):
        raise UsageError(f"{folder}: holds other things than runs: choose another name")
    remote = [device for device in devices if is_remote(device)]
    found = [one for one in check_each(remote) if isinstance(one, Facts)]
    versions = {one.url: one.lite_run for one in found}
    places = dict(zip(devices, _places(devices, folder)))
    errors = _side_by_side(arguments, places, watch)
    runs = {device: Run.open(places[device]) for device in devices if device not in errors}
    answers = _answers(runs)
    differ = unlike(found)
    rows = [
        {
            "device": device,
            "run": None if device in errors else str(places[device]),
            "samples": len(runs[device].samples) if device in runs else 0,
            "p50_ms": runs[device].latency["p50_ms"] if device in runs else None,
            "lite_run": versions.get(device, ""),
            "error": errors.get(device, ""),
            "answers": answers[device][1] if device in answers else "failed",
            "passed": device in answers and answers[device][0],
            "unlike": [*differ.get(device, ()), *filter(None, [errors.get(device)])],
        }
        for device in devices
    ]
    document = _document(folder, rows)
    with whole_file(folder / _MANIFEST) as file:
        file.write(json.dumps(document, indent=2, ensure_ascii=False).encode())
    return document


def is_fleet(path: str | Path) -> bool:
    """Whether this is a folder that `run_each` has written."""
    return (Path(path) / _MANIFEST).is_file()


def judge_each(
    reference: Run, folder: Path, limits: Callable[[Run], Limits], **options: Any
) -> dict[str, Any]:
    """What `run_each` returned for this folder, with each Run judged against a reference, by its
    limits and the other options of `compare`. Raises DataError for a damaged fleet.json."""
    try:
        rows = json.loads(read_text(folder / _MANIFEST))["devices"]
        places = [row["run"] and folder / Path(row["run"]).name for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / _MANIFEST}: damaged: {error}: run the fleet again") from None
    for row, place in zip(rows, places):
        if place is not None:
            run = Run.open(place)
            row["passed"], row["answers"] = _verdict(
                compare(reference, run, limits=limits(run), **options)
            )
    return _document(folder, rows)


def _document(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    passed = all(row["passed"] for row in rows)
    return {"folder": str(folder), "passed": passed, "devices": rows}


def _verdict(report: Report) -> tuple[bool, str]:
    """Whether answers agree, and in words."""
    apart = max(output.max_probability_diff for output in report.outputs)
    why = "; ".join(report.failures or report.unjudged)
    return bool(report), f"differ: {why}" if why else f"agree within {apart:.1e}"


def _places(devices: Sequence[str], folder: Path) -> list[Path]:
    """A name for each that is one of a file; those that are alike are numbered."""
    plain = [plain_name(device)[-_NAME:] for device in devices]
    numbers = [
        "" if plain.count(name) == 1 else f"-{plain[: place + 1].count(name)}"
        for place, name in enumerate(plain)
    ]
    return [folder / f"{name}{number}.run" for name, number in zip(plain, numbers)]


def _side_by_side(
    arguments: Sequence[str], places: Mapping[str, Path], watch: Watch
) -> dict[str, str]:
    """The errors of those devices that failed, in a line each. Raises StoppedError where that is
    wished, once each has ended what is at work."""
    errors: dict[str, str] = {}
    with ExitStack() as stack:
        children = {
            device: stack.enter_context(
                Child([*_COMMAND, *arguments, "--device", device, "-o", str(place)], output="none")
            )
            for device, place in places.items()
        }
        waiting = dict(children)
        stopped = False
        try:
            while waiting:
                time.sleep(_LOOK_EVERY_S)
                if watch.enough() and not stopped:
                    stopped = True
                    _interrupt(waiting.values())
                for device in [name for name, child in waiting.items() if child.ended]:
                    child = waiting.pop(device)
                    code = child.wait()
                    said = child.log().decode("utf-8", "replace").strip().splitlines()
                    if code:
                        last = said[-1].removeprefix("paddle-edge: ") if said else ""
                        errors[device] = last or how_it_ended(code)
                        watch.say(f"{device}: {errors[device]}")
                    watch.step("devices", len(children) - len(waiting), len(children))
        except BaseException:
            _interrupt(waiting.values())
            end_at = time.monotonic() + _TO_END_S
            for child in waiting.values():
                child.wait(max(0.0, end_at - time.monotonic()))
            raise
    if stopped:
        kept = next(iter(places.values())).parent
        raise StoppedError(f"stopped: what was answered is in {kept}: go on with --resume")
    return errors


def _interrupt(children: Iterable[Child]) -> None:
    for child in children:
        child.interrupt()


def _answers(runs: Mapping[str, Run]) -> dict[str, tuple[bool, str]]:
    """Of each run whether it agrees with the one that most are bit by bit like, and in words."""
    sums = {device: _sum(run) for device, run in runs.items()}
    if not sums:
        return {}
    most = Counter(sums.values()).most_common(1)[0][0]
    like = next(device for device, digest in sums.items() if digest == most)
    found: dict[str, tuple[bool, str]] = {}
    for device, run in runs.items():
        if sums[device] == most:
            found[device] = True, "alike bit by bit"
            continue
        found[device] = _verdict(compare(runs[like], run, limits=limits_for(run.precision)))
    return found


def _sum(run: Run) -> str:
    digest = hashlib.sha256()
    for values in run.outputs.values():
        for value in values:
            digest.update(value.tobytes())
    return digest.hexdigest()
