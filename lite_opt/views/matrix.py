"""Cells of a matrix: a line while they come, a table, and the page that leads to their reports.

A cell is what `Result.to_json` of lite_opt/trial/matrix.py has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lite_opt.views.table import Item, Row, percent, table
from lite_opt.views.templates import filled

__all__ = ["counted", "line", "matrix_page", "view"]

_NAMES = ("model", "data", "recipe", "engine", "device")
_HEADER = (*_NAMES, "state", "verdict", "agreement", "cosine", "p50 ms")
_SHOWN = 3  # cells of one reason


def view(cells: Sequence[Mapping[str, Any]], page: str | None) -> Iterator[Item]:
    """A row for each cell, the reasons of those that are not green, and a line of counts."""
    yield table("Cells", _HEADER, [_row(cell) for cell in cells], left=7)
    alike: dict[str, list[str]] = {}
    for cell in cells:
        if cell["why"]:
            alike.setdefault(cell["why"], []).append(_name(cell))
    for why, names in alike.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{'; '.join(names[:_SHOWN])}{more}: {why}"
    if page is not None:
        yield f"page: {page}"
    yield counted(cells)


def counted(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many cells there are of each state and verdict."""
    states = Counter(str(cell["state"]) for cell in cells)
    verdicts = Counter(str(cell["verdict"]) for cell in cells if cell["verdict"])
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    judged = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    return f"{len(cells)} cells: {told}" + (f"; verdicts: {judged}" if judged else "")


def line(cell: Mapping[str, Any], number: int, total: int) -> str:
    """A cell as soon as it is known what came of it."""
    outcome = ", ".join(filter(None, (cell["state"], cell["verdict"])))
    why = f": {cell['why']}" if cell["why"] else ""
    return f"{number:>{len(str(total))}} of {total}  {_name(cell)}  {outcome}{why}"


def matrix_page(
    cells: Sequence[Mapping[str, Any]], passed: bool, *, title: str, command: str
) -> str:
    """A page with a row for each cell; "page" of a cell is where its report lies, or None. It is
    green where nothing is red and enough was seen of all that was judged."""
    rows = [(_row(cell), cell) for cell in cells]
    verdicts = {cell["verdict"] for cell in cells} - {None}
    status = "failed" if not passed else "passed" if verdicts == {"passed"} else "unsure"
    return filled(
        "matrix.html", title=title, header=_HEADER, rows=rows, status=status,
        headline=counted(cells), command=command,
    )  # fmt: skip


def _name(cell: Mapping[str, Any]) -> str:
    return " ".join(str(cell[name]) for name in _NAMES)


def _row(cell: Mapping[str, Any]) -> Row:
    p50, cosine = cell["p50_ms"], cell["cosine"]
    return (
        *(str(cell[name]) for name in _NAMES),
        cell["state"],
        cell["verdict"] or "-",
        percent(cell["agreement"]),
        "-" if cosine is None else f"{cosine:.6f}",
        "-" if p50 is None else f"{p50:.2f}",
    )
