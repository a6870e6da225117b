"""The graph optimizer: each pass on the smallest program that needs it, and on the server engine
before and after."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.model.load import stage
from lite_opt.model.program import Block, Op, Program, Var
from lite_opt.passes.affine import fold_affine, fold_attention_scale
from lite_opt.passes.arguments import constant_arguments, static_reshapes
from lite_opt.passes.duplicates import share_results
from lite_opt.passes.elementwise import whole_operands
from lite_opt.passes.evaluate import evaluate
from lite_opt.passes.identities import drop_identities, dropouts_to_scale
from lite_opt.passes.layout import patches_to_transpose
from lite_opt.passes.linear import matmul_to_mul
from lite_opt.passes.rearrange import join_rearrangements
from lite_opt.passes.repair import Effect, optimize, repair
from lite_opt.passes.rule import Rule
from lite_opt.passes.server import unsure
from lite_opt.passes.slices import crops_to_padding, join_splits, slices_to_splits
from py_runner.errors import UsageError
from py_runner.inference import run
from py_runner.tensors import Model, Sample

Builder = make_model.Builder
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def types(program: Program) -> list[str]:
    return [op.type for op in program.ops if op.type not in ("feed", "fetch")]


def answers(program: Program, samples: list[Sample], folder: Path) -> list[list[np.ndarray]]:
    folder.mkdir()
    files = stage(program, folder)
    assert files.params is not None
    model = Model("m", "", "fp32", (files.model, files.params), tuple(program.inputs))
    return [list(values) for values in run(model, samples, engine="paddle").outputs.values()]


def same(
    program: Program, *rules: Rule, folder: Path, batches: tuple[int, ...] = (1, 3)
) -> Program:
    """Apply rules, and see that the server answers the same as before, for batches of any size."""
    random = np.random.default_rng(0)
    (spec,) = program.inputs
    samples = [
        Sample(str(n), {spec.name: random.standard_normal([n, *spec.shape[1:]]).astype("float32")})
        for n in batches
    ]
    after = program.copy()
    for rule in rules:
        rule(after)
    assert rules[-1](after.copy()) == [], "it finds work on its own result"
    before = answers(program, samples, folder / "before")
    for one, two in zip(before, answers(after, samples, folder / "after")):
        for left, right in zip(one, two):
            assert left.shape == right.shape
            assert np.abs(left - right).max() <= 2e-6 * np.abs(left).max()
    return after


def transpose(b: Builder, x: str, out: str, order: list[int]) -> str:
    shape = b.vars[x].shape
    return b.op("transpose2", {"X": [x]}, out, tuple(shape[i] for i in order), axis=order)


def reshape(b: Builder, x: str, out: str, *shape: int) -> str:
    return b.op("reshape2", {"X": [x]}, out, shape, shape=list(shape))


def test_what_no_input_changes_is_computed_beforehand(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    table = b.param("table", (9, 4))
    b.op("assign_value", {}, "index", (6,), out_dtype="int32", shape=[6], dtype=2,
         int32_values=[3, 1, 4, 1, 5, 0])  # fmt: skip
    rows = b.op("gather", {"X": [table], "Index": ["index"]}, "rows", (6, 4), axis=0)
    halves = b.op("scale", {"X": [rows]}, "half", (6, 4), scale=0.5, bias=0.1,
                  bias_after_scale=True)  # fmt: skip
    twin = b.op("scale", {"X": [rows]}, "twin", (6, 4), scale=0.5, bias=0.1, bias_after_scale=True)
    one = b.op("elementwise_add", {"X": [x], "Y": [halves]}, "one", (-1, 6, 4), axis=-1)
    two = b.op("elementwise_add", {"X": [one], "Y": [twin]}, "two", (-1, 6, 4), axis=-1)
    after = same(b.program(two), evaluate, folder=tmp_path)
    assert types(after) == ["elementwise_add", "elementwise_add"]
    one_, two_ = (op for op in after.ops if op.type == "elementwise_add")
    assert one_.input("Y") == two_.input("Y"), "equal constants are one parameter"


def test_what_depends_on_an_input_or_on_chance_is_not_computed(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 4))
    noise = b.op("gaussian_random", {}, "noise", (4,), shape=[4], mean=0.0, std=1.0, dtype=5)
    b.ops[-1].set("shape", [4], "LONGS")
    b.op("shape", {"Input": [x]}, "shape", (2,), out_dtype="int32")
    y = b.op("elementwise_add", {"X": [x], "Y": [noise]}, "y", (-1, 4), axis=-1)
    program = b.program(y, "shape")
    assert evaluate(program) == []


def test_what_would_swell_stays(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 1))
    big = b.op("fill_constant", {}, "big", (1024, 1024), shape=[1024, 1024], value=2.0, dtype=5)
    b.ops[-1].set("shape", [1024, 1024], "LONGS")
    y = b.op("elementwise_mul", {"X": [big], "Y": [x]}, "y", (1024, 1024), axis=-1)
    assert evaluate(b.program(y)) == []


def test_shapes_that_the_exporter_left_open_are_asked_of_the_server(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    b.op("shape", {"Input": [x]}, "shape", (3,), out_dtype="int32")
    b.op("slice", {"Input": ["shape"]}, "batch", (), out_dtype="int32", axes=[0], starts=[0],
         ends=[1], decrease_axis=[0], infer_flags=[1])  # fmt: skip
    for name, value in (("rest", -1), ("two", 2)):
        b.op("fill_constant", {}, name, (1,), out_dtype="int32", dtype=2, value=float(value),
             str_value=str(value))  # fmt: skip
        b.ops[-1].set("shape", [1], "LONGS")
    inputs = {"X": [x], "ShapeTensor": ["batch", "rest", "two"]}
    y = b.op("reshape2", inputs, "y", (-1, -1, 2), shape=[-1, -1, 2])
    rules = (evaluate, constant_arguments, static_reshapes)
    after = same(b.program(y), *rules, folder=tmp_path)
    reshapes = [op for op in after.ops if op.type == "reshape2"]
    assert reshapes[0].get("shape") == [-1, 12, 2]
    assert set(reshapes[0].inputs) == {"X"}


def test_a_shape_that_numbers_decide_is_not_asked_of_the_server() -> None:
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    b.op("cast", {"X": [x]}, "whole", (-1, 6, 4), in_dtype=5)
    b.ops[-1].set("out_dtype", 2)
    b.vars["whole"].dtype = "int32"
    b.op("slice", {"Input": ["whole"]}, "two", (2,), out_dtype="int32", axes=[0, 1, 2],
         starts=[0, 0, 0], ends=[1, 1, 2], decrease_axis=[0, 1], infer_flags=[1] * 3)  # fmt: skip
    y = b.op("reshape2", {"X": [x], "ShapeTensor": ["two"]}, "y", (-1, -1), shape=[-1, -1])
    assert unsure(b.program(y)) == []


def cast(b: Builder, x: str, out: str) -> str:
    b.op("cast", {"X": [x]}, out, b.vars[x].shape, in_dtype=5)
    b.ops[-1].set("out_dtype", 5)
    return out


def identity(kind: str, b: Builder, x: str) -> None:
    shape = b.vars[x].shape
    fill = {"zeros": np.zeros(shape[1:], "float32"), "ones": np.ones(shape[1:], "float32")}
    for name, value in fill.items():
        b.param(name, value.shape)
        b.params[name] = value
    made: dict[str, Callable[[], object]] = {
        "assign": lambda: b.op("assign", {"X": [x]}, "i", shape),
        "add": lambda: b.op("elementwise_add", {"X": [x], "Y": ["zeros"]}, "i", shape, axis=-1),
        "cast": lambda: cast(b, x, "i"),
        "concat": lambda: b.op("concat", {"X": [x]}, "i", shape, axis=1),
        "multiply": lambda: b.op("elementwise_mul", {"X": [x], "Y": ["ones"]}, "i", shape, axis=-1),
        "pad": lambda: b.op("pad3d", {"X": [x]}, "i", shape, paddings=[0] * 6, mode="constant",
                            value=0.0, data_format="NCDHW"),
        "scale": lambda: b.op("scale", {"X": [x]}, "i", shape, scale=1.0, bias=0.0),
        "slice": lambda: b.op("slice", {"Input": [x]}, "i", shape, axes=[1], starts=[0],
                              ends=[2**31 - 1], decrease_axis=[], infer_flags=[1]),
        "transpose": lambda: transpose(b, x, "i", list(range(len(shape)))),
        "reshape": lambda: reshape(b, x, "i", *shape),
    }  # fmt: skip
    made[kind]()


KINDS = ["assign", "add", "cast", "concat", "multiply", "scale", "slice", "transpose", "reshape"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_identity_goes(kind: str) -> None:
    b = Builder()
    x = b.input("x", (-1, 3, 4))
    identity(kind, b, x)
    y = b.op("relu", {"X": ["i"]}, "y", (-1, 3, 4))
    program = b.program(y)
    assert len(drop_identities(program)) == 1
    assert types(program) == ["relu"] and program.ops[1].input("X") == "x"


def near(kind: str, b: Builder, x: str) -> None:
    """Operators that look like identities, and change something."""
    shape = b.vars[x].shape
    if kind == "scale":
        b.op("scale", {"X": [x]}, "i", shape, scale=1.0, bias=1e-3)
    elif kind == "slice":
        b.op("slice", {"Input": [x]}, "i", (-1, 2, 4), axes=[1], starts=[1], ends=[3],
             decrease_axis=[], infer_flags=[1])  # fmt: skip
    elif kind == "add":
        b.param("rows", (3, 3, 4))
        b.params["rows"] = np.zeros((3, 3, 4), "float32")  # it makes three of a batch of one
        b.op("elementwise_add", {"X": [x], "Y": ["rows"]}, "i", (3, 3, 4), axis=-1)
    elif kind == "reshape":
        reshape(b, x, "i", -1, 4, 3)
    else:
        transpose(b, x, "i", [0, 2, 1])


@pytest.mark.parametrize("kind", ["scale", "slice", "add", "reshape", "transpose"])
def test_what_changes_something_stays(kind: str) -> None:
    b = Builder()
    near(kind, b, b.input("x", (-1, 3, 4)))
    y = b.op("relu", {"X": ["i"]}, "y", b.vars["i"].shape)
    assert drop_identities(b.program(y)) == []


def test_a_batch_that_is_repeated_stays_repeated() -> None:
    b = Builder()
    x = b.input("x", (-1, 3))
    b.op("tile", {"X": [x]}, "i", (-1, 3), repeat_times=[2, 1])
    y = b.op("relu", {"X": ["i"]}, "y", (-1, 3))
    assert drop_identities(b.program(y)) == []


def test_a_sum_that_adds_axes_is_no_bias() -> None:
    b = Builder()
    x = b.input("x", (-1, 4))
    y = b.op("mul", {"X": [x], "Y": [b.param("w", (4, 8))]}, "y", (-1, 8), x_num_col_dims=1,
             y_num_col_dims=1)  # fmt: skip
    shape = (1, -1, 8)
    scaled = {"X": [y], "Y": [b.param("s", (1, 1, 1))]}
    z = b.op("elementwise_mul", scaled, "z", shape, axis=-1)
    assert fold_affine(b.program(b.op("relu", {"X": [z]}, "out", shape))) == []


def test_an_output_keeps_its_operator() -> None:
    b = Builder()
    identity("assign", b, b.input("x", (-1, 3, 4)))
    assert drop_identities(b.program("i")) == []


@pytest.mark.parametrize("kind", ["upscale_in_train", "downgrade_in_infer"])
def test_dropout_is_a_scale(kind: str, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 5))
    y = b.op("dropout", {"X": [x]}, "y", (-1, 5), dropout_prob=0.3, is_test=True,
             dropout_implementation=kind)  # fmt: skip
    b.ops[-1].outputs["Mask"] = ["mask"]
    b.vars["mask"] = Var("mask", "uint8", (-1, 5))
    after = same(b.program(y), dropouts_to_scale, folder=tmp_path, batches=(2,))
    (scale,) = (op for op in after.ops if op.type == "scale")
    assert scale.get("scale") == pytest.approx(1.0 if kind == "upscale_in_train" else 0.7)


def chain(*steps: tuple[str, list[int]], shape: tuple[int, ...]) -> Program:
    b = Builder()
    x = b.input("x", shape)
    for n, (kind, numbers) in enumerate(steps):
        x = reshape(b, x, f"v{n}", *numbers) if kind == "r" else transpose(b, x, f"v{n}", numbers)
    return b.program(b.op("relu", {"X": [x]}, "y", b.vars[x].shape))


CHAINS = {
    "reshapes join": ([("r", [-1, 12]), ("r", [-1, 3, 4]), ("r", [-1, 4, 3])], (-1, 2, 6), "r"),
    "reshapes of no common cut": ([("r", [-1, 12]), ("r", [-1, 3, 4])], (-1, 2, 6), "r"),
    "transpositions undo": ([("t", [0, 2, 1]), ("t", [0, 2, 1])], (-1, 2, 6), "r"),
    "transpositions multiply": ([("t", [0, 2, 1, 3]), ("t", [0, 1, 3, 2])], (-1, 2, 3, 4), "t"),
    "through a reshape": (
        [("r", [-1, 4, 2, 3]), ("t", [0, 2, 1, 3]), ("r", [-1, 2, 12]), ("t", [0, 2, 1]),
         ("r", [-1, 4, 3, 2])],
        (-1, 8, 3), "rtr",
    ),
    "windows and back": (
        [("r", [-1, 2, 3, 2, 3, 5]), ("t", [0, 1, 3, 2, 4, 5]), ("r", [-1, 9, 5]),
         ("r", [-1, 2, 2, 3, 3, 5]), ("t", [0, 1, 3, 2, 4, 5]), ("r", [-1, 6, 6, 5])],
        (-1, 6, 6, 5), "r",
    ),
}  # fmt: skip


def test_two_shuffles_are_one_that_lite_knows(tmp_path: Path) -> None:
    def shuffle(first: int, second: int) -> list[tuple[str, list[int]]]:
        return [("r", [-1, first, second, 2, 2]), ("t", [0, 2, 1, 3, 4]), ("r", [-1, 12, 2, 2])]

    program = chain(*shuffle(2, 6), *shuffle(2, 6), shape=(-1, 12, 2, 2))
    after = same(program, optimize, folder=tmp_path)
    assert types(after) == ["reshape2", "transpose2", "reshape2", "relu"]
    first, moved, _ = (op for op in after.ops if op.type in ("reshape2", "transpose2"))
    assert first.get("shape") == [-1, 4, 3, 2, 2] and moved.get("axis") == [0, 2, 1, 3, 4]


@pytest.mark.parametrize("name", CHAINS)
def test_rearrangements_join(name: str, tmp_path: Path) -> None:
    steps, shape, left = CHAINS[name]
    after = same(chain(*steps, shape=shape), optimize, folder=tmp_path)
    short = {"reshape2": "r", "transpose2": "t"}
    made = "".join(short[kind] for kind in types(after)[:-1])
    assert len(made) <= len(left) and made.count("t") <= left.count("t")


def test_random_rearrangements_stay_what_they_are(tmp_path: Path) -> None:
    """Chains of random reshapes and transpositions of 72 elements, all in one program."""
    random = np.random.default_rng(7)
    b = Builder()
    x = b.input("x", (-1, 2, 3, 3, 4))
    factors, outs = [2, 2, 2, 3, 3], []
    for n in range(40):
        name, shape = x, list(b.vars[x].shape)
        for step in range(int(random.integers(2, 7))):
            if step % 2:
                order = [0, *(1 + random.permutation(len(shape) - 1))]
                name = transpose(b, name, f"t{n}.{step}", [int(i) for i in order])
            else:
                sizes = list(random.permutation(factors))
                while len(sizes) > 4 or (len(sizes) > 2 and random.random() < 0.3):
                    at = int(random.integers(len(sizes) - 1))
                    sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
                name = reshape(b, name, f"r{n}.{step}", -1, *(int(s) for s in sizes))
            shape = list(b.vars[name].shape)
        outs.append(b.op("relu", {"X": [name]}, f"y{n}", b.vars[name].shape))
    program = b.program(*outs)
    after = same(program, optimize, folder=tmp_path)
    assert len(after.ops) < len(program.ops)


def normed(b: Builder, x: str, width: int, rows: int) -> str:
    flat = reshape(b, x, "flat", -1, width)
    slots = {"Mean": "mean", "Variance": "var", "Scale": "gamma", "Bias": "beta"}
    for name in slots.values():
        b.param(name, (width,))
    b.params["var"] = np.abs(b.params["var"]) + np.float32(0.5)
    out = b.op("batch_norm", {"X": [flat], **{s: [n] for s, n in slots.items()}}, "normed",
               (-1, width), slot="Y", epsilon=1e-5, is_test=True, data_layout="NCHW",
               use_global_stats=False, momentum=0.9)  # fmt: skip
    b.ops[-1].outputs.update({"MeanOut": ["mean"], "VarianceOut": ["var"]})
    for slot in ("SavedMean", "SavedVariance"):
        b.ops[-1].outputs[slot] = [slot]
        b.vars[slot] = Var(slot, "float32", (width,))
    return reshape(b, out, "rows", -1, rows, width)


@pytest.mark.parametrize("biased", [False, True])
def test_a_norm_behind_a_linear_layer_goes_into_its_weights(biased: bool, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    y = b.op("matmul_v2", {"X": [x], "Y": [b.param("w", (4, 8))]}, "y", (-1, 6, 8),
             trans_x=False, trans_y=False)  # fmt: skip
    if biased:
        y = b.op("elementwise_add", {"X": [y], "Y": [b.param("b", (8,))]}, "yb", (-1, 6, 8), axis=2)
    y = b.op("relu", {"X": [normed(b, y, 8, 6)]}, "out", (-1, 6, 8))
    after = same(b.program(y), matmul_to_mul, optimize, folder=tmp_path)
    assert types(after) == ["mul", "elementwise_add", "relu"]


def test_a_norm_whose_input_others_read_stays(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 4))
    y = b.op("mul", {"X": [x], "Y": [b.param("w", (4, 8))]}, "y", (-1, 8), x_num_col_dims=1,
             y_num_col_dims=1)  # fmt: skip
    z = b.op("scale", {"X": [y]}, "z", (-1, 8), scale=3.0, bias=0.5, bias_after_scale=False)
    out = b.op("elementwise_add", {"X": [y], "Y": [z]}, "out", (-1, 8), axis=-1)
    assert fold_affine(b.program(out)) == []


def attention(*, overlap: bool = False) -> Program:
    """Two heads of width 4 over 6 tokens; the queries are scaled behind the product."""
    b = Builder()
    x = b.input("x", (-1, 6, 8))
    qkv = b.op("mul", {"X": [x], "Y": [b.param("w", (8, 24))]}, "qkv", (-1, 6, 24),
               x_num_col_dims=2, y_num_col_dims=1)  # fmt: skip
    qkv = b.op("elementwise_add", {"X": [qkv], "Y": [b.param("b", (24,))]}, "qkvb", (-1, 6, 24),
               axis=2)  # fmt: skip
    parts = reshape(b, qkv, "parts", -1, 6, 3, 2, 4)
    parts = transpose(b, parts, "heads", [2, 0, 3, 1, 4])
    q, k, v = (
        b.op("slice", {"Input": [parts]}, name, (-1, 2, 6, 4), axes=[0], starts=[start],
             ends=[start + 1], decrease_axis=[0], infer_flags=[1])
        for name, start in (("q", 0), ("k", 0 if overlap else 1), ("v", 2))
    )  # fmt: skip
    maps = b.op("matmul_v2", {"X": [q], "Y": [k]}, "maps", (-1, 2, 6, 6), trans_x=False,
                trans_y=True)  # fmt: skip
    maps = b.op("scale", {"X": [maps]}, "scaled", (-1, 2, 6, 6), scale=0.5, bias=0.0)
    maps = b.op("softmax", {"X": [maps]}, "soft", (-1, 2, 6, 6), axis=-1)
    out = b.op("matmul_v2", {"X": [maps], "Y": [v]}, "out", (-1, 2, 6, 4), trans_x=False,
               trans_y=False)  # fmt: skip
    return b.program(out)


def test_the_scale_of_attention_goes_into_the_weights_of_its_queries(tmp_path: Path) -> None:
    after = same(attention(), fold_attention_scale, folder=tmp_path)
    assert "scale" not in types(after)


def test_a_scale_stays_where_keys_are_of_the_same_columns() -> None:
    assert fold_attention_scale(attention(overlap=True)) == []


def test_what_is_computed_twice_is_computed_once() -> None:
    b = Builder()
    x = b.input("x", (-1, 4))
    for name, limit in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        b.op("clip", {"X": [x]}, name, (-1, 4), min=-1.0, max=limit)
    one = b.op("elementwise_add", {"X": ["a"], "Y": ["b"]}, "one", (-1, 4), axis=-1)
    two = b.op("elementwise_add", {"X": [one], "Y": ["c"]}, "two", (-1, 4), axis=-1)
    program = b.program(two)
    assert len(share_results(program)) == 1
    assert types(program) == ["clip", "clip", "elementwise_add", "elementwise_add"]
    assert program.ops[3].inputs == {"X": ["a"], "Y": ["a"]}


@pytest.mark.parametrize("type_", ["randint", "gaussian_random", "bernoulli"])
def test_what_chance_decides_is_not_shared(type_: str) -> None:
    b = Builder()
    x = b.input("x", (-1, 4))
    for name in ("a", "b"):
        b.op(type_, {"X": [x]} if type_ == "bernoulli" else {}, name, (4,))
    y = b.op("elementwise_add", {"X": ["a"], "Y": ["b"]}, "y", (4,))
    assert share_results(b.program(y)) == []


def merged(*, nchw: bool, order: list[tuple[int, int]]) -> Program:
    b = Builder()
    axes, channels = ([2, 3], 1) if nchw else ([1, 2], 3)
    shape = (-1, 3, 4, 6) if nchw else (-1, 4, 6, 3)
    x = b.input("x", shape)
    part = tuple(d // 2 if a in axes else d for a, d in enumerate(shape))
    part = (-1, *part[1:])
    names = [
        b.op("strided_slice", {"Input": [x]}, f"s{n}", part, axes=axes, starts=list(start),
             ends=[2**31 - 1] * 2, strides=[2, 2], infer_flags=[1, 1], decrease_axis=[])
        for n, start in enumerate(order)
    ]  # fmt: skip
    out = tuple(d * 4 if a == channels else d for a, d in enumerate(part))
    y = b.op("concat", {"X": names}, "joined", out, axis=channels if nchw else -1)
    return b.program(b.op("relu", {"X": [y]}, "y", out))


@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize(
    "order", [[(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]]
)
def test_patches_are_a_transposition(
    nchw: bool, order: list[tuple[int, int]], tmp_path: Path
) -> None:
    after = same(merged(nchw=nchw, order=order), optimize, folder=tmp_path)
    assert types(after) == ["reshape2", "transpose2", "reshape2", "relu"]


def test_slices_in_no_order_or_not_all_of_them_stay() -> None:
    no_order = merged(nchw=True, order=[(0, 0), (1, 1), (0, 1), (1, 0)])
    twice = merged(nchw=True, order=[(0, 0), (0, 1), (0, 0), (0, 1)])
    assert patches_to_transpose(no_order) == patches_to_transpose(twice) == []


def test_rules_do_not_touch_what_a_loop_changes() -> None:
    b = Builder()
    identity("assign", b, b.input("x", (-1, 3, 4)))
    program = b.program(b.op("relu", {"X": ["i"]}, "y", (-1, 3, 4)))
    program.ops.insert(2, Op("increment", {"X": ["i"]}, {"Out": ["i"]}))
    assert drop_identities(program) == [] and join_rearrangements(program) == []


def test_slices_around_a_change_are_not_one_split() -> None:
    program = sliced((0, 2), (2, 6))
    first = next(i for i, op in enumerate(program.ops) if op.type == "slice")
    program.ops.insert(first + 1, Op("increment", {"X": ["x"]}, {"Out": ["x"]}))
    assert slices_to_splits(program) == []


def test_a_chain_ends_where_a_loop_changes_what_it_holds() -> None:
    steps, shape, _ = CHAINS["transpositions undo"]
    program = chain(*steps, shape=shape)
    program.blocks.append(Block(1, 0, {}, [Op("increment", {"X": ["v0"]}, {"Out": ["v0"]})]))
    assert join_rearrangements(program) == []


def cropped(*, pads: list[int], start: int, stride: int = 2, both: bool = False) -> Program:
    """A depthwise convolution of [N,4,11,11] by 3x3, of which the first rows and columns go."""
    b = Builder()
    x = b.input("x", (-1, 4, 11, 11))
    whole = pads if len(pads) == 4 else [p for p in pads for _ in range(2)]
    side = [(11 + whole[i] + whole[i + 1] - 3) // stride + 1 for i in (0, 2)]
    conv = b.op(
        "depthwise_conv2d", {"Input": [x], "Filter": [b.param("w", (4, 1, 3, 3))]}, "conv",
        (-1, 4, *side), slot="Output", strides=[stride, stride], paddings=pads, dilations=[1, 1],
        groups=4, padding_algorithm="EXPLICIT", data_format="NCHW",
    )  # fmt: skip
    cut = b.op(
        "slice", {"Input": [conv]}, "cut", (-1, 4, *(s - start for s in side)), axes=[2, 3],
        starts=[start, start], ends=[2**31 - 1] * 2, decrease_axis=[], infer_flags=[1, 1],
    )  # fmt: skip
    out = b.op("relu", {"X": [cut]}, "out", b.vars[cut].shape)
    return b.program(out, *([conv] if both else []))


@pytest.mark.parametrize(
    ("pads", "start", "stride", "left"),
    [
        ([2, 2], 1, 2, [0, 2, 0, 2]),
        ([3, 1, 2, 2], 1, 2, [1, 1, 0, 2]),
        ([3, 3], 2, 1, [1, 3, 1, 3]),
    ],
)
def test_a_crop_is_less_padding(
    pads: list[int], start: int, stride: int, left: list[int], tmp_path: Path
) -> None:
    program = cropped(pads=pads, start=start, stride=stride)
    after = same(program, crops_to_padding, folder=tmp_path)
    assert types(after) == ["depthwise_conv2d", "relu"]
    conv = next(op for op in after.ops if op.type == "depthwise_conv2d")
    assert conv.get("paddings") == left


def test_a_crop_of_more_than_is_padded_or_that_others_see_stays() -> None:
    assert crops_to_padding(cropped(pads=[1, 1], start=1)) == []
    assert crops_to_padding(cropped(pads=[2, 2], start=1, both=True)) == []


def sliced(*ranges: tuple[int, int], axis: int = 1, gone: bool = False) -> Program:
    b = Builder()
    x = b.input("x", (-1, 6, 4))
    outs = []
    for n, (start, end) in enumerate(ranges):
        shape = [-1, 6, 4]
        shape[axis] = (end + 6 if end < 0 else min(end, 6)) - (start + 6 if start < 0 else start)
        if gone:
            del shape[axis]
        part = b.op(
            "slice", {"Input": [x]}, f"s{n}", tuple(shape), axes=[axis], starts=[start],
            ends=[end], decrease_axis=[axis] if gone else [], infer_flags=[1],
        )  # fmt: skip
        outs.append(b.op("relu", {"X": [part]}, f"y{n}", tuple(shape)))
    return b.program(*outs)


@pytest.mark.parametrize(
    ("ranges", "gone", "sections"),
    [
        ([(0, 2), (2, 6)], False, [2, 4]),
        ([(4, 6), (0, 1)], False, [1, 3, 2]),
        ([(-2, 2**31 - 1)], False, [4, 2]),
        ([(1, 2), (3, 4), (0, 1)], True, [1, 1, 1, 1, 2]),
    ],
)
def test_slices_are_a_split(
    ranges: list[tuple[int, int]], gone: bool, sections: list[int], tmp_path: Path
) -> None:
    after = same(sliced(*ranges, gone=gone), slices_to_splits, folder=tmp_path)
    (split,) = (op for op in after.ops if op.type == "split")
    assert split.get("sections") == sections and "slice" not in types(after)


def split_of(
    b: Builder, x: str, sizes: list[int], *, axis: int, by: str, shape: tuple[int, ...]
) -> list[str]:
    """Add a split of x, of that shape, into parts of these sizes; their names."""
    names = [f"{by}{i}" for i in range(len(sizes))]
    b.op("split", {"X": [x]}, names[0], shape, axis=axis, num=0, sections=sizes)
    b.ops[-1].outputs["Out"] = list(names)
    for name, size in zip(names, sizes):
        b.vars[name] = Var(name, "float32", (*shape[:axis], size, *shape[axis + 1 :]))
    return names


@pytest.mark.parametrize("deep", [False, True])
def test_splits_of_a_split_are_one(deep: bool, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 5, 12))
    one, two, three = split_of(b, x, [6, 2, 4], axis=2, by="a", shape=(-1, 5, 12))
    inner = split_of(b, three, [1, 3], axis=2, by="c", shape=(-1, 5, 4))
    first = split_of(b, one, [2, 4], axis=2, by="b", shape=(-1, 5, 6))
    if deep:
        first[1:] = split_of(b, first[1], [3, 1], axis=2, by="d", shape=(-1, 5, 4))
    outs = [*first, two, *inner]
    # A chain reads each, so that none is an output itself.
    done = [b.op("relu", {"X": [n]}, f"{n}.out", b.vars[n].shape) for n in outs]
    after = same(b.program(*done), join_splits, folder=tmp_path)
    (split,) = (op for op in after.ops if op.type == "split")
    assert split.outputs["Out"] == outs and (split.get("axis"), split.get("num")) == (2, 0)
    assert split.get("sections") == ([2, 3, 1, 2, 1, 3] if deep else [2, 4, 2, 1, 3])


@pytest.mark.parametrize("why", ["another axis", "read by others"])
def test_splits_that_stay(why: str) -> None:
    b = Builder()
    x = b.input("x", (-1, 6, 12))
    one, two = split_of(b, x, [6, 6], axis=2, by="a", shape=(-1, 6, 12))
    axis = 1 if why == "another axis" else 2
    parts = split_of(b, one, [2, 4], axis=axis, by="b", shape=(-1, 6, 6))
    kept = [one] if why == "read by others" else []
    assert join_splits(b.program(two, *parts, *kept)) == []


def test_slices_that_overlap_stay() -> None:
    assert slices_to_splits(sliced((0, 3), (2, 6))) == []


def test_a_parameter_gets_the_rank_of_its_other_operand(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (-1, 3, 4))
    one = b.op(
        "elementwise_add", {"X": [x], "Y": [b.param("m", (3, 4))]}, "one", (-1, 3, 4), axis=-1
    )
    two = b.op(
        "elementwise_mul", {"X": [one], "Y": [b.param("v", (4,))]}, "two", (-1, 3, 4), axis=-1
    )
    after = same(b.program(two), whole_operands, folder=tmp_path)
    shapes = [after.params[op.inputs["Y"][0]].shape for op in after.ops if "elementwise" in op.type]
    assert shapes == [(1, 3, 4), (4,)]


def test_a_pass_can_be_left_out_and_says_what_it_did() -> None:
    steps, shape, _ = CHAINS["windows and back"]
    effects: list[Effect] = []
    program = chain(*steps, shape=shape)
    before = len(program.ops)
    repair(program, effects=effects)
    (effect,) = (e for e in effects if e.rule == "join_rearrangements")
    assert effect.changes >= 1 and sum(e.operators for e in effects) == len(program.ops) - before
    left = chain(*steps, shape=shape)
    repair(left, without=["join_rearrangements"])
    assert len(left.ops) == before > len(program.ops)
    with pytest.raises(UsageError, match="no pass 'add_xshape' that can be left out"):
        repair(left, without=["add_xshape"])


def test_the_table_of_passes_is_that_of_their_docstrings() -> None:
    spec = importlib.util.spec_from_file_location("passes", BENCHMARKS / "passes.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (BENCHMARKS.parent / "docs" / "passes.md").read_text() == script.page()


@pytest.mark.parametrize("known", [True, False])
def test_prior_boxes_of_known_sizes_are_numbers(known: bool, tmp_path: Path) -> None:
    """Lite's are off where sizes are fractional; Paddle's are of the sizes alone."""
    b = Builder()
    side = 4 if known else -1
    x = b.input("x", (-1, 12, side, side))
    boxes = b.op(
        "prior_box", {"Input": [x], "Image": [x]}, "boxes", (side, side, 3, 4), slot="Boxes",
        min_sizes=[1.3], max_sizes=[], aspect_ratios=[2.0], variances=[0.1, 0.1, 0.2, 0.2],
        flip=True, clip=False, step_w=1.07, step_h=1.07, offset=0.5,
        min_max_aspect_ratios_order=False,
    )  # fmt: skip
    b.ops[-1].set("max_sizes", [], "FLOATS")
    b.ops[-1].outputs["Variances"] = ["spread"]
    b.vars["spread"] = replace(b.vars["boxes"], name="spread")
    row, table = reshape(b, x, "row", -1, 192), reshape(b, boxes, "table", 1, 192)
    y = b.op("elementwise_add", {"X": [row], "Y": [table]}, "y", (-1, 192), axis=-1)
    program = b.program(y)
    if known:
        assert types(same(program, evaluate, folder=tmp_path)) == ["reshape2", "elementwise_add"]
    else:
        assert evaluate(program) == []
