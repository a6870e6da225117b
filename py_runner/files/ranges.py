"""A file at a URL, read in places and from front to back."""

from __future__ import annotations

import io
import os
from typing import Any

from py_runner.files.url import Url

__all__ = ["Ranges"]

_AHEAD = 1 << 20  # bytes that are fetched where a file is read from front to back


class Ranges(io.RawIOBase):
    """A file at a URL that is read in places, and ahead of whoever goes through it; also a stream
    of its bytes. Raises OSError."""

    def __init__(self, url: Url) -> None:
        self.url, self.size = url, url.size()
        self._start, self._held, self._at = 0, b"", 0

    def read_at(self, start: int, count: int) -> bytes:
        """So many bytes from a place on, fewer at its end."""
        end = max(start, min(start + count, self.size))
        held_to = self._start + len(self._held)
        if end > start and not (self._start <= start and end <= held_to):
            on = self._start <= start <= held_to
            self._held = self.url.read(start, min(self.size, max(end, start + on * _AHEAD)))
            self._start = start
        return self._held[start - self._start : end - self._start] if end > start else b""

    def forget(self) -> None:
        """Let go of what was read ahead."""
        self._start, self._held = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
