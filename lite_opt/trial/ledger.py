"""What steps of long work came to, and what each was made of: so that none is done twice.

A ledger is a file in the folder that holds the results: `trial.json`, `matrix.json`. A step counts
as done where it was made of the same things, and its result lies there as it was left.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py_runner.errors import UsageError
from py_runner.files import regular
from py_runner.files.checksum import sha256
from py_runner.files.faults import reason
from py_runner.files.folder import whole_file

__all__ = ["Ledger", "made_of"]

_FORMAT = 1


def made_of(**things: Any) -> str:
    """A checksum of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(things, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """The steps that are done in a folder, as the file of that name there has them. Raises
    UsageError for a folder that holds other things, or cannot be written to."""

    def __init__(self, folder: Path, name: str = "trial.json") -> None:
        self.folder = folder
        self._file = folder / name
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, and a folder is to be written there")
        shown = [p for p in folder.iterdir() if p.name[0] != "."] if folder.exists() else []
        if shown and not self._file.exists():
            raise UsageError(f"{folder}: holds other things: choose another name")
        if not folder.exists() and not folder.absolute().parent.is_dir():
            raise UsageError(f"{folder}: there is no folder {folder.absolute().parent}")
        self._steps: dict[str, dict[str, Any]] = {}
        # A ledger that cannot be read says nothing: then all is done anew.
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(regular.read_bytes(self._file))
            if document["format"] == _FORMAT:
                self._steps = {str(name): dict(step) for name, step in document["steps"].items()}

    def done(self, name: str, of: str) -> Mapping[str, Any] | None:
        """What was kept of the step, if it was made of the same and its file is as it was."""
        step = self._steps.get(name)
        if step is None or step.get("of") != of:
            return None
        if "file" in step:
            try:
                if sha256(self.folder / step["file"]) != step.get("sha256"):
                    return None
            except OSError:
                return None
        return step

    def clear(self, *names: str) -> None:
        """Let nothing lie at these names, whole or damaged: what is made anew takes them."""
        for name in names:
            self._steps.pop(name, None)
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def keep(self, name: str, of: str, *, file: str = "", **told: Any) -> Mapping[str, Any]:
        """Write down that the step is done: its `file`, relative to the folder, which comes last of
        what it makes, or what else there is to tell."""
        step: dict[str, Any] = {"of": of, **told}
        if file:
            step |= {"file": file, "sha256": sha256(self.folder / file)}
        self._steps[name] = step
        self._write()
        return step

    def _write(self) -> None:
        with whole_file(self._file) as file:
            document = {"format": _FORMAT, "steps": self._steps}
            file.write(json.dumps(document, indent=1).encode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder is made, and is this process's alone, as long as the block lasts; what a
        killed one left half-written is gone. Raises UsageError where another works in it."""
        try:
            self.folder.mkdir(exist_ok=True)
            lock = (self.folder / ".lock").open("wb")
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written: {reason(error)}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.folder}: another process is at work in it") from None
            for partial in [*self.folder.rglob(".*.partial-*")]:
                if partial.is_dir():
                    shutil.rmtree(partial, ignore_errors=True)
                else:
                    partial.unlink()
            self._write()
            yield
