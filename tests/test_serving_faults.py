"""Serving when engines die and hang, when it is told to stop, and when too much is asked."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from make_model import SIDE
from serving_process import Serving, wait_until
from tritonclient.utils import InferenceServerException

from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Sample

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import serving as benchmark
from serving import Question, load, questions


@pytest.fixture(scope="module")
def asked(bundle: Path) -> list[Question]:
    """Sixteen different requests with the bits of their answers."""
    random = np.random.default_rng(5)
    samples = [
        Sample(str(n), {"x": random.standard_normal((1, 3, SIDE, SIDE)).astype("float32")})
        for n in range(16)
    ]
    return questions("tiny", samples, run(Bundle.open(bundle).model("x86"), samples))


@pytest.fixture
def small(bundle: Path) -> Iterator[Serving]:
    """One engine, short limits."""
    limits = ("--queue", 2, "--deadline", 6, "--time-limit", 60)
    with Serving(bundle, *limits) as serving:
        yield serving


def infer(serving: Serving, asked: Question) -> tuple[int, Any, dict[str, str]]:
    return serving.ask(asked.path, asked.body, **asked.headers)


def test_no_answer_is_lost_or_mixed_up(bundle: Path, asked: list[Question]) -> None:
    with Serving(bundle, "--engines", 2) as serving:
        outcome = load(serving.http, asked, clients=32, requests=2000)
        assert outcome.ends == {"right": 2000}, outcome.errors
        code, document = serving.stop()
    assert code == 0 and document["answered"] >= 2000 and document["failed"] is None


def test_the_benchmark_measures(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "BARE_S", 0.2)
    asked: dict[str, Any] = {
        "clients": 8,
        "requests": 1000,
        "rounds": 2,
        "options": ["--queue", "9"],
    }
    told = benchmark.measure(bundle, engine="lite", **asked)
    assert told["ends"] == {"right": 1000} and told["exit_code"] == 0
    assert 0 < told["ratio"] < 1.2 and told["p50_ms"] <= told["p99_ms"]
    assert min(told["cpu_ms"].values()) >= 0 and told["cpu_ms"]["server"] > 0


def test_engines_that_are_killed_cost_a_request_each(bundle: Path, asked: list[Question]) -> None:
    kills, stop = 20, threading.Event()
    with Serving(bundle, "--engines", 2, "--queue", 64) as serving:
        killed = 0

        def kill() -> None:
            nonlocal killed
            try:
                for _ in range(kills):
                    wait_until(lambda: len(serving.engines()) == 2)
                    time.sleep(0.05)
                    victim = serving.engines()[0]
                    os.kill(victim, signal.SIGKILL)
                    killed += 1
                    wait_until(lambda gone=victim: gone not in serving.engines())
            finally:
                stop.set()

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = load(serving.http, asked, clients=16, requests=10**6, stop=stop)
        killer.join()
        assert killed == kills
        assert set(outcome.ends) <= {"right", "500", "503", "429"}, outcome.errors
        assert 0 < outcome.ends["500"] <= kills and outcome.ends["right"] > 0
        # Killed at work or while it opened: clients are told the same, and no place of a file.
        assert {error.split("; ")[0] for error in outcome.errors if "wait" not in error} == {
            "engine lite was killed by SIGKILL"
        }
        wait_until(lambda: len(serving.engines()) == 2)
        assert load(serving.http, asked, clients=4, requests=40).ends == {"right": 40}
        deaths = f'paddle_edge_engine_deaths_total{{engine="edge",model="tiny"}} {kills}.0'
        assert deaths in serving.ask("/metrics")[1].decode()
        assert serving.stop()[0] == 0


def test_an_idle_engine_that_is_killed_costs_nothing(bundle: Path, asked: list[Question]) -> None:
    with Serving(bundle) as serving:
        (killed,) = serving.engines()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: serving.engines() not in ([], [killed]))
        assert infer(serving, asked[0])[0] == 200


def test_an_engine_that_cannot_be_opened_again_is_told_without_places(
    bundle: Path, asked: list[Question], tmp_path: Path
) -> None:
    mine = tmp_path / "tiny.bundle"
    shutil.copytree(bundle, mine)
    with Serving(mine) as serving:
        (mine / "model.x86.nb").write_bytes(b"no model")
        os.kill(serving.engines()[0], signal.SIGKILL)
        serving.await_event("engine ended", 2)
        status, answer, _ = infer(serving, asked[0])
        told = answer["error"]
        assert status == 503
        assert told.startswith("engine lite was killed by SIGABRT"), told
        assert str(mine / "model.x86.nb") in serving.events("engine ended")[-1]["text"]


def test_told_to_stop_it_answers_what_has_come(bundle: Path, asked: list[Question]) -> None:
    with Serving(bundle) as serving:
        stop, ended = threading.Event(), []
        over_grpc: list[str] = []

        def clients() -> None:
            ended.append(load(serving.http, asked, clients=16, requests=10**6, stop=stop))

        def grpc_client() -> None:
            x = triton_grpc.InferInput("x", [1, 3, SIDE, SIDE], "FP32")
            x.set_data_from_numpy(np.zeros((1, 3, SIDE, SIDE), "float32"))
            with triton_grpc.InferenceServerClient(serving.grpc) as it:
                while not stop.is_set():
                    try:
                        it.infer("tiny", [x])
                        over_grpc.append("")
                    except InferenceServerException as error:
                        over_grpc.append(str(error.status()))

        threads = [threading.Thread(target=it) for it in (clients, grpc_client)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        code, document = serving.stop()
        stop.set()
        for thread in threads:
            thread.join()
    (outcome,) = ended
    # gRPC refuses with either of these what has come too late.
    assert set(over_grpc) <= {"", "StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}
    assert code == 0
    assert set(outcome.ends) <= {"right", "refused"}, outcome.errors
    answered = (outcome.ends["right"], over_grpc.count(""))
    assert min(answered) > 0
    assert document["answered"] == sum(answered), "an answer was made and did not arrive"


def test_a_queue_has_an_end_and_requests_a_deadline(small: Serving, asked: list[Question]) -> None:
    (engine,) = small.engines()
    os.kill(engine, signal.SIGSTOP)
    ends: list[tuple[float, int, Any, dict[str, str]]] = []

    def ask() -> None:
        start = time.monotonic()
        answer = infer(small, asked[0])
        ends.append((time.monotonic() - start, *answer))

    # One is at the engine and two wait in the queue: five are too many.
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for number, thread in enumerate(threads):
        thread.start()
        if number == 0:
            time.sleep(0.5)  # until it is at the engine
        elif number < 3:
            waits = f'queue_requests{{engine="edge",model="tiny"}} {number}.0'
            wait_until(lambda waits=waits: waits in small.ask("/metrics")[1].decode())
        else:
            wait_until(lambda number=number: len(ends) == number - 2)
    for thread in threads:
        thread.join()
    assert sorted(status for _, status, _, _ in ends) == [429] * 5 + [504] * 3
    for took_s, status, body, headers in ends:
        if status == 429:
            assert took_s < 5 and int(headers["retry-after"]) >= 1 and "wait" in body["error"]
        else:
            assert 5.8 < took_s < 60 and "deadline" in body["error"]
    os.kill(engine, signal.SIGCONT)
    wait_until(lambda: infer(small, asked[0])[0] == 200)
    assert load(small.http, asked, clients=1, requests=20).ends == {"right": 20}
    assert small.engines() == [engine]


def test_an_engine_that_hangs_is_replaced(bundle: Path, asked: list[Question]) -> None:
    with Serving(bundle, "--time-limit", 1) as serving:
        (engine,) = serving.engines()
        os.kill(engine, signal.SIGSTOP)
        status, body, _ = infer(serving, asked[0])
        assert status == 500 and "gave no answer within 1 s" in body["error"]
        assert infer(serving, asked[0])[0] == 200
        assert serving.engines() != [engine]


def test_a_bundle_that_does_not_answer_as_its_reference_is_not_served(
    bundle: Path, tmp_path: Path
) -> None:
    import shutil

    other = tmp_path / "other.bundle"
    shutil.copytree(bundle, other)
    file = other / "reference" / "output_0.npy"
    np.save(file, np.load(file)[..., ::-1])
    with Serving(other, wait="listening") as serving:
        assert serving.ask("/v2/health/ready")[0] == 503
        serving.await_event("failed")
        code, document = serving.ended()
        assert code == 1 and "as the server did" in document["failed"]
        assert serving.events("ready") == []
    with Serving(other, "--no-check") as serving:
        assert serving.ask("/v2/health/ready")[0] == 200
