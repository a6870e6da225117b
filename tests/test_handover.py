"""A program's way to the optimizer: what a rule changed in files, the rest out of the model's."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.lite import handover
from lite_opt.lite.handover import handed
from lite_opt.lite.optimizer import Optimizer, optimize
from lite_opt.model.load import load, save
from lite_opt.model.params import spans
from lite_opt.model.program import Program
from lite_opt.recipes import RECIPES
from py_runner.errors import ConvertError

FP32 = RECIPES["fp32"]


def layers(folder: Path, *, second: str = "w2") -> Program:
    """Three large layers with a small one between: [N,600] -> [N,600]."""
    b = make_model.Builder()
    x = b.input("x", (-1, 600))
    for name in ("w4", "b1", second, "w3"):
        y = b.param(name, (600,) if name == "b1" else (600, 600))
        kind = "elementwise_add" if name == "b1" else "mul"
        attrs = {"axis": -1} if name == "b1" else {"x_num_col_dims": 1, "y_num_col_dims": 1}
        x = b.op(kind, {"X": [x], "Y": [y]}, f"{name}.out", (-1, 600), **attrs)
    return load(make_model.save(b.program(x), folder))


@pytest.fixture
def changed(tmp_path: Path) -> Program:
    """The layers, the bias and the last of which are others than in their file."""
    program = layers(tmp_path / "model")
    program.set_param("b1", np.arange(600, dtype="float32"))
    program.set_param("w3", np.eye(600, dtype="float32"))
    return program


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def is_pipe(path: Path) -> bool:
    return stat.S_ISFIFO(path.stat().st_mode)


def test_the_optimizer_makes_of_pipes_what_it_makes_of_a_file(
    changed: Program, tmp_path: Path
) -> None:
    piped = optimize(changed, "x86", tmp_path / "piped.nb", recipe=FP32)
    whole = load(save(changed, folder(tmp_path, "whole")).model)
    assert not handover._piped(whole)
    plain = optimize(whole, "x86", tmp_path / "plain.nb", recipe=FP32)
    # What follows the version is memory that the optimizer leaves as it finds it.
    assert piped.path.read_bytes()[18:] == plain.path.read_bytes()[18:]


def test_a_reader_gets_the_records_of_the_file(changed: Program, tmp_path: Path) -> None:
    whole = save(changed, folder(tmp_path, "whole"))
    assert whole.params is not None
    with handed(changed, folder(tmp_path, "handed")) as files:
        assert files.params == files.model.parent
        names = [name for name in changed.vars if name in changed.params]
        assert [is_pipe(files.params / name) for name in names] == [True, False, True, False]
        records, there = {}, spans(whole.params, sorted(names))
        for name in names:
            (files.params / name).open("rb").close()  # the optimizer looks first
            with (files.params / name).open("rb") as file:
                records[name] = file.read(len(there[name]))
    assert b"".join(records[name] for name in sorted(names)) == whole.params.read_bytes()


def test_nobody_reads(changed: Program, tmp_path: Path) -> None:
    before = threading.enumerate()
    with handed(changed, folder(tmp_path, "handed")):
        pass
    assert set(threading.enumerate()) <= set(before)


def test_an_optimizer_that_is_stopped(changed: Program, tmp_path: Path) -> None:
    before = threading.enumerate()
    with Optimizer() as optimizer, pytest.raises(ConvertError, match=r"longer than 0\.01 s"):
        optimizer.run(changed, "x86", tmp_path / "a.nb", recipe=FP32, time_limit_s=0.01)
    assert set(threading.enumerate()) <= set(before)


def test_a_file_that_is_cut_meanwhile(
    changed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = dict.fromkeys(("b1", "w2", "w3", "w4"), range(1 << 30, 2 << 30))
    monkeypatch.setattr(handover, "spans", lambda path, names: there)
    with pytest.raises(ConvertError, match="was killed by"):
        optimize(changed, "x86", tmp_path / "a.nb", recipe=FP32)


@pytest.mark.parametrize(
    "name", ["layer/w2", "w\0", "..", "__model__", "w" * 300, "\U0001f600" * 99]
)
def test_names_that_no_file_has(name: str, tmp_path: Path) -> None:
    program = layers(tmp_path / "model", second=name)
    program.set_param("b1", np.zeros(600, "float32"))
    with handed(program, folder(tmp_path, "handed")) as files:
        assert files.params is not None and files.params.is_file()
    if name.isprintable():
        assert optimize(program, "x86", tmp_path / "a.nb", recipe=FP32).ops


def test_a_program_with_other_files_than_it_was_made_of(changed: Program, tmp_path: Path) -> None:
    changed.files = save(changed, folder(tmp_path, "other"))
    changed.set_param("b1", np.zeros(600, "float32"))
    with handed(changed, folder(tmp_path, "handed")) as files:
        assert files.params is not None and files.params.is_file()
