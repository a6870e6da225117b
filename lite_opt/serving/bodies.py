"""What a client sends, read with limits of size, of time, and of what all requests hold at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lite_opt.serving.desk import Desk
from lite_opt.serving.refusals import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["body_of", "kind_of", "picture_of"]

_FORM = "multipart/form-data"
_MOST_FIELDS = 8


def kind_of(request: Request) -> str:
    """The media type of a body, without its parameters; "" where none is said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def body_of(request: Request, desk: Desk) -> AsyncIterator[bytes]:
    """The body of a request, as long as the block lasts.

    Raises Refusal where it is too large, too slow, encoded, or more than there is room for.
    """
    most = desk.settings.max_body_bytes
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "encoded bodies are not taken: send it as it is")
    declared = request.headers.get("content-length")
    size = int(declared) if declared is not None else most  # h11 has seen to it that it is one
    if size > most:
        raise Refusal(413, f"the body has {size} bytes, and {most} are allowed")
    if desk.held_bytes + size > desk.settings.held_bytes:
        raise Refusal(429, "too much is being sent at once", retry_after_s=1)
    desk.held_bytes += size
    try:
        try:
            body = await asyncio.wait_for(_read(request, most), desk.settings.body_s)
        except asyncio.TimeoutError:
            raise Refusal(408, f"the body did not arrive in {desk.settings.body_s:g} s") from None
        yield body
    finally:
        desk.held_bytes -= size


async def _read(request: Request, most: int) -> bytes:
    from starlette.requests import ClientDisconnect

    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise Refusal(413, f"the body has more than {most} bytes")
    except ClientDisconnect:
        raise Refusal(400, "the client left") from None
    return bytes(body)


async def picture_of(request: Request, body: bytes) -> bytes:
    """The picture in a body: the one file of a form, or all of it. Raises Refusal for another."""
    kind = kind_of(request)
    if kind != _FORM:
        if kind and not kind.startswith("image/") and kind != "application/octet-stream":
            raise Refusal(415, f"a picture is sent as {_FORM} or as image/..., not as {kind:.80}")
        if not body:
            raise Refusal(400, "the body is empty")
        return body
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Again

    async def whole() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Again(request.scope, whole).form(max_files=1, max_fields=_MOST_FIELDS) as form:
            files = [value for value in form.values() if not isinstance(value, str)]
            if len(files) != 1:
                raise Refusal(400, "the form holds no file")
            return await files[0].read()
    except HTTPException as error:
        raise Refusal(400, f"the form is damaged: {error.detail}") from None
