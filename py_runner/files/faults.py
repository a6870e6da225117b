"""Why the system refuses to read or write, in words for a person."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["check_room", "is_full", "reason"]

_ROOM_BYTES = 1 << 16

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def is_full(error: OSError) -> bool:
    """Whether there was no more room on a disk."""
    return error.errno in _FULL


def reason(error: OSError) -> str:
    """What an OSError says, without the number and the name of the file."""
    if is_full(error):
        return f"the disk is full: make room, there and in {tempfile.gettempdir()}, and try again"
    return error.strerror or str(error)


def check_room(folder: Path) -> None:
    """Raise OSError where a disk is full: asked when something that writes there has failed."""
    if shutil.disk_usage(folder).free < _ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
