"""Images, list files, image folders and arrays -> Samples, in a fixed order.

    data = dataset("photos/", inputs=bundle.inputs, image=bundle.image)
    for sample in data:
        engine.run(sample.feeds)

What a path may be:

    list file .txt       `path label` a line; the label, an integer, may be missing; the path may
                         contain spaces. .csv: `path,label`. Paths are relative to the list file
    folder of folders    one folder per class; classes are numbered by the given label names, else
                         in sorted order; images may lie deeper inside
    folder of images     no labels
    one image            no label
    list file of arrays  the same, of .npy or .npz
    .npy                 the samples of a single-input model, stacked on axis 0, or one without
                         that axis
    folder of .npy       their samples, one after the other; of a model of several inputs
                         `<sample>.<input>.npy`, as a bundle's own `samples/`
    .npz                 one such array per input, by its name, and optionally `label` (integers)
    folder of .npz       their samples, one after the other

Hidden files and folders, and files that do not end like an image, are no part of a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy.typing as npt

from py_runner.data.array_files import array_items
from py_runner.data.image import ImageSpec
from py_runner.data.image_files import image_items
from py_runner.data.source import IMAGE_SUFFIXES, BadItemError, Item, Made, Wanted
from py_runner.errors import DataError, UsageError
from py_runner.files.faults import reason
from py_runner.files.url import Place, UnreachedError, Url, place
from py_runner.tensors import Sample, TensorSpec

__all__ = ["Dataset", "dataset"]

# The kinds of data set: each gives the items at a path, or None where it is of another kind.
_KINDS = (array_items, image_items)
_FETCHERS = 8  # files that are fetched side by side


class Dataset:
    """A sequence of Samples that are made when they are asked for; `dataset()` makes one.

    `len(data)` counts the samples, bad ones included, and `data.ids` names them. Every iteration
    starts anew and yields them in the same order. While one sample is in use, `workers` threads
    prepare the next ones, at most twice as many; leaving the loop, closing the iterator or an
    error ends the threads. An error appears at the sample that it belongs to.
    """

    def __init__(self, items: Sequence[Item], *, workers: int, skip_bad: bool) -> None:
        self._items = items
        self._workers = workers
        self._skip_bad = skip_bad
        self._bad: dict[int, tuple[str, str]] = {}

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Dataset:
        """The data set of samples that are in memory."""
        items = [Item(s.id, s.label, partial(_same, s.feeds, s.pixels)) for s in samples]
        return cls(items, workers=0, skip_bad=False)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ids(self) -> list[str]:
        """Ids of all samples, in order, bad ones included."""
        return [item.id for item in self._items]

    @property
    def labels(self) -> list[int | None]:
        """Labels of all samples, in order, bad ones included."""
        return [item.label for item in self._items]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(id, reason) of the bad images that iterations so far have skipped, in order."""
        return [self._bad[place] for place in sorted(self._bad)]

    @property
    def bad(self) -> list[tuple[int, str]]:
        """(place, reason) of these."""
        return [(place, self._bad[place][1]) for place in sorted(self._bad)]

    def note_bad(self, place: int, reason: str) -> None:
        """Add a bad image that somebody else has skipped."""
        self._bad[place] = self._items[place].id, reason

    def identity(self) -> str:
        """A checksum of what the samples are called, and their labels, in order; no sample is
        read."""
        digest = hashlib.sha256()
        for item in self._items:
            digest.update(f"{json.dumps(item.id)} {item.label}\n".encode())
        return digest.hexdigest()

    def stamp(self, first: int, end: int, *, before_s: float | None = None) -> str | None:
        """What the system says of the files of the samples at these places, as a checksum, without
        reading them: who changes or replaces one changes this. None where they are not of files
        here, or where one was changed at `before_s` (of time.time) or later."""
        digest = hashlib.sha256()
        for number in range(first, end):
            file = self._items[number].file
            try:
                about = None if file is None else file.stat()
            except OSError:
                about = None
            if about is None or (before_s is not None and about.st_ctime >= before_s):
                return None
            known = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
            digest.update(f"{known}\n".encode())
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> Dataset:
        """The data set of the samples at these places, in this order."""
        return self._of([self._items[index] for index in indices])

    def can_be_read(self, place: int) -> bool:
        """Whether the sample there is a good one; it is read."""
        return isinstance(_attempt(self._items[place]), Sample)

    def cut(self, first: int, end: int) -> Dataset:
        """The samples at the places from `first` to before `end`, as another process can be sent
        them: what they are called and where their files are."""
        return self._of([self._items[place] for place in range(first, end)])

    def part(self, index: int, of: int) -> Dataset:
        """Part `index`, from 1, of so many: neighbours, in order. No two parts differ by more than
        one sample in size. Raises UsageError where there is no such part, or nothing in it."""
        if not 1 <= index <= of:
            raise UsageError(f"there is no part {index} of {of}: they are numbered from 1")
        if of > len(self):
            raise UsageError(f"{len(self)} samples do not make {of} parts")
        first, end = (len(self) * place // of for place in (index - 1, index))
        return self._of(self._items[first:end])

    def _of(self, items: Sequence[Item]) -> Dataset:
        return Dataset(items, workers=self._workers, skip_bad=self._skip_bad)

    def __iter__(self) -> Iterator[Sample]:
        good = 0
        # Closed here and now: a traceback would keep the generator, and its threads, alive.
        with closing(self.placed(0, len(self))) as samples:
            for _, sample in samples:
                good += 1
                yield sample
        if not good:
            raise self.nothing_good()

    def nothing_good(self) -> DataError:
        """What to raise once all samples were skipped."""
        first = self.skipped[0][1]
        if len(self) == 1:
            return DataError(f"the only sample is bad: {first}")
        return DataError(f"all {len(self)} samples are bad; the first: {first}")

    def placed(self, first: int, end: int) -> Generator[tuple[int, Sample], None, None]:
        """The samples at these places, `end` not included, each with its place; those that are
        skipped are left out."""
        with closing(self._outcomes(first, end)) as outcomes:
            for place, (item, outcome) in enumerate(outcomes, start=first):
                if isinstance(outcome, Sample):
                    yield place, outcome
                elif self._skip_bad:
                    self._bad[place] = item.id, str(outcome)
                else:
                    raise outcome

    def _outcomes(
        self, first: int, end: int
    ) -> Generator[tuple[Item, Sample | BadItemError], None, None]:
        items = (self._items[place] for place in range(first, end))
        if not self._workers:
            for item in items:
                yield item, _attempt(item)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="paddle-edge-dataset")
        pending: deque[tuple[Item, Future[Sample | BadItemError]]] = deque()
        try:
            for item in islice(items, 2 * self._workers):
                pending.append((item, pool.submit(_attempt, item)))
            while pending:
                item, future = pending.popleft()
                yield item, future.result()
                for following in islice(items, 1):
                    pending.append((following, pool.submit(_attempt, following)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _same(feeds: dict[str, npt.NDArray[Any]], pixels: str | None) -> Made:
    return feeds, pixels


def _attempt(item: Item) -> Sample | BadItemError:
    try:
        feeds, pixels = item.make()
        return Sample(item.id, feeds, item.label, pixels)
    except BadItemError as error:
        return error


def dataset(
    path: str | os.PathLike[str] | Url,
    *,
    inputs: Sequence[TensorSpec],
    image: ImageSpec | None = None,
    labels: Sequence[str] | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """The data set at `path`; the module's docstring lists what that may be.

    inputs    the model's inputs, each with `name`, `dtype` ("float32") and `shape` (-1: any)
    image     how pixels become the tensor; needed for images, unused for arrays
    labels    names of the classes, by number: numbers class folders and bounds every label
    skip_bad  pass over images that cannot be decoded or are too small, and list them in
              `.skipped`; otherwise they raise DataError when their turn comes
    limit     only the first `limit` samples, in order (of class folders: the first classes)
    workers   threads that prepare samples ahead; None: one per CPU, at most 4, and 8 of what is
              at a URL; 0: none, so that nothing else runs while a caller measures time

    Arrays of `.npy` are mapped, not read; those of `.npz` are read at once. Values are not
    looked at: NaN is allowed. A path may be a URL that fsspec knows, such as s3://bucket/photos:
    each picture is fetched when its turn comes, rows of a `.npy` as well.

    Raises DataError where the data set is missing, empty or damaged, or where dtype or shape are
    not exactly the model's (nothing is converted: engines read a wrong dtype as garbage), and
    UsageError for arguments that do not fit each other.
    """
    path = place(path)
    if not inputs:
        raise UsageError("a data set needs the model's inputs, and there are none")
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    if workers is None:
        workers = _FETCHERS if isinstance(path, Url) else min(4, os.cpu_count() or 1)
    if workers < 0:
        raise UsageError(f"workers must be 0 or more, not {workers}")
    try:
        if not path.exists():
            raise DataError(f"{path}: no such data set")
        items = _items(path, Wanted(inputs, image, labels))
        if not items:
            raise DataError(f"{path}: holds no samples: {_looked_for(path)}")
    except UnreachedError as error:
        raise DataError(f"{path}: {reason(error)}") from None
    for item in items:
        if not _is_utf8(item.id):
            raise DataError(f"{path}: the file name {item.id!a} is not UTF-8: rename it")
        if labels is not None and item.label is not None and item.label >= len(labels):
            raise DataError(
                f"{path}: {item.id} has the label {item.label}, but there are {len(labels)} labels"
            )
    return Dataset(items[:limit], workers=workers, skip_bad=skip_bad)


def _items(path: Place, wanted: Wanted) -> Sequence[Item]:
    for kind in _KINDS:
        if (items := kind(path, wanted)) is not None:
            return items
    raise DataError(
        f"{path}: not a data set: expected a folder, a list file (.txt, .csv), an image, "
        f".npy or .npz"
    )


def _looked_for(path: Place) -> str:
    if not path.is_dir():
        return "the list is empty" if path.suffix in (".txt", ".csv") else "its arrays are empty"
    return (
        f"no image ({', '.join(sorted(IMAGE_SUFFIXES))}) at any depth, and no folder of .npy; what "
        "begins with a dot is left out"
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
