"""A server in a process of its own, for tests, with what its log says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any


class Serving:
    """`paddle-edge serve` on free ports. Use as a context manager: leaving stops it.

    `wait` is the event of its log that has to come first, "listening" or "ready" (of each model).
    """

    def __init__(self, *arguments: object, wait: str = "ready", models: int = 1) -> None:
        ports = ["--port", "0", "--grpc-port", "0"]
        argv = [sys.executable, "-m", "lite_opt.cli.main", "serve", *map(str, arguments), *ports]
        self.process = subprocess.Popen(
            [*argv, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait, self._models = wait, models
        self.http = self.grpc = ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._told:
                self.lines.append(line)
                self._told.notify_all()
        with self._told:
            self.lines.append("")  # the end
            self._told.notify_all()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name in its log, in order."""
        with self._told:
            found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def await_event(self, name: str, count: int = 1, within_s: float = 120) -> None:
        def there() -> bool:
            return len(self.events(name)) >= count or self.lines[-1:] == [""]

        with self._told:
            in_time = self._told.wait_for(there, within_s)
        assert in_time and len(self.events(name)) >= count, (name, self.lines[-20:])

    def ask(
        self, path: str, body: Any = None, *, timeout: float = 60, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (of JSON if it is) and headers of a request; a dict is sent as JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            named = {"Content-Type": "application/json", **named}
        elif body is not None:
            named = {"Content-Type": "application/octet-stream", **named}
        request = urllib.request.Request(self.http + path, body, named)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, _json(answer.read()), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read()), dict(error.headers)

    def engines(self, engine: str = "lite.py") -> list[int]:
        """The process ids of its engines."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                line = (folder / "cmdline").read_text()
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and engine in line:
                found.append(int(folder.name))
        return sorted(found)

    def memory_bytes(self) -> int:
        """What it holds in memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line[:6] == "VmRSS:"
        )

    def stop(self, within_s: float = 60) -> tuple[int, dict[str, Any]]:
        """Send SIGTERM; returns the exit code and what was printed."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(within_s)

    def ended(self, within_s: float = 60) -> tuple[int, dict[str, Any]]:
        """Its exit code and what it printed, when it has ended."""
        code = self.process.wait(within_s)
        self._reader.join()
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        return code, json.loads(text) if text else {}

    def __enter__(self) -> Serving:
        try:
            self.await_event("listening")
            about = self.events("listening")[0]
            self.http, self.grpc = about["address"], about["grpc"]
            if self._wait == "ready":
                self.await_event("ready", self._models)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.engines(".py"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # a test may have stopped it
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def wait_until(condition: Any, within_s: float = 60) -> None:
    """Look until it is so."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
