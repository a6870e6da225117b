"""Manifests: JSON documents of ours on disk, read into frozen dataclasses and written from them.

They come from elsewhere: another machine, another version, somebody who means ill. A document
whose fields are not those of its dataclass is refused, with the field that is at fault.

Hand-written because every board reads them: msgspec, which would do, has no wheel for 32-bit ARM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from py_runner.errors import ModelError
from py_runner.files.regular import read_bytes
from py_runner.files.url import Place

__all__ = ["from_json", "read", "refuse", "write"]

_T = TypeVar("_T")


def read(
    path: Place, *, what: str, version: int | tuple[int, ...], advice: str
) -> tuple[dict[str, Any], bytes]:
    """The document at `path`, whose "format" is `version`, or one of those, and its bytes.

    `what` names the thing whose folder holds it ("a bundle"), `advice` what to do where it is
    damaged ("convert the model again"). Raises ModelError in one line for anything else.
    """
    try:
        data = read_bytes(path)
        document = json.loads(data)
    except FileNotFoundError:
        missing = f"no {path.name} in it" if path.parent.exists() else "no such folder"
        raise ModelError(f"{path.parent}: not {what}: {missing}") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: damaged: not JSON; {advice}") from None
    if b"\\ud" in data.lower() and not _is_unicode(document):
        raise ModelError(f"{path}: damaged: holds half a character (a lone surrogate); {advice}")
    if not isinstance(document, dict) or "format" not in document:
        raise ModelError(f"{path}: not the manifest of {what}")
    known = (version,) if isinstance(version, int) else version
    if document["format"] not in known:
        raise ModelError(
            f"{path}: is of format {document['format']}, and this version of paddle-edge reads "
            f"{what} of format {' or '.join(map(str, known))}: {advice}, or update paddle-edge"
        )
    return document, data


def refuse(path: Place, what: str) -> None:
    """Raise ModelError where the manifest of another thing lies there; `what` that is, in words, in
    which {0} becomes its folder."""
    if path.exists():
        raise ModelError(f"{path.parent}: {what.format(path.parent)}")


def _is_unicode(document: Any) -> bool:
    """Whether every text can be written again: JSON can escape what UTF-8 does not have."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document, the "format" first."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def from_json(kind: type[_T], value: Any, where: str = "") -> _T:
    """A dataclass of the fields in `value`, each of its type; others are of a later version.

    A type is str, int, float (an int will do), bool, Any, Optional, a dict with keys of str, a
    tuple of any length, or a dataclass. Raises ValueError that names the field, such as
    "field 'samples.label' is not of its type".
    """
    result: _T = _value(kind, value, where)
    return result


def _value(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _object(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union:
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple:
        _check(isinstance(value, (list, tuple)), where)
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict:
        _check(isinstance(value, dict), where)
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    wanted = (int, float) if kind is float else kind
    _check(isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)), where)
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), where)
    known = _fields(kind)
    prefix = f"{where}." if where else ""
    taken = {}
    for name, (type_, required) in known.items():
        if name in value:
            taken[name] = _value(type_, value[name], prefix + name)
        elif required:
            raise ValueError(f"field '{prefix}{name}' is missing")
    return kind(**taken)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Of each field of a dataclass: its type, and whether it has to be there."""
    types = get_type_hints(kind)
    return {
        field.name: (
            types[field.name],
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    }


def _check(holds: bool, where: str) -> None:
    if not holds:
        raise ValueError(f"field '{where}' is not of its type")
