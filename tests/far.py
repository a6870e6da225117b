"""What tests of devices far away share: a build, samples, and what is at work on a device."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import same

from lite_opt.judge.layers import bundle_layers, first_difference
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from py_runner.devices.connection import Begun
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Sample

LONG = 10_000  # repeats of a sample: a batch of them is seen at work
HOSTILE = 'it\'s $(touch pwned) `x`; "q" *'  # in a path, where it has to stay a name


def samples(count: int, seed: int = 0) -> list[Sample]:
    draw = np.random.default_rng(seed)
    return [
        Sample(f"{n}: {HOSTILE}", {"x": draw.standard_normal((1, 3, 16, 16)).astype("float32")})
        for n in range(count)
    ]


def pwned(*folders: Path) -> list[Path]:
    """What that name would have made there or here, had it become a command."""
    found = [place for folder in folders for place in folder.rglob("pwned")]
    return [*found, *Path.cwd().glob("pwned")]


def running(command: str) -> list[int]:
    """The processes that have this word first on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].decode("utf-8", "replace").endswith(command):
            found.append(int(place.parent.name))
    return found


def at_work(home: Path) -> list[int]:
    """The processes of lite_run that do a job in this folder."""
    found = []
    for pid in running("bin/lite_run"):
        with suppress(OSError):
            if str(Path(f"/proc/{pid}/cwd").readlink()).startswith(f"{home}/jobs/"):
                found.append(pid)
    return found


def nothing_left(home: Path) -> bool:
    """Whether no job's files and processes are there, after a minute at most."""
    return any(
        (not at_work(home) and not list((home / "jobs").iterdir())) or time.sleep(0.05)
        for _ in range(1200)
    )


@contextmanager
def held(*homes: Path) -> Iterator[None]:
    """While the block works, lite_run stands still in all of these folders, in the midst of a
    job."""
    try:
        assert any(
            sum(_all_get(signal.SIGSTOP, home) for home in homes) == len(homes) or time.sleep(0.02)
            for _ in range(3000)
        ), "lite_run was not seen at work"
        yield
    finally:
        for home in homes:
            _all_get(signal.SIGCONT, home)


def _all_get(sent: signal.Signals, home: Path) -> bool:
    """Send a signal to what is at work in a folder; whether something was."""
    found = at_work(home)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
    return bool(found) and found == at_work(home)


@contextmanager
def once_at_work(home: Path, act: Callable[[], object]) -> Iterator[None]:
    """While the block works, something happens once: when lite_run does."""
    done: list[bool] = []
    over = threading.Event()

    def wait() -> None:
        while not over.wait(0.02):
            if at_work(home):
                act()
                done.append(True)
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done, "lite_run was not seen at work"


def at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two commands' jobs begin when both are there."""
    both, go = threading.Barrier(2), Begun.go

    def together(begun: Begun) -> None:
        both.wait(60)
        go(begun)

    monkeypatch.setattr(Begun, "go", together)


def x86_model(bundle: Path) -> Any:
    return Bundle.open(bundle).model("x86")


def answered(device: str, bundle: Path, given: list[Sample], **options: Any) -> Run:
    return run(x86_model(bundle), given, engine="native", device=device, **options)


def bit_equal_by_command(command: Any, device: str, bundle: Path, folder: Path) -> Any:
    """The JSON that `run` prints of 200 samples there, whose answers are those of this machine, to
    the bit and by `compare`; the files of both are put into a folder."""
    data, local, far = (folder / name for name in ("data.npy", "local.run", "far.run"))
    draw = np.random.default_rng(1)
    np.save(data, draw.standard_normal((200, 3, 16, 16)).astype("float32"))
    line = ("run", bundle, "--data", data, "--json")
    code, _, error = command(*line, "--engine", "native", "-o", local)
    assert code == 0, error
    code, text, error = command(*line, "--device", device, "-o", far)
    assert code == 0, error
    document = json.loads(text)
    assert (document["engine"], document["device"]) == ("native", device)
    assert document["latency"]["count"] == 200 and document["warnings"] == []
    assert same(Run.open(local), Run.open(far))
    code, _, error = command("compare", local, far)
    assert code == 0, error
    return document


def put_there(home: Path) -> Path:
    """The one bundle there, which holds what its engine reads and no more."""
    (there,) = (home / "bundles").iterdir()
    assert sorted(p.name for p in there.iterdir()) == ["bundle.json", "model.x86.nb"]
    return there


def find_planted_fault(device: str, model: Path, bundle: Path) -> None:
    """`layers` there: of the bundle nothing, and the layer whose weight is another in the model
    that the device gets."""
    given = samples(2)
    assert bundle_layers(model, bundle, samples=given, engine="native", device=device)
    wrong = load(model)
    repair(wrong)
    assert isinstance(wrong.params, dict)
    wrong.params["conv.w"] = wrong.params["conv.w"] * np.float32(1.5)
    found = first_difference(load(model), wrong, given, engine="native", device=device, taps=None)
    assert not found and found.divergence is not None and found.divergence.op == "conv2d"
