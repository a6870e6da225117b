"""What has no equal form is refused by operator, layer and reason, before an engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import make_model
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.lite.refusals import reasons
from lite_opt.model.program import Program, Var
from lite_opt.passes.repair import repair
from py_runner.errors import ConvertError

FLAT = {
    "pooling_type": "avg", "ksize": [2, 2], "strides": [2, 2], "global_pooling": False,
    "ceil_mode": False, "adaptive": False, "padding_algorithm": "EXPLICIT", "data_format": "NCHW",
}  # fmt: skip


def one(
    type_: str,
    inputs: dict[str, tuple[int, ...]],
    out: tuple[int, ...],
    *,
    dtype: str = "float32",
    **attrs: Any,
) -> Program:
    b = make_model.Builder()
    given = {slot: [b.input(slot.lower(), shape, dtype)] for slot, shape in inputs.items()}
    program = b.program(b.op(type_, given, "y", out, **attrs))
    repair(program)
    return program


def states(**attrs: Any) -> Program:
    """An LSTM whose last state is an output."""
    b = make_model.Builder()
    b.op("rnn", {"Input": [b.input("x", (5, 1, 4))]}, "y", (5, 1, 4), mode="LSTM", **attrs)
    b.ops[-1].outputs["State"] = ["h", "c"]
    for name in ("h", "c"):
        b.vars[name] = Var(name, "float32", (attrs["num_layers"], 1, 4))
    program = b.program("y", "h")
    repair(program)
    return program


REFUSED = {
    "reduction": one("reduce_mean", {"X": (-1, 2, -1, 3, -1)}, (-1, 2, 3, -1), dim=[2],
                     keep_dim=False, reduce_all=False),
    "average": one("pool2d", {"X": (1, 2, 9, 9)}, (1, 2, 5, 5), paddings=[0, 1, 0, 1],
                   exclusive=False, **FLAT),
    "circle": one("pad3d", {"X": (1, 2, 1, 5, -1)}, (1, 2, 1, 7, -1), mode="circular",
                  paddings=[1, 1, 1, 1, 0, 0], data_format="NCDHW", value=0.0),
    "lengths": one("rnn", {"Input": (5, 1, 4), "SequenceLength": (1,)}, (5, 1, 4), mode="LSTM"),
    "states": states(num_layers=2, is_bidirec=False),
    "directions": states(num_layers=1, is_bidirec=True),
    "deformable": one("deformable_conv", {"Input": (1, 2, 5, 5), "Offset": (1, 36, 5, 5),
                      "Mask": (1, 18, 5, 5)}, (1, 2, 5, 5), groups=2,
                      deformable_groups=1),
    "simple": one("rnn", {"Input": (5, 1, 4)}, (5, 1, 4), mode="RNN_TANH"),
    "scatter": one("scatter", {"X": (-1, 4), "Ids": (2,), "Updates": (2, 4)}, (-1, 4),
                   overwrite=True),
    "smallest": one("top_k_v2", {"X": (2, 5)}, (2, 2), dtype="int64", k=2, axis=-1,
                    largest=False),
    "empty": one("slice", {"Input": (2, 5)}, (2, 0), axes=[1], starts=[3], ends=[3]),
    "power": one("elementwise_pow", {"X": (1,), "Y": (-1, 4)}, (-1, 4), axis=-1),
}  # fmt: skip
ALLOWED = {
    "reduction": one("reduce_mean", {"X": (-1, 2, 4, 3, 5)}, (-1, 2, 3, 5), dim=[2],
                     keep_dim=False, reduce_all=False),
    "average": one("pool2d", {"X": (1, 2, 9, 9)}, (1, 2, 5, 5), paddings=[0, 1, 0, 1],
                   exclusive=True, **FLAT),
    "circle": one("pad3d", {"X": (1, 2, 1, 5, 6)}, (1, 2, 1, 7, 8), mode="reflect",
                  paddings=[1, 1, 1, 1, 0, 0], data_format="NCDHW", value=0.0),
    "states": states(num_layers=1, is_bidirec=False),
    "layers": one("rnn", {"Input": (5, 1, 4)}, (5, 1, 4), mode="LSTM", num_layers=2,
                  is_bidirec=True),
    "deformable": one("deformable_conv", {"Input": (1, 2, 5, 5), "Offset": (1, 36, 5, 5),
                      "Mask": (1, 18, 5, 5)}, (1, 2, 5, 5), groups=1,
                      deformable_groups=1),
    "lstm": one("rnn", {"Input": (5, 1, 4)}, (5, 1, 4), mode="LSTM"),
    "power": one("elementwise_pow", {"X": (-1, 4), "Y": (1,)}, (-1, 4), axis=-1),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_operator_layer_and_advice(name: str) -> None:
    (reason,) = reasons(REFUSED[name], ("arm",))
    assert "layer 'y'" in reason and "cannot run on arm: " in reason and "; " in reason


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    assert reasons(ALLOWED[name], ("arm", "x86")) == []


def test_other_averages_that_count_padding_are_allowed() -> None:
    small = one("pool2d", {"X": (1, 2, 7, 7)}, (1, 2, 4, 4), paddings=[0, 1, 0, 1],
                exclusive=False, **FLAT)  # fmt: skip
    even = one("pool2d", {"X": (1, 2, 9, 9)}, (1, 2, 5, 5), paddings=[1, 1],
               exclusive=False, **FLAT)  # fmt: skip
    assert reasons(small, ("arm",)) == reasons(even, ("arm",)) == []


def test_what_only_arm_lacks_is_no_matter_for_x86() -> None:
    assert reasons(REFUSED["average"], ("x86",)) == []
    assert len(reasons(REFUSED["lengths"], ("arm", "x86"))) == 1


def test_refused_before_the_engines(tmp_path: Path) -> None:
    program = one("pool2d", {"X": (1, 2, 9, 9)}, (1, 2, 5, 5), paddings=[0, 1, 0, 1],
                  exclusive=False, **FLAT)  # fmt: skip
    folder = make_model.save(program, tmp_path / "m")
    with pytest.raises(ConvertError, match="pool2d in layer 'y' cannot run on arm"):
        convert(folder, tmp_path / "m.bundle")
    assert not (tmp_path / "m.bundle").exists()


def test_operators_without_a_kernel_are_named(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (1, 2, 4, 6, 6))
    for name in ("y", "z"):
        b.op("pool3d", {"X": [x]}, name, (1, 2, 2, 3, 3), **{**FLAT, "ksize": [2, 2, 2],
             "strides": [2, 2, 2], "paddings": [0, 0, 0], "data_format": "NCDHW"})  # fmt: skip
    folder = make_model.save(b.program("y", "z"), tmp_path / "m")
    with pytest.raises(ConvertError) as caught:
        convert(folder, tmp_path / "m.bundle")
    words = str(caught.value)
    assert "pool3d in layer 'y', pool3d in layer 'z' cannot run on arm: Paddle Lite has no" in words
    assert words.endswith("run this part on the server") and "SIGABRT" not in words
