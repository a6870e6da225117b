"""Paddle Lite SDKs: downloads, interruptions, pins, hostile archives, and what is found."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import need

from lite_opt.sdk import archives, cache, download, sdk, unpack
from lite_opt.sdk.library import Sdk, _read_elf, _version_of
from py_runner.errors import EngineError, UsageError
from py_runner.watch import Watch

ARCH = "inference_lite_lib.armlinux.armv8.gcc.with_extra"
NAME = f"{ARCH}.tar.gz"
PATH = f"/v2.12/{NAME}"
LIBRARY = "cxx/lib/libpaddle_light_api_shared.so"
NOISE = 600_000


def elf(
    machine: int = 183,
    *,
    flags: int = 0,
    align: int = 0x10000,
    android: bool = False,
    says: bytes = b"v2.12",
    noise: int = 0,
) -> bytes:
    """A shared library's headers: one PT_LOAD, one PT_NOTE, and a version string."""
    note = struct.pack("<III", 8, 4, 1) + (b"Android\0" if android else b"GNU\0\0\0\0\0") + bytes(4)
    wide = machine in (183, 62)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    size, entry = (64, 56) if wide else (52, 32)
    at = size + 2 * entry
    if wide:
        head = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, flags, 64, 56, 2, 0, 0, 0)
        table = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, at, at, align)
        table += struct.pack("<IIQQQQQQ", 4, 4, at, at, at, len(note), len(note), 4)
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, 52, 0, flags, 52, 32, 2, 0, 0, 0)
        table = struct.pack("<IIIIIIII", 1, 0, 0, 0, at, at, 5, align)
        table += struct.pack("<IIIIIIII", 4, at, at, at, len(note), len(note), 4, 4)
    body = b"\0" + says + b"\0" + os.urandom(noise).replace(b"\0", b"\1")
    return ident + head + table + note + body


def packed(members: dict[str, bytes | tarfile.TarInfo], *, top: str = ARCH) -> bytes:
    """A .tar.gz whose size depends on its members' sizes only; a TarInfo has no contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(f"{top}/{name}" if top else name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tree(library: bytes | None = None) -> dict[str, Any]:
    return {"cxx/include/paddle_api.h": b"// api", LIBRARY: library or elf(noise=NOISE)}


class Server(http.server.ThreadingHTTPServer):
    """Archives on loopback, with the faults that a test asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.ranges = True
        self.if_range = True
        self.length = True
        self.status: list[int] = []  # of the next answers
        self.gate: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def etag(self, path: str) -> str:
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:8]}"'

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that leave are what these tests are about


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, path = self.server, re.sub(r"^http://[^/]*", "", self.path)
        server.requests.append((self.path, dict(self.headers)))
        if server.gate:
            server.gate.wait(30)
        status = server.status.pop(0) if server.status else 200
        data = server.files.get(path)
        if status != 200 or data is None:
            self.send_error(status if status != 200 else 404)
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not server.if_range or self.headers.get("If-Range") == server.etag(path)
        if asked and server.ranges and same:
            start = int(asked[1])
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.etag(path))
        if server.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "PADDLE_LITE_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_PAUSES_S", (0.0, 0.0))
    with Server() as server:
        monkeypatch.setenv("PADDLE_EDGE_SDK_URL", server.url)
        server.files[PATH] = packed(tree())
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(**options: Any) -> Sdk:
    return sdk.get("armlinux-armv8", version="v2.12", **options)


def left_over() -> list[str]:
    """All that is in the cache but locks."""
    return sorted(
        str(p.relative_to(cache.cache_folder()))
        for p in cache.cache_folder().rglob("*")
        if p.is_file() and p.suffix != ".lock"
    )


def put(server: Server, members: dict[str, Any], *, top: str = ARCH) -> None:
    server.files[PATH] = packed(members, top=top)


def test_get_downloads_checks_and_pins(served: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    got = fetch(watch=Watch(step=lambda _, done, total: seen.append((done, total))))
    data = served.files[PATH]
    assert got.path.name == ARCH and (got.path / "cxx/include/paddle_api.h").is_file()
    assert (got.target, got.version, got.library_version) == ("armlinux-armv8", "v2.12", "v2.12")
    assert (got.page_bytes, got.warnings) == (0x10000, ())
    assert got.sha256 == hashlib.sha256(data).hexdigest() and got.url == served.url + PATH
    assert seen[0] == (0, len(data)) and seen[-1] == (len(data), len(data))
    pin = cache.cache_folder() / "v2.12" / f"{NAME}.sha256"
    assert pin.read_text() == f"{got.sha256}  {NAME}\n"
    assert not [name for name in left_over() if ".part" in name]
    assert fetch() == got and len(served.requests) == 1, "the cache answers the second time"
    assert cache.cached() == [got]
    assert all(isinstance(v, (str, int, list, tuple, type(None))) for v in got.to_json().values())


def test_interrupted_download_resumes_by_itself(served: Server) -> None:
    served.cuts = [100_000, 150_000]
    said: list[str] = []
    got = fetch(watch=Watch(say=said.append))
    assert got.sha256 == hashlib.sha256(served.files[PATH]).hexdigest()
    asked = [headers.get("Range") for _, headers in served.requests]
    assert asked == [None, "bytes=100000-", "bytes=250000-"]
    assert {h.get("If-Range") for _, h in served.requests[1:]} == {served.etag(PATH)}
    assert len(said) == 2 and "trying again, with 0.1 MB here" in said[0]


def test_interrupted_download_resumes_in_a_later_call(served: Server) -> None:
    served.cuts = [100_000, 0, 0]
    with pytest.raises(EngineError, match=r"ended at 100000 of \d+ bytes; 0.1 MB are kept: run"):
        fetch()
    assert left_over() == [f"v2.12/{NAME}.part", f"v2.12/{NAME}.part.json"]
    served.requests.clear()
    assert fetch().sha256 == hashlib.sha256(served.files[PATH]).hexdigest()
    assert [headers["Range"] for _, headers in served.requests] == ["bytes=100000-"]


def test_killed_download_resumes(served: Server, tmp_path: Path) -> None:
    script = (
        "import os\nfrom lite_opt.sdk import sdk\nfrom py_runner.watch import Watch\n"
        "sdk.get('armlinux-armv8', version='v2.12',"
        " watch=Watch(step=lambda _, done, total: done > 300_000 and os.kill(os.getpid(), 9)))"
    )
    child = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    assert child.returncode == -9
    served.requests.clear()
    assert fetch().sha256 == hashlib.sha256(served.files[PATH]).hexdigest()
    (headers,) = [headers for _, headers in served.requests]
    assert int(headers["Range"][len("bytes=") : -1]) > 200_000


def test_complete_part_needs_no_network(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sdk, "unpack", fail)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert fetch().path.is_dir() and len(served.requests) == 1


@pytest.mark.parametrize("fault", ["no ranges", "etag differs", "if-range ignored", "other url"])
def test_resume_starts_over_where_it_must(served: Server, fault: str) -> None:
    served.cuts = [100_000, 0, 0]
    with pytest.raises(EngineError, match="are kept"):
        fetch()
    url = served.url
    if fault == "no ranges":
        served.ranges = False
    elif fault == "other url":
        url = served.url.replace("127.0.0.1", "localhost")
    else:
        served.if_range = fault == "etag differs"
        size = len(served.files[PATH])
        put(served, tree())
        assert len(served.files[PATH]) == size
    assert fetch(url=url).sha256 == hashlib.sha256(served.files[PATH]).hexdigest()


def test_shorter_file_on_resume(served: Server) -> None:
    served.cuts = [400_000, 0, 0]
    with pytest.raises(EngineError, match="are kept"):
        fetch()
    served.if_range = False
    put(served, tree(elf(noise=1000)))  # our 400,000 bytes are beyond its end: 416
    assert fetch().sha256 == hashlib.sha256(served.files[PATH]).hexdigest()


@pytest.mark.parametrize(
    "state", ["", "{", "[]", '{"format": 1}', '{"format": 1, "url": 5}', '{"format": 2}']
)
def test_resume_starts_over_where_its_state_is_damaged(served: Server, state: str) -> None:
    served.cuts = [100_000, 0, 0]
    with pytest.raises(EngineError, match="are kept"):
        fetch()
    (cache.cache_folder() / "v2.12" / f"{NAME}.part.json").write_text(state)
    served.requests.clear()
    assert fetch().path.is_dir()
    assert [headers.get("Range") for _, headers in served.requests] == [None]


def test_busy_server_is_asked_again(served: Server) -> None:
    served.status = [503, 429]
    assert fetch().path.is_dir() and len(served.requests) == 3


def test_server_that_stumbles_once(served: Server) -> None:
    served.status = [500]
    assert fetch().path.is_dir() and len(served.requests) == 2


def test_archive_that_is_gone_counts_as_missing(served: Server) -> None:
    served.status = [410, 410]
    with pytest.raises(EngineError, match=r"has no .*404"):
        fetch()


def test_archives_for_android_by_default(served: Server) -> None:
    with pytest.raises(EngineError, match="404"):
        sdk.get("android-armv7", version="v2.12")
    names = [path.split("inference_lite_lib.android.")[1] for path, _ in served.requests]
    assert names[0] == "armv7.clang.c++_shared.with_extra.tar.gz"


@pytest.mark.parametrize("status", [403, 500])
def test_refusing_server(served: Server, status: int) -> None:
    served.status = [status] * 3
    with pytest.raises(EngineError, match=f"the server answers {status}"):
        fetch()
    assert left_over() == []


def test_missing_archive_says_what_to_do(served: Server) -> None:
    served.files.clear()
    with pytest.raises(EngineError, match=r"\(404\); choose from 'paddle-edge sdk list'.*sdk add"):
        fetch()
    names = [path.split("inference_lite_lib.armlinux.")[1] for path, _ in served.requests]
    assert names == ["armv8.gcc.with_extra.tar.gz", "armv8.gcc.with_extra.with_cv.tar.gz"]
    assert left_over() == []


def test_listed_archive_is_tried_first(served: Server) -> None:
    name = f"{ARCH}.with_cv.tar.gz"
    served.files[f"/v2.13-rc/{name}"] = packed(tree())
    got = sdk.get("armlinux-armv8")
    assert (got.archive, got.version) == (name, "v2.13-rc") and len(served.requests) == 1
    assert "says that it is v2.12, not v2.13-rc" in got.warnings[0]


def test_no_network(served: Server) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(EngineError, match=r"cannot be reached: .*check the network.*sdk add"):
            fetch(url=url)
    assert left_over() == []


def test_proxy_of_the_environment(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", served.url)
    monkeypatch.setenv("no_proxy", "")
    assert fetch(url="http://mirror.invalid").path.is_dir()
    assert served.requests[0][0] == f"http://mirror.invalid{PATH}"


def test_redirect_from_https_to_http_is_refused() -> None:
    request = download.urllib.request.Request("https://example.com/a")
    with pytest.raises(EngineError, match="without encryption"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://example.com/a")


def test_other_file_than_the_pinned_one_is_refused(served: Server) -> None:
    first = fetch()
    shutil.rmtree(first.path.parents[1])
    put(served, tree())
    with pytest.raises(EngineError, match=r"was pinned .* delete .*\.sha256 and run again"):
        fetch()
    assert left_over() == [f"v2.12/{NAME}.sha256"]
    (cache.cache_folder() / "v2.12" / f"{NAME}.sha256").unlink()
    assert fetch().sha256 == hashlib.sha256(served.files[PATH]).hexdigest() != first.sha256


@pytest.mark.parametrize("text", ["", "\n", "ä"])
def test_pin_that_is_damaged(served: Server, text: str) -> None:
    pin = cache.cache_folder() / "v2.12" / f"{NAME}.sha256"
    pin.parent.mkdir(parents=True)
    pin.write_text(text)
    with pytest.raises(EngineError, match=r"\.sha256: holds no sha256; delete it and run again"):
        fetch()


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_truncated_archive(served: Server, keep: float) -> None:
    data = served.files[PATH]
    served.files[PATH] = data[: int(len(data) * keep)]
    with pytest.raises(EngineError, match="the archive is damaged or not whole"):
        fetch()
    assert left_over() == [], "neither a pin nor a part"
    served.files[PATH] = data
    assert fetch().path.is_dir()


def test_transfer_of_unknown_length_that_breaks(served: Server) -> None:
    served.length, served.cuts = False, [100_000]
    with pytest.raises(EngineError, match="damaged or not whole"):
        fetch()
    assert left_over() == []
    assert fetch().path.is_dir()


def test_page_instead_of_an_archive(served: Server) -> None:
    served.files[PATH] = b"<html>Please log in</html>"
    with pytest.raises(EngineError, match=r"is no \.tar\.gz archive"):
        fetch()
    assert left_over() == []


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def claims(name: str, size: int) -> bytes:
    """A .tar.gz whose header claims contents that it does not have."""
    info = tarfile.TarInfo(name)
    info.size = size
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "parent": ({"../../evil": b"x"}, "leads out of the archive"),
    "parent in the middle": ({f"{ARCH}/../../evil": b"x"}, "leads out of the archive"),
    "absolute": ({"/evil": b"x"}, "leads out of the archive"),
    "symlink out": ({"l": member("l", tarfile.SYMTYPE, "../../../..")}, "'l' is a link to"),
    "absolute symlink": ({"l": member("l", tarfile.SYMTYPE, "/etc/passwd")}, "'l' is a link to"),
    "symlink to nothing": ({"l": member("l", tarfile.SYMTYPE)}, "'l' is a link to ''"),
    "symlinks that add up": (
        {
            "a": member("a", tarfile.SYMTYPE, "d/e"),
            "d": member("d/e/f", tarfile.DIRTYPE),
            "b": member("d/e/up", tarfile.SYMTYPE, "../.."),
            "c": member("d/e/out", tarfile.SYMTYPE, "up/../../.."),
        },
        "is a link to",
    ),
    "file through a symlink": (
        {"l": member("l", tarfile.SYMTYPE, "/"), "l/evil": b"x"},
        "'l' is (a link to|there twice)",
    ),
    "hard link out": ({"h": member("h", tarfile.LNKTYPE, "../../x")}, "leads out of the archive"),
    "absolute hard link": ({"h": member("h", tarfile.LNKTYPE, "/etc/passwd")}, "leads out"),
    "hard link to nothing": ({"h": member("h", tarfile.LNKTYPE, "nothing")}, "is a link to"),
    "device": ({"d": member("d", tarfile.CHRTYPE)}, "neither a file nor a folder"),
    "fifo": ({"f": member("f", tarfile.FIFOTYPE)}, "neither a file nor a folder"),
    "twice": ({"x": b"1", "./x": b"2"}, "'x' is there twice"),
    "file as a folder": ({"x": b"1", "x/y": b"2"}, "there twice"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive(served: Server, tmp_path: Path, case: str) -> None:
    members, message = HOSTILE[case]
    members = {f"{tmp_path}/evil" if k == "/evil" else k: v for k, v in members.items()}
    put(served, {**{f"{ARCH}/{k}": v for k, v in tree().items()}, **members}, top="")
    with pytest.raises(EngineError, match=message) as raised:
        fetch()
    assert str(raised.value).startswith(served.url) and "\n" not in str(raised.value)
    assert left_over() == []
    assert not list(tmp_path.rglob("evil")) and not Path("/evil").exists()


def test_bombs(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    big = "unpacks to more than an SDK can hold"
    served.files[PATH] = claims("large", 3 << 30)
    with pytest.raises(EngineError, match=big):
        fetch()
    served.files[PATH] = claims("negative", -512)
    with pytest.raises(EngineError, match=f"{big}|damaged"):
        fetch()
    header = tarfile.TarInfo("name")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30  # would be read into memory
    served.files[PATH] = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(EngineError, match=big):
        fetch()
    honest = gzip.decompress(packed(tree()))
    monkeypatch.setattr(unpack, "_MAX_UNPACKED_BYTES", len(honest) + 1_000_000)
    put(served, {**tree(), "zeros": bytes(2_000_000)})
    with pytest.raises(EngineError, match=big):
        fetch()
    served.files[PATH] = gzip.compress(honest + bytes(3_000_000))  # beyond the end of the tar
    with pytest.raises(EngineError, match=big):
        fetch()
    put(served, {**tree(), **{f"f{i}": b"" for i in range(40)}})
    monkeypatch.setattr(unpack, "_MAX_MEMBERS", 40)
    with pytest.raises(EngineError, match=big):
        fetch()
    monkeypatch.setattr(unpack, "_MAX_MEMBERS", 50)
    assert left_over() == [] and fetch().path.is_dir()


def test_too_large_a_download(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MAX_ARCHIVE_BYTES", 200_000)
    for served.length in (True, False):
        with pytest.raises(EngineError, match="larger than 200000 bytes"):
            fetch()
    monkeypatch.setattr(download, "_MAX_ARCHIVE_BYTES", len(served.files[PATH]))
    assert fetch().path.is_dir()


def test_links_that_stay_inside(served: Server) -> None:
    inside = {
        "s": member(f"{ARCH}/cxx/lib/s.so", tarfile.SYMTYPE, "libpaddle_light_api_shared.so"),
        "h": member(f"{ARCH}/api.h", tarfile.LNKTYPE, f"{ARCH}/cxx/include/paddle_api.h"),
    }
    put(served, {**tree(), **inside})
    got = fetch()
    assert (got.path / "cxx/lib/s.so").resolve() == got.library.resolve()
    assert (got.path / "api.h").read_bytes() == b"// api"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"cxx/include/paddle_api.h": b""}, "is no Paddle Lite SDK: there is no cxx/include"),
        (tree(b"no library"), "is no shared library, or damaged"),
        (tree(elf()[:100]), "is no shared library, or damaged"),
        (tree(elf(40, flags=0x5000400)), "holds a library for armlinux-armv7hf, not for armlinux"),
    ],
)
def test_archive_that_is_no_sdk_for_the_target(
    served: Server, members: dict[str, Any], message: str
) -> None:
    put(served, members)
    with pytest.raises(EngineError, match=message):
        fetch()
    assert left_over() == []


def test_concurrent_calls_download_once(served: Server) -> None:
    served.gate = threading.Event()
    script = (
        "from lite_opt.sdk import sdk\nfrom py_runner.watch import Watch\n"
        "print(sdk.get('armlinux-armv8', version='v2.12', watch=Watch(say=print)).path)"
    )
    command, folder = [sys.executable, "-u", "-c", script], Path(__file__).parents[1]
    children = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    readers: list[str] = []

    def first_line(child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        readers.append(child.stdout.readline())
        served.gate.set()  # type: ignore[union-attr]

    threads = [threading.Thread(target=first_line, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert len(served.requests) == 1
    lines = "".join(readers) + "".join(outputs)
    assert lines.count("another paddle-edge is at it: waiting") == 1
    assert lines.count(str(fetch().path)) == 2


def test_damaged_cache_is_fetched_anew(served: Server) -> None:
    got = fetch()
    got.library.unlink()
    assert cache.cached() == [] and sdk.find_sdk("armlinux-armv8") is None
    stale = got.path.parents[2] / f".{ARCH}.partial-killed"
    stale.mkdir()
    assert fetch() == got and len(served.requests) == 2 and not stale.exists()
    for count, text in enumerate(("{", '{"format": 1}', '{"format": 9}'), start=3):
        (got.path.parents[1] / "sdk.json").write_text(text)
        assert cache.cached() == []
        assert fetch() == got and len(served.requests) == count


def test_what_is_hidden_is_no_sdk(served: Server, tmp_path: Path) -> None:
    got = fetch()
    folder = got.path.parents[1]
    shutil.copytree(folder, folder.with_name(f".{folder.name}.partial-1"))  # a kill's
    assert cache.cached() == [got]
    shutil.copytree(got.path, tmp_path / "unpacked/.trash")
    with pytest.raises(EngineError, match="is no Paddle Lite SDK"):
        Sdk.open(tmp_path / "unpacked")


def test_to_makes_a_copy(served: Server, tmp_path: Path) -> None:
    copy = fetch(to=tmp_path / "copy")
    assert copy.path == tmp_path / "copy/tree" / ARCH
    assert copy.library.read_bytes() == fetch().library.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        fetch(to=tmp_path / "copy")
    with pytest.raises(UsageError, match="there is no folder"):
        fetch(to=tmp_path / "none/copy")
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "arm"}, "no such target; choose from armlinux-armv8"),
        ({"version": "../../etc"}, "is no release"),
        ({"version": "2.13"}, "is no release"),
        ({"fp16": True}, "publishes no fp16 archive"),
        ({"stl": "gnustl"}, "no such STL"),
        ({"url": "ftp://mirror"}, "is no address of a server"),
        ({"url": "http://a b"}, "is no address of a server"),
    ],
)
def test_bad_arguments(served: Server, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sdk.get(**{"target": "armlinux-armv8", "version": "v2.12", **options})
    assert served.requests == [] and not cache.cache_folder().exists()


def test_cache_that_cannot_be_made(
    served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"):
        fetch()


def test_names_of_the_releases() -> None:
    names = {(a.version, a.name) for a in archives.archives()}
    assert len(names) == len(archives.archives()) == 29
    lib, full = "inference_lite_lib", "with_extra.with_cv"
    assert {
        ("v2.12", f"{lib}.armlinux.armv7hf.gcc.tar.gz"),
        ("v2.12", f"{lib}.android.armv7.clang.c++_static.{full}.tar.gz"),
        ("v2.13-rc", f"{lib}.armlinux.armv8.gcc.{full}.tar.gz"),
        ("v2.13-rc", f"{lib}.android.armv8.clang.c++_shared.{full}.arm82_fp16.tar.gz"),
        ("v2.14-rc", f"{lib}.android.armv8.clang.c++_static.with_extra.tar.gz"),
    } <= names
    for archive in archives.archives():
        assert archives.parse(archive.name, archive.version) == archive
    assert {a.target for a in archives.archives(version="v2.12")} == set(archives.TARGETS)
    assert archives.archives(version="v2.13-rc", target="android-armv7") == []


def test_address_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PADDLE_EDGE_SDK_URL", raising=False)
    assert archives.server() == "https://github.com/PaddlePaddle/Paddle-Lite/releases/download"
    monkeypatch.setenv("PADDLE_EDGE_SDK_URL", "https://mirror/lite/")
    assert archives.server() == "https://mirror/lite"
    assert archives.server("http://other:8000") == "http://other:8000"


@pytest.mark.parametrize(
    ("library", "target"),
    [
        (elf(), "armlinux-armv8"),
        (elf(40, flags=0x5000400), "armlinux-armv7hf"),
        (elf(40, flags=0x5000200), "armlinux-armv7"),
        (elf(40, flags=0x5000200, android=True), "android-armv7"),
        (elf(android=True), "android-armv8"),
        (elf(62), "linux-x86_64"),
        (elf(8), "linux-machine8"),
    ],
)
def test_target_of_a_library(tmp_path: Path, library: bytes, target: str) -> None:
    (tmp_path / "lib.so").write_bytes(library)
    assert _read_elf(tmp_path / "lib.so").target == target


def test_headers_of_real_toolchains(tmp_path: Path) -> None:
    """What binutils writes, with the note of the NDK's crtbegin and with its 4 KB pages."""
    need(shutil.which("aarch64-linux-gnu-gcc") is not None, "aarch64-linux-gnu-gcc")
    need(shutil.which("arm-linux-gnueabihf-gcc") is not None, "arm-linux-gnueabihf-gcc")
    note = tmp_path / "note.S"
    note.write_text(
        '.section .note.android.ident,"a",%note\n.balign 4\n.long 8, 4, 1\n'
        '.asciz "Android"\n.long 21\n.section .rodata\n.byte 0\n.asciz "v2.12"\n'
    )
    cases = [
        ("aarch64-linux-gnu-gcc", [], "armlinux-armv8", 65536),
        ("arm-linux-gnueabihf-gcc", [], "armlinux-armv7hf", None),
        ("aarch64-linux-gnu-gcc", ["-z", "max-page-size=4096", note], "android-armv8", 4096),
    ]
    for compiler, options, target, pages in cases:
        out = tmp_path / "lib.so"
        tool = [compiler, "-shared", "-nostdlib", "-Wl,-z,noexecstack", "-x", "c", os.devnull]
        flags = [f"-Wl,-z,{o}" if "=" in str(o) else str(o) for o in options if o != "-z"]
        subprocess.run([*tool, "-x", "none", *flags, "-o", out], check=True)
        found = _read_elf(out)
        assert found.target == target and pages in (None, found.page_bytes)
    assert _version_of(out) == "v2.12"


def test_real_sdk() -> None:
    folder = os.environ.get("PADDLE_LITE_DIR")
    if not folder:
        pytest.skip("needs PADDLE_LITE_DIR")
    found = Sdk.open(folder)
    assert found.target in archives.TARGETS and found.page_bytes >= 4096
    assert found.library_version is None or re.match(r"v\d|[0-9a-f]{7}$", found.library_version)


def test_small_pages_are_reported(tmp_path: Path) -> None:
    def opened(android: bool, machine: int = 183, page: int = 4096, **java: int) -> Sdk:
        folder = tmp_path / f"{android}{machine}{page}{java}"
        for name, align in {LIBRARY: page, **java}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(elf(machine, android=android, align=align))
        (folder / "cxx/include").mkdir()
        (folder / "cxx/include/paddle_api.h").write_text("")
        return Sdk.open(folder)

    phone = opened(True)
    assert phone.page_bytes == 4096
    assert "aligned to 4 KB pages" in phone.warnings[0] and "Google Play" in phone.warnings[0]
    assert "Raspberry Pi 5" in opened(False).warnings[0]
    assert opened(True, machine=40).warnings == (), "32-bit devices have 4 KB pages"
    assert opened(True, page=16384).warnings == ()
    with_java = opened(True, **{"java/so/libpaddle_lite_jni.so": 4096})
    assert "libpaddle_lite_jni.so, libpaddle_light_api" in with_java.warnings[0] or (
        "libpaddle_light_api_shared.so, libpaddle_lite_jni.so" in with_java.warnings[0]
    )


def test_version_of_a_library(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    for body, version in [
        (b"\0v2.13-rc\0", "v2.13-rc"),
        (b"\0v2.9.1\0 \0abc1234\0", "v2.9.1"),
        (b"\x00044ba5b\0", "044ba5b"),
        (b"\0deadbee\0 \0001234567\0", None),
        (b"\0abc1234\0 \0abc1235\0", None),
        (b" v2.13-rc ", None),
    ]:
        library.write_bytes(body)
        assert _version_of(library) == version


def test_add(served: Server, tmp_path: Path) -> None:
    file = tmp_path / "my lite [1].tar.gz"
    file.write_bytes(packed(tree(elf(says=b"044ba5b")), top="lite"))
    added = sdk.add(file)
    assert (added.target, added.version, added.url) == ("armlinux-armv8", "044ba5b", None)
    assert added.path.parents[1].parent == cache.cache_folder() / "unknown"
    assert sdk.add(file) == added and cache.cached() == [added] and file.exists()
    named = sdk.add(file, version="v2.12")
    assert named.version == "v2.12" and named.path != added.path
    assert named.warnings == (), "a commit does not contradict a release"
    assert sdk.add(file, version="v2.12") == named
    assert not list(cache.cache_folder().glob(".added*"))


def test_add_of_an_official_archive_counts_as_the_download(served: Server, tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(served.files[PATH])
    added = sdk.add(file)
    assert fetch() == added and served.requests == []
    file.write_bytes(packed(tree()))
    with pytest.raises(EngineError, match="was pinned"):
        sdk.add(file)
    (cache.cache_folder() / "v2.12" / f"{NAME}.sha256").unlink()
    assert sdk.add(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest() != added.sha256


@pytest.mark.parametrize("name", ["lite.tar.gz", f"{ARCH.replace('armv8', 'armv7hf')}.tar.gz"])
def test_add_refuses(served: Server, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with pytest.raises(UsageError, match="there is no such file"):
        sdk.add(file)
    with pytest.raises(UsageError, match="set PADDLE_LITE_DIR"):
        sdk.add(tmp_path)
    file.write_bytes(b"not an archive")
    with pytest.raises(EngineError, match=r"is no \.tar\.gz archive"):
        sdk.add(file)
    with pytest.raises(UsageError, match="is no release"):
        sdk.add(file, version="new")
    file.write_bytes(packed(tree() if "armv7hf" in name else {"README": b"text"}))
    with pytest.raises(EngineError, match=r"holds a library for|is no Paddle Lite SDK"):
        sdk.add(file)
    assert left_over() == []


def test_find_sdk(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def added(version: bytes, name: str, **options: Any) -> Path:
        file = tmp_path / f"inference_lite_lib.{name}.tar.gz"
        file.write_bytes(packed(tree(elf(says=version, **options))))
        return sdk.add(file).path

    assert sdk.find_sdk("armlinux-armv8") is None
    old = added(b"v2.12", "armlinux.armv8.gcc")
    assert sdk.find_sdk("armlinux-armv8") == old
    newer = added(b"v2.14-rc", "armlinux.armv8.gcc")
    assert sdk.find_sdk("armlinux-armv8") == newer
    few = added(b"v2.13-rc", "armlinux.armv8.gcc")
    assert sdk.find_sdk("armlinux-armv8") == few, "the version that our optimizer has"
    extra = added(b"v2.13-rc", "armlinux.armv8.gcc.with_extra")
    assert sdk.find_sdk("armlinux-armv8") == extra
    assert sdk.find_sdk("armlinux-armv8", version="v2.12") == old
    half = added(b"v2.13-rc", "android.armv8.clang.c++_shared.arm82_fp16", android=True)
    assert sdk.find_sdk("android-armv8") is None
    assert sdk.find_sdk("android-armv8", fp16=True) == half
    with pytest.raises(UsageError, match=r"no such target"):
        sdk.find_sdk("arm")

    monkeypatch.setenv("PADDLE_LITE_DIR", str(old))
    assert sdk.find_sdk("armlinux-armv8") == old
    assert sdk.find_sdk("armlinux-armv8", version="v2.13-rc") == extra
    assert sdk.find_sdk("armlinux-armv7hf") is None
    monkeypatch.setenv("PADDLE_LITE_DIR", str(tmp_path))
    with pytest.raises(EngineError, match=r"PADDLE_LITE_DIR: .* is no Paddle Lite SDK"):
        sdk.find_sdk("armlinux-armv8")
