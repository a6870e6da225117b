"""Tensors as everything here speaks of them: dtypes, specs, the samples that are fed, and models.

Paddle's own numbers of dtypes stand here once, for programs, `.nb` files and operators' attributes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DTYPES",
    "DTYPE_NUMBERS",
    "Model",
    "Sample",
    "TensorSpec",
    "digest",
    "sample_hash",
]

# VarType.Type of Paddle's framework.proto and of Paddle Lite's framework.fbs: the element types.
# NumPy has no bfloat16: its bits are kept as uint16.
DTYPES: dict[int, str] = {
    0: "bool",
    1: "int16",
    2: "int32",
    3: "int64",
    4: "float16",
    5: "float32",
    6: "float64",
    20: "uint8",
    21: "int8",
    22: "bfloat16",
    23: "complex64",
    24: "complex128",
}
DTYPE_NUMBERS: dict[str, int] = {name: number for number, name in DTYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, NumPy dtype name and shape, where -1 is a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def mismatch(self, value: np.ndarray[Any, Any]) -> str | None:
        """Why `value` cannot be fed here, in words, or None where it can."""
        fits = len(value.shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, value.shape)
        )
        if fits and str(value.dtype) == self.dtype and value.size:
            return None
        return f"input '{self.name}' takes {self}, not {value.dtype}{list(value.shape)}"

    def to_json(self) -> dict[str, Any]:
        """name, dtype and shape as JSON values."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    def __str__(self) -> str:
        shape = ", ".join("?" if d < 0 else str(d) for d in self.shape)
        return f"{self.dtype}[{shape}]"


@dataclass(frozen=True)
class Sample:
    """One thing to run a model on.

    id      stable and unique in its data set: the path relative to the data set's root with `/`,
            or `name[index]` for arrays
    feeds   input name -> C-contiguous array, batch dimension of 1 included
    label   class number, or None where unknown
    pixels  of a picture: the checksum of its decoded pixels (`digest`), else None
    """

    id: str
    feeds: dict[str, npt.NDArray[Any]]
    label: int | None = None
    pixels: str | None = None


@dataclass(frozen=True)
class Model:
    """What an engine is asked to run: files in its own format, and what they take.

    `sha256` identifies the model across runs; `precision` is a recipe's name; `files` are one
    `.nb` of a bundle, or the model and parameters that Paddle saved. `task` and `labels` say what
    its outputs mean, as in a Run, and `image` how a picture becomes its tensor, as
    `ImageSpec.to_json` has it; None where nobody said.
    """

    name: str
    sha256: str
    precision: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    task: dict[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    image: dict[str, Any] | None = None


def sample_hash(sample: Sample) -> str:
    """sha256, in hex, of what a sample feeds; its id and label are not part of it.

    For every feed, ordered by name: the name in UTF-8, a zero byte, NumPy's name of the dtype
    ("float32"), a zero byte, the dimensions in decimal joined by commas ("1,3,224,224"), a zero
    byte, then the elements, little endian, in C order.
    """
    digest = hashlib.sha256()
    for name in sorted(sample.feeds):
        array = sample.feeds[name]
        shape = ",".join(str(side) for side in array.shape)
        digest.update(f"{name}\0{array.dtype.name}\0{shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def digest(value: npt.NDArray[Any]) -> str:
    """The checksum of pixels or of a tensor, whatever the input is called."""
    return sample_hash(Sample("", {"": value}))
