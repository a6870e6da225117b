"""The Paddle Lite SDKs that the native runner links: listed, fetched, checked, found.

An SDK is a folder with `cxx/include/paddle_api.h` and `cxx/lib/libpaddle_light_api_shared.so`: what
CMake wants as PADDLE_LITE_DIR. They live in `$XDG_CACHE_HOME/paddle-edge/sdk` (`~/.cache/...`):

    v2.13-rc/<archive>/sdk.json        what it is and where it came from; written last
    v2.13-rc/<archive>/tree/           the archive, unpacked
    v2.13-rc/<archive>.tar.gz.sha256   the pin, in the format of sha256sum
    v2.13-rc/<archive>.tar.gz.part     an interrupted download, with its state in .part.json
    v2.13-rc/<archive>.lock            held by the process that works on it

Paddle Lite publishes no checksums. The first archive of a name that turns out to be an SDK is
therefore pinned, and another one of that name is refused, whatever server it comes from.
"""

from __future__ import annotations

import fcntl
import gzip
import http.client
import json
import mmap
import os
import re
import shutil
import struct
import tarfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError

from py_runner.errors import EngineError, UsageError
from py_runner.files.checksum import sha256
from py_runner.files.folder import check_free, temporary_folder, whole_folder
from py_runner.watch import QUIET, Watch

__all__ = [
    "DEFAULT_VERSION",
    "TARGETS",
    "VERSIONS",
    "Archive",
    "Sdk",
    "add",
    "archives",
    "cache_folder",
    "cached",
    "find_sdk",
    "get",
    "server",
]

TARGETS = ("armlinux-armv8", "armlinux-armv7hf", "android-armv8", "android-armv7")
VERSIONS = ("v2.12", "v2.13-rc", "v2.14-rc")
# The release whose optimizer writes our .nb files: a library of another one may answer wrongly.
DEFAULT_VERSION = "v2.13-rc"

_RELEASES = "https://github.com/PaddlePaddle/Paddle-Lite/releases"
_STLS = ("c++_shared", "c++_static")
_LIBRARY = "libpaddle_light_api_shared.so"
_MANIFEST = "sdk.json"

_TIMEOUT_S = 30.0
_PAUSES_S = (1.0, 3.0, 10.0)  # before each further attempt at an interrupted download
_BLOCK_BYTES = 1 << 18
# The largest official archives are some tens of MB; these only stop what cannot be one.
_MAX_ARCHIVE_BYTES = 1 << 30
_MAX_UNPACKED_BYTES = 2 << 30
_MAX_MEMBERS = 50_000
_MAX_READ_BYTES = 1 << 24
# Google Play asks for it since Android 15, and Raspberry Pi 5 boots such a kernel.
_WANTED_PAGE_BYTES = 16384


@dataclass(frozen=True)
class Archive:
    """One archive of a Paddle Lite release: which of them, and how it is named there.

    `extra`: built with all operators (detection and OCR need it). `cv`: with Paddle Lite's own
    image functions, which the runner does not use. `fp16`: with half-precision kernels, for cores
    of ARMv8.2 and later only. `stl`: the C++ library of an Android archive, None for armlinux.
    """

    version: str
    target: str
    extra: bool = True
    cv: bool = False
    fp16: bool = False
    stl: str | None = None

    @property
    def name(self) -> str:
        """The file name, such as `inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz`."""
        system, arch = self.target.split("-")
        parts = ["inference_lite_lib", system, arch, "clang" if self.stl else "gcc", self.stl]
        flags = ((self.extra, "with_extra"), (self.cv, "with_cv"), (self.fp16, "arm82_fp16"))
        parts += [name for flag, name in flags if flag]
        return ".".join(part for part in parts if part) + ".tar.gz"

    @property
    def folder(self) -> Path:
        """Where it is unpacked in the cache."""
        return cache_folder() / self.version / self.name[: -len(".tar.gz")]


# v2.12: docs/quick_start/release_lib.md at the tag v2.13-rc of Paddle-Lite, without the archives
# built by gcc for Android, which NDK r18 and later no longer has. The later releases have no such
# page: these names stand in public build scripts that download them.
_LISTED = (
    *(
        Archive("v2.12", target, extra, cv, stl=stl)
        for target in TARGETS
        for stl in (_STLS if target.startswith("android") else (None,))
        for extra in (True, False)
        for cv in (False, True)
    ),
    Archive("v2.13-rc", "armlinux-armv8", cv=True),
    Archive("v2.13-rc", "android-armv8", cv=True, fp16=True, stl="c++_shared"),
    Archive("v2.14-rc", "android-armv8", cv=True, stl="c++_shared"),
    Archive("v2.14-rc", "android-armv8", stl="c++_static"),
    Archive("v2.14-rc", "android-armv7", stl="c++_static"),
)


def archives(*, version: str | None = None, target: str | None = None) -> list[Archive]:
    """The official archives that are known to exist, of one release or of all.

    `get` also tries what is not listed here, by the same scheme of names.
    Raises UsageError for an unknown target.
    """
    if target is not None:
        _check_target(target)
    return [a for a in _LISTED if version in (None, a.version) and target in (None, a.target)]


@dataclass(frozen=True)
class Sdk:
    """An SDK on this disk.

    `path`: for PADDLE_LITE_DIR. `target`: read from the library's ELF header, such as
    `armlinux-armv8`. `version`: of the release it was fetched or added as, or else what the library
    says. `library_version`: a tag, or a commit for a library built between releases; None where
    the library does not show it. `page_bytes`: the largest memory page that all its libraries
    can be loaded with. `archive`, `sha256`, `url`: where a cached one came from.
    """

    path: Path
    include: Path
    library: Path
    target: str
    version: str | None
    library_version: str | None
    page_bytes: int
    warnings: tuple[str, ...] = ()
    archive: str | None = None
    sha256: str | None = None
    url: str | None = None

    @classmethod
    def open(cls, path: str | Path, *, version: str | None = None) -> Sdk:
        """Look at a folder that holds `cxx/`, or `include/` and `lib/`, or a folder with these.

        Raises EngineError where there is no SDK or its library is damaged.
        """
        path = Path(path).absolute()
        children = sorted(p for p in path.glob("*") if p.is_dir() and p.name[0] != ".")
        for root in (path, *children):
            for inner in (root / "cxx", root):
                library = inner / "lib" / _LIBRARY
                if (inner / "include" / "paddle_api.h").is_file() and library.is_file():
                    return cls._read(root, inner / "include", library, version)
        raise EngineError(
            f"{path}: is no Paddle Lite SDK: there is no cxx/include/paddle_api.h "
            f"with a cxx/lib/{_LIBRARY}"
        )

    @classmethod
    def _read(cls, root: Path, include: Path, library: Path, version: str | None) -> Sdk:
        elf = _read_elf(library)
        others = sorted({*library.parent.glob("*.so"), *root.glob("java/so/*.so")} - {library})
        pages = {lib.name: _read_elf(lib).page_bytes for lib in others if lib.is_file()}
        pages[library.name] = elf.page_bytes
        said = _version_of(library)
        warnings = []
        small = [name for name, size in pages.items() if size < _WANTED_PAGE_BYTES]
        if small and elf.target.endswith("-armv8"):
            where = (
                "devices with 16 KB pages cannot load them and Google Play refuses them in apps "
                "for Android 15 and later"
                if elf.target.startswith("android")
                else "kernels with 16 KB pages, such as Raspberry Pi 5's, cannot load them"
            )
            warnings.append(
                f"{', '.join(sorted(small))}: aligned to {min(pages.values()) // 1024} KB pages: "
                f"{where}; build Paddle Lite with -Wl,-z,max-page-size=16384"
            )
        if version and said and _is_version(said) and said != version:
            warnings.append(f"{library.name} says that it is {said}, not {version}")
        return cls(
            path=root,
            include=include,
            library=library,
            target=elf.target,
            version=version or said,
            library_version=said,
            page_bytes=min(pages.values()),
            warnings=tuple(warnings),
        )

    def to_json(self) -> dict[str, Any]:
        """All fields; paths as text."""
        fields = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items()}


def get(
    target: str,
    *,
    version: str = DEFAULT_VERSION,
    extra: bool = True,
    fp16: bool = False,
    stl: str = "c++_shared",
    to: str | Path | None = None,
    url: str | None = None,
    watch: Watch = QUIET,
) -> Sdk:
    """The SDK for a target, downloaded unless it is cached.

    Args:
        target: one of TARGETS.
        version: a release's tag, such as v2.13-rc.
        extra, fp16, stl: which archive, as in Archive; `stl` matters on Android only.
        to: also copy it into this new folder, and answer with that copy.
        url: the server, instead of PADDLE_EDGE_SDK_URL and of GitHub's releases: archives are at
            `<url>/<version>/<archive>`.
        watch: is told the bytes that are there and of how many, and what needs to be said.

    Interrupted downloads go on where they stopped, also in a later call, if the server can and the
    file is the same. Several calls at once download once. Raises UsageError for a bad argument,
    EngineError where the archive cannot be had, is none, or is not the one that was pinned.
    """
    choices = _choices(target, version, extra=extra, fp16=fp16, stl=stl)
    base = server(url)
    if to is not None:
        if Path(to).exists():
            raise UsageError(f"{to}: exists already; choose another name")
        check_free(to)
    sdk = next((s for a in choices if (s := _open_cached(a.folder))), None)
    for archive in choices:
        sdk = sdk or _get(archive, f"{base}/{version}/{archive.name}", watch)
    if sdk is None:
        names = " or ".join(archive.name for archive in choices)
        raise EngineError(
            f"{base}/{version}: has no {names} (404); choose from 'paddle-edge sdk list', or find "
            f"one at {_RELEASES} and pass the file to 'paddle-edge sdk add FILE'"
        )
    if to is None:
        return sdk
    folder = next(archive.folder for archive in choices if archive.name == sdk.archive)
    with whole_folder(to) as partial:
        shutil.copytree(folder, partial, symlinks=True, dirs_exist_ok=True)
    return _opened(Path(to))


def add(file: str | Path, *, version: str | None = None, watch: Watch = QUIET) -> Sdk:
    """Unpack an archive that is on this disk into the cache; the file stays where it is.

    `version` is the release it belongs to where the library does not say it. An archive with
    an official name takes the place, and the pin, of the downloaded one. Raises UsageError for a
    bad argument, EngineError where the file is no SDK or not the pinned one.
    """
    file = Path(file)
    if version is not None:
        _check_version(version)
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; to use an unpacked SDK, set PADDLE_LITE_DIR to it")
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    digest = sha256(file)
    _make_folder(cache_folder())
    with temporary_folder(".added-", cache_folder()) as temporary:
        tree = temporary / "tree"
        _unpack(file, tree, source=file)
        found = Sdk.open(tree, version=version)
        label = found.version if found.version and _is_version(found.version) else "unknown"
        official = _parse(file.name, label)
        if official is not None:
            _check_holds(file, found, official.target)
            folder = official.folder
        else:
            stem = re.sub(r"[^\w+-]+", "_", file.name.split(".t")[0], flags=re.ASCII)
            folder = cache_folder() / label / f"{stem}-{digest[:8]}"
        pin = folder.with_name(f"{file.name}.sha256")
        with _locked(folder, watch):
            if official is not None:
                _check_pin(pin, digest, file)
                _write_pin(pin, digest, file.name)
            here = _open_cached(folder)
            if here is None or here.sha256 != digest:
                with _new_folder(folder) as partial:
                    tree.rename(partial / "tree")
                    _write_manifest(partial, label, file.name, digest, None)
    return _opened(folder)


def cached() -> list[Sdk]:
    """The SDKs in the cache, sorted by version and name; damaged ones are left out."""
    folders = sorted(m.parent for m in cache_folder().glob(f"*/*/{_MANIFEST}"))
    return [s for f in folders if f.name[0] != "." and (s := _open_cached(f)) is not None]


def find_sdk(target: str, *, version: str | None = None, fp16: bool = False) -> Path | None:
    """The folder of an SDK for `target`: PADDLE_LITE_DIR where it fits, or else the cache's best.

    Of the cached ones the default version comes first, then newer ones, then those with all
    operators. `fp16` asks for a library with half-precision kernels; such a one is never given
    otherwise, because it dies on cores that lack them. None where there is nothing. Raises
    UsageError for an unknown target, EngineError where PADDLE_LITE_DIR holds no SDK.
    """
    _check_target(target)
    if named := os.environ.get("PADDLE_LITE_DIR"):
        try:
            sdk = Sdk.open(named)
        except EngineError as error:
            raise EngineError(f"PADDLE_LITE_DIR: {error}") from None
        if sdk.target == target and version in (None, sdk.version):
            return sdk.path
    fitting = [
        sdk
        for sdk in cached()
        if sdk.target == target
        and version in (None, sdk.version)
        and fp16 == ("arm82_fp16" in (sdk.archive or ""))
    ]
    return max(fitting, key=_preference).path if fitting else None


def _preference(sdk: Sdk) -> tuple[Any, ...]:
    numbers = [int(n) for n in re.findall(r"\d+", sdk.version or "")]
    return (sdk.version == DEFAULT_VERSION, numbers, "with_extra" in (sdk.archive or ""))


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/paddle-edge/sdk`; it may not be there yet."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / "paddle-edge" / "sdk"


def server(url: str | None = None) -> str:
    """The address before `/<version>/<archive>`: `url`, or PADDLE_EDGE_SDK_URL, or GitHub."""
    chosen = url or os.environ.get("PADDLE_EDGE_SDK_URL") or f"{_RELEASES}/download"
    if not re.fullmatch(r"https?://[!-~]+", chosen):
        raise UsageError(f"{chosen!a}: is no address of a server: it begins with https://")
    return chosen.rstrip("/")


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise UsageError(f"{target!a}: there is no such target; choose from {', '.join(TARGETS)}")


def _is_version(text: str) -> bool:
    return re.fullmatch(r"v\d+\.\d+(\.\d+)?(-(rc|beta)\d*)?", text, re.ASCII) is not None


def _check_version(version: str) -> None:
    if not _is_version(version):
        raise UsageError(f"{version!a}: is no release of Paddle Lite such as {DEFAULT_VERSION}")


def _choices(target: str, version: str, *, extra: bool, fp16: bool, stl: str) -> list[Archive]:
    """The archives that would do, best first: the runner needs no cv, and does not mind it."""
    _check_target(target)
    _check_version(version)
    android = target.startswith("android")
    if stl not in _STLS:
        raise UsageError(f"{stl!a}: there is no such STL; choose from {', '.join(_STLS)}")
    if fp16 and not android:
        raise UsageError(
            f"{target}: Paddle Lite publishes no fp16 archive for it; build one with "
            "lite/tools/build_linux.sh --with_arm82_fp16=ON and pass it to 'paddle-edge sdk add'"
        )
    both = [
        Archive(version, target, extra, cv, fp16, stl if android else None) for cv in (False, True)
    ]
    return sorted(both, key=lambda archive: archive not in _LISTED)


def _parse(name: str, version: str) -> Archive | None:
    """The Archive of that file name, or None for a name of another scheme."""
    for target in TARGETS if _is_version(version) else ():
        for stl in _STLS if target.startswith("android") else (None,):
            for bits in range(8):
                archive = Archive(version, target, bool(bits & 1), bool(bits & 2), bits > 3, stl)
                if archive.name == name:
                    return archive
    return None


def _get(archive: Archive, url: str, watch: Watch) -> Sdk | None:
    """Download and unpack one archive; None where the server does not have it."""
    folder = archive.folder
    part, pin = (folder.with_name(archive.name + end) for end in (".part", ".sha256"))
    with _locked(folder, watch):
        if (here := _open_cached(folder)) is not None:  # by whoever held the lock
            return here
        try:
            if not _download(url, part, watch):
                return None
        except OSError as error:
            raise UsageError(f"{part}: cannot be written: {error.strerror or error}") from None
        try:
            digest = sha256(part)
            _check_pin(pin, digest, url)
            with _new_folder(folder) as partial:
                _unpack(part, partial / "tree", source=url)
                _check_holds(url, Sdk.open(partial / "tree"), archive.target)
                _write_manifest(partial, archive.version, archive.name, digest, url)
                _write_pin(pin, digest, archive.name)
        except EngineError:
            _forget(part)  # it arrived whole: there is nothing to resume
            raise
        _forget(part)
    return _opened(folder)


def _check_holds(source: str | Path, sdk: Sdk, target: str) -> None:
    if sdk.target != target:
        raise EngineError(f"{source}: holds a library for {sdk.target}, not for {target}")


def _check_pin(pin: Path, digest: str, source: str | Path) -> None:
    try:
        pinned = pin.read_text(encoding="ascii").split()[0]
    except FileNotFoundError:
        return
    except (IndexError, UnicodeDecodeError):
        raise EngineError(f"{pin}: holds no sha256; delete it and run again") from None
    if digest != pinned:
        raise EngineError(
            f"{source}: its sha256 is {digest}, but {pinned} was pinned when an archive of this "
            f"name was first used; if you trust the new one, delete {pin} and run again"
        )


def _write_pin(pin: Path, digest: str, name: str) -> None:
    _write_whole(pin, f"{digest}  {name}\n")


def _write_manifest(folder: Path, version: str, archive: str, digest: str, url: str | None) -> None:
    fields = {"format": 1, "version": version, "archive": archive, "sha256": digest, "url": url}
    _write_whole(folder / _MANIFEST, json.dumps(fields, indent=1) + "\n")


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _opened(folder: Path) -> Sdk:
    """A cached SDK. Raises EngineError where it is damaged, FileNotFoundError where it is not."""
    try:
        fields = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        version = str(fields["version"])
        sdk = Sdk.open(folder / "tree", version=version if _is_version(version) else None)
        return replace(sdk, archive=fields["archive"], sha256=fields["sha256"], url=fields["url"])
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"{folder / _MANIFEST}: is damaged; delete {folder}") from None


def _open_cached(folder: Path) -> Sdk | None:
    with suppress(EngineError, OSError):
        return _opened(folder)
    return None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A whole new folder in the cache, in the place of a damaged one and of what a kill left."""
    for old in (folder, *folder.parent.glob(f".{folder.name}.partial-*")):
        shutil.rmtree(old, ignore_errors=True)
    with whole_folder(folder) as partial:
        yield partial


@contextmanager
def _locked(folder: Path, watch: Watch) -> Iterator[None]:
    """One process at a time works on this folder; the kernel frees the lock of a dead one."""
    _make_folder(folder.parent)
    with folder.with_name(folder.name + ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watch.say(f"{folder.name}: another paddle-edge is at it: waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder that can "
            "be written to"
        ) from None


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


def _download(url: str, part: Path, watch: Watch) -> bool:
    """Make `part` the whole file at `url`, going on from what it holds; False for a 404."""
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


def _download_once(url: str, part: Path, watch: Watch) -> bool:
    state = _state_of(part)
    have = part.stat().st_size if part.exists() and state.get("url") == url else 0
    if have and have == state.get("total"):
        return True
    # Without a validator nothing says that the file is still the same.
    have = have if state.get("validator") else 0
    headers = {"User-Agent": "paddle-edge", "Accept-Encoding": "identity"}
    if have:
        headers.update({"Range": f"bytes={have}-", "If-Range": state["validator"]})
    try:
        opener = urllib.request.build_opener(_Redirects)  # and the proxies of the environment
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return False
        if error.code == 416 and have:  # the file is shorter than what we hold: another one
            _forget(part)
            return _download_once(url, part, watch)
        text = f"the server answers {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _InterruptedError(text) from None
        raise EngineError(f"{url}: {text}") from None
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        if have:  # it could be reached a while ago
            raise _InterruptedError(f"cannot be reached: {reason}") from None
        raise EngineError(
            f"{url}: cannot be reached: {reason}; check the network and https_proxy, or "
            "fetch the file elsewhere and pass it to 'paddle-edge sdk add FILE'"
        ) from None
    except (http.client.HTTPException, OSError) as error:
        raise _InterruptedError(f"no answer: {error or type(error).__name__}") from None
    with response:
        if response.status not in ((200, 206) if have else (200,)):
            raise EngineError(f"{url}: the server answers {response.status} {response.reason}")
        if response.status == 200 or _continues(response.headers, have, state):
            _receive(response, url, part, have if response.status == 206 else 0, watch)
            return True
    _forget(part)
    return _download_once(url, part, watch)


def _continues(headers: Any, have: int, state: dict[str, Any]) -> bool:
    """Whether a 206 is the rest of the very file that was begun."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    return (
        span is not None
        and int(span[1]) == have
        and span[2] in ("*", str(state.get("total")))
        and _validator(headers) in (None, state["validator"])
    )


def _validator(headers: Any) -> str | None:
    """What If-Range takes: a strong ETag, or else the date of the last change."""
    etag: str | None = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _receive(response: Any, url: str, part: Path, have: int, watch: Watch) -> None:
    """Write the answer's body to `part` from byte `have` on."""
    total = _state_of(part).get("total") if have else response.length
    _check_size(total or 0, url)
    with part.open("ab" if have else "wb") as stream:
        if not have:
            state = {"url": url, "validator": _validator(response.headers), "total": total}
            _write_whole(_state_path(part), json.dumps(state))
        while True:
            watch.step("download", have, total)
            try:
                block = response.read(_BLOCK_BYTES)
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


def _state_of(part: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
        if isinstance(state, dict):
            return state
    return {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


class _BoundedGzip(gzip.GzipFile):
    """Refuses what grows beyond all bounds.

    Also a single large read: a header may claim a name of gigabytes, which tarfile would hold in
    memory.
    """

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ_BYTES or self.tell() > _MAX_UNPACKED_BYTES:
            raise _HostileError("it unpacks to more than an SDK can hold")
        return super().read(size)


class _HostileError(Exception):
    """An archive that no honest tool has made."""


def _unpack(archive: Path, into: Path, *, source: str | Path) -> None:
    """Unpack a .tar.gz into the new folder `into`. Raises EngineError that names `source`.

    Only files, folders and links that stay inside are made, and links last, so that nothing is
    written through one. This is our own loop because tarfile's filters are not in every Python
    3.9 to 3.11 and set no bounds; it uses tarfile to read only.
    """
    try:
        into.mkdir()
        with _BoundedGzip(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            _unpack_members(tar, into)
            while stream.read(_BLOCK_BYTES):  # to the end, where gzip's checksum is
                pass
    except _HostileError as error:
        raise EngineError(f"{source}: refused: {error}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = Path(error.filename2 or error.filename).relative_to(into)
        raise EngineError(f"{source}: refused: {str(name)!a} is there twice") from None
    except gzip.BadGzipFile:
        raise EngineError(f"{source}: is no .tar.gz archive, or damaged") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError):
        raise EngineError(f"{source}: the archive is damaged or not whole") from None


def _unpack_members(tar: tarfile.TarFile, into: Path) -> None:
    links: list[tuple[Path, str]] = []
    size = 0
    for count, member in enumerate(tar):
        size += max(member.size, 0)
        if count >= _MAX_MEMBERS or size > _MAX_UNPACKED_BYTES or member.size < 0:
            raise _HostileError("it unpacks to more than an SDK can hold")
        path = _inside(into, member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.isreg():
            with path.open("xb") as out:
                shutil.copyfileobj(_content(tar, member), out)
            path.chmod(0o755 if member.mode & 0o100 else 0o644)
        elif member.issym():
            links.append((path, member.linkname))
        elif member.islnk():
            target = _inside(into, member.linkname)
            if not target.is_file():
                raise _HostileError(f"{member.name!a} is a link to {member.linkname!a}")
            os.link(target, path)
        else:
            raise _HostileError(f"{member.name!a} is neither a file nor a folder")
    for path, target_name in links:
        if not target_name:
            raise _HostileError(f"{str(path.relative_to(into))!a} is a link to {target_name!a}")
        path.symlink_to(target_name)
    for path, target_name in links:
        try:
            path.resolve().relative_to(into.resolve())
        except (ValueError, OSError, RuntimeError):  # outside, or in a circle
            name = str(path.relative_to(into))
            raise _HostileError(f"{name!a} is a link to {target_name!a}") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError
    return content


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise _HostileError(f"{name!a} leads out of the archive")
    return folder / pure


@dataclass(frozen=True)
class _Elf:
    target: str
    page_bytes: int


_ELF_HEADER = {1: "<16sHHIIIIIHHH", 2: "<16sHHIQQQIHHH"}  # to e_phnum, by EI_CLASS
_PROGRAM_HEADER = {1: "<IIIIIIII", 2: "<IIQQQQQQ"}
_PT_LOAD, _PT_NOTE, _EM_386, _EM_ARM, _EM_X86_64, _EM_AARCH64 = 1, 4, 3, 40, 62, 183
_EF_ARM_ABI_FLOAT_HARD = 0x400


def _read_elf(path: Path) -> _Elf:
    """What a shared library is for (ELF gABI; "ELF for the Arm Architecture" for its flags).

    A library built by the NDK carries a note by "Android"; its crtbegin puts it there.
    """
    try:
        with _mapped(path) as data:
            bits = data[4]
            header = struct.unpack_from(_ELF_HEADER[bits], data)
            machine, phoff, flags, phentsize, phnum = (header[i] for i in (2, 5, 7, 9, 10))
            table = data[phoff : phoff + phentsize * phnum]
            segments = [
                struct.unpack_from(_PROGRAM_HEADER[bits], table, i * phentsize)
                for i in range(phnum)
            ]
            page_bytes = min(segment[7] for segment in segments if segment[0] == _PT_LOAD)
            notes = [(s[bits], s[3 + bits]) for s in segments if s[0] == _PT_NOTE]
            android = any(b"Android\0" in data[at : at + min(n, 1 << 16)] for at, n in notes)
            if data[:4] != b"\x7fELF" or data[5] != 1:
                raise ValueError
    except (IndexError, KeyError, ValueError, struct.error):
        raise EngineError(f"{path}: is no shared library, or damaged") from None
    arm = "armv7hf" if flags & _EF_ARM_ABI_FLOAT_HARD and not android else "armv7"
    names = {_EM_386: "x86", _EM_ARM: arm, _EM_X86_64: "x86_64", _EM_AARCH64: "armv8"}
    arch = names.get(machine, f"machine{machine}")
    system = "android" if android else "armlinux" if arch.startswith("arm") else "linux"
    return _Elf(f"{system}-{arch}", page_bytes)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as data:
        yield data


def _version_of(library: Path) -> str | None:
    """The string that GetVersion() returns: a tag or, for builds between tags, a commit.

    Compilers may build such a short string from immediates: then it cannot be seen.
    """
    with _mapped(library) as data:
        for pattern in (
            rb"(?<=\0)v\d+\.\d+(?:\.\d+)?(?:-(?:rc|beta)\d*)?(?=\0)",
            rb"(?<=\0)(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7}(?=\0)",
        ):
            found: set[bytes] = set(re.findall(pattern, data))
            if len(found) == 1:
                return found.pop().decode()
    return None
