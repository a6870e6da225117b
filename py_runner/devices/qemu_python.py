"""An ARM board that is not there, for engines in Python: CPython for ARM under QEMU's user mode.

Engine `onnx` on the devices `qemu-aarch64` and those by name: the same script in an interpreter for
ARM, with NumPy and ONNX Runtime's wheel for ARM, as on a board. What is said of latencies and of
instructions in qemu.py holds here.

Environment:
    PADDLE_EDGE_PYTHON_AARCH64   what armlinux/toolchains/make_python.sh filled
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from py_runner.devices.batches import stage
from py_runner.devices.here import Here
from py_runner.devices.qemu import EMULATOR_BYTES, Emulated, counted
from py_runner.engines import ENGINES
from py_runner.errors import EngineError
from py_runner.files.folder import temporary_folder
from py_runner.formats.run import Run
from py_runner.job import Job, memory_limit
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = ["EmulatedPython"]

_VARIABLE = "PADDLE_EDGE_PYTHON_AARCH64"
_COUNTED = Path(__file__).with_name("counted_child.py")


@dataclass(frozen=True)
class EmulatedPython:
    """The interpreter for ARM on one emulated board."""

    board: Emulated

    def target(self, engine: str) -> str:
        """What `Engine.target` says."""
        return ENGINES[engine].target()

    def missing(self) -> str:
        """What to set or install before it can be emulated here; "" where nothing is missing."""
        try:
            self._interpreter()
            self.board.emulator_argv(None)
        except EngineError as error:
            return str(error)
        return ""

    def parts(
        self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch
    ) -> Generator[Run, None, None]:
        """`inference.parts` here. Errors are those of `Here.parts`, and EngineError in one line
        where something is missing."""
        with temporary_folder() as folder:
            here = Here(tuple(self._argv(folder)), EMULATOR_BYTES)
            for part in here.parts(job, samples, total, watch):
                yield replace(part, machine=f"Linux {self.board.arch}")

    def count_instructions(self, model: Model, sample: Sample) -> int:
        """How many ARM instructions one inference executes, as `Emulated.count_instructions` does,
        the copying by the engine's Python included."""
        engine = next(kind for kind in ENGINES.values() if kind.suffix == model.files[0].suffix)
        with temporary_folder() as temporary:
            folder = temporary.resolve()
            config = {
                "files": [str(file.absolute()) for file in model.files],
                "inputs": [spec.name for spec in model.inputs],
                "threads": 1,
            }
            saved = stage(folder, [replace(sample, id=str(index)) for index in range(3)])
            feeds = [{n: str(folder / file) for n, file in s.feeds.items()} for s in saved]
            job = folder / "job.json"
            document = {"engine": str(engine.script), "config": config, "feeds": feeds}
            job.write_text(json.dumps(document), encoding="utf-8")

            def argv(plugin: str, repeat: int) -> list[str]:
                interpreter = self._argv(folder, plugin=plugin)
                return [*interpreter, str(_COUNTED), str(job), str(repeat)]

            files = [Path(next(iter(names.values()))) for names in feeds]
            return counted(self.board, argv, folder, files, memory_limit(model.files, [sample]))

    def _argv(self, folder: Path, *, plugin: str | None = None) -> list[str]:
        root, interpreter = self._interpreter()
        packages = root / "usr/lib/python3/dist-packages"
        settings = ["-E", f"PYTHONPATH={packages}", "-E", "PYTHONHASHSEED=0"]
        argv = self.board.emulator_argv(folder, plugin=plugin, system=root)
        # Without site: it would find this machine's packages.
        return [*argv, *settings, str(interpreter), "-S"]

    def _interpreter(self) -> tuple[Path, Path]:
        """The folder and the interpreter in it. Raises EngineError, in words."""
        named: Any = os.environ.get(_VARIABLE)
        if not named:
            raise EngineError(
                f"engine onnx on device {self.board.emulator} needs CPython for "
                f"{self.board.arch}: run armlinux/toolchains/make_python.sh FOLDER, and set "
                f"{_VARIABLE} to the folder"
            )
        root = Path(named).absolute()
        found = next(iter(sorted(root.glob("usr/bin/python3.*"))), None)
        if found is None:
            raise EngineError(f"{_VARIABLE}={named}: holds no usr/bin/python3.*")
        return root, found
