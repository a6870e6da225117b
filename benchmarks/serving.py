"""What serving costs: throughput and latency under load, beside a bare loop round the engine.

    python benchmarks/serving.py BUNDLE [--clients 32] [--requests 10000] [--rounds 5]
                                        [--engine lite|native] [-- OPTIONS OF serve]

Each round first lets a loop round the engine's own predictor, in a process of its own, answer for
some seconds, then 32 clients that keep their connections ask the server for a share of the
requests, each as fast as it is answered, and hold every answer to the bits that `run` gave.
A machine is noisy: what counts is the ratio, within a round, of requests a second to inferences a
second of the loop; its median over the rounds is printed, and all of them. Where other work has the
machine's cores too, processor time still tells: `cpu_ms` is what the loop takes for an inference,
and for a request the engine's child, the server and the clients.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from py_runner.data.random_samples import random_samples
from py_runner.formats.bundle import Bundle
from py_runner.inference import bundle_target, run
from py_runner.tensors import Sample

BARE_S = 4.0
_DTYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32", "uint8": "UINT8"}

# A loop round the predictor alone: what it takes, and what is added to it, is measured.
_LOOP = """
import json, sys, time
import numpy as np
from py_runner.engines import {engine} as engine
config = json.loads(sys.argv[1])
feeds = {{n: np.load(f) for n, f in config["feeds"].items()}}
session = engine.open_session(config)
session.prepare(feeds)
for _ in range(3):
    session.run(feeds)
count, start, cpu = 0, time.perf_counter(), time.process_time()
while time.perf_counter() - start < {seconds}:
    session.run(feeds)
    count += 1
print(count / (time.perf_counter() - start), (time.process_time() - cpu) * 1e3 / count)
"""


@dataclass(frozen=True)
class Question:
    """A request in the protocol's binary form, and the bytes of its answer."""

    path: str
    body: bytes
    headers: dict[str, str]
    expected: bytes


@dataclass
class Outcome:
    """How many requests ended how, and how long those took that were answered (ms).

    `ends`: "right", "wrong", a status other than 200, "refused" where no connection was to be had,
    "lost" where one ended without an answer.
    """

    ends: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0


def question(model: str, feeds: dict[str, Any], outputs: Sequence[Any]) -> Question:
    """A request that feeds these tensors; `outputs` are what is expected."""
    inputs, parts = [], []
    for name, value in feeds.items():
        entry = {"name": name, "datatype": _DTYPES[str(value.dtype)], "shape": list(value.shape)}
        entry["parameters"] = {"binary_data_size": value.nbytes}
        inputs.append(entry)
        parts.append(value.tobytes())
    text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Question(
        f"/v2/models/{model}/infer",
        b"".join([text, *parts]),
        {**headers, "Content-Type": "application/octet-stream"},
        b"".join(np.ascontiguousarray(value).tobytes() for value in outputs),
    )


def questions(model: str, samples: Sequence[Sample], answers: Any) -> list[Question]:
    """One for each sample of a Run."""
    return [
        question(model, dict(sample.feeds), [values[n] for values in answers.outputs.values()])
        for n, sample in enumerate(samples)
    ]


def load(
    address: str,
    asked: Sequence[Question],
    *,
    clients: int,
    requests: int,
    stop: threading.Event | None = None,
) -> Outcome:
    """Have clients ask all at once, `requests` together, in turn what is `asked`; until `stop`."""
    outcome, lock = Outcome(), threading.Lock()
    left = iter(range(requests))

    def client() -> None:
        connection = _connection(address)
        while not (stop and stop.is_set()):
            with lock:
                number = next(left, None)
            if number is None:
                break
            start = time.perf_counter()
            end, error, connection = _ask(connection, address, asked[number % len(asked)])
            took_ms = (time.perf_counter() - start) * 1e3
            with lock:
                outcome.ends[end] += 1
                if error:
                    outcome.errors[error] += 1
                if end == "right":
                    outcome.latency_ms.append(took_ms)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.wall_s = time.perf_counter() - start
    return outcome


def _connection(address: str) -> http.client.HTTPConnection:
    place = urlsplit(address)
    return http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)


def _ask(
    connection: http.client.HTTPConnection, address: str, asked: Question
) -> tuple[str, str, http.client.HTTPConnection]:
    """How a request ended, an error's text, and a connection for the next."""
    try:
        if connection.sock is None:
            connection.connect()
    except OSError:
        return "refused", "", _connection(address)
    try:
        connection.request("POST", asked.path, asked.body, asked.headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return "lost", repr(error), _connection(address)
    if answer.status != 200:
        return str(answer.status), json.loads(body)["error"], connection
    length = int(answer.headers["Inference-Header-Content-Length"])
    return ("right" if body[length:] == asked.expected else "wrong"), "", connection


def _loop(bundle: Bundle, engine: str, feeds: dict[str, str]) -> tuple[float, float]:
    """Inferences a second of a bare loop round the engine, and its processor time for one (ms)."""
    model = bundle.model(bundle_target(engine))
    config = {"files": [str(f) for f in model.files], "threads": 1, "feeds": feeds}
    config["inputs"] = [spec.name for spec in model.inputs]
    script = _LOOP.format(engine=engine, seconds=BARE_S)
    argv = [sys.executable, "-W", "ignore", "-c", script, json.dumps(config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    per_s, cpu_ms = map(float, done.stdout.split()[-2:])
    return per_s, cpu_ms


def _cpu_ms(pid: int) -> float:
    """The processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) * 1e3 / os.sysconf("SC_CLK_TCK")


def _times(server: int) -> dict[str, float]:
    """What all sides have taken so far (ms)."""
    engine_ms = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(server):
                engine_ms += _cpu_ms(int(folder.name))
    sides = {"engine": engine_ms, "server": _cpu_ms(server)}
    return {**sides, "clients": time.process_time() * 1e3}


@contextlib.contextmanager
def serving_bundle(
    bundle: Path, options: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is ready, and its address; told to stop when the block ends."""
    argv = [sys.executable, "-m", "lite_opt.cli.main", "serve", str(bundle), "--port", "0"]
    server = subprocess.Popen([*argv, "--no-grpc", *options], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    address = ""
    with server:
        for line in server.stderr:
            event = json.loads(line)
            address = event.get("address", address)
            if event["event"] == "ready":
                break
        rest = threading.Thread(target=server.stderr.read)
        rest.start()
        try:
            yield server, address
        finally:
            server.terminate()
            rest.join()


def measure(
    path: Path, *, engine: str, clients: int, requests: int, rounds: int, options: Sequence[str]
) -> dict[str, Any]:
    """The figures of the module's docstring."""
    bundle = Bundle.open(path)
    samples = bundle.read_samples() or random_samples(bundle.inputs, image=bundle.image)
    first = {name: f"{path}/{file}" for name, file in bundle.samples[0].feeds.items()}
    model = bundle.model(bundle_target(engine))
    asked = questions(bundle.name, samples, run(model, samples, engine=engine))
    ratios, bare, served = [], [], []
    cpu_ms: dict[str, float] = Counter()
    ends: Counter[str] = Counter()
    latency_ms: list[float] = []
    with serving_bundle(path, ["--engine", engine, *options]) as (server, address):
        for _ in range(rounds):
            per_s, loop_ms = _loop(bundle, engine, first)
            bare.append(per_s)
            before = _times(server.pid)
            outcome = load(address, asked, clients=clients, requests=requests // rounds)
            served.append(sum(outcome.ends.values()) / outcome.wall_s)
            ratios.append(served[-1] / bare[-1])
            cpu_ms["loop"] += loop_ms / rounds
            for side, now in _times(server.pid).items():
                cpu_ms[side] += (now - before[side]) / requests
            ends += outcome.ends
            latency_ms += outcome.latency_ms
            print(f"{bare[-1]:.1f} bare, {served[-1]:.1f} served a second", file=sys.stderr)
    p50, p99 = np.percentile(latency_ms, [50, 99])
    return {
        "bundle": bundle.name,
        "clients": clients,
        "ends": dict(ends),
        "bare_per_s": round(statistics.median(bare), 1),
        "served_per_s": round(statistics.median(served), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ms": {side: round(ms, 2) for side, ms in cpu_ms.items()},
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "p99_of_queue": round(float(p99) / (clients * 1e3 / statistics.median(bare)), 2),
        "exit_code": server.returncode,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="lite")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("options", nargs="*", help="of `paddle-edge serve`, after --")
    print(json.dumps(measure(**{("path" if k == "bundle" else k): v
                                for k, v in vars(parser.parse_args()).items()})))  # fmt: skip


if __name__ == "__main__":
    main()
