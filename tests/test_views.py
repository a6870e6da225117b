"""What people see: tables whose numbers stay whole in any terminal, remarks, and drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from rich.console import Console
from test_compare import LOGITS, made

from lite_opt.cli.output import tell
from lite_opt.conversion.convert import Conversion
from lite_opt.judge.compare import compare
from lite_opt.judge.sensitivity import LayerLoss
from lite_opt.passes.rule import Change
from lite_opt.views import conversion
from lite_opt.views.latency import LATENCY_HEADER
from lite_opt.views.sensitivity import drawing
from lite_opt.views.table import Remark, Verbatim, table, warnings

SERVER = ("paddle 3.3.1 (cpu, fp32)", "121.83", "124.39", "124.88", "121.11", "147.4",
          "1200", "1", "425.90 MB")  # fmt: skip
EDGE = ("lite v2.13-rc (cpu, fp32)", "2.83", "2.39", "2.88", "2.11", "147.4", "1200",
        "1", "89.90 MB")  # fmt: skip


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


@pytest.mark.parametrize("random", [True, False])
def test_a_conversion_that_fails_says_so_beside_its_tables(
    random: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Conversion(
        None,
        compare(made(LOGITS), made(-LOGITS)),
        (Change("rule", "op 'a'", "gone"), Change("rule", "op 'b'", "gone")),
    )
    tell({}, conversion.view(done, "out", random=random), as_json=False)
    shown = capsys.readouterr()
    assert shown.out.count("op 'a': gone") == 1 and "op 'b'" not in shown.out
    assert "Self-check: server against paddle 3.3.1 (cpu, fp32)" in shown.out
    last = shown.err.splitlines()[-1]
    assert last.startswith("paddle-edge: FAILED on 20 samples: ")
    assert last.endswith("; no bundle was written") != random
    assert ("judged on random tensors" in last) == random
    assert conversion.document(done)["bundle"] is conversion.document(done)["targets"] is None


def test_a_drawing_has_a_bar_for_each_layer_as_long_as_its_ratio() -> None:
    ratios = {"<a> & 'b'": -3.0, "bad": 19.9, "poor": 20.0, "good": 30.0, "same": math.inf}
    losses = [LayerLoss(name, "mul", "w", 1, db, 1.0, None) for name, db in ratios.items()]
    picture = ElementTree.fromstring(drawing(losses, title="<net>"))
    texts = [e.text for e in picture.iter() if e.tag.endswith("text")]
    assert texts[0] == "<net>" and [texts[2::2], texts[3::2]] == [
        list(ratios),
        ["-3.0", "19.9", "20.0", "30.0", "no difference"],
    ]
    frame, *bars = (e.attrib for e in picture.iter() if e.tag.endswith("rect"))
    assert [bar["width"] for bar in bars] == ["0.0", "305.1", "306.7", "460.0", "460.0"]
    assert [bar["fill"] for bar in bars] == ["#b3261e"] * 2 + ["#c77700"] + ["#0a7a33"] * 2
    assert int(frame["height"]) == int(picture.attrib["height"]) > int(bars[-1]["y"]) + 18
