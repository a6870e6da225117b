"""Downloads a file that goes on where it broke off, also in a later process.

    <file>.part         what is here of it
    <file>.part.json    of which address and of what file: nothing else is ever appended to it

Ours, on the standard library: requests and httpx know no resuming either and would replace the one
call that opens an address; pooch starts over.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional
from urllib.error import HTTPError, URLError

from py_runner.errors import EngineError, ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.faults import reason as reason_of
from py_runner.watch import Watch

__all__ = ["download", "forget"]

_TIMEOUT_S = 30.0
_PAUSES_S = (1.0, 3.0, 10.0)  # before each further attempt at an interrupted download
_BLOCK_BYTES = 1 << 18
# The largest official archives are some tens of MB; this only stops what cannot be one.
_MAX_ARCHIVE_BYTES = 1 << 30
_FORMAT = 1


@dataclass(frozen=True)
class _State:
    """What a part is the beginning of. `validator`: for If-Range; `total`: bytes of the whole."""

    url: str
    validator: Optional[str] = None  # noqa: UP045  evaluated when a manifest is read, by 3.9 too
    total: Optional[int] = None  # noqa: UP045


def download(url: str, part: Path, watch: Watch) -> bool:
    """Make `part` the whole file at `url`, going on from what it holds; False for a 404.

    Raises EngineError where the server is not there, refuses, breaks off again and again, or sends
    too much, and UsageError where `part` cannot be written.
    """
    pauses_s = iter(_PAUSES_S)
    while True:
        try:
            return _download_once(url, part, watch)
        except _InterruptedError as error:
            have = part.stat().st_size if part.exists() else 0
            pause_s = next(pauses_s, None)
            if pause_s is None:
                kept = f"{have / 1e6:.1f} MB are kept: " if have else ""
                raise EngineError(f"{url}: {error}; {kept}run the same command again") from None
            watch.say(f"{url}: {error}; trying again, with {have / 1e6:.1f} MB here")
            time.sleep(pause_s)
        except OSError as error:
            raise UsageError(f"{part}: cannot be written: {reason_of(error)}") from None


def forget(part: Path) -> None:
    """Remove what is here of a download: the next one starts over."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _download_once(url: str, part: Path, watch: Watch) -> bool:
    state = _state_of(part)
    have = part.stat().st_size if state and state.url == url and part.exists() else 0
    if state and have and have == state.total:
        return True
    # Without a validator nothing says that the file is still the same.
    begun = state if state and state.validator and have else None
    with _answer(url, have, begun) as answer:
        if answer.status in (404, 410):
            return False
        if answer.status == 200:
            _receive(answer, url, part, None, watch)
            return True
        if answer.status == 206 and begun and _continues(answer.headers, have, begun):
            _receive(answer, url, part, begun, watch)
            return True
        if not (begun and answer.status in (206, 416)):
            raise EngineError(f"{url}: the server answers {answer.status} {answer.reason}")
    # Another file than the one that was begun, by what it says of itself or by its length.
    forget(part)
    return _download_once(url, part, watch)


def _answer(url: str, have: int, begun: _State | None) -> Any:
    """The server's answer, which may be an error that says something of the file: 404, 410, 416."""
    headers = {"User-Agent": "paddle-edge", "Accept-Encoding": "identity"}
    if begun and begun.validator:
        headers.update({"Range": f"bytes={have}-", "If-Range": begun.validator})
    try:
        opener = urllib.request.build_opener(_Redirects)  # and the proxies of the environment
        return opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code in (404, 410, 416):
            return error
        error.close()
        text = f"the server answers {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _InterruptedError(text) from None
        raise EngineError(f"{url}: {text}") from None
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        if begun:  # it could be reached a while ago
            raise _InterruptedError(f"cannot be reached: {reason}") from None
        raise EngineError(
            f"{url}: cannot be reached: {reason}; check the network and https_proxy, or "
            "fetch the file elsewhere and pass it to 'paddle-edge sdk add FILE'"
        ) from None
    except (http.client.HTTPException, OSError) as error:
        raise _InterruptedError(f"no answer: {error or type(error).__name__}") from None


def _continues(headers: Any, have: int, begun: _State) -> bool:
    """Whether a 206 is the rest of the very file that was begun."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    return (
        span is not None
        and int(span[1]) == have
        and span[2] in ("*", str(begun.total))
        and _validator(headers) in (None, begun.validator)
    )


def _validator(headers: Any) -> str | None:
    """What If-Range takes: a strong ETag, or else the date of the last change."""
    etag: str | None = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _receive(answer: Any, url: str, part: Path, begun: _State | None, watch: Watch) -> None:
    """Write the answer's body to `part`, behind what was begun."""
    have = part.stat().st_size if begun else 0
    total = begun.total if begun else answer.length
    _check_size(total or 0, url)
    with part.open("ab" if begun else "wb") as stream:
        if not begun:
            state = _State(url, _validator(answer.headers), total)
            manifest.write(_state_path(part), {"format": _FORMAT, **asdict(state)})
        while True:
            watch.step("download", have, total)
            try:
                block = answer.read(_BLOCK_BYTES)
            except (http.client.HTTPException, OSError) as error:
                raise _InterruptedError(f"the transfer broke: {type(error).__name__}") from None
            if not block:
                break
            have += len(block)
            _check_size(have, url)
            stream.write(block)
    if total is not None and have != total:
        raise _InterruptedError(f"the transfer ended at {have} of {total} bytes")


def _check_size(size_bytes: int, url: str) -> None:
    if size_bytes > _MAX_ARCHIVE_BYTES:
        raise EngineError(f"{url}: larger than {_MAX_ARCHIVE_BYTES} bytes: is no Paddle Lite SDK")


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _state_of(part: Path) -> _State | None:
    """None where it is missing or damaged: then there is nothing to go on from."""
    with suppress(ModelError, ValueError):
        document, _ = manifest.read(
            _state_path(part), what="a download", version=_FORMAT, advice="start it again"
        )
        return manifest.from_json(_State, document)
    return None


class _InterruptedError(Exception):
    """The transfer broke, or the server is busy: worth another attempt."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as GitHub's to its store, but not from https to anything less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise EngineError(
                f"{req.full_url}: refused: it leads to {newurl!a}, without encryption"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
