"""Programs that compute on the server what kernels of other numbers would."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest
from make_int8 import on_server, repaired, samples_of
from operators.trial import board_is_here, on_lite

from lite_opt.model.load import load
from lite_opt.model.program import Op, Program
from lite_opt.quant.operators import is_quantized
from lite_opt.quant.simulate import (
    ESTIMATED,
    approximated,
    dequantized,
    fake_fp16,
    nearest,
    nearest_values,
)
from lite_opt.recipes import RECIPES
from py_runner.errors import ConvertError
from py_runner.tensors import Sample


def test_fake_fp16_rounds_to_16_bits(model: Path, tmp_path: Path) -> None:
    program = repaired(load(model))
    samples = samples_of(program, 2)
    answers = on_server(fake_fp16(program), samples, tmp_path / "h", "fp16")
    exact = on_server(program, samples, tmp_path / "f", "fp32")
    for half, full in zip(*(next(iter(r.outputs.values())) for r in (answers, exact))):
        assert np.array_equal(half, half.astype(np.float16).astype(np.float32))
        assert 0 < np.abs(half - full).max() < 2e-3


def one_operator(kind: str, slots: tuple[str, str], weight: np.ndarray, **attrs: object) -> Program:
    """A program of that operator alone; nobody runs it."""
    program = make_model.classifier()
    op = Op(kind, {slots[0]: ["x"], slots[1]: ["w"]}, {"Out": ["y"]})
    for name, value in attrs.items():
        op.set(name, value)
    program.blocks[0].ops = [op]
    program.params = {}
    program.set_param("w", weight)
    return program


@pytest.mark.parametrize(
    ("kind", "slots", "attrs", "channels", "recipes"),
    [
        ("conv2d", ("Input", "Filter"), {}, 0, "weights static"),
        ("depthwise_conv2d", ("Input", "Filter"), {}, 0, "static"),
        ("conv2d_transpose", ("Input", "Filter"), {}, 1, "static"),
        ("mul", ("X", "Y"), {}, 1, "weights static"),
        ("matmul", ("X", "Y"), {"transpose_Y": False}, 1, "weights static"),
        ("matmul", ("X", "Y"), {"transpose_Y": True}, 0, "weights static"),
        ("matmul_v2", ("X", "Y"), {}, 1, "weights static"),
        ("matmul_v2", ("X", "Y"), {"trans_y": True}, 0, "weights static"),
        ("lookup_table", ("Ids", "W"), {}, 1, "weights"),
        ("lookup_table_v2", ("Ids", "W"), {}, 1, ""),
        ("elementwise_add", ("X", "Y"), {}, 1, ""),
        ("matmul_v2", ("Y", "X"), {}, 1, ""),  # not where the weights are
    ],
)
def test_what_is_rounded_to_the_nearest(
    kind: str, slots: tuple[str, str], attrs: dict[str, bool], channels: int, recipes: str
) -> None:
    shape = (6, 4, 3, 3) if "conv" in kind else (6, 4)
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    program = one_operator(kind, slots, weight, **attrs)
    others = tuple(axis for axis in range(weight.ndim) if axis != channels)
    for name, most, word in (
        ("int8-weights", 127, "weights"), ("int16-weights", 32767, "weights"),
        ("int8", 127, "static"),
    ):  # fmt: skip
        rounded = nearest(program, RECIPES[name])
        if word not in recipes.split():
            assert rounded == {}
            continue
        step = np.abs(weight).max(others, keepdims=True) / most
        assert rounded["w"].dtype == np.float32
        assert np.allclose(rounded["w"], np.rint(weight / step) * step, rtol=0, atol=1e-6)
        assert not np.array_equal(rounded["w"], weight)
    assert nearest(program, RECIPES["fp32"]) == {}
    half = nearest(program, RECIPES["fp16"])["w"]
    assert np.array_equal(half, weight.astype(np.float16).astype(np.float32))
    assert program.params["w"] is weight


def test_what_is_not_rounded() -> None:
    vector = np.full(4, 0.3, np.float32)
    for value in (vector, np.ones((2, 2), np.int64)):
        program = one_operator("mul", ("X", "Y"), value)
        assert all(nearest(program, recipe) == {} for recipe in RECIPES.values())
    zero = one_operator("mul", ("X", "Y"), np.zeros((2, 2), np.float32))
    assert not nearest(zero, RECIPES["int8"])["w"].any()


def test_activations_have_one_scale_for_all_samples() -> None:
    values = [np.array([0.1, -1.0], np.float32), np.array([12.7], np.float32)]
    rounded = nearest_values(values, RECIPES["int8"])
    assert [v.tolist() for v in rounded] == [pytest.approx([0.1, -1.0]), pytest.approx([12.7])]
    (off,) = nearest_values([np.array([0.04, 0.06, 12.7], np.float32)], RECIPES["int8"])
    assert off.tolist() == pytest.approx([0, 0.1, 12.7])
    (half,) = nearest_values([np.array([1 / 3, 1e6], np.float32)], RECIPES["fp16"])
    assert half.tolist() == [float(np.float16(1 / 3)), np.inf]
    indices = [np.array([1, 2])]
    assert nearest_values(indices, RECIPES["int8"])[0] is indices[0]


def test_an_observer_leaves_no_trace_in_the_float_model() -> None:
    """moving_average_abs_max_scale may write its scale alone, or its input as well."""
    for outputs in ({"OutScale": ["s"]}, {"OutScale": ["s"], "Out": ["same"]}):
        program = make_model.classifier()
        first, *rest = (op for op in program.ops if op.type != "feed")
        feeds = [op for op in program.ops if op.type == "feed"]
        observer = Op("moving_average_abs_max_scale", {"X": ["x"]}, outputs)
        if "Out" in outputs:
            first.rename_inputs({"x": "same"})
        program.blocks[0].ops = [*feeds, observer, first, *rest]
        assert is_quantized(program)
        plain = dequantized(program)
        assert not is_quantized(plain)
        reader = next(op for op in plain.ops if op.type == first.type)
        assert "x" in [name for names in reader.inputs.values() for name in names]


def test_fake_fp16_rounds_weights_and_what_operators_write() -> None:
    program = make_model.classifier()
    program.set_param("count", np.array([3], np.int64))
    half = fake_fp16(program)
    assert half.params["count"] is program.params["count"]
    rounded = program.params["conv.w"].astype(np.float16).astype(np.float32)
    assert np.array_equal(half.params["conv.w"], rounded)
    casts = [op for op in half.ops if op.type == "cast"]
    # VarType of framework.proto: 4 is fp16, 5 fp32.
    assert {(op.get("in_dtype"), op.get("out_dtype")) for op in casts} == {(5, 4), (4, 5)}
    writers = half.producers()
    for name in (op.layer for op in program.ops if op.type == "conv2d"):
        assert half.var(writers[name].inputs["X"][0]).dtype == "float16"
    assert not any(op.type == "feed" for op in map(writers.get, casts[0].inputs["X"]) if op)


def test_dequantized_weights_are_parameters() -> None:
    """What the newer form has before a layer, for its input and its weights."""
    integers = np.array([[127, -3], [10, 5]], np.int8)
    program = one_operator("mul", ("X", "Y"), integers)
    program.set_param("scales", np.array([2.0, 4.0], np.float32))
    (layer,) = program.ops
    layer.inputs = {"X": ["x.dequantized"], "Y": ["w.dequantized"]}
    weights = Op("dequantize_linear", {"X": ["w"], "Scale": ["scales"]}, {"Y": ["w.dequantized"]})
    weights.set("quant_axis", 1)
    program.blocks[0].ops = [
        weights,
        Op("quantize_linear", {"X": ["x"], "Scale": ["s"]}, {"Y": ["x.quantized"]}),
        Op("dequantize_linear", {"X": ["x.quantized"], "Scale": ["s"]}, {"Y": ["x.dequantized"]}),
        layer,
    ]
    plain = dequantized(program)
    (layer,) = plain.ops
    assert layer.inputs == {"X": ["x"], "Y": ["w.float"]}
    expected = integers * np.array([2, 4], np.float32) / 127
    assert np.allclose(plain.params["w.float"], expected)
    assert set(plain.params) == {"w.float"}


def test_weights_that_are_not_stored_cannot_be_dequantized() -> None:
    program = one_operator("mul", ("X", "Y"), np.ones((2, 2), np.float32))
    program.ops[0].inputs["Y"] = ["computed"]
    behind = Op("fake_dequantize_max_abs", {"X": ["y"]}, {"Out": ["z"]})
    program.blocks[0].ops.append(behind)
    with pytest.raises(ConvertError, match="'z' dequantizes no stored weights"):
        dequantized(program)


def test_integers_become_the_numbers_that_they_stand_for() -> None:
    integers = np.array([[127, -3], [10, 5]], np.float32)
    scales = np.array([2.0, 4.0], np.float32)
    for dequantize, extra, expected in (
        ("fake_dequantize_max_abs", {"max_range": 127.0 * 127 / 2}, integers * 2 / 127),
        ("fake_channel_wise_dequantize_max_abs", {"quant_axis": 1}, integers * scales / 127),
        ("fake_channel_wise_dequantize_max_abs", {}, integers * scales[:, None] / 127),
    ):
        program = one_operator("mul", ("X", "Y"), integers)
        program.set_param("scales", scales)
        op = Op(dequantize, {"X": ["y"], "Scales": ["scales"]}, {"Out": ["z"]})
        for name, value in extra.items():
            op.set(name, value)
        end = Op("fetch", {"X": ["z"]}, {"Out": ["fetch"]})
        program.blocks[0].ops += [op, end]
        plain = dequantized(program)
        (layer,) = (op for op in plain.ops if op.type == "mul")
        assert layer.inputs["Y"] == ["w.float"]
        assert np.allclose(plain.params["w.float"], expected)
        assert next(op for op in plain.ops if op.type == "fetch").inputs["X"] == ["y"]


def waves() -> Program:
    """What ARM's kernels estimate, and neighbours that they compute."""
    b = make_model.Builder()
    x = b.input("x", (-1, 4096))
    for kind in (*ESTIMATED, *EXACT):
        attrs = {"threshold": 20.0} if kind == "mish" else {}
        b.op(kind, {"X": [x]}, kind, (-1, 4096), **attrs)
    return b.program(*ESTIMATED, *EXACT)


EXACT = ("sigmoid", "exp", "relu", "hard_swish", "erf")
VALUES = np.random.default_rng(0).normal(0, 3, (1, 4096)).astype("float32")


def test_what_arm_estimates_is_that_much_smaller(tmp_path: Path) -> None:
    program = waves()
    less = approximated(program)
    assert less is not None and approximated(make_model.classifier()) is None
    assert [op.type for op in waves().ops] == [op.type for op in program.ops]  # a copy
    samples = [Sample("s", {"x": VALUES})]
    answers = on_server(less, samples, tmp_path / "a", "fp32").outputs
    exact = on_server(program, samples, tmp_path / "e", "fp32").outputs
    for name, part in zip((*ESTIMATED, *EXACT), (*ESTIMATED.values(), *[0.0] * len(EXACT))):
        there = np.abs(exact[name][0]) > 0.1
        ratio = np.median(answers[name][0][there].astype("f8") / exact[name][0][there])
        assert ratio == pytest.approx(1 - part, abs=6e-8), name  # a step of float32


def test_an_arm_engine_estimates_as_it_says(tmp_path: Path) -> None:
    if not board_is_here():
        pytest.skip("needs an emulated board, see CONTRIBUTING.md")
    samples = [Sample("s", {"x": VALUES})]
    exact = on_server(waves(), samples, tmp_path / "e", "fp32").outputs
    answers = on_lite(repaired(waves()), "arm", samples, tmp_path / "arm")
    for name, values in zip((*ESTIMATED, *EXACT), answers):
        there = np.abs(exact[name][0]) > 0.1
        less = 1 - np.asarray(values[0], "f8")[there] / exact[name][0][there]
        bound = ESTIMATED.get(name, 0.0)
        assert less.mean() == pytest.approx(bound, abs=max(0.4 * bound, 1e-7)), name
        assert np.abs(less).max() < max(6 * bound, 1e-6), name
