"""A part of a data set as a data set of its own, on disk: commands and people read it by its path.

Pictures and other files become links under the names that they have, so that a sample keeps its id,
and a list with their labels; arrays become an `.npz` a sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from py_runner.data.array_files import array_items
from py_runner.data.dataset import Dataset
from py_runner.data.source import Wanted
from py_runner.errors import DataError

__all__ = ["part_of", "write_part"]

_LIST = "list.txt"


def part_of(folder: Path) -> Path:
    """What to name as data where `write_part` wrote a folder."""
    return folder / _LIST if (folder / _LIST).exists() else folder


def write_part(
    path: Path, data: Dataset, places: Sequence[int], wanted: Wanted, folder: Path
) -> None:
    """Write the samples at these places of the data set at `path` into a new folder.

    Raises DataError for a picture whose name no list can hold: one with a line break.
    """
    folder.mkdir()
    if array_items(path, wanted) is not None:
        for place, sample in zip(places, data.select(places)):
            arrays = dict(sample.feeds)
            if sample.label is not None:
                arrays["label"] = np.array([sample.label])
            np.savez(folder / f"{place:06d}.npz", **arrays)
        return
    ids, labels = data.ids, data.labels
    root = path if path.is_dir() else path.parent
    lines = []
    for place in places:
        name, label = ids[place], labels[place]
        if name.splitlines() != [name.strip()]:
            raise DataError(f"{path}: {name!a}: a list cannot hold this name: rename it")
        source = (root / name).absolute()
        # What lies elsewhere has no name inside the folder.
        if Path(name).is_absolute() or name.startswith("../"):
            name = os.path.normpath(source)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(source)
        lines.append(name if label is None else f"{name} {label}")
    (folder / _LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
