"""Why the system refuses to read or write, in words for a person."""

from __future__ import annotations

import errno

__all__ = ["is_full", "reason"]

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def is_full(error: OSError) -> bool:
    """Whether there was no more room on a disk."""
    return error.errno in _FULL


def reason(error: OSError) -> str:
    """What an OSError says, without the number and the name of the file."""
    if is_full(error):
        return "the disk is full: make room and try again"
    return error.strerror or str(error)
