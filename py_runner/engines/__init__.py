"""The engines: what each takes, where it runs, and what is missing; one file each.

That file is loaded by serve.py in a child process, often under another interpreter: its top level
imports the standard library only, and `open_session(config)` is what serve.py calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from py_runner.engines import lite, native, onnx, paddle

__all__ = ["ENGINES", "Engine"]


@dataclass(frozen=True)
class Engine:
    """One engine.

    suffix     of the file of a bundle that it runs: ".nb", ".onnx"; "" where it runs what Paddle
               saved
    devices    a pattern of the devices of this machine that it runs on, and the same in words
    script     the file that serve.py loads
    python     the interpreter to run that with; raises EngineError where there is none
    env        variables that it is started with
    explain    what an engine's last words mean where it did not start, in words for a person
    target     which of a bundle's models it runs on this machine: "arm", "x86" or "onnx"
    """

    name: str
    suffix: str
    devices: tuple[str, str]
    script: Path
    python: Callable[[], str] = lambda: sys.executable
    env: Callable[[], dict[str, str]] = dict
    explain: Callable[[str], str] = lambda text: text
    target: Callable[[], str] = lambda: "x86"


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            "lite",
            suffix=".nb",
            devices=("cpu", "cpu only"),
            script=Path(lite.__file__),
            python=lite.interpreter,
            explain=lite.explain,
        ),
        Engine(
            "native",
            suffix=".nb",
            devices=("cpu", "cpu"),
            script=Path(native.__file__),
            env=native.environment,
            target=native.target,
        ),
        Engine(
            "onnx",
            suffix=".onnx",
            devices=("cpu", "cpu"),
            script=Path(onnx.__file__),
            target=lambda: "onnx",
        ),
        Engine(
            "paddle",
            suffix="",
            devices=(r"cpu(\+onednn)?|gpu(:[0-9]+)?", "cpu, cpu+onednn, gpu or gpu:N"),
            script=Path(paddle.__file__),
        ),
    )
}
