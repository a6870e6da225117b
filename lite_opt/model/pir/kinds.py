"""What a value of the file may be: the kinds of attributes, and what is wrong in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from py_runner.tensors import DTYPE_NUMBERS

__all__ = [
    "KINDS",
    "MalformedError",
    "UnsupportedError",
    "brief",
    "is_int",
    "member",
    "to_float",
    "to_int",
    "to_str",
]


class MalformedError(Exception):
    """Something in the file is not as the format says; the message names it."""


class UnsupportedError(Exception):
    """The file is well, but has something that no row or function here translates."""


def is_int(value: Any, bits: int) -> bool:
    return type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1


def to_int(value: Any) -> int:
    if not is_int(value, 32):
        raise MalformedError(f"{brief(value)} is not a 32-bit integer")
    return int(value)


def _to_long(value: Any) -> int:
    if not is_int(value, 64):
        raise MalformedError(f"{brief(value)} is not a 64-bit integer")
    return int(value)


def _to_bound(value: Any) -> int:
    # "to the end" is written as the largest int64: the largest int32 says the same.
    return min(max(_to_long(value), -(1 << 31)), (1 << 31) - 1)


def to_float(value: Any) -> float:
    if type(value) is not float and not is_int(value, 64):
        raise MalformedError(f"{brief(value)} is not a number")
    return float(value)


def _to_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedError(f"{brief(value)} is not true or false")
    return value


def to_str(value: Any) -> str:
    if type(value) is not str:
        raise MalformedError(f"{brief(value)} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MalformedError(f"{brief(value)} is not valid Unicode") from None
    return value


def _dtype_number(value: Any) -> int:
    if to_str(value).startswith("Undefined"):
        return -1
    if value not in DTYPE_NUMBERS:
        raise MalformedError(f"{brief(value)} is not an element type")
    return DTYPE_NUMBERS[value]


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def convert_all(value: Any) -> list[Any]:
        if type(value) is not list:
            raise MalformedError(f"{brief(value)} is not a list")
        return [convert(item) for item in value]

    return convert_all


# Kind of an attribute -> its AttrType in framework.proto, and how a decoded value becomes one.
KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "int": ("INT", to_int),
    "long": ("LONG", _to_long),
    "float": ("FLOAT", to_float),
    "bool": ("BOOLEAN", _to_bool),
    "str": ("STRING", to_str),
    "dtype": ("INT", _dtype_number),
    "ints": ("INTS", _each(to_int)),
    "longs": ("LONGS", _each(_to_long)),
    "floats": ("FLOATS", _each(to_float)),
    "bounds": ("INTS", _each(_to_bound)),
}


def brief(value: Any) -> str:
    """A value of the file for an error message, however long it is and whatever it holds."""
    if isinstance(value, (dict, list)):
        return f"a {'dict' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def member(container: Any, key: str | int, kind: type) -> Any:
    """`container[key]`, which must exist and be of a type."""
    if isinstance(key, str):
        value = container.get(key) if type(container) is dict else None
    else:
        value = container[key] if type(container) is list and len(container) > key else None
    if type(value) is not kind:
        raise MalformedError(f"{brief(container)}: '{key}' should be a {kind.__name__}")
    return value
