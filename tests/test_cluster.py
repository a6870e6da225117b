"""One data set on several engines at once: processes here, and devices."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import COUNT, data_of, need, same

from lite_opt.judge.speed import slowdown
from py_runner.cluster import schedule
from py_runner.cluster.node_files import NodeFiles
from py_runner.cluster.processes import Processes, each, local
from py_runner.cluster.ray_nodes import ray_at
from py_runner.cluster.task import Orders, Piece, Result, pack
from py_runner.data.dataset import Dataset
from py_runner.errors import DataError, EngineError, ModelError, StoppedError, UsageError
from py_runner.evaluation import evaluate
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.job import Job
from py_runner.tensors import Model
from py_runner.watch import Watch

SHORT = 0.02  # seconds of a part
PATIENCE_S = 90


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few samples each, however fast the workers are."""
    monkeypatch.setattr(schedule, "_MOST", 8)


def spread_out(
    edge: Model, data: Dataset, out: Path, on: schedule.Open, watch: Watch | None = None,
    *, job: dict[str, Any] | None = None, **options: Any,
) -> Run:  # fmt: skip
    asked = Job(edge, "lite", **{"part_s": SHORT, **(job or {})})
    watch = watch or Watch()
    evaluate(asked, data, out, command=("go", "on"), on=on, watch=watch, **options)
    return Run.open(out)


class Seen(Processes):
    """Workers of which a test knows the processes, and to which it does something at a result."""

    at: Callable[[Seen, int], None]
    results = 0

    def pids(self) -> list[int]:
        return [worker.child._process.pid for worker in self._children.values()]

    def wait(self, limit_s: float) -> list[tuple[str, Result | str]]:
        found = super().wait(limit_s)
        self.results += sum(isinstance(outcome, Result) for _, outcome in found)
        self.at(self, self.results)
        return found


def seen(number: int, at: Callable[[Seen, int], None]) -> schedule.Open:
    def on(job: Job, shard: dict[str, int] | None) -> Seen:
        workers = Seen([Orders(job, shard, number)] * number)
        workers.at = at
        return workers

    return on


def test_two_workers_make_the_same_run(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    told: list[str] = []
    steps: list[tuple[str, int, int | None]] = []
    watch = Watch(state=told.append, step=lambda *step: steps.append(step))
    done = spread_out(edge, data, tmp_path / "edge.run", local(2), watch)
    assert same(done, undisturbed)
    assert done.side_by_side == 2 and undisturbed.side_by_side is None
    assert Run.open(tmp_path / "edge.run").summary()["side_by_side"] == 2
    apart = {"latency", "created", "wall_s", "peak_memory_bytes", "side_by_side"}
    kept = {k: v for k, v in done.summary().items() if k not in apart}
    assert kept == {k: v for k, v in undisturbed.summary().items() if k not in apart}
    assert steps[-1] == ("engine lite", COUNT, COUNT)
    assert told[-1].startswith("2 workers, ") and told[-1].endswith("parts done, 0 at work")
    assert any("slowest" in text and "median" in text for text in told)


def test_arrays_are_opened_by_the_workers(
    bundle: Path, edge: Model, calibration_data: Path, tmp_path: Path
) -> None:
    rows = data_of(bundle, calibration_data)
    assert len(repr(pickled(rows.cut(3, 9)))) < 20_000  # 6 samples of 7 KB are not sent
    assert same(spread_out(edge, rows, tmp_path / "edge.run", local(2)), run(edge, rows))


def pickled(value: object) -> bytes:
    import pickle

    return pickle.dumps(value)


def test_a_killed_worker_loses_nothing(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(workers: Seen, results: int) -> None:
        if results >= 3 and not killed:
            killed.append(workers.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    said: list[str] = []
    watch = Watch(say=said.append)
    done = spread_out(edge, data, tmp_path / "edge.run", seen(2, kill), watch)
    assert same(done, undisturbed)
    # Where it had just answered, there was nothing to give.
    assert killed
    assert set(said) <= {"worker 1: was killed by SIGKILL: its samples are given to another"}


def test_a_worker_that_hangs_is_not_waited_for(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_SLOW_S", 1.0)
    hung: list[int] = []

    def hang(workers: Seen, results: int) -> None:
        if results >= 3 and not hung:
            hung.append(workers.pids()[1])
            os.kill(hung[0], signal.SIGSTOP)

    done = spread_out(edge, data, tmp_path / "edge.run", seen(2, hang))
    assert hung and same(done, undisturbed)
    assert not Path(f"/proc/{hung[0]}").exists()


def test_workers_that_cannot_live_are_told(
    edge: Model, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("py_runner.cluster.processes._SERVE", "raise SystemExit('no luck')")
    with pytest.raises(EngineError, match="exited with code 1: no luck"):
        spread_out(edge, data, tmp_path / "edge.run", local(2))
    assert not (tmp_path / "edge.run").exists()


def test_bad_samples_are_skipped_as_by_one(
    bundle: Path, edge: Model, pictures: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(pictures, tmp_path / "mixed"))
    names = sorted(path.name for path in mixed.iterdir())
    for name in (*names[:4], *names[30:33], names[-1]):
        (mixed / name).write_bytes(b"no picture")
    alone, together = (data_of(bundle, mixed, skip_bad=True) for _ in range(2))
    job: dict[str, Any] = {"failed": []}
    expected = run(edge, alone)
    assert same(spread_out(edge, together, tmp_path / "a.run", local(2), job=job), expected)
    assert together.skipped == alone.skipped and len(alone.skipped) == 8


def test_what_fails_for_all_is_told_and_gone_on_with(
    bundle: Path, edge: Model, pictures: Path, undisturbed: Run, tmp_path: Path
) -> None:
    mended = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    bad = sorted(mended.iterdir())[30]
    whole = bad.read_bytes()
    bad.write_bytes(b"no picture")
    data = data_of(bundle, mended)
    with pytest.raises(DataError) as told:
        spread_out(edge, data, tmp_path / "edge.run", local(2))
    assert "tried by worker" in str(told.value)
    missing = re.search(rf"\(([0-9]+) of {COUNT} samples .* '(.*)' the first", str(told.value))
    assert missing and 1 <= int(missing[1]) <= 8 and missing[2] <= bad.name
    assert str(told.value).endswith("what was answered is kept, go on with: go on")
    with pytest.raises(ModelError, match="is a run under way"):
        Run.open(tmp_path / "edge.run")
    bad.write_bytes(whole)
    checked: list[int] = []
    watch = Watch(step=lambda what, n, _: checked.append(n) if "checking" in what else None)
    done = spread_out(edge, data, tmp_path / "edge.run", local(2), watch, resume=True)
    assert same(done, undisturbed)
    # What came before, and after, is not asked for again.
    assert len(set(checked)) == COUNT - int(missing[1])


def test_stopped_and_gone_on_with_by_one(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    wish: list[bool] = []

    def stop(_: Seen, results: int) -> None:
        if results >= 3:
            wish.append(True)

    out = tmp_path / "edge.run"
    with pytest.raises(StoppedError, match=rf"[1-9][0-9]* of {COUNT} samples are answered"):
        spread_out(edge, data, out, seen(2, stop), Watch(enough=lambda: bool(wish)))
    evaluate(Job(edge, "lite"), data, out, command=(), resume=True)
    done = Run.open(out)
    assert same(done, undisturbed) and done.side_by_side == 2


def test_latencies_of_neighbours_are_not_those_of_one_alone(undisturbed: Run) -> None:
    beside = replace(undisturbed, side_by_side=4)
    with pytest.raises(UsageError, match=r"on engines beside each other 1 and .* 4 say nothing"):
        slowdown(undisturbed, beside, 10)
    assert slowdown(beside, beside, 10)
    assert Run.merge([beside.first(3), undisturbed.select([3])]).side_by_side == 4


def test_a_part_that_was_damaged_on_its_way(undisturbed: Run, tmp_path: Path) -> None:
    piece = Piece.of(undisturbed, 0, COUNT)
    (tmp_path / "good").mkdir()
    piece.write(tmp_path / "good")
    assert same(Run.open(tmp_path / "good"), undisturbed)
    damaged = bytearray(piece.packed)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(ModelError, match="damaged on its way"):
        replace(piece, packed=bytes(damaged)).write(tmp_path)


def test_files_of_a_node_are_there_once_and_go_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.nb").write_bytes(b"model")
    packed = pack(tmp_path / "files", [tmp_path / "files" / "a.nb"])
    first, second = NodeFiles(packed, "abc"), NodeFiles(b"not looked at", "abc")
    assert first.folder == second.folder
    assert (second.folder / "a.nb").read_bytes() == b"model"
    first.close()
    first.close()
    assert second.folder.exists()
    left = shutil.copytree(second.folder, second.folder.with_name("killed"))
    third = NodeFiles(packed, "def")
    assert not left.exists() and second.folder.exists()
    second.close()
    third.close()
    assert not list((tmp_path / "node").iterdir())


def test_devices_share_a_data_set(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    done = spread_out(edge, data, tmp_path / "edge.run", each(["cpu", "cpu"]))
    assert same(done, undisturbed) and done.side_by_side is None
    alike = Piece.of(undisturbed, 0, COUNT, any_machine=True).engine
    assert alike == {"engine version": undisturbed.engine_version}  # boards of several kinds


# From here on the command, in processes of its own.


def command(*words: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lite_opt.cli.main", "run", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--on lokal[2]", 2, "is neither local[N]"),
        ("--on local[0]", 2, "is neither local[N]"),
        ("--on ray://head", 2, "is neither local[N]"),
        ("--on local --device cpu --device gpu", 2, "--spread spreads samples over several"),
        ("--spread", 2, "several devices"),
        ("--spread --on local", 2, "leave --on out"),
        ("--on ray --device gpu --engine paddle", 2, "run on CPUs"),
        ("--on ray://localhost:9", 3, "no Ray cluster is reached there"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    words: str, code: int, told: str, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    if "localhost" in words:
        need(find_spec("ray") is not None, "ray")
    out = tmp_path / "edge.run"
    process = command(bundle, "--data", photos, "-o", out, *words.split())
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code and told in said and said.count("\n") == 1, said
    assert not out.exists()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'paddle-edge\[ray\]'"):
        ray_at("ray")


def test_sigterm_ends_all_and_is_gone_on_with(
    bundle: Path, pictures: Path, undisturbed: Run, tmp_path: Path
) -> None:
    out = tmp_path / "edge.run"
    slow = ("--on", "local[2]", "--repeat", 3000, "--keep-every", 0.01)
    process = command(bundle, "--data", pictures, "-o", out, *slow)
    until = time.monotonic() + PATIENCE_S
    while not out.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    family = below(process.pid)
    assert len(family) >= 3  # two workers, and an engine
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143 and "to go on: paddle-edge run" in said.splitlines()[-1], said
    assert not gone_after(family, 30)
    process = command(bundle, "--data", pictures, "-o", out, *slow, "--resume", "--json")
    told, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert json.loads(told)["side_by_side"] == 2
    assert same(Run.open(out), undisturbed)


def below(parent: int) -> list[int]:
    """The processes that a process has begun, and those that they have."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        for thread in Path(f"/proc/{parent}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *below(child)]
    return found


def gone_after(family: list[int], limit_s: float) -> list[int]:
    """Those that are still there then."""
    until = time.monotonic() + limit_s
    while family and time.monotonic() < until:
        family = [pid for pid in family if Path(f"/proc/{pid}").exists()]
        time.sleep(0.05)
    return family
