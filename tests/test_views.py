"""What people see: tables whose numbers stay whole in any terminal, remarks, and drawings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from test_compare import LOGITS, made

from lite_opt.bench import Bench, Counts
from lite_opt.cli import output
from lite_opt.cli.output import tell
from lite_opt.conversion.convert import Conversion
from lite_opt.judge.compare import compare
from lite_opt.judge.sensitivity import LayerLoss
from lite_opt.passes.rule import Change
from lite_opt.sdk.archives import Archive
from lite_opt.sdk.library import Sdk
from lite_opt.views import answers, comparison, conversion, facts, latency, sdks
from lite_opt.views.latency import LATENCY_HEADER
from lite_opt.views.sensitivity import drawing
from lite_opt.views.table import Item, Remark, Verbatim, table, warnings
from py_runner.formats.bundle import Bundle
from py_runner.tasks.classification import decode

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
    losses = [LayerLoss(name, "mul", "w", 1, db, 1.0, "", None, 0.5) for name, db in ratios.items()]
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


def shown(view: Iterable[Item], capsys: pytest.CaptureFixture[str]) -> str:
    tell({}, view, as_json=False)
    return capsys.readouterr().out


def test_a_bundle_that_nothing_judged_says_so(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Bundle.open(bundle)
    target = replace(
        opened.targets["arm"], kernels={"arm/int8": 3, "arm/fp16": 2, "arm/float": 4, "host/any": 1}
    )
    check = {"status": "passed", "targets": {"arm": "fine"}}
    made_of = replace(opened, targets={"arm": target}, check=check)
    tell({}, conversion.view(Conversion(made_of, None, ()), "out", random=False), as_json=False)
    text, remarks = capsys.readouterr()
    assert re.search(r"arm +fp32 +[\d.]+ KB +\d+ +3 +2 +5 +0 .* fine", text) and not remarks
    check = {"status": "unjudged", "targets": {}, "reason": "no engine"}
    done = Conversion(replace(made_of, check=check), None, ())
    tell({}, conversion.view(done, "out", random=False), as_json=False)
    text, remarks = capsys.readouterr()
    assert "not checked" in text
    assert remarks.startswith("paddle-edge: unjudged: no engine; compare on a device")


def test_those_that_disagree_are_named_up_to_twenty(capsys: pytest.CaptureFixture[str]) -> None:
    report = replace(compare(made(LOGITS), made(LOGITS)), warnings=("mind",))
    for count, rest in ((20, ""), (21, " and 1 more")):
        names = tuple(f"s{n}" for n in range(count))
        text = shown(comparison.view(replace(report, disagreeing=names)), capsys)
        assert f"disagree: {', '.join(names[:20])}{rest}\n" in text


def test_long_lists_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    of = {"eight": list(range(8)), "nine": list(range(9)), "none": None}
    rows: dict[str, Any] = {
        name: [{"a": n} for n in values] for name, values in of.items() if values
    }
    text = shown(facts.view({**of, "deep": {"rows": rows}}, "all"), capsys)
    cells = {line[: line.find("  ", 1)].strip(): line.split("  ", 1)[1].strip() for line in
             text.splitlines()[4:] if line.strip()}  # fmt: skip
    assert cells["eight"] == "[0, 1, 2, 3, 4, 5, 6, 7]"
    assert (cells["nine"], cells["none"]) == ("9: 0, ...", "-")
    assert cells["deep.rows.nine[7]"] == "a 7" and cells["deep.rows.nine"] == "... 9 in all"
    assert "deep.rows.nine[8]" not in cells and "deep.rows.eight" not in cells


def test_a_run_shows_its_first_answers(capsys: pytest.CaptureFixture[str]) -> None:
    run = made(LOGITS, [7] + [None] * 19)
    document = {
        "run": "out", **run.summary(), "skipped": [], "warnings": [], "predictions": decode(run)
    }  # fmt: skip
    text = shown(answers.view(document), capsys)
    assert "Answers (first 10 of 20)" in text and "Run out: 20 samples" in text
    assert re.search(r"^ s0 +7 ", text, re.M) and re.search(r"^ s9 +- ", text, re.M)
    assert "s10" not in text


def test_instructions_are_no_latency(capsys: pytest.CaptureFixture[str]) -> None:
    found = Bench("m", "qemu-arm", arm_instructions=12_340_000)
    text = shown(latency.view(found), capsys)
    assert text.startswith("12.34 M ARM instructions per inference of m (qemu-arm): ")


def test_rows_of_a_bench_say_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "throughput_per_s", "count")
    run = {"threads": 1, "precision": "fp32", "batch": 1, "peak_memory_bytes": 1}
    run["latency"] = dict.fromkeys(keys, 2)
    runs = ({**run, "engine": "lite"}, {**run, "engine": "onnx"})
    text = shown(latency.view(Bench("m", "cpu", runs)), capsys)
    assert re.search(r"^ lite, 1 threads +2\.00", text, re.M)
    runs = ({**run, "engine": "onnx"}, {**run, "engine": "onnx", "batch": 4})
    text = shown(latency.view(Bench("m", "cpu", runs)), capsys)
    assert re.search(r"^ onnx, 1 threads, batch 4 +2\.00", text, re.M)
    runs = ({**run, "engine": "paddle"}, {**run, "engine": "paddle", "precision": "fp16"})
    text = shown(latency.view(Bench("m", "gpu", runs)), capsys)
    assert re.search(r"^ paddle, 1 threads, fp16 +2\.00", text, re.M)


def test_boards_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    by_device = {"qemu-aarch64:pi4": 80_430_000, "qemu-aarch64:pi5": 48_700_000}
    text = shown(latency.counts(Counts(tuple(by_device), {"int8.bundle": by_device})), capsys)
    assert re.search(r"^ bundle +qemu-aarch64:pi4 +qemu-aarch64:pi5", text, re.M)
    assert re.search(r"^ int8.bundle +80.43 +48.70", text, re.M)


def test_archives_in_the_cache_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [Archive("v2.12", "armlinux-armv8"), Archive("v2.12", "armlinux-armv7hf")]
    here = Sdk(
        tmp_path, tmp_path, tmp_path, "armlinux-armv8", "v2.12", None, 4096, archive=listed[0].name
    )
    document = sdks.document(listed, [here], server="https://x", cache=tmp_path)
    assert [a["cached"] for a in document["archives"]] == [str(tmp_path), None]
    assert document["archives"][1]["url"] == f"https://x/v2.12/{listed[1].name}"
    text = shown(sdks.view(document, "https://x"), capsys)
    assert re.search(rf"{re.escape(listed[0].name)} +yes", text) and text.count("yes") == 1


def test_at_forty_columns_names_and_numbers_are_whole() -> None:
    for rows in ([SERVER, EDGE], [SERVER, EDGE] * 3):
        lines = printed(40, rows)
        assert max(map(len, lines)) <= 40
        for row in rows:
            assert row[0] in lines
            for name, cell in zip(LATENCY_HEADER[1:], row[1:]):
                assert f"  {name}: {cell}" in lines
    assert printed(40, [("a", "1")])[1:] != ["a", "  p50 ms: 1"]


def test_where_there_is_no_terminal_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: clock[0])
    with output.watching() as watch:
        for done in range(1, 12):
            clock[0] += 1
            watch.step("engine lite", done, 11 if done < 10 else None)
    assert capsys.readouterr().err == "engine lite: 5 of 11\nengine lite: 10\n"
    with output.watching(as_json=True) as watch:
        clock[0] += 100
        watch.step("engine lite", 1, 2)
    assert capsys.readouterr().err == ""
