"""Limits that a conversion is held to, and what is said where one is missed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lite_opt.cli.main import paddle_edge
from lite_opt.conversion import ways_out
from lite_opt.conversion.convert import convert
from lite_opt.conversion.ways_out import _down, _up
from lite_opt.judge.limits import Limits, limits_for, task_limits_for
from lite_opt.recipes import recipe
from py_runner.errors import ModelError, UsageError
from py_runner.formats.bundle import Bundle


def command(words: list[str]) -> Result:
    return CliRunner().invoke(paddle_edge, words, standalone_mode=False)


def test_limits_are_those_of_compare_and_kept_in_the_bundle(model: Path, tmp_path: Path) -> None:
    ask = ["convert", str(model), "-o", str(tmp_path / "out"), "--recipe", "int16-weights"]
    limits = ["--cosine", "0.9", "--max-abs-diff", "0.25", "--top1-drop", "3"]
    assert command([*ask, *limits, "--json"]).exit_code == 0
    kept = Bundle.open(tmp_path / "out").recipe["limits"]
    assert Limits(**kept) == Limits(0.9, max_abs_diff=0.25, top1_drop=3.0, noise_times=0.0)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"cosine": float("nan")}, "cosine is a number, -1 to 1, not nan"),
        ({"cosine": 1.5}, "cosine is a number, -1 to 1"),
        ({"max_abs_diff": -1.0}, "max_abs_diff is a number, 0 or more"),
        ({"cosines": 0.5}, "there is no limit 'cosines': choose cosine, max_abs_diff"),
    ],
)
def test_limits_that_mean_nothing_are_refused(
    limits: dict[str, float], told: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        convert(model, tmp_path / "out", limits=limits)


@pytest.mark.parametrize(
    ("field", "limits", "told"),
    [
        ("limits", '{"cosine": NaN}', "the limit cosine is a number, -1 to 1, not nan"),
        ("limits", '{"cosine": 1.5}', "the limit cosine is a number, -1 to 1, not 1.5"),
        ("limits", '{"max_abs_diff": -0.1}', "the limit max_abs_diff is a number, 0 or more"),
        ("limits", '{"top1_drop": "1"}', "the limit top1_drop is a number"),
        ("limits", '{"noise_times": Infinity}', "the limit noise_times is a number"),
        ("limits", "[1]", "'recipe.limits' is not of its type"),
        ("task_limits", '{"boxes": 1.5}', "the limit boxes is a number, 0 to 1, not 1.5"),
        ("task_limits", '{"map_drop": NaN}', "the limit map_drop is a number, -100 to 100"),
        ("task_limits", '{"lines": null}', "the limit lines is a number, 0 to 1, not None"),
        ("task_limits", "[1]", "'recipe.task_limits' is not of its type"),
    ],
)
def test_limits_that_mean_nothing_are_refused_in_a_bundle(
    field: str, limits: str, told: str, bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    document = json.loads((copy / "bundle.json").read_text())
    document["recipe"][field] = "LIMITS"
    (copy / "bundle.json").write_text(json.dumps(document).replace('"LIMITS"', limits))
    with pytest.raises(ModelError, match=re.escape(told)):
        Bundle.open(copy)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, float("inf")])
def test_limits_of_tasks_that_mean_nothing_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="the limit boxes is a number, 0 to 1, not"):
        task_limits_for("detection", "fp32", boxes=value)
    with pytest.raises(UsageError, match="the limit map_drop is a number, -100 to 100, not"):
        task_limits_for("detection", "fp32", map_drop=1010 * value)
    assert task_limits_for("detection", "fp32", boxes=1.0, map_drop=-100.0)


@pytest.mark.parametrize("value", ["nan", "-1", "101", "inf"])
def test_a_max_drop_that_means_nothing_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="max_drop is 0 to 100 percentage points"):
        recipe("int8", max_drop=float(value))


def test_limits_without_a_check_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without a check: leave cosine out"):
        convert(model, tmp_path / "out", limits={"cosine": 0.5}, check=False)
    assert convert(model, tmp_path / "out", limits={"cosine": None}, check=False)


def test_the_x86_engine_is_held_to_the_limits_given(model: Path, tmp_path: Path) -> None:
    plain = convert(model, tmp_path / "plain", recipe="int8-weights")
    assert plain.report is not None
    strict = (1 + plain.report.outputs[0].cosine) / 2
    done = convert(
        model, tmp_path / "out", recipe="int8-weights", limits={"cosine": strict}, look_on=False
    )
    assert not done and done.ways_out is None
    assert done.report is not None and done.report.limits.cosine == strict


def test_the_simulation_is_held_to_the_limits_given_and_the_twin_to_its_own(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    eight = recipe("int8", samples=8)
    wide = {"max_abs_diff": 0.9, "cosine": 0.5}
    done = convert(model, tmp_path / "out", recipe=eight, calibration=calibration_data, limits=wide)
    assert done and done.report is not None and done.report.limits.cosine == 0.5
    strict = {"cosine": 1.0}
    done = convert(
        model, tmp_path / "no", recipe=eight, calibration=calibration_data, limits=strict,
        look_on=False,
    )  # fmt: skip
    assert not done and done.report is not None
    assert done.report.candidate["precision"] == "int8"


def test_every_command_that_is_offered_passes(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    """Those of a recipe that misses its limits are run as they are told."""
    out = str(tmp_path / "out")
    ask = ["convert", str(model), "-o", out, "--recipe=int8", "--calibration"]
    ask += [str(calibration_data), "--calibration-samples", "8", "--cosine", "0.99999"]
    done = command([*ask, "--json"])
    assert done.exit_code == 0 and done.return_value is False
    found = json.loads(done.stdout)["ways_out"]
    assert len(found["worst_layers"]) == 2
    losses = [layer["sqnr_db"] for layer in found["worst_layers"]]
    assert losses == sorted(losses)
    lines = [way["command"] for way in found["commands"]]
    recipes = [line.split("--recipe ")[-1].split()[0] for line in lines if "--recipe " in line]
    assert recipes == ["int8-weights", "fp16"]
    assert sum("--cosine" in line for line in lines) >= 1
    assert "--cosine 0.99999" not in lines[-1]
    shown = command(ask)
    for line, way in zip(lines, found["commands"]):
        assert line.replace(" --json", "") in shown.stderr and way["result"] in shown.stderr
        words = shlex.split(line)
        assert words[0] == "paddle-edge"
        assert command([*words[1:], "--force"]).return_value is True, line


def test_a_layer_in_float_is_offered_where_that_suffices(
    tmp_path: Path, model: Path, calibration_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers are ranked on few samples, of a network of many layers on fewer."""
    ranked = []

    def sensitivity(quantized: Any, samples: Any, **options: Any) -> Any:
        ranked.append(len(samples))
        return plainly(quantized, samples, **options)

    plainly = ways_out.sensitivity
    monkeypatch.setattr(ways_out, "sensitivity", sensitivity)
    eight = recipe("int8", samples=8)
    plain = convert(model, tmp_path / "a", recipe=eight, calibration=calibration_data)
    assert plain.report is not None
    cosine = plain.report.outputs[0].cosine
    limits = {"cosine": 1 - (1 - cosine) * 0.9}
    done = convert(model, tmp_path / "b", recipe=eight, calibration=calibration_data, limits=limits)
    assert not done and done.ways_out is not None
    first = done.ways_out.ways[0]
    assert first.options == ("--float-layer", done.ways_out.worst[0].layer)
    assert "1 of 2 layers more in float" in first.result
    monkeypatch.setattr(ways_out, "_RANKING_PASSES", 6)
    convert(model, tmp_path / "b", recipe=eight, calibration=calibration_data, limits=limits)
    monkeypatch.setattr(ways_out, "_RANKING_PASSES", 1)
    convert(model, tmp_path / "b", recipe=eight, calibration=calibration_data, limits=limits)
    assert ranked == [4, 3, 1]  # of four that are judged


def test_what_is_no_fault_of_the_recipe_has_no_way_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that are others are not made right by limits."""
    done = convert(model, tmp_path / "out", recipe="int16-weights", limits={"cosine": 1.0})
    assert not done and done.ways_out is not None
    (offered,) = [way.options for way in done.ways_out.ways if "--cosine" in way.options]
    assert done.report is not None
    measured = min(output.cosine for output in done.report.outputs)
    assert float(offered[offered.index("--cosine") + 1]) <= measured < 1
    monkeypatch.setattr(ways_out, "_LEAST_COSINE", 1.0)
    done = convert(model, tmp_path / "out", recipe="int16-weights", limits={"cosine": 1.0})
    assert done.ways_out is not None
    assert not any("--cosine" in way.options for way in done.ways_out.ways)


def test_limits_are_rounded_to_the_side_that_passes() -> None:
    for cosine in (0.98546, 0.99819, 0.9999912, 0.90001, 0.99, 1.0):
        assert 0 <= cosine - _down(cosine) <= 0.1 * (1 - cosine) + 1e-8
        assert limits_for("int8", cosine=_down(cosine))
    for difference in (0.0123, 1.3e-4, 0.1, 3.0):
        assert np.isclose(_up(difference), difference, rtol=0.1) and _up(difference) >= difference
