"""Files that are read in places, many of them at once: few are open, or read ahead, at a time.

They are read, not mapped: pages that are mapped count as memory of the process, and a file that
becomes shorter would end it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import BinaryIO

from py_runner.errors import ModelError
from py_runner.files.ranges import Ranges
from py_runner.files.regular import open_regular
from py_runner.files.url import Place, Url

__all__ = ["PlacedFile"]

_MOST_OPEN = 64
_COPY = 1 << 20


class PlacedFile:
    """A regular file. What is read later is what was opened: a file that was removed since is read
    all the same as long as it is among the last ones used, and another one in its place is told.

    Raises OSError as `open_regular` does.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._ranges = Ranges(path) if isinstance(path, Url) else None
        if self._ranges is not None:
            self._known = 0, 0, self._ranges.size, 0
            return
        with _LOCK:
            self._known = self._opened()

    @property
    def size(self) -> int:
        """Bytes that it had when it was opened."""
        return self._known[2]

    def read(self, start: int, count: int) -> bytes:
        """So many bytes from a place on, fewer at its end. Raises ModelError where it was changed
        since it was opened, OSError where it cannot be read."""
        with _LOCK:
            if self._ranges is not None:
                self._use()
                return self._ranges.read_at(start, count)
            if self._descriptor is None:
                if self._opened() != self._known:
                    self._close()
                    raise ModelError(f"{self.path}: was changed while it was read: start again")
            else:
                self._use()
            assert self._descriptor is not None
            return os.pread(self._descriptor, count, start)

    def copy(self, start: int, stop: int, to: BinaryIO) -> None:
        """Write the bytes between two places to another file. Raises as `read`, and ModelError
        where there are fewer."""
        while start < stop:
            block = self.read(start, min(_COPY, stop - start))
            if not block:
                raise ModelError(f"{self.path}: became shorter while it was read: start again")
            to.write(block)
            start += len(block)

    def _opened(self) -> tuple[int, int, int, int]:
        with open_regular(self.path) as file:
            self._descriptor = os.dup(file.fileno())
        self._use()
        about = os.fstat(self._descriptor)
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns

    def _use(self) -> None:
        """Be the one that was used last; the one that was not for longest is closed."""
        _USED[id(self)] = weakref.ref(self)
        _USED.move_to_end(id(self))
        while len(_USED) > _MOST_OPEN:
            oldest = _USED.popitem(last=False)[1]()
            if oldest is not None:
                oldest._close()

    def _close(self) -> None:
        if self._ranges is not None:
            self._ranges.forget()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None or getattr(self, "_ranges", None):
            _USED.pop(id(self), None)
            self._close()


_LOCK = threading.RLock()
_USED: OrderedDict[int, weakref.ref[PlacedFile]] = OrderedDict()
