"""Files as they are read: only regular ones are opened, a pipe or a device can block for ever. What
is at a Url is read as a file is.

Whatever this kit reads, it opens here; tests/test_architecture.py sees to it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from py_runner.files.ranges import Ranges
from py_runner.files.url import Url

__all__ = ["load_array", "open_regular", "read_bytes", "read_text", "save_array", "to_disk"]

# A name of the system's that other systems lack: there, a pipe is found by its kind alone.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_MANY = 32  # files that are brought to the disk one by one


def open_regular(path: str | os.PathLike[str] | Url) -> BinaryIO:
    """The file at `path`, or at the end of its links, for reading.

    Raises OSError, which names it; also where it is a folder, a pipe, a socket or a device.
    """
    if isinstance(path, Url):
        return io.BufferedReader(Ranges(path))
    descriptor, _ = _opened(path)
    try:
        return open(descriptor, "rb")  # noqa: PTH123  a descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _opened(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A descriptor of a regular file, and how long the file is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(path) from None
        raise
    try:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(about.st_mode):
            raise _not_regular(path)
        return descriptor, about.st_size
    except BaseException:
        os.close(descriptor)
        raise


def _not_regular(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "is a pipe, a socket or a device, not a file", os.fspath(path))


def read_bytes(path: str | os.PathLike[str] | Url) -> bytes:
    """All of a regular file. Errors are those of `open_regular`."""
    if isinstance(path, Url):
        return path.read()
    descriptor, size = _opened(path)
    try:
        parts = [os.read(descriptor, size + 1)]
        while parts[-1]:
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_text(path: str | os.PathLike[str] | Url, encoding: str = "utf-8") -> str:
    """The text of a regular file, with "\\n" at the ends of lines, whatever it has there.

    Raises UnicodeDecodeError where it is not of that encoding, else as `open_regular`.
    """
    return read_bytes(path).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def load_array(path: str | os.PathLike[str], *, mapped: bool = False) -> npt.NDArray[Any]:
    """The array of a `.npy` file, which stays on disk where it is `mapped`.

    Raises ValueError for another file, else as `open_regular`.
    """
    with open_regular(path) as file:
        if file.read(6) != b"\x93NUMPY":  # np.load would take it for a pickle, and say so
            raise ValueError("it does not begin like a .npy file")
        file.seek(0)
        if mapped:
            array: npt.NDArray[Any] = np.load(Path(path), mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(file, allow_pickle=False)
    return array


def save_array(path: str | os.PathLike[str], array: npt.NDArray[Any]) -> None:
    """Write a `.npy` file. Raises OSError that says why not; np.save does not know a full disk."""
    plain = np.asarray(array, order="C")
    with Path(path).open("wb") as file:
        form: Any = np.lib.format
        form.write_array_header_1_0(file, form.header_data_from_array_1_0(plain))
        if plain.size:
            file.write(plain.reshape(-1).view(np.uint8).data)


def to_disk(*paths: Path) -> None:
    """Wait until files, and the names in folders, are on the disk."""
    if len(paths) > _MANY:
        os.sync()  # takes as long as a few of them
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
