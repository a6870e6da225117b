"""Engine lite uses the threads that it is told to: its library itself is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from py_runner.formats.bundle import Bundle

ASK = """
import ctypes, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from py_runner.engines import lite
session = lite.open_session({{"files": [{file!r}], "inputs": ["x"], "threads": {threads}}})
libraries = Path(session._lite.__file__).with_name("libs")
print(ctypes.CDLL(str(libraries / "libmklml_intel.so")).MKL_Get_Max_Threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_reach_the_library(threads: int, bundle: Path) -> None:
    file = Bundle.open(bundle).model("x86").files[0]
    root = str(Path(__file__).parents[1])
    script = ASK.format(root=root, file=str(file), threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout.split()[-1]) == threads
