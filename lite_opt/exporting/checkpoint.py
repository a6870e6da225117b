"""Reads weights that Paddle's training saved (`.pdparams`), and fits them to a network."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.pickled import KnownUnpickler
from py_runner.errors import ModelError
from py_runner.files.faults import reason
from py_runner.files.regular import open_regular
from py_runner.tensors import TensorSpec

__all__ = ["fitted", "read_checkpoint"]

_Array = npt.NDArray[Any]

# What paddle.save adds to a state_dict: the names of its parameters in another table.
_NO_PARAMETERS = "StructuredToParameterName@@"
_FEW = 3  # names that an error tells


def read_checkpoint(path: str | Path) -> dict[str, _Array]:
    """Name -> array of a state_dict that `paddle.save` wrote, or NumPy's savez.

    A dictionary within it, as of {"model": state_dict, "epoch": 3}, gives names such as
    "model.conv.weight"; what is no array is passed over. A `.pdparams` is a pickle, which may
    have any function called: here the names that arrays need are known, and a file that asks for
    another is refused before anything is called. Raises ModelError for it, and for a file that is
    missing, damaged, or holds no array.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            if path.suffix == ".npz":
                with np.load(file, allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
            else:
                arrays = dict(_arrays(KnownUnpickler(file, _NAMES).load()))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from None
    except Exception as error:  # unpickling a damaged file can raise nearly anything
        words = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: is no checkpoint that paddle.save wrote: {words}") from None
    if not arrays:
        raise ModelError(f"{path}: holds no weights")
    return arrays


def fitted(
    arrays: Mapping[str, _Array],
    parameters: Sequence[TensorSpec],
    path: str | Path,
    *,
    prefix: str | None = None,
) -> tuple[dict[str, _Array], str]:
    """The weights of a network's `parameters`, and the prefix that their names have in `arrays`.

    Whoever trains wraps networks, and the names then begin with "backbone." or "Student.": that is
    found where one prefix fits all parameters, and is `prefix` where several would. Arrays of
    other prefixes are left. Raises ModelError, naming what is missing, left over, or of another
    shape or kind.
    """
    found = _prefix(arrays, parameters, path) if prefix is None else prefix
    missing = [p.name for p in parameters if found + p.name not in arrays]
    wanted = {found + p.name for p in parameters}
    odd = [name for name in arrays if name.startswith(found) and name not in wanted]
    if missing:
        holds = f"; it holds {_some(odd)} instead" if odd else ""
        raise ModelError(
            f"{path}: has no {_some([found + name for name in missing])}, of the {len(parameters)} "
            f"parameters of the network{holds}: is it of another network?"
        )
    if odd:
        raise ModelError(
            f"{path}: holds {_some(odd)}, which the network does not have: is it of another one?"
        )
    weights = {p.name: _cast(arrays[found + p.name], p, found, path) for p in parameters}
    return weights, found


def _prefix(
    arrays: Mapping[str, _Array], parameters: Sequence[TensorSpec], path: str | Path
) -> str:
    """What all names begin with that are the parameters' otherwise; "" where none fits."""
    names = [p.name for p in parameters]
    ends = (key[: -len(names[0])] for key in arrays if key.endswith(names[0]))
    fits = [p for p in ends if p[-1:] in ("", ".") and all(p + name in arrays for name in names)]
    if "" in fits or not fits:
        return ""
    if len(fits) > 1:
        raise ModelError(
            f"{path}: holds the network several times, as "
            f"{' and '.join(repr(p) for p in sorted(fits))}: choose with --prefix"
        )
    return fits[0]


def _cast(array: _Array, parameter: TensorSpec, prefix: str, path: str | Path) -> _Array:
    """An array as the parameter takes it: floats of any width may be saved."""
    if array.shape != parameter.shape:
        raise ModelError(
            f"{path}: '{prefix}{parameter.name}' is {list(array.shape)}, and the network's is "
            f"{list(parameter.shape)}: is it of another network, or of other classes?"
        )
    both = (array.dtype, np.dtype(parameter.dtype))
    if array.dtype != both[1] and not all(np.issubdtype(d, np.floating) for d in both):
        raise ModelError(
            f"{path}: '{prefix}{parameter.name}' is {array.dtype}, and the network's is "
            f"{parameter.dtype}: save it as float32"
        )
    return np.ascontiguousarray(array, parameter.dtype)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(f"'{name}'" for name in names[:_FEW]) + more


def _arrays(value: Any, name: str = "") -> list[tuple[str, _Array]]:
    """All arrays in dictionaries of dictionaries, under names joined by dots. A tensor was saved
    as the pair of its own name and its array."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise pickle.UnpicklingError(f"'{name}' is an array of objects")
        return [(name, value)]
    if not isinstance(value, dict):
        return []
    below = [(str(key), item) for key, item in value.items() if key != _NO_PARAMETERS]
    return [
        found for key, item in below for found in _arrays(item, f"{name}.{key}" if name else key)
    ]


def _encoded(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")
    return text.encode(encoding)


# NumPy's function that makes an array without its data, wherever this version of it has that.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_NAMES: dict[tuple[str, str], Any] = {
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("_codecs", "encode"): _encoded,
}
