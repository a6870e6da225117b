"""`paddle-edge matrix`: mistakes of a plan have a place, a cell's failure is its own, and whatever
interrupts it, the end is the same."""

from __future__ import annotations

import csv
import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from test_cli import Command, command, one_object  # noqa: F401  a fixture
from test_report import ARM, flipped, run

from lite_opt.judge.compare import compare
from lite_opt.subject import opened
from lite_opt.trial.cells import Cell, Result
from lite_opt.trial.matrix import Matrix
from lite_opt.trial.plan import Plan
from lite_opt.views.matrix import matrix_page
from lite_opt.views.report.judged import Judged
from py_runner.errors import DataError, StoppedError
from py_runner.evaluation import evaluate
from py_runner.formats.parts import is_under_way
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.watch import Watch

DOCUMENT = Path(__file__).parents[1] / "docs" / "matrix.md"
MODELS = ("SqueezeNet1_1", "MobileNetV3_small", "ShuffleNetV2")
YML = """PreProcess:
  transform_ops:
  - ResizeImage: {resize_short: 20}
  - CropImage: {size: 16}
  - NormalizeImage: {scale: 1.0/255.0, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], order: ''}
  - ToCHWImage:
"""


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is possible here is the same where boards are set up."""
    for name in ("LITE_RUN_AARCH64", "SYSROOT_AARCH64", "LITE_RUN_ARM", "SYSROOT_ARM"):
        monkeypatch.delenv(f"PADDLE_EDGE_{name}", raising=False)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan of docs/matrix.md as it is written there, with tiny models where it names some."""
    folder = tmp_path_factory.mktemp("matrix")
    plan = re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert plan is not None
    (folder / "plan.yml").write_text(plan[1])
    for seed, name in enumerate(MODELS):
        program = make_model.classifier(seed=seed, transposed=seed == 1)
        exported = make_model.save(program, folder / "exports" / name)
        (exported / "inference.yml").write_text(YML)
    make_model.pictures(folder / "photos")
    return folder


def cells_of(document: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    names = ("model", "data", "recipe", "engine", "device")
    return {tuple(cell[name] for name in names): cell for cell in document["cells"]}


WHOLE = "models: {m: m}\nrecipes: [fp32]\ndata: {d: d}\n"


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("", "", "is empty"),
        ("- models", "1:1", "a plan has keys and values, not a list"),
        (WHOLE + "engnes: [lite]", "4:1", "unknown key 'engnes', did you mean engines?"),
        ("models: {m: m}\nrecipes: [fp32]", "1:1", "needs data"),
        (WHOLE.replace("fp32", "fp32, int4"), "2:17", "unknown recipe 'int4'"),
        (WHOLE.replace("fp32", "int8-weigths"), "2:11", "did you mean int8-weights?: choose fp32"),
        (WHOLE.replace("[fp32]", "fp32"), "2:10", "recipes is a list, such as [fp32, fp16], not"),
        (WHOLE.replace("[fp32]", "[]"), "2:10", "recipes is empty"),
        (WHOLE.replace("fp32", "fp32, fp32"), "2:17", "recipe 'fp32' is there twice"),
        (WHOLE.replace("fp32", "32"), "2:11", "a recipe is a text, not a number ('32'): write"),
        (WHOLE.replace("fp32", "int8"), "2:11", "recipe int8 needs data that calibrate"),
        (WHOLE.replace("{m: m}", "{}"), "1:9", "models is empty"),
        (WHOLE.replace("{m: m}", "{m: m, m: d}"), "1:16", "'m' stands here twice"),
        (WHOLE.replace("{m: m}", "{m: gone}"), "1:13", "'gone': no such file or folder"),
        (WHOLE.replace("{m: m}", "{../m: m}"), "1:10", "'../m' is no name"),
        (WHOLE.replace("{m: m}", "{m.run: m}"), "1:10", "ends as a result of ours"),
        (WHOLE.replace("{m: m}", "{m: {path: m, img: x}}"), "1:23", "did you mean image?"),
        (WHOLE.replace("{m: m}", "{m: {image: imagenet}}"), "1:13", "model m needs path"),
        (WHOLE.replace("{m: m}", "{m: [m]}"), "1:13", "model m is a path, or has keys"),
        (WHOLE.replace("{m: m}", "{m: !!python/name:os.system m}"), "1:13", "not this"),
        (
            WHOLE.replace("{d: d}", "{d: {path: d, limit: 0}}"),
            "3:28",
            "whole number, 1 or more, not '0'",
        ),
        (WHOLE.replace("{d: d}", "{d: {path: d, truth: t}}"), "3:28", "no such file"),
        (WHOLE + "engines: [lit]", "4:11", "did you mean lite?: choose lite, native, onnx"),
        (WHOLE + "devices: [cpu, pi9]", "4:16", "no engine of the plan runs on 'pi9': unknown"),
        (WHOLE + "limits: {cosine: 2}", "4:18", "the limit cosine is a number, -1 to 1"),
        (WHOLE + "limits: {cosine: yes}", "4:18", "cosine is a number such as 0.5, not a yes or"),
        (WHOLE + "task_limits: {boxs: 1}", "4:15", "did you mean boxes?"),
        (WHOLE + "threads: two", "4:10", "whole number"),
        (WHOLE + "models: {m: m}", "4:1", "'models' stands here twice"),
        (WHOLE + "  x: [", "4:3", "is no YAML"),
        ("models: &a {m: m}\nrecipes: *a\n", "2:10", "aliases (*name) are not read"),
        (WHOLE + "\x00", "4", "holds a character"),
        ("[" * 5000 + "]" * 5000, "", "nested too deep"),
        ("#" * (1 << 20) + "\n" + WHOLE, "", "larger than 1 MB"),
    ],
)
def test_mistakes_of_a_plan_have_a_line_and_a_column(
    text: str, place: str, told: str, tmp_path: Path
) -> None:
    for name in ("m", "d"):
        (tmp_path / name).mkdir()
    plan = tmp_path / "plan.yml"
    plan.write_text(text)
    with pytest.raises(DataError) as error:
        Plan.open(plan)
    said = str(error.value)
    assert told in said and said.startswith(f"{plan}:{place}{':' if place else ''} "), said
    assert len(said.splitlines()) == 1 and len(said) < 1000


def test_a_bomb_of_aliases_costs_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)
    ]
    (tmp_path / "plan.yml").write_text("\n".join(lines))
    begun = time.process_time()
    with pytest.raises(DataError, match="aliases"):
        Plan.open(tmp_path / "plan.yml")
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{plan} -o {full}", "holds other things"),
        ("{plan} -o {full}/mine.txt", "is a file"),
        ("{plan} -o {out} --only nothing", "--only nothing: no cell has that: choose"),
        ("{full}", "cannot be read"),
        ("{out}.yml", "cannot be read"),
        ("{photos}/picture_0.png", "is not UTF-8"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: str,
    told: str,
    command: Command,  # noqa: F811
    documented: Path,
    tmp_path: Path,
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    places = {"plan": documented / "plan.yml", "photos": documented / "photos"}
    line = words.format(**places, full=full, out=tmp_path / "out").split()
    line += [] if "-o" in line else ["-o", str(tmp_path / "out")]
    code, _, error = command("matrix", *line)
    assert code in (2, 3) and told in error and len(error.splitlines()) == 1, error
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert [p.name for p in full.iterdir()] == ["mine.txt"]


def test_a_cell_that_fails_is_its_own_and_is_tried_again(
    command: Command,  # noqa: F811
    documented: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(documented / "exports" / MODELS[0], tmp_path / "good")
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "good", broken)
    whole = (broken / "inference.pdiparams").read_bytes()
    (broken / "inference.pdiparams").write_bytes(whole[:-1000])
    plan = tmp_path / "plan.yml"
    plan.write_text(
        "models: {bad: broken, good: good}\nrecipes: [fp32, fp16]\n"
        f"data: {{photos: {documented / 'photos'}}}\n"
    )
    line = ("matrix", plan, "-o", tmp_path / "out", "--json")
    code, text, _ = command(*line, "--dry-run")
    states = [cell["state"] for cell in one_object(text)["cells"]]
    assert code == 0 and states == ["failed", "impossible", "to do", "impossible"]
    assert not (tmp_path / "out").exists()

    code, text, _ = command(*line)
    document = one_object(text)
    bad, _, good, fp16 = document["cells"]
    assert code == 1 and not document["passed"]
    assert bad["state"] == "failed" and "inference.pdiparams" in bad["why"] and bad["page"] is None
    assert good["state"] == "done" and good["verdict"] == "unsure" and good["report"]["passed"]
    assert fp16["state"] == "impossible" and "fp16" in fp16["why"]
    page = Path(document["page"]).read_text(encoding="utf-8")
    assert "href='good/photos.html'" in page and "inference.pdiparams" in page
    assert "Not judged here: fp16, lite, cpu" in Path(good["page"]).read_text(encoding="utf-8")

    code, text, _ = command(*line, "--only", "good")
    states = [cell["state"] for cell in one_object(text)["cells"]]
    assert code == 0 and states == ["left out", "impossible", "kept", "impossible"]

    (broken / "inference.pdiparams").write_bytes(whole)
    code, text, _ = command(*line)
    bad, _, good, _ = one_object(text)["cells"]
    assert code == 0 and bad["state"] == "done" and good["state"] == "kept"

    # Half a Run is gone on with: what was answered is not asked again.
    place = tmp_path / "out/good/photos/fp32-lite-cpu.run"
    outputs = Run.open(place).outputs["soft.out"]
    shutil.rmtree(place)
    half(tmp_path / "out/good/fp32.bundle", documented / "photos", place)
    kept = [float(row["ms"]) for row in latencies(min(place.glob("parts/*")))]
    with (place / "begun.json").open() as file:  # and kept, whatever else is in the way
        fcntl.flock(file, fcntl.LOCK_EX)
        code, text, _ = command(*line)
        refused = one_object(text)["cells"][2]
    assert code == 1 and refused["why"] == f"{place}: another process is at work on it"
    code, text, _ = command(*line)
    assert code == 0 and one_object(text)["cells"][2]["state"] == "done"
    now = Run.open(place)
    assert [ms for repeats in now.latency_ms for ms in repeats][: len(kept)] == kept
    assert len(now.samples) == 6 and len(kept) < 6
    assert all(np.array_equal(a, b) for a, b in zip(now.outputs["soft.out"], outputs))

    # A conversion that fails its own check is tried again, too.
    plan.write_text(
        "models: {bad: broken, good: good}\nrecipes: [int8-weights]\n"
        f"data: {{photos: {documented / 'photos'}}}\nlimits: {{cosine: 0.9999999}}\n"
    )
    for _ in range(2):
        code, text, error = command("matrix", plan, "-o", tmp_path / "out", "--only", "good")
        assert code == 1 and "good photos int8-weights lite cpu: its self-check failed: " in text
        assert "good/int8-weights: converting" in error and "left out" in text
    code, text, _ = command("matrix", plan, "-o", tmp_path / "out", "--dry-run", "--json")
    assert code == 0 and "self-check failed" in one_object(text)["cells"][1]["why"]


def half(bundle: Path, data: Path, out: Path) -> None:
    """Leave the first samples of a Run, as a process that was killed does."""
    with opened(bundle) as subject, suppress(StoppedError):
        asked = iter(range(100))
        enough = Watch(enough=lambda: next(asked) > 1)
        job = Job(subject.model, "lite", part_s=1e-3)
        evaluate(job, subject.samples(data), out, command=(), watch=enough)
    assert is_under_way(out)


def latencies(part: Path) -> list[dict[str, str]]:
    with (part / "latency.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_a_red_verdict_is_one_however_well_it_was_made() -> None:
    cell = Cell("m", "d", "int8", "native", "qemu-aarch64:pi5")
    broken = Judged(run(), compare(run(), run(flipped(range(9)), **ARM)))
    held = Judged(run(), compare(run(), run(**ARM)))
    assert Matrix((Result(cell, "kept", held), Result(cell, "impossible", why="no board")))
    assert not Matrix((Result(cell, "kept", held), Result(cell, "kept", broken)))
    assert not Matrix((Result(cell, "failed", why="it died"),))
    assert Matrix((Result(cell, "kept", held), Result(cell, "kept", broken, wanted=False)))


def test_the_page_is_green_where_all_was_seen_and_names_are_text() -> None:
    def page(*verdicts: str, passed: bool = True) -> str:
        cell = Result(Cell("<b>", "passed", "fp32", "lite", "\x1b"), "kept", why="<i>").to_json()
        cells = [cell | {"verdict": verdict, "page": None} for verdict in verdicts]
        text = matrix_page(cells, passed, title="<u>", command="<s>")
        assert "\x1b" not in text and not re.search("<[bisu]>", text.replace("<p><b>", ""))
        return re.findall("<div class='verdict (.*?)'>", text)[0]

    assert page("passed", "passed") == "passed"
    assert page("passed", "unsure") == "unsure"
    assert page("passed", "passed", passed=False) == "failed"


def test_devices_whose_names_are_alike_have_runs_of_their_own() -> None:
    devices = ("cpu", "ssh://pi/a", "ssh://pi_a", "ssh://pi:a", "qemu-aarch64:pi4", "gpu:0")
    runs = {Cell("m", "d", "fp32", "native", device).run for device in devices}
    assert len(runs) == len(devices)
    assert all(re.fullmatch(r"d/[\w.-]+\.run", one) for one in runs)


def steps_of(errors: str) -> list[str]:
    """The steps that were begun, as the command tells of them."""
    made = r"^(\S+): (?:converting|running it|running the source model)$"
    return re.findall(made, errors, re.M)


def ledger_of(out: Path) -> dict[str, tuple[int, int]]:
    """The files that stand for what is done: by step, which and when written."""
    steps = json.loads((out / "matrix.json").read_text())["steps"]
    files = {name: (out / step["file"]).stat() for name, step in steps.items()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in files.items()}


def interrupted(folder: Path, out: Path, after: int, how: signal.Signals) -> tuple[int, str]:
    """The exit code and what it told: the signal comes once so many cells are done."""
    words = [sys.executable, "-m", "lite_opt.cli.main", "matrix", str(folder / "plan.yml")]
    told = []
    with subprocess.Popen([*words, "-o", str(out)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if re.match(rf" *{after} of 9 ", line):
                time.sleep(0.5)  # into the next step
                process.send_signal(how)
                break
        told.append(process.stderr.read())
    return process.returncode, "".join(told)


@pytest.mark.slow
def test_the_documented_plan_interrupted_three_times_ends_as_if_it_had_not_been(
    command: Command,  # noqa: F811
    documented: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, whole, out = documented / "plan.yml", documented / "whole", documented / "cut"
    code, text, _ = command("matrix", plan, "-o", whole, "--json")
    undisturbed = cells_of(one_object(text))
    assert code == 0 and len(undisturbed) == 9
    assert {cell["state"] for cell in undisturbed.values()} == {"done"}

    done: list[dict[str, tuple[int, int]]] = []
    begun: list[list[str]] = []
    ends = ((2, signal.SIGINT, 130), (5, signal.SIGTERM, 143), (7, signal.SIGKILL, -9))
    for after, how, code in ends:
        ended, told = interrupted(documented, out, after, how)
        assert ended == code, told
        assert ("this goes on from there: paddle-edge matrix" in told) == (code > 0)
        done.append(ledger_of(out))
        begun.append(steps_of(told))
    code, _, told = command("matrix", plan, "-o", out)
    begun.append(steps_of(told))
    assert code == 0

    # A server's run, three bundles and three runs of each model: what was there stayed as it was,
    # and was not begun again.
    end = ledger_of(out)
    assert len(end) == 21 and not list(out.rglob(".*.partial-*"))
    for number, there in enumerate(done):
        assert there.items() <= end.items()
        assert not {*there} & {name for names in begun[number + 1 :] for name in names}
    names = [name for names in begun for name in names]
    assert len(names) <= 21 + len(ends) and len(set(names)) == 21

    monkeypatch.chdir(documented)  # what files are called from here makes no difference
    code, text, _ = command("matrix", plan.name, "-o", "cut", "--json", "--history", "h")
    again = cells_of(one_object(text))
    assert code == 0 and {cell["state"] for cell in again.values()} == {"kept"}
    assert again.keys() == undisturbed.keys()
    for key, cell in again.items():
        other = undisturbed[key]
        assert (cell["verdict"], cell["report"]["passed"], cell["report"]["outputs"]) == (
            other["verdict"], other["report"]["passed"], other["report"]["outputs"],
        )  # fmt: skip
        same_run(Path(cell["run"]), Path(other["run"]))
    for name in ("squeezenet", "mobilenet", "shufflenet"):
        same_run(out / name / "photos/server.run", whole / name / "photos/server.run")

    # What was judged is in the history once, whatever goes on from there.
    assert command("matrix", plan, "-o", out, "--history", documented / "h")[0] == 0
    code, text, _ = command("history", documented / "h", "--json")
    entries = one_object(text)["entries"]
    assert code == 0 and len(entries) == 9
    assert {entry["model"] for entry in entries} == set(MODELS)

    # A result that was damaged is told, and made again by the next call.
    (out / "mobilenet/photos/fp32-lite-cpu.run/output_0.npy").unlink()
    code, text, _ = command("matrix", plan, "-o", out, "--json")
    failed = [cell for cell in one_object(text)["cells"] if cell["state"] == "failed"]
    assert code == 1 and len(failed) == 1 and "output_0.npy" in failed[0]["why"]
    code, text, _ = command("matrix", plan, "-o", out, "--json")
    states = [cell["state"] for cell in one_object(text)["cells"]]
    assert code == 0 and sorted(states) == ["done"] + ["kept"] * 8


def same_run(one: Path, other: Path) -> None:
    """Ids, their order and every bit of the outputs."""
    left, right = Run.open(one), Run.open(other)
    assert left.samples == right.samples and [*left.outputs] == [*right.outputs]
    for a, b in zip(left.outputs.values(), right.outputs.values()):
        assert all(np.array_equal(x, y) for x, y in zip(a, b)) and len(a) == len(b)
