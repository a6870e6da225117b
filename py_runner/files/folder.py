"""Folders that are whole or not there.

At a Url nothing is renamed: what says that a folder is whole is put there last.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from py_runner.errors import UsageError
from py_runner.files.faults import reason
from py_runner.files.url import Place, Url, place

__all__ = [
    "check_free",
    "check_kept",
    "get_folder",
    "put_folder",
    "temporary_folder",
    "whole_file",
    "whole_folder",
]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

_FIRST, _LAST, _LAST_OF_PART = "begun.json", "run.json", "part.json"
_AT_ONCE = 8  # files that are put somewhere side by side
# What bundles, runs, pipelines, their runs, latencies, drawn pictures and the demo's results
# hold: only such folders are ever replaced.
_OURS = ("bundle.json", "run.json", "begun.json", "pipeline.json", "pages.json", "export.json",
         "split.json", "bench.json", ".drawn", "text-direction")  # fmt: skip


def check_free(
    path: str | Place, *, force: bool = False, keep: Iterable[str | Place | None] = ()
) -> None:
    """Raise UsageError where `whole_folder(path)` would: call it before long work, not after.

    `keep` names what is read: overwriting a folder that holds it is refused even with `force`.
    """
    path = place(path)
    if (path.exists() or path.is_symlink()) and not force:
        raise UsageError(f"{path}: exists already; choose another name or pass --force")
    check_kept(path, keep)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file, and a folder is to be written there")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in _OURS):
        raise UsageError(f"{path}: is not a folder that paddle-edge made: choose another name")
    if isinstance(path, Url):
        _check_bucket(path)
        return
    parent = (path.resolve() if path.is_symlink() else path.absolute()).parent
    if not parent.is_dir():
        raise UsageError(f"{path}: there is no folder {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {parent} cannot be written to")


def _check_bucket(url: Url) -> None:
    """Raise UsageError where nothing can be put at a URL, as far as that is known before."""
    if url.read_only:
        raise UsageError(f"{url}: can be read, not written to")
    with suppress(PermissionError):  # to look at it is another right than to write there
        if url.bucket is not None and not url.bucket.exists():
            raise UsageError(f"{url}: there is no bucket {url.bucket}")


def check_kept(path: str | Place, keep: Iterable[str | Place | None]) -> None:
    """Raise UsageError where to overwrite `path` would lose something of `keep`, which is read:
    that is `path` or lies in it, or is a folder of which the file `path` is a part."""
    path = place(path)
    sources = [place(p) for p in keep if p is not None]
    if isinstance(path, Url):
        for source in sources:
            if isinstance(source, Url) and path in (source, *source.parents):
                raise UsageError(f"{path}: holds {source}, which is read; choose another name")
        return
    if not path.exists():
        return
    here = path.resolve()
    for source in (one for one in sources if isinstance(one, Path)):
        if not _is_there(source):  # a preset, or what will be missed soon
            continue
        found = source.resolve()
        if here in (found, *found.parents):
            raise UsageError(f"{path}: holds {found}, which is read; choose another name")
        if found in here.parents and here.is_file():
            raise UsageError(f"{path}: lies in {source}, which is read; choose another name")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text too long for a name
        return False


@contextmanager
def temporary_folder(
    prefix: str = "paddle-edge-", parent: str | Path | None = None
) -> Iterator[Path]:
    """A new private folder that is gone when the block ends, however it ends but by `kill -9`."""
    # Named before it is made: a signal that raises in the instant between leaves nothing behind.
    path = Path(parent or tempfile.gettempdir(), prefix + secrets.token_hex(8))
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def whole_folder(
    path: str | Place, *, force: bool = False, kept: tuple[str, str] | None = None
) -> Iterator[Path]:
    """A new empty folder beside `path` that takes its name when the block ends without an error.

    A reader therefore sees the old folder or the whole new one, never a part. After an error
    nothing new is left, and the old folder is as it was; after `kill -9` a folder named
    `.<name>.partial-...` may be, which no reader takes for a whole one. A link to a folder stays:
    what it leads to is replaced. `kept` is what of the old folder stays, and its name in the new
    one: (".", "before") is all of it. Raises UsageError where it cannot be written.

    A folder at a Url is made here and then put there: see `put_folder`. With `kept` all that is
    there stays where it is.
    """
    path = place(path)
    check_free(path, force=force)
    try:
        if isinstance(path, Url):
            with temporary_folder() as made:
                yield made
                put_folder(made, path, replace=kept is None)
            return
        target = path.resolve() if path.is_symlink() else path
        with temporary_folder(f".{target.name}.partial-", target.absolute().parent) as partial:
            partial.chmod(0o777 & ~_umask())  # a bundle is to be shared
            yield partial
            if target.exists():
                _swap(partial, target)  # what is old goes with the temporary folder
                if kept is not None and (partial / kept[0]).exists():
                    (partial / kept[0]).rename(target / kept[1])
            else:
                partial.rename(target)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {reason(error)}") from error


def put_folder(folder: Path, url: Url, *, replace: bool = False) -> None:
    """Have the files of a folder at a URL. What says that something is under way comes first, and
    what says that it is whole last; with `replace` other files there go. Raises OSError."""
    new = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    old = set(url.names()) if replace else set()
    if _FIRST not in old:  # which tells readers all the same
        url.remove(sorted(old & {_LAST}))

    def put(name: str) -> None:
        (url / name).put(folder / name)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for rank in range(4):
            list(pool.map(put, [name for name in new if _rank(name) == rank]))
    left = old - set(new)
    url.remove(sorted(left & {_FIRST}))
    url.remove(sorted(left - {_FIRST}))


def get_folder(url: Url, folder: Path) -> None:
    """Have the files at a URL in a folder. Raises OSError."""

    def get(name: str) -> None:
        (url / name).get(folder / name)

    names = url.names()
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(get, names))


def _rank(name: str) -> int:
    """When a file is put."""
    if Path(name).name == _LAST_OF_PART:
        return 3
    return {_FIRST: 0, _LAST: 2}.get(name, 1)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A new file to write, which takes the name `path` when the block ends without an error.

    A link stays: what it leads to is replaced. What is no file (`/dev/stdout`) is written to as it
    is. Raises UsageError where it cannot be written; what was there is then as it was.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        place = path.resolve()
        partial = place.with_name(f".{place.name}.partial-{secrets.token_hex(8)}")
        try:
            with partial.open("xb") as file:
                yield file
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {reason(error)}") from error


def _swap(new: Path, old: Path) -> None:
    """Let two folders change their names: at once where the system can, else one by one, and back
    again where the second step fails."""
    if _exchanged(new, old):
        return
    aside = new.with_name(new.name + ".old")
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    aside.rename(new)


def _exchanged(a: Path, b: Path) -> bool:
    """Whether Linux has exchanged the two names; False where it, or the file system, cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done = rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    return bool(done == 0)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
