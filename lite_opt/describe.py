"""What a path holds, without running it: a model, a `.nb` file, a bundle or a run."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from lite_opt.program import Op, Program
from py_runner.bundle import Bundle, TensorSpec
from py_runner.nb import read_nb
from py_runner.run import Run

__all__ = ["describe", "flops"]


def describe(path: str | Path, *, params: str | Path | None = None) -> dict[str, Any]:
    """A summary that `json.dumps` takes; `kind` is "model", "nb", "bundle" or "run".

    Raises ModelError where the path is none of these, or damaged.
    """
    path = Path(path)
    if (path / "bundle.json").exists():
        return _bundle(Bundle.open(path))
    if (path / "run.json").exists():
        return {"kind": "run", "path": str(path), **Run.open(path).summary()}
    if path.suffix == ".nb":
        return {"kind": "nb", **read_nb(path).to_json()}
    return _model(Program.load(path, params=params))


def _bundle(bundle: Bundle) -> dict[str, Any]:
    targets = {}
    for name, target in bundle.targets.items():
        file = bundle.model(name).files[0]
        targets[name] = {**read_nb(file).to_json(), "precision": target.precision}
    return {
        "kind": "bundle",
        "path": str(bundle.path),
        "name": bundle.name,
        "sha256": bundle.sha256,
        "source": bundle.source,
        "recipe": bundle.recipe,
        "repairs": list(bundle.repairs),
        "inputs": [_spec(spec) for spec in bundle.inputs],
        "outputs": [_spec(spec) for spec in bundle.outputs],
        "image": bundle.image.to_json() if bundle.image else None,
        "labels": len(bundle.labels) if bundle.labels else None,
        "samples": [{"id": s.id, "label": s.label} for s in bundle.samples],
        "check": bundle.check,
        "targets": targets,
    }


def _model(program: Program) -> dict[str, Any]:
    return {
        "kind": "model",
        "path": str(program.files.model),
        "params": str(program.files.params) if program.files.params else None,
        "ir": program.files.ir,
        "paddle_version": program.paddle_version,
        "inputs": [_spec(spec) for spec in program.inputs],
        "outputs": [_spec(spec) for spec in program.outputs],
        "op_count": len(program.ops),
        "op_histogram": dict(Counter(op.type for op in program.ops).most_common()),
        "param_count": len(program.params),
        "parameters": sum(value.size for value in program.params.values()),
        "param_bytes": program.param_bytes,
        "flops": flops(program),
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def flops(program: Program) -> int | None:
    """Floating point operations of one inference: 2 for each multiply-add of convolutions and
    matrix products, for a batch of 1. None where a dimension other than the batch is dynamic.
    """
    total = 0
    for op in program.ops:
        count = _op_flops(program, op)
        if count is None:
            return None
        total += count
    return total


def _shape(program: Program, name: str | None) -> tuple[int, ...]:
    shape = program.vars[name].shape if name in program.vars else ()
    return (1, *shape[1:]) if shape[:1] == (-1,) else shape


def _op_flops(program: Program, op: Op) -> int | None:
    if op.type in ("conv2d", "depthwise_conv2d", "conv2d_transpose"):
        # Every output element of a convolution sums over a filter; a transposed one adds a filter
        # for every input element. Filters: [out, in / groups, h, w], [in, out / groups, h, w].
        filter_shape = _shape(program, op.input("Filter"))
        slot = op.input("Input") if op.type == "conv2d_transpose" else op.output("Output")
        shape = _shape(program, slot)
        per_element = math.prod(filter_shape[1:])
    elif op.type in ("mul", "matmul", "matmul_v2"):
        shape = _shape(program, op.output("Out"))
        x = _shape(program, op.input("X"))
        if op.type == "mul":
            per_element = math.prod(x[op.get("x_num_col_dims", 1) :])
        else:
            transposed = op.get("trans_x", op.get("transpose_X", False))
            per_element = x[-2 if transposed and len(x) > 1 else -1] if x else 1
    else:
        return 0
    if -1 in shape or per_element < 0:
        return None
    return 2 * math.prod(shape) * per_element
