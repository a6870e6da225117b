"""The Paddle Lite SDKs that the native runner links: fetched or added, checked, found.

An SDK is a folder with `cxx/include/paddle_api.h` and `cxx/lib/libpaddle_light_api_shared.so`: what
CMake wants as PADDLE_LITE_DIR. They live in the cache.

Paddle Lite publishes no checksums. The first archive of a name that turns out to be an SDK is
therefore pinned, and another one of that name is refused, whatever server it comes from.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from lite_opt.sdk.archives import (
    DEFAULT_VERSION,
    RELEASES,
    Archive,
    check_target,
    check_version,
    choices,
    is_version,
    parse,
    server,
)
from lite_opt.sdk.cache import Origin, Place, cache_folder, cached, make_folder, opened
from lite_opt.sdk.download import download, forget
from lite_opt.sdk.library import Sdk
from lite_opt.sdk.unpack import unpack
from py_runner.errors import EngineError, UsageError
from py_runner.files.checksum import sha256
from py_runner.files.folder import check_free, temporary_folder, whole_folder
from py_runner.watch import QUIET, Watch

__all__ = ["add", "find_sdk", "get"]


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
    places = {a: Place.of(a) for a in choices(target, version, extra=extra, fp16=fp16, stl=stl)}
    base = server(url)
    if to is not None:
        if Path(to).exists():
            raise UsageError(f"{to}: exists already; choose another name")
        check_free(to)
    sdk = next((sdk for place in places.values() if (sdk := place.sdk())), None)
    for archive, place in places.items():
        sdk = sdk or _get(archive, place, f"{base}/{version}/{archive.name}", watch)
    if sdk is None:
        names = " or ".join(archive.name for archive in places)
        raise EngineError(
            f"{base}/{version}: has no {names} (404); choose from 'paddle-edge sdk list', or find "
            f"one at {RELEASES} and pass the file to 'paddle-edge sdk add FILE'"
        )
    if to is None:
        return sdk
    folder = next(place.folder for place in places.values() if place.archive == sdk.archive)
    with whole_folder(to) as partial:
        shutil.copytree(folder, partial, symlinks=True, dirs_exist_ok=True)
    return opened(Path(to))


def add(file: str | Path, *, version: str | None = None, watch: Watch = QUIET) -> Sdk:
    """Unpack an archive that is on this disk into the cache; the file stays where it is.

    `version` is the release it belongs to where the library does not say it. An archive with
    an official name takes the place, and the pin, of the downloaded one. Raises UsageError for a
    bad argument, EngineError where the file is no SDK or not the pinned one.
    """
    file = Path(file)
    if version is not None:
        check_version(version)
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; to use an unpacked SDK, set PADDLE_LITE_DIR to it")
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    digest = sha256(file)
    make_folder(cache_folder())
    with temporary_folder(".added-", cache_folder()) as temporary:
        tree = temporary / "tree"
        unpack(file, tree, source=file)
        found = Sdk.open(tree, version=version)
        label = found.version if found.version and is_version(found.version) else "unknown"
        official = parse(file.name, label)
        if official is not None:
            _check_holds(file, found, official.target)
            place = Place.of(official)
        else:
            stem = re.sub(r"[^\w+-]+", "_", file.name.split(".t")[0], flags=re.ASCII)
            place = Place(cache_folder() / label / f"{stem}-{digest[:8]}", file.name)
        with place.locked(watch):
            if official is not None:
                place.check_pin(digest, file)
                place.write_pin(digest)
            here = place.sdk()
            if here is None or here.sha256 != digest:
                with place.filled(Origin(label, file.name, digest, None)) as destination:
                    tree.rename(destination)
    return opened(place.folder)


def find_sdk(target: str, *, version: str | None = None, fp16: bool = False) -> Path | None:
    """The folder of an SDK for `target`: PADDLE_LITE_DIR where it fits, or else the cache's best.

    Of the cached ones the default version comes first, then newer ones, then those with all
    operators. `fp16` asks for a library with half-precision kernels; such a one is never given
    otherwise, because it dies on cores that lack them. None where there is nothing. Raises
    UsageError for an unknown target, EngineError where PADDLE_LITE_DIR holds no SDK.
    """
    check_target(target)
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


def _get(archive: Archive, place: Place, url: str, watch: Watch) -> Sdk | None:
    """Download and unpack one archive; None where the server does not have it."""
    with place.locked(watch):
        if (here := place.sdk()) is not None:  # by whoever held the lock
            return here
        if not download(url, place.part, watch):
            return None
        try:
            digest = sha256(place.part)
            place.check_pin(digest, url)
            with place.filled(Origin(archive.version, archive.name, digest, url)) as tree:
                unpack(place.part, tree, source=url)
                _check_holds(url, Sdk.open(tree), archive.target)
                place.write_pin(digest)
        except EngineError:
            forget(place.part)  # it arrived whole: there is nothing to resume
            raise
        forget(place.part)
    return opened(place.folder)


def _check_holds(source: str | Path, sdk: Sdk, target: str) -> None:
    if sdk.target != target:
        raise EngineError(f"{source}: holds a library for {sdk.target}, not for {target}")
