"""Which samples a Run is of: in run.json where they are few, else a line each in samples.jsonl."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Optional

import numpy as np
import numpy.typing as npt

from py_runner.errors import ModelError, UsageError
from py_runner.files import manifest
from py_runner.files.placed import PlacedFile
from py_runner.files.url import Place
from py_runner.formats.lazy import Joined, Lazy, View, span_of, stretches

__all__ = [
    "SAMPLES",
    "FailedSample",
    "Relabelled",
    "SampleInfo",
    "check_once",
    "key_of",
    "keys_of",
    "open_samples",
    "sample_json",
    "write_samples",
]

SAMPLES = "samples.jsonl"
_Keys = npt.NDArray[np.uint64]
_encoded = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder each time
_STEP = 64  # lines between two whose place is kept
_READ = 1 << 18  # bytes at a time


@dataclass(frozen=True)
class SampleInfo:
    """Which sample was fed: its id, the hash of its tensors, its label or None, and of a picture
    the checksum of its decoded pixels."""

    id: str
    sha256: str
    label: Optional[int]  # noqa: UP045  evaluated when a manifest is read, by CPython 3.9 too
    pixels: Optional[str] = None  # noqa: UP045


@dataclass(frozen=True)
class FailedSample:
    """A sample on which the engine died, and its last words."""

    id: str
    reason: str


class SampleFile(Lazy[SampleInfo]):
    """The samples of a samples.jsonl, of which `keys` and a few places are in memory.

    Raises ModelError where it does not hold `count` samples, ValueError for a line that is none.
    """

    def __init__(self, path: Place, count: int) -> None:
        self._file = PlacedFile(path)
        keys, starts = array("Q"), array("Q")
        place = 0
        for number, line in enumerate(_lines(self._file, 0)):
            if number % _STEP == 0:
                starts.append(place)
            place += len(line) + 1
            keys.append(key_of(_parsed(line).id))
        whole = not self._file.size or self._file.read(self._file.size - 1, 1) == b"\n"
        if len(keys) != count or not whole:
            raise ModelError(
                f"{path}: damaged: holds {len(keys) - (not whole)} whole samples, and run.json "
                f"says {count}; run again"
            )
        self.keys: _Keys = np.frombuffer(keys, np.uint64)
        self._starts = starts

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def path(self) -> Place:
        """The file."""
        return self._file.path

    def copy(self, to: BinaryIO) -> None:
        """Write all lines to another file."""
        self._file.copy(0, self._file.size, to)

    def item(self, place: int) -> SampleInfo:
        return next(self.span(place, place + 1))

    def span(self, start: int, stop: int) -> Iterator[SampleInfo]:
        if start >= stop:
            return
        first = start // _STEP
        end = -(-stop // _STEP)
        last = self._starts[end] if end < len(self._starts) else self._file.size
        lines = _lines(self._file, self._starts[first], last)
        for number, line in enumerate(lines, first * _STEP):
            if number >= stop:
                return
            if number >= start:
                yield _parsed(line)


class Relabelled(Lazy[SampleInfo]):
    """Samples with other labels, by their places: None where none is given."""

    def __init__(self, samples: Sequence[SampleInfo], labels: Mapping[int, int]) -> None:
        self._samples, self._labels = samples, labels
        self.keys = keys_of(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, place: int) -> SampleInfo:
        return replace(self._samples[place], label=self._labels.get(place))

    def span(self, start: int, stop: int) -> Iterator[SampleInfo]:
        for place, info in enumerate(span_of(self._samples, start, stop), start):
            yield replace(info, label=self._labels.get(place))


def _lines(file: PlacedFile, start: int, stop: int | None = None) -> Iterator[bytes]:
    """The lines from a place on, without their ends."""
    stop = file.size if stop is None else stop
    rest = b""
    while start < stop:
        block = file.read(start, min(_READ, stop - start))
        if not block:
            break
        start += len(block)
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _parsed(line: bytes) -> SampleInfo:
    entry = json.loads(line.decode())
    if b"\\ud" in line or b"\\uD" in line:
        json.dumps(entry, ensure_ascii=False).encode()  # an error for half a character
    return _info(entry)


def _info(entry: Any) -> SampleInfo:
    if type(entry) is dict:
        get = entry.get
        id_, sha256, label, pixels = get("id"), get("sha256"), get("label", ""), get("pixels")
        if (
            type(id_) is type(sha256) is str
            and (label is None or type(label) is int)
            and (pixels is None or type(pixels) is str)
        ):
            return SampleInfo(id_, sha256, label, pixels)
    return manifest.from_json(SampleInfo, entry, "samples")  # which says what is wrong


def open_samples(path: Place, said: Any, *, large: bool, keep: int) -> Sequence[SampleInfo]:
    """The samples of the Run at `path`, of which its run.json has `said` their number, where it is
    `large`, else what they are. Of more than `keep` the latter stay in memory: only Runs of before
    have so many. Errors are those of `SampleFile`."""
    if large:
        if not isinstance(said, int) or isinstance(said, bool):
            raise ValueError("field 'samples' is not of its type")
        return SampleFile(path / SAMPLES, said)
    if not isinstance(said, list):
        raise ValueError(f"field 'samples' is {'missing' if said is None else 'not of its type'}")
    infos = tuple(map(_info, said))
    return infos if len(infos) > keep else Listed(path / "run.json", infos)


class Listed(Lazy[SampleInfo]):
    """The few samples that a run.json lists: of many Runs together they are many, and are read anew
    when they are asked for."""

    def __init__(self, path: Place, infos: tuple[SampleInfo, ...]) -> None:
        self._file = PlacedFile(path)
        self.keys = keys_of(infos)

    def __len__(self) -> int:
        return len(self.keys)

    def item(self, place: int) -> SampleInfo:
        return _listed(self._file)[place]

    def span(self, start: int, stop: int) -> Iterator[SampleInfo]:
        return iter(_listed(self._file)[start:stop])


@lru_cache(maxsize=4)
def _listed(file: PlacedFile) -> tuple[SampleInfo, ...]:
    return tuple(map(_info, json.loads(file.read(0, file.size))["samples"]))


def sample_json(info: SampleInfo) -> dict[str, Any]:
    """A sample as run.json and samples.jsonl have it."""
    known = {"id": info.id, "sha256": info.sha256, "label": info.label}
    return known if info.pixels is None else {**known, "pixels": info.pixels}


def write_samples(path: Path, samples: Sequence[SampleInfo]) -> None:
    """Write a samples.jsonl."""
    with path.open("wb") as file:
        for stretch in stretches(samples):
            if isinstance(stretch, SampleFile):
                stretch.copy(file)
                continue
            for info in stretch:
                file.write(_encoded(sample_json(info)).encode() + b"\n")


def key_of(id_: str) -> int:
    """Eight bytes of a hash of a sample's id."""
    return int.from_bytes(
        hashlib.blake2b(id_.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )


def keys_of(samples: Sequence[SampleInfo]) -> _Keys:
    """`key_of` each sample's id, uint64 [samples]: what samples are told apart by."""
    if isinstance(samples, (SampleFile, Listed, Relabelled)):
        return samples.keys
    if isinstance(samples, View):
        places = samples.places
        keys = keys_of(samples.base)
        if isinstance(places, range):
            places = np.arange(places.start, places.stop, places.step)
        return np.asarray(keys[places])
    if isinstance(samples, Joined):
        return np.concatenate([keys_of(part) for part in samples.parts])
    return np.fromiter((key_of(info.id) for info in samples), np.uint64, len(samples))


def check_once(samples: Sequence[SampleInfo]) -> None:
    """Raise UsageError unless there are samples, and each is there once."""
    if not len(samples):
        raise UsageError("a run holds no samples")
    twice = _twin(samples) if isinstance(samples, Lazy) else _repeated(samples)
    if twice is not None:
        raise UsageError(f"a run holds sample '{twice}' twice")


def _repeated(samples: Sequence[SampleInfo]) -> str | None:
    seen: set[str] = set()
    for info in samples:
        if info.id in seen:
            return info.id
        seen.add(info.id)
    return None


def _twin(samples: Sequence[SampleInfo]) -> str | None:
    """An id that is there twice, by the hashes, and by the ids where two hashes are one."""
    keys = keys_of(samples)
    order = np.argsort(keys, kind="stable")
    again = order[1:][keys[order][1:] == keys[order][:-1]]
    for place in sorted(again.tolist()):
        id_: str = samples[place].id
        same = np.flatnonzero(keys[:place] == keys[place])
        if any(samples[other].id == id_ for other in same.tolist()):
            return id_
    return None
