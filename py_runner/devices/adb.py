"""A machine far away, reached by adb: an Android device, by USB or by its network.

`adb://SERIAL[/folder]`: the serial is what `adb devices` prints, HOST:PORT too; `adb://` alone is
the one that is attached, or the one that adb's variable ANDROID_SERIAL names. The folder is where
this kit keeps its files there, by default `/data/local/tmp/paddle-edge`: elsewhere the shell of a
device may not execute. It is mode 0700.

What is needed there is Android 8 or later: since 7 its adbd keeps standard output and errors apart
and clean ("shell_v2"), since 8 it has `sha256sum`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, unquote

from py_runner.devices import connection
from py_runner.devices.connection import DroppedError
from py_runner.errors import EngineError, UsageError
from py_runner.files.process import Child

__all__ = ["FORM", "SCHEME", "Address", "Connection", "attached", "url_of"]

SCHEME = "adb://"
FORM = "adb://SERIAL[/folder]"
_SERIAL_VARIABLE = "ANDROID_SERIAL"  # adb's own
_URL = re.compile(r"adb://(?P<serial>[^\s/]*)(?P<folder>/.*)?", re.DOTALL)
_FOLDER = "/data/local/tmp/paddle-edge"
_NETWORK = re.compile(r".+:[0-9]{1,5}")  # a serial that `adb connect` takes
_TIME_LIMIT_S = 30.0  # of what asks adb's server only
_READY = "device"
# By the state that adb tells of a device.
_ADVICE = {
    "unauthorized": "allow this computer on its screen, with USB debugging on",
    "offline": "it does not answer: plug it in again, or `adb reconnect offline`",
    "no permissions": "this system does not let you use it: see `adb devices -l`",
}
# Said last, on the errors' stream: adb itself does not always tell how a command ended.
_ENDED = re.compile(r"ended ([0-9]{1,3})")
_SAY_END = """; printf '\\nended %s\\n' "$?" >&2"""


@dataclass(frozen=True)
class Address(connection.Address):
    """Where a device is: `host` is its serial, "" for the one that is attached."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises UsageError for what is none."""
        found = _URL.fullmatch(url)
        serial = unquote(found["serial"]) if found else ""
        folder = unquote((found and found["folder"]) or "").rstrip("/") or _FOLDER
        if not found or serial.startswith("-") or not (serial + "x").isprintable():
            raise UsageError(f"device '{url}': is not of the form {FORM}")
        if "\0" in folder:
            raise UsageError(f"device '{url}': a folder's name holds no NUL")
        return cls(url, serial, folder)

    def connection(self) -> Connection:
        """By adb."""
        return Connection(self)


class Connection(connection.Connection):
    """Commands by adb's server, which holds the connection. The device is looked for with the first
    command, and again where it was lost; one of the network is connected to then."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._serial = address.host or os.environ.get(_SERIAL_VARIABLE, "")
        self._there = self._was_there = False

    def _argv(self, command: str) -> list[str]:
        if not self._there:
            try:
                self._find()
            except EngineError as error:
                # It may come back, where it has been.
                raise (DroppedError(str(error)) if self._was_there else error) from None
        return [_program(), "-s", self._serial, "shell", "-T", command + _SAY_END]

    def _ended(self, code: int, words: list[str]) -> tuple[int, list[str]]:
        status = _ENDED.fullmatch(words[-1]) if words else None
        if status:
            return int(status[1]), words[:-1]
        self._there = False
        raise DroppedError(f"{self.address.url}: {_last(words) or 'the connection was lost'}")

    def _find(self) -> None:
        """Raises EngineError where the device is not there, or not ready."""
        url, found, said = self.address.url, attached(), ""
        if self._serial not in found and _NETWORK.fullmatch(self._serial):
            said = _adb("connect", self._serial).strip()
            found = attached()
        if not self._serial:
            if len(found) > 1:
                names = ", ".join(map(url_of, found))
                raise EngineError(f"{url}: several devices are attached: name one: {names}")
            self._serial = next(iter(found), "")
        state = found.get(self._serial)
        if state is None:
            raise EngineError(f"{url}: {said or _absent(found)}")
        if state != _READY:
            advice = next((f": {words}" for name, words in _ADVICE.items() if name in state), "")
            raise EngineError(f"{url}: {state}{advice}")
        if "shell_v2" not in _adb("-s", self._serial, "features").split():
            raise EngineError(f"{url}: too old: Android 8 or later is needed")
        self._there = self._was_there = True


def attached() -> dict[str, str]:
    """The devices that adb's server knows: their states by their serials, "device" of one that is
    ready. Raises EngineError where there is no adb, or its server does not start."""
    lines = _adb("devices").partition("List of devices attached")[2].splitlines()
    return {serial: state for serial, _, state in (line.partition("\t") for line in lines) if state}


def url_of(serial: str) -> str:
    """The device of a serial."""
    return SCHEME + quote(serial, safe=":[]()")


def _absent(found: Iterable[str]) -> str:
    if found:
        return f"is not attached; attached is {', '.join(map(url_of, found))}"
    return "no device is attached: plug one in with USB debugging on, or `adb connect HOST:PORT`"


def _program() -> str:
    """adb: of this system, or the one that the package adbutils brings."""
    found = shutil.which("adb")
    with suppress(ImportError):
        if found is None:
            import adbutils

            found = adbutils.adb_path()
    if found is None:
        raise EngineError(
            "adb is not installed: `apt install adb`, or `pip install paddle-edge[adb]`"
        )
    return found


def _adb(*words: str) -> str:
    """What adb says to a command that ends at once."""
    with Child([_program(), *words], output="lines") as child:
        child.tell()
        code = child.wait(_TIME_LIMIT_S)
        said = b"".join(child.lines()).decode("utf-8", "replace")
        if code != 0 and words[0] != "connect":
            log = child.log().decode("utf-8", "replace").splitlines()
            what = _last(log) or ("does not answer" if code is None else f"ended with code {code}")
            raise EngineError(f"adb {' '.join(words)}: {what}")
    return said


def _last(words: list[str]) -> str:
    """The last line that adb said, but for what it says of its server's start ("* daemon ...")."""
    said = [word.strip() for word in words if word.strip() and not word.startswith("* ")]
    return said[-1] if said else ""
