"""Sequences whose items are made when they are asked for: of any length in little memory.

Going through one from its beginning is fast, one item after another; any item can be had by its
place. Lists and tuples stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, Union

import numpy as np
import numpy.typing as npt

__all__ = [
    "Joined",
    "Lazy",
    "Made",
    "Places",
    "View",
    "Zipped",
    "chosen",
    "joined",
    "span_of",
    "stretches",
]

_T = TypeVar("_T")
_S = TypeVar("_S")
Places = Union[range, "npt.NDArray[np.int64]"]


class Lazy(Sequence[_T]):
    """What its subclasses are: they say `__len__`, `item`, and `span` where that is faster."""

    def item(self, place: int) -> _T:
        """The item at a place, 0 <= place < len(self)."""
        raise NotImplementedError

    def span(self, start: int, stop: int) -> Iterator[_T]:
        """The items from `start` to before `stop`, in their order."""
        return map(self.item, range(start, stop))

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return View(self, range(*place.indices(len(self))))
        number = int(place)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{number} of {len(self)}")
        return self.item(number % len(self))

    def __iter__(self) -> Iterator[_T]:
        return self.span(0, len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]


class View(Lazy[_T]):
    """The items of another sequence at some places, in the order of these."""

    def __init__(self, base: Lazy[_T], places: Iterable[int]) -> None:
        self.base, self.places = base, _places(places)
        if len(self.places):
            ranged = isinstance(self.places, range)
            ends = (self.places[0], self.places[-1]) if ranged else self.places
            if not 0 <= np.min(ends) <= np.max(ends) < len(base):
                raise IndexError(f"places {np.min(ends)} to {np.max(ends)} of {len(base)}")

    def __len__(self) -> int:
        return len(self.places)

    def item(self, place: int) -> _T:
        return self.base.item(int(self.places[place]))

    def span(self, start: int, stop: int) -> Iterator[_T]:
        places = self.places[start:stop]
        if isinstance(places, range) and places.step == 1:
            yield from self.base.span(places.start, places.stop)
            return
        numbers = np.asarray(places)
        ends = np.append(np.flatnonzero(np.diff(numbers) != 1) + 1, len(numbers))
        begun = 0
        for end in ends.tolist():  # stretches of places that follow each other
            if end > begun:
                yield from self.base.span(int(numbers[begun]), int(numbers[end - 1]) + 1)
            begun = end


class Joined(Lazy[_T]):
    """The items of several sequences, one sequence after another."""

    def __init__(self, parts: Iterable[Sequence[_T]]) -> None:
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def item(self, place: int) -> _T:
        part = int(np.searchsorted(self.ends, place, side="right"))
        return self.parts[part][place - int(self.ends[part]) + len(self.parts[part])]

    def span(self, start: int, stop: int) -> Iterator[_T]:
        number = int(np.searchsorted(self.ends, start, side="right"))
        while start < stop:
            part, end = self.parts[number], int(self.ends[number])
            begun = end - len(part)
            yield from span_of(part, start - begun, min(stop, end) - begun)
            start, number = end, number + 1


class Made(Lazy[_S], Generic[_T, _S]):
    """What a function makes of each item of another sequence."""

    def __init__(self, make: Callable[[_T], _S], base: Sequence[_T]) -> None:
        self._make, self._base = make, base

    def __len__(self) -> int:
        return len(self._base)

    def item(self, place: int) -> _S:
        return self._make(self._base[place])

    def span(self, start: int, stop: int) -> Iterator[_S]:
        return map(self._make, span_of(self._base, start, stop))


class Zipped(Lazy[Any]):
    """The items of several sequences of the same length, in tuples."""

    def __init__(self, *several: Sequence[Any]) -> None:
        self._several = several

    def __len__(self) -> int:
        return len(self._several[0])

    def item(self, place: int) -> tuple[Any, ...]:
        return tuple(values[place] for values in self._several)

    def span(self, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        return zip(*(span_of(values, start, stop) for values in self._several))


def span_of(values: Sequence[_T], start: int, stop: int) -> Iterator[_T]:
    """The items of any sequence from `start` to before `stop`."""
    if isinstance(values, Lazy):
        return values.span(start, stop)
    return iter(values[start:stop])


def chosen(values: Sequence[_T], places: Iterable[int]) -> Sequence[_T]:
    """The items at these places, in their order: a view of what is lazy, else a tuple of a tuple
    and a list of a list. Raises IndexError for places that are not there."""
    if not isinstance(values, Lazy):
        found = [values[place] for place in places]
        return tuple(found) if isinstance(values, tuple) else found
    if not isinstance(values, View):
        return View(values, places)
    inner = _places(places)
    if isinstance(values.places, range) and isinstance(inner, range):
        return View(values.base, values.places[inner.start : inner.stop : inner.step])
    return View(values.base, np.asarray(values.places)[np.asarray(inner)])


def joined(parts: Sequence[Sequence[_T]]) -> Sequence[_T]:
    """The items of all, one part after another: lazy where one of them is, else as the first is."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, Lazy) for part in parts):
        return Joined(parts)
    found = [item for part in parts for item in part]
    return tuple(found) if isinstance(parts[0], tuple) else found


def stretches(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The sequences that were joined to this one, which is itself where none were."""
    if isinstance(values, Joined):
        for part in values.parts:
            yield from stretches(part)
    else:
        yield values


def _places(places: Iterable[int]) -> Places:
    """A range where places are ascending and without a gap, else an array."""
    if isinstance(places, range):
        return places
    numbers = (
        places.astype(np.int64, copy=False)
        if isinstance(places, np.ndarray)
        else np.fromiter(places, np.int64)
    )
    if len(numbers) and bool((np.diff(numbers) == 1).all()):
        return range(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
