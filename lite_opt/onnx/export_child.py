"""Paddle2ONNX on one model: the child of exporter.py.

Paddle2ONNX 2.1.0 takes PIR only: a legacy model is translated by paddle. And it reads attributes
of 64 bits as if they had 32: the slope of a leaky_relu becomes 2.5e-43 or 1.7e22, the scales of a
nearest_interp end the process. So they are narrowed before it sees them.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this file's folder: its modules are not for what is imported here

import ctypes
import importlib
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FULL = "1.full"


def main() -> None:
    """Write the ONNX file that the JSON on standard input asks for, then what it is."""
    if sys.platform == "linux":
        # Die with the parent, however it dies: nobody would use what comes out.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    config = json.loads(sys.stdin.read() or "null")
    if config is None:  # the parent has given up
        return
    onnx: Any = importlib.import_module("onnx")
    paddle2onnx: Any = importlib.import_module("paddle2onnx")
    model, params = Path(config["model"]), Path(config["params"])
    folder = Path(config["facts"]).parent
    if model.suffix != ".json":
        model, params = _translated(model, params, folder)
    narrowed = folder / "narrowed.json"
    document = json.loads(model.read_bytes())
    _narrow(document["program"])
    narrowed.write_text(json.dumps(document), encoding="utf-8")
    # Without a name for its file it neither installs nor runs its optimizer: ONNX Runtime has one.
    # Only by all that it says can be told of which operator it died.
    data = paddle2onnx.export(
        str(narrowed), str(params), opset_version=config["opset"], verbose=True
    )
    if not data:
        raise SystemExit("it made an empty file")
    Path(config["out"]).write_bytes(data)
    facts = {
        "version": f"Paddle2ONNX {paddle2onnx.__version__}",
        **_facts(onnx.load_from_string(data)),
    }
    Path(config["facts"]).write_text(json.dumps(facts), encoding="utf-8")


def _translated(model: Path, params: Path, folder: Path) -> tuple[Path, Path]:
    """A legacy model as PIR, in `folder`."""
    paddle: Any = importlib.import_module("paddle")
    paddle2onnx: Any = importlib.import_module("paddle2onnx")
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard():
        program, _, _ = paddle.static.load_inference_model(
            str(model.parent), executor, model_filename=model.name, params_filename=str(params)
        )
    translated = paddle.pir.translate_to_pir(program.desc)
    paddle2onnx.load_parameter(translated)
    paddle2onnx.save_program(translated, str(folder / "translated"))
    return folder / "translated.json", folder / "translated.pdiparams"


def _narrow(node: Any) -> None:
    """Give attributes of 64-bit floats 32 bits, in place; not the value of a full, which is read
    as it is."""
    if isinstance(node, list):
        for entry in node:
            _narrow(entry)
    elif isinstance(node, dict) and node.get("#") != _FULL:
        if node.get("#") == "0.a_f64":
            node["#"] = "0.a_f32"
        for entry in node.values():
            _narrow(entry)


def _facts(model: Any) -> dict[str, Any]:
    """Operators, the version of their set, and bytes of constants, which hold the weights."""
    dtype_of: Any = importlib.import_module("onnx.helper").tensor_dtype_to_np_dtype
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    weights: Counter[str] = Counter()
    for tensor in (*constants, *model.graph.initializer):
        weights[dtype_of(tensor.data_type).name] += len(tensor.raw_data)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    operators = len(model.graph.node) - len(constants)
    return {"ops": operators, "opset": opset, "weights": dict(weights)}


if __name__ == "__main__":
    main()
