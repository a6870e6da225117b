"""Reductions: axes that are not neighbours, everything, and ranks above 4."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest

from lite_opt.model.program import Program
from lite_opt.passes.repair import repair

from . import trial

AXES_OF_4D = ([0], [3], [1, 3], [0, 2], [0, 3], [1, 2, 3], [0, 1, 3], [0, 2, 3], [3, 2], [-1, -3])
AXES_OF_5D = ([0], [0, 1], [2], [1, 3], [0, 2, 4], [2, 3, 4], [1, 2, 3, 4])


def reduced(
    type_: str, shape: tuple[int, ...], axes: tuple[list[int], ...], *, everything: bool = True
) -> Program:
    """An output for each list of axes, without and with the reduced dimensions."""
    b = make_model.Builder(5)
    x = b.input("x", shape)
    rank = len(shape)
    outs = []
    for keep in (False, True):
        for n, over in enumerate([*axes, *([list(range(rank)), []] if everything else [])]):
            gone = {a % rank for a in over} or set(range(rank))
            out = tuple(
                1 if d in gone else size for d, size in enumerate(shape) if keep or d not in gone
            )
            name = f"{'kept' if keep else 'out'}{n}"
            everything_ = not over
            outs.append(
                b.op(type_, {"X": [x]}, name, out, dim=over or [0], keep_dim=keep,
                     reduce_all=everything_)
            )  # fmt: skip
    return b.program(*outs)


@pytest.mark.parametrize("kind", ["mean", "sum", "max", "min", "prod"])
def test_reductions_of_any_axes(kind: str, tmp_path: Path) -> None:
    trial.check(reduced(f"reduce_{kind}", (2, 3, 4, 5), AXES_OF_4D), tmp_path / "4d")
    trial.check(reduced(f"reduce_{kind}", (2, 3, 4, 3, 2), AXES_OF_5D), tmp_path / "5d")


@pytest.mark.parametrize("kind", ["mean", "max", "prod"])
def test_reductions_of_low_ranks(kind: str, tmp_path: Path) -> None:
    type_ = f"reduce_{kind}"
    trial.check(reduced(type_, (2, 3, 4), ([0], [1], [2], [0, 1], [1, 2], [0, 2])), tmp_path / "3")
    trial.check(reduced(type_, (3, 5), ([0], [1])), tmp_path / "2")
    trial.check(reduced(type_, (7,), ([0],)), tmp_path / "1")


def test_reductions_of_a_dynamic_batch(tmp_path: Path) -> None:
    program = reduced("reduce_mean", (-1, 3, 4, 5), ([1, 3], [0, 2], [2, 3]))
    trial.check(program, tmp_path)


def test_what_lite_knows_stays_as_it_is() -> None:
    program = reduced("reduce_max", (2, 3, 4, 5), ([1], [2, 3]), everything=False)
    before = [(op.type, op.get("dim")) for op in program.ops]
    repair(program)
    assert [(op.type, op.get("dim")) for op in program.ops] == before


def test_a_mean_over_two_apart_is_two_means() -> None:
    program = reduced("reduce_mean", (-1, 3, -1, -1), ([1, 3],), everything=False)
    repair(program)
    assert [op.get("dim") for op in program.ops if op.type == "reduce_mean"] == [[3], [1]] * 2
    assert not [op for op in program.ops if op.type == "reshape2"]


def test_a_tensor_over_its_own_mean(tmp_path: Path) -> None:
    b = make_model.Builder(4)
    x = b.input("x", (2, 3, 4, 5))
    outs = []
    for kind, shape in (("mean", ()), ("max", (1, 1, 1, 1))):
        one = b.op(f"reduce_{kind}", {"X": [x]}, kind, shape, dim=[0, 1, 2, 3],
                   keep_dim=bool(shape), reduce_all=True)  # fmt: skip
        outs.append(
            b.op("elementwise_div", {"X": [x], "Y": [one]}, f"{kind}.y", (2, 3, 4, 5), axis=-1)
        )
    repaired = trial.check(b.program(*outs), tmp_path)
    assert repaired.var("mean").shape == (1,)
    assert not any(op.get("reduce_all") for op in repaired.ops)
