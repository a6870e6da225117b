"""Normalisations of values whose mean is much larger than their deviation."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.judge.layers import bundle_layers
from lite_opt.judge.layers.offsets import centre, large_means, said_of
from lite_opt.model.program import Program, Var
from lite_opt.passes.repair import repair
from lite_opt.views import conversion as view
from operators.trial import board_is_here, on_lite
from py_runner.tensors import Sample

RANDOM = np.random.default_rng(0).standard_normal((1, 6, 40)).astype("float32")


def normed(type_: str = "layer_norm", *, shift: float = 1000.0) -> Program:
    """A normalisation of an input that is shifted."""
    b = make_model.Builder()
    x = b.input("x", (-1, 6, 40))
    shifted = b.op("scale", {"X": [x]}, "shifted", (-1, 6, 40), scale=1.0, bias=shift,
                   bias_after_scale=True)  # fmt: skip
    if type_ == "layer_norm":
        out = b.op(type_, {"X": [shifted]}, "y", (-1, 6, 40), slot="Y", begin_norm_axis=2,
                   epsilon=1e-5)  # fmt: skip
    else:
        b.op("unsqueeze2", {"X": [shifted]}, "four", (-1, 6, 40, 1), axes=[3])
        scale, bias = b.param("scale", (6,)), b.param("bias", (6,))
        out = b.op(type_, {"X": ["four"], "Scale": [scale], "Bias": [bias]}, "y", (-1, 6, 40, 1),
                   slot="Y", groups=2, epsilon=1e-5, data_layout="NCHW")  # fmt: skip
    for slot in ("Mean", "Variance"):
        b.ops[-1].outputs[slot] = [slot]
        b.vars[slot] = Var(slot, "float32", (-1,))
    return b.program(out)


@pytest.mark.parametrize("shift", [0.0, 10.0, 1000.0])
def test_layer_norms_are_of_their_input_less_a_large_mean(shift: float, tmp_path: Path) -> None:
    program, sample = normed(shift=shift), Sample("s", {"x": RANDOM})
    repair(program)
    changes = centre(program, [sample])
    assert len(changes) == (shift == 1000)
    assert centre(program, [sample]) == []  # of what it made it finds nothing
    wide = (RANDOM + np.float32(shift)).astype("float64")
    spread = np.sqrt(wide.var(axis=2, keepdims=True) + 1e-5)
    want = (wide - wide.mean(axis=2, keepdims=True)) / spread
    for target in ("x86", *(["arm"] if board_is_here() else [])):
        (got,) = on_lite(program, target, [sample], tmp_path / target)
        assert np.abs(got[0] - want).max() < 3e-4, target


@pytest.mark.parametrize("type_", ["layer_norm", "group_norm", "instance_norm"])
def test_a_large_mean_is_measured_and_told(type_: str) -> None:
    program, sample = normed(type_), Sample("s", {"x": RANDOM})
    ((layer, (found, times)),) = large_means(program, [sample], (type_,)).items()
    assert (layer, found) == ("y", type_) and 900 < times < 1800
    words = said_of(program, [sample])
    assert words.startswith(f"{type_} in layer 'y' is fed values") and "subtract" in words
    assert said_of(normed(type_, shift=10), [sample]) == ""
    assert said_of(program, []) == ""


class _SeenError(Exception):
    """The candidate was shown."""


def test_layers_are_compared_of_what_the_bundle_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less its mean, as `convert` made it."""
    folder = make_model.save(normed(), tmp_path / "m")
    np.savez(tmp_path / "x.npz", x=RANDOM)
    made = convert(folder, tmp_path / "out", samples=tmp_path / "x.npz", check=False)
    assert made.bundle is not None
    seen: list[Program] = []

    def stop(_: Program, candidate: Program, *__: object, **___: object) -> None:
        seen.append(candidate)
        raise _SeenError

    monkeypatch.setattr("lite_opt.judge.layers.first_difference", stop)
    with pytest.raises(_SeenError):
        bundle_layers(folder, tmp_path / "out")
    types = [op.type for op in seen[0].ops]
    assert types.count("reduce_mean") == 1 and "elementwise_sub" in types


def test_a_check_that_fails_of_it_says_so(tmp_path: Path) -> None:
    """Paddle's own group_norm is 3 % off here, and ours is right."""
    folder = make_model.save(normed("group_norm"), tmp_path / "m")
    np.savez(tmp_path / "x.npz", x=RANDOM)
    done = convert(folder, tmp_path / "out", samples=tmp_path / "x.npz")
    assert not done and done.bundle is None
    assert done.advice.startswith("group_norm in layer 'y' is fed values whose mean is")
    (*_, remark) = view.view(done, "out", random=False)
    assert str(getattr(remark, "text", remark)).endswith(done.advice)
    assert view.document(done)["advice"] == done.advice
