"""How this process deals with memory that it has freed."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_MOST = 32 << 20  # bytes: more is not taken


def keep_freed() -> None:
    """Keep what was freed for the next array of the same size, up to some MB.

    glibc gives the end of its heap back to the system at once and asks for it again; where samples
    are gone through one by one, and each makes arrays of some hundred KB, that is half of the time.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # glibc's
        set_option(_MMAP_THRESHOLD, _MOST)
        set_option(_TRIM_THRESHOLD, _MOST)
