"""Powers, the smallest of many, silu, resizes and normalisations that a kernel gets wrong."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.passes.repair import repair
from py_runner.tensors import Sample

from . import trial


@pytest.mark.parametrize(
    ("x", "y"), [((1,), (2, 3, 4)), ((4,), (2, 3, 4)), ((2, 3, 4), (1,)), ((1, 3, 1), (2, 1, 4))]
)
def test_powers_broadcast_their_base(
    x: tuple[int, ...], y: tuple[int, ...], tmp_path: Path
) -> None:
    b = make_model.Builder()
    base, exponent = b.input("base", x), b.input("exponent", y)
    out = np.broadcast_shapes(x, y)
    program = b.program(b.op("elementwise_pow", {"X": [base], "Y": [exponent]}, "y", out, axis=-1))
    random = np.random.default_rng(0)
    feeds = {
        "base": random.uniform(0.5, 2, x).astype("float32"),
        "exponent": random.uniform(1.5, 3, y).astype("float32"),
    }
    repaired = trial.check(program, tmp_path, samples=[Sample("s", feeds)])
    assert ("expand_v2" in [op.type for op in repaired.ops]) == (x != (2, 3, 4))


def test_the_smallest_are_the_largest_of_the_negated(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (2, 9, 5))
    outs = []
    for n, (axis, largest) in enumerate([(1, False), (-1, False), (1, True)]):
        shape = (2, 2, 5) if axis == 1 else (2, 9, 2)
        outs.append(
            b.op("top_k_v2", {"X": [x]}, f"y{n}", shape, k=2, axis=axis, largest=largest,
                 sorted=True)
        )  # fmt: skip
        b.op("scale", {"X": [f"y{n}"]}, f"z{n}", shape, scale=1.0, bias=0.0, bias_after_scale=True)
        b.vars[f"i{n}"] = make_model.Var(f"i{n}", "int64", shape)
        b.ops[-2].outputs["Indices"] = [f"i{n}"]
        outs.append(f"i{n}")
    repaired = trial.check(b.program(*outs), tmp_path)
    assert all(op.get("largest") for op in repaired.ops if op.type == "top_k_v2")


def test_silu_is_swish(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (1, 4, 6, 6))
    conv = b.conv2d(x, b.param("w", (4, 4, 3, 3)), "c", (1, 4, 6, 6))
    program = b.program(b.op("silu", {"X": [conv]}, "y", (1, 4, 6, 6)))
    repaired = trial.check(program, tmp_path)
    assert [op.type for op in repaired.ops if op.type in ("silu", "swish")] == ["swish"]


@pytest.mark.parametrize(("scale", "side"), [([1.5, 2.5], (6, 7)), ([0.5, 0.5], (5, 8))])
def test_bilinear_by_a_factor_that_does_not_divide(
    scale: list[float], side: tuple[int, int], tmp_path: Path
) -> None:
    b = make_model.Builder()
    x = b.input("x", (2, 3, *side))
    out = (2, 3, int(side[0] * scale[0]), int(side[1] * scale[1]))
    outs = [
        b.op("bilinear_interp_v2", {"X": [x]}, f"y{mode}{corners}", out, scale=scale, out_d=-1,
             out_h=-1, out_w=-1, align_corners=bool(corners), align_mode=mode,
             interp_method="bilinear", data_layout="NCHW")
        for mode, corners in ((0, 0), (1, 0), (0, 1))
    ]  # fmt: skip
    repaired = trial.check(b.program(*outs), tmp_path)
    # The one that aligns corners stays.
    assert len([op for op in repaired.ops if op.type == "bilinear_interp_v2"]) == 1
    assert len([op for op in repaired.ops if op.type == "mul"]) == 4


def test_bilinear_that_divides_stays() -> None:
    b = make_model.Builder()
    x = b.input("x", (1, 3, 6, 8))
    y = b.op("bilinear_interp_v2", {"X": [x]}, "y", (1, 3, 9, 16), scale=[1.5, 2.0], out_d=-1,
             out_h=-1, out_w=-1, align_corners=False, align_mode=0, interp_method="bilinear",
             data_layout="NCHW")  # fmt: skip
    program = b.program(y)
    repair(program)
    assert [op.type for op in program.ops] == ["feed", "bilinear_interp_v2", "fetch"]


@pytest.mark.parametrize("shape", [(2, 6, 9), (2, 6, 3, 4, 5), (2, 6, 4, 5)])
def test_norms_of_any_rank(shape: tuple[int, ...], tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", shape)
    scale, bias = b.param("scale", (6,)), b.param("bias", (6,))
    inputs = {"X": [x], "Scale": [scale], "Bias": [bias]}
    outs = []
    for type_, names, more in (
        ("instance_norm", ("SavedMean", "SavedVariance"), {}),
        ("group_norm", ("Mean", "Variance"), {"groups": 3, "data_layout": "NCHW"}),
    ):
        outs.append(b.op(type_, dict(inputs), type_, shape, slot="Y", epsilon=1e-5, **more))
        for name in names:
            saved = f"{type_}.{name}"
            b.vars[saved] = make_model.Var(saved, "float32", (12,))
            b.ops[-1].outputs[name] = [saved]
    repaired = trial.check(b.program(*outs), tmp_path)
    norms = [op for op in repaired.ops if op.type.endswith("_norm")]
    assert [len(repaired.var(op.inputs["X"][0]).shape) for op in norms] == [4, 4]
