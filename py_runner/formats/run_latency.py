"""How long each inference of a Run took: latency.csv, and statistics."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from py_runner.errors import ModelError
from py_runner.files.placed import PlacedFile
from py_runner.files.regular import open_regular
from py_runner.files.url import Place
from py_runner.formats.lazy import Joined, Lazy, View, stretches
from py_runner.formats.run_samples import SampleFile, SampleInfo, key_of

__all__ = ["Latencies", "flat", "latency_statistics", "read_latency", "write_latency"]

_HEADER = b"sample,repeat,ms\r\n"
_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")


class Latencies(Lazy[list[float]]):
    """Milliseconds of each sample's inferences: `ms` has those of all, `ends` where each sample's
    end; None where there are `each` of every sample."""

    def __init__(
        self,
        ms: npt.NDArray[np.float64],
        counts: npt.NDArray[np.int64],
        file: PlacedFile | None = None,
    ) -> None:
        self._file = file  # that has rows in this order, as `write_latency` writes them
        self.ms, self._count = ms, len(counts)
        alike = bool((counts == counts[0]).all())
        self.each: int | None = int(counts[0]) if alike else None
        self._ends = None if alike else np.cumsum(counts)

    def is_of(self, samples: SampleFile) -> bool:
        """Whether `copy` can write the rows of these samples: they come from one folder."""
        return self._file is not None and self._file.path.parent == samples.path.parent

    def copy(self, to: BinaryIO) -> None:
        """Write the rows of the file that these were read from."""
        assert self._file is not None
        self._file.copy(len(_HEADER), self._file.size, to)

    def __len__(self) -> int:
        return self._count

    def item(self, place: int) -> list[float]:
        if self._ends is None:
            assert self.each is not None
            start, end = place * self.each, (place + 1) * self.each
        else:
            start, end = int(self._ends[place - 1]) if place else 0, int(self._ends[place])
        return [float(ms) for ms in self.ms[start:end]]


def flat(latency: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """The milliseconds of all inferences, sample by sample."""
    if isinstance(latency, Latencies):
        return latency.ms
    if isinstance(latency, Joined):
        return np.concatenate([flat(part) for part in latency.parts])
    if isinstance(latency, View) and isinstance(latency.base, Latencies) and latency.base.each:
        rows = latency.base.ms.reshape(-1, latency.base.each)
        places = latency.places
        if isinstance(places, range) and places.step == 1:
            return np.ravel(rows[places.start : places.stop])
        return np.ravel(rows[np.asarray(places)])
    return np.fromiter((ms for repeats in latency for ms in repeats), np.float64)


def latency_statistics(latency_ms: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, float]:
    """count, mean, p50, p90, p99, min, max (ms; percentiles interpolate linearly between ranks)
    and throughput_per_s, the inferences a second that the mean allows. Of none, count alone."""
    if not len(latency_ms):
        return {"count": 0}
    values = np.asarray(latency_ms, np.float64)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    mean = float(values.mean())
    return {
        "count": len(values),
        "mean_ms": mean,
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "min_ms": float(values.min()),
        "max_ms": float(values.max()),
        "throughput_per_s": 1e3 / mean if mean else 0.0,
    }


def write_latency(
    path: Path, samples: Sequence[SampleInfo], latency_ms: Sequence[Sequence[float]]
) -> None:
    """Write a latency.csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_HEADER.decode())
        writer = csv.writer(file)
        pairs = list(zip(stretches(samples), stretches(latency_ms)))
        if any(len(some) != len(ms) for some, ms in pairs):
            pairs = [(samples, latency_ms)]
        for some, ms in pairs:
            if isinstance(ms, Latencies) and isinstance(some, SampleFile) and ms.is_of(some):
                file.flush()
                ms.copy(cast(BinaryIO, file.buffer))
                continue
            for sample, repeats in zip(some, ms):
                for number, value in enumerate(repeats):
                    writer.writerow([_cell(sample.id), number, f"{value:.6f}"])


def _cell(id_: str) -> str:
    """A sample's id as a cell of latency.csv: a spreadsheet takes what begins like a formula for
    one, and a quote before it for the sign that it is text. Other writers leave ids as they are."""
    return f"'{id_}" if id_[:1] in _FORMULA else id_


def read_latency(path: Place, keys: npt.NDArray[np.uint64]) -> Latencies:
    """The latencies of the samples of these keys (`key_of`). Raises ModelError for a file that is
    damaged, KeyError for a sample that is none of them, ValueError for what is no number."""
    places, values = array("q"), array("d")
    rows = _Rows(keys)
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
        table = csv.reader(file)
        header = next(table, [])
        if not header:
            raise ModelError(f"{path}: damaged: is empty")
        sample, ms = header.index("sample"), header.index("ms")
        for row in table:
            if row:
                values.append(float(row[ms]))
                places.append(rows.place(row[sample]))
    place, measured = np.frombuffer(places, np.int64), np.frombuffer(values, np.float64)
    whole: PlacedFile | None = PlacedFile(path)
    if len(place) and bool((np.diff(place) < 0).any()):
        measured, whole = measured[np.argsort(place, kind="stable")], None
    counts = np.bincount(place, minlength=len(keys))
    if counts.any() and not counts.all():
        raise ModelError(f"{path}: damaged: not every sample has a latency")
    if whole and (whole.read(0, len(_HEADER)) != _HEADER or whole.read(whole.size - 1, 1) != b"\n"):
        whole = None
    return Latencies(measured, counts, whole)


class _Rows:
    """Whose each row is: of the sample before, of the next one, or of any."""

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        self._keys = memoryview(cast(Any, keys))
        self._here, self._cell = -1, "\0"  # no cell
        self._known: npt.NDArray[np.uint64] = keys
        self._order: npt.NDArray[np.int64] | None = None

    def place(self, cell: str) -> int:
        """The place of the sample in whose row this cell is. Raises KeyError for none."""
        if cell == self._cell:
            return self._here
        quoted = cell[:1] == "'" and cell[1:2] in _FORMULA and len(cell) > 1
        found = self._found(cell[1:]) if quoted else None
        found = self._found(cell) if found is None else found
        if found is None:
            raise KeyError(cell)
        self._here, self._cell = found, cell
        return found

    def _found(self, id_: str) -> int | None:
        key, following = key_of(id_), self._here + 1
        if following < len(self._keys) and self._keys[following] == key:
            return following
        if self._order is None:
            self._order = np.argsort(self._known, kind="stable")
        at = int(np.searchsorted(self._known, np.uint64(key), sorter=self._order))
        if at == len(self._order) or self._known[self._order[at]] != key:
            return None
        return int(self._order[at])
