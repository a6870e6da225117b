"""Which network is to be exported, how it is built, and what lies beside an export of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from py_runner.data.image import ImageSpec
from py_runner.data.yml_steps import load_yml
from py_runner.errors import DataError, UsageError
from py_runner.tensors import TensorSpec

__all__ = ["PADDLECLAS", "Architecture", "architecture", "transform_ops"]

PADDLECLAS = "paddleclas"

# Sides of the crop and of the resize before it, where the configs of PaddleClas have others than
# 224 and 256, by what the names of the networks begin with.
_SIDES = {
    "DarkNet53": (256, 292),
    "EfficientNetV2_S": (384, 400),
    "InceptionV": (299, 320),
    "MobileViT": (256, 292),
    "Xception": (299, 320),
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What a config's Arch says of training alone.
_TRAINING = ("name", "pretrained", "use_ssld", "use_sync_bn")


@dataclass(frozen=True)
class Architecture:
    """A network as Python builds it: `module`.`name`(**`arguments`).

    module: a file, a module's name, or PADDLECLAS.
    inputs: what it is fed; -1 is a dimension that stays open.
    transforms: preprocessing, as PaddleClas' transform_ops; None where nobody said.
    label_file: names of the classes that a config names; it may not be there.
    """

    module: str
    name: str
    arguments: dict[str, Any]
    inputs: tuple[TensorSpec, ...]
    transforms: list[Any] | None = None
    label_file: Path | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether it is PaddleClas': its first output are the scores of classes."""
        return self.module == PADDLECLAS

    def of_one(self) -> Architecture:
        """The same for a batch of one where that was open."""
        shapes = [(1, *s.shape[1:]) if s.shape[:1] == (-1,) else s.shape for s in self.inputs]
        closed = [replace(spec, shape=shape) for spec, shape in zip(self.inputs, shapes)]
        return replace(self, inputs=tuple(closed))


def architecture(
    network: str,
    *,
    inputs: Sequence[TensorSpec] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Architecture:
    """The network that a text names.

    network: an architecture of PaddleClas ("SqueezeNet1_1"), a training config of it
    ("SqueezeNet1_1.yaml"), or "module.py:Net" and "package.module:Net", which need `inputs`.
    arguments: of its constructor; they come before those of a config.

    Raises UsageError for another text and DataError for a config that cannot be followed.
    """
    given = dict(arguments or {})
    module, colon, name = network.rpartition(":")
    if colon:
        return _own(module, name, given, tuple(inputs))
    if network.endswith((".yml", ".yaml")):
        return _of_config(Path(network), given, tuple(inputs))
    if network.endswith(".py"):
        raise UsageError(f"{network}: say which class or function makes it: {network}:Net")
    if not network.isidentifier():
        raise UsageError(
            f"'{network}' is no architecture of PaddleClas, no .yaml of one, and no module.py:Net"
        )
    crop, short = next(
        (sides for start, sides in _SIDES.items() if network.startswith(start)), (224, 256)
    )
    spec = ImageSpec("short", short, (crop, crop), mean=_MEAN, std=_STD)
    return Architecture(
        PADDLECLAS, network, given, tuple(inputs) or _image(crop, crop), transform_ops(spec)
    )


def transform_ops(spec: ImageSpec) -> list[Any]:
    """Preprocessing as PaddleClas writes it, for what a classifier is fed.

    Raises UsageError for a resize that PaddleClas' exports do not have.
    """
    ops: list[Any] = []
    if spec.color == "BGR":
        ops.append({"DecodeImage": {"to_rgb": False, "channel_first": False}})
    resize: dict[str, Any] = {}
    if spec.resize == "short":
        resize = {"resize_short": spec.size}
    elif spec.resize == "exact" and isinstance(spec.size, tuple):
        resize = {"size": [spec.size[1], spec.size[0]]}
    elif spec.resize != "none":
        raise UsageError(
            f"image: resize={spec.resize} cannot be written beside the model: leave --image out, "
            "and give it to `convert`"
        )
    if resize:
        backend = {"backend": "pil"} if spec.interpolation == "pil-bilinear" else {}
        ops.append({"ResizeImage": resize | backend})
    if spec.crop is not None:
        ops.append({"CropImage": {"size": [spec.crop[1], spec.crop[0]]}})
    normalize = {"channel_num": 3, "scale": spec.scale / spec.divisor, "order": ""}
    ops.append({"NormalizeImage": normalize | {"mean": [*spec.mean], "std": [*spec.std]}})
    return [*ops, {"ToCHWImage": None}]


def _image(height: int, width: int, channels: int = 3) -> tuple[TensorSpec, ...]:
    return (TensorSpec("x", "float32", (-1, channels, height, width)),)


def _own(
    module: str, name: str, arguments: dict[str, Any], inputs: tuple[TensorSpec, ...]
) -> Architecture:
    """A network of one's own."""
    if not inputs:
        raise UsageError(f"{module}:{name}: say what it takes, such as --input x=1,3,224,224")
    if module.endswith(".py"):
        if not Path(module).is_file():
            raise UsageError(f"{module}: there is no such file")
        module = str(Path(module).resolve())
    elif not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"'{module}' is neither a file module.py nor a module's name")
    if not name.isidentifier():
        raise UsageError(f"{module}: '{name}' is no name of a class or function")
    return Architecture(module, name, arguments, inputs)


def _of_config(
    config: Path, arguments: dict[str, Any], inputs: tuple[TensorSpec, ...]
) -> Architecture:
    """The network that a training config of PaddleClas describes."""
    path, document = load_yml(config)
    arch = document.get("Arch")
    name = arch.get("name") if isinstance(arch, dict) else None
    if not isinstance(name, str) or not isinstance(arch, dict):
        raise DataError(f"{path}: has no Arch with a name: it is no training config of PaddleClas")
    if any(isinstance(value, (dict, list)) for value in arch.values()):
        raise DataError(
            f"{path}: {name} is made of several networks: export the one that you ship by its own "
            "name, with --arg for what it takes"
        )
    given = {key: value for key, value in arch.items() if key not in _TRAINING}
    return Architecture(
        PADDLECLAS,
        name,
        given | arguments,
        inputs or _image_of(path, document.get("Global")),
        _transforms(document),
        _label_file(path, document),
    )


def _image_of(path: Path, section: Any) -> tuple[TensorSpec, ...]:
    shape = section.get("image_shape") if isinstance(section, dict) else None
    if shape is None:
        return _image(224, 224)
    if not isinstance(shape, list) or len(shape) != 3 or not all(_is_side(n) for n in shape):
        raise DataError(f"{path}: Global.image_shape is {shape!r}, not [channels, height, width]")
    return _image(shape[1], shape[2], shape[0])


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 14


def _transforms(document: Mapping[str, Any]) -> list[Any] | None:
    """What the config does to a picture that is looked at, else what it does to evaluate."""
    for keys in (
        ("Infer", "transforms"),
        ("DataLoader", "Eval", "dataset", "transform_ops"),
    ):
        found: Any = document
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, list):
            return found
    return None


def _label_file(config: Path, document: Mapping[str, Any]) -> Path | None:
    """The names of the classes; PaddleClas' own configs name them from where it is run."""
    post = (document.get("Infer") or {}).get("PostProcess") if document.get("Infer") else None
    name = post.get("class_id_map_file") if isinstance(post, dict) else None
    if not isinstance(name, str):
        return None
    there = [folder / name for folder in (Path(), *config.absolute().parents)]
    return next((path for path in there if path.is_file()), Path(name))
