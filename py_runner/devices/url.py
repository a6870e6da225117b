"""What a device's URL names: a machine far away, and how it is reached."""

from __future__ import annotations

import re
from collections.abc import Callable

from py_runner.devices import adb, ssh
from py_runner.devices.connection import Address
from py_runner.errors import UsageError

__all__ = ["FORMS", "address", "is_remote", "plain_name"]

_KINDS: dict[str, Callable[[str], Address]] = {
    ssh.SCHEME: ssh.Address.parse,
    adb.SCHEME: adb.Address.parse,
}
FORMS = (ssh.FORM, adb.FORM)


def is_remote(name: str) -> bool:
    """Whether a device's name is a URL."""
    return name.startswith(tuple(_KINDS))


def plain_name(device: str) -> str:
    """A device's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "_", device.partition("://")[2] or device)


def address(url: str) -> Address:
    """Raises UsageError for what is none of ours."""
    for scheme, parse in _KINDS.items():
        if url.startswith(scheme):
            return parse(url)
    raise UsageError(f"device '{url}': is not of the form {' or '.join(FORMS)}")
