"""Recipes of fewer bits on transformers and recurrent networks, as Paddle 3 exports them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import make_model
import numpy as np
import pytest
from click.testing import CliRunner

from lite_opt.cli.main import paddle_edge
from lite_opt.conversion.convert import convert
from lite_opt.recipes import recipe
from py_runner.formats.bundle import Bundle, InFloat
from py_runner.formats.nb import read_nb

SAMPLES = 24
EIGHT = recipe("int8", samples=16, max_float=0)  # in networks so small a head is one to spare
SHAPES = {"Vision": (3, 16, 16), "Lines": (3, 8, 32), "Recurrent": (3, 8, 32)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of make_encoders.py, and beside each what it is calibrated with."""
    folder = tmp_path_factory.mktemp("encoders")
    script = str(Path(__file__).with_name("make_encoders.py"))
    subprocess.run(
        [sys.executable, "-W", "ignore", script, str(folder)], check=True, capture_output=True
    )
    random = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = random.standard_normal((SAMPLES, *shape)).astype("float32")
        np.save(folder / f"{name}.npy", values)
    (folder / "Words.npy").mkdir()  # several inputs: one .npz a sample
    for index in range(SAMPLES):
        feeds = {
            "input_ids": random.integers(0, 50, (1, 12)),
            "attention_mask": (np.arange(12)[None] < random.integers(5, 13)).astype("int64"),
        }
        np.savez(folder / "Words.npy" / f"{index:02d}.npz", **feeds)
    return folder


@pytest.mark.parametrize(
    ("name", "linear", "others"),
    [
        ("Vision", 9, {"matmul_v2": InFloat(4, 0)}),
        ("Words", 14, {"matmul_v2": InFloat(4, 0), "lookup_table_v2": InFloat(1, 50 * 16 * 4)}),
        ("Lines", 9, {"matmul_v2": InFloat(4, 0)}),
    ],
)
def test_linear_layers_of_a_transformer_are_int8_and_products_of_activations_float(
    name: str, linear: int, others: dict[str, InFloat], networks: Path, tmp_path: Path
) -> None:
    done = convert(
        networks / name, tmp_path / "out", recipe=EIGHT, calibration=networks / f"{name}.npy"
    )
    assert done and done.bundle is not None and done.report is not None
    response = done.report.outputs[0].response
    assert response is not None and response > 0.5
    arm = done.bundle.targets["arm"]
    assert arm.in_float == others
    nb = read_nb(done.bundle.path / arm.file)
    fully = [op.precision for op in nb.ops if op.type in ("fc", "mul")]
    assert fully == ["int8"] * linear
    assert Bundle.open(tmp_path / "out").targets["arm"].in_float == others


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["int8", "--calibration"], "computed in float: 2 recurrent layers (LSTM, GRU), 22.1 KB"),
        (["int8-weights", "--samples"], "stored in float: 2 recurrent layers (LSTM, GRU), 22.1 KB"),
    ],
)
def test_it_is_said_what_of_a_recurrent_network_stays_float(
    words: list[str], told: str, networks: Path, tmp_path: Path
) -> None:
    ask = ["convert", str(networks / "Recurrent"), "-o", str(tmp_path / "out"), "--recipe", *words]
    ask += [str(networks / "Recurrent.npy")]
    shown = CliRunner().invoke(paddle_edge, ask, standalone_mode=False)
    assert f"{told} of weights\n" in shown.stdout
    lstm, gru = 2 * 4 * 12 * (32 + 12), 3 * 12 * (24 + 12)
    targets = Bundle.open(tmp_path / "out").targets
    weights = {"rnn": InFloat(2, 4 * (lstm + gru))}
    assert targets["arm"].in_float == weights
    assert targets["x86"].in_float == ({} if words[0] == "int8" else weights)


def test_a_layer_that_is_kept_in_float_is_among_them(
    model: Path, calibration_data: Path, bundle: Path, tmp_path: Path
) -> None:
    ask = ["convert", str(model), "-o", str(tmp_path / "out"), "--recipe", "int8", "--json"]
    ask += ["--calibration", str(calibration_data), "--float-layer", "fc.mul"]
    done = CliRunner().invoke(paddle_edge, ask, standalone_mode=False)
    size = 4 * 32 * make_model.CLASSES
    targets = json.loads(done.stdout)["targets"]
    assert targets["arm"]["in_float"] == {"fc": {"layers": 1, "bytes": size}}
    assert not Bundle.open(bundle).targets["arm"].in_float
