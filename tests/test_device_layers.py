"""layers on the engine of a device: what is wrong there, or dies there, is named."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need
from test_cli import Command, command  # noqa: F401
from test_layers import chain, pair
from test_native import built
from test_native_engine import board

from lite_opt.conversion.convert import convert
from lite_opt.judge.layers import bundle_layers, first_difference
from lite_opt.judge.layers import runs as layers_runs
from lite_opt.judge.layers.result import LayersReport
from lite_opt.model.program import Program
from lite_opt.passes.repair import RULES
from lite_opt.recipes import RECIPES
from lite_opt.views.layers import view
from py_runner.data.random_samples import random_samples
from py_runner.devices import BOARDS
from py_runner.engines import native
from py_runner.errors import EngineError, RefusedError, UsageError
from py_runner.formats.run import Run

ARM = "qemu-aarch64:a72"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native engine of this machine."""
    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    library = built("host", PADDLE_EDGE_LITE_PYTHON=sys.executable)
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(library))


@pytest.fixture
def real() -> str:
    """An emulated board with a real ARM engine."""
    if BOARDS[ARM].missing():
        pytest.skip(BOARDS[ARM].missing())
    return ARM


def narrow(side: int = 8) -> Program:
    """A convolution, a depthwise one of stride 2 that pads at the right and the bottom, another
    convolution: what ARM's kernel gets wrong for sides of 4, 6 and 8."""
    b = make_model.Builder(3)
    shape, half = (1, 8, side, side), (1, 8, side // 2, side // 2)
    x = b.input("x", shape)
    first = b.conv2d(x, b.param("first.w", (8, 8, 3, 3), 1.3), "first", shape)
    deep = b.op(
        "depthwise_conv2d",
        {"Input": [first], "Filter": [b.param("deep.w", (8, 1, 3, 3), 1.3)]},
        "deep",
        half,
        slot="Output",
        strides=[2, 2],
        paddings=[0, 1, 0, 1],
        dilations=[1, 1],
        groups=8,
        padding_algorithm="EXPLICIT",
        data_format="NCHW",
    )
    last = b.conv2d(deep, b.param("last.w", (8, 8, 3, 3), 1.3), "last", half)
    return b.program(b.op("relu", {"X": [last]}, "end", half))


def without(program: Program, name: str) -> Program:
    """A program as it would be repaired if there were no rule of that name."""
    made = program.copy()
    for rule in RULES:
        if rule.name != name:
            rule(made)
    made.remove_unused()
    return made


def on_board(source: Program, made: Program, device: str, **options: Any) -> LayersReport:
    samples = random_samples(source.inputs, count=2)
    return first_difference(source, made, samples, engine="native", device=device, **options)


def test_what_the_native_engine_gets_wrong_is_named(here: None) -> None:
    """On x86 its kernels are those of engine lite: pow(x, 3) is nonsense for negative x."""
    source, made = pair(chain(depth=3, pow_at=1))
    found = on_board(source, made, "cpu", taps=2).divergence
    assert found is not None
    assert (found.name, found.op, found.cause) == ("block1", "pow", "layer")


def test_without_a_fault_nothing_is_named(here: None) -> None:
    source, made = pair(chain(depth=2))
    report = on_board(source, made, "cpu", taps=None)
    assert report, report.verdict
    assert (report.engine, report.device) == ("native", "cpu")
    assert "fp32 on engine native, 2 samples" in report.verdict


def test_a_board_that_dies_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in engine dies of all but the network that hands its input on."""
    board("qemu-aarch64", monkeypatch)
    source, made = pair(narrow())
    report = on_board(source, made, "qemu-aarch64")
    found = report.divergence
    assert found is not None and not report and report.taps == ()
    assert (found.name, found.op, found.cause, found.output) == ("first", "conv2d", "dead", None)
    said = "engine native on qemu-aarch64 cannot run conv2d in layer 'first': "
    assert report.verdict.startswith(said)
    assert "it said: " in report.verdict and "stand-in engine: this" in report.verdict
    assert "/tmp" not in report.verdict
    assert list(view(report, "b")) == [report.verdict]
    assert report.to_json()["divergence"]["cause"] == "dead"


@pytest.mark.parametrize("dead", ["first", "last"])
def test_the_layer_is_found_where_only_taps_kill(
    dead: str, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the network is used it runs; an engine may lack a kernel that only a tap asks for."""

    make = layers_runs.part

    def part(program: Program, *arguments: Any) -> Any:
        made = make(program, *arguments)
        tapped = {spec.name for spec in program.outputs}
        if dead in {op.layer for op in program.ops} and tapped != {"end"}:
            raise RefusedError(f"{arguments[-1]}/model.arm.nb: it died at 12:07")
        return made

    monkeypatch.setattr(layers_runs, "part", part)
    source, made = pair(narrow())
    report = on_board(source, made, "cpu", taps=None)
    assert report.divergence is not None and report.divergence.cause == "dead"
    assert f"in layer '{dead}'" in report.verdict
    assert "it said: it died at 12:07" in report.verdict


def test_what_only_the_untapped_network_gets_wrong(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly = layers_runs.run

    def run(model: Any, samples: Any, *, engine: str, **options: Any) -> Run:
        done = truly(model, samples, engine=engine, **options)
        if engine == "native" and len(done.outputs) == 1:
            doubled = {n: [2 * v for v in values] for n, values in done.outputs.items()}
            return replace(done, outputs=doubled)
        return done

    monkeypatch.setattr(layers_runs, "run", run)
    source, made = pair(narrow())
    report = on_board(source, made, "cpu", taps=None)
    found = report.divergence
    assert found is not None and (found.name, found.cause) == ("end", "fused")
    assert "right as long as layers are looked at" in report.verdict and "0.0 dB" in report.verdict


def test_an_output_that_comes_twice(here: None) -> None:
    b = make_model.Builder(3)
    x = b.input("x", (1, 8, 4, 4))
    y = b.conv2d(x, b.param("w", (8, 8, 3, 3), 1.3), "y", (1, 8, 4, 4))
    source, made = pair(b.program(y, y))
    assert on_board(source, made, "cpu", taps=None)


def test_an_engine_that_is_asked_for_where_it_is_not() -> None:
    source, made = pair(narrow())
    with pytest.raises(UsageError, match="unknown device 'qemu-aarch64:pi9'"):
        on_board(source, made, "qemu-aarch64:pi9")
    with pytest.raises(UsageError, match="engine lite runs on device cpu"):
        first_difference(source, made, [], engine="lite", device=ARM)
    with pytest.raises(UsageError, match="engine native would mislead"):
        on_board(source, made, "cpu", recipe=RECIPES["int8"])


def test_layers_of_a_bundle_on_the_native_engine(
    here: None,
    model: Path,
    bundle: Path,
    command: Command,  # noqa: F811
) -> None:
    with pytest.raises(UsageError, match="lite or native, not 'paddle'"):
        bundle_layers(model, bundle, engine="paddle")
    code, out, _ = command("layers", model, bundle, "--engine", "native", "--limit", 1, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["passed"], told["engine"], told["device"]) == (True, "native", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("side", [4, 6, 8])
def test_a_layer_that_arm_gets_wrong_is_named(side: int, real: str) -> None:
    source = narrow(side)
    assert on_board(*pair(source), real)
    found = on_board(source, without(source, "small_depthwise"), real).divergence
    assert found is not None
    assert (found.name, found.op, found.cause) == ("deep", "depthwise_conv2d", "layer")
    assert found.inputs[0].sqnr_db > 80 > 40 > found.output.sqnr_db  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_wrong_weight_is_named_on_arm(real: str) -> None:
    source, made = pair(chain(depth=4))
    made.set_param("block2.w", made.params["block2.w"] * np.float32(1.02))
    found = on_board(source, made, real, taps=2).divergence
    assert found is not None and found.name == "block2" and found.cause == "layer"


@pytest.mark.slow
def test_a_layer_that_arm_refuses_is_named(real: str) -> None:
    b = make_model.Builder(3)
    x = b.input("x", (1, 3, 8, 8))
    y = b.op("relu", {"X": [x]}, "y", (1, 3, 8, 8))
    mean = b.op(
        "reduce_mean", {"X": [y]}, "mean", (1, 8), dim=[1, 3], keep_dim=False, reduce_all=False
    )
    source = b.program(b.op("relu", {"X": [mean]}, "end", (1, 8)))
    assert on_board(*pair(source), real)
    report = on_board(source, without(source, "split_reductions"), real)
    assert report.divergence is not None
    assert (report.divergence.name, report.divergence.cause) == ("mean", "dead")
    assert "cannot run reduce_mean in layer 'mean'" in report.verdict


@pytest.mark.slow
def test_a_conversion_that_arm_gets_wrong_names_the_layer(
    real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tuple(rule for rule in RULES if rule.name != "small_depthwise")
    monkeypatch.setattr("lite_opt.passes.repair.RULES", kept)
    model = make_model.save(narrow(), tmp_path / "narrow")
    done = convert(model, tmp_path / "b")
    assert not done and done.bundle is None and done.report is not None
    assert done.report.candidate["engine"] == "native"
    assert "depthwise_conv2d 'deep' is the first layer that diverges" in done.advice


@pytest.mark.slow
def test_half_floats_on_a_board(real: str) -> None:
    """Right where its library has fp16, and else said to be missing, of no layer."""
    source, made = pair(narrow())
    try:
        assert on_board(source, made, "qemu-aarch64:a76", recipe=RECIPES["fp16"])
    except EngineError as error:
        assert "runs no fp16: its Paddle Lite library has no fp16 kernels" in str(error)
    with pytest.raises(EngineError, match="runs no fp16: its CPU has no fp16"):
        on_board(source, made, real, recipe=RECIPES["fp16"])
