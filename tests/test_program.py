"""Program: reading and writing Paddle's model files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import make_model
import numpy as np
import pytest
from conftest import need

import lite_opt
from lite_opt.demo.packages import ocr_model
from lite_opt.model.load import find_model, load, save, stage
from lite_opt.model.program import Attr, Op
from py_runner.errors import ModelError
from py_runner.tensors import TensorSpec


def test_a_trained_model_survives_a_round_trip(tmp_path: Path) -> None:
    program = load(ocr_model("cls"))
    assert program.paddle_version == "2.3.2"
    assert program.inputs == [TensorSpec("x", "float32", (-1, 3, -1, -1))]
    assert program.outputs == [TensorSpec("softmax_0.tmp_0", "float32", (-1, 2))]
    saved = save(program, tmp_path)
    again = load(saved.model)
    assert again.blocks == program.blocks
    assert saved.params and program.files.params
    assert saved.params.read_bytes() == program.files.params.read_bytes()


def test_every_attribute_type_survives_a_round_trip(tmp_path: Path) -> None:
    values = {
        "INT": -3, "FLOAT": 0.5, "STRING": "é", "INTS": [1, -2], "FLOATS": [0.25], "STRINGS": ["a"],
        "BOOLEAN": True, "BOOLEANS": [True, False], "BLOCK": 0, "LONG": 1 << 40, "BLOCKS": [0],
        "LONGS": [-(1 << 40)], "FLOAT64S": [1e-300], "VAR": "x", "VARS": ["x", "y"],
        "FLOAT64": 1e300,
    }  # fmt: skip
    program = make_model.classifier()
    attrs = {f"a_{name}": Attr(name, value) for name, value in values.items()}
    program.ops[1].attrs.update(attrs)
    again = load(make_model.save(program, tmp_path / "m"))
    assert {name: again.ops[1].attrs[name] for name in attrs} == attrs


def test_stage_copies_no_parameters_unless_they_changed(model: Path, tmp_path: Path) -> None:
    program = load(model)
    assert stage(program, tmp_path).params == model / "inference.pdiparams"
    assert stage(program.copy(), tmp_path).params == model / "inference.pdiparams"
    fewer = program.copy()
    del fewer.params["fc.b"]
    assert stage(fewer, tmp_path).params == tmp_path / "inference.pdiparams"
    program.set_param("fc.b", np.zeros(make_model.CLASSES, "float32"))
    staged = stage(program, tmp_path)
    assert staged.params == tmp_path / "inference.pdiparams"
    assert not load(staged.model).params["fc.b"].any()
    assert stage(program.copy(), tmp_path).params == tmp_path / "inference.pdiparams"


def test_saving_over_the_file_that_the_parameters_are_views_of(tmp_path: Path) -> None:
    folder = make_model.save(make_model.classifier(), tmp_path / "m")
    before = (folder / "inference.pdiparams").read_bytes()
    program = load(folder)
    for _ in range(2):
        save(program, folder)
        assert (folder / "inference.pdiparams").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["inference.pdiparams", "inference.pdmodel"]


def test_the_package_loads_and_saves(model: Path, tmp_path: Path) -> None:
    files = lite_opt.save(lite_opt.load(model), tmp_path, name="again")
    assert isinstance(lite_opt.load(files.model), lite_opt.Program)


def test_old_folders_with_separate_and_with_combined_parameters(
    model: Path, tmp_path: Path
) -> None:
    program = load(model)
    combined, separate = tmp_path / "combined", tmp_path / "separate"
    for folder in (combined, separate):
        folder.mkdir()
        shutil.copy(model / "inference.pdmodel", folder / "__model__")
    shutil.copy(model / "inference.pdiparams", combined / "__params__")
    for name, value in program.params.items():
        one = make_model.Builder()
        one.params[name] = value
        one.vars[name] = program.vars[name]
        one.input("x", (1,))
        files = save(one.program("x"), tmp_path, name="one")
        assert files.params
        shutil.copy(files.params, separate / name)
    for folder in (combined, separate, separate / "__model__"):
        loaded = load(folder)
        assert loaded.blocks == program.blocks
        for name, value in program.params.items():
            assert np.array_equal(loaded.params[name], value)
    # A folder of separate files is not one that an engine could read.
    assert stage(load(separate), tmp_path).params == tmp_path / "inference.pdiparams"


@pytest.mark.parametrize("saved_by", ["jit.save", "save_inference_model"])
def test_what_paddle_itself_saves_is_read_bit_by_bit(saved_by: str, tmp_path: Path) -> None:
    """Names, order and dtypes of parameters, against the values that Paddle held."""
    pytest.importorskip("paddle")
    script = textwrap.dedent(
        f"""
        import numpy as np, paddle
        net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
        net.eval()
        spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "image")]
        out = {str(tmp_path / "net")!r}
        if {saved_by!r} == "jit.save":
            paddle.jit.save(paddle.jit.to_static(net, input_spec=spec, full_graph=True), out)
            values = {{p.name: p.numpy() for p in net.state_dict().values()}}
        else:
            paddle.enable_static()
            image = paddle.static.data("image", [None, 3, 8, 8])
            result = paddle.nn.functional.relu(paddle.static.nn.conv2d(image, 4, 3))
            exe = paddle.static.Executor()
            exe.run(paddle.static.default_startup_program())
            paddle.static.save_inference_model(out, [image], [result], exe)
            scope = paddle.static.global_scope()
            names = [p.name for p in paddle.static.default_main_program().all_parameters()]
            values = {{n: np.array(scope.find_var(n).get_tensor()) for n in names}}
        np.savez({str(tmp_path / "values.npz")!r}, **values)
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        env={"FLAGS_enable_pir_api": "0", "PATH": ""},
        check=False,
    )
    need(done.returncode == 0, f"paddlepaddle that exports: {done.stderr[-300:]}")
    program = load(tmp_path / "net.pdmodel")
    with np.load(tmp_path / "values.npz") as values:
        assert sorted(values.files) == sorted(program.params)
        for name in values.files:
            assert np.array_equal(values[name], program.params[name])
    assert program.inputs == [TensorSpec("image", "float32", (-1, 3, 8, 8))]


def test_a_model_is_found_by_any_of_its_files(model: Path, tmp_path: Path) -> None:
    files = find_model(model)
    assert find_model(model / "inference.pdmodel") == files
    assert find_model(model / "inference.pdiparams") == files
    odd = tmp_path / "odd names"
    odd.mkdir()
    shutil.copy(model / "inference.pdmodel", odd / "größe.pdmodel")
    shutil.copy(model / "inference.pdiparams", odd / "weights.bin")
    assert load(odd, params=odd / "weights.bin").params
    with pytest.raises(ModelError, match="parameters are missing"):
        load(odd)


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("model.onnx", "x2paddle"),
        ("model.nb", "is a Paddle Lite file"),
        ("model.pdparams", "jit.save"),
        ("model.pth", "PyTorch"),
    ],
)
def test_other_kinds_of_files_are_told_apart(name: str, telling: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=telling):
        load(tmp_path / name)


def test_several_models_in_a_folder_have_to_be_named(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(model / "inference.pdmodel", tmp_path / f"{name}.pdmodel")
    with pytest.raises(ModelError, match=r"a\.pdmodel, b\.pdmodel"):
        find_model(tmp_path)


def test_a_parameter_name_that_leads_elsewhere_is_refused(model: Path, tmp_path: Path) -> None:
    program = load(model)
    secret = tmp_path / "secret"
    shutil.copy(model / "inference.pdiparams", secret)
    folder = tmp_path / "hostile"
    folder.mkdir()
    var = program.vars.pop("fc.b")
    program.params.clear()
    for name in [n for n, v in program.vars.items() if v.is_stored]:
        program.vars[name].persistable = False
    var.name = "../secret"
    program.vars[var.name] = var
    save(program, folder, name="x")
    (folder / "x.pdmodel").rename(folder / "__model__")
    (folder / "x.pdiparams").unlink()
    with pytest.raises(ModelError, match="no file for parameter"):
        load(folder)


def test_remove_unused_drops_what_no_operator_names() -> None:
    program = make_model.classifier()
    program.set_param("orphan", np.zeros(3, "float32"))
    program.remove_unused()
    assert "orphan" not in program.params and "orphan" not in program.vars
    assert "fc.w" in program.params


def test_attribute_types_follow_from_values() -> None:
    op = Op("x", {}, {})
    for value, kind in ((1, "INT"), (True, "BOOLEAN"), (1.0, "FLOAT"), ("a", "STRING")):
        op.set("v", value)
        assert op.attrs["v"].type == kind
        op.set("v", [value])
        assert op.attrs["v"].type == kind + "S"
    with pytest.raises(TypeError):
        op.set("v", object())
