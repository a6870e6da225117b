"""Operands, poolings and windows by the kernels that are fast: each rule on the smallest program
that needs it, and on the server engine before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import make_model
import pytest
from test_optimize import same, types
from test_repair import gap

from lite_opt.model.program import Program
from lite_opt.passes.affine import fold_affine
from lite_opt.passes.operands import (
    join_scales,
    numbers_to_scale,
    operands_by_copies,
    parameters_second,
    scales_unfused,
)
from lite_opt.passes.pools import pools_by_maxima
from lite_opt.passes.rule import Rule
from lite_opt.passes.slices import values_by_parts
from lite_opt.passes.unfolds import unfolds_by_splits

Builder = make_model.Builder


def untouched(rule: Rule, program: Program) -> bool:
    before = program.copy()
    return rule(program) == [] and program.blocks == before.blocks


def with_number(kind: str, *, first: bool = False, shape: tuple[int, ...] = (1,)) -> Program:
    b = Builder()
    x, number = b.input("x", (-1, 3, 4)), b.param("number", shape)
    b.params["number"][:] = -1.7
    slots = {"X": [number], "Y": [x]} if first else {"X": [x], "Y": [number]}
    return b.program(b.op(kind, slots, "y", (-1, 3, 4), axis=-1))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ["add", "sub", "mul", "div"])
def test_numbers_to_scale(kind: str, first: bool, tmp_path: Path) -> None:
    program = with_number(f"elementwise_{kind}", first=first)
    if kind == "div" and first:  # no scale divides a number
        assert untouched(numbers_to_scale, program)
        return
    after = same(program, numbers_to_scale, folder=tmp_path)
    assert types(after) == ["scale"]


def test_a_number_that_makes_the_result_larger_stays() -> None:
    program = with_number("elementwise_mul", shape=(1, 1, 1, 1))
    program.var("y").shape = (1, -1, 3, 4)
    assert untouched(numbers_to_scale, program)


@pytest.mark.parametrize("bias_after_scale", [True, False])
def test_join_scales(bias_after_scale: bool, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 5))
    for i, (scale, bias) in enumerate(((2.0, 3.0), (-0.5, 1.0), (1.5, 0.25))):
        x = b.op(
            "scale", {"X": [x]}, f"y{i}", (-1, 5), scale=scale, bias=bias,
            bias_after_scale=bias_after_scale,
        )  # fmt: skip
    assert types(same(b.program(x), join_scales, folder=tmp_path)) == ["scale"]


def test_a_scale_that_others_read_is_not_joined(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 5))
    y = b.op("scale", {"X": [x]}, "y", (-1, 5), scale=2.0, bias=0.0, bias_after_scale=True)
    z = b.op("scale", {"X": [y]}, "z", (-1, 5), scale=3.0, bias=0.0, bias_after_scale=True)
    assert untouched(join_scales, b.program(y, z))


def test_parameters_second(tmp_path: Path) -> None:
    # The layer scale of ConvNeXt.
    b = Builder()
    x = b.input("x", (-1, 7, 6))
    y = b.op(
        "mul", {"X": [x], "Y": [b.param("w", (6, 5))]}, "y", (-1, 7, 5), x_num_col_dims=2,
        y_num_col_dims=1,
    )  # fmt: skip
    out = b.op("elementwise_mul", {"X": [b.param("g", (5,))], "Y": [y]}, "z", (-1, 7, 5), axis=-1)
    program = b.program(b.op("relu", {"X": [out]}, "out", (-1, 7, 5)))
    assert fold_affine(program.copy()) == []
    after = same(program, parameters_second, folder=tmp_path)
    assert after.ops[2].inputs == {"X": ["y"], "Y": ["g"]}
    assert fold_affine(after)


@pytest.mark.parametrize("kind", ["elementwise_sub", "elementwise_div"])
def test_a_parameter_of_what_has_an_order_stays_first(kind: str) -> None:
    b = Builder()
    slots = {"X": [b.param("g", (5,))], "Y": [b.input("x", (-1, 5))]}
    assert untouched(parameters_second, b.program(b.op(kind, slots, "y", (-1, 5), axis=-1)))


def involution(
    kind: str = "elementwise_mul", *, small: tuple[int, ...] = (-1, 3, 1, 4, 60, 60)
) -> Program:
    b = Builder()
    whole = (-1, 3, 2, 4, 60, 60)
    x = b.input("x", whole)
    # Of the input itself, so that there is one to feed.
    axes = [i for i, (a, n) in enumerate(zip(whole, small)) if a != n]
    y = b.op("reduce_mean", {"X": [x]}, "mean", small, dim=axes, keep_dim=True, reduce_all=False)
    return b.program(b.op(kind, {"X": [y], "Y": [x]}, "y", whole, axis=-1))


@pytest.mark.parametrize("kind", ["elementwise_mul", "elementwise_sub", "elementwise_div"])
def test_operands_by_copies(kind: str, tmp_path: Path) -> None:
    after = same(involution(kind), operands_by_copies, folder=tmp_path)
    assert types(after) == ["reduce_mean", "concat", kind]
    assert after.ops[2].get("axis") == 2 and len(after.ops[2].inputs["X"]) == 2
    assert after.ops[3].inputs["X"] == after.ops[2].writes


@pytest.mark.parametrize(
    ("small", "kind"),
    [
        ((-1, 3, 1, 4, 60, 60), "elementwise_add"),  # has a kernel for them
        ((-1, 3, 2, 4, 60, 1), "elementwise_mul"),  # the last dimension: fast as it is
        ((-1, 3, 1, 1, 60, 60), "elementwise_mul"),
        ((1, 3, 2, 4, 60, 60), "elementwise_mul"),  # a batch is as large as it comes
    ],
)
def test_operands_that_stay(small: tuple[int, ...], kind: str) -> None:
    assert untouched(operands_by_copies, involution(kind, small=small))


def activated(
    activation: str, scale: float, bias: float, *, depthwise: bool = False
) -> Callable[[], Program]:
    def made() -> Program:
        b = Builder()
        x = b.input("x", (-1, 4, 8, 8))
        x = b.conv2d(x, b.param("w", (4, 1 if depthwise else 4, 3, 3)), "c", (-1, 4, 8, 8))
        if depthwise:
            b.ops[-1].type = "depthwise_conv2d"
            b.ops[-1].set("groups", 4)
        shift = {"X": [x], "Y": [b.param("bias", (4,), scale=2.0)]}
        x = b.op("elementwise_add", shift, "cb", (-1, 4, 8, 8), axis=1)
        more = {"alpha": 0.1} if activation == "leaky_relu" else {}
        x = b.op(activation, {"X": [x]}, "a", (-1, 4, 8, 8), **more)
        y = b.op(
            "scale", {"X": [x]}, "y", (-1, 4, 8, 8), scale=scale, bias=bias, bias_after_scale=True
        )
        return b.program(y)

    return made


@pytest.mark.parametrize(
    ("activation", "scale", "bias", "depthwise"),
    [
        ("relu", 2.0, 3.0, False),
        ("relu", -2.0, 0.0, True),
        ("relu6", 2.5, 0.0, False),
        ("hard_swish", 3.0, 0.0, False),
    ],
)
def test_scales_unfused(
    activation: str, scale: float, bias: float, depthwise: bool, tmp_path: Path
) -> None:
    program = activated(activation, scale, bias, depthwise=depthwise)
    assert gap(program, tmp_path) < 1e-5
    assert gap(program, tmp_path, without=scales_unfused) > 1e-2  # Lite fuses it all the same
    same(program(), scales_unfused, folder=tmp_path)


def test_scales_that_are_fused_right_stay() -> None:
    assert untouched(scales_unfused, activated("relu", 2.0, 0.0)())
    assert untouched(scales_unfused, activated("sigmoid", 2.0, 1.0)())  # no activation of a kernel


def pool(**attrs: object) -> Program:
    b = Builder()
    x = b.input("x", (-1, 3, 6, 7))
    sides = attrs.pop("sides", (6, 7))
    y = b.op("pool2d", {"X": [x]}, "y", (-1, 3, *sides), **{
        "ksize": [2, 2], "strides": [1, 1], "paddings": [0, 0], "pooling_type": "max",
        "padding_algorithm": "EXPLICIT", "global_pooling": False, "adaptive": False,
        "ceil_mode": False, "exclusive": True, "data_format": "NCHW", **attrs,
    })  # fmt: skip
    return b.program(y)


@pytest.mark.parametrize(
    ("attrs", "sides"),
    [
        ({"padding_algorithm": "SAME"}, (6, 7)),
        ({"padding_algorithm": "VALID"}, (5, 6)),
        ({}, (5, 6)),
        ({"paddings": [1, 0, 0, 1]}, (6, 7)),
        ({"paddings": [1, 1]}, (7, 8)),
    ],
)
def test_pools_by_maxima(attrs: dict[str, object], sides: tuple[int, int], tmp_path: Path) -> None:
    after = same(pool(**attrs, sides=sides), pools_by_maxima, folder=tmp_path)
    assert "pool2d" not in types(after)


@pytest.mark.parametrize(
    "attrs",
    [
        {"pooling_type": "avg"},
        {"strides": [2, 2], "sides": (3, 3)},
        {"ksize": [3, 3], "sides": (4, 5)},
        {"global_pooling": True, "sides": (1, 1)},
        {"adaptive": True, "sides": (2, 2)},
    ],
)
def test_pools_that_stay(attrs: dict[str, object]) -> None:
    assert untouched(pools_by_maxima, pool(**attrs))


def unfold(sides: list[int], pads: list[int], out: int, **attrs: object) -> Program:
    b = Builder()
    x = b.input("x", (-1, 3, 6, 7))
    y = b.op(
        "unfold", {"X": [x]}, "y", (-1, 3 * sides[0] * sides[1], out), slot="Y",
        kernel_sizes=sides, paddings=pads, **{"strides": [1, 1], "dilations": [1, 1], **attrs},
    )  # fmt: skip
    return b.program(y)


@pytest.mark.parametrize(
    ("sides", "pads", "out"),
    [([3, 3], [1, 1, 1, 1], 42), ([3, 2], [0, 1, 2, 0], 42), ([2, 3], [0, 0, 0, 0], 25)],
)
def test_unfolds_by_splits(sides: list[int], pads: list[int], out: int, tmp_path: Path) -> None:
    after = same(unfold(sides, pads, out), unfolds_by_splits, folder=tmp_path)
    assert "unfold" not in types(after)


@pytest.mark.parametrize("attrs", [{"strides": [2, 2]}, {"dilations": [2, 2]}])
def test_unfolds_that_stay(attrs: dict[str, object]) -> None:
    assert untouched(unfolds_by_splits, unfold([3, 3], [1, 1, 1, 1], 12, **attrs))


def replaced(start: int, end: int, size: int, **attrs: object) -> Program:
    # As ReXNet adds what a shortcut has fewer channels of.
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    part = b.op(
        "slice", {"Input": [x]}, "part", (-1, size, 4), axes=[1], starts=[0], ends=[size],
        infer_flags=[1],
    )  # fmt: skip
    b.ops[-1].set("decrease_axis", [], "INTS")
    y = b.op("set_value", {"Input": [x], "ValueTensor": [part]}, "y", (-1, 6, 4), **{
        "starts": [start], "ends": [end], "steps": [1], "axes": [1], "dtype": 5, **attrs,
    })  # fmt: skip
    for name, kind in (("decrease_axes", "LONGS"), ("none_axes", "LONGS"), ("shape", "LONGS")):
        b.ops[-1].set(name, [], kind)
    return b.program(y)


@pytest.mark.parametrize(
    ("start", "end", "size"), [(0, 4, 4), (1, 3, 2), (2, 6, 4), (-2, 2147483647, 2)]
)
def test_values_by_parts(start: int, end: int, size: int, tmp_path: Path) -> None:
    after = same(replaced(start, end, size), values_by_parts, folder=tmp_path)
    assert types(after) == ["slice", "split", "concat"]


def test_values_that_stay() -> None:
    assert untouched(values_by_parts, replaced(0, 6, 3, steps=[2]))
    assert untouched(values_by_parts, replaced(0, 4, 1))  # a value that is spread out


def test_they_are_right_on_x86(tmp_path: Path) -> None:
    for index, made in enumerate((
        lambda: pool(padding_algorithm="SAME"), lambda: unfold([3, 2], [0, 1, 2, 0], 42),
        lambda: replaced(1, 3, 2), involution, lambda: with_number("elementwise_sub", first=True),
    )):  # fmt: skip
        assert gap(made, tmp_path / str(index)) < 1e-5
