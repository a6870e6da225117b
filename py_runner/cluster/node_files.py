"""Files that several processes of a machine need: unpacked once, and gone with the last of them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from py_runner.cluster.task import unpack
from py_runner.errors import EngineError
from py_runner.files.folder import temporary_folder
from py_runner.files.regular import open_regular

__all__ = ["NodeFiles"]

_HELD = ".held"


class NodeFiles:
    """What was packed, in `folder`, which is called after its checksum. Closing lets go of it: the
    last one removes it. What processes left that were killed goes when the next one comes.

    Raises EngineError where somebody else's folder is in the place.
    """

    def __init__(self, packed: bytes, sha256: str) -> None:
        self._root = Path(tempfile.gettempdir(), f"paddle-edge-node-{os.getuid()}")
        self.folder = self._root / sha256
        with self._alone():
            for other in self._root.iterdir():
                if other.is_dir() and other != self.folder:
                    _remove_unless_held(other)
            if not self.folder.exists():
                with temporary_folder(".partial-", self._root) as partial:
                    unpack(packed, partial)
                    (partial / _HELD).touch()
                    partial.rename(self.folder)
            self._held = open_regular(self.folder / _HELD)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go of it. Closing twice is fine."""
        if self._held.closed:
            return
        with self._alone():
            self._held.close()
            _remove_unless_held(self.folder)
            if [path.name for path in self._root.iterdir()] == ["lock"]:
                shutil.rmtree(self._root)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of ours is in the block."""
        lock = self._root / "lock"
        while True:
            self._root.mkdir(mode=0o700, exist_ok=True)
            about = self._root.lstat()
            if about.st_uid != os.getuid() or self._root.is_symlink():
                raise EngineError(f"{self._root}: belongs to another user")
            with suppress(FileNotFoundError):  # the last one has just removed it
                lock.touch()
                with open_regular(lock) as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    if os.fstat(file.fileno()).st_ino == lock.stat().st_ino:
                        yield
                        return


def _remove_unless_held(folder: Path) -> None:
    with suppress(OSError), open_regular(folder / _HELD) as file:  # it is held, or gone
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
