"""Models that come quantized: by Paddle 3's own API, and with products of activations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.model.load import load
from lite_opt.model.program import Op, Program
from lite_opt.passes.observers import (
    drop_pairs_of_others,
    integers_as_bytes,
    products_in_float,
    scales_by_channel,
    share_scales,
)
from lite_opt.passes.repair import repair
from lite_opt.quant.operators import is_quantized
from py_runner.formats.bundle import InFloat
from py_runner.formats.nb import read_nb

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def by_paddle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make_paddle3_quantized.py writes."""
    folder = tmp_path_factory.mktemp("paddle3")
    script = str(TESTS / "make_paddle3_quantized.py")
    subprocess.run(
        [sys.executable, "-W", "ignore", script, str(folder)], check=True, capture_output=True
    )
    return folder


def ops(program: Program, kind: str) -> list[Op]:
    return [op for op in program.ops if op.type == kind]


@pytest.mark.parametrize("how", ["post", "trained"])
def test_a_model_of_paddle_quantization_goes_through(
    how: str, by_paddle: Path, tmp_path: Path
) -> None:
    done = convert(by_paddle / how, tmp_path / "out", samples=by_paddle / "x.npy")
    assert done and done.bundle is not None
    assert done.bundle.recipe["name"] == "int8"
    nb = read_nb(done.bundle.path / "model.arm.nb")
    layers = [op for op in nb.ops if op.type in ("conv2d", "fc", "mul")]
    assert [op.precision for op in layers] == ["int8"] * 4
    # The reference is what the network answered where it was quantized.
    answers = np.load(by_paddle / f"{how}.npy")[:4]
    (kept,) = done.bundle.reference().outputs.values()
    assert np.allclose(np.concatenate(kept), answers, atol=1e-4)


def test_both_of_a_pair_read_one_scale(by_paddle: Path) -> None:
    program = load(by_paddle / "post")
    pairs = [
        (program.producers()[op.inputs["X"][0]], op)
        for op in ops(program, "dequantize_linear")
        if op.inputs["X"][0] in program.producers()
    ]
    assert len(pairs) == 6 and all(a.inputs["Scale"] != b.inputs["Scale"] for a, b in pairs)
    assert len(share_scales(program)) == 6
    assert all(a.inputs["Scale"] == b.inputs["Scale"] for a, b in pairs)
    other = load(by_paddle / "post")
    (op, *_) = (
        op for op in ops(other, "dequantize_linear") if op.inputs["X"][0] in other.producers()
    )
    other.set_param(op.inputs["Scale"][0], np.float32([7.0]))
    assert len(share_scales(other)) == 5  # one has a scale of its own indeed


def test_stored_weights_are_bytes_with_a_scale_for_each_channel(by_paddle: Path) -> None:
    program = load(by_paddle / "post")
    before = {
        op.outputs["Y"][0]: program.params[op.inputs["X"][0]]
        * program.params[op.inputs["Scale"][0]]
        for op in ops(program, "dequantize_linear")
        if op.inputs["X"][0] in program.params
    }
    assert len(before) == 4
    repair(program)
    found = 0
    for op in ops(program, "dequantize_linear"):
        weight = program.params.get(op.inputs["X"][0])
        if weight is None:
            continue
        found += 1
        axis = op.get("quant_axis")
        scale = program.params[op.inputs["Scale"][0]]
        assert weight.dtype == np.int8 and scale.shape == (weight.shape[axis],)
        shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
        assert np.allclose(weight * scale.reshape(shape), before[op.outputs["Y"][0]])
    assert found == 4
    again = load(by_paddle / "post")
    assert len(integers_as_bytes(again)) == 4
    assert integers_as_bytes(again) == []
    assert len(scales_by_channel(again)) == 2  # of the convolutions: linear layers are no mul yet


def test_what_is_no_layer_reads_what_is_not_rounded(by_paddle: Path) -> None:
    program = load(by_paddle / "post")
    assert {change.where.split()[0] for change in drop_pairs_of_others(program)} == {"relu"}
    producers = program.producers()
    for op in ops(program, "relu"):
        assert producers[op.inputs["X"][0]].type == "elementwise_add"
    for op in (*ops(program, "conv2d"), *ops(program, "matmul_v2")):
        read = op.inputs["X" if op.type == "matmul_v2" else "Input"][0]
        assert producers[read].type == "dequantize_linear"
    assert drop_pairs_of_others(program) == []


def attention() -> Program:
    """A linear layer, and the products of attention of what it makes: [N,6,8] -> [N,6,8]."""
    b = make_model.Builder()
    x, flags = b.input("x", (-1, 6, 8)), {"trans_x": False, "trans_y": False}
    q = b.op("matmul_v2", {"X": [x], "Y": [b.param("q.w", (8, 8))]}, "q", (-1, 6, 8), **flags)
    flags["trans_y"] = True
    scores = b.op("matmul_v2", {"X": [q], "Y": [x]}, "scores", (-1, 6, 6), **flags)
    soft = b.op("softmax", {"X": [scores]}, "soft", (-1, 6, 6), axis=-1)
    flags["trans_y"] = False
    mixed = b.op("matmul_v2", {"X": [soft], "Y": [x]}, "mixed", (-1, 6, 8), **flags)
    out = b.op("matmul_v2", {"X": [mixed], "Y": [b.param("o.w", (8, 8))]}, "o", (-1, 6, 8), **flags)
    out = b.op("softmax", {"X": [out]}, "end", (-1, 6, 8), axis=-1)
    for op in b.ops:
        op.set("op_role", 0)  # PaddleSlim asks for it
    return b.program(out)


def test_products_of_activations_that_come_quantized_are_float(tmp_path: Path) -> None:
    """Where they stay int8, the optimizer aborts: X0_scale of matmul_v2."""
    make_model.save(attention(), tmp_path / "float")
    script = str(TESTS / "operators" / "make_post_quantized.py")
    subprocess.run(
        [sys.executable, "-W", "ignore", script, str(tmp_path), "products"],
        check=True, capture_output=True,
    )  # fmt: skip
    source = tmp_path / "quantized"
    program = load(source)
    products = ops(program, "matmul_v2")
    assert is_quantized(program) and len(products) == 4
    makers = [program.producers()[op.inputs["Y"][0]].type for op in products[1:3]]
    assert makers == ["fake_quantize_dequantize_moving_average_abs_max"] * 2
    assert len(products_in_float(program)) == 4 and products_in_float(program) == []
    assert [op.inputs["Y"] for op in products[1:3]] == [["x"], ["x"]]
    done = convert(source, tmp_path / "out")
    assert done and done.bundle is not None
    arm = done.bundle.targets["arm"]
    assert arm.in_float == {"matmul_v2": InFloat(2, 0)}
    nb = read_nb(done.bundle.path / arm.file)
    assert [op.precision for op in nb.ops if op.type in ("mul", "fc")] == ["int8"] * 2
