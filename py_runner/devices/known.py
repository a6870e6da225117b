"""The devices that a user has: in a list of their own, in ssh's configuration, attached by adb."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from py_runner.devices import adb
from py_runner.devices.ssh import CONFIG_VARIABLE, SCHEME
from py_runner.devices.url import address
from py_runner.errors import EngineError, UsageError
from py_runner.files.regular import read_text

__all__ = ["DEVICES_VARIABLE", "Known", "known"]

DEVICES_VARIABLE = "PADDLE_EDGE_DEVICES"


@dataclass(frozen=True)
class Known:
    """A device's URL, and the file that names it; of adb's, the state that it tells."""

    url: str
    named_in: str


def known() -> list[Known]:
    """Those of the list, then the hosts of ssh's configuration, then what adb knows, where it is.

    Raises UsageError for a list that is named and not there, or holds what is no device.
    """
    found = [*_listed(), *_configured(), *_attached()]
    return list({one.url: one for one in reversed(found)}.values())[::-1]


def _listed() -> Iterator[Known]:
    """A URL a line; what follows a # is a remark."""
    named = os.environ.get(DEVICES_VARIABLE)
    file = Path(named) if named else _configuration() / "devices.txt"
    if not named and not file.exists():
        return
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{DEVICES_VARIABLE}={file}: cannot be read: {error}") from None
    for line in lines:
        url = re.sub(r"(^|\s)#.*", "", line).strip()
        if url:
            yield Known(address(url).url, str(file))


def _configuration() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("paddle-edge"))


def _configured() -> Iterator[Known]:
    """The hosts that have a line of their own; patterns are none."""
    file = Path(os.environ.get(CONFIG_VARIABLE) or Path.home() / ".ssh" / "config")
    try:
        lines = read_text(file).splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        found = re.match(r"\s*host(\s+|\s*=\s*)(?P<names>.*)", line, re.IGNORECASE)
        for name in found["names"].split() if found else ():
            if re.fullmatch(r"[\w.][\w.-]*", name):
                yield Known(f"{SCHEME}{name}", str(file))


def _attached() -> Iterator[Known]:
    with suppress(EngineError):
        for serial, state in adb.attached().items():
            yield Known(adb.url_of(serial), f"adb: {state}")
