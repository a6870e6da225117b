"""One data set on the nodes of a real Ray cluster, and what is told where that does not work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import make_model
import pytest
from conftest import data_of, need, same
from test_cluster import PATIENCE_S, below, command, spread_out

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from ray_cluster import Cluster

from py_runner.cluster import ray_nodes
from py_runner.cluster.ray_nodes import ray_at
from py_runner.data.dataset import Dataset
from py_runner.errors import DataError, EngineError, UsageError
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model
from py_runner.watch import Watch

pytestmark = pytest.mark.slow

NODES, MANY, LEAST = 3, 5000, 1000
LIMIT_S = 900  # for all of this: a cluster that hangs costs no more, and says what it was at


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, and nothing else."""
    need(find_spec("ray") is not None, "ray")
    try:
        made = Cluster()
    except RuntimeError as error:  # nothing of ours is at work yet
        pytest.skip(f"Ray's own processes do not work here: {error}")
    with made:
        yield made


@pytest.fixture(scope="module")
def until_s(cluster: Cluster) -> float:
    return time.monotonic() + LIMIT_S


@pytest.fixture(autouse=True)
def limit(cluster: Cluster, until_s: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail, with the logs of all nodes, where the tests take too long."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)

    def too_long(*_: object) -> None:
        pytest.fail(f"no end within {LIMIT_S} s:\n{cluster.logs()}")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(max(1, int(until_s - time.monotonic())))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model.pictures(tmp_path_factory.mktemp("many") / "pictures", MANY, side=20)


@pytest.fixture(scope="module")
def many(bundle: Path, folder: Path) -> Dataset:
    return data_of(bundle, folder)


@pytest.fixture(scope="module")
def expected(edge: Model, many: Dataset) -> Run:
    return run(edge, many)


def test_without_cpus_it_is_not_waited_for_long(
    cluster: Cluster, edge: Model, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.have(0)
    monkeypatch.setattr(ray_nodes, "_START_S", 1.0)
    with pytest.raises(
        EngineError, match=r"no node of .* within .* s: it has no CPUs, on nodes: 1"
    ):
        spread_out(edge, data, tmp_path / "edge.run", ray_at("ray"))
    assert not (tmp_path / "edge.run").exists()


def test_a_node_that_is_not_fit_is_named(
    cluster: Cluster, edge: Model, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "no.run"
    cluster.have(1)
    with pytest.raises(DataError, match=r"node .* does not see .*nowhere: put the data on storage"):
        spread_out(edge, data, out, ray_at("ray", tmp_path / "nowhere"))
    monkeypatch.setattr(ray_nodes, "versions", lambda: {"paddle-edge": "9.9"})
    with pytest.raises(UsageError, match=r"node .* has paddle-edge .*, not 9.9 as here"):
        spread_out(edge, data, out, ray_at("ray"))
    assert not out.exists()


def test_three_nodes_make_the_run_of_one_engine(
    cluster: Cluster, edge: Model, many: Dataset, folder: Path, expected: Run, tmp_path: Path
) -> None:
    """Two of them come when it is at work."""
    cluster.have(1)
    coming = threading.Thread(target=cluster.have, args=[NODES])
    coming.start()
    told: list[str] = []
    watch = Watch(state=told.append, step=lambda *_: coming.join())
    done = spread_out(edge, many, tmp_path / "all.run", ray_at("ray", folder), watch)
    assert same(done, expected)
    assert told[-1].startswith(f"{NODES} workers, ")
    assert not list(cluster.folder.glob("paddle-edge-node-*"))


def test_sigterm_ends_the_engines_and_another_driver_goes_on(
    cluster: Cluster,
    bundle: Path,
    edge: Model,
    data: Dataset,
    folder: Path,
    expected: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second is far away, and under `uv run`, which Ray would have the nodes call. While the
    first has all CPUs, nobody else waits for ever."""
    cluster.have(NODES)
    out = tmp_path / "stopped.run"
    few = ("--limit", LEAST, "--repeat", 100, "--keep-every", 0.1)
    words = (bundle, "--data", folder, "-o", out, *few, "--on")
    process = command(*words, "ray")
    until = time.monotonic() + PATIENCE_S
    while not out.exists():
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert cluster.pids("engines/serve.py")
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(ray_nodes, "_START_S", 1.0)
    with pytest.raises(EngineError, match=rf"no node of .*: 0 of its {NODES} CPUs are free"):
        spread_out(edge, data, tmp_path / "edge.run", ray_at("ray"))
    for told in (signal.SIGTERM, signal.SIGCONT):
        process.send_signal(told)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, said
    assert f" of {LEAST} samples are answered; to go on: paddle-edge run" in said.splitlines()[-1]
    assert not cluster.pids("engines/serve.py")
    again = under_uv_run(tmp_path, *words, cluster.client, "--resume")
    assert again.returncode == 0, again.stderr
    assert same(Run.open(out), expected.first(LEAST))


def under_uv_run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command as a child of what looks like `uv run`: a shell with that name, and a script."""
    (folder / "run").write_text('"$@"\nexit $?\n')
    argv = ["uv", "run", sys.executable, "-m", "lite_opt.cli.main", "run", *map(str, words)]
    return subprocess.run(
        argv, executable="/bin/sh", cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
    )


def test_a_node_killed_half_way_loses_nothing(
    cluster: Cluster, edge: Model, many: Dataset, expected: Run, tmp_path: Path
) -> None:
    cluster.have(NODES)
    killed: list[int] = []
    said: list[str] = []

    def step(what: str, answered: int, _: int | None) -> None:
        if answered > 2000 and not killed:
            killed.append(answered)
            cluster.have(NODES - 1)

    watch = Watch(step=step, say=said.append)
    done = spread_out(edge, many, tmp_path / "killed.run", ray_at("ray"), watch)
    assert killed and killed[0] < 4000
    assert same(done, expected)
    # Where its worker had just answered, there was nothing to give.
    assert all("its samples are given to another" in text for text in said), said


def with_an_engine(cluster: Cluster) -> set[int]:
    """The workers that have been given a task."""
    found = set()
    for engine in cluster.pids("engines/serve.py"):
        with suppress(OSError):  # it has ended meanwhile
            found.add(int(Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()[1]))
    return found & set(cluster.pids("ray::Actor"))


def test_a_worker_that_hangs_is_given_up(
    cluster: Cluster,
    edge: Model,
    many: Dataset,
    expected: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.have(NODES - 1)
    monkeypatch.setattr(ray_nodes, "_SILENT_S", 3.0)
    before = with_an_engine(cluster)  # of an earlier run, which Ray has not ended yet
    hung: list[int] = []
    said: list[str] = []

    def step(what: str, answered: int, _: int | None) -> None:
        if answered > 100 and not hung and (at_work := with_an_engine(cluster) - before):
            hung.append(at_work.pop())
            os.kill(hung[0], signal.SIGSTOP)

    watch = Watch(step=step, say=said.append)
    done = spread_out(edge, many.cut(0, LEAST), tmp_path / "edge.run", ray_at("ray"), watch)
    assert hung and same(done, expected.first(LEAST))
    assert any("has said nothing for" in text for text in said), said


@pytest.mark.parametrize(
    ("which", "number", "told"),
    [
        ("driver", signal.SIGKILL, "the driver of Ray was killed by SIGKILL"),
        ("head", signal.SIGSTOP, "Ray has said nothing for"),
    ],
)
def test_a_driver_that_dies_and_a_head_that_hangs_are_told(
    which: str,
    number: signal.Signals,
    told: str,
    cluster: Cluster,
    edge: Model,
    many: Dataset,
    expected: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was answered is kept, and one engine alone goes on."""
    cluster.have(NODES - 1)
    monkeypatch.setattr(ray_nodes, "_SILENT_S", 2.0)
    monkeypatch.setattr(ray_nodes, "_MORE_S", 1.0)
    few, out = many.cut(0, LEAST), tmp_path / "edge.run"
    (head,) = cluster.pids("gcs_server")

    def step(what: str, answered: int, _: int | None) -> None:
        if answered > 100:
            drivers = [pid for pid in below(os.getpid()) if "ray_driver" in words_of(pid)]
            workers = cluster.pids("ray::Actor")  # nor do they end before that is seen
            for pid in (*([head] if which == "head" else drivers), *workers):
                os.kill(pid, number)

    with pytest.raises(EngineError, match=rf"{told}.* go on with: go on$"):
        spread_out(edge, few, out, ray_at("ray"), Watch(step=step))
    os.kill(head, signal.SIGCONT)
    spread_out(edge, few, out, None, resume=True)
    assert same(Run.open(out), expected.first(LEAST))


def words_of(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()
