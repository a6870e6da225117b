"""Names are somebody else's text: they reach no terminal, spreadsheet or encoder raw."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from test_run_folder import made

from lite_opt.cli import main as main_module
from lite_opt.cli.output import say, tell
from lite_opt.views.table import Remark, Verbatim, table
from py_runner.errors import ModelError
from py_runner.formats.run import Run, SampleInfo

EVIL = "a\x1b[31m\x07\x9b2J\u202eb\r\x7f"
SEEN = r"a\x1b[31m\x07\x9b2J\u202eb\r\x7f"


def test_escape_sequences_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [table(EVIL, ("x", EVIL), [(EVIL, EVIL)]), EVIL, Remark(EVIL), Verbatim(EVIL)]
    tell({}, cells, as_json=False)
    say(EVIL + "\nsecond")
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not set(text) & set("\x1b\x07\x9b\u202e\r\x7f")
        assert r"\x1b[31m" in text
    assert captured.out.count(r"\x9b2J\u202eb") == 6  # rich leaves \x07 and \r out
    assert SEEN in captured.out and SEEN + r"\nsecond" in captured.err


def test_letters_of_any_language_stay(capsys: pytest.CaptureFixture[str]) -> None:
    text = "猫 è ☕\tж"
    tell({"a": text}, [text, Verbatim(text)], as_json=False)
    tell({"a": text}, [], as_json=True)
    out = capsys.readouterr().out
    assert out.count("猫 è ☕") == 3


def test_json_says_the_same_in_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    tell({"a": EVIL + "\ud800"}, [], as_json=True)
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\x9b\u202e\r\x7f\ud800")
    assert json.loads(out) == {"a": EVIL + "\ud800"}


def test_half_a_character_is_an_error_in_words(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run.open(bundle / "reference").save(tmp_path / "r")
    document = json.loads((run / "run.json").read_text())
    document["model"]["name"] = "x\ud800"
    (run / "run.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="holds half a character"):
        Run.open(run)
    monkeypatch.setattr(sys, "argv", ["paddle-edge", "inspect", str(run)])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 3 and "internal error" not in capsys.readouterr().err
    document["model"]["name"] = "x\U0001f600"  # two halves are a character
    (run / "run.json").write_text(json.dumps(document))
    assert Run.open(run).model["name"] == "x\U0001f600"


IDS = ["=cmd()", "+1", "-1", "@x", "'q", "'=cmd()", "plain", "a,b", 'c"d', "\tt"]


def test_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    samples = tuple(SampleInfo(id_, "h", None) for id_ in IDS)
    run = made(
        samples=samples,
        outputs={"out": [made().outputs["out"][0]] * len(IDS)},
        latency_ms=[[float(n), n + 0.5] for n in range(len(IDS))],
    )
    saved = run.save(tmp_path / "r")
    with (saved / "latency.csv").open(newline="") as file:
        cells = [row["sample"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    opened = Run.open(saved)
    assert opened.latency_ms == run.latency_ms and [s.id for s in opened.samples] == IDS


def test_cells_of_other_writers_are_read_as_they_are(tmp_path: Path) -> None:
    ids = ["=cmd()", "-1", "plain"]
    run = made(
        samples=tuple(SampleInfo(id_, "h", None) for id_ in ids), latency_ms=[[1.0], [2.0], [3.0]]
    )
    saved = run.save(tmp_path / "r")
    rows = "".join(f"{id_},0,{n + 1}\n" for n, id_ in enumerate(ids))
    (saved / "latency.csv").write_text("sample,repeat,ms\n" + rows)
    assert Run.open(saved).latency_ms == run.latency_ms
