"""The history of comparisons: kept, listed, plotted, held against, and in no comparison's way."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import need
from test_cli import Command, command, one_object  # noqa: F401  a fixture
from test_report import ARM, EVIL, LOGITS, flipped, run

from lite_opt.history import table
from lite_opt.history.entry import Entry, revision_of
from lite_opt.history.table import History
from lite_opt.judge.compare import compare
from lite_opt.views.history import sparkline
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run

RANDOM = np.random.default_rng(3)
TIMES = RANDOM.gamma(50, 0.2, (len(LOGITS), 3))
BUNDLE = {"name": "tiny-bundle", "sha256": "b" * 64}


def edge(wrong: int = 0, times: float = 1.0, **fields: Any) -> Run:
    """What a board answered: other classes to the first `wrong` samples, in so much more time."""
    values = flipped(range(wrong)) if wrong else LOGITS
    own = {"model": BUNDLE, "latency_ms": (TIMES * times).tolist(), **ARM, **fields}
    return run(values, **own)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return run().save(tmp_path / "server.run")


def saved(made: Run, folder: Path) -> Path:
    """Under a name of its own."""
    return made.save(folder / f"edge{len([*folder.glob('edge*')])}.run")


def entry(**fields: Any) -> Entry:
    return replace(Entry.of(compare(run(), edge()), edge()), **fields)


def test_a_comparison_is_a_row(command: Command, server: Path, tmp_path: Path) -> None:  # noqa: F811
    place = tmp_path / "kept"
    place.mkdir()
    candidate = saved(edge(), tmp_path)
    for _ in range(2):
        code, text, _ = command("compare", server, candidate, "--history", place, "--json")
        document = one_object(text)
        assert code == 0 and document["passed"]
        assert document["history"] == {"held": [], "error": None}
    code, text, _ = command("history", place, "--json")
    one, other = one_object(text)["entries"]
    assert code == 0 and one["id"] != other["id"]
    assert {name: one[name] for name in ("model", "recipe", "engine", "device", "verdict")} == {
        "model": "m", "recipe": "fp32", "engine": "native", "device": "cpu", "verdict": "passed"
    }  # fmt: skip
    assert one["model_sha256"] == run().model["sha256"] and one["bundle_sha256"] == "b" * 64
    assert one["samples"] == len(LOGITS) and one["revision"] is None
    report = compare(run(), edge())
    assert one["metrics"]["cosine"] == report.outputs[0].cosine
    assert one["metrics"]["top-1 agreement"] == 1.0
    assert one["metrics"]["p50_ms"] == pytest.approx(float(np.median(TIMES)), rel=1e-5)
    code, text, _ = command("history", place, "--metric", "cosine", "--last", 1)
    assert code == 0 and "1 comparisons, 0 of them failed" in text and "cosine" in text
    code, text, _ = command("history", place, "--model", "nope")
    assert code == 0 and text == "no comparison is of this model, recipe, engine and device\n"
    code, _, error = command("history", place, "--metric", "p99")
    assert code == 2 and "p99_ms" in error


def test_what_is_not_asked_for_is_not_kept(
    command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    before = {*tmp_path.iterdir()}
    candidate = saved(edge(), tmp_path)
    code, text, _ = command("compare", server, candidate, "--json")
    assert code == 0 and "history" not in one_object(text)
    assert {*tmp_path.iterdir()} == before | {candidate}


def test_the_revision_is_that_of_git(tmp_path: Path) -> None:
    assert revision_of(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "model.pdmodel").write_text("")
    for path in (tmp_path, tmp_path / "inside", tmp_path / "inside" / "model.pdmodel"):
        assert revision_of(path) == head.stdout.strip()


def test_an_emulator_s_latency_is_no_metric() -> None:
    emulated = edge(device="qemu-aarch64:pi5")
    metrics = Entry.of(compare(run(), emulated), emulated).metrics
    assert not [name for name in metrics if name.startswith("p") and name.endswith("_ms")]
    assert "cosine" in metrics


GATE = ("--against-best-of", 3, "--max-top1-drop", 2, "--max-latency-regression", "10%")


def test_a_model_that_gets_worse_by_a_little_each_time_is_found(
    command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    line = ["compare", server]
    more = ["--history", tmp_path / "h", *GATE, "--cosine", -1, "--max-abs-diff", 1]

    def gated(wrong: int, times: float) -> tuple[int, str]:
        code, text, error = command(*line, saved(edge(wrong, times), tmp_path), *more)
        assert not error.startswith("paddle-edge:"), error
        return code, text

    count = len(LOGITS)
    code, text = gated(1, 1.0)  # against the server it is as slow, and wrong, as it likes
    assert code == 0 and "nothing to hold p50_ms against yet" in text
    code, text = gated(0, 1.08)
    assert code == 0 and "8.00 percent worse than the best of the last 1" in text
    code, text = gated(0, 1.08 * 1.08)
    assert code == 1 and "p50_ms" in text and "16.64 percent worse" in text
    allowed = int(count * 0.02)
    code, text = gated(allowed + 1, 1.0)
    assert code == 1 and f"{(allowed + 1) / count * 100:.2f} points worse" in text
    # What was refused is no measure of what follows.
    entries = History(tmp_path / "h").entries()
    assert [one.verdict for one in entries] == ["passed", "passed", "failed", "failed"]
    assert "16.64 percent worse" in entries[2].why
    code, text = gated(0, 1.09)
    assert code == 0 and "the best of the last 2" in text
    # Of the last three only: the first, fastest one is forgotten.
    for times in (1.09, 1.09, 1.15):
        assert gated(0, times)[0] == 0
    assert "the best of the last 3" in gated(0, 1.19)[1]


@pytest.mark.parametrize(
    "other",
    [
        {"device": "ssh://pi"},
        {"precision": "fp16"},
        {"threads": 4},
        {"machine": "Linux armv7l"},
        {"engine": "onnx"},
    ],
)
def test_only_what_is_alike_is_held_against_each_other(
    other: dict[str, Any], command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    more = ("--history", tmp_path / "h", *GATE[:2], *GATE[4:])
    assert command("compare", server, saved(edge(), tmp_path), *more)[0] == 0
    assert command("compare", server, saved(edge(times=2), tmp_path), *more)[0] == 1
    code, text, _ = command("compare", server, saved(edge(times=2, **other), tmp_path), *more)
    assert code == 0 and "nothing to hold p50_ms against yet" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--against-best-of 3 --max-top1-drop 1", "of which history"),
        ("--history {h} --against-best-of 3", "say what may be lost"),
        ("--history {h} --against-best-of 0 --max-top1-drop 1", "0 is not in the range"),
        ("--history {h}/no/h --max-top1-drop 1", "there is no folder"),
        ("--history {h} --html {h} --force", "which is read"),
    ],
)
def test_bad_input_is_one_line(
    words: str, told: str, command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    history = tmp_path / "h"
    History(history).append([entry()])
    line = words.format(h=history).split()
    code, _, error = command("compare", server, saved(edge(), tmp_path), *line)
    assert code == 2 and told in error and len(error.splitlines()) == 1, error
    assert len(History(history).entries()) == 1


def test_an_emulator_s_latency_is_not_held_against_anything(
    command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    candidate = saved(edge(device="qemu-aarch64:pi5"), tmp_path)
    code, text, error = command("compare", server, candidate, "--history", tmp_path / "h", *GATE)
    assert code == 2 and "no latency of its own" in error and "PASSED" in text


def damaged(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as base:
        base.execute("CREATE TABLE comparisons (number INTEGER)")
    base.close()


def newer(file: Path) -> None:
    with sqlite3.connect(file) as base:
        base.execute("PRAGMA user_version = 2")
    base.close()


def read_only(file: Path) -> None:
    """What SQLite only reads, whoever asks: its format says that a later version wrote it."""
    data = bytearray(file.read_bytes())
    data[18] = 3
    file.write_bytes(data)


def otherwise(file: Path) -> None:
    with sqlite3.connect(file) as base:
        base.execute("DROP TABLE metrics")
    base.close()


def a_pipe(file: Path) -> None:
    file.unlink()
    subprocess.run(["mkfifo", str(file)], check=True)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (damaged, "damaged"),
        (lambda file: file.write_bytes(b"SQLite format 3\0" + b"\0" * 5000), "damaged"),
        (lambda file: file.write_text("time,model\n"), "no database of SQLite's"),
        (foreign, "a database of something else"),
        (newer, "is of version 2, and this version of paddle-edge knows 1"),
        (read_only, "read-only"),
        (otherwise, "no such table: metrics"),
        (a_pipe, "is a pipe"),
        (lambda file: file.write_bytes(b"SQLite format 3\0"), "damaged"),
    ],
)
def test_a_history_at_fault_is_one_line_after_the_comparison(
    harm: Any, told: str, command: Command, server: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    file = tmp_path / "h.sqlite"
    History(file).append([entry()])
    harm(file)
    candidate = saved(edge(), tmp_path)
    line = ("compare", server, candidate, "--history", file, "--html", tmp_path / "page.html")
    code, text, error = command(*line)
    assert code == 3 and "PASSED" in text and (tmp_path / "page.html").exists()
    assert told in error and len(error.splitlines()) == 1, error
    code, text, error = command(*line, "--force", "--json")
    document = one_object(text)
    assert code == 3 and document["passed"] and told in document["history"]["error"]
    assert len(error.splitlines()) == 1
    code, text, error = command("history", file)
    if harm is not read_only:
        assert code == 3 and told in error and len(error.splitlines()) == 1 and not text


def test_another_writer_is_waited_for_and_then_told(
    command: Command, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    file = tmp_path / "h.sqlite"
    History(file).append([entry()])
    monkeypatch.setattr(table, "_WAIT_S", 0.2)
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    candidate = saved(edge(), tmp_path)
    code, text, error = command("compare", server, candidate, "--history", file)
    assert code == 3 and "PASSED" in text and "another process holds it" in error
    holder.execute("ROLLBACK")
    holder.close()
    assert command("compare", server, candidate, "--history", file)[0] == 0
    assert len(History(file).entries()) == 2


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """They also make the file at once."""
    script = (
        "import sys, json\n"
        "from lite_opt.history.entry import Entry\n"
        "from lite_opt.history.table import History\n"
        "fields = json.loads(sys.argv[2]); fields.pop('id')\n"
        "for _ in range(15): History(sys.argv[1]).append([Entry(**fields)])\n"
        "History(sys.argv[1]).append([Entry(**fields, id='one')])\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "h"), json.dumps(asdict(entry()))]
    writers = [subprocess.Popen(words) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    entries = History(tmp_path / "h").entries()
    assert len(entries) == 46 and len({one.id for one in entries}) == 46
    assert all(one.metrics == entry().metrics for one in entries)


def test_a_row_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.append([entry(id="kept")])
    with pytest.raises(DataError):
        history.append([entry(), entry(metrics={"x": None})])
    assert [one.id for one in history.entries()] == ["kept"]
    with pytest.raises(UsageError, match="there is no folder"):
        History(tmp_path / "no" / "h").append([entry()])


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.append([entry(id="kept")])
    script = (
        "import os, signal, sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "base.execute('PRAGMA cache_size = 2')\n"  # so that it writes before it commits
        "base.execute('BEGIN IMMEDIATE')\n"
        "rows = [(1, f'metric {n}', n) for n in range(5000)]\n"
        "base.executemany('INSERT INTO metrics VALUES (?, ?, ?)', rows)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(history.file)], check=False)
    assert (tmp_path / "h-journal").stat().st_size > 0
    (one,) = history.entries()
    assert one.id == "kept" and one.metrics == entry().metrics


def test_names_are_somebody_else_s_text(command: Command, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "h"
    evil = f"{EVIL}\ud800'; DROP TABLE comparisons; --"
    name = 'p50 "\' + alert(1) + " <b>\x1b[31m ms'
    made = [entry(model=evil, device=evil, metrics={name: float(n), "cosine": 1.0}) for n in (1, 2)]
    History(file).append(made)
    for words in (
        ("--metric", name),
        ("--plot", name),
        ("--plot", name, "-o", tmp_path / "page.html"),
        ("--plot", name, "-o", tmp_path / "chart.svg"),
        ("--json",),
    ):
        code, text, error = command("history", file, *words)
        assert code == 0, error
        assert "\x1b" not in text and "\u202e" not in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>\x1b" not in page and "\x1b" not in page and "<script>alert" not in page
    ElementTree.parse(tmp_path / "chart.svg")
    assert "<script" not in (tmp_path / "chart.svg").read_text(encoding="utf-8")


def test_one_metric_over_time(command: Command, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "h"
    for number in range(8):
        verdict = "failed" if number == 7 else "passed"
        History(file).append(
            [
                entry(metrics={"p50_ms": 1.0 + number}, verdict=verdict),
                entry(metrics={"p50_ms": 5.0}, recipe="int8"),
                entry(metrics={"cosine": 1.0}, recipe="fp16"),
            ]
        )
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5]) == "▁▁"
    code, text, _ = command("history", file, "--plot", "p50_ms")
    assert code == 0 and "▁▂▃▄▅▆▇█" in text and "fp16" not in text
    code, text, _ = command("history", file, "--plot", "p50_ms", "--recipe", "int8")
    assert code == 0 and "▁" * 8 in text and "fp32" not in text
    code, _, _ = command("history", file, "--plot", "p50_ms", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert code == 0 and page.count("<tr>") == 17 and "triangles failed" in page
    assert "8, failed" in page and "5, passed" in page  # tips of the marks
    code, _, _ = command("history", file, "--plot", "p50_ms", "-o", tmp_path / "chart.svg")
    assert code == 0 and "m, int8, native, cpu" in (tmp_path / "chart.svg").read_text()
    for words, told in (
        (("-o", tmp_path / "x.svg"), "name it with --plot"),
        (("--plot", "p50_ms", "-o", tmp_path / "x.png"), "end its name so"),
        (("--plot", "p50"), "none of these has metric 'p50'"),
    ):
        code, _, error = command("history", file, *words)
        assert code == 2 and told in error and len(error.splitlines()) == 1
    code, _, error = command("history", tmp_path)
    assert code == 3 and "no such history" in error
    file.rename(tmp_path / "history.sqlite")  # a folder's is drawn into the folder, again
    code, _, error = command(
        "history", tmp_path, "--plot", "p50_ms", "-o", tmp_path / "page.html", "--force"
    )
    assert code == 0, error
    line = ("history", tmp_path, "--plot", "p50_ms", "-o", tmp_path / "history.sqlite", "--force")
    code, _, error = command(*line)
    assert code == 2 and "which is read" in error
    (tmp_path / "history.sqlite").write_bytes(b"")
    code, _, error = command("history", tmp_path)
    assert code == 3 and "no comparison was added yet" in error


@pytest.mark.slow
def test_a_history_goes_to_mlflow_once(command: Command, tmp_path: Path) -> None:  # noqa: F811
    need(find_spec("mlflow") is not None, "mlflow-skinny")
    from mlflow import MlflowClient

    file, uri = tmp_path / "h", f"sqlite:///{tmp_path}/mlflow.db"
    first = entry(revision="a" * 40, metrics={"top-1 agreement": 0.75, "a, b@c": 2.0})
    History(file).append([first, entry(verdict="failed", why="x" * 9000)])
    code, text, _ = command("history", file, "--mlflow", uri, "--json")
    assert code == 0 and one_object(text)["logged"] == 2
    History(file).append([entry()])
    code, text, _ = command("history", file, "--mlflow", uri)
    assert code == 0 and f"1 new in {uri}" in text
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    place = client.get_experiment_by_name("paddle-edge")
    runs = client.search_runs([place.experiment_id])
    assert len(runs) == 3 and sorted(r.info.status for r in runs) == ["FAILED", *["FINISHED"] * 2]
    (there,) = (r for r in runs if r.data.tags["paddle_edge.id"] == first.id)
    assert there.data.metrics == {"top-1 agreement": 0.75, "a_ b_c": 2.0}
    assert there.data.params["recipe"] == "fp32" and there.data.params["model"] == "m"
    assert there.data.tags["mlflow.source.git.commit"] == "a" * 40
    code, _, error = command("history", file, "--mlflow", "nothing://x")
    assert code == 3 and "MLflow at nothing://x" in error and len(error.splitlines()) == 1
