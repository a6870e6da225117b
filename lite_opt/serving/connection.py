"""The server library, set up: how connections begin, and how they end without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lite_opt.serving.desk import Desk
from lite_opt.serving.guard import Guard
from lite_opt.serving.settings import Settings

__all__ = ["HttpServer"]

_KEPT_S = 30  # a connection without requests
_LINGER_S = 1.0  # in which those who have a connection learn that it ends
_LOOK_EVERY_S = 0.05


class _Protocol(H11Protocol):
    """Ends connections whose next request does not get past its head in time."""

    head_s = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """Keep the timer running as long as a head has begun and not ended."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_watch()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpServer(uvicorn.Server):
    """uvicorn on a socket that is bound already, with our limits and without its signal handlers.

    Raises OSError where the address is not to be had.
    """

    def __init__(self, app: Guard, settings: Settings) -> None:
        self._timed: Any = type("_Timed", (_Protocol,), {"head_s": settings.body_s})
        files = (settings.tls_cert, settings.tls_key)
        super().__init__(
            uvicorn.Config(
                app,
                http=self._timed,
                loop="asyncio",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEPT_S,
                timeout_graceful_shutdown=max(1, round(settings.grace_s)),
                ssl_certfile=None if files[0] is None else str(files[0]),
                ssl_keyfile=None if files[1] is None else str(files[1]),
            )
        )
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._socket = socket.create_server((settings.host, settings.port), family=family)
        self.port: int = self._socket.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "http" if settings.tls_cert is None else "https"
        self.address = f"{scheme}://{host}:{self.port}"

    async def run_until_stopped(self) -> None:
        """Answer until `stop` has been called."""
        await self.serve(sockets=[self._socket])

    async def stop(self, desk: Desk) -> None:
        """Take no more connections, answer what has come, and end.

        For a moment connections are still taken, and each answer says that its connection ends, so
        that clients which keep one hear of it. Then what waits in the system's queue is taken, the
        address given back, and waited for whoever has connected and not asked yet.
        """
        await asyncio.sleep(_LINGER_S)
        await self._take_the_last()
        quiet_s = waited_s = 0.0
        while quiet_s < _LINGER_S / 2 and waited_s < desk.settings.grace_s:
            await asyncio.sleep(_LOOK_EVERY_S)
            waited_s += _LOOK_EVERY_S
            connections: Any = self.server_state.connections
            busy = desk.open_requests or any(it.cycle is None for it in connections)
            quiet_s = 0.0 if busy else quiet_s + _LOOK_EVERY_S
        self.should_exit = True

    async def _take_the_last(self) -> None:
        """Close the address, but for those who wait there already: the system would hang up on
        them, after they have sent their requests."""
        last = []
        with contextlib.suppress(BlockingIOError):
            while True:
                last.append(self._socket.accept()[0])
        for server in getattr(self, "servers", ()):
            server.close()
        loop = asyncio.get_running_loop()
        for connection in last:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # gone meanwhile
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        state = (self.config, self.server_state, self.lifespan.state)
        protocol: asyncio.Protocol = self._timed(*state)
        return protocol

    def close(self) -> None:
        """Give the address back where the server has not been run."""
        self._socket.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: who runs the server says when it ends."""
        yield
