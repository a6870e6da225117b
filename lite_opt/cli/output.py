"""Where results go: standard output, standard error, and the files that somebody asked for."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lite_opt.views.table import Remark, Verbatim
from lite_opt.views.text import one_line, visible
from py_runner.errors import UsageError
from py_runner.files.folder import whole_file
from py_runner.files.url import shown
from py_runner.watch import Watch

if TYPE_CHECKING:
    from lite_opt.views.table import Item

__all__ = ["forget_reader", "new_file", "print_json", "say", "tell", "watching", "write"]

# Those that JSON leaves as they are.
_BARE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


_TELL_EVERY_S = 5.0


def tell(document: Mapping[str, Any], view: Iterable[Item], *, as_json: bool) -> None:
    """Print a result: as one JSON object, or as people read it."""
    if as_json:
        print_json(document)
    else:
        _show(view)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object in one line."""
    text = json.dumps(_plain(document), ensure_ascii=False, allow_nan=False)
    # JSON escapes control characters itself, but those of 0x7f to 0x9f and lone surrogates.
    click.echo(_BARE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _plain(value: Any) -> Any:
    """JSON has no NaN or Inf: null says that there is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def say(text: str) -> None:
    """Print a line to standard error, without credentials of URLs."""
    click.echo(shown(one_line(text)), err=True)


def forget_reader() -> None:
    """The reader of our output is gone, as after `| head`: not an error. The rest goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(view: Iterable[Item]) -> None:
    from rich.console import Console
    from rich.segment import Segments

    class Printer(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1

    # What is printed are names of files, layers and outputs, too: they are no markup.
    console = Printer(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe or a file has none: do not fold cells at 80 columns
    for item in view:
        if isinstance(item, Remark):
            say(item.text)
        elif isinstance(item, Verbatim):
            click.echo(visible(item.text))
        else:
            laid_out = console.render(item)
            console.print(Segments([s._replace(text=visible(s.text)) for s in laid_out]))


@contextmanager
def watching(as_json: bool = False, *, in_bytes: bool = False) -> Iterator[Watch]:
    """Lines and warnings on standard error, where that is not for a program, and progress bars that
    appear when their work begins, where it is a terminal; else a line every few seconds. Bars count
    things, or bytes."""
    tasks: dict[str, Any] = {}
    told = time.monotonic()
    stands = ""
    with _bars(in_bytes) as progress:

        def step(what: str, done: int, total: int | None) -> None:
            nonlocal told
            if progress.disable and not as_json and time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                say(f"{what}: {done}" + ("" if total is None else f" of {total}") + stands)
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total, description=f"{what}{stands}")

        def state(words: str) -> None:
            nonlocal stands
            stands = f" ({words})"

        yield Watch(step=step) if as_json else Watch(say=say, step=step, state=state, warn=_warn)


def _warn(text: str) -> None:
    say(f"warning: {text}")


def _bars(in_bytes: bool) -> Any:
    """rich's bars on standard error, shown only where that is a terminal."""
    from rich import progress
    from rich.console import Console

    columns: tuple[Any, ...] = (
        (progress.DownloadColumn(), progress.TransferSpeedColumn())
        if in_bytes
        else (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    )
    console = Console(stderr=True)
    everything = ("{task.description}", progress.BarColumn(), *columns)
    return progress.Progress(*everything, console=console, disable=not console.is_terminal)


def new_file(name: str | None, *, force: bool) -> Path | None:
    """The file to write, which must not be there without `force`: asked before long work."""
    path = Path(name) if name else None
    if path and path.is_dir():
        raise UsageError(f"{path}: is a folder, and a file is to be written there")
    if path and path.exists() and not force:
        raise UsageError(f"{path}: exists already; choose another name or pass --force")
    if path and not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.absolute().parent}")
    return path


def write(path: Path, text: str) -> None:
    """Write a file that somebody asked for, whole or not at all. Raises UsageError where not."""
    with whole_file(path) as file:
        file.write(text.encode())
