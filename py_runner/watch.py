"""Whoever waits for long work, and what it is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["QUIET", "Watch"]


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Three functions that long work calls; those left out do nothing.

    say   a line of text at each step
    step  how far the work has come: what is done ("calibrating"), how many are, and of how many, or
          None where that is not known
    warn  what speaks against a result without forbidding it, as a line of text
    """

    say: Callable[[str], None] = _nothing
    step: Callable[[str, int, int | None], None] = _nothing
    warn: Callable[[str], None] = _nothing


QUIET = Watch()
