"""A Run under way: a folder in the place of the Run that it becomes.

RUN/
  begun.json      what is being run, on what, how often and how fast: `Begun`
  parts/<place>/  a whole Run folder of the next samples, called after the place of the first one in
                  the data set, with part.json: which places it has answered, and the checksum of
                  its files
  before/         what it replaces by --force, until it is complete

A part is written under a hidden name, brought to the disk and renamed: it is whole or not there,
whatever ends the process or the machine. Damage afterwards is found by the checksum. Nothing here
knows what a Run is made of; whoever adds a part writes it.

At a Url a part is put there once it is whole, its part.json last, and what is replaced stays where
it is, not in before/. Whoever works at it has the parts here as well, in a temporary folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional, TypeVar, cast

from py_runner.errors import ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.checksum import sha256
from py_runner.files.faults import reason
from py_runner.files.folder import get_folder, put_folder, temporary_folder, whole_folder
from py_runner.files.regular import open_regular, read_bytes, to_disk
from py_runner.files.url import Place, Url, place

__all__ = [
    "BEGUN",
    "Begun",
    "Part",
    "Places",
    "UnderWay",
    "changed",
    "in_words",
    "is_under_way",
    "locked",
]

BEGUN = "begun.json"
_FORMAT = 1
_PARTS, _PART = "parts", "part.json"
_BEFORE = "before"
_BRIEF = 80  # characters of a value
_ADVICE = "begin anew with --force"
_P = TypeVar("_P", bound=Place)


@dataclass(frozen=True)
class Begun:
    """What is being run: `same` is what has to be the same when it is gone on with, in the words of
    the options; `samples` how many there are; `command` the words that go on."""

    format: int
    program: str
    same: dict[str, Any]
    samples: int
    command: tuple[str, ...]

    @property
    def go_on(self) -> str:
        """The command that goes on, as a shell takes it."""
        return shlex.join(self.command)

    def changed(self, now: dict[str, Any]) -> list[str]:
        """What is not the same now, in words."""
        return changed(self.same, now)


@dataclass(frozen=True)
class Part:
    """A whole part: the samples at the places from `first` to `end`, `end` not included; `stamp` is
    what whoever added it said of their files."""

    path: Path
    first: int
    end: int
    stamp: str | None = None


@dataclass(frozen=True)
class Places:
    """What a part has answered: the places from `first` to `end`, how many samples of these, and
    what is known of their files, for whoever goes on."""

    first: int
    end: int
    samples: int
    stamp: str | None = None


@dataclass(frozen=True)
class _Manifest:
    format: int
    first: int
    end: int
    samples: int
    sha256: str
    stamp: Optional[str] = None  # noqa: UP045  evaluated when a manifest is read, by CPython 3.9 too


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    return [
        f"{name} was {_brief(before.get(name))} and is {_brief(value)} now"
        for name, value in now.items()
        if before.get(name) != value
    ]


def is_under_way(path: str | Place) -> bool:
    """Whether a folder holds a Run that is not complete."""
    return (place(path) / BEGUN).exists()


def in_words(path: str | Place) -> str:
    """How far a Run under way has come, and how to go on. Raises ModelError where it is damaged."""
    path = place(path)
    begun = _read_begun(path)
    done = 0
    for folder in _folders(path):
        with suppress(_DamageError):
            done += _read(folder).samples
    before = path / _BEFORE
    replaced = f"what it replaces is kept in {before} until then; " if before.exists() else ""
    return (
        f"{path}: is a run under way, not complete: {done} of {begun.samples} samples are "
        f"answered; {replaced}to go on: {begun.go_on}"
    )


def locked(path: Place) -> ExitStack:
    """What keeps other processes from a Run under way until it is closed. Raises UsageError where
    one is at work. Nothing does at a Url: see `UnderWay.check_alone`."""
    held = ExitStack()
    if isinstance(path, Url):
        return held
    lock = open_regular(path / BEGUN)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UsageError(f"{path}: another process is at work on it") from None
    held.callback(lock.close)
    return held


class UnderWay:
    """A Run under way at `path`, which this process alone works at. Use as a context manager.

    `begun` is what it says of itself, `parts` are its whole parts in order, `damaged` those that
    are not, in words; their folders are gone. Raises ModelError where begun.json is damaged, and
    UsageError where another process is at work.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self.begun = _read_begun(path)
        self.parts: list[Part] = []
        self.damaged: list[str] = []
        self._held = locked(path)
        with self._held.pop_all() as held:
            self._parts = self._here(held)
            self._look()
            self._held = held.pop_all()

    def _here(self, held: ExitStack) -> Path:
        """The folder of the parts, or of their copies."""
        if not isinstance(self.path, Url):
            return self.path / _PARTS
        copies = held.enter_context(temporary_folder())
        get_folder(self.path / _PARTS, copies)
        return copies

    @classmethod
    def begin(
        cls,
        path: Place,
        begun: Begun,
        write: Callable[[Path], object],
        places: Places,
        *,
        force: bool,
    ) -> UnderWay:
        """Make the folder with its first part: see `add`. With `force` it holds what it replaces,
        but parts, until it is replaced itself. Raises UsageError as `whole_folder`."""
        kept = (_BEFORE if is_under_way(path) else ".", _BEFORE)
        if force and isinstance(path, Url):
            _remove(path / BEGUN)
            _remove(path / _PARTS)
        with whole_folder(path, force=force, kept=kept) as folder:
            manifest.write(folder / BEGUN, asdict(begun))
            (folder / _PARTS).mkdir()
            _write_part(folder / _PARTS, write, places)
            to_disk(folder / BEGUN, folder / _PARTS, folder)
        if isinstance(path, Path):
            to_disk(path.absolute().parent)
        return cls(path)

    def add(self, write: Callable[[Path], object], places: Places) -> None:
        """Add the part that `write` writes into a folder. Raises UsageError where it cannot be
        written."""
        try:
            self.check_alone()
            here = isinstance(self.path, Path)
            part = _write_part(self._parts, write, places, durable=here)
            if isinstance(self.path, Url):
                put_folder(part, self.path / _PARTS / part.name)
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written: {reason(error)}; what was answered before is "
                f"kept, go on with: {self.begun.go_on}"
            ) from error
        new = Part(part, places.first, places.end, places.stamp)
        self.parts = sorted([*self.parts, new], key=lambda one: one.first)

    def check_alone(self) -> None:
        """Raise UsageError where somebody else works at the same Run at a Url."""
        if isinstance(self.path, Url):
            there = [folder.name for folder in _folders(self.path)]
            known = [part.path.name for part in self.parts]
            if there != known or _read_begun(self.path) != self.begun:
                raise UsageError(
                    f"{self.path}: another process is at work on it: end one of them, and go on "
                    f"with: {self.begun.go_on}"
                )

    def gaps(self) -> Iterator[tuple[int, int, Part | None]]:
        """The places of all samples, in order: ranges that a part has answered, and those between
        them, to be run."""
        place = 0
        for part in self.parts:
            if part.first > place:
                yield place, part.first, None
            yield part.first, part.end, part
            place = part.end
        if place < self.begun.samples:
            yield place, self.begun.samples, None

    def _look(self) -> None:
        place = 0
        for folder in _folders_in(self._parts):
            try:
                about = _read(folder)
                if about.first < place or about.end > self.begun.samples:
                    raise _DamageError("overlaps with another")
                if _checksum(folder, about) != about.sha256:
                    raise _DamageError("is damaged")
            except (_DamageError, OSError) as error:
                words = error if isinstance(error, _DamageError) else reason(error)
                self.damaged.append(f"part {folder.name} {words}: its samples are run again")
                shutil.rmtree(folder)
                if isinstance(self.path, Url):
                    _remove(self.path / _PARTS / folder.name)
                continue
            self.parts.append(Part(folder, about.first, about.end, about.stamp))
            place = about.end
        for hidden in self._parts.glob(".*"):  # of a process that was killed
            shutil.rmtree(hidden)

    def __enter__(self) -> UnderWay:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


class _DamageError(Exception):
    """Why a part is none, after its name."""


def _remove(url: Url) -> None:
    with suppress(FileNotFoundError):
        url.remove()


def _read_begun(path: Place) -> Begun:
    document, _ = manifest.read(
        path / BEGUN, what="a run under way", version=_FORMAT, advice=_ADVICE
    )
    try:
        return manifest.from_json(Begun, document)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path / BEGUN}: damaged: {error}; {_ADVICE}") from None


def _folders(path: Place) -> list[Place]:
    """The folders of the parts of a Run under way, in order."""
    return _folders_in(path / _PARTS)


def _folders_in(parts: _P) -> list[_P]:
    try:
        there = cast("Iterable[_P]", parts.iterdir())
        return sorted((p for p in there if p.name[0] != "."), key=lambda p: p.name)
    except FileNotFoundError:
        return []


def _read(folder: Place) -> _Manifest:
    try:
        about = manifest.from_json(_Manifest, json.loads(read_bytes(folder / _PART)))
    except (OSError, TypeError, ValueError):
        raise _DamageError("is damaged") from None
    if about.format != _FORMAT or folder.name != _name(about.first) or about.end <= about.first:
        raise _DamageError("is damaged")
    return about


def _name(first: int) -> str:
    return f"{first:08d}"


def _write_part(
    parts: Path,
    write: Callable[[Path], object],
    places: Places,
    *,
    durable: bool = True,
) -> Path:
    target = parts / _name(places.first)
    with temporary_folder(f".{target.name}.partial-", parts) as folder:
        folder.chmod(parts.stat().st_mode & 0o777)
        write(folder)
        about = _Manifest(_FORMAT, places.first, places.end, places.samples, "", places.stamp)
        about = replace(about, sha256=_checksum(folder, about))
        manifest.write(folder / _PART, asdict(about))
        if durable:
            to_disk(*folder.rglob("*"), folder)
        folder.rename(target)
    if durable:
        to_disk(parts)
    return target


def _checksum(folder: Path, about: _Manifest) -> str:
    """Over what part.json says, and all other files by their names."""
    digest = hashlib.sha256(f"{about.first} {about.end} {about.samples}\n".encode())
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != folder / _PART:
            digest.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 3]}..."
