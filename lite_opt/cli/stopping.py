"""Ctrl-C and SIGTERM as a wish to stop, for commands that can keep what they have done."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lite_opt.cli.output import say
from py_runner.errors import StoppedError

__all__ = ["Wish", "stopping"]

_SAME_S = 0.5  # `timeout` and a terminal can tell a process twice


class Wish:
    """Whether somebody wishes the command to stop, and by which signal."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._told_s = 0.0
        self._before = {int(number): signal.getsignal(number) for number in _SIGNALS}

    def __call__(self) -> bool:
        return self._signal is not None

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler: the second signal ends the process as if there were none."""
        if self._signal is None:
            self._signal, self._told_s = number, time.monotonic()
            say("stopping after what is at work; once more to end at once")
        elif time.monotonic() - self._told_s > _SAME_S:
            before = self._before[number]
            if callable(before):
                before(number, frame)

    @property
    def exit_code(self) -> int:
        return 128 + (self._signal or signal.SIGINT)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping() -> Iterator[Wish]:
    """A wish that becomes true with the first signal, as long as the block lasts. The exit code of
    a StoppedError that leaves it is that of the signal."""
    wish = Wish()
    before = {number: signal.signal(number, wish.hear) for number in _SIGNALS}
    try:
        yield wish
    except StoppedError as error:
        error.exit_code = wish.exit_code
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
