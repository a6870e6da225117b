"""Depthwise convolutions: what has no kernel of its own becomes what has, and answers the same."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest
from test_optimize import same, types

from lite_opt.conversion import losses
from lite_opt.conversion.convert import convert
from lite_opt.judge import layers
from lite_opt.model.program import Program, Var
from lite_opt.passes.depthwise import depthwise_by_parts
from lite_opt.passes.repair import repair
from lite_opt.recipes import RECIPES
from py_runner.errors import UsageError

Builder = make_model.Builder


def depthwise(
    b: Builder, x: str, kernel: tuple[int, int], *, stride: int = 1, dilation: int = 1,
    pads: tuple[int, ...] | None = None,
) -> str:  # fmt: skip
    """A depthwise convolution of x that keeps the sides, unless `pads` says otherwise."""
    n, c, *sides = b.vars[x].shape
    reach = [(k - 1) * dilation for k in kernel]
    if pads is None:
        pads = (reach[0] // 2, reach[0] // 2, reach[1] // 2, reach[1] // 2)
    out = [
        (side + before + behind - r - 1) // stride + 1
        for side, before, behind, r in zip(sides, pads[::2], pads[1::2], reach)
    ]
    weight = b.param(f"{x}.w", (c, 1, *kernel))
    return b.op(
        "depthwise_conv2d", {"Input": [x], "Filter": [weight]}, f"{x}.conv", (n, c, *out),
        slot="Output", strides=[stride, stride], paddings=list(pads),
        dilations=[dilation, dilation], groups=c, padding_algorithm="EXPLICIT",
        data_format="NCHW",
    )  # fmt: skip


def biased(b: Builder, x: str) -> str:
    bias = b.param(f"{x}.b", (b.vars[x].shape[1],))
    return b.op("elementwise_add", {"X": [x], "Y": [bias]}, f"{x}.biased", b.vars[x].shape, axis=1)


def normed(b: Builder, x: str) -> str:
    channels = (b.vars[x].shape[1],)
    slots = ("Scale", "Bias", "Mean", "Variance")
    inputs = {slot: [b.param(f"{x}.{slot}", channels)] for slot in slots}
    b.params[f"{x}.Variance"] = np.abs(b.params[f"{x}.Variance"]) + np.float32(0.5)
    out = b.op("batch_norm", {"X": [x], **inputs}, f"{x}.bn", b.vars[x].shape, slot="Y",
               epsilon=1e-3, is_test=True, data_layout="NCHW")  # fmt: skip
    outputs = b.ops[-1].outputs
    outputs |= {"MeanOut": inputs["Mean"], "VarianceOut": inputs["Variance"]}
    for slot in ("SavedMean", "SavedVariance"):
        outputs[slot] = [f"{x}.{slot}"]
        b.vars[f"{x}.{slot}"] = Var(f"{x}.{slot}", "float32", channels)
    return out


def sides(program: Program) -> list[tuple[int, ...]]:
    convs = [op for op in program.ops if op.type == "depthwise_conv2d"]
    return [program.params[op.inputs["Filter"][0]].shape[2:] for op in convs]


@pytest.mark.parametrize(
    ("kernel", "options", "parts"),
    [
        ((7, 7), {}, [5] * 4),
        ((7, 7), {"stride": 2}, [5] * 4),
        ((7, 7), {"pads": (0, 0, 0, 0)}, [5] * 4),  # the input is cut
        ((7, 7), {"pads": (3, 1, 0, 5)}, [5] * 4),
        ((9, 9), {}, [5] * 4),
        ((11, 11), {}, [5] * 9),
        ((3, 3), {"dilation": 2}, [5]),
        ((7, 7), {"dilation": 3}, [5] * 16),
        ((7, 1), {}, [5] * 2),
        ((1, 11), {}, [5] * 3),
        ((2, 2), {"stride": 2, "pads": (0, 0, 0, 0)}, [3]),
    ],
)
def test_other_windows_are_sums_of_those_that_have_kernels(
    kernel: tuple[int, int], options: dict, parts: list[int], tmp_path: Path
) -> None:
    b = Builder()
    x = b.input("x", (-1, 8, 12, 15))
    y = depthwise(b, x, kernel, **options)
    after = same(b.program(y), depthwise_by_parts, folder=tmp_path)
    assert sides(after) == [(side, side) for side in parts]


def test_the_bias_and_the_norm_go_into_the_parts(tmp_path: Path) -> None:
    b = Builder()
    y = normed(b, biased(b, depthwise(b, b.input("x", (-1, 4, 9, 9)), (7, 7))))
    after = same(b.program(y), depthwise_by_parts, folder=tmp_path)
    assert types(after) == ["depthwise_conv2d", "elementwise_add", *["depthwise_conv2d", "elementwise_add"] * 3]  # fmt: skip # noqa: E501


def test_what_others_read_too_stays_behind_the_sum(tmp_path: Path) -> None:
    b = Builder()
    conv = depthwise(b, b.input("x", (-1, 4, 9, 9)), (7, 7))
    after = same(b.program(conv, normed(b, conv)), depthwise_by_parts, folder=tmp_path)
    assert types(after)[-1] == "batch_norm"


@pytest.mark.parametrize(
    ("channels", "kernel", "options"),
    [
        (8, (3, 3), {}),
        (8, (5, 5), {"stride": 2}),
        (8, (1, 1), {"pads": (0, 0, 0, 0)}),
        (8, (7, 7), {"stride": 3}),
        (5, (7, 7), {"stride": 2}),  # three of the eight channels at a time are for nothing
    ],
)
def test_what_has_a_kernel_or_would_be_dearer_stays(
    channels: int, kernel: tuple[int, int], options: dict
) -> None:
    b = Builder()
    y = depthwise(b, b.input("x", (-1, channels, 28, 28)), kernel, **options)
    assert depthwise_by_parts(b.program(y)) == []


def test_an_input_of_open_sides_is_not_cut() -> None:
    b = Builder()
    y = depthwise(b, b.input("x", (-1, 4, -1, -1)), (11, 11), pads=(5, 5, 5, 5))
    assert depthwise_by_parts(b.program(y)) == []


@pytest.mark.parametrize(
    ("recipe", "count"),
    [("fp32", 4), ("int8-weights", 4), ("int16-weights", 4), ("fp16", 1), ("int8", 1)],
)
def test_only_float_kernels_take_parts(recipe: str, count: int) -> None:
    b = Builder()
    program = b.program(depthwise(b, b.input("x", (-1, 8, 14, 14)), (7, 7)))
    repair(program, recipe=RECIPES[recipe])
    assert types(program).count("depthwise_conv2d") == count


@pytest.mark.parametrize("recipe", ["fp16", "int8"])
def test_who_repairs_for_a_recipe_repairs_as_a_conversion_does(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers are named, and the twin of a bundle is made, of the same operators."""
    b = Builder()
    conv = depthwise(b, b.input("x", (-1, 8, 14, 14)), (7, 7))
    model = make_model.save(b.program(b.op("relu", {"X": [conv]}, "y", (-1, 8, 14, 14))), tmp_path)
    seen: list[list[str]] = []

    def stop(program: Program, *_: object, **__: object) -> None:
        seen.append(types(program))
        raise UsageError("far enough")

    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "a.npy", np.random.default_rng(0).random((2, 8, 14, 14), "float32"))
    if recipe == "int8":
        monkeypatch.setattr(losses, "calibrated", stop)
        with pytest.raises(UsageError, match="far enough"):
            losses.layer_losses(model, calibration=data, recipe=RECIPES["int8"])
    else:
        convert(model, tmp_path / "b", recipe="fp16", target=["arm"], check=False)
        monkeypatch.setattr(layers, "_prepared", stop)
        with pytest.raises(UsageError, match="far enough"):
            layers.bundle_layers(model, tmp_path / "b", samples=[])
    assert [kinds.count("depthwise_conv2d") for kinds in seen] == [1]
