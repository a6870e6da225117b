"""Any nested document as names and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lite_opt.views.table import Item, Row, table

__all__ = ["rows", "view"]


def view(document: Mapping[str, Any], title: str) -> Iterator[Item]:
    """A row for each value; those of nested documents are named with dots, long lists counted."""
    yield table(title, ("", "value"), rows(document), left=2)


def rows(document: Mapping[str, Any], prefix: str = "") -> list[Row]:
    """Names and values of a document."""
    found: list[Row] = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            found += rows(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            shown = value if len(value) <= 8 else value[:8]
            for index, item in enumerate(shown):
                found.append((f"{prefix}{name}[{index}]", _brief(item)))
            if len(value) > len(shown):
                found.append((f"{prefix}{name}", f"... {len(value)} in all"))
        elif isinstance(value, (list, tuple)) and len(value) > 8:
            found.append((f"{prefix}{name}", f"{len(value)}: {value[0]}, ..."))
        else:
            found.append((f"{prefix}{name}", "-" if value is None else str(value)))
    return found


def _brief(item: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {'-' if v is None else v}" for name, v in item.items())
