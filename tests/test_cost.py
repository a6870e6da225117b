"""What an inference costs, counted by hand on models of one or two operators."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest

from lite_opt.model.cost import activation_bytes, convolution_share, flops, memory_bytes
from lite_opt.views.describe import describe


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_sums_over_the_side_that_both_share(transposed: bool) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (-1, 7, 3) if transposed else (-1, 3, 7))
    y = builder.param("y", (7, 5))
    out = builder.op(
        "matmul_v2", {"X": [x], "Y": [y]}, "out", (-1, 3, 5), trans_x=transposed, trans_y=False
    )
    assert flops(builder.program(out)) == 2 * 3 * 5 * 7


def test_convolutions_sum_over_a_filter_for_each_output_or_input() -> None:
    builder = make_model.Builder()
    x = builder.input("x", (-1, 4, 8, 8))
    small = builder.conv2d(x, builder.param("w", (6, 4, 3, 3)), "small", (-1, 6, 8, 8))
    large = builder.op(
        "conv2d_transpose",
        {"Input": [small], "Filter": [builder.param("v", (6, 5, 2, 2))]},
        "large",
        (-1, 5, 16, 16),
        slot="Output",
    )
    program = builder.program(large)
    assert flops(program) == 2 * (6 * 8 * 8 * 4 * 3 * 3 + 6 * 8 * 8 * 5 * 2 * 2)
    # The second convolution needs most: its input and output, and the first one's input is freed.
    activations = 4 * (6 * 8 * 8 + 5 * 16 * 16)
    assert activation_bytes(program) == activations
    parameters = 4 * (6 * 4 * 3 * 3 + 6 * 5 * 2 * 2)
    assert memory_bytes(program) == int(60e6 + 1.65 * parameters + 5 * activations)


def test_the_share_of_convolutions_tells_which_engine_is_cheaper(
    model: Path, tmp_path: Path
) -> None:
    program = make_model.classifier()
    convolution, product = 2 * 8 * 16 * 16 * 3 * 3 * 3, 2 * 32 * 10
    assert convolution_share(program) == convolution / (convolution + product)
    assert describe(model)["engine_on_arm"].startswith("native: 99 % of the operations")
    builder = make_model.Builder()
    x = builder.input("x", (-1, 3, 7))
    out = builder.op("matmul_v2", {"X": [x], "Y": [builder.param("y", (7, 5))]}, "out", (-1, 3, 5))
    products = builder.program(out)
    assert convolution_share(products) == 0
    told = describe(make_model.save(products, tmp_path / "products"))["engine_on_arm"]
    assert told.startswith("onnx: 0 % of the operations")
    builder = make_model.Builder()
    x = builder.input("x", (-1, 3, 7, 7))
    x = builder.conv2d(x, builder.param("w", (4, 3, 1, 1)), "c", (-1, 4, 7, 7))
    out = builder.op("matmul_v2", {"X": [x], "Y": [builder.param("y", (7, 5))]}, "o", (-1, 4, 7, 5))
    both = make_model.save(builder.program(out), tmp_path / "both")
    told = describe(both)["engine_on_arm"]
    assert told.startswith("not known: bench BUNDLE --engine native,onnx")


def test_nothing_is_known_where_a_side_is_dynamic() -> None:
    builder = make_model.Builder()
    x = builder.input("x", (-1, 4, -1, 8))
    out = builder.conv2d(x, builder.param("w", (6, 4, 3, 3)), "out", (-1, 6, -1, 8))
    program = builder.program(out)
    assert flops(program) is activation_bytes(program) is memory_bytes(program) is None
    assert convolution_share(program) is None


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_activations_are_as_wide_as_their_dtype(dtype: str, width: int) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (-1, 4, 8))
    first = builder.op("relu", {"X": [x]}, "first", (-1, 4, 8))
    second = builder.op("relu", {"X": [first]}, "second", (-1, 4, 8))
    out = builder.op("relu", {"X": [second]}, "out", (-1, 4, 8))
    program = builder.program(out)
    for name in ("x", "first", "second", "out"):
        program.vars[name].dtype = dtype
    assert activation_bytes(program) == 2 * 4 * 8 * width
    assert memory_bytes(program) == int(60e6 + 5 * 2 * 4 * 8 * width)
