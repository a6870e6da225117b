"""What surrounds convolutions: sums of them, factors, gates and means, by what is cheaper and
answers the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from test_depthwise import biased, depthwise, normed
from test_optimize import same, types

from lite_opt.model.program import Program
from lite_opt.passes.batch_norms import (
    norms_before_concat,
    norms_before_relu,
    norms_into_convolutions,
)
from lite_opt.passes.branches import sums_of_convolutions
from lite_opt.passes.depthwise import depthwise_by_groups
from lite_opt.passes.reductions import means_by_pooling
from lite_opt.passes.repair import repair
from lite_opt.passes.rule import Rule
from lite_opt.passes.scales import gates_by_relu6, scales_into_weights
from lite_opt.passes.winograd import windows_by_parts
from lite_opt.recipes import RECIPES

Builder = make_model.Builder
_GATE = {"slope": 1 / 6, "offset": 0.5}


def conv(
    b: Builder, x: str, channels: int, side: int, *, groups: int = 1, stride: int = 1,
    pads: tuple[int, ...] | None = None,
) -> str:  # fmt: skip
    """A convolution of x that keeps the sides, unless `pads` or the stride says otherwise."""
    n, c, *sides = b.vars[x].shape
    pads = (side // 2,) * 4 if pads is None else pads
    name = f"conv{len(b.ops)}"
    out = [(s + sum(p) - side) // stride + 1 for s, p in zip(sides, (pads[:2], pads[2:]))]
    weight = b.param(f"{name}.filter", (channels, c // groups, side, side))
    return b.op(
        "conv2d", {"Input": [x], "Filter": [weight]}, name, (n, channels, *out), slot="Output",
        strides=[stride, stride], paddings=list(pads), dilations=[1, 1], groups=groups,
        padding_algorithm="EXPLICIT", data_format="NCHW",
    )  # fmt: skip


def unary(b: Builder, type_: str, x: str, **attrs: Any) -> str:
    return b.op(type_, {"X": [x]}, f"{type_}{len(b.ops)}", b.vars[x].shape, **attrs)


def pair(b: Builder, type_: str, x: str, y: str) -> str:
    shape = b.vars[x].shape
    return b.op(type_, {"X": [x], "Y": [y]}, f"{type_}{len(b.ops)}", shape, axis=-1)


def pooled(b: Builder, x: str) -> str:
    return b.op(
        "pool2d", {"X": [x]}, f"pool{len(b.ops)}", (*b.vars[x].shape[:2], 1, 1), ksize=[1, 1],
        pooling_type="avg", strides=[1, 1], paddings=[0, 0], global_pooling=True, exclusive=True,
        ceil_mode=False, adaptive=False, padding_algorithm="EXPLICIT", data_format="NCHW",
    )  # fmt: skip


def scaled(b: Builder, x: str, by: float) -> str:
    return unary(b, "scale", x, scale=by, bias=0.0, bias_after_scale=True)


@pytest.mark.parametrize(("side", "pads"), [(5, None), (5, (0, 0, 0, 0)), (6, (2, 3, 3, 2))])
def test_a_large_window_is_the_sum_of_small_ones(
    side: int, pads: tuple[int, ...] | None, tmp_path: Path
) -> None:
    b = Builder()
    y = normed(b, biased(b, conv(b, b.input("x", (-1, 48, 18, 20)), 49, side, pads=pads)))
    after = same(b.program(unary(b, "relu", y)), windows_by_parts, folder=tmp_path)
    assert types(after).count("conv2d") == 4 and types(after)[-2:] == ["elementwise_add", "relu"]
    filters = [op.inputs["Filter"][0] for op in after.ops if op.type == "conv2d"]
    assert {after.params[name].shape for name in filters} == {(49, 48, 3, 3)}


@pytest.mark.parametrize(
    ("channels", "side", "options"),
    [
        ((48, 48), 3, {}),
        ((48, 48), 7, {}),  # nine of them
        ((32, 64), 5, {}),
        ((48, 48), 5, {"stride": 2}),
        ((48, 48), 5, {"groups": 2}),
    ],
)
def test_a_window_that_would_be_dearer_as_a_sum_stays(
    channels: tuple[int, int], side: int, options: dict[str, Any]
) -> None:
    b = Builder()
    y = conv(b, b.input("x", (-1, channels[0], 28, 28)), channels[1], side, **options)
    assert windows_by_parts(b.program(y)) == []


def test_a_small_output_is_not_worth_the_sum() -> None:
    b = Builder()
    assert windows_by_parts(b.program(conv(b, b.input("x", (-1, 48, 11, 11)), 48, 5))) == []


@pytest.mark.parametrize(
    ("side", "stride", "act", "kind"),
    [
        (5, 1, "hard_swish", "conv2d"),
        (5, 2, "hard_swish", "depthwise_conv2d"),  # ARM dies: this act_type fuse not support
        (3, 1, "hard_swish", "depthwise_conv2d"),
        (5, 1, "relu", "depthwise_conv2d"),
    ],
)
def test_hard_swish_is_fused_where_the_kernel_has_it(
    side: int, stride: int, act: str, kind: str, tmp_path: Path
) -> None:
    b = Builder()
    x = normed(b, depthwise(b, b.input("x", (-1, 8, 9, 9)), (side, side), stride=stride))
    attrs = {"threshold": 6.0, "scale": 6.0, "offset": 3.0} if act == "hard_swish" else {}
    after = same(b.program(unary(b, act, x, **attrs)), depthwise_by_groups, folder=tmp_path)
    assert types(after) == [kind, "batch_norm", act]


def repvgg(b: Builder, x: str, *, groups: int = 1) -> str:
    channels = b.vars[x].shape[1]
    wide = normed(b, conv(b, x, channels, 3, groups=groups))
    narrow = normed(b, conv(b, x, channels, 1, groups=groups))
    return pair(b, "elementwise_add", pair(b, "elementwise_add", narrow, wide), normed(b, x))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_parallel_convolutions_and_the_input_become_one(groups: int, tmp_path: Path) -> None:
    b = Builder()
    x = unary(b, "relu", b.input("x", (-1, 8, 9, 9)))
    for _ in range(2):
        x = unary(b, "relu", repvgg(b, x, groups=groups))
    after = same(b.program(x), sums_of_convolutions, folder=tmp_path)
    assert types(after) == ["relu", *["conv2d", "elementwise_add", "relu"] * 2]


def test_a_depthwise_convolution_and_its_input_become_one(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 8, 9, 9))
    y = pair(b, "elementwise_add", x, depthwise(b, x, (3, 3)))
    after = same(b.program(y), sums_of_convolutions, folder=tmp_path)
    assert types(after) == ["depthwise_conv2d"]


def test_branches_that_differ_in_more_than_weights_stay() -> None:
    b = Builder()
    x = b.input("x", (-1, 8, 9, 9))
    read = conv(b, x, 8, 3)
    acted = pair(b, "elementwise_add", unary(b, "relu", conv(b, x, 8, 3)), x)
    tapped = pair(b, "elementwise_add", read, conv(b, x, 8, 1))
    of_another = pair(b, "elementwise_add", conv(b, unary(b, "relu", x), 8, 3), x)
    grouped = pair(b, "elementwise_add", conv(b, x, 8, 3, groups=2), conv(b, x, 8, 1))
    program = b.program(acted, tapped, read, of_another, grouped)
    assert sums_of_convolutions(program) == []


def test_windows_are_added_where_they_lie(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 4, 9, 9))
    strided = pair(b, "elementwise_add", *(conv(b, x, 6, side, stride=2) for side in (3, 1)))
    shifted = pair(b, "elementwise_add", conv(b, x, 4, 3, pads=(0, 2, 1, 1)), x)
    after = same(b.program(strided, shifted), sums_of_convolutions, folder=tmp_path)
    assert types(after) == ["conv2d", "conv2d"]


def excited(b: Builder, x: str, act: str = "hard_sigmoid") -> str:
    channels = b.vars[x].shape[1]
    less = unary(b, "relu", biased(b, conv(b, pooled(b, x), 4, 1)))
    gate = unary(b, act, biased(b, conv(b, less, channels, 1)), **_GATE)
    return pair(b, "elementwise_mul", x, gate)


def test_a_gate_becomes_relu6(tmp_path: Path) -> None:
    b = Builder()
    x = unary(b, "relu", conv(b, b.input("x", (-1, 3, 9, 9)), 8, 3))
    y = conv(b, excited(b, x), 6, 1)
    after = same(b.program(y), gates_by_relu6, folder=tmp_path)
    assert "hard_sigmoid" not in types(after) and types(after).count("relu6") == 1
    assert len(types(after)) == len(b.ops) - 2  # feed and fetch


def test_a_gate_whose_product_is_not_convolved_stays() -> None:
    b = Builder()
    y = excited(b, b.input("x", (-1, 8, 9, 9)))
    both = pair(b, "elementwise_add", conv(b, y, 8, 1), y)
    assert gates_by_relu6(b.program(both)) == []


def test_a_scale_goes_into_the_weights_of_all_that_read_it(tmp_path: Path) -> None:
    b = Builder()
    x = scaled(b, unary(b, "relu", b.input("x", (-1, 4, 6, 6))), 0.8)
    one, two = conv(b, x, 8, 3), depthwise(b, unary(b, "relu", x), (3, 3))
    flat = b.op("reshape2", {"X": [pooled(b, x)]}, "flat", (-1, 4), shape=[-1, 4])
    three = b.op("mul", {"X": [flat], "Y": [b.param("w", (4, 5))]}, "three", (-1, 5),
                 x_num_col_dims=1, y_num_col_dims=1)  # fmt: skip
    after = same(b.program(one, two, three), scales_into_weights, folder=tmp_path)
    assert "scale" not in types(after)


@pytest.mark.parametrize("by", [0.8, -0.8])
def test_a_scale_that_is_seen_otherwise_or_turns_a_sign_stays(by: float) -> None:
    b = Builder()
    x = scaled(b, b.input("x", (-1, 4, 6, 6)), by)
    y = unary(b, "relu", x)
    outputs = [conv(b, y, 8, 3), *([pair(b, "elementwise_add", x, x)] if by > 0 else [])]
    assert scales_into_weights(b.program(*outputs)) == []


@pytest.mark.parametrize(("rows", "moved"), [(2048, 1), (2049, 0)])
def test_a_scale_before_a_large_matrix_stays(rows: int, moved: int) -> None:
    """Writing the matrix anew would take longer than all of the rest of a conversion."""
    b = Builder()
    x = scaled(b, b.input("x", (-1, rows)), 0.5)
    out = b.op("mul", {"X": [x], "Y": [b.param("w", (rows, 4096))]}, "out", (-1, 4096),
               x_num_col_dims=1, y_num_col_dims=1)  # fmt: skip
    assert len(scales_into_weights(b.program(out))) == moved


def test_a_norm_before_relu_becomes_a_sum(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 8, 6, 6))
    y = unary(b, "relu", _positive(b, normed(b, x)))
    one, two = conv(b, y, 8, 3, groups=2), depthwise(b, y, (3, 3))
    three = b.op("mul", {"X": [pooled(b, y)], "Y": [b.param("w", (8, 5))]}, "three", (-1, 5),
                 x_num_col_dims=1, y_num_col_dims=1)  # fmt: skip
    after = same(b.program(one, two, three, x), norms_before_relu, folder=tmp_path)
    assert types(after)[:2] == ["elementwise_add", "relu"]


@pytest.mark.parametrize("case", ["negative", "read elsewhere", "behind a convolution"])
def test_a_norm_whose_factors_cannot_move_stays(case: str) -> None:
    b = Builder()
    x = b.input("x", (-1, 8, 6, 6))
    x = conv(b, x, 8, 3) if case == "behind a convolution" else x
    normal = _positive(b, normed(b, x))
    if case == "negative":
        b.params[f"{x}.Scale"][3] *= -1
    y = unary(b, "relu", normal)
    more = [y] if case == "read elsewhere" else []
    assert norms_before_relu(b.program(conv(b, y, 8, 3), *more)) == []


def _positive(b: Builder, norm: str) -> str:
    name = b.ops[-1].inputs["Scale"][0]
    b.params[name] = np.abs(b.params[name]) + np.float32(0.5)
    return norm


def test_a_norm_of_joined_convolutions_is_one_of_each(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 4, 9, 9))
    parts = [conv(b, x, 3, 1), biased(b, depthwise(b, x, (3, 3))), conv(b, x, 5, 5)]
    joined = b.op("concat", {"X": parts}, "joined", (-1, 12, 9, 9), axis=1)
    after = same(b.program(normed(b, joined)), norms_before_concat, folder=tmp_path)
    assert types(after)[-4:] == ["batch_norm"] * 3 + ["concat"]


@pytest.mark.parametrize("case", ["normed", "read elsewhere", "no convolution"])
def test_a_norm_of_other_joined_tensors_stays(case: str) -> None:
    b = Builder()
    x = b.input("x", (-1, 4, 9, 9))
    first = conv(b, x, 3, 1)
    first = normed(b, first) if case == "normed" else first
    parts = [first, x if case == "no convolution" else conv(b, x, 4, 3)]
    joined = b.op("concat", {"X": parts}, "joined", (-1, 7, 9, 9), axis=1)
    more = [parts[1]] if case == "read elsewhere" else []
    assert norms_before_concat(b.program(normed(b, joined), *more)) == []


@pytest.mark.parametrize("wide", [False, True], ids=["vector", "[1, C, 1, 1]"])
def test_a_norm_before_convolutions_without_padding_goes_into_them(
    wide: bool, tmp_path: Path
) -> None:
    b = Builder()
    x = unary(b, "relu", b.input("x", (-1, 8, 9, 9)))
    y = normed(b, x)
    one = biased(b, conv(b, y, 6, 1))
    if wide:
        name = b.ops[-1].inputs["Y"][0]
        b.params[name] = b.params[name].reshape(1, 6, 1, 1)
        b.vars[name].shape = (1, 6, 1, 1)
        b.ops[-1].set("axis", -1)
    two = conv(b, y, 4, 3, groups=2, pads=(0, 0, 0, 0))
    after = same(b.program(one, two, x), norms_into_convolutions, folder=tmp_path)
    assert "batch_norm" not in types(after)


def test_a_shift_does_not_pass_zeros_around() -> None:
    b = Builder()
    y = conv(b, normed(b, b.input("x", (-1, 8, 9, 9))), 8, 3)
    assert norms_into_convolutions(b.program(y)) == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_mean_over_sides_is_a_pooling(keep: bool, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 4, 6, 5))
    y = b.op("reduce_mean", {"X": [x]}, "y", (-1, 4, 1, 1) if keep else (-1, 4), dim=[-1, 2],
             keep_dim=keep, reduce_all=False)  # fmt: skip
    after = same(b.program(y), means_by_pooling, folder=tmp_path)
    assert types(after) == ["pool2d"] if keep else ["pool2d", "reshape2"]


def test_other_means_stay() -> None:
    b = Builder()
    x = b.input("x", (-1, 4, 6, 5))
    y = b.op("reduce_mean", {"X": [x]}, "y", (-1, 6), dim=[1, 3], keep_dim=False, reduce_all=False)
    assert means_by_pooling(b.program(y)) == []


_OF_FLOATS = (
    sums_of_convolutions, gates_by_relu6, norms_before_relu, norms_into_convolutions,
    windows_by_parts,
)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "rules"),
    [
        ("fp32", {*_OF_FLOATS, depthwise_by_groups}),
        ("int8-weights", {*_OF_FLOATS}),
        ("fp16", set()),
        ("int8", set()),
    ],
)
def test_what_was_measured_with_float_kernels_is_for_those(recipe: str, rules: set[Rule]) -> None:
    b = Builder()
    x = repvgg(b, unary(b, "relu", conv(b, conv(b, b.input("x", (-1, 3, 12, 12)), 48, 1), 48, 5)))
    x = conv(b, unary(b, "relu", _positive(b, normed(b, unary(b, "relu", x)))), 16, 3)
    x = conv(b, normed(b, unary(b, "tanh", x)), 16, 1)
    x = normed(b, depthwise(b, x, (5, 5)))
    x = unary(b, "hard_swish", x, threshold=6.0, scale=6.0, offset=3.0)
    program: Program = b.program(conv(b, excited(b, x), 6, 1))
    changes = repair(program, recipe=RECIPES[recipe], without=["evaluate"])
    every = {rule.name for rule in (*_OF_FLOATS, depthwise_by_groups)}
    assert every & {change.rule for change in changes} == {rule.name for rule in rules}
