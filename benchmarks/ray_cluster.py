"""A Ray cluster on this machine, for tests and benchmarks: raylets that are processes of their own.

As a script it is the cluster's parent: it adds and removes nodes as its standard input says.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

_LIMIT_S = 90.0  # for a node to be there
_LINES, _BYTES = 6, 20_000  # of each log that is told


class Cluster:
    """A head without CPUs, and nodes of one CPU each. Use as a context manager: leaving kills every
    process of it, whatever they are at, and removes its files.

    `client` is its address from far away, `address` that of one that is on this machine; `folder`
    has what its processes leave for a while.
    """

    def __init__(self, *, niceness: int = 0) -> None:
        # Short: sockets are in there, whose paths have a most.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._mark = f"RAY_TMPDIR={self.folder}"
        settings = {
            "RAY_TMPDIR": str(self.folder),
            "TMPDIR": str(self.folder),
            "RAY_worker_niceness": str(niceness),  # Ray has its workers yield to all others
            "RAY_USAGE_STATS_ENABLED": "0",
            # As in `ray_driver`, for the process that a client from far away has on the head.
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "GRPC_ENABLE_FORK_SUPPORT": "0",  # which now and then kills what forks under load
        }
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **settings}, start_new_session=True,
        )  # fmt: skip
        try:
            found = self._said()
        except BaseException:
            self.close()
            raise
        self._nodes = 0
        self.address, self.client = found["address"], found["client"]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def have(self, number: int) -> None:
        """Have so many nodes: some join it, one after the other, or the last ones are killed."""
        for _ in range(self._nodes, number):
            self._tell("add")
        for _ in range(number, self._nodes):
            self._tell("kill")
        self._nodes = number

    def pids(self, word: str = "") -> list[int]:
        """The processes of it that have a word in their command line."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                settings = (folder / "environ").read_bytes().split(b"\0")
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it is gone, or not ours
                continue
            if line and self._mark.encode() in settings and word in line:
                found.append(int(folder.name))
        return found

    def logs(self) -> str:
        """The last lines that its processes wrote."""
        told = [f"== processes: {len(self.pids())}"]
        for log in sorted(self.folder.glob("ray/session_2*/logs/*")):
            if log.suffix == ".err" or log.name.startswith(("raylet", "gcs_server", "runtime_env")):
                text = log.read_bytes()[-_BYTES:].decode("utf-8", "replace")
                lines = text.splitlines()[-_LINES:]
                told += [f"== {log.name}", *lines] if lines else []
        return "\n".join(told)

    def close(self) -> None:
        """Kill all. Closing twice is fine."""
        until_s = time.monotonic() + _LIMIT_S
        while (left := self.pids()) and time.monotonic() < until_s:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._parent.poll()
            time.sleep(0.05)
        self._parent.kill()
        self._parent.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)
        if left:
            raise RuntimeError(f"processes of the cluster are left: {left}")

    def _tell(self, word: str) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(word + "\n")
        self._parent.stdin.flush()
        self._said()

    def _said(self) -> dict[str, str]:
        """What the parent says when it has done what it was told."""
        assert self._parent.stdout is not None
        ready, _, _ = select.select([self._parent.stdout], [], [], _LIMIT_S)
        line = self._parent.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"the cluster does not come up:\n{self.logs()}")
        said: dict[str, str] = json.loads(line)
        return said


def main() -> None:
    """Be the parent."""
    import ray.cluster_utils

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    memory = {"object_store_memory": 80 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": port, **memory}
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    say = {"address": cluster.address, "client": f"ray://127.0.0.1:{port}"}
    answers, sys.stdout = sys.stdout, sys.stderr
    nodes = []
    print(json.dumps(say), file=answers, flush=True)
    for line in sys.stdin:
        if line == "add\n":
            nodes.append(cluster.add_node(num_cpus=1, **memory))
        else:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("{}", file=answers, flush=True)


if __name__ == "__main__":
    main()
