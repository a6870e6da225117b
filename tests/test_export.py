"""`export`: trained weights become an inference model that answers as the network does."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lite_opt.exporting.architecture import PADDLECLAS, architecture, transform_ops
from lite_opt.exporting.checkpoint import fitted, read_checkpoint
from lite_opt.exporting.environment import interpreter
from lite_opt.exporting.export import MOST_DIFFERENCE, export
from lite_opt.model.load import load
from py_runner.data.image import PRESETS
from py_runner.data.image_text import image_spec
from py_runner.data.inference_yml import read_inference_yml
from py_runner.errors import DataError, EngineError, ModelError, UsageError
from py_runner.tensors import TensorSpec

NETS = '''
import os
import paddle

class Net(paddle.nn.Layer):
    """Two inputs, two outputs, and parameters of two kinds."""

    def __init__(self, width=4, fault=None):
        super().__init__()
        if fault == "raises":
            raise TypeError("no such width")
        if fault == "dies":
            os.abort()
        self.conv = paddle.nn.Conv2D(3, width, 3)
        self.norm = paddle.nn.BatchNorm2D(width)
        self.fault = fault

    def forward(self, x, y):
        out = self.norm(self.conv(x))
        if self.fault == "other" and not paddle.in_dynamic_mode():
            out = out * 1.001
        if self.fault == "trains":
            return out.mean()
        return out + y, (out.mean(),)

def number():
    return 3

class Fixed(paddle.nn.Layer):
    """Keeps the batch that it is traced with."""

    def __init__(self):
        super().__init__()
        self.linear = paddle.nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(x.reshape([x.shape[0], 6]))
'''
X, Y = TensorSpec("x", "float32", (1, 3, 8, 8)), TensorSpec("y", "float32", (1, 4, 6, 6))


def weights(width: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)

    return {
        "conv.weight": drawn(width, 3, 3, 3),
        "conv.bias": drawn(width),
        **{f"norm.{name}": drawn(width) for name in ("weight", "bias", "_mean", "_variance")},
    }


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets.py").write_text(NETS)
    np.savez(folder / "w.npz", **weights())
    return folder


def test_a_network_of_ones_own(nets: Path, tmp_path: Path) -> None:
    done = export(f"{nets}/nets.py:Net", tmp_path / "m", weights=nets / "w.npz", inputs=[X, Y])
    assert done and done.difference <= MOST_DIFFERENCE
    assert [spec.name for spec in done.inputs] == ["x", "y"] and len(done.outputs) == 2
    assert done.parameters == sum(array.size for array in weights().values())
    program = load(tmp_path / "m")
    stored = {array.tobytes() for array in program.params.values()}
    assert weights()["conv.weight"].tobytes() in stored
    origin = json.loads((tmp_path / "m" / "export.json").read_text())
    assert origin["weights"] == "w.npz" and origin["paddle"] == done.paddle
    # What paddle-edge made, --force replaces.
    assert export(
        f"{nets}/nets.py:Net", tmp_path / "m", weights=nets / "w.npz", inputs=[X, Y], force=True
    )


@pytest.mark.parametrize(
    "name, arguments, inputs, error, words",
    [
        ("Net", {"fault": "raises"}, [X, Y], EngineError, "raises TypeError: no such width"),
        ("Net", {"fault": "dies"}, [X, Y], EngineError, "with Net of .* was killed by SIGABRT"),
        ("Net", {"wide": 3}, [X, Y], EngineError, "unexpected keyword argument 'wide'"),
        ("Net", {"width": 5}, [X, Y], ModelError, r"'conv.weight' is \[4, 3, 3, 3\].*\[5, 3, 3"),
        ("Nett", {}, [X], EngineError, "has no 'Nett'; it has Net"),
        ("number", {}, [X], EngineError, "makes a int, no paddle.nn.Layer"),
        ("Net", {"fault": "trains"}, [X, Y], EngineError, "cannot be saved: .*not involved"),
        ("Net", {}, [X], EngineError, "Net cannot be saved: .*requires `y`"),
    ],
)
def test_a_network_at_fault_leaves_nothing(
    nets: Path,
    tmp_path: Path,
    name: str,
    arguments: dict[str, Any],
    inputs: list[TensorSpec],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        export(
            f"{nets}/nets.py:{name}",
            tmp_path / "m",
            weights=nets / "w.npz",
            inputs=inputs,
            arguments=arguments,
        )
    assert list(tmp_path.iterdir()) == []


def test_what_answers_otherwise_is_not_written(nets: Path, tmp_path: Path) -> None:
    done = export(
        f"{nets}/nets.py:Net",
        tmp_path / "m",
        weights=nets / "w.npz",
        inputs=[X, Y],
        arguments={"fault": "other"},
    )
    assert not done and 1e-4 < done.difference < 1e-2
    assert done.to_json()["path"] is None and list(tmp_path.iterdir()) == []


def saved(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_paddle_saves_is_read(tmp_path: Path, protocol: int) -> None:
    state = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([3], np.int64)}
    path = saved(
        tmp_path / "x.pdparams", {**state, "StructuredToParameterName@@": {"a": "b"}}, protocol
    )
    read = read_checkpoint(path)
    assert read.keys() == state.keys()
    assert all(np.array_equal(read[name], state[name]) for name in state)
    # A tensor in a dictionary of others is saved as the pair of its name and its array.
    nested = {"model": {"a.weight": ("linear_0.w_0", state["a.weight"])}, "epoch": 3}
    assert read_checkpoint(saved(path, nested, protocol)).keys() == {"model.a.weight"}


class _Calls:
    def __reduce__(self) -> Any:
        return print, ("called",)


@pytest.mark.parametrize(
    "value, words",
    [
        (_Calls(), "asks for builtins.print"),
        ({"a": np.array([None, {}], object)}, "array of objects"),
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
    ],
)
def test_a_checkpoint_calls_nothing(
    tmp_path: Path, value: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=words):
        read_checkpoint(saved(tmp_path / "x.pdparams", value))
    assert capsys.readouterr().out == ""


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    whole = saved(tmp_path / "x.pdparams", weights()).read_bytes()
    for data in (b"", b"PK\3\4", whole[:-40], whole[: len(whole) // 2]):
        (tmp_path / "x.pdparams").write_bytes(data)
        with pytest.raises(ModelError, match=r"x\.pdparams: is no checkpoint"):
            read_checkpoint(tmp_path / "x.pdparams")
    with pytest.raises(ModelError, match="No such file"):
        read_checkpoint(tmp_path / "none.pdparams")
    with pytest.raises(ModelError, match="directory"):
        read_checkpoint(tmp_path)


PARAMETERS = [TensorSpec("a.w", "float32", (2,)), TensorSpec("b", "float32", (1,))]


def arrays(prefix: str = "", **others: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    own = {"a.w": np.ones(2, np.float16), "b": np.ones(1, np.float32)}
    return {**{prefix + name: value for name, value in own.items()}, **others}


def test_weights_are_found_under_their_prefix() -> None:
    state, prefix = fitted(arrays(), PARAMETERS, "f")
    assert prefix == "" and state["a.w"].dtype == np.float32
    state, prefix = fitted(arrays("Student.", other=np.ones(3)), PARAMETERS, "f")
    assert prefix == "Student." and state.keys() == {"a.w", "b"}
    both = {**arrays("Student."), **arrays("Teacher.")}
    with pytest.raises(ModelError, match=r"'Student\.' and 'Teacher\.': choose with --prefix"):
        fitted(both, PARAMETERS, "f")
    assert fitted(both, PARAMETERS, "f", prefix="Teacher.")[1] == "Teacher."


@pytest.mark.parametrize(
    "stored, words",
    [
        ({"a.w": np.ones(2)}, "has no 'b', of the 2 parameters"),
        ({"c": np.ones(2)}, "has no 'a.w', 'b', .*; it holds 'c' instead"),
        (arrays(c=np.ones(1), d=np.ones(1)), "holds 'c', 'd', which the network does not have"),
        ({**arrays(), "b": np.ones((1, 1))}, r"'b' is \[1, 1\], and the network's is \[1\]"),
        ({**arrays(), "b": np.ones(1, np.int64)}, "'b' is int64, and the network's is float32"),
    ],
)
def test_weights_of_another_network(stored: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        fitted(stored, PARAMETERS, "f")


@pytest.mark.parametrize(
    "text, words",
    [
        ("no network", "is no architecture"),
        ("net.py", "net.py:Net"),
        ("none.py:Net", "there is no such file"),
        ("no such:Net", "neither a file"),
        ("os.path:a b", "no name of a class"),
    ],
)
def test_what_is_no_network(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        architecture(text, inputs=[X])
    with pytest.raises(UsageError, match="--input"):
        architecture("a.b:Net")


@pytest.mark.parametrize("preset", ["paddleclas"])
@pytest.mark.parametrize(
    "change",
    [
        "resize=exact:32x48",
        "resize=none,crop=64",
        "resize=short:70,crop=64x32,color=BGR",
        "resize=short:64,interpolation=pil-bilinear",
    ],
)
def test_preprocessing_is_read_as_it_was_written(preset: str, change: str, tmp_path: Path) -> None:
    for spec in (PRESETS[preset], image_spec(change)):
        document = {"PreProcess": {"transform_ops": transform_ops(spec)}}
        (tmp_path / "inference.yml").write_text(yaml.safe_dump(document))
        assert read_inference_yml(tmp_path)[0] == spec
    with pytest.raises(UsageError, match="resize=letterbox"):
        transform_ops(image_spec("resize=letterbox:64x64"))


CONFIG = {
    "Global": {"image_shape": [3, 64, 48]},
    "Arch": {"name": "SqueezeNet1_1", "class_num": 7, "pretrained": True},
    "Infer": {
        "transforms": [
            {"DecodeImage": {"to_rgb": True, "channel_first": False}},
            {"ResizeImage": {"size": [48, 64]}},
            {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0, 0, 0], "std": [1, 1, 1]}},
            {"ToCHWImage": None},
        ],
        "PostProcess": {"name": "Topk", "topk": 5, "class_id_map_file": "names.txt"},
    },
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def test_a_training_config(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    found = architecture(str(written(tmp_path)), arguments={"class_num": 8})
    assert (found.module, found.name) == (PADDLECLAS, "SqueezeNet1_1")
    assert found.arguments == {"class_num": 8}
    assert found.inputs == (TensorSpec("x", "float32", (-1, 3, 64, 48)),)
    assert found.label_file == tmp_path / "names.txt" and found.transforms


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"Arch": None}, "no training config"),
        ({"Arch": {"name": "RecModel", "Backbone": {"name": "x"}}}, "several networks"),
        ({"Global": {"image_shape": [3, "a"]}}, "image_shape"),
    ],
)
def test_a_config_that_cannot_be_followed(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        architecture(str(written(tmp_path, **changes)))


def test_where_paddleclas_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_EDGE_PADDLECLAS_PYTHON", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="is no program"):
        interpreter()
    monkeypatch.delenv("PADDLE_EDGE_PADDLECLAS_PYTHON")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"--install makes an environment for it in .*paddleclas"):
        interpreter()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_classifier_of_paddleclas(tmp_path: Path) -> None:
    """Weights that PaddleClas' own network was saved with, by Paddle, under Paddle's names."""
    zoo = Path(__file__).parents[1] / "benchmarks" / "zoo.py"
    saved = [sys.executable, zoo, "checkpoint", "MobileNetV1_x0_25", tmp_path / "w.pdparams"]
    subprocess.run(saved, check=True, capture_output=True)
    done = export("MobileNetV1_x0_25", tmp_path / "m", weights=tmp_path / "w.pdparams")
    assert done, done.difference
    assert done.inputs[0].shape == (-1, 3, 224, 224)
    assert done.labels == 1000 and done.image == PRESETS["paddleclas"]
    with pytest.raises(ModelError, match=r"'fc.weight' is .*, or of other classes"):
        export(
            "MobileNetV1_x0_25",
            tmp_path / "n",
            weights=tmp_path / "w.pdparams",
            arguments={"class_num": 5},
        )
    with pytest.raises(EngineError, match="has no 'MobileNetV1_x0_26'; it has MobileNetV1_x0_25"):
        export("MobileNetV1_x0_26", tmp_path / "n", weights=tmp_path / "w.pdparams")
    assert not (tmp_path / "n").exists()
