"""Checksums of files, in bounded memory."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from contextlib import suppress
from pathlib import Path

from py_runner.files.regular import open_regular

__all__ = ["Checksums", "sha256"]


class Checksums:
    """SHA-256 and CRC-32 of a file that may still grow, by a writer that goes from front to back.

    Both are in hexadecimal, of the first `bytes` bytes: what `read_on` has seen. CRC-32 (zlib's, 8
    digits) is for a reader without SHA-256.
    """

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self._path, self._sha256, self._crc32 = path, hashlib.sha256(), 0

    def read_on(self) -> Checksums:
        """Take in what is there since the last call; a file that is not there yet has nothing."""
        with suppress(FileNotFoundError), open_regular(self._path) as file:
            size = os.fstat(file.fileno()).st_size
            start = self.bytes - self.bytes % mmap.ALLOCATIONGRANULARITY
            # Mapped, because a reader keeps the writer waiting.
            if size > self.bytes:
                with (
                    mmap.mmap(
                        file.fileno(), size - start, access=mmap.ACCESS_READ, offset=start
                    ) as data,
                    memoryview(data) as view,
                    view[self.bytes - start :] as new,
                ):
                    self._sha256.update(new)
                    self._crc32 = zlib.crc32(new, self._crc32)
                self.bytes = size
        return self

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def crc32(self) -> str:
        return f"{self._crc32:08x}"


def sha256(*paths: Path) -> str:
    """SHA-256 over the bytes of the files one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    for path in paths:
        with open_regular(path) as stream:
            while count := stream.readinto(buffer):  # type: ignore[attr-defined]
                digest.update(buffer[:count])
    return digest.hexdigest()
