"""What a path holds, without running it: a model, a `.nb` file, a bundle or a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Union

from lite_opt.lite.kernels import SINCE, WITH_EXTRA, supported_ops
from lite_opt.lite.refusals import reasons
from lite_opt.lite.targets import LITE
from lite_opt.model.cost import (
    activation_bytes,
    convolution_share,
    flops,
    memory_bytes,
    multiply_adds,
)
from lite_opt.model.load import load
from lite_opt.model.program import Op, Program
from lite_opt.passes.repair import repair
from py_runner.errors import UsageError
from py_runner.files.url import Place, Url, place
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import NbFile, read_nb
from py_runner.formats.pages import Pages, is_pages
from py_runner.formats.parts import is_under_way
from py_runner.formats.pipeline import Pipeline, is_pipeline
from py_runner.formats.run import Run
from py_runner.tensors import TensorSpec

__all__ = ["Opened", "describe", "described", "opened"]

Opened = Union[Program, Bundle, Run, Pipeline, Pages, NbFile]

# In every network of docs/onnx.md with so large, or so small, a part in convolutions one engine was
# the cheaper one.
_MOSTLY, _HARDLY = 0.75, 0.2
_DEAREST = 5  # operators that are named
# Folders that hold several of what is described here, by the file that tells them.
_SEVERAL = {
    "fleet.json": "is of several devices, with a run of each",
    "trial.json": "is a trial, with a bundle and runs of each recipe",
    "matrix.json": "is a matrix, with a trial of each model",
}


def describe(
    path: str | Place, *, params: str | Path | None = None, target: str | None = None
) -> dict[str, Any]:
    """A summary that `json.dumps` takes; `kind` is "model", "nb", "bundle", "run", "pipeline"
    or "pipeline run".

    With a target, a model's summary says what converting it for that target will meet.
    Raises ModelError where the path is none of these, or damaged; UsageError for a target that is
    unknown, or asked of something that is not a model; EngineError where the optimizer, which
    knows what there are kernels for, is not installed.
    """
    return described(opened(path, params=params), path, target=target)


def opened(path: str | Place, *, params: str | Path | None = None) -> Opened:
    """What a path holds; a URL holds a run. Raises ModelError where that is nothing of these, or
    damaged, and UsageError where it is several of them."""
    path = place(path)
    if isinstance(path, Url):
        return Run.open(path)
    if (path / "bundle.json").exists():
        return Bundle.open(path)
    if (path / "run.json").exists() or is_under_way(path):
        return Run.open(path)
    if is_pipeline(path):
        return Pipeline.open(path)
    if is_pages(path):
        return Pages.open(path)
    if path.suffix == ".nb":
        return read_nb(path)
    for manifest, words in _SEVERAL.items():
        if (path / manifest).is_file():
            raise UsageError(f"{path}: {words}: name one of what is in it")
    return load(path, params=params)


def described(found: Opened, path: str | Place, *, target: str | None = None) -> dict[str, Any]:
    """`describe` of what was opened from a path. With a target a program is repaired, in place."""
    if target is not None and target not in LITE:
        raise UsageError(f"unknown target '{target}': choose {' or '.join(LITE)}")
    if isinstance(found, Program):
        document = _model(found)
        return document if target is None else {**document, "target": _prospect(found, target)}
    document = _without_target(found, place(path))
    if target is not None:
        raise UsageError(f"{path}: is a {document['kind']}: a target is asked of a model")
    return document


def _without_target(found: Bundle | Run | Pipeline | Pages | NbFile, path: Place) -> dict[str, Any]:
    if isinstance(found, Bundle):
        return _bundle(found)
    if isinstance(found, Run):
        return {"kind": "run", "path": str(path), **found.summary()}
    if isinstance(found, Pipeline):
        return _pipeline(found)
    if isinstance(found, Pages):
        return _pages(path, found)
    return {"kind": "nb", **found.to_json()}


def _bundle(bundle: Bundle) -> dict[str, Any]:
    targets: dict[str, dict[str, Any]] = {}
    there = [t.file for t in bundle.targets.values() if (bundle.path / t.file).exists()]
    for name, target in bundle.targets.items():
        if there and target.file not in there:  # as in what `android prepare` makes
            targets[name] = {"file": target.file, "left_out": True, "precision": target.precision}
            continue
        file = bundle.model(name).files[0]
        if target.onnx is not None:
            targets[name] = {
                "file": target.file,
                "bytes": target.bytes,
                "made_by": target.opt_version,
                **asdict(target.onnx),
                "ops": target.ops,
                "weight_bytes_by_dtype": target.weights,
                "precision": target.precision,
            }
            continue
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
        "task": bundle.task,
        "labels": len(bundle.labels) if bundle.labels else None,
        "samples": [{"id": s.id, "label": s.label} for s in bundle.samples],
        "check": bundle.check,
        "targets": targets,
    }


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "kind": "pipeline",
        "path": str(pipeline.path),
        "name": pipeline.name,
        "sha256": pipeline.sha256,
        "of": pipeline.kind,
        "options": asdict(pipeline.options),
        "stages": {
            name: {
                "bundle": bundle.name,
                "recipe": bundle.recipe.get("name"),
                "task": (bundle.task or {}).get("name", "classification"),
                "targets": list(bundle.targets),
                "bytes": {target: made.bytes for target, made in bundle.targets.items()},
            }
            for name, bundle in pipeline.stages.items()
        },
    }


def _pages(path: Place, run: Pages) -> dict[str, Any]:
    document = run.to_json()
    del document["pages"], document["fed"]
    return {
        "kind": "pipeline run",
        "path": str(path),
        **document,
        "pages": len(run.pages),
        "lines": sum(len(page.text) for page in run.pages),
        "against": run.fed.against if run.fed else None,
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
        "convolution_share": convolution_share(program),
        "engine_on_arm": _engine_on_arm(convolution_share(program)),
    }


def _engine_on_arm(share: float | None) -> str:
    """Which engine is the cheaper one on ARM, as far as docs/onnx.md has measured such networks."""
    both = "bench BUNDLE --engine native,onnx --device qemu-aarch64:pi4 counts both"
    if share is None or _HARDLY < share < _MOSTLY:
        return f"not known: {both}"
    engine, cheaper, other = (
        ("native", "Paddle Lite", "ONNX Runtime")
        if share >= _MOSTLY
        else ("onnx", "ONNX Runtime", "Paddle Lite")
    )
    return (
        f"{engine}: {100 * share:.0f} % of the operations are convolutions, and in such networks "
        f"{cheaper} executed fewer instructions than {other} (docs/onnx.md); {both}"
    )


def _prospect(program: Program, target: str) -> dict[str, Any]:
    """What converting for a target will meet, after the repairs, which are made here."""
    changes = repair(program)
    ops = [op for block in program.blocks for op in block.ops if op.type not in ("feed", "fetch")]
    kernels = supported_ops(target)
    lacking: dict[str, list[str]] = {}
    for op in ops:
        if op.type not in kernels:
            lacking.setdefault(op.type, []).append(op.layer)
    return {
        "name": target,
        "repairs": len(changes),
        "ops_with_kernel": len(ops) - sum(map(len, lacking.values())),
        "ops_without_kernel": lacking,
        "ops_since": {
            name: SINCE[name]
            for name in sorted({op.type for op in ops})
            if name in SINCE and target == "arm"
        },
        "refusals": reasons(program, [target]),
        "ops_with_extra": sorted({op.type for op in ops} & WITH_EXTRA),
        **_shares(program),
        "dynamic": {s.name: str(s) for s in program.inputs if -1 in s.shape[1:]},
        "activation_bytes": activation_bytes(program),
        "memory_bytes": memory_bytes(program),
    }


def _shares(program: Program) -> dict[str, Any]:
    """Kinds of operators, and the dearest ones, by their share of the multiply-adds, which is None
    where a dimension other than the batch is dynamic."""
    ops = [op for op in program.ops if op.type not in ("feed", "fetch")]
    counts = dict(zip(map(id, program.ops), multiply_adds(program) or ()))
    total = sum(counts.values())

    def share(some: Iterable[Op]) -> float | None:
        return round(sum(counts[id(op)] for op in some) / total, 4) if total else None

    kinds = [
        {"type": type_, "count": count, "share": share(op for op in ops if op.type == type_)}
        for type_, count in Counter(op.type for op in ops).most_common()
    ]
    dearest = sorted(ops, key=lambda op: -counts[id(op)])[:_DEAREST] if total else []
    return {
        "ops_by_share": sorted(kinds, key=lambda kind: -(kind["share"] or 0)),
        "dearest_ops": [{"layer": o.layer, "type": o.type, "share": share([o])} for o in dearest],
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
