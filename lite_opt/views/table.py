"""Tables for a terminal, their cells, and the remarks beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = ["Item", "Remark", "Row", "Verbatim", "percent", "size", "table", "warnings"]

Row = Sequence[str]

_ANY_WIDTH = 1000
_FEW = 3  # rows that can stand side by side
_NUMBER = 10  # characters
_NARROW = 60  # columns, where whole names and numbers seldom stand beside each other


@dataclass(frozen=True)
class Remark:
    """A line beside the result, for standard error."""

    text: str


@dataclass(frozen=True)
class Verbatim:
    """A line that another program reads: it is never folded."""

    text: str


Item = Union["RenderableType", Remark, Verbatim]


@dataclass(frozen=True)
class _Table:
    """Rows, or where there are too many columns for the terminal and few rows, columns."""

    title: str
    header: Row
    rows: Sequence[Row]
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        table = self._laid_out(self.header, self.rows)
        needed = console.measure(table, options=options.update(max_width=_ANY_WIDTH)).maximum
        few = len(self.rows) <= _FEW and len(self.header) > 2 * len(self.rows)
        if needed > options.max_width and few:
            header, *rows = zip(self.header, *self.rows)
            table = self._laid_out(header, rows)
            needed = console.measure(table, options=options.update(max_width=_ANY_WIDTH)).maximum
        if needed > options.max_width and options.max_width < _NARROW:
            yield from self._one_by_one()
        else:
            yield table

    def _one_by_one(self) -> Iterator[str]:
        """For a narrow terminal: the name of a row, and below it a line a cell."""
        yield self.title
        for row in self.rows:
            yield row[0]
            yield from (f"  {name}: {cell}" for name, cell in zip(self.header[1:], row[1:]))

    def _laid_out(self, header: Row, rows: Sequence[Row]) -> rich.table.Table:
        import rich.box
        import rich.table

        result = rich.table.Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=rich.box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for number, cells in enumerate(zip(header, *rows)):
            result.add_column(
                cells[0],
                justify="left" if number < self.left else "right",
                overflow="fold",
                no_wrap=max(map(len, cells[1:]), default=0) <= _NUMBER,  # whole, as long as it fits
            )
        for row in rows:
            result.add_row(*row)
        return result


def table(title: str, header: Row, rows: Sequence[Row], *, left: int = 1) -> RenderableType:
    """A table for a terminal: the first `left` columns to the left, the others to the right.

    Up to three rows that are too wide for it are shown side by side; on a narrow terminal every row
    has a line a cell.
    """
    return _Table(title, header, rows, left)


def warnings(texts: Iterable[str]) -> Iterator[Remark]:
    """What speaks against a result, a Remark each."""
    return (Remark(f"warning: {text}") for text in texts)


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "-" if share is None else f"{share:.2%}"


def size(count: float) -> str:
    """Bytes in MB (10^6) or KB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} KB"
