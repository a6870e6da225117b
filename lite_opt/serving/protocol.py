"""Requests and answers of the Open Inference Protocol, version 2: the tensors in them.

A body is a JSON object; the elements of a tensor stand in it as "data", or follow it as bytes,
little endian, in C order, of which "binary_data_size" tells how many are whose, and the header
Inference-Header-Content-Length where the JSON ends (the protocol's binary tensor data extension).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.serving.refusals import Refusal
from py_runner.tensors import TensorSpec

__all__ = [
    "EXTENSIONS",
    "LENGTH_HEADER",
    "Wanted",
    "array_of_bytes",
    "array_of_numbers",
    "checked_feeds",
    "datatype",
    "infer_body",
    "little_endian",
    "parse_infer",
    "read_json",
    "specs_json",
    "wanted_outputs",
]

_Array = npt.NDArray[Any]
EXTENSIONS = ("binary_tensor_data",)
LENGTH_HEADER = "Inference-Header-Content-Length"
_MOST_DIMENSIONS = 16
_NUMPY = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_DATATYPES = {name: datatype for datatype, name in _NUMPY.items()}


@dataclass(frozen=True)
class Wanted:
    """The outputs that a request asks for, in its order, each with whether as bytes; all of them,
    as `binary` says, where it names none."""

    outputs: Sequence[tuple[str, bool]] = ()
    binary: bool = False
    id: str = ""


def datatype(dtype: str) -> str:
    """The protocol's name of a NumPy dtype. Raises Refusal for one that it has not."""
    if dtype not in _DATATYPES:
        raise Refusal(500, f"the protocol has no name for {dtype}")
    return _DATATYPES[dtype]


def specs_json(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    """Inputs or outputs as a model's metadata has them."""
    return [{"name": s.name, "datatype": datatype(s.dtype), "shape": list(s.shape)} for s in specs]


def read_json(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refusal for anything else, NaN and Infinity among it."""
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise Refusal(400, f"the body is no JSON: {why}") from None
    if not isinstance(document, dict):
        raise Refusal(400, f"the body is no JSON object, but {type(document).__name__}")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that JSON has")


def parse_infer(
    body: bytes, header_length: str | None, inputs: Sequence[TensorSpec]
) -> tuple[dict[str, _Array], Wanted]:
    """What a request feeds, and what it asks for. Raises Refusal, in words, for what is wrong."""
    end = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit():
            raise Refusal(400, f"{LENGTH_HEADER} is no number")
        end = int(header_length[:20])
        if end > len(body):
            raise Refusal(400, f"{LENGTH_HEADER} is {end}, and the body has {len(body)} bytes")
    document = read_json(body[:end])
    binary = memoryview(body)[end:]
    given = {}
    for entry in _list_of(document, "inputs", required=True):
        name = _text(entry, "name", "an input")
        if name in given:
            raise Refusal(400, f"input '{name}' stands there twice")
        given[name], binary = _tensor(name, entry, binary)
    if binary:
        raise Refusal(400, f"{len(binary)} bytes of the body belong to no input")
    return checked_feeds(given, inputs), _wanted(document)


def _tensor(name: str, entry: Mapping[str, Any], binary: memoryview) -> tuple[_Array, memoryview]:
    """An input of a request, and the bytes that are left."""
    kind, shape = _text(entry, "datatype", f"input '{name}'"), entry.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int for side in shape):
        raise Refusal(400, f"input '{name}': 'shape' is no list of whole numbers")
    size = _parameters(entry, f"input '{name}'").get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise Refusal(400, f"input '{name}' has neither 'data' nor binary_data_size")
        return array_of_numbers(name, kind, shape, entry["data"]), binary
    if "data" in entry:
        raise Refusal(400, f"input '{name}' has both 'data' and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(binary):
        raise Refusal(
            400, f"input '{name}': binary_data_size is {size!r:.40}, and {len(binary)} bytes follow"
        )
    return array_of_bytes(name, kind, shape, binary[:size]), binary[size:]


def array_of_numbers(name: str, kind: str, shape: Sequence[int], data: Any) -> _Array:
    """A tensor whose elements are a list, flat or nested. Raises Refusal where they do not fit."""
    dtype = _dtype(name, kind)
    count = _count(name, shape)
    try:
        held = np.array(data)
    except (ValueError, RecursionError):  # rows of different lengths, or nested too deep
        held = np.array(None)
    if held.size == 0:
        held = held.astype(dtype)
    if held.dtype.kind not in {"b": "b", "f": "iuf"}.get(dtype.kind, "iu"):
        raise Refusal(400, f"input '{name}': 'data' is no array of {kind}")
    if held.size != count or (held.ndim != 1 and held.shape != tuple(shape)):
        raise Refusal(
            400, f"input '{name}': 'data' is {list(held.shape)}, and 'shape' {list(shape)}"
        )
    if dtype.kind in "iu" and held.size:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(held.min()) < least or int(held.max()) > most:
            raise Refusal(400, f"input '{name}': numbers beyond {kind}")
    with np.errstate(over="ignore"):  # infinite numbers are refused later
        return held.astype(dtype).reshape(shape)


def array_of_bytes(name: str, kind: str, shape: Sequence[int], data: bytes | memoryview) -> _Array:
    """A tensor whose elements are bytes. Raises Refusal where there are not as many as it takes."""
    dtype = _dtype(name, kind)
    needed = _count(name, shape) * dtype.itemsize
    if len(data) != needed:
        raise Refusal(
            400, f"input '{name}': {kind} {list(shape)} takes {needed} bytes, not {len(data)}"
        )
    # Copied: what follows JSON of any length is not aligned, and engines like their numbers so.
    array = np.frombuffer(bytes(data), dtype.newbyteorder("<")).astype(dtype, copy=False)
    if dtype.kind == "b" and bytes(data).strip(b"\0\1"):
        raise Refusal(400, f"input '{name}': a BOOL is the byte 0 or 1")
    return array.reshape(shape)


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in _NUMPY:
        raise Refusal(
            400, f"input '{name}': unknown datatype '{kind:.40}': choose {', '.join(_NUMPY)}"
        )
    return np.dtype(_NUMPY[kind])


def _count(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape has; sides are no less than 0, and not absurd."""
    if len(shape) > _MOST_DIMENSIONS or not all(0 <= side < 1 << 31 for side in shape):
        raise Refusal(400, f"input '{name}': 'shape' {list(shape)[:_MOST_DIMENSIONS]} is none")
    return math.prod(shape)


def checked_feeds(given: Mapping[str, _Array], inputs: Sequence[TensorSpec]) -> dict[str, _Array]:
    """The tensors in the order of the model's inputs. Raises Refusal where they are not those that
    it takes, or hold NaN or infinite numbers."""
    names = [spec.name for spec in inputs]
    for name in given:
        if name not in names:
            raise Refusal(400, f"there is no input '{name:.80}', only {', '.join(names)}")
    for spec in inputs:
        if spec.name not in given:
            raise Refusal(400, f"nothing is given for input '{spec.name}', {spec}")
        value = given[spec.name]
        wrong = spec.mismatch(value)
        if wrong:
            raise Refusal(400, wrong)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Refusal(400, f"input '{spec.name}' holds NaN or infinite numbers")
    return {name: given[name] for name in names}


def _wanted(document: Mapping[str, Any]) -> Wanted:
    binary = _flag(_parameters(document, "the request"), "binary_data_output", False)
    outputs = []
    for entry in _list_of(document, "outputs", required=False):
        name = _text(entry, "name", "an output")
        parameters = _parameters(entry, f"output '{name}'")
        if "classification" in parameters:
            raise Refusal(400, "'classification' is not served: /predict answers with classes")
        outputs.append((name, _flag(parameters, "binary_data", binary)))
    id_ = document.get("id", "")
    if not isinstance(id_, str):
        raise Refusal(400, "'id' is no text")
    return Wanted(outputs, binary, id_)


def wanted_outputs(outputs: Mapping[str, _Array], wanted: Wanted) -> list[tuple[str, _Array, bool]]:
    """Those outputs that are asked for, each with whether as bytes. Raises Refusal for another."""
    asked = wanted.outputs or [(name, wanted.binary) for name in outputs]
    for name, _ in asked:
        if name not in outputs:
            raise Refusal(400, f"there is no output '{name:.80}', only {', '.join(outputs)}")
    return [(name, outputs[name], binary) for name, binary in asked]


def infer_body(
    about: Mapping[str, Any], outputs: Mapping[str, _Array], wanted: Wanted
) -> tuple[bytes, int | None]:
    """The body of an answer, and how long its JSON is where bytes follow it, else None.

    `about` is {"model_name", "model_version"}. Raises Refusal for NaN in what is asked for as JSON.
    """
    entries, parts = [], []
    for name, value, binary in wanted_outputs(outputs, wanted):
        entry: dict[str, Any] = {
            "name": name,
            "datatype": datatype(value.dtype.name),
            "shape": list(value.shape),
        }
        if binary:
            part = little_endian(value)
            entry["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            entry["data"] = value.ravel().tolist()
        entries.append(entry)
    document = {**about, **({"id": wanted.id} if wanted.id else {}), "outputs": entries}
    try:
        text = json.dumps(document, allow_nan=False).encode()
    except ValueError:
        raise Refusal(
            500, "the answer holds NaN or infinite numbers, which JSON has not: ask for binary data"
        ) from None
    return b"".join([text, *parts]), len(text) if parts else None


def little_endian(value: _Array) -> bytes:
    """The elements of a tensor as bytes."""
    return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()


def _list_of(document: Mapping[str, Any], key: str, *, required: bool) -> list[dict[str, Any]]:
    entries = document.get(key, None if required else [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Refusal(400, f"'{key}' is no list of objects")
    return entries


def _text(entry: Mapping[str, Any], key: str, what: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise Refusal(400, f"{what} has no '{key}', or one that is no text")
    return value


def _parameters(entry: Mapping[str, Any], what: str) -> dict[str, Any]:
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refusal(400, f"{what}: 'parameters' is no object")
    return parameters


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise Refusal(400, f"'{key}' is true or false")
    return value
