"""Paddle inference models of known networks: for the tables in docs/, benchmarks and tests.

    python benchmarks/zoo.py list
    python benchmarks/zoo.py export SqueezeNet1_1 OUT_FOLDER --export pir --weights squeeze.npz
    python benchmarks/zoo.py checkpoint SqueezeNet1_1 squeeze.pdparams  # as training saves it
    python benchmarks/zoo.py env FOLDER          # an environment with Paddle 2.6.2 (PADDLE_26)
    FOLDER/bin/python benchmarks/zoo.py export SqueezeNet1_1 OTHER_FOLDER --export legacy \\
        --weights squeeze.npz

The networks come from PaddleClas and paddle.vision, with random weights that are made to mean
something: `settle` says how. `--weights` keeps them in a file, so that every export of a network,
by whichever Paddle, holds the same ones. `export` does the same from Python, each in a process
of its own, because the kind of export is decided when paddle is imported and because exporting
may abort.

Each export is run by Paddle Inference and compared with the network before it counts as made.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = [
    "EXPORTS",
    "FAMILIES",
    "FIVE",
    "NETWORKS",
    "PADDLE_26",
    "VISION",
    "Network",
    "ZooError",
    "export",
    "make_environment",
    "restore_legacy_operators",
    "settle",
]

EXPORTS = ("legacy", "pir")
_PIR_FLAG = "FLAGS_enable_pir_api"  # read once, when paddle is imported

# What runs this script under Paddle 2.6.2, on CPython 3.8 to 3.10. paddleclas goes in without
# its requirements, which pin an OpenCV that needs libGL and a NumPy from 2023; what its network
# definitions really import is listed instead. paddle imports setuptools and does not say so.
PADDLE_26 = (
    "paddlepaddle==2.6.2",
    "numpy<2",
    "setuptools",
    "pyyaml",
    "requests",
    "six",
    "tqdm",
)
_PADDLE_26_ALONE = ("paddleclas==2.6.0",)


class ZooError(Exception):
    """A network that could not be made or exported, in one line."""


@dataclass(frozen=True)
class Network:
    """How to build one network and what to feed it.

    size: (height, width) of the input, or one number for a square.
    resize: short side of the image before the centre crop; 0 stands for the usual 256 : 224.
    args: keyword arguments of the constructor.
    damp: how the names of layers end that make kernels from activations. Applied to those same
        activations, random ones square what is large until it overflows: `settle` scales them down.
    """

    size: int | tuple[int, int] = 224
    resize: int = 0
    channels: int = 3
    args: dict[str, Any] = field(default_factory=dict)
    damp: str = ""

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


# The classifiers of PaddleClas' page "other models".
FIVE: dict[str, Network] = {
    "AlexNet": Network(),
    "SqueezeNet1_0": Network(),
    "SqueezeNet1_1": Network(),
    "DarkNet53": Network(256, resize=292),
    "SENet154_vd": Network(),
}

# One small member of each family, that is of each module under paddleclas.ppcls.arch.backbone:
# legendary_models, model_zoo, and those of variant_models that differ in their operators.
# swin_transformer_v2 is missing: in paddleclas 2.6.0 its forward uses names it never defines.
FAMILIES: dict[str, Network] = {
    "ESNet_x0_25": Network(),
    "HRNet_W18_C": Network(),
    "InceptionV3": Network(299, resize=320),
    "MobileNetV1_x0_25": Network(),
    "MobileNetV3_small_x0_35": Network(),
    "MobileNetV4_conv_small": Network(),
    "PPHGNet_tiny": Network(),
    "PPHGNetV2_B0": Network(),
    "PPLCNet_x0_25": Network(),
    "PPLCNetV2_small": Network(),
    "ResNet18": Network(),
    "SwinTransformer_tiny_patch4_window7_224": Network(),
    "VGG11": Network(),
    "AdaFace_IR_18": Network(112),
    "AlexNet": FIVE["AlexNet"],
    "cae_base_patch16_224": Network(
        args={
            "pretrained": False,
            "init_values": 0.1,
            "enable_linear_eval": False,
            "model_key": "",
            "model_ema": {"enable_model_ema": False},
        }
    ),
    "ConvNeXt_tiny": Network(),
    "CSPDarkNet53": Network(),
    "CSWinTransformer_tiny_224": Network(),
    "CvT_13_224": Network(),
    "DarkNet53": FIVE["DarkNet53"],
    "DenseNet121": Network(),
    "DeiT_tiny_patch16_224": Network(),
    "DLA46_c": Network(),
    "DPN68": Network(),
    "DSNet_tiny": Network(),
    "EfficientNetB0": Network(),
    "EfficientNetV2_S": Network(384, resize=400),
    "FasterNet_T0": Network(),
    "CLIP_vit_base_patch32_224": Network(),
    "GhostNet_x0_5": Network(),
    "GoogLeNet": Network(),
    "HarDNet39_ds": Network(),
    "InceptionV4": Network(299, resize=320),
    "LeViT_128S": Network(),
    "MicroNet_M0": Network(),
    "MixNet_S": Network(),
    "MobileFaceNet": Network(112),
    "MobileNetV2_x0_25": Network(),
    "MobileNeXt_x0_35": Network(),
    "MobileViT_XXS": Network(256, resize=292),
    "MobileViTV2_x0_5": Network(256, resize=292),
    "MobileViTV3_XXS": Network(256, resize=292),
    "NextViT_small_224": Network(),
    "PeleeNet": Network(),
    "PVT_V2_B0": Network(),
    "RedNet26": Network(damp=".conv2.conv"),
    "RegNetX_200MF": Network(),
    "RepVGG_A0": Network(),
    "Res2Net50_14w_8s": Network(),
    "Res2Net50_vd_26w_4s": Network(),
    "ResNeSt50_fast_1s1x64d": Network(),
    "ResNet50_vc": Network(),
    "ResNeXt50_32x4d": Network(),
    "ResNeXt101_32x8d_wsl": Network(),
    "ResNeXt50_vd_32x4d": Network(),
    "ReXNet_1_0": Network(),
    "SE_ResNet18_vd": Network(),
    "SE_ResNeXt50_32x4d": Network(),
    "SE_ResNeXt50_vd_32x4d": Network(),
    "ShuffleNetV2_x0_25": Network(),
    "SqueezeNet1_1": FIVE["SqueezeNet1_1"],
    "StarNet_S1": Network(),
    "SVTR_tiny": Network((48, 320)),
    "TinyNet_E": Network(106, resize=122),
    "TNT_small": Network(),
    "alt_gvt_small": Network(),
    "UniFormer_small": Network(args={"pretrained": False}),
    "VAN_B0": Network(),
    "ViT_small_patch16_224": Network(),
    "WideResNet": Network(
        32, args={"depth": 16, "widen_factor": 2, "dropout": 0.0, "num_classes": 100}
    ),
    "Xception41": Network(299, resize=320),
    "Xception41_deeplab": Network(299, resize=320),
    "PPLCNet_x2_5_Tanh": Network(),
    "ResNet50_last_stage_stride1": Network(),
    "ResNet50_adaptive_max_pool2d": Network(),
}

# paddle.vision.models, as "vision-" and the name there.
VISION: dict[str, Network] = {
    "vision-LeNet": Network(28, resize=28, channels=1),
    "vision-resnet18": Network(),
    "vision-mobilenet_v1": Network(args={"scale": 0.25}),
    "vision-mobilenet_v2": Network(args={"scale": 0.25}),
    "vision-mobilenet_v3_small": Network(args={"scale": 0.5}),
    "vision-shufflenet_v2_x0_25": Network(),
    "vision-squeezenet1_1": Network(),
    "vision-densenet121": Network(),
    "vision-googlenet": Network(),
}

NETWORKS: dict[str, Network] = {**FIVE, **FAMILIES, **VISION}

# The sizes of two families that are published most often, which benchmarks/boards.py
# counts; docs/coverage.md has others of the same operators.
PUBLISHED: dict[str, Network] = {
    "MobileNetV1_x0_5": Network(),
    "MobileNetV3_small_x1_0": Network(),
}

_KNOWN = {**NETWORKS, **PUBLISHED}


def export(
    name: str,
    folder: str | Path,
    *,
    export: str = "pir",
    weights: str | Path | None = None,
    size: int | None = None,
    softmax: bool = False,
    python: str | Path = sys.executable,
    timeout_s: float = 900,
) -> dict[str, Any]:
    """Export one of `NETWORKS` into `folder`, in a process of its own.

    Writes inference.pdmodel (`export="legacy"`) or inference.json ("pir"), inference.pdiparams
    and inference.yml. The folder is made when absent; files of these names are replaced once
    the new ones are whole.

    weights: an .npz of the network's state: read when it exists, otherwise written.
    size: another square input than the network's own.
    softmax: end in probabilities rather than logits.
    python: the interpreter, hence the Paddle, to export with.

    Returns what the child reports: name, export, paddle (version), input (shape, -1 = any),
    outputs (count), parameters (count), spread and response of the logits (see `settle`),
    difference (largest between network and export, relative to the largest logit), seconds.
    Raises ZooError with the reason in one line.
    """
    command = [str(python), __file__, "export", name, str(folder), "--export", export]
    command += ["--weights", str(weights)] if weights is not None else []
    command += ["--size", str(size)] if size is not None else []
    command += ["--softmax"] if softmax else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ZooError(f"{name}: not exported within {timeout_s:g} s") from None
    except OSError as error:
        raise ZooError(f"{python}: cannot be run: {error.strerror}") from None
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        report: dict[str, Any] = json.loads(lines[-1])
        return report
    if done.returncode < 0:
        raise ZooError(f"{name}: the exporting process died of signal {-done.returncode}")
    words = done.stderr.strip().splitlines() or ["no reason given"]
    raise ZooError(words[-1].partition("zoo: ")[2] or words[-1])


def make_environment(folder: str | Path, *, python: str = "3.10") -> Path:
    """Make a virtual environment that holds `PADDLE_26`; returns its interpreter.

    Uses uv where there is one, otherwise venv and pip of an interpreter `python3.10`. Raises
    ZooError when neither works.
    """
    folder = Path(folder)
    interpreter = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        steps = [[uv, "venv", "--python", python, str(folder)]]
        install = [uv, "pip", "install", "--python", str(interpreter)]
    else:
        steps = [[f"python{python}", "-m", "venv", str(folder)]]
        install = [str(interpreter), "-m", "pip", "install"]
    steps += [[*install, *PADDLE_26], [*install, "--no-deps", *_PADDLE_26_ALONE]]
    for step in steps:
        try:
            # Standard output is kept for what the command is asked to print.
            subprocess.run(step, check=True, stdout=sys.stderr)
        except FileNotFoundError:
            raise ZooError(f"{step[0]} is not installed: install uv, or CPython {python}") from None
        except subprocess.CalledProcessError as error:
            words = " ".join(step)
            raise ZooError(f"'{words}' failed with exit code {error.returncode}") from None
    return interpreter


def settle(network: Any, spec: Network, *, seed: int = 0) -> None:
    """Give a fresh network (a paddle.nn.Layer) weights for which comparing outputs says something.

    Initialisers switch off much of a network: biases and residual branches at zero, LayerScale
    at 1e-6, classifiers at zero. An engine that gets such a part wrong would go unnoticed. So
    1. every constant parameter is replaced by seeded random values of the same kind;
    2. BatchNorm's running statistics become the mean over three seeded batches; where nothing
       normalises, the weights are scaled to give activations a standard deviation of 1, because
       otherwise the image's part in them fades from layer to layer;
    3. the classifier is shifted and scaled where the logits vanish, explode or hardly depend on
       the image.
    Ends in evaluation mode. Raises ZooError when the logits are still no use: not finite,
    constant, or the same for every image.
    """
    import numpy as np
    import paddle

    random = np.random.RandomState(seed)
    _wake_constants(network, random)
    for name, layer in network.named_sublayers():
        if spec.damp and name.endswith(spec.damp):
            layer.weight.set_value(layer.weight * 0.002)
    norms = [layer for layer in network.sublayers() if hasattr(layer, "_variance")]
    if not any("Norm" in type(layer).__name__ for layer in network.sublayers()):
        _scale_weights(network, _images(spec, 4, seed=seed + 1))
    momenta = [layer._momentum for layer in norms]
    network.train()
    with paddle.no_grad():
        for step in range(3 if norms else 0):
            for layer in norms:
                # running = running * m + batch * (1 - m): with these m the plain mean of all.
                layer._momentum = step / (step + 1)
            network(paddle.to_tensor(_images(spec, 4, seed=seed + 1 + step)))
    for layer, momentum in zip(norms, momenta):
        layer._momentum = momentum
    network.eval()
    images = _images(spec, 4, seed=seed + 100)
    logits = _logits(network, images)
    spread, response = _figures(logits)
    if not 0.1 <= spread <= 30 or response < 0.1:
        last = _last_linear(network, images)
        if last is not None:
            _retune(last, logits, shift=response < 0.1)
    # Eight others, because a network may stand some images and overflow on the next.
    _check_logits(*_figures(_logits(network, _images(spec, 8, seed=seed + 200))))


def _wake_constants(network: Any, random: Any) -> None:
    """Replace parameters that are one constant (see `settle`)."""
    import numpy as np

    for layer in network.sublayers(include_self=True):
        kind = type(layer).__name__
        for name, parameter in layer._parameters.items():
            if parameter is None or "int" in str(parameter.dtype):
                continue
            value = parameter.numpy()
            first = value.flat[0]
            if value.size > 1 and not (value == first).all():
                continue
            scales = "Norm" in kind and name == "weight"
            if abs(first) > 0.05 or (first == 0 and scales):
                new = (first or 0.7) * random.uniform(0.8, 1.2, value.shape)
            elif first:
                new = random.uniform(0.05, 0.2, value.shape)  # LayerScale
            elif value.ndim >= 2 and name == "weight":
                fan_in = value.shape[0] if value.ndim == 2 else int(np.prod(value.shape[1:]))
                new = random.standard_normal(value.shape) / fan_in**0.5
            else:
                new = random.standard_normal(value.shape) * 0.02
            parameter.set_value(new.astype(value.dtype))


def _scale_weights(network: Any, images: Any) -> None:
    """Give what each Linear and Conv2D adds to its bias a standard deviation of 1, in the order
    in which they run (Mishkin and Matas, "All you need is a good init", 2016)."""

    def scale(layer: Any, inputs: Any, output: Any) -> Any:
        bias = 0
        if layer.bias is not None:
            bias = layer.bias.reshape([1, -1] + [1] * (output.ndim - 2))
        factor = 1 / max(float((output - bias).std()), 1e-12)
        layer.weight.set_value(layer.weight * factor)
        return (output - bias) * factor + bias

    network.eval()
    hooks = [layer.register_forward_post_hook(scale) for layer in _linears(network)]
    _logits(network, images)
    for hook in hooks:
        hook.remove()


def _linears(network: Any) -> list[Any]:
    import paddle

    kinds = (paddle.nn.Linear, paddle.nn.Conv2D)
    return [layer for layer in network.sublayers() if isinstance(layer, kinds)]


def _images(spec: Network, count: int, *, seed: int) -> Any:
    """Normalised images as float32 [count, channels, height, width]: coloured patches and noise
    in changing parts, a standard deviation of 1, a mean near 0.

    White noise alone would not do: averaged over an image it is the same every time. And images
    of very different contrast drive deep networks to extremes that trained ones never see.
    """
    import numpy as np

    random = np.random.RandomState(seed)
    height, width = spec.hw
    rows, columns = -(-height // 7), -(-width // 7)
    patches = random.standard_normal((count, spec.channels, 7, 7))
    large = patches.repeat(rows, axis=2).repeat(columns, axis=3)[:, :, :height, :width]
    noise = random.standard_normal(large.shape)
    share = random.uniform(0.1, 0.9, (count, 1, 1, 1))
    images = large * share + noise * (1 - share)
    images = images - images.mean(axis=(1, 2, 3), keepdims=True)
    images = images / images.std(axis=(1, 2, 3), keepdims=True)
    colour = random.uniform(-0.3, 0.3, (count, spec.channels, 1, 1))
    return (images + colour).astype("float32")


def _first(output: Any) -> Any:
    """The logits of what a network returns: some add auxiliary heads, some return a dict."""
    if isinstance(output, dict):
        output = output.get("logits", next(iter(output.values())))
    while isinstance(output, (list, tuple)):
        output = output[0]
    return output


def _logits(network: Any, images: Any) -> Any:
    """The network's logits on a batch, as a float64 array [images, classes]."""
    import paddle

    with paddle.no_grad():
        value = _first(network(paddle.to_tensor(images))).numpy()
    return value.reshape(len(images), -1).astype("float64")


def _figures(logits: Any) -> tuple[float, float]:
    """(spread, response): the standard deviation over the logits of an image (the median of the
    images), and that over the images of a logit (the median of the logits) as a part of it."""
    import numpy as np

    centred = logits - logits.mean(axis=1, keepdims=True)
    spread = float(np.median(centred.std(axis=1)))
    moves = float(np.median(centred.std(axis=0)))
    return spread, moves / spread if spread > 0 and np.isfinite(spread) else 0.0


def _check_logits(spread: float, response: float) -> None:
    if not 0 <= spread < float("inf"):
        raise ZooError("the logits are not finite")
    if spread < 1e-3:
        raise ZooError(f"the logits are nearly constant: standard deviation {spread:.2g}")
    if response > 50:
        raise ZooError(f"some images make the logits explode: {response:.2g} times their spread")
    if response < 1e-3:
        raise ZooError(f"the logits hardly depend on the image: {response:.2g} of their spread")


def _last_linear(network: Any, images: Any) -> Any:
    """The Linear or Conv2D that runs last."""
    ran: list[Any] = []
    hooks = [
        layer.register_forward_post_hook(lambda layer, inputs, output: ran.append(layer))
        for layer in _linears(network)
    ]
    _logits(network, images[:1])
    for hook in hooks:
        hook.remove()
    return ran[-1] if ran else None


def _retune(layer: Any, logits: Any, *, shift: bool) -> None:
    """Scale a network's last linear layer so that the logits have a standard deviation of 2;
    with `shift`, subtract each logit's mean first, so that what is left is the image's doing."""
    weight, bias = layer.weight, layer.bias
    mean = logits.mean(axis=0) if shift and bias is not None and bias.size == logits.shape[1] else 0
    centred = logits - mean
    factor = 2 / max(_figures(centred)[0], 1e-12)
    weight.set_value((weight.numpy() * factor).astype("float32"))
    if bias is not None:
        bias.set_value(((bias.numpy() - mean) * factor).astype("float32"))


def _build(name: str, spec: Network, weights: Path | None) -> Any:
    """The network in evaluation mode, with the weights of the file, which is made when absent."""
    import random

    import numpy as np
    import paddle

    random.seed(0)
    np.random.seed(0)
    paddle.seed(0)
    if name in VISION:
        construct = getattr(paddle.vision.models, name.partition("-")[2])
    else:
        construct = getattr(_paddleclas(), name)
    with paddle.utils.unique_name.guard():
        network = construct(**spec.args)
    if weights is not None and weights.exists():
        _load_weights(network, weights)
        network.eval()
        return network
    settle(network, spec)
    if weights is not None:
        _save_weights(network, weights)
    return network


def _paddleclas() -> Any:
    """PaddleClas' module of networks, by the kit's own child, which needs the standard library
    only: Paddle 2.6.2's interpreter has nothing else of the kit."""
    if importlib.util.find_spec("paddleclas") is None:
        raise ZooError("paddleclas is not installed: pip install --no-deps paddleclas==2.6.0")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from lite_opt.exporting.network_child import paddleclas

    return paddleclas()


def _save_weights(network: Any, path: Path) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **{k: v.numpy() for k, v in network.state_dict().items()})
    part.replace(path)


def _load_weights(network: Any, path: Path) -> None:
    import numpy as np

    state = network.state_dict()
    with np.load(path) as stored:
        if set(stored.files) != set(state):
            odd = min(set(stored.files) ^ set(state))
            raise ZooError(f"{path}: weights of another network: '{odd}' is only on one side")
        for key, variable in state.items():
            value = stored[key]
            if list(value.shape) != list(variable.shape):
                raise ZooError(f"{path}: weights of another network: '{key}' is {value.shape}")
            variable.set_value(value)


# Since 3.3 the Python functions of these operators are bound straight to C++ code that takes
# eager tensors and PIR values only, so tracing for the legacy format fails in each of them with
# "must be Value, but got Variable". `restore_legacy_operators` puts back what the Python code
# of earlier versions did for a Variable: append the operator to the program.
# Function -> (operator, its tensors, its other arguments with their defaults).
_X, _XY = ("x",), ("x", "y")
_REDUCE: dict[str, Any] = {"axis": None, "keepdim": False}
_LEGACY_OPERATORS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    **{
        name: (name, _X, {})
        for name in (
            *("abs", "ceil", "cos", "exp", "expm1", "floor", "log", "log10", "log1p", "log2"),
            *("logical_not", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "tanh"),
        )
    },
    **{name: (name, _XY, {}) for name in ("bmm", "greater_than", "logical_and", "logical_or")},
    "all": ("reduce_all", _X, _REDUCE),
    "amax": ("reduce_amax", _X, _REDUCE),
    "amin": ("reduce_amin", _X, _REDUCE),
    "any": ("reduce_any", _X, _REDUCE),
    "argmax": ("arg_max", _X, {"axis": None, "keepdim": False, "dtype": "int64"}),
    "gelu": ("gelu", _X, {"approximate": False}),
    "matmul": ("matmul_v2", _XY, {"transpose_x": False, "transpose_y": False}),
    "maximum": ("elementwise_max", _XY, {}),
    "minimum": ("elementwise_min", _XY, {}),
    "multiply": ("elementwise_mul", _XY, {}),
    "roll": ("roll", _X, {"shifts": None, "axis": None}),
    "softplus": ("softplus", _X, {"beta": 1.0, "threshold": 20.0}),
    "sum": ("reduce_sum", _X, {"axis": None, "dtype": None, "keepdim": False}),
}
_LOGICAL = ("logical_not", "logical_and", "logical_or", "greater_than", "reduce_all", "reduce_any")
_LEGACY_DTYPES = {
    **dict.fromkeys(_LOGICAL, "bool"),
    "arg_max": "int64",
}  # others keep their input's


def restore_legacy_operators() -> None:
    """Make the functions above work while a legacy program is traced (see there).

    They are replaced in `paddle._C_ops`, in every module that imported them from there, and
    among the methods of Variable.
    """
    import paddle
    from paddle.base.framework import Variable

    replaced: dict[int, Any] = {}
    for name in _LEGACY_OPERATORS:
        original = getattr(paddle._C_ops, name)
        replaced[id(original)] = _with_legacy(name, original)
    holders = [m for n, m in sys.modules.items() if n == "paddle" or n.startswith("paddle.")]
    for holder in [*holders, Variable]:
        for attribute, value in list(vars(holder).items()):
            if id(value) in replaced:
                setattr(holder, attribute, replaced[id(value)])


def _with_legacy(name: str, original: Any) -> Any:
    """`original`, but a call while a program is traced appends the operator to it."""
    import paddle

    operator, tensors, defaults = _LEGACY_OPERATORS[name]

    def call(*args: Any, **kwargs: Any) -> Any:
        if paddle.in_dynamic_mode():
            return original(*args, **kwargs)
        kwargs.pop("name", None)
        given = {**defaults, **dict(zip((*tensors, *defaults), args)), **kwargs}
        inputs = {tensor.upper(): [given.pop(tensor)] for tensor in tensors}
        attributes = _legacy_attributes(operator, given, len(inputs["X"][0].shape))
        helper = paddle.base.layer_helper.LayerHelper(operator)
        dtype = _LEGACY_DTYPES.get(operator, inputs["X"][0].dtype)
        output = helper.create_variable_for_type_inference(dtype)
        helper.append_op(type=operator, inputs=inputs, outputs={"Out": [output]}, attrs=attributes)
        return output

    return call


def _legacy_attributes(operator: str, given: dict[str, Any], rank: int) -> dict[str, Any]:
    """The attributes of a legacy operator from the Python arguments of its function."""
    if operator == "arg_max":
        axis = given["axis"]
        return {"axis": axis or 0, "flatten": axis is None, "keepdims": given["keepdim"]}
    if given.get("dtype") is not None:
        raise ZooError(f"{operator}: a dtype cannot be given in the legacy format")
    axes = _as_list(given.get("axis"))
    if operator.startswith("reduce_"):
        reduce_all = len(axes) in (0, rank)
        return {"dim": axes or [0], "keep_dim": given["keepdim"], "reduce_all": reduce_all}
    if operator.startswith("elementwise_"):
        return {"axis": -1}
    if operator == "matmul_v2":
        return {"trans_x": given["transpose_x"], "trans_y": given["transpose_y"]}
    if operator == "roll":
        return {"shifts": _as_list(given["shifts"]), "axis": axes}
    return given


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _export_here(
    name: str,
    folder: Path,
    *,
    export: str,
    weights: Path | None,
    size: int | None,
    softmax: bool,
) -> dict[str, Any]:
    """`export`, in this process, which must not have imported paddle yet."""
    if name not in _KNOWN:
        raise ZooError(f"unknown network '{name}': `zoo.py list` prints their names")
    spec = _KNOWN[name]
    if size is not None:
        resize = round(size * (spec.resize or 256) / (spec.hw[0] if spec.resize else 224))
        spec = replace(spec, size=size, resize=resize)
    start = time.perf_counter()
    os.environ[_PIR_FLAG] = "1" if export == "pir" else "0"
    import paddle

    version = paddle.version.full_version
    if export == "pir" and int(version.split(".")[0]) < 3:
        raise ZooError(f"Paddle {version} has no PIR export: use --export legacy")
    if export == "legacy" and int(version.split(".")[0]) >= 3:
        restore_legacy_operators()
    network = _build(name, spec, weights)
    images = _images(spec, 2, seed=100)
    logits = _logits(network, images)
    spread, response = _figures(logits)
    _check_logits(spread, response)

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".zoo-", dir=folder.parent) as part:
        shape, outputs, difference = _save(
            network, spec, Path(part), images, logits, softmax=softmax
        )
        Path(part, "inference.yml").write_text(_inference_yml(name, spec), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for stale in ("inference.pdmodel", "inference.json"):
            (folder / stale).unlink(missing_ok=True)
        for file in Path(part).iterdir():
            if file.suffix in (".pdmodel", ".json", ".pdiparams", ".yml"):
                file.replace(folder / file.name)
    return {
        "name": name,
        "export": export,
        "paddle": version,
        "input": shape,
        "outputs": outputs,
        "parameters": sum(int(value.size) for value in network.state_dict().values()),
        "spread": round(spread, 4),
        "response": round(response, 4),
        "difference": float(f"{difference:.2g}"),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _checkpoint_here(name: str, file: Path) -> None:
    """Save the weights of one of the networks as PaddleClas' training does."""
    if name not in _KNOWN:
        raise ZooError(f"unknown network '{name}': `zoo.py list` prints their names")
    import paddle

    paddle.save(_build(name, _KNOWN[name], None).state_dict(), str(file))


def _save(
    network: Any, spec: Network, folder: Path, images: Any, logits: Any, *, softmax: bool
) -> tuple[list[int], int, float]:
    """Save the network as an inference model and check it.

    The batch stays open (-1) where the network can be traced so, and the check with two images
    decides: some networks trace, but with the batch of the tracing built in. Otherwise it is 1.
    Returns the input's shape, the number of outputs and the largest difference (see `export`).
    """
    import numpy as np
    import paddle

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True) if softmax else logits

    class Classifier(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            # An attribute, because 2.6 loses the variables of an enclosing function.
            self.softmax = softmax

        def forward(self, x):  # type: ignore[no-untyped-def]
            logits = _first(self.network(x))
            return paddle.nn.functional.softmax(logits, axis=-1) if self.softmax else logits

    model = Classifier()
    model.eval()
    prefix = folder / "inference"
    for batch in (-1, 1):
        shape = [batch, spec.channels, *spec.hw]
        count = 2 if batch < 0 else 1
        try:
            paddle.jit.save(
                model, str(prefix), input_spec=[paddle.static.InputSpec(shape, "float32", "x")]
            )
            outputs = _infer(prefix, images[:count])
            difference = _difference(outputs[0], expected[:count])
        except Exception as error:
            if batch == 1:
                raise
            print(f"batch of any size: {_one_line(error)}", file=sys.stderr)
            continue
        if difference <= 1e-3:
            return shape, len(outputs), difference
        if batch == 1:
            raise ZooError(f"the export is wrong: its outputs differ by {difference:.2g}")
    raise AssertionError


def _infer(prefix: Path, images: Any) -> list[Any]:
    """The outputs of Paddle Inference for an exported model."""
    from paddle import inference

    model = prefix.with_suffix(".pdmodel")
    if not model.exists():
        model = prefix.with_suffix(".json")
    config = inference.Config(str(model), str(prefix.with_suffix(".pdiparams")))
    config.disable_glog_info()
    # On by default since 3.0, and at fault: 3.3.1 segfaults in a BatchNorm without scale.
    disable = getattr(config, "disable_onednn", None) or getattr(config, "disable_mkldnn", None)
    if disable is not None:
        disable()
    predictor = inference.create_predictor(config)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(images)
    predictor.run()
    names = predictor.get_output_names()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in names]


def _difference(answer: Any, expected: Any) -> float:
    """The largest difference from what was expected, relative to the largest value of that."""
    import numpy as np

    if answer.size != expected.size or not np.isfinite(answer).all():
        return float("inf")
    return float(abs(answer.reshape(expected.shape) - expected).max() / abs(expected).max())


def _inference_yml(name: str, spec: Network) -> str:
    """Preprocessing as PaddleClas writes it. A dictionary in JSON's spelling is YAML, too."""
    height, width = spec.hw
    if height == width:
        resize = spec.resize or round(height * 256 / 224)
        shape: list[dict[str, Any]] = [
            {"ResizeImage": {"resize_short": resize}},
            {"CropImage": {"size": height}},
        ]
    else:
        shape = [{"ResizeImage": {"size": [width, height]}}]
    colour = spec.channels == 3
    normalize = {
        "channel_num": spec.channels,
        "mean": [0.485, 0.456, 0.406] if colour else [0.5],
        "std": [0.229, 0.224, 0.225] if colour else [0.5],
        "order": "",
        "scale": 1 / 255,
    }
    ops = [*shape, {"NormalizeImage": normalize}, {"ToCHWImage": None}]
    sections = {
        "Global": {"model_name": name},
        "PreProcess": {"transform_ops": ops},
        "PostProcess": {"Topk": {"topk": 5}},
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())


def _one_line(error: BaseException) -> str:
    """Type and text of an exception; of Paddle's long texts the line that says what it is."""
    text = str(error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if "Error: " in line or "InvalidArgument" in line or line.startswith("(InvalidType)"):
            lines = [line]
            break
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 3 with one line on standard error."""
    parser = argparse.ArgumentParser(description="Paddle inference models of known networks")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the names of all networks")
    saved = commands.add_parser("checkpoint", help="save weights as training does")
    saved.add_argument("name")
    saved.add_argument("file", type=Path)
    environment = commands.add_parser("env", help="make an environment with Paddle 2.6.2")
    environment.add_argument("folder", type=Path)
    one = commands.add_parser("export", help="export one network")
    one.add_argument("name")
    one.add_argument("folder", type=Path)
    one.add_argument("--export", choices=EXPORTS, default="pir", help="default: pir")
    one.add_argument("--weights", type=Path, help=".npz: read when it exists, otherwise written")
    one.add_argument("--size", type=int, help="height and width of the input")
    one.add_argument("--softmax", action="store_true", help="end in probabilities")
    one.add_argument("--debug", action="store_true", help="show the traceback")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            print("\n".join(_KNOWN))
        elif options.command == "checkpoint":
            _checkpoint_here(options.name, options.file)
        elif options.command == "env":
            print(make_environment(options.folder))
        else:
            report = _export_here(
                options.name,
                options.folder,
                export=options.export,
                weights=options.weights,
                size=options.size,
                softmax=options.softmax,
            )
            print(json.dumps(report))
    except Exception as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        text = str(error) if isinstance(error, ZooError) else _one_line(error)
        print(f"zoo: {text}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
