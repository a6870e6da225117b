"""What every kind of data set gives: items, each of which becomes a Sample when its turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Generic, Optional, TypeVar, overload

import numpy as np
import numpy.typing as npt

from py_runner.data.image import ImageSpec
from py_runner.errors import DataError, UsageError
from py_runner.tensors import TensorSpec

__all__ = [
    "IMAGE_SUFFIXES",
    "MANY",
    "BadItemError",
    "Item",
    "Lazy",
    "Made",
    "Wanted",
    "check_feed",
    "some",
]

# How the names of images end.
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
)
MANY = 5  # names shown in an error before "..."


Made = tuple[dict[str, npt.NDArray[Any]], Optional[str]]


@dataclass(frozen=True)
class Wanted:
    """What a model takes: its inputs, how pixels become one, and the names of its classes."""

    inputs: Sequence[TensorSpec]
    image: ImageSpec | None
    labels: Sequence[str] | None


@dataclass(frozen=True)
class Item:
    """A sample to be: `id` and `label` are the Sample's.

    `make` gives its tensors, by the names of the inputs, and of a picture the checksum of its
    pixels. It raises BadItemError where this item alone is at fault, another DataError where the
    data set is. `file` is what it is made of, where that is one file of this machine.
    """

    id: str
    label: int | None
    make: Callable[[], Made]
    file: Path | None = None


_K = TypeVar("_K")
_V = TypeVar("_V")


class Lazy(Sequence[_V], Generic[_K, _V]):
    """What `make` makes of each key when it is asked for: the keys alone are in memory."""

    def __init__(self, keys: Sequence[_K], make: Callable[[_K], _V]) -> None:
        self._keys, self._make = keys, make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> _V: ...
    @overload
    def __getitem__(self, place: slice) -> Lazy[_K, _V]: ...
    def __getitem__(self, place: int | slice) -> _V | Lazy[_K, _V]:
        if isinstance(place, slice):
            return Lazy(self._keys[place], self._make)
        return self._make(self._keys[place])


class BadItemError(DataError):
    """One image is at fault, not the data set: what skip_bad skips."""


def check_feed(what: str, spec: TensorSpec, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise DataError where a sample of `what` cannot be fed to an input as it is.

    shape: of one sample, batch included; -1 where it is not known yet.
    """
    try:
        wanted = np.dtype(spec.dtype)
    except TypeError:
        raise UsageError(f"input {spec.name!r} has the unknown dtype {spec.dtype!r}") from None
    fits = len(shape) == len(spec.shape) and all(
        side == want or -1 in (side, want) for side, want in zip(shape, spec.shape)
    )
    if dtype != wanted or not fits:
        batch = spec.shape[0] if spec.shape else 1
        why = "nothing is converted on the way"
        if batch > 1 and shape[:1] == (1,):
            why = (
                f"the model was exported for a batch of {batch}: export it with a free one "
                f"(InputSpec([None, ...])), or give arrays with {batch} rows a sample"
            )
        raise DataError(
            f"{what}: input {spec.name!r} expects {wanted} {list(spec.shape)}, "
            f"but a sample is {dtype} {list(shape)}; {why}"
        )


def some(names: Sequence[str]) -> str:
    """The first names, for an error."""
    return ", ".join(list(names)[:MANY]) + (", ..." if len(names) > MANY else "")
