"""Where a history lies."""

from __future__ import annotations

from pathlib import Path

__all__ = ["file_of"]

_NAME = "history.sqlite"


def file_of(path: str | Path) -> Path:
    """The file of a history: the path itself, or in a folder."""
    return Path(path) / _NAME if Path(path).is_dir() else Path(path)
