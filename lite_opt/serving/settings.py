"""What a server allows: addresses, limits, who may ask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from py_runner.errors import DataError, UsageError
from py_runner.files.regular import read_text

__all__ = ["Settings", "read_token"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LEAST_TOKEN = 16  # characters
_BODIES = 8  # of the largest size may be held at once, for all requests together


@dataclass(frozen=True)
class Settings:
    """How a server listens and what it allows.

    `port` and `grpc_port` 0 are any free ones; `grpc_port` None is no gRPC. `deadline_s` is how
    long a request may take, from its head to its answer, `body_s` its head and body to arrive,
    `grace_s` what is under way to end when the server stops. `token` is what a request has to bear,
    "" for nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    deadline_s: float = 30.0
    body_s: float = 10.0
    grace_s: float = 30.0
    max_body_bytes: int = 16_000_000
    max_pixels: int = 50_000_000
    at_once: int = 128
    token: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_s", "body_s", "grace_s", "max_body_bytes", "max_pixels", "at_once"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{name} is a number above 0, not {value}")
        for port in (self.port, self.grpc_port or 0):
            if not 0 <= port < 1 << 16:
                raise UsageError(f"a port is 0 to 65535, not {port}")
        if self.port and self.port == self.grpc_port:
            raise UsageError(f"HTTP and gRPC cannot share port {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("TLS takes a certificate and its key: --tls-cert and --tls-key")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOOPBACK

    @property
    def hosts(self) -> tuple[str, ...]:
        """What requests may call this machine, any name where it is empty: a name that leads to
        the loopback address by somebody else's DNS would let a web page ask."""
        return _LOOPBACK if self.loopback else ()

    @property
    def held_bytes(self) -> int:
        """How many bytes of bodies are held at once."""
        return _BODIES * self.max_body_bytes


def read_token(path: str | Path) -> str:
    """The token of a file: its one line. Raises DataError where it is none that protects."""
    try:
        text = read_text(path).strip()
    except UnicodeDecodeError:
        text = ""
    if len(text) < _LEAST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise DataError(
            f"{path}: a token is one line of {_LEAST_TOKEN} or more printable characters, such as "
            "`openssl rand -hex 32` prints"
        )
    return text
