"""EfficientNet-Lite0 as a Paddle model, rebuilt from weights that were published for torch.

The weights are read without torch (`read_torch_weights`), the network is written down again as a
static Paddle program, and the program is saved in the legacy format (`.pdmodel`), which Paddle 3
still writes if `FLAGS_enable_pir_api=0` is set before it is imported. That flag changes the whole
process, so `export` works in a child: this module run as a command.

The network (M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling", 2019, table 1, and the
`lite` notes of TensorFlow's TPU models): EfficientNet-B0 without squeeze-and-excite, with relu6 in
place of swish, BatchNorm epsilon 1e-3, TensorFlow's SAME padding. It expects RGB, (x - 127) / 128.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from py_runner.errors import EngineError, ModelError
from py_runner.files.process import how_it_ended, last_words

__all__ = ["IMAGE_SIZE", "export", "read_torch_weights"]

IMAGE_SIZE = 224
"""Height and width, in pixels, of the images the network was trained on."""

# Stride of the depthwise convolution of each block. Kernel, expansion and channels are not
# repeated here: they are the shapes of the weights.
_BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
_BATCH_NORM_EPSILON = 1e-3

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


def export(weights: str | Path, folder: str | Path) -> None:
    """Write `inference.pdmodel` and `inference.pdiparams` into `folder`, which is created.

    `weights` is the torch state_dict of EfficientNet-Lite0. The model maps `x`, float32
    [N, 3, 224, 224], to class probabilities, float32 [N, 1000] (softmax). BatchNorm stays as
    operators and every parameter keeps the name it has in `weights`.

    Raises ModelError if `weights` cannot be read, EngineError if paddlepaddle is not installed or
    fails.
    """
    if importlib.util.find_spec("paddle") is None:
        raise EngineError(
            "paddlepaddle is not installed, and EfficientNet-Lite0 is built with it: "
            "pip install paddlepaddle==3.3.1"
        )
    # Read here as well as in the child, so that a bad file raises its own error: 50 ms.
    read_torch_weights(weights)
    child = subprocess.run(
        [sys.executable, "-m", "lite_opt.demo.efficientnet_lite", str(weights), str(folder)],
        env={**os.environ, "FLAGS_enable_pir_api": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if child.returncode != 0:
        raise EngineError(
            f"{folder}: Paddle, exporting EfficientNet-Lite0 to it, "
            f"{how_it_ended(child.returncode)}: {last_words(child.stdout)}"
        )


def read_torch_weights(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array of a state_dict that torch saved in its format from before version 1.6.

    That format is a sequence of pickles: a magic number, a protocol number, facts about the
    machine, the state_dict with a persistent id in place of each storage, the sorted list of
    storage keys; then for each key an int64 element count and the elements, little endian
    (`_legacy_load` in torch/serialization.py). Arrays are float32 or int64.

    A pickle may name any function and have it called. Here the four names that a state_dict needs
    are known, and a file that asks for another one is refused with ModelError, before anything is
    called; so is a file that is damaged, cut short, or of another format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read_state_dict(file)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:
        # Unpickling a damaged file can raise nearly anything.
        raise ModelError(
            f"{path} is not a state_dict in torch's pre-1.6 format: {error}"
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    """Stands in for torch's tensors until the storages, which come last in the file, are read.

    `offset` and `stride` count elements. The convolutions are transposed views: their strides are
    not those of a row-major array.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A copy, row-major, of what this tensor shows of its storage's elements."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if (
            len(self.shape) != len(self.stride)
            or min((self.offset, *self.shape, *self.stride)) < 0
            or 0 in self.shape
            or last >= data.size
        ):
            raise ValueError(f"a tensor of shape {self.shape} lies outside its storage")
        strides = [step * data.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


_PICKLED_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        return _PICKLED_NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, size, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return _Storage(key, dtype, size)


def _read_state_dict(file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    def unpickle() -> Any:
        return _Unpickler(file).load()

    if unpickle() != _TORCH_MAGIC or unpickle() != _TORCH_PROTOCOL:
        raise ValueError("its magic or protocol number is another")
    if not unpickle()["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    tensors: dict[str, _Tensor] = unpickle()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in unpickle():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        raw = file.read(storage.size * storage.dtype.itemsize)
        if count != storage.size or len(raw) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"storage {key} is cut short")
        data[key] = np.frombuffer(raw, storage.dtype)
    return {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd pixel of padding at the far end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _network(paddle: Any, x: Any, weights: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Append EfficientNet-Lite0 to the current static program; returns the probabilities.

    Only functions that Paddle 3.3 still exports to a legacy program appear here.
    """
    functional = paddle.nn.functional

    def parameter(name: str) -> Any:
        return paddle.static.create_parameter(list(weights[name].shape), "float32", name=name)

    def conv(x: Any, name: str, stride: int = 1) -> Any:
        weight = parameter(f"{name}.weight")
        kernel = weight.shape[2]
        return functional.conv2d(
            x,
            weight,
            stride=stride,
            padding=[*_same_padding(x.shape[2], kernel, stride)] * 2,
            groups=x.shape[1] // weight.shape[1],
        )

    def batch_norm(x: Any, name: str) -> Any:
        fields = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(
            x, *(parameter(f"{name}.{field}") for field in fields), epsilon=_BATCH_NORM_EPSILON
        )

    x = functional.relu6(batch_norm(conv(x, "_conv_stem", stride=2), "_bn0"))
    for index, stride in enumerate(_BLOCK_STRIDES):
        block, shortcut = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in weights:
            x = functional.relu6(batch_norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = conv(x, f"{block}._depthwise_conv", stride)
        x = functional.relu6(batch_norm(x, f"{block}._bn1"))
        x = batch_norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if stride == 1 and x.shape[1] == shortcut.shape[1]:
            x = paddle.add(x, shortcut)
    x = functional.relu6(batch_norm(conv(x, "_conv_head"), "_bn1"))
    x = paddle.flatten(functional.adaptive_avg_pool2d(x, 1), 1)
    x = functional.linear(x, parameter("_fc.weight"), parameter("_fc.bias"))
    return functional.softmax(x)


def _export_here(weights_path: Path, folder: Path) -> None:
    paddle: Any = importlib.import_module("paddle")
    weights = {
        name: array for name, array in read_torch_weights(weights_path).items() if array.ndim
    }
    # torch keeps a linear layer as [out, in], Paddle as [in, out].
    weights["_fc.weight"] = weights["_fc.weight"].T.copy()
    paddle.enable_static()
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup):
        x = paddle.static.data("x", [-1, 3, IMAGE_SIZE, IMAGE_SIZE], "float32")
        probabilities = _network(paddle, x, weights)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    paddle.static.set_program_state(program, weights)
    folder.mkdir(parents=True, exist_ok=True)
    paddle.static.save_inference_model(
        str(folder / "inference"), [x], [probabilities], executor, program=program
    )


if __name__ == "__main__":
    _export_here(Path(sys.argv[1]), Path(sys.argv[2]))
