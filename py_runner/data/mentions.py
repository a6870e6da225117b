"""What is read along with a path, because something there mentions it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from py_runner.data.image_files import listed_files
from py_runner.data.inference_yml import label_file
from py_runner.data.yml_steps import beside
from py_runner.errors import DataError
from py_runner.files.url import Place, Url

__all__ = ["with_mentioned"]


def with_mentioned(paths: Iterable[str | Place | None]) -> list[Path]:
    """The paths, and what they mention: files of a list (.txt, .csv), the label file of an
    inference.yml or its like that is the path, is in it or beside it, and where links in a folder
    lead.

    Nothing is checked: what is missing or damaged is for whoever reads it to say.
    """
    found: dict[Path, None] = {}
    for path in (Path(p) for p in paths if p is not None and not isinstance(p, Url)):
        found[path] = None
        with suppress(DataError, OSError, ValueError):  # also of a text that is no path
            found.update(dict.fromkeys(_mentioned(path)))
    return list(found)


def _mentioned(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            links = (Path(folder, name) for name in (*folders, *files))
            yield from (link for link in links if link.is_symlink())
        there = beside(path)
    else:
        there = beside(path.parent)
    for yml in {path, there or path}:
        if yml.is_file() and yml.suffix in (".yml", ".yaml"):
            with suppress(DataError):
                yield from filter(None, [label_file(yml)])
    if path.is_file() and path.suffix.lower() in (".txt", ".csv"):
        yield from listed_files(path)
