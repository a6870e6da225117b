"""Checksums of files, in bounded memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["crc32", "sha256"]


def sha256(*paths: Path) -> str:
    """SHA-256 over the bytes of the files one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        _each_block(path, digest.update)
    return digest.hexdigest()


def crc32(path: Path) -> str:
    """CRC-32 (zlib's) in 8 hexadecimal digits: what a reader without SHA-256 can check."""
    value = 0

    def update(block: memoryview) -> None:
        nonlocal value
        value = zlib.crc32(block, value)

    _each_block(path, update)
    return f"{value:08x}"


def _each_block(path: Path, update: Callable[[memoryview], Any]) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            update(buffer[:count])
