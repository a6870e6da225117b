"""Forms of models that Paddle Lite takes only after an edit: quantized, in half floats, of a fixed
batch, and with outputs that are inputs, constants or twice the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lite_opt.conversion.convert import convert
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from py_runner.formats.nb import read_nb


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
