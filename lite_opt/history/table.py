"""The table of comparisons: a file of SQLite's.

A rollback journal, no write-ahead log: rows are few and small, two writers wait for each other, and
the file can lie on a network's disk and be copied as it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from lite_opt.history.entry import Entry
from lite_opt.history.place import file_of
from py_runner.errors import DataError, UsageError
from py_runner.files.faults import reason
from py_runner.files.regular import open_regular

__all__ = ["History"]

_OURS = 0x70656468  # SQLite's application_id: what else is a database is somebody else's
_SCHEMA = 1
_WAIT_S = 20.0  # for another writer
_COLUMNS = tuple(f.name for f in fields(Entry) if f.name != "metrics")
_MAKE = """
BEGIN IMMEDIATE;
CREATE TABLE comparisons (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time TEXT NOT NULL, revision TEXT,
  model TEXT NOT NULL, model_sha256 TEXT, bundle_sha256 TEXT, recipe TEXT NOT NULL,
  engine TEXT NOT NULL, engine_version TEXT NOT NULL, device TEXT NOT NULL, machine TEXT NOT NULL,
  threads INTEGER NOT NULL, data_sha256 TEXT NOT NULL, samples INTEGER NOT NULL,
  verdict TEXT NOT NULL, why TEXT NOT NULL
);
CREATE TABLE metrics (
  comparison INTEGER NOT NULL REFERENCES comparisons, name TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (comparison, name)
) WITHOUT ROWID;
"""


class History:
    """The comparisons in a file, or in that of a folder.

    Raises DataError, in one line, for what is damaged, locked, somebody else's, of a later version,
    or cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = file_of(path)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add rows, all or none; those whose id is there are left out. The file is made where there
        is none. Raises UsageError where its folder is not there."""
        if not self.file.absolute().parent.is_dir():
            raise UsageError(f"{self.file}: there is no folder {self.file.absolute().parent}")
        with self._opened(write=True) as base:
            base.execute("BEGIN IMMEDIATE")
            for entry in entries:
                values = [_plain(getattr(entry, name)) for name in _COLUMNS]
                slots = ", ".join("?" * len(values))
                added = base.execute(
                    f"INSERT OR IGNORE INTO comparisons ({', '.join(_COLUMNS)}) VALUES ({slots})",
                    values,
                )
                if added.rowcount:
                    base.executemany(
                        "INSERT INTO metrics VALUES (?, ?, ?)",
                        [(added.lastrowid, _plain(n), v) for n, v in entry.metrics.items()],
                    )
            base.commit()

    def entries(self, *, last: int | None = None, **wanted: str | int) -> list[Entry]:
        """The rows that have these values in these columns, oldest first; the last ones only where
        so many are asked for. None where there is no file."""
        if not self.file.exists():
            return []
        where = " AND ".join(["1", *(f"{name} = ?" for name in wanted)])
        with self._opened(write=False) as base:
            rows = base.execute(
                f"SELECT number, {', '.join(_COLUMNS)} FROM comparisons WHERE {where} "
                "ORDER BY number DESC LIMIT ?",
                [*wanted.values(), -1 if last is None else last],
            ).fetchall()
            return [self._entry(base, *row) for row in reversed(rows)]

    def _entry(self, base: sqlite3.Connection, number: int, *row: Any) -> Entry:
        found = base.execute("SELECT name, value FROM metrics WHERE comparison = ?", [number])
        metrics = dict(found.fetchall())
        texts = [v for n, v in zip(_COLUMNS, row) if n not in ("threads", "samples")]
        numbers = [*metrics.values(), *(v for v in row if v not in texts)]
        if not all(isinstance(v, (str, type(None))) for v in texts) or not all(
            isinstance(v, (int, float)) for v in numbers
        ):
            raise DataError(f"{self.file}: damaged: row {number} holds what is of another type")
        return Entry(**dict(zip(_COLUMNS, row)), metrics=metrics)

    @contextmanager
    def _opened(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        try:
            self._check_file()
            # Whoever reads after a writer that was killed takes back what that left half-done.
            mode = "rwc" if write else "rw" if os.access(self.file, os.W_OK) else "ro"
            uri = f"{self.file.absolute().as_uri()}?mode={mode}"
            # Transactions are begun where they are meant.
            with closing(
                sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None)
            ) as base:
                self._check_schema(base, write=write)
                yield base
        except sqlite3.Error as error:
            raise DataError(f"{self.file}: {_told(error)}") from None

    def _check_file(self) -> None:
        """What is no file, and no database, is not SQLite's to open."""
        if not self.file.exists():
            return
        try:
            with open_regular(self.file) as file:
                begins = file.read(16)
        except OSError as error:
            raise DataError(f"{self.file}: cannot be read: {reason(error)}") from None
        if begins not in (b"", b"SQLite format 3\0"):
            raise DataError(f"{self.file}: is no history: it is no database of SQLite's")

    def _check_schema(self, base: sqlite3.Connection, *, write: bool) -> None:
        def pragma(name: str) -> int:
            return int(base.execute(f"PRAGMA {name}").fetchone()[0])

        if write and not pragma("schema_version"):
            base.execute("BEGIN IMMEDIATE")  # two that make it: the second waits, and finds it made
            if not pragma("schema_version"):
                for statement in _MAKE.split(";")[1:]:
                    base.execute(statement)
                base.execute(f"PRAGMA application_id = {_OURS}")
                base.execute(f"PRAGMA user_version = {_SCHEMA}")
            base.commit()
        if not pragma("schema_version"):
            raise DataError(f"{self.file}: is empty: no comparison was added yet")
        if pragma("application_id") != _OURS:
            raise DataError(f"{self.file}: is no history: it is a database of something else")
        if pragma("user_version") > _SCHEMA:
            raise DataError(
                f"{self.file}: is of version {pragma('user_version')}, and this version of "
                f"paddle-edge knows {_SCHEMA}: update paddle-edge"
            )


def _plain(value: Any) -> Any:
    """SQLite takes no half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _told(error: sqlite3.Error) -> str:
    """What SQLite says, in words for a person."""
    text = " ".join(str(error).split())
    if "locked" in text or "busy" in text:
        return f"another process holds it for more than {_WAIT_S:g} s: try again"
    if "readonly" in text:
        return "cannot be written: it is read-only"
    if "unable to open" in text:
        return "cannot be opened, or its folder not be written to"
    if "full" in text:
        return "cannot be written: the disk is full"
    return f"damaged, or not to be read: {text}"
