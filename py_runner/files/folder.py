"""Folders that are whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from py_runner.errors import UsageError

__all__ = ["check_free", "temporary_folder", "whole_folder"]

# What a bundle, a run and the demo's results hold: only such folders are ever replaced.
_OURS = ("bundle.json", "run.json", "text-direction")


def check_free(
    path: str | Path, *, force: bool = False, keep: Iterable[str | Path | None] = ()
) -> None:
    """Raise UsageError where `whole_folder(path)` would: call it before long work, not after.

    `keep` names what is read: overwriting a folder that holds it is refused even with `force`.
    """
    path = Path(path)
    if (path.exists() or path.is_symlink()) and not force:
        raise UsageError(f"{path}: exists already; choose another name or pass --force")
    for source in (Path(p).resolve() for p in keep if p is not None):
        if path.resolve() in (source, *source.parents) and path.exists():
            raise UsageError(f"{path}: holds {source}, which is read; choose another name")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file, and a folder is to be written there")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in _OURS):
        raise UsageError(f"{path}: is not a folder that paddle-edge made: choose another name")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"{path}: there is no folder {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {parent} cannot be written to")


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
def whole_folder(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A new empty folder beside `path` that takes its name when the block ends without an error.

    A reader therefore sees the old folder or the whole new one, never a part. After an error
    nothing is left; after `kill -9` a folder named `.<name>.partial-...` may be, which no reader
    takes for a whole one.
    """
    path = Path(path)
    check_free(path, force=force)
    try:
        with temporary_folder(f".{path.name}.partial-", path.absolute().parent) as partial:
            partial.chmod(0o777 & ~_umask())  # a bundle is to be shared
            yield partial
            old = None
            if path.exists():
                old = partial.with_name(partial.name + ".old")
                path.rename(old)
            partial.rename(path)
            if old is not None:
                shutil.rmtree(old)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
