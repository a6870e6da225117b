"""Checksums of files, whole and while they are written."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np

from py_runner.files.checksum import Checksums, sha256


def test_checksums_of_a_file_that_grows_are_those_of_the_whole(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    path = tmp_path / "growing"
    checksums = Checksums(path).read_on()  # not there yet
    assert (checksums.bytes, checksums.crc32) == (0, "00000000")
    with path.open("wb", buffering=0) as file:
        for start, end in ((0, 0), (0, 1), (1, 4096), (4096, 1_000_000), (1_000_000, len(data))):
            file.write(data[start:end])
            assert checksums.read_on().bytes == end
            assert checksums.sha256 == hashlib.sha256(data[:end]).hexdigest()
    assert checksums.read_on().crc32 == f"{zlib.crc32(data):08x}"
    assert checksums.sha256 == sha256(path)


def test_files_one_after_the_other_are_as_one(tmp_path: Path) -> None:
    parts = tmp_path / "a", tmp_path / "b"
    for path, data in zip(parts, (b"ab" * 700_000, b"c")):
        path.write_bytes(data)
    whole = b"".join(path.read_bytes() for path in parts)
    assert sha256(*parts) == hashlib.sha256(whole).hexdigest()
