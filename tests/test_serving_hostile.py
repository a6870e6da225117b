"""What is sent to harm a server: it is refused, in time and in words, and costs no memory."""

from __future__ import annotations

import io
import json
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from make_images import chunk
from make_model import SIDE
from PIL import Image
from serving_process import Serving, wait_until

BODY_S = 1.5
MOST_BYTES = 2_000_000
MOST_GROWTH = 60_000_000


@pytest.fixture(scope="module")
def serving(bundle: Path) -> Iterator[Serving]:
    limits = ("--max-body-mb", MOST_BYTES / 1e6, "--body-timeout", BODY_S, "--max-pixels-mp", 4)
    with Serving(bundle, *limits) as server:
        yield server


@pytest.fixture(autouse=True)
def unharmed(serving: Serving) -> Iterator[None]:
    """After each attack the server answers, and has not grown."""
    before = serving.memory_bytes()
    yield
    numbers = {"name": "x", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}
    body = {"inputs": [{**numbers, "data": [0.1] * (3 * SIDE * SIDE)}]}
    assert serving.ask("/v2/models/tiny/infer", body)[0] == 200
    assert serving.memory_bytes() - before < MOST_GROWTH


def raw(serving: Serving) -> socket.socket:
    place = urlsplit(serving.http)
    return socket.create_connection((place.hostname, place.port), timeout=30)


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def told(connection: socket.socket) -> tuple[int, str]:
    """Status and error of an answer; what is still being sent is of no interest."""
    with connection:
        answer = b""
        while b"}" not in answer:
            got = connection.recv(1 << 16)
            if not got:
                break
            answer += got
    top, _, body = answer.partition(b"\r\n\r\n")
    if not top:
        return 0, ""
    return int(top.split()[1]), json.loads(body)["error"] if body.startswith(b"{") else ""


def bomb(side: int) -> bytes:
    """A PNG of few bytes and many pixels."""
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000, 9))
    header = chunk(b"IHDR", side.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [3000, 60_000, 2**31 - 1])
def test_pictures_of_too_many_pixels(side: int, serving: Serving) -> None:
    start = time.monotonic()
    status, body, _ = serving.ask("/predict/tiny", bomb(side), Content_Type="image/png")
    assert status == 400 and ("exceed the limit" in body["error"] or "decode" in body["error"])
    assert time.monotonic() - start < 5


def test_only_what_browsers_and_cameras_make_is_decoded(serving: Serving) -> None:
    held = io.BytesIO()
    Image.new("RGB", (30, 30)).save(held, "TIFF")
    for data in (held.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"):
        status, body, _ = serving.ask("/predict/tiny", data, Content_Type="image/x")
        assert status == 400 and "not an image in any of JPEG" in body["error"]


def test_ten_gigabytes_that_are_announced(serving: Serving) -> None:
    for path in ("/predict/tiny", "/v2/models/tiny/infer"):
        connection = raw(serving)
        connection.sendall(head(path, "Content-Length: 10000000000") + b"x" * 1000)
        status, error = told(connection)
        assert status == 413 and f"{MOST_BYTES} are allowed" in error


def test_a_body_without_an_end(serving: Serving) -> None:
    connection = raw(serving)
    connection.sendall(head("/predict/tiny", "Transfer-Encoding: chunked"))
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    with pytest.raises(OSError):
        while sent < 50 * MOST_BYTES:
            connection.sendall(piece)
            sent += len(piece)
    assert sent < 20 * MOST_BYTES
    connection.close()


def test_a_body_that_does_not_come(serving: Serving) -> None:
    connection = raw(serving)
    connection.sendall(head("/v2/models/tiny/infer", "Content-Length: 1000") + b"{")
    start = time.monotonic()
    status, error = told(connection)
    assert status == 408 and "did not arrive" in error
    assert time.monotonic() - start < BODY_S + 3


@pytest.mark.parametrize("first", [b"", b"POST /predict/tiny HT", head("/predict/tiny")[:-2]])
def test_a_head_that_does_not_come(first: bytes, serving: Serving) -> None:
    connection = raw(serving)
    start = time.monotonic()
    with connection:
        connection.sendall(first)
        for letter in b"X-Slow: 1":
            time.sleep(0.1)
            if first:
                connection.sendall(bytes([letter]))
        assert connection.recv(1000) == b""
    assert time.monotonic() - start < BODY_S + 3


def test_heads_without_an_end(serving: Serving) -> None:
    connection = raw(serving)
    with connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        try:
            for _ in range(2000):
                connection.sendall(b"X-Long: " + b"x" * 1000 + b"\r\n")
            answer = connection.recv(100)
        except OSError:
            answer = b""
    assert not answer or b" 400 " in answer


@pytest.mark.parametrize(
    ("kind", "path", "status"),
    [
        ("text/html", "/v2/models/tiny/infer", 415),
        ("image/png", "/v2/models/tiny/infer", 415),
        ("application/x-www-form-urlencoded", "/v2/models/tiny/infer", 415),
        ("text/plain", "/predict/tiny", 415),
        ("application/json", "/predict/tiny", 415),
        ("multipart/form-data", "/predict/tiny", 400),
        ("multipart/form-data; boundary=x", "/predict/tiny", 400),
    ],
)
def test_bodies_of_another_kind(kind: str, path: str, status: int, serving: Serving) -> None:
    answer = serving.ask(path, b"{}", Content_Type=kind)
    assert answer[0] == status and answer[1]["error"]


def test_bodies_that_are_packed(serving: Serving) -> None:
    packed = zlib.compress(b"\0" * 1_000_000, 9)
    status, body, _ = serving.ask("/v2/models/tiny/infer", packed, Content_Encoding="deflate")
    assert status == 415 and "encoded" in body["error"]


def test_a_form_of_many_parts(serving: Serving) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="f%d"%s\r\n\r\nx\r\n'
    for name in (b"", b'; filename="a"'):
        body = b"".join(part % (n, name) for n in range(50)) + b"--b--\r\n"
        kind = "multipart/form-data; boundary=b"
        status, answer, _ = serving.ask("/predict/tiny", body, Content_Type=kind)
        assert status == 400 and "form" in answer["error"]


def test_more_bodies_at_once_than_there_is_room_for(serving: Serving) -> None:
    connections = [raw(serving) for _ in range(12)]
    for connection in connections:
        connection.sendall(head("/predict/tiny", f"Content-Length: {MOST_BYTES}") + b"x" * 100)
    ends = [told(connection)[0] for connection in connections]
    assert ends.count(429) == 4 and ends.count(408) == 8


def test_a_host_that_is_none(serving: Serving) -> None:
    for name in ("Host: [::1", "Host: localhost@evil.example", "Host: localhost.evil.example"):
        connection = raw(serving)
        connection.sendall(f"GET /v2/models HTTP/1.1\r\n{name}\r\n\r\n".encode())
        assert told(connection)[0] == 403


def test_what_is_left_of_a_refused_body_is_not_waited_for(serving: Serving) -> None:
    connection = raw(serving)
    connection.sendall(head("/v2/models/other/infer", "Content-Length: 100000") + b"{")
    with connection:
        answer = b""
        while got := connection.recv(1 << 16):
            answer += got
    assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer


def test_clients_that_leave(serving: Serving) -> None:
    for _ in range(50):
        connection = raw(serving)
        connection.sendall(head("/predict/tiny", "Content-Length: 1000") + b"x" * 10)
        connection.close()
    wait_until(
        lambda: b'queue_requests{engine="edge",model="tiny"} 0.0' in serving.ask("/metrics")[1]
    )
