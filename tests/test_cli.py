"""The command: what it prints, its exit codes, and --json."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import make_model
import numpy as np
import pytest

from lite_opt.cli import options as opt
from lite_opt.cli.main import COMMANDS, main
from lite_opt.lite.kernels import SINCE, supported_ops
from lite_opt.passes.repair import OPTIONAL
from lite_opt.sdk.library import Sdk
from py_runner.data.mentions import with_mentioned
from py_runner.data.random_samples import random_samples
from py_runner.errors import UsageError
from py_runner.formats.run import Run
from py_runner.tensors import TensorSpec

Command = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["paddle-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capfd.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


def one_object(text: str) -> dict[str, Any]:
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(document, dict)
    return document


def test_json_is_one_object_whatever_the_engines_print(
    command: Command, model: Path, photos: Path, image_spec: str, tmp_path: Path
) -> None:
    out, edge, server = (str(tmp_path / name) for name in ("b", "edge", "server"))
    code, text, _ = command(
        "convert", model, "-o", out, "--image", image_spec, "--samples", photos, "--json"
    )
    document = one_object(text)
    assert (code, document["bundle"]) == (0, out)
    assert document["report"]["passed"] and document["check"]["status"] == "passed"
    for path in (out, f"{out}/model.arm.nb", model, f"{out}/reference"):
        code, text, _ = command("inspect", path, "--json")
        assert code == 0
        assert one_object(text)["kind"] in ("bundle", "nb", "model", "run")
    code, text, _ = command("run", out, "--data", photos, "-o", edge, "--json", "--top", 2)
    document = one_object(text)
    assert code == 0 and len(document["samples"]) == 6
    assert len(document["predictions"][0]["top"]) == 2
    code, text, _ = command(
        "run", model, "--data", photos, "--image", image_spec, "-o", server, "--json"
    )
    assert code == 0 and one_object(text)["engine"] == "paddle"
    code, text, _ = command("compare", server, edge, "--json")
    assert code == 0 and one_object(text)["passed"] is True
    code, text, _ = command("compare", server, edge, "--max-abs-diff", 0, "--json")
    document = one_object(text)
    assert code == 1 and document["passed"] is False and document["failures"]
    code, text, _ = command("bench", out, "--threads", "1,2", "--repeat", 3, "--json")
    assert code == 0 and [r["threads"] for r in one_object(text)["runs"]] == [1, 2]


def test_json_of_infinite_differences_is_valid(
    command: Command, bundle: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    code, _, _ = command("run", bundle, "-o", broken)
    assert code == 0
    values = np.load(broken / "output_0.npy")
    values[1] = np.nan
    np.save(broken / "output_0.npy", values)
    code, text, _ = command("compare", bundle / "reference", broken, "--json")
    document = one_object(text)
    assert code == 1
    assert document["outputs"][0]["max_abs_diff"] is None
    assert document["outputs"][0]["not_finite"] > 0


def test_tables_for_people(command: Command, bundle: Path, tmp_path: Path) -> None:
    edge, page = tmp_path / "edge", tmp_path / "report.html"
    code, text, _ = command("run", bundle, "-o", edge)
    assert code == 0 and "picture_0.png" in text and "p99 ms" in text
    code, text, _ = command("compare", bundle / "reference", edge, "--html", page)
    assert code == 0 and "PASSED on 4 samples" in text
    assert "PASSED" in page.read_text(encoding="utf-8")
    code, _, error = command("compare", bundle / "reference", edge, "--html", page)
    assert code == 2 and "--force" in error
    code, text, _ = command("inspect", bundle)
    assert code == 0 and "targets.arm.kernels.arm.float" in text


def test_a_failed_comparison_lists_who_disagrees(
    command: Command, bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    command("run", bundle, "-o", other)
    values = np.load(other / "output_0.npy")
    values[2] = values[2, :, ::-1]
    np.save(other / "output_0.npy", values)
    code, text, _ = command("compare", bundle / "reference", other)
    assert code == 1
    assert "disagree: picture_2.png" in text and "FAILED" in text


def test_inspect_counts_what_a_model_costs(command: Command, model: Path) -> None:
    _, text, _ = command("inspect", model, "--json")
    document = one_object(text)
    assert document["parameters"] == 8 * 3 * 9 + 8 + 32 * 10 + 10
    assert document["flops"] == 2 * (16 * 16 * 8 * 27 + 32 * 10)
    assert document["op_histogram"]["conv2d"] == 1


def test_inspect_shows_operators_by_their_share_of_the_multiply_adds(
    command: Command, model: Path, tmp_path: Path
) -> None:
    _, text, _ = command("inspect", model, "--target", "arm", "--json")
    target = one_object(text)["target"]
    kinds = {kind["type"]: (kind["count"], kind["share"]) for kind in target["ops_by_share"]}
    conv, linear = 16 * 16 * 8 * 27, 32 * 10
    assert next(iter(kinds)) == "conv2d"
    assert kinds["conv2d"] == (1, round(conv / (conv + linear), 4))
    assert kinds["mul"] == (1, round(linear / (conv + linear), 4))
    assert kinds["relu6"] == (1, 0.0)
    dearest = target["dearest_ops"]
    assert [op["type"] for op in dearest[:2]] == ["conv2d", "mul"] and len(dearest) == 5
    assert dearest[0] == {"layer": "conv.out", "type": "conv2d", "share": kinds["conv2d"][1]}
    # Nothing is known of the shares where a side is dynamic.
    builder = make_model.Builder()
    x = builder.input("x", (-1, 3, -1, 8))
    out = builder.conv2d(x, builder.param("w", (6, 3, 3, 3)), "out", (-1, 6, -1, 8))
    dynamic = make_model.save(builder.program(out), tmp_path / "dynamic")
    _, text, _ = command("inspect", dynamic, "--target", "arm", "--json")
    target = one_object(text)["target"]
    assert target["ops_by_share"] == [{"type": "conv2d", "count": 1, "share": None}]
    assert target["dearest_ops"] == []


def test_inspect_says_what_a_target_has_no_kernel_for(command: Command, tmp_path: Path) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 3, 4, 4))
    odd = builder.op("no_such_op", {"X": [x]}, "odd", (1, 3, 4, 4))
    out = builder.op("sqrt", {"X": [odd]}, "out", (1, 3, 4, 4))
    model = make_model.save(builder.program(out), tmp_path / "m")
    code, text, _ = command("inspect", model, "--target", "arm", "--json")
    target = one_object(text)["target"]
    assert code == 0
    assert target["ops_without_kernel"] == {"no_such_op": ["odd"]}
    assert (target["ops_with_kernel"], target["ops_with_extra"]) == (1, ["sqrt"])
    assert target["activation_bytes"] == 2 * 3 * 16 * 4
    assert 50e6 < target["memory_bytes"] < 70e6
    code, _, error = command("inspect", model, "--target", "mips")
    assert code == 2 and "mips" in error


def test_inspect_knows_the_library_and_not_only_the_optimizer(
    command: Command, tmp_path: Path
) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 3, 4))
    moved = builder.op("roll", {"X": [x]}, "moved", (1, 3, 4), shifts=[1], axis=[2])
    least: dict[str, Any] = {"k": 2, "axis": -1, "largest": False, "sorted": True}
    out = builder.op("top_k_v2", {"X": [moved]}, "out", (1, 3, 2), **least)
    model = make_model.save(builder.program(out), tmp_path / "m")
    code, text, _ = command("inspect", model, "--target", "arm", "--json")
    target = one_object(text)["target"]
    assert code == 0 and target["ops_without_kernel"] == {}
    assert target["ops_since"] == {"roll": "v2.12"}
    code, text, _ = command("inspect", model, "--target", "x86", "--json")
    assert one_object(text)["target"]["ops_since"] == {}
    padded = builder.op("pad3d", {"X": [x]}, "p", (1, 3, 6), paddings=[1, 1], mode="circular")
    model = make_model.save(builder.program(padded), tmp_path / "n")
    _, text, _ = command("inspect", model, "--target", "arm", "--json")
    (refusal,) = one_object(text)["target"]["refusals"]
    assert "pad3d in layer 'p' cannot run on arm: circular padding" in refusal


def test_what_older_libraries_lack_is_what_the_optimizer_lists() -> None:
    assert set(SINCE) <= supported_ops("arm")
    assert {SINCE[op] for op in ("silu", "roll", "unfold")} == {"v2.13-rc", "v2.12", "v2.11"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_commands_and_options(command: Command, shell: str, tmp_path: Path) -> None:
    code, script, _ = command("completion", shell)
    assert code == 0 and "_PADDLE_EDGE_COMPLETE" in script
    assert one_object(command("completion", shell, "--json")[1])["script"].strip() == script.strip()
    if shell == "bash" and shutil.which("bash"):
        (tmp_path / "it").write_text(script)
        asked = {**os.environ, "_PADDLE_EDGE_COMPLETE": "bash_complete"}
        subprocess.run(["bash", "-n", tmp_path / "it"], check=True)
        for words, place, expected in (
            ("paddle-edge conv", "1", "plain,convert"),
            ("paddle-edge convert --rec", "2", "plain,--recipe"),
            ("paddle-edge sdk ge", "2", "plain,get"),
        ):
            asked |= {"COMP_WORDS": words, "COMP_CWORD": place}
            argv = [sys.executable, "-m", "lite_opt.cli.main"]
            told = subprocess.run(argv, env=asked, capture_output=True, text=True, check=True)
            assert expected in told.stdout.splitlines()


def test_the_help_of_the_group_lists_the_table(command: Command) -> None:
    code, text, _ = command("--help")
    assert code == 0
    listed = text.partition("\nCommands:\n")[2].splitlines()
    assert [tuple(line.split(None, 1)) for line in listed] == sorted(COMMANDS.items())


@pytest.mark.parametrize(
    "name", ["", *COMMANDS, "sdk list", "sdk get", "sdk add", "android prepare", "pipeline ocr"]
)
def test_every_help_text_has_an_example(command: Command, name: str) -> None:
    code, text, _ = command(*name.split(), "--help")
    assert code == 0
    assert text.startswith(f"Usage: paddle-edge {name}".rstrip())
    assert re.search(rf"^  Examples?:\n(.+\n)*? +paddle-edge {name}", text, re.MULTILINE), text


def imported(script: str) -> set[str]:
    """What a new process imports, of what is large."""
    heavy = {"PIL", "google.protobuf", "jinja2", "numpy", "paddle", "paddlelite", "rich", "yaml"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return heavy & set(done.stdout.split())


def test_the_help_of_the_group_waits_for_nothing() -> None:
    script = "from lite_opt.cli.main import paddle_edge as group;"
    script += "print(group.main(['--help'], standalone_mode=False))"
    assert imported(script) == set()
    assert imported(script.replace("'--help'", "'inspect', '--help'")) == {"numpy"}


def test_importing_the_runner_pulls_in_no_engine() -> None:
    """A board has none of these, and nobody wants to wait for them."""
    modules = ["py_runner.inference", "py_runner.formats.bundle", "py_runner.data.dataset"]
    modules += [f"lite_opt.cli.{name}" for name in COMMANDS if name != "demo"]  # it draws
    script = f"from importlib import import_module; list(map(import_module, {modules}))"
    assert imported(script) == {"numpy"}


# Options and arguments of text that never name a file to read or to write.
TEXT = {
    "name", "engine", "device", "precision", "recipe", "target", "algorithm", "effort", "version",
    "url", "urls", "host",
    "devices",
    "recipes", "boards", "only",
    "model_name", "metrics", "plot", "uri", "experiment",
    "prefix",
    "float_layers",
    "lite",
    "task",
    "without",
}  # fmt: skip


def commands() -> Iterator[click.Command]:
    for name in COMMANDS:
        command = import_module(f"lite_opt.cli.{name}").command
        yield from command.commands.values() if isinstance(command, click.Group) else [command]


def test_every_option_says_whether_it_names_a_file() -> None:
    """One that is new cannot be forgotten where what is read must not be overwritten."""
    for command in commands():
        assert isinstance(command, opt.Command), command.name
        for param in command.params:
            plain = type(param.type) in (click.Path, click.File, click.types.StringParamType)
            assert not plain or param.name in TEXT, f"{command.name}: {param.name}"


@pytest.mark.parametrize(
    "line",
    [
        "run {b} --data {d} --image {o}/inference.yml -o {o} --force",
        "run {b} --data {d} --labels {o}/labels.txt -o {o} --force",
        "run {b} --params {o}/x.pdiparams -o {o} --force",
        "convert {m} --image {o}/inference.yml -o {o} --force",
        "convert {m} --labels {o}/labels.txt -o {o} --force",
        "convert {m} --samples {o}/a.npy -o {o} --force",
        "convert {m} --recipe int8 --calibration {o}/a.npy -o {o} --force",
        "convert {m} --recipe int8 --calibration {o}/a.npy --save-quantized {o} -o {n}",
        "compare {o} {b}/reference --html {o}/run.json --force",
        "sensitivity {m} --calibration {o}/a.npy --plot {o}/a.npy --force",
        "sensitivity {m} --calibration {o}/a.npy --labels {o}/labels.txt "
        "--plot {o}/labels.txt --force",
    ],
)
def test_what_is_read_is_never_overwritten(
    line: str, command: Command, bundle: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    Run.open(bundle / "reference").save(out)
    for name in ("inference.yml", "labels.txt", "x.pdiparams", "a.npy"):
        (out / name).write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    places = {"b": bundle, "m": model, "d": photos, "o": out, "n": tmp_path / "n"}
    code, _, error = command(*line.format(**places).split())
    assert code == 2 and ("which is read" in error), error
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize(
    ("module", "function", "line", "passed"),
    [
        ("convert", "convert", "convert m -o b", {"check_shape": {}, "check": True}),
        (
            "convert",
            "convert",
            "convert m -o b --check-shape x=1,2 --check-shape y=?,3 --check-shape x=4,5 "
            "--input-shape x=1,-1 --target arm, --no-check --check-samples 2",
            {
                "check_shape": {"x": [(1, 2), (4, 5)], "y": [(-1, 3)]},
                "input_shape": {"x": (1, -1)},
                "target": ["arm", ""],
                "check": False,
                "check_samples": 2,
            },
        ),
        ("bench", "bench", "bench b --threads 1,4 --warmup 2", {"threads": (1, 4), "warmup": 2}),
        ("layers", "bundle_layers", "layers m {bundle} --taps 3", {"taps": 3}),
        ("layers", "bundle_layers", "layers m {bundle} --all --limit 2", {"taps": None}),
        (
            "layers",
            "bundle_layers",
            "layers m {bundle} --engine native --device qemu-aarch64:pi4 --no-passes all",
            {"engine": "native", "device": "qemu-aarch64:pi4", "without": list(OPTIONAL)},
        ),
        ("convert", "convert", "convert m -o b --no-passes a,,b", {"without": ["a", "b"]}),
        ("sensitivity", "layer_losses", "sensitivity m --calibration c", {"samples": 32}),
    ],
)
def test_options_reach_the_library(
    module: str,
    function: str,
    line: str,
    passed: dict[str, Any],
    command: Command,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def stop(*_: object, **options: Any) -> None:
        given.update(options)
        raise UsageError("enough")

    monkeypatch.setattr(f"lite_opt.cli.{module}.{function}", stop)
    assert command(*line.format(bundle=bundle).split()) == (2, "", "paddle-edge: enough\n")
    assert {name: given[name] for name in passed} == passed
    if "--limit" in line:
        assert len(given["samples"]) == 2


def test_calibration_is_part_of_the_recipe(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def stop(*_: object, recipe: Any, **__: object) -> None:
        given.append(recipe.calibration)
        raise UsageError("enough")

    monkeypatch.setattr("lite_opt.cli.convert.convert", stop)
    ask = ("convert", "m", "-o", "b", "--recipe", "int8", "--calibration", "c")
    command(*ask)
    command(*ask, "--per-tensor", "--calibration-samples", "9", "--seed", "3")
    assert [c.per_channel for c in given] == [True, False]
    assert (given[1].samples, given[1].seed) == (9, 3)


@pytest.mark.parametrize("written", ["x", "=1,2", "x=", "x=1,0", "x=1,-2", "x=1,a"])
def test_a_shape_that_is_none(command: Command, written: str) -> None:
    code, _, error = command("bench", "b", "--check-shape", written)
    assert code == 2 and f"'{written}' is not of the form x=1,3,224,224" in error
    code, _, error = command("bench", "b", "--threads", written)
    assert code == 2 and "is not a list of positive numbers" in error


@pytest.mark.parametrize("mention", ["txt", "csv", "yml", "beside", "link", "folder link"])
def test_what_is_mentioned_by_what_is_read_is_never_overwritten(
    mention: str, command: Command, bundle: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "o", tmp_path / "data"
    Run.open(bundle / "reference").save(out)
    shutil.copy(photos / "picture_0.png", out / "a.png")
    (out / "labels.txt").write_text("\n".join("abcdefghij"))
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    data.mkdir()
    yml = "PostProcess: {Topk: {class_id_map_file: ../o/labels.txt}}\n"
    ask: list[Any] = ["run", bundle, "--data", data, "-o", out, "--force"]
    if mention in ("txt", "csv"):
        ask[3] = data / f"list.{mention}"
        ask[3].write_text("../o/a.png 1\n" if mention == "txt" else "gone.png,1\n../o/a.png,2\n")
    elif mention == "yml":
        (data / "inference.yml").write_text(yml)
        ask[2:4] = ["--image", data / "inference.yml"]
    elif mention == "beside":
        shutil.copytree(model, data, dirs_exist_ok=True)
        (data / "inference.yml").write_text(yml)
        ask = ["convert", data, "-o", out, "--force"]
    else:
        (data / "b").mkdir()
        (data / "b" / "c.png").symlink_to(out / "a.png" if mention == "link" else out)
    code, _, error = command(*ask)
    assert code == 2 and "which is read" in error, error
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    # Without what is written there, all of it is left to the readers.
    assert with_mentioned([data / "none", "resize=short:20", None])[-1] == Path("resize=short:20")


def test_a_run_takes_some_of_the_data_and_leaves_it_whole(
    command: Command, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "picture_0.png").write_bytes(b"no")
    ask = ("run", bundle, "--data", data, "--limit", 3, "--json")
    code, _, error = command(*ask, "-o", tmp_path / "a")
    assert code == 3 and "picture_0.png" in error
    code, text, _ = command(*ask, "-o", tmp_path / "a", "--skip-bad")
    document = one_object(text)
    assert code == 0 and [s["id"] for s in document["skipped"]] == ["picture_0.png"]
    assert len(document["samples"]) == 2
    code, _, error = command(*ask, "-o", data, "--force")
    assert code == 2 and "which is read" in error


def test_the_list_of_sdks_is_what_was_asked_for(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = [
        Sdk(tmp_path, tmp_path, tmp_path, target, version, None, 4096)
        for target in ("armlinux-armv8", "android-armv8")
        for version in ("v2.12", "v2.13-rc")
    ]
    monkeypatch.setattr("lite_opt.cli.sdk.cached", lambda: here)
    _, text, _ = command("sdk", "list", "android-armv8", "--version", "v2.13-rc", "--json")
    document = one_object(text)
    assert [(one["target"], one["version"]) for one in document["cached"]] == [
        ("android-armv8", "v2.13-rc")
    ]
    assert {a["target"] for a in document["archives"]} == {"android-armv8"}
    code, text, error = command("sdk", "list", "--version", "v9.9")
    assert (code, text) == (0, "") and "no archive of that kind is known" in error


@pytest.mark.parametrize(
    "options",
    ["--threads 2", "--repeat 50", "--warmup 5", "--tensorrt", "--precision fp16"],
)
def test_a_board_refuses_what_counting_ignores(
    options: str, command: Command, bundle: Path
) -> None:
    board = ["--engine", "native", "--device", "qemu-aarch64"]
    code, _, error = command("bench", bundle, *board, *options.split())
    assert code == 2 and "instructions are counted" in error
    assert f"leave {options.split()[0]} out" in error


def test_inspect_takes_a_bundle_without_the_models_of_other_cpus(
    command: Command, bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "b"))
    (copy / "model.x86.nb").unlink()
    code, out, error = command("inspect", copy, "--json")
    assert code == 0, error
    targets = one_object(out)["targets"]
    assert targets["x86"]["left_out"] and targets["arm"]["op_count"] > 0
    (copy / "model.arm.nb").unlink()
    code, _, error = command("inspect", copy)
    assert code == 3 and "cannot be read" in error


def test_an_input_that_cannot_be_fed_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="input 'x' is of bfloat16, which cannot be fed"):
        random_samples([TensorSpec("x", "bfloat16", (1, 3))])


def test_a_reader_that_is_gone_is_no_error(bundle: Path) -> None:
    """As after `| head`: also where all that was printed is still in our buffer."""
    read, write = os.pipe()
    os.close(read)
    program = [str(Path(sys.executable).with_name("paddle-edge")), "inspect", str(bundle)]
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_several_devices_are_asked_for_a_folder(
    command: Command, bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    line = ("run", bundle, "--engine", "paddle", "--device", "cpu", "--device", "cpu+onednn")
    code, _, error = command(*line, "-o", file, "--force")
    assert code == 2 and "is a file, and a folder is to be written there" in error
    assert file.read_text() == "mine"
