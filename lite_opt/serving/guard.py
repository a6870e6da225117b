"""Stands before every HTTP request: who may ask, what is told of an error, what is written down."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lite_opt.serving.desk import Desk
from lite_opt.serving.logs import log
from lite_opt.serving.refusals import Refusal

__all__ = ["Guard"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_OPEN = ("/", "/v2/health/live", "/v2/health/ready")  # without a token
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """An ASGI application around another: refuses, turns errors into answers, logs and counts."""

    def __init__(self, app: _App, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        assert scope["type"] == "http"  # the server is told to speak nothing else
        began = time.perf_counter()
        desk, status, error = self._desk, 0, ""
        scope["app"] = self  # the router then raises where it would answer with plain text
        headers = dict(scope["headers"])
        unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

        async def heard() -> MutableMapping[str, Any]:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def told(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # What is left of a body nobody wants to read: the connection ends.
                ending = ((b"connection", b"close"),) if unread or desk.stopping else ()
                message["headers"] = [*message.get("headers", ()), *_ALWAYS, *ending]
            await send(message)

        desk.open_requests += 1
        try:
            self._check(scope["path"], headers)
            await self._app(scope, heard, told)
        except Exception as reason:
            refusal = _refusal_of(reason)
            error = refusal.text
            if status:  # the answer has begun: the connection is cut
                raise
            await _refuse(refusal, told)
        finally:
            desk.open_requests -= 1
            self._told(scope, status, began, error)

    def _check(self, path: str, headers: MutableMapping[bytes, bytes]) -> None:
        """Raise Refusal for who may not ask."""
        host = headers.get(b"host", b"").decode("latin-1")
        hosts = self._desk.settings.hosts
        if hosts and _split(f"//{host}").hostname not in hosts:
            raise Refusal(403, "this server answers to the names of this machine only")
        origin = headers.get(b"origin")
        if origin is not None and _split(origin.decode("latin-1")).netloc != host:
            raise Refusal(403, "pages of other sites may not ask")
        if path not in _OPEN:
            authorization = headers.get(b"authorization")
            self._desk.admit(None if authorization is None else authorization.decode("latin-1"))

    def _told(self, scope: _Scope, status: int, began: float, error: str) -> None:
        name = scope.get("path_params", {}).get("name", "")
        self._desk.told(name, "http", status, began)
        fields = {"error": error} if error else {}
        log(
            logging.INFO if status < 500 else logging.WARNING,
            "request",
            door="http",
            method=scope["method"][:20],
            path=scope["path"][:200],
            status=status,
            ms=round((time.perf_counter() - began) * 1e3, 3),
            **fields,
        )


def _split(address: str) -> SplitResult:
    """An address in its parts, which are empty where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _refusal_of(error: Exception) -> Refusal:
    from starlette.exceptions import HTTPException

    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, error.detail)
    logging.getLogger("paddle_edge.serving").exception("internal error")
    return Refusal(500, f"internal error: {type(error).__name__}")


async def _refuse(refusal: Refusal, send: _Send) -> None:
    """The protocol's body of an error."""
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps({"error": refusal.text}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
