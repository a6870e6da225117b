"""Forms of models that Paddle Lite takes only after an edit: quantized, in half floats, of a fixed
batch, and with outputs that are inputs, constants or twice the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.model.load import load
from lite_opt.model.program import Op, Program, Var
from lite_opt.passes.repair import repair
from operators.trial import check
from py_runner.errors import ConvertError, DataError
from py_runner.formats.nb import read_nb
from py_runner.tensors import DTYPE_NUMBERS


def test_biases_that_quantization_observes(tmp_path: Path) -> None:
    script = Path(__file__).with_name("make_post_quantized.py")
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path)],
        capture_output=True, check=True,
    )  # fmt: skip
    source = tmp_path / "quantized"
    program = load(source)
    observed = [
        op for op in program.ops if op.get("only_observer") and "reshape" in op.inputs["X"][0]
    ]
    assert len(observed) == 4  # two biases, each quantized and dequantized
    repair(program)
    biases = [op.inputs["Y"][0] for op in program.ops if op.type == "elementwise_add"]
    assert all(program.params[name].ndim == 1 for name in biases)
    done = convert(source, tmp_path / "out")
    assert done and done.bundle is not None
    nb = read_nb(done.bundle.path / done.bundle.targets["arm"].file)
    layers = [op for op in nb.ops if op.type in ("conv2d", "fc")]
    assert [op.precision for op in layers] == ["int8"] * 3
    assert not [op for op in nb.ops if op.type.startswith(("elementwise", "fusion_elementwise"))]


def test_attributes_that_newer_exporters_leave_out(tmp_path: Path) -> None:
    """At their defaults, which Lite's kernels demand: its optimizer would die of each."""
    b = make_model.Builder()
    x, y = b.input("x", (1, 3, 6)), b.input("y", (1, 3, 6))
    outs = []
    for name in ("greater_than", "less_equal", "equal"):
        b.op(name, {"X": [x], "Y": [y]}, name, (1, 3, 6), out_dtype="bool")
        outs.append(b.op("cast", {"X": [name]}, f"{name}.n", (1, 3, 6), in_dtype=0))
        b.ops[-1].set("out_dtype", DTYPE_NUMBERS["float32"])
    for name in ("elementwise_min", "elementwise_max", "elementwise_mul"):
        outs.append(b.op(name, {"X": [x], "Y": [y]}, name, (1, 3, 6)))
    outs.append(b.op("concat", {"X": [x, y]}, "both", (2, 3, 6)))
    outs.append(b.op("cumsum", {"X": [x]}, "sums", (1, 3, 6)))
    outs.append(b.op("pow", {"X": [x]}, "power", (1, 3, 6)))
    scale, bias = b.param("scale", (18,)), b.param("bias", (18,))
    b.op("layer_norm", {"X": [x], "Scale": [scale], "Bias": [bias]}, "norm", (1, 3, 6), slot="Y")
    for slot in ("Mean", "Variance"):
        b.ops[-1].outputs[slot] = [slot]
        b.vars[slot] = Var(slot, "float32", (1,))
    check(b.program(*outs, "norm"), tmp_path)


def _cast(program: Program, x: str, out: str, to: str) -> Op:
    op = Op("cast", {"X": [x]}, {"Out": [out]})
    op.set("in_dtype", DTYPE_NUMBERS[program.var(x).dtype])
    op.set("out_dtype", DTYPE_NUMBERS[to])
    program.vars[out] = Var(out, to, program.var(x).shape)
    return op


def _stored(value: np.ndarray, dtype: str) -> np.ndarray:
    """A parameter as Paddle stores it: the bits of a bfloat16 are kept as uint16."""
    if dtype == "float16":
        return value.astype(np.float16)
    return (value.view(np.uint32) >> 16).astype(np.uint16)


def _numbers(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.float16:
        return value.astype(np.float32)
    return (value.astype(np.uint32) << 16).view(np.float32)


def halved(dtype: str) -> Program:
    """The classifier, computing in half floats between two casts."""
    program = make_model.classifier()
    for name, value in program.params.items():
        program.params[name] = _stored(value, dtype)
    for var in program.vars.values():
        var.dtype = "float32" if var.name in ("x", "feed", "fetch") else dtype
    feed, *ops, fetch = program.ops
    first = _cast(program, "x", "x.half", dtype)
    for op in ops:
        op.rename_inputs({"x": "x.half"})
    last = _cast(program, "soft.out", "wide", "float32")
    fetch.inputs["X"] = ["wide"]
    program.blocks[0].ops = [feed, first, *ops, last, fetch]
    return program


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_floats_become_float32(dtype: str, tmp_path: Path) -> None:
    program = halved(dtype)
    stored = dict(program.params)
    folder = make_model.save(program, tmp_path / "half")
    repair(program)
    np.testing.assert_array_equal(program.params["fc.w"], _numbers(stored["fc.w"]))
    assert {var.dtype for var in program.vars.values()} == {"float32"}
    assert [op.type for op in program.ops].count("cast") == 0
    done = convert(folder, tmp_path / "out")
    assert done and done.bundle is not None
    assert any("half floats" in text for text in done.bundle.check["warnings"])
    # What the server answered is what the same network in float32 answers, but for the rounding.
    whole = make_model.save(make_model.classifier(), tmp_path / "whole")
    plain = convert(whole, tmp_path / "plain").bundle
    assert plain is not None
    got, want = (next(iter(b.reference().outputs.values())) for b in (done.bundle, plain))
    assert 0 < np.abs(np.concatenate(got) - np.concatenate(want)).max() < 0.02


def test_half_weights_that_are_cast_are_judged_by_the_model_itself(tmp_path: Path) -> None:
    program = make_model.classifier()
    program.params["fc.w"] = program.params["fc.w"].astype(np.float16)
    program.var("fc.w").dtype = "float16"
    cast = _cast(program, "fc.w", "fc.wide", "float32")
    for op in program.ops:
        op.rename_inputs({"fc.w": "fc.wide"})
    program.ops.insert(1, cast)
    done = convert(make_model.save(program, tmp_path / "half"), tmp_path / "out")
    assert done and done.bundle is not None
    assert not any("half floats" in text for text in done.bundle.check["warnings"])


def test_a_half_input_is_refused_in_words(tmp_path: Path) -> None:
    program = make_model.classifier()
    program.var("x").dtype = "float16"
    with pytest.raises(
        ConvertError, match=r"input 'x' is float16.* export the network with float32"
    ):
        repair(program)


def test_a_fixed_batch_is_fed_whole(tmp_path: Path) -> None:
    folder = make_model.save(make_model.classifier(batch=2), tmp_path / "fixed")
    rows = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype("float32")
    for name, array in (("rows", rows), ("batches", rows.reshape(3, 2, 3, 16, 16))):
        np.save(tmp_path / f"{name}.npy", array)
        done = convert(folder, tmp_path / name, samples=tmp_path / f"{name}.npy")
        assert done and done.bundle is not None
        samples = done.bundle.read_samples()
        assert len(samples) == 3
        np.testing.assert_array_equal(samples[1].feeds["x"], rows[2:4])
    np.save(tmp_path / "odd.npy", rows[:5])
    with pytest.raises(DataError, match="takes 2 rows of 'x' at once, and 5 are"):
        convert(folder, tmp_path / "odd", samples=tmp_path / "odd.npy")


def test_pictures_for_a_fixed_batch_are_refused_in_words(photos: Path, tmp_path: Path) -> None:
    folder = make_model.save(make_model.classifier(batch=2), tmp_path / "fixed")
    with pytest.raises(DataError, match=r"exported for a batch of 2.*InputSpec\(\[None"):
        convert(folder, tmp_path / "out", image="resize=short:20,crop=16", samples=photos)


@pytest.mark.parametrize("outputs", [["x", "r"], ["r", "r"], ["r", "c"]])
def test_outputs_that_are_an_input_a_parameter_or_the_same(
    outputs: list[str], tmp_path: Path
) -> None:
    builder = make_model.Builder()
    builder.op("relu", {"X": [builder.input("x", (-1, 4))]}, "r", (-1, 4))
    builder.param("c", (3,))
    folder = make_model.save(builder.program(*outputs), tmp_path / "m")
    assert convert(folder, tmp_path / "out")


def test_dynamic_sizes_that_paddle_2_multiplied(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 4, -1, -1))
    y = b.op("pixel_shuffle", {"X": [x]}, "y", (-1, 1, -2, -2), upscale_factor=2,
             data_format="NCHW")  # fmt: skip
    folder = make_model.save(b.program(y), tmp_path / "m")
    assert [spec.shape for spec in load(folder).outputs] == [(-1, 1, -1, -1)]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((2, 4, 3, 5), "float32"))
    assert convert(folder, tmp_path / "out", samples=tmp_path / "x.npy")
