"""Attention in the graph optimizer: queries, keys and values on their way to their products, and
streams of places, each on the smallest program that needs it and on the server engine before and
after."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest
from test_optimize import reshape, same, transpose, types

from lite_opt.model.program import Program, Var
from lite_opt.passes.attention import (
    flip_operands,
    flip_products,
    layers_apart,
    move_before_split,
)
from lite_opt.passes.dead import drop_dead_code
from lite_opt.passes.rearrange import join_rearrangements
from lite_opt.passes.repair import optimize
from lite_opt.passes.streams import shape_streams

Builder = make_model.Builder
HEADS, ROWS, DEEP = 3, 6, 4
WIDTH = HEADS * DEEP


def product(b: Builder, x: str, y: str, out: str, *, x_t: bool = False, y_t: bool = False) -> str:
    (*stack, m, k), (p, q) = b.vars[x].shape, b.vars[y].shape[-2:]
    shape = (*stack, k if x_t else m, p if y_t else q)
    return b.op("matmul_v2", {"X": [x], "Y": [y]}, out, shape, trans_x=x_t, trans_y=y_t)


def linear(b: Builder, x: str, width: int) -> str:
    """A layer of places, as `matmul_to_mul` leaves it."""
    (*lead, channels) = b.vars[x].shape
    weight, bias = b.param(f"{x}.w", (channels, width)), b.param(f"{x}.b", (width,))
    made = b.op("mul", {"X": [x], "Y": [weight]}, f"{x}.mul", (*lead, width),
                x_num_col_dims=len(lead), y_num_col_dims=1)  # fmt: skip
    return b.op("elementwise_add", {"X": [made], "Y": [bias]}, f"{x}.layer", (*lead, width),
                axis=-1)  # fmt: skip


def split(b: Builder, x: str, axis: int, *sections: int) -> list[str]:
    shape = b.vars[x].shape
    names = [f"{x}.{n}" for n in range(len(sections))]
    b.op("split", {"X": [x]}, names[0], shape, axis=axis, num=0, sections=list(sections))
    b.ops[-1].outputs["Out"] = names
    for name, size in zip(names, sections):
        part = tuple(size if i == axis else d for i, d in enumerate(shape))
        b.vars[name] = Var(name, "float32", part)
    return names


def heads(b: Builder, x: str, deep: int = DEEP) -> str:
    parts = reshape(b, x, f"{x}.parts", -1, ROWS, HEADS, deep)
    return transpose(b, parts, f"{x}.heads", [0, 2, 1, 3])


def attention(b: Builder, query: str, key: str, value: str, beside: str = "") -> str:
    maps = b.op("softmax", {"X": [product(b, query, key, f"{query}.maps", y_t=True)]},
                f"{query}.soft", (-1, HEADS, ROWS, ROWS), axis=-1)  # fmt: skip
    out = product(b, maps, value, f"{query}.out")
    if beside:
        out = b.op("elementwise_add", {"X": [out], "Y": [beside]}, f"{query}.sum",
                   b.vars[out].shape, axis=-1)  # fmt: skip
    rows = transpose(b, out, f"{query}.rows", [0, 2, 1, 3])
    return reshape(b, rows, f"{query}.y", -1, ROWS, HEADS * b.vars[value].shape[-1])


def by_number() -> Program:
    """Of [N, rows, 3, heads, channels], as ViT and Swin have it."""
    b = Builder()
    x = reshape(b, linear(b, b.input("x", (-1, ROWS, 8)), 3 * WIDTH), "all", -1, ROWS, 3, HEADS,
                DEEP)  # fmt: skip
    parts = split(b, transpose(b, x, "moved", [2, 0, 3, 1, 4]), 0, 1, 1, 1)
    names = [reshape(b, part, f"{part}.4d", -1, HEADS, ROWS, DEEP) for part in parts]
    return b.program(attention(b, *names))


def by_head() -> Program:
    """Of [N, rows, heads, channels] with keys of fewer channels than values, as LeViT has it."""
    b = Builder()
    x = linear(b, b.input("x", (-1, ROWS, 8)), 4 * WIDTH)
    parts = split(b, reshape(b, x, "all", -1, ROWS, HEADS, 4 * DEEP), 3, DEEP, DEEP, 2 * DEEP)
    names = [transpose(b, part, f"{part}.heads", [0, 2, 1, 3]) for part in parts]
    return b.program(attention(b, *names))


def beside() -> Program:
    """With something computed of the values transposed, and added, as CSWin has it."""
    b = Builder()
    parts = split(b, linear(b, b.input("x", (-1, ROWS, 8)), 3 * WIDTH), 2, *[WIDTH] * 3)
    query, key = (heads(b, part) for part in parts[:2])
    columns = transpose(b, reshape(b, parts[2], "v", -1, ROWS, HEADS, DEEP), "columns",
                        [0, 2, 3, 1])  # fmt: skip
    value = transpose(b, columns, "value", [0, 1, 3, 2])
    act = b.op("relu", {"X": [columns]}, "act", b.vars[columns].shape)
    return b.program(attention(b, query, key, value, transpose(b, act, "back", [0, 1, 3, 2])))


@pytest.mark.parametrize("made", [by_number, by_head, beside])
def test_queries_keys_and_values_are_moved_once_and_then_split(made, tmp_path: Path) -> None:
    after = same(made(), optimize, folder=tmp_path)
    assert types(after).count("transpose2") == 2
    assert types(after).count("split") == 1
    assert types(after).index("transpose2") < types(after).index("split")
    flags = [op.get("trans_x") for op in after.ops if op.type == "matmul_v2"]
    assert flags == [True, False], "both transpositions are those of matrices"


def two_ways() -> Program:
    """Half of the channels in rows as they are, the other half in another order of rows."""
    b = Builder()
    parts = split(b, linear(b, b.input("x", (-1, ROWS, 8)), 6 * WIDTH), 2, *[WIDTH] * 6)
    swapped = []
    for part in parts[1::2]:
        windows = transpose(b, reshape(b, part, f"{part}.windows", -1, 2, ROWS // 2, WIDTH),
                            f"{part}.swapped", [0, 2, 1, 3])  # fmt: skip
        swapped.append(reshape(b, windows, f"{part}.flat", -1, ROWS, WIDTH))
    outs = [attention(b, *(heads(b, p) for p in way)) for way in (parts[::2], swapped)]
    return b.program(*outs)


def test_parts_that_go_different_ways_come_from_layers_of_their_own(tmp_path: Path) -> None:
    after = same(two_ways(), optimize, folder=tmp_path)
    assert types(after).count("mul") == 2
    widths = [after.params[op.inputs["Y"][0]].shape for op in after.ops if op.type == "mul"]
    assert widths == [(8, 3 * WIDTH)] * 2
    sections = [op.get("sections") for op in after.ops if op.type == "split"]
    assert sections == [[HEADS] * 3] * 2


PASSES = {
    "flip_operands": (flip_operands, by_head),
    "flip_products": (flip_products, beside),
    "layers_apart": (layers_apart, two_ways),
    "move_before_split": (move_before_split, by_number),
}


def test_each_pass_alone_leaves_the_answers(tmp_path: Path) -> None:
    for name, (rule, made) in PASSES.items():
        (tmp_path / name).mkdir()
        program = made()
        join_rearrangements(program)
        drop_dead_code(program)
        assert rule(program.copy()) != []
        same(program, rule, folder=tmp_path / name)


def test_what_else_is_read_is_not_transposed() -> None:
    b = Builder()
    x = b.input("x", (-1, HEADS, ROWS, DEEP))
    turned = transpose(b, x, "turned", [0, 1, 3, 2])
    y = product(b, x, turned, "y")
    assert flip_operands(b.program(y, turned)) == []


def test_parts_that_are_outputs_stay() -> None:
    b = Builder()
    parts = split(b, b.input("x", (-1, ROWS, 2 * WIDTH)), 2, WIDTH, WIDTH)
    assert move_before_split(b.program(*(heads(b, part) for part in parts))) == []


def test_parts_of_no_common_way_stay() -> None:
    b = Builder()
    one, two = split(b, b.input("x", (-1, ROWS, 2 * WIDTH)), 2, WIDTH, WIDTH)
    other = transpose(b, reshape(b, two, "two", -1, 2, 3, WIDTH), "turned", [0, 2, 1, 3])
    outs = [b.op("relu", {"X": [x]}, f"{x}.y", b.vars[x].shape) for x in (heads(b, one), other)]
    assert move_before_split(b.program(*outs)) == []


def windowed(b: Builder, x: str) -> str:
    """A block of a residual network: windows and back, between a norm and a layer."""
    for name in ("scale", "bias"):
        b.param(f"{x}.{name}", (8,))
    inputs = {"X": [x], "Scale": [f"{x}.scale"], "Bias": [f"{x}.bias"]}
    normed = b.op("layer_norm", inputs, f"{x}.normed", (-1, 6, 8), slot="Y", begin_norm_axis=2,
                  epsilon=1e-5)  # fmt: skip
    b.ops[-1].outputs |= {"Mean": [f"{x}.mean"], "Variance": [f"{x}.variance"]}
    for name in ("mean", "variance"):
        b.vars[f"{x}.{name}"] = Var(f"{x}.{name}", "float32", (-1, 6))
    parts = reshape(b, normed, f"{x}.parts", -1, 2, 3, 8)
    turned = transpose(b, parts, f"{x}.turned", [0, 2, 1, 3])
    act = b.op("sigmoid", {"X": [turned]}, f"{x}.act", b.vars[turned].shape)
    back = reshape(b, transpose(b, act, f"{x}.back", [0, 2, 1, 3]), f"{x}.flat", -1, 6, 8)
    joined = b.op("concat", {"X": split(b, back, 2, 4, 4)[::-1]}, f"{x}.joined", (-1, 6, 8), axis=2)
    total = b.op("elementwise_add", {"X": [x], "Y": [joined]}, f"{x}.total", (-1, 6, 8), axis=-1)
    return linear(b, total, 8)


def stream(*, output: bool = False) -> Program:
    b = Builder()
    x = b.op("softmax", {"X": [b.input("x", (-1, 6, 8))]}, "first", (-1, 6, 8), axis=1)
    middle = windowed(b, linear(b, x, 8))
    y = windowed(b, middle)
    last = b.op("softmax", {"X": [y]}, "y", (-1, 6, 8), axis=1)
    return b.program(last, *([middle] if output else []))


def test_a_stream_takes_the_shape_of_its_windows(tmp_path: Path) -> None:
    after = same(stream(), shape_streams, folder=tmp_path)
    settled = after.copy()
    optimize(settled)
    shapes = [op.get("shape") for op in settled.ops if op.type == "reshape2"]
    assert shapes == [[-1, 2, 3, 8], [-1, 6, 8]], "where it begins and where it ends"
    assert {op.get("begin_norm_axis") for op in after.ops if op.type == "layer_norm"} == {3}
    assert {op.get("x_num_col_dims") for op in after.ops if op.type == "mul"} == {3}


def test_a_stream_that_is_an_output_keeps_its_shape() -> None:
    assert shape_streams(stream(output=True)) == []


def test_random_attention_stays_what_it_is() -> None:
    """Sizes of one: where dimensions look alike, nothing may be taken for another."""
    for sizes in np.ndindex(2, 2, 2):
        n, rows, deep = (1 + s for s in sizes)
        b = Builder()
        x = b.input("x", (-1, rows, 3 * n * deep))
        parts = split(b, x, 2, *[n * deep] * 3)
        each = [transpose(b, reshape(b, p, f"{p}.r", -1, rows, n, deep), f"{p}.h", [0, 2, 1, 3])
                for p in parts]  # fmt: skip
        maps = product(b, each[0], each[1], "maps", y_t=True)
        program = b.program(product(b, maps, each[2], "y"))
        optimize(program)
        assert optimize(program) == []
