"""Paddle model files <-> Program, without importing paddle.

`load` reads what Paddle 1.x, 2.x and 3.x save: a `.pdmodel` or (pir) an `inference.json` with its
`.pdiparams`, or a folder with `__model__` and combined or separate parameter files. The parameters
stay memory-mapped views of their file until somebody replaces one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lite_opt.model.params import read_params, write_params
from lite_opt.model.pdmodel import read_pdmodel, serialize
from lite_opt.model.pir import read_pir
from lite_opt.model.program import Graph, ModelFiles, Program
from py_runner.errors import ModelError
from py_runner.files.regular import read_bytes
from py_runner.formats.bundle import refuse_pipeline

__all__ = ["find_model", "load", "save", "save_graph", "stage"]

# Suffix of a model's file -> what its format is called, and its reader.
_FORMATS: dict[str, tuple[str, Callable[[Path, bytes], Graph]]] = {
    ".pdmodel": ("legacy", read_pdmodel),
    ".json": ("pir", read_pir),
}


def load(path: str | Path, *, params: str | Path | None = None) -> Program:
    """Read a model from a folder or a file; `params` names its parameters where they lie elsewhere.

    Raises ModelError for anything that is not one, and ConvertError for a PIR file with an
    operator or control flow that cannot be translated.
    """
    files = find_model(path, params=params)
    graph = _read_graph(files.model)
    variables = graph.blocks[0].vars
    stored = sorted(v.name for v in variables.values() if v.is_stored)
    program = Program(
        graph.blocks,
        read_params(files, [variables[name] for name in stored]),
        files=files,
        version=graph.version,
        op_versions=graph.op_versions,
    )
    if not program.outputs:
        raise ModelError(
            f"{files.model}: no fetch operator: this is not an inference model; "
            "export it with paddle.jit.save or paddle.static.save_inference_model"
        )
    return program


def _format(model: Path) -> tuple[str, Callable[[Path, bytes], Graph]]:
    """Files of any other name are in the older format: `__model__` was the first name of one."""
    return _FORMATS.get(model.suffix, _FORMATS[".pdmodel"])


def _read_graph(path: Path) -> Graph:
    _, read = _format(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return read(path, data)


def save(program: Program, folder: str | Path, *, name: str = "inference") -> ModelFiles:
    """Write `<name>.pdmodel` and `<name>.pdiparams` into a folder that exists."""
    params = Path(folder, f"{name}.pdiparams")
    write_params(params, ((program.var(n), program.params[n]) for n in sorted(program.params)))
    return save_graph(program, Path(folder, f"{name}.pdmodel"), params)


def stage(program: Program, folder: str | Path) -> ModelFiles:
    """Like `save`, for an engine that is to read the model once: parameters that are still
    exactly those of one combined file are not copied; the result names that file."""
    original = program.files.params
    if not program.params_untouched or original is None or original.is_dir():
        return save(program, folder)
    return save_graph(program, Path(folder, "inference.pdmodel"), original)


def save_graph(program: Program, path: Path, params: Path) -> ModelFiles:
    """Write a graph alone, of which `params` holds the parameters, or will hold them."""
    path.write_bytes(serialize(program))
    return ModelFiles(path, params)


def find_model(path: str | Path, *, params: str | Path | None = None) -> ModelFiles:
    """Find the model and parameter files that a path means: a folder, or one of the files.

    Raises ModelError that says what was expected when there is no Paddle inference model.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    model = _model_in(path) if path.is_dir() else _model_of_file(path)
    ir, _ = _format(model)
    if params is not None:
        given = Path(params)
        if not given.exists():
            raise ModelError(f"{given}: no such file or folder")
        return ModelFiles(model, given, ir)
    return ModelFiles(model, _params_of(model), ir)


def _model_in(folder: Path) -> Path:
    for name in ("inference.pdmodel", "model.pdmodel", "__model__", "inference.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.pdmodel")) or [
        p for p in sorted(folder.glob("*.json")) if p.with_suffix(".pdiparams").is_file()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.name for p in found)
        raise ModelError(f"{folder}: holds several models ({names}): name one of these files")
    if (folder / "model").is_file():
        return folder / "model"
    if (folder / "bundle.json").exists():
        raise ModelError(f"{folder}: is a bundle: convert takes the model that it was made from")
    refuse_pipeline(folder)
    if any(folder.glob("*.nb")):
        raise ModelError(f"{folder}: holds .nb files and no bundle.json: copy the bundle again")
    raise ModelError(
        f"{folder}: no Paddle inference model here "
        "(looked for *.pdmodel, inference.json, __model__)"
    )


_NOT_INFERENCE = {
    ".nb": "is a Paddle Lite file: run takes the bundle that holds it, convert the Paddle model "
    "that it was made from",
    ".onnx": "is an ONNX model, not a Paddle one: translate it with x2paddle first",
    ".pdparams": "holds training weights without a network: export the model with paddle.jit.save",
    ".pdopt": "holds optimizer state: export the model with paddle.jit.save",
    ".pt": "is a PyTorch file: translate it with x2paddle first",
    ".pth": "is a PyTorch file: translate it with x2paddle first",
    ".tflite": "is a TensorFlow Lite model, not a Paddle one",
}


def _model_of_file(path: Path) -> Path:
    if path.name in ("bundle.json", "run.json"):
        raise ModelError(f"{path}: name the folder that holds it")
    if path.suffix in _NOT_INFERENCE:
        raise ModelError(f"{path}: {_NOT_INFERENCE[path.suffix]}")
    if path.suffix == ".pdiparams":
        for suffix in _FORMATS:
            if path.with_suffix(suffix).is_file():
                return path.with_suffix(suffix)
        raise ModelError(f"{path}: these are parameters, and no .pdmodel or .json lies beside them")
    return path


def _params_of(model: Path) -> Path | None:
    if model.suffix in _FORMATS:
        beside = model.with_suffix(".pdiparams")
        if beside.is_file():
            return beside
        found = sorted(model.parent.glob("*.pdiparams"))
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise ModelError(f"{model}: which parameters? {names}: name the file with --params")
        return None
    for name in ("__params__", "params", "weights"):
        if (model.parent / name).is_file():
            return model.parent / name
    found = sorted(model.parent.glob("*.pdiparams"))
    return found[0] if len(found) == 1 else model.parent
