"""Reads flatbuffers that somebody may have made to do harm, as far as `.nb` files need it.

The official package has no verifier for Python; here every offset is checked as it is followed.
Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["DamagedError", "Flatbuffer", "Table"]

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")


class DamagedError(Exception):
    """What is wrong with the bytes, in words that a file's name can stand before."""


class Flatbuffer:
    """The flatbuffer between two places of the file; every access is checked against them.

    Offsets in a hostile file may lead many items to one: each table, string and vector visited is
    paid for with the bytes it takes, out of the size of the buffer. `opt` shares nothing but
    vtables, which are free.
    """

    def __init__(self, data: mmap.mmap, begin: int, end: int) -> None:
        self.data = data
        self.begin = begin
        self.end = end
        self.budget = end - begin

    def root(self) -> Table:
        return Table(self, self.follow(self.begin))

    def check(self, position: int, size: int) -> int:
        if not self.begin <= position <= self.end - size:
            raise DamagedError(
                f"damaged: {size} bytes at {position} lie outside their part of the file"
            )
        return position

    def spend(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise DamagedError("damaged: its parts overlap")

    def follow(self, position: int) -> int:
        (offset,) = _U32.unpack_from(self.data, self.check(position, 4))
        return position + int(offset)

    def vector(self, position: int, item_size: int) -> tuple[int, int]:
        """Where the items of the vector at `position` begin, and how many there are."""
        (count,) = _U32.unpack_from(self.data, self.check(position, 4))
        return self.check(position + 4, count * item_size), int(count)

    def string(self, position: int) -> str:
        begin, size = self.vector(position, 1)
        self.spend(4 + size)
        try:
            return self.data[begin : begin + size].decode()
        except UnicodeDecodeError:
            raise DamagedError(f"damaged: the text at {begin} is not UTF-8") from None

    def offsets(self, position: int) -> Iterator[int]:
        """Where each item of a vector of offsets lies."""
        begin, count = self.vector(position, 4)
        self.spend(4 + 4 * count)
        return (self.follow(item) for item in range(begin, begin + 4 * count, 4))


class Table:
    """A table of a flatbuffer. Fields are given by their number in the schema.

    An absent field is 0, empty or None, which is also what the schemas say of all fields read
    here; an absent `string` is an error, for they are required.
    """

    __slots__ = ("_fields", "_flat", "_position", "_vtable")

    def __init__(self, flat: Flatbuffer, position: int) -> None:
        (back,) = _I32.unpack_from(flat.data, flat.check(position, 4))
        flat.spend(4)
        self._flat = flat
        self._position = position
        self._vtable = flat.check(position - back, 4)
        (size,) = _U16.unpack_from(flat.data, self._vtable)
        flat.check(self._vtable, size)
        self._fields = (int(size) - 4) // 2

    def _field(self, number: int) -> int:
        """Where a field lies in the file; 0 if it is absent."""
        if number >= self._fields:
            return 0
        (offset,) = _U16.unpack_from(self._flat.data, self._vtable + 4 + 2 * number)
        return self._position + int(offset) if offset else 0

    def uint8(self, number: int) -> int:
        position = self._field(number)
        return self._flat.data[self._flat.check(position, 1)] if position else 0

    def int32(self, number: int) -> int:
        position = self._field(number)
        if not position:
            return 0
        return int(_I32.unpack_from(self._flat.data, self._flat.check(position, 4))[0])

    def string(self, number: int) -> str:
        position = self._field(number)
        if not position:
            raise DamagedError(f"damaged: the table at {self._position} lacks a required name")
        return self._flat.string(self._flat.follow(position))

    def table(self, number: int) -> Table | None:
        position = self._field(number)
        return Table(self._flat, self._flat.follow(position)) if position else None

    def tables(self, number: int) -> Iterator[Table]:
        position = self._field(number)
        if position:
            for item in self._flat.offsets(self._flat.follow(position)):
                yield Table(self._flat, item)

    def strings(self, number: int) -> tuple[str, ...]:
        position = self._field(number)
        if not position:
            return ()
        return tuple(map(self._flat.string, self._flat.offsets(self._flat.follow(position))))

    def int64s(self, number: int) -> tuple[int, ...]:
        return self._numbers(number, 8, "q")

    def floats(self, number: int) -> tuple[float, ...]:
        return self._numbers(number, 4, "f")

    def vector(self, number: int, item_size: int) -> tuple[int, int]:
        """Where the items of a vector begin in the file, and how many there are."""
        position = self._field(number)
        return self._flat.vector(self._flat.follow(position), item_size) if position else (0, 0)

    def _numbers(self, number: int, item_size: int, code: str) -> tuple[Any, ...]:
        begin, count = self.vector(number, item_size)
        self._flat.spend(item_size * count)
        return struct.unpack_from(f"<{count}{code}", self._flat.data, begin)
