"""ImageSpec: pixels -> tensor, exactly as the bundle says.

A model answers correctly only on the pixels it was trained with, so preprocessing is data that
travels with the model. `ImageSpec` is that data and the one implementation of it:

    resize -> centre crop -> ((x * scale) / divisor - mean) / std -> NCHW -> pad on the right

Everything between the decoded pixels and the tensor is integer arithmetic, or float32 arithmetic
that rounds after every operation, so that a port to another language can give the same bits.

    tensor = PRESETS["paddleclas"].apply(open_image("cat.jpg"))         # float32 [1, 3, 224, 224]
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.data.resize import Pixels, resize_cv2_linear, resize_pil_bilinear
from py_runner.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PRESETS", "SPEC_KEYS", "ImageSpec", "Size", "to_rgb"]

_COLORS = ("RGB", "BGR")
_RESIZES = ("short", "exact", "pad", "none")
_INTERPOLATIONS = ("cv2-linear", "pil-bilinear")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# A 1 x 4000 picture with its short side brought to 256 would be a million pixels wide.
_MAX_RESIZED_PIXELS = 1 << 26

Size = Union[int, tuple[int, int], None]
_Tensor = npt.NDArray[np.float32]


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 16


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_side(side) for side in value)


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise UsageError(f"image: {name} is {value!r}; it must be one of {', '.join(allowed)}")


def _check_number(name: str, value: object, *, positive: bool) -> None:
    wanted = "a positive number" if positive else "a finite number"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"image: {name} must be {wanted}, not {value!r}")
    # As float32, because that is what it is used as: 1e-60 would be a division by zero.
    low, high = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if not (low <= value <= high if positive else -high <= value <= high):
        raise UsageError(f"image: {name} must be {wanted} within float32, not {value!r}")


@dataclass(frozen=True)
class ImageSpec:
    """How an image becomes the float32 NCHW tensor of one model input.

    resize         what happens to the size:
                   "short"  the short side becomes `size` (int), the other side keeps the aspect
                            ratio: each side is round(side * (size / short)), halves to even, as
                            in PaddleClas' ResizeImage
                   "exact"  becomes `size` (height, width), whatever the aspect ratio was
                   "pad"    `size` is (height, width): the height is fixed, the width becomes
                            min(ceil(height * w / h), width), and after normalisation zeros are
                            added on the right, as in PP-OCR's direction classifier
                   "none"   nothing; `size` is None
    crop           (height, width) cut from the centre after the resize, or None; the offset is
                   (side - crop) // 2
    color          order of the tensor's channels, "RGB" or "BGR"
    interpolation  "cv2-linear"    cv2.resize's INTER_LINEAR on 8-bit pixels, bit by bit: no
                                   antialiasing (see `resize_cv2_linear`)
                   "pil-bilinear"  Pillow's BILINEAR: antialiased, another function
    scale, divisor, mean, std
                   ((x * scale) / divisor - mean) / std in float32, rounded after every step.
                   PaddleClas multiplies by 1/255 and PP-OCR divides by 255, which differ in the
                   last bit: that is why there are two. mean and std follow the order of `color`.
    draft          whether `open_image(path, spec)` has the decoder shrink a JPEG to 1/2, 1/4 or
                   1/8 on the way, as far as it stays no smaller than the resize wants it: about
                   three times as fast on photographs, other pixels. Other formats have no such
                   decoder. It is stored only where it is on

    The defaults are PaddleClas' for ImageNet; `resize` and `size` have none. Values that do not
    fit each other raise UsageError here, never later.
    """

    resize: str
    size: Size
    crop: tuple[int, int] | None = None
    color: str = "RGB"
    interpolation: str = "cv2-linear"
    scale: float = 1 / 255
    divisor: float = 1.0
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    draft: bool = False

    def __post_init__(self) -> None:
        _check_choice("color", self.color, _COLORS)
        _check_choice("resize", self.resize, _RESIZES)
        _check_choice("interpolation", self.interpolation, _INTERPOLATIONS)
        if self.resize == "short":
            if not _is_side(self.size):
                raise UsageError(f"image: resize short needs size = one side, not {self.size!r}")
        elif self.resize == "none":
            if self.size is not None:
                raise UsageError(f"image: resize none takes no size, but size is {self.size!r}")
        elif not _is_pair(self.size):
            raise UsageError(
                f"image: resize {self.resize} needs size = (height, width), not {self.size!r}"
            )
        if self.crop is not None:
            self._check_crop(self.crop)
        if not isinstance(self.draft, bool) or (self.draft and self.resize == "none"):
            raise UsageError(
                f"image: draft is {self.draft!r}; it must be true or false, and true needs a resize"
            )
        for name in ("scale", "divisor"):
            _check_number(name, getattr(self, name), positive=True)
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3:
                raise UsageError(f"image: {name} needs a tuple of 3 numbers, not {values!r}")
            for value in values:
                _check_number(name, value, positive=name == "std")

    def _check_crop(self, crop: tuple[int, int]) -> None:
        if not _is_pair(crop):
            raise UsageError(f"image: crop needs (height, width), not {crop!r}")
        height, width = crop
        if self.resize == "pad":
            raise UsageError("image: resize pad fixes the size already and takes no crop")
        if isinstance(self.size, int):
            # One side of the crop may exceed it (the long side is longer), but never both.
            fits = min(height, width) <= self.size
        elif self.size is not None:
            fits = height <= self.size[0] and width <= self.size[1]
        else:
            fits = True
        if not fits:
            raise UsageError(
                f"image: crop {height}x{width} does not fit into {self.resize}:{self.size}"
            )

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor, NCHW; -1 where it depends on the image."""
        height, width = self.crop or (self.size if isinstance(self.size, tuple) else (-1, -1))
        return (1, 3, height, width)

    def apply(self, image: Image.Image | npt.NDArray[Any]) -> _Tensor:
        """The tensor of one image: float32, [1, 3, H, W], C-contiguous.

        image: a PIL image of any mode that `open_image` converts, or uint8 RGB pixels [h, w, 3].
        Raises DataError for other pixels, and for an image smaller than the crop.
        """
        if not isinstance(image, np.ndarray):
            image = np.asarray(to_rgb(image, image.format))
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(
                f"expected uint8 RGB pixels [height, width, 3], "
                f"got {image.dtype} {list(image.shape)}"
            )
        return self._normalize(self._resize_and_crop(image))

    def _resize_and_crop(self, pixels: Pixels) -> Pixels:
        height, width = self.resized(*pixels.shape[:2])
        crop_height, crop_width = self.crop or (height, width)
        if crop_height > height or crop_width > width:
            raise DataError(
                f"the crop {crop_height}x{crop_width} (height x width) is larger than the image, "
                f"which is {height}x{width} after the resize"
            )
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        window = (top, left, crop_height, crop_width)
        # cv2-linear computes the window only; Pillow has to make the whole image.
        whole = self.interpolation == "pil-bilinear" and self.resize != "none"
        computed = height * width if whole else crop_height * crop_width
        if computed > _MAX_RESIZED_PIXELS:
            raise DataError(
                f"an image of {pixels.shape[0]}x{pixels.shape[1]} (height x width) would become "
                f"{height}x{width}: too large"
            )
        if self.interpolation == "cv2-linear":
            return resize_cv2_linear(pixels, height, width, window=window)
        if (height, width) != pixels.shape[:2]:
            pixels = resize_pil_bilinear(pixels, height, width)
        return pixels[top : top + crop_height, left : left + crop_width]

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size has after the resize."""
        if isinstance(self.size, int):
            percent = float(self.size) / min(width, height)
            return round(height * percent), round(width * percent)
        if self.size is None:
            return height, width
        if self.resize == "exact":
            return self.size
        # The quotient first: ceil() of another order of operations can differ by one pixel.
        scaled = math.ceil(self.size[0] * (width / float(height)))
        return self.size[0], min(scaled, self.size[1])

    def _normalize(self, pixels: Pixels) -> _Tensor:
        # A byte has 256 values, so the formula is a table of 3 x 256: same bits, less work.
        mean = np.array(self.mean, dtype=np.float32)[:, None]
        std = np.array(self.std, dtype=np.float32)[:, None]
        scaled = np.arange(256, dtype=np.float32)[None] * np.float32(self.scale)
        table = (scaled / np.float32(self.divisor) - mean) / std
        height, width = pixels.shape[:2]
        full_width = self.output_shape[3] if self.resize == "pad" else width
        tensor = np.zeros((1, 3, height, full_width), dtype=np.float32)
        for channel in range(3):
            source = channel if self.color == "RGB" else 2 - channel
            tensor[0, channel, :, :width] = table[channel].take(pixels[:, :, source])
        return tensor

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values, every field under its own name (tuples become lists).

        `draft` is left out where it is False: bundles from before it read the same.
        """
        values = dataclasses.asdict(self)
        if not self.draft:
            del values["draft"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, value: object) -> ImageSpec:
        """The spec that `to_json` wrote. Every key but `draft` is required, no other is allowed.

        Raises DataError otherwise.
        """
        if not isinstance(value, Mapping):
            raise DataError(f"image: expected a JSON object, got {type(value).__name__}")
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in value if key not in names)
        missing = [name for name in names if name not in value and name != "draft"]
        if unknown or missing:
            what = f"unknown keys {unknown}" if unknown else f"missing keys {missing}"
            raise DataError(f"image: {what}; the keys are {', '.join(names)}")
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
        }
        try:
            return cls(**fields)
        except UsageError as error:
            raise DataError(str(error)) from error


PRESETS: dict[str, ImageSpec] = {
    # PaddleClas' ImageNet classifiers; InceptionV3 and Xception want short:320, crop 299.
    "paddleclas": ImageSpec(resize="short", size=256, crop=(224, 224)),
    "darknet53": ImageSpec(resize="short", size=292, crop=(256, 256)),
    "ppocr-cls": ImageSpec(
        resize="pad",
        size=(48, 192),
        color="BGR",
        scale=1.0,
        divisor=255.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    # The weights' authors validated with Pillow's antialiased BICUBIC. Of the two functions that
    # bundles know, Pillow's BILINEAR is the near one: it antialiases too.
    "efficientnet-lite": ImageSpec(
        resize="short",
        size=256,
        crop=(224, 224),
        interpolation="pil-bilinear",
        scale=1.0,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
}

# The fields as `image_spec` takes them, for errors that ask for a description.
SPEC_KEYS = (
    "resize=short:N|exact:HxW|pad:HxW|none, crop=N|HxW, color=RGB|BGR, "
    "interpolation=cv2-linear|pil-bilinear, scale=1/255, divisor=N, mean=A,B,C, std=A,B,C, "
    "draft=on|off"
)


def to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    """The image in mode RGB, 8 bits a sample; `file_format` is Pillow's name of where it came from.

    Raises DataError for samples whose range is unknown.
    """
    from PIL import Image

    if image.mode == "RGB":
        return image
    # Older Pillow opens a 16-bit grey PNG as "I"; a PNG never has 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PNG"):
        # convert("RGB") would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "32-bit integer" if image.mode == "I" else "floating-point"
        raise DataError(f"has {kind} samples, whose range is unknown; convert it to 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when transparency is dropped in one step
    return image.convert("RGB")
