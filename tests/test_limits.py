"""Limits of time and memory hold for engines, from the opening of a model on."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from py_runner.data.random_samples import random_samples
from py_runner.devices.here import Ahead, Here
from py_runner.engines.worker import Worker
from py_runner.errors import EngineError, UsageError
from py_runner.files.process import Child
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.job import Job
from py_runner.tensors import Sample

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot limit a process")
ENGINE = """
import time
def load():
    time.sleep({load})
class Session:
    version = "1"
    def prepare(self, feeds): pass
    def run(self, feeds):
        {run}
        return feeds
def open_session(config):
    {opens}
    return Session()
"""


def engine(folder: Path, *, load: float = 0, opens: str = "pass", run: str = "pass") -> Path:
    script = folder / "engine.py"
    script.write_text(ENGINE.format(load=load, opens=opens, run=run))
    return script


def worker(script: Path, **limits: float) -> Worker:
    started = Worker(script, name="odd", python=(sys.executable,))
    config = {"warmup": 0, "repeat": 1}
    return started.begin(config, **{"memory_limit_bytes": None, **limits})  # type: ignore[arg-type]


def test_opening_a_model_has_the_time_of_a_sample(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"engine odd gave no answer within 0\.5 s"):
        worker(engine(tmp_path, opens="time.sleep(60)"), time_limit_s=0.5)
    assert time.monotonic() - began < 20


def test_importing_an_engine_is_not_counted(tmp_path: Path) -> None:
    with worker(engine(tmp_path, load=1.0), time_limit_s=0.5) as started:
        assert started.ready["version"] == "1"


def test_an_engine_that_starts_ahead_is_for_one_job_and_ends_with_its_block(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source.of(load(model))
    samples = random_samples(source.inputs, count=2)
    started: list[Worker] = []

    def counted(*arguments: object, **options: object) -> Worker:
        started.append(Worker(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr("py_runner.devices.here.Worker", counted)
    with Ahead("paddle") as ahead:
        assert len(started) == 1
        here = Here(engine=ahead.opened)
        answers = [
            run(source.model(tmp_path), samples, engine="paddle", here=here) for _ in range(2)
        ]
        assert len(started) == 2, "the second job starts one of its own"
    first, second = answers
    assert all(np.array_equal(first.outputs[k][0], second.outputs[k][0]) for k in first.outputs)
    with Ahead("paddle"):
        pass
    assert len(started) == 3
    assert all(child.ended for child in started)


@LINUX
@pytest.mark.parametrize("where", ["opens", "run"])
def test_what_asks_for_too_much_memory_is_stopped(where: str, tmp_path: Path) -> None:
    script = engine(tmp_path, **{where: "bytearray(6 << 30)"})
    told = r"MemoryError; it may take 4\.0 GB.*--memory-limit"
    with (
        pytest.raises(EngineError, match=told),
        worker(script, memory_limit_bytes=4 * 10**9) as started,
    ):
        started.send({}, {"x": np.zeros(3)})
        started.receive(time_limit_s=60)


@LINUX
def test_a_child_is_limited_after_it_has_started() -> None:
    code = "import sys; sys.stdin.read(); bytearray(2 << 30)"
    for limit, good in ((1 << 30, False), (4 << 30, True)):
        with Child([sys.executable, "-c", code]) as child:
            child.limit_memory(limit)
            child.tell()
            assert (child.wait(60) == 0) == good


def test_the_estimate_grows_with_the_model_and_the_sample(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    model = opened.model("x86")
    sample = opened.read_samples()[0]
    size = model.files[0].stat().st_size
    fed = sum(value.nbytes for value in sample.feeds.values())
    assert Job(model, "lite").memory_bytes(sample) == (4 << 30) + 8 * size + (512 + 2) * fed
    assert Job(model, "lite", memory_limit_gb=1.5).memory_bytes(sample) == 1_500_000_000
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="the memory limit is above 0 GB"):
            Job(model, "lite", memory_limit_gb=wrong)


@LINUX
def test_the_limit_reaches_the_engine(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    samples: list[Sample] = opened.read_samples()
    assert run(opened.model("x86"), samples, engine="lite")
    with pytest.raises(EngineError):
        run(opened.model("x86"), samples, engine="lite", memory_limit_gb=0.01)
