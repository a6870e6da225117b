"""Unpacks archives that somebody may have made to do harm."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from py_runner.errors import EngineError

__all__ = ["unpack"]

_BLOCK_BYTES = 1 << 18
# The largest official archives are some tens of MB; these only stop what cannot be one.
_MAX_UNPACKED_BYTES = 2 << 30
_MAX_MEMBERS = 50_000
_MAX_READ_BYTES = 1 << 24


def unpack(archive: Path, into: Path, *, source: str | Path) -> None:
    """Unpack a .tar.gz into the new folder `into`. Raises EngineError that names `source`.

    Only files, folders and links that stay inside are made, and links last, so that nothing is
    written through one. This is our own loop because tarfile's filters are not in every Python
    3.9 to 3.11 and set no bounds; it uses tarfile to read only.
    """
    try:
        into.mkdir()
        with _BoundedGzip(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            _unpack_members(tar, into)
            while stream.read(_BLOCK_BYTES):  # to the end, where gzip's checksum is
                pass
    except _HostileError as error:
        raise EngineError(f"{source}: refused: {error}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = Path(error.filename2 or error.filename).relative_to(into)
        raise EngineError(f"{source}: refused: {str(name)!a} is there twice") from None
    except gzip.BadGzipFile:
        raise EngineError(f"{source}: is no .tar.gz archive, or damaged") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError):
        raise EngineError(f"{source}: the archive is damaged or not whole") from None


def _unpack_members(tar: tarfile.TarFile, into: Path) -> None:
    links: list[tuple[Path, str]] = []
    size = 0
    for count, member in enumerate(tar):
        size += max(member.size, 0)
        if count >= _MAX_MEMBERS or size > _MAX_UNPACKED_BYTES or member.size < 0:
            raise _HostileError("it unpacks to more than an SDK can hold")
        path = _inside(into, member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.isreg():
            with path.open("xb") as out:
                shutil.copyfileobj(_content(tar, member), out)
            path.chmod(0o755 if member.mode & 0o100 else 0o644)
        elif member.issym():
            links.append((path, member.linkname))
        elif member.islnk():
            target = _inside(into, member.linkname)
            if not target.is_file():
                raise _HostileError(f"{member.name!a} is a link to {member.linkname!a}")
            os.link(target, path)
        else:
            raise _HostileError(f"{member.name!a} is neither a file nor a folder")
    for path, target_name in links:
        if not target_name:
            raise _HostileError(f"{str(path.relative_to(into))!a} is a link to {target_name!a}")
        path.symlink_to(target_name)
    for path, target_name in links:
        try:
            path.resolve().relative_to(into.resolve())
        except (ValueError, OSError, RuntimeError):  # outside, or in a circle
            name = str(path.relative_to(into))
            raise _HostileError(f"{name!a} is a link to {target_name!a}") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError
    return content


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise _HostileError(f"{name!a} leads out of the archive")
    return folder / pure


class _BoundedGzip(gzip.GzipFile):
    """Refuses what grows beyond all bounds.

    Also a single large read: a header may claim a name of gigabytes, which tarfile would hold in
    memory.
    """

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ_BYTES or self.tell() > _MAX_UNPACKED_BYTES:
            raise _HostileError("it unpacks to more than an SDK can hold")
        return super().read(size)


class _HostileError(Exception):
    """An archive that no honest tool has made."""
