"""Tables in a terminal: numbers stay whole, however narrow it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from lite_opt.cli.output import tell
from lite_opt.views.latency import LATENCY_HEADER
from lite_opt.views.table import Remark, Verbatim, table, warnings

SERVER = ("server: paddle 3.3.1 (cpu, fp32)", "121.83", "124.39", "124.88", "121.11", "147.4",
          "1200", "1", "425.90 MB")  # fmt: skip
EDGE = ("edge: lite v2.13-rc (cpu, fp32)", "2.83", "2.39", "2.88", "2.11", "147.4", "1200", "1",
        "89.90 MB")  # fmt: skip


def printed(width: int, rows: Sequence[Sequence[str]]) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table("Latency", LATENCY_HEADER, rows))
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_a_table_that_fits_has_a_line_a_row() -> None:
    title, header, _, *rows = printed(120, [SERVER, EDGE])
    assert title == "Latency"
    assert [len(line) for line in rows] == [len(header)] * 2
    assert "  ".join(LATENCY_HEADER[1:3]) in header
    assert rows[0].split("  ")[0].strip() == SERVER[0]


def test_few_rows_that_are_too_wide_stand_side_by_side() -> None:
    lines = printed(80, [SERVER, EDGE])
    assert max(map(len, lines)) <= 80
    assert lines[1].split("  ")[0].strip() == "latency"
    assert lines[1].index(SERVER[0]) < lines[1].index(EDGE[0])
    cells = [line.split("  ") for line in lines[3:]]
    found = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert found == [list(row) for row in zip(LATENCY_HEADER[1:], SERVER[1:], EDGE[1:])]


def test_many_rows_that_are_too_wide_fold_names_and_no_numbers() -> None:
    text = "\n".join(printed(80, [SERVER, EDGE] * 2))
    assert SERVER[0] not in text
    assert all(text.count(number) >= 2 for number in (*SERVER[1:], *EDGE[1:]))


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """What a person called a layer or a file is no markup, and no emoji."""
    names = ("[bold]x[/bold]", "[/]", ":cat:.png")
    tell({}, [table(names[0], names[:2], [names[1:]]), *names], as_json=False)
    text = capsys.readouterr().out
    assert [text.count(name) for name in names] == [3, 3, 2]


def test_remarks_go_to_standard_error_and_paths_are_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/".join(["a folder"] * 60)
    tell({}, [*warnings(["mind"]), Verbatim(path), Remark("done")], as_json=False)
    assert capsys.readouterr() == (f"{path}\n", "warning: mind\ndone\n")
    tell({"nan": float("nan"), "of": (1, "\u00e9")}, [Remark("unseen")], as_json=True)
    assert capsys.readouterr() == ('{"nan": null, "of": [1, "\u00e9"]}\n', "")
