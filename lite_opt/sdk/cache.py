"""The cache of SDKs: `$XDG_CACHE_HOME/paddle-edge/sdk` (`~/.cache/...`).

v2.13-rc/<archive>/sdk.json        what it is and where it came from; written last
v2.13-rc/<archive>/tree/           the archive, unpacked
v2.13-rc/<archive>.tar.gz.sha256   the pin, in the format of sha256sum
v2.13-rc/<archive>.tar.gz.part     an interrupted download, with its state in .part.json
v2.13-rc/<archive>.lock            held by the process that works on it
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Optional

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from lite_opt.sdk.archives import Archive, is_version
from lite_opt.sdk.library import Sdk
from py_runner.errors import EngineError, PaddleEdgeError, UsageError
from py_runner.files import manifest
from py_runner.files.folder import whole_folder
from py_runner.files.regular import read_text
from py_runner.watch import Watch

__all__ = ["Origin", "Place", "cache_folder", "cached", "make_folder", "opened"]

_FORMAT = 1
_MANIFEST = "sdk.json"


@dataclass(frozen=True)
class Origin:
    """Where an SDK came from. `url`: None for a file that was here already."""

    version: str
    archive: str
    sha256: str
    url: Optional[str]  # noqa: UP045  evaluated when a manifest is read, by CPython 3.9 too


@dataclass(frozen=True)
class Place:
    """Where the SDK of one archive is, or is to be: `folder`, and what lies beside it."""

    folder: Path
    archive: str

    @classmethod
    def of(cls, archive: Archive) -> Place:
        """The place of an official archive."""
        name = archive.name
        return cls(cache_folder() / archive.version / name[: -len(".tar.gz")], name)

    @property
    def part(self) -> Path:
        """Where the archive is downloaded to."""
        return self.folder.with_name(f"{self.archive}.part")

    @property
    def pin(self) -> Path:
        """The sha256 of the first archive of this name that was an SDK."""
        return self.folder.with_name(f"{self.archive}.sha256")

    @contextmanager
    def locked(self, watch: Watch) -> Iterator[None]:
        """One process at a time works here; the kernel frees the lock of a dead one."""
        make_folder(self.folder.parent)
        lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"))
        try:
            held = lock.acquire(blocking=False)
        except Timeout:
            watch.say(f"{self.folder.name}: another paddle-edge is at it: waiting")
            held = lock.acquire()
        with held:
            yield

    def sdk(self) -> Sdk | None:
        """What is here; None where that is nothing, or damaged."""
        return _if_whole(self.folder)

    def check_pin(self, digest: str, source: str | Path) -> None:
        """Raise EngineError where another archive of this name was pinned than `source`."""
        try:
            pinned = read_text(self.pin, "ascii").split()[0]
        except FileNotFoundError:
            return
        except (IndexError, UnicodeDecodeError):
            raise EngineError(f"{self.pin}: holds no sha256; delete it and run again") from None
        if digest != pinned:
            raise EngineError(
                f"{source}: its sha256 is {digest}, but {pinned} was pinned when an archive of "
                f"this name was first used; if you trust the new one, delete {self.pin} and run "
                f"again"
            )

    def write_pin(self, digest: str) -> None:
        """Refuse other archives of this name from now on."""
        beside = self.pin.with_name(f"{self.pin.name}.new")
        beside.write_text(f"{digest}  {self.archive}\n", encoding="utf-8")
        beside.replace(self.pin)

    @contextmanager
    def filled(self, origin: Origin) -> Iterator[Path]:
        """The path of a tree to make, which is here when the block ends without an error.

        It takes the place of a damaged one and of what a kill left.
        """
        for old in (self.folder, *self.folder.parent.glob(f".{self.folder.name}.partial-*")):
            shutil.rmtree(old, ignore_errors=True)
        with whole_folder(self.folder) as partial:
            yield partial / "tree"
            manifest.write(partial / _MANIFEST, {"format": _FORMAT, **asdict(origin)})


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/paddle-edge/sdk`; it may not be there yet."""
    return user_cache_path("paddle-edge") / "sdk"


def cached() -> list[Sdk]:
    """The SDKs in the cache, sorted by version and name; damaged ones are left out."""
    folders = sorted(m.parent for m in cache_folder().glob(f"*/*/{_MANIFEST}"))
    return [sdk for f in folders if f.name[0] != "." and (sdk := _if_whole(f)) is not None]


def opened(folder: Path) -> Sdk:
    """The SDK of a folder of the cache, or of a copy of one.

    Raises EngineError or ModelError where it is damaged or missing.
    """
    path = folder / _MANIFEST
    document, _ = manifest.read(path, what="an SDK", version=_FORMAT, advice=f"delete {folder}")
    try:
        origin = manifest.from_json(Origin, document)
    except ValueError as error:
        raise EngineError(f"{path}: is damaged: {error}; delete {folder}") from None
    version = origin.version if is_version(origin.version) else None
    sdk = Sdk.open(folder / "tree", version=version)
    return replace(sdk, archive=origin.archive, sha256=origin.sha256, url=origin.url)


def _if_whole(folder: Path) -> Sdk | None:
    with suppress(PaddleEdgeError, OSError):
        return opened(folder)
    return None


def make_folder(folder: Path) -> None:
    """Make a folder of the cache. Raises UsageError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder that can "
            "be written to"
        ) from None
