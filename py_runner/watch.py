"""Whoever waits for long work, and what it is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["QUIET", "Watch"]


def _nothing(*_: Any) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Watch:
    """Functions that long work calls; those left out do nothing.

    say   a line of text at each step
    step  how far the work has come: what is done ("calibrating"), how many are, and of how many, or
          None where that is not known
    state how that work stands beside, in words that take the place of those before
    warn  what speaks against a result without forbidding it, as a line of text
    enough  asked between steps, whether to end early with what is done; for work that can
    """

    say: Callable[[str], None] = _nothing
    step: Callable[[str, int, int | None], None] = _nothing
    state: Callable[[str], None] = _nothing
    warn: Callable[[str], None] = _nothing
    enough: Callable[[], bool] = _never


QUIET = Watch()
