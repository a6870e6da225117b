"""`paddle-edge try`: five recipes and a recommendation, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import make_model
import numpy as np
import pytest
from test_cli import Command, command, one_object  # noqa: F401  a fixture

from lite_opt.history.table import History
from lite_opt.recipes import RECIPES
from lite_opt.trial.ledger import Ledger, made_of
from py_runner.data.dataset import dataset
from py_runner.data.image_text import image_spec as spec_of
from py_runner.data.source import Wanted
from py_runner.data.split import part_of, write_part
from py_runner.errors import UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.tensors import TensorSpec

INPUTS = (TensorSpec("x", "float32", (-1, 3, make_model.SIDE, make_model.SIDE)),)


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is judged here is the same where boards are set up."""
    for name in ("LITE_RUN_AARCH64", "SYSROOT_AARCH64", "LITE_RUN_ARM", "SYSROOT_ARM"):
        monkeypatch.delenv(f"PADDLE_EDGE_{name}", raising=False)


def results(folder: Path) -> dict[str, int]:
    """When each result was left, by its name."""
    files = [
        *folder.glob("*/bundle.json"),
        *folder.glob("*/run.json"),
        *folder.glob("*/split.json"),
    ]
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def changed(folder: Path, before: dict[str, int]) -> set[str]:
    """Which results were left anew since then."""
    return {name for name, when in results(folder).items() if before[name] != when}


def test_five_recipes_and_a_recommendation_and_nothing_twice(
    command: Command,  # noqa: F811
    model: Path,
    photos: Path,
    image_spec: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "trial"
    line = ("try", model, "--data", photos, "--image", image_spec, "-o", out, "--json")
    code, text, _ = command(*line)
    document = one_object(text)
    assert code == 0 and document["split"] == {"seed": 0, "calibration": 3, "judged": 3}
    assert [one["recipe"] for one in document["recipes"]] == [*RECIPES]
    # The smallest: what the server simulates has no latency that is the device's.
    smallest = min(document["recipes"], key=lambda one: one["bytes"])
    best = document["recommended"]
    assert best["recipe"] == smallest["recipe"] and "smallest" in best["why"]
    for one in document["recipes"]:
        report = one["report"]
        assert one["status"] == "unsure" and report["passed"] and report["samples"] == 3
        assert report["candidate"]["precision"] == one["recipe"]
        simulated = one["recipe"] in ("fp16", "int8")
        assert report["candidate"]["engine"] == ("paddle" if simulated else "lite")
        assert Bundle.open(one["bundle"]).recipe["name"] == one["recipe"]
    # fp16 is computed as such, and is not the model itself.
    differences = {
        one["recipe"]: one["report"]["outputs"][0]["max_probability_diff"]
        for one in document["recipes"]
    }
    assert 1e-6 < differences["fp16"] < differences["int8"]
    split = json.loads((out / "data" / "split.json").read_text())
    assert sorted(split["calibration"] + split["judged"]) == [*range(6)]
    judged = [f"picture_{place}.png" for place in split["judged"]]
    assert [s.id for s in Run.open(out / "int8.run").samples] == judged
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Recommended" in page

    before = results(out)
    assert len(before) == 12
    for _ in range(2):
        assert command(*line, "--history", tmp_path / "h")[0] == 0
    assert results(out) == before
    # What was judged is kept once, whatever goes on from there.
    entries = History(tmp_path / "h").entries()
    assert [one.recipe for one in entries] == [*RECIPES]
    assert {one.model for one in entries} == {"tiny"}
    assert entries[-1].metrics["file_bytes"] == document["recipes"][-1]["bytes"]

    # The command that is named makes the same bundle.
    words = best["command"].split()
    words[words.index("-o") + 1] = str(tmp_path / "again")
    assert command(*words[1:])[0] == 0
    again, first = Bundle.open(tmp_path / "again"), Bundle.open(best["bundle"])
    assert again.recipe == first.recipe and again.source == first.source
    assert again.targets["arm"].weights == first.targets["arm"].weights
    assert [s.sha256 for s in again.samples] == [s.sha256 for s in first.samples]

    anew = {"data", "server.run", "fp32.bundle", "fp32.run", "int8.bundle", "int8.run"}
    # Of other data or another model nothing is taken; half a run is done anew by itself.
    (out / "fp32.run" / "run.json").unlink()
    one = (*line, "--recipes", "fp32,int8")
    assert command(*one)[0] == 0
    assert changed(out, before) == {"fp32.run"}
    before = results(out)
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    make_model.pictures(other, 1, seed=9)
    assert command("try", model, "--data", other, *one[4:])[0] == 0
    assert changed(out, before) == anew
    before = results(out)
    changed_model = make_model.save(make_model.classifier(seed=1), tmp_path / "m" / "tiny")
    assert command("try", changed_model, "--data", other, *one[4:])[0] in (0, 1)
    assert changed(out, before) == anew


def test_what_is_killed_goes_on_where_it_was(
    command: Command,  # noqa: F811
    model: Path,
    photos: Path,
    image_spec: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "trial"
    line = ["try", model, "--data", photos, "--image", image_spec, "-o", out]
    line += ["--recipes", "fp32,int16-weights"]
    words = [sys.executable, "-m", "lite_opt.cli.main", *map(str, line)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if text.startswith("fp32: running it"):
                break
        process.send_signal(signal.SIGKILL)
    before = results(out)
    assert {"data", "server.run", "fp32.bundle"} <= {*before}
    assert "int16-weights.bundle" not in before
    (out / ".fp32.run.partial-0").mkdir()
    code, text, error = command(*line)
    assert code == 0 and "Recommended: " in text and "fp32.bundle: taken as it is" in error
    after = results(out)
    assert {name: after[name] for name in before} == before
    assert not list(out.glob(".*.partial-*"))


def test_interrupted_it_says_how_to_go_on(
    model: Path, photos: Path, image_spec: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "lite_opt.cli.main", "try", str(model), "--data", str(photos)]
    words += ["--image", image_spec, "-o", str(tmp_path / "trial")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if text.startswith("fp32: converting"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "this goes on from there: paddle-edge try" in rest and "interrupted" in rest


def test_a_recipe_that_fails_is_a_row_with_its_reason(
    command: Command,  # noqa: F811
    model: Path,
    photos: Path,
    image_spec: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "trial"
    line = ("try", model, "--data", photos, "--image", image_spec, "-o", out, "--cosine", 0.9999999)
    code, text, _ = command(*line, "--recipes", "fp32,int8-weights")
    assert code == 0
    assert "int8-weights: " in text and "cosine" in text and "Recommended: fp32" in text
    code, text, _ = command(*line, "--recipes", "int8-weights", "--json")
    document = one_object(text)
    assert code == 1 and document["recommended"] is None and document["page"] is None
    assert "cosine" in document["recipes"][0]["why"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{m} --data {p} --image {i} --recipes fp32,int4", "unknown recipe 'int4'"),
        ("{m} --data {p} --image {i} --boards pi9", "unknown board 'pi9'"),
        ("{m} --data {p} --image {i} --device gpu", "device gpu is no board"),
        ("{m} --data {p} --image {i} -o {full}", "holds other things"),
        ("{m} --data {p} --image {i} -o {full}/mine.txt", "is a file"),
        ("{m} --data {p} --image {i} --cosine 2", "cosine is a number"),
        ("{m} --data {p} --image {i} --task-limit boxes=1", "boxes"),
        ("{m} --data {p}", "say how images become tensors"),
        ("{m} --data {one} --image {i}", "one sample is not enough"),
        ("{p} --data {p}", "no Paddle inference model"),
        ("{m} --data {p}/none", "no such data set"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: str, told: str, command: Command, model: Path, photos: Path, image_spec: str,  # noqa: F811
    tmp_path: Path,
) -> None:  # fmt: skip
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    places = {"m": model, "p": photos, "i": image_spec, "full": full}
    line = words.format(**places, one=photos / "picture_0.png").split()
    line += [] if "-o" in line else ["-o", str(tmp_path / "trial")]
    code, _, error = command("try", *line)
    assert code in (2, 3) and told in error and len(error.splitlines()) == 1, error
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert [p.name for p in full.iterdir()] == ["mine.txt"]


def test_a_part_of_a_data_set_is_one(photos: Path, image_spec: str, tmp_path: Path) -> None:
    """Ids, labels and tensors are as they were, in whatever form they came."""
    classes = tmp_path / "classes"
    for number, picture in enumerate(sorted(photos.iterdir())):
        (classes / f"kind {number % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, classes / f"kind {number % 3}" / picture.name)
    listed = tmp_path / "val.txt"
    names = sorted(photos.iterdir())
    lines = ["classes/kind 0/picture_0.png 7", f"{names[1]} 8", "classes/kind 2/picture_2.png"]
    listed.write_text("\n".join(lines))
    values = np.random.default_rng(0).standard_normal((5, 3, 16, 16)).astype("float32")
    np.save(tmp_path / "data.npy", values)
    np.savez(tmp_path / "data.npz", x=values, label=np.arange(5))
    wanted = Wanted(INPUTS, spec_of(image_spec), None)
    for number, name in enumerate(("classes", "val.txt", "data.npy", "data.npz")):
        data = dataset(tmp_path / name, inputs=INPUTS, image=wanted.image)
        folder = tmp_path / f"part {number}"
        write_part(tmp_path / name, data, [1, 2], wanted, folder)
        part = dataset(part_of(folder), inputs=INPUTS, image=wanted.image)
        for own, there in zip(part, data.select([1, 2])):
            assert own.label == there.label
            assert np.array_equal(own.feeds["x"], there.feeds["x"])
            assert name.startswith("data") or own.id == there.id
        assert len(part) == 2


def test_a_ledger_believes_only_what_is_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    ledger = Ledger(folder)
    with ledger.held():
        (folder / "result").write_text("1")
        ledger.keep("step", made_of(a=1, b=2), file="result")
        with pytest.raises(UsageError, match="another process"), Ledger(folder).held():
            pass
    again = Ledger(folder)
    assert again.done("step", made_of(b=2, a=1)) is not None
    assert again.done("step", made_of(a=1, b=3)) is None
    (folder / "result").write_text("2")
    assert again.done("step", made_of(a=1, b=2)) is None
    (folder / "trial.json").write_text("{")
    assert Ledger(folder).done("step", made_of(a=1, b=2)) is None
