"""ImageSpec: pixels -> tensor, exactly as the bundle says.

A model answers correctly only on the pixels it was trained with, so preprocessing is data that
travels with the model. `ImageSpec` is that data and the one implementation of it:

    resize -> canvas -> centre crop -> ((x * scale) / divisor - mean) / std -> NCHW -> zeros
    on the right and at the bottom

Everything between the decoded pixels and the tensor is integer arithmetic, or float32 arithmetic
that rounds after every operation, so that a port to another language can give the same bits.

    tensor = PRESETS["paddleclas"].apply(open_image("cat.jpg"))         # float32 [1, 3, 224, 224]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.data.affine import onto_canvas
from py_runner.data.geometry import RULES, SIDE, Placement, placement
from py_runner.data.resize import (
    Pixels,
    resize_cv2_area,
    resize_cv2_cubic,
    resize_cv2_linear,
    resize_cv2_linear_f32,
    resize_cv2_nearest,
    resize_pil_bilinear,
)
from py_runner.data.rgb import to_rgb
from py_runner.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PRESETS", "SPEC_KEYS", "ImageSpec", "Size"]

_COLORS = ("RGB", "BGR")
_INTERPOLATIONS = (
    "cv2-linear",
    "pil-bilinear",
    "cv2-cubic",
    "cv2-area",
    "cv2-nearest",
    "cv2-linear-f32",
)
# The fields that are stored only where they are not these, and the rules that take a crop:
# bundles from before the others read the same, and readers from before refuse them by name.
_LATER = {"draft": False, "canvas": None, "fill": (0, 0, 0), "stride": 1} | {
    "wide": False,
    "upright": True,
}
_CROPPED = ("short", "exact", "none")
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
                   "long"   the long side becomes `size` (int), rounded as "short" is: PaddleSeg's
                            ResizeByLong
                   "within" `size` is (least, most): the long side is brought between them, as by
                            PaddleSeg's LimitLong
                   "fit"    `size` is (height, width): the short side becomes the smaller of them,
                            or the long side the larger one where it would exceed it: Resize with
                            keep_ratio of PaddleDetection
                   "letterbox"  `size` is (height, width): as large as fits into it, in the middle
                            of a canvas of `fill`: PaddleDetection's LetterBoxResize
                   "affine"  `size` is (height, width): as wide as that, centre upon centre, black
                            or cut off above and below: PaddleDetection's TopDownEvalAffine
                   "page-min", "page-max"  the short side is enlarged to `size` (int), or the long
                            one reduced to it, and both are rounded to multiples of 32; "page-long"
                            brings the long side to `size` and both up to multiples of 128: the
                            limit_type and resize_long of PaddleOCR's DetResizeForTest
                   "line"   "pad" whose width grows with long lines, up to 3200: how PaddleOCR
                            feeds recognisers
    crop           (height, width) cut from the centre after the resize, or None; the offset is
                   (side - crop) // 2
    canvas         (height, width) that is filled up at the bottom and on the right, before
                   normalisation, with `fill`; or None
    fill           three numbers of 0 to 255, in the order of `color`
    stride         after normalisation, zeros at the bottom and on the right bring both sides to
                   multiples of it: PaddleDetection's PadStride
    color          order of the tensor's channels, "RGB" or "BGR"
    interpolation  "cv2-linear"    cv2.resize's INTER_LINEAR on 8-bit pixels, bit by bit: no
                                   antialiasing (see `resize_cv2_linear`)
                   "pil-bilinear"  Pillow's BILINEAR: antialiased, another function
                   "cv2-cubic", "cv2-area", "cv2-nearest"  other modes of cv2.resize
                   "cv2-linear-f32"  INTER_LINEAR on float32 pixels, as in PaddleSeg
    scale, divisor, mean, std
                   ((x * scale) / divisor - mean) / std in float32, rounded after every step.
                   PaddleClas multiplies by 1/255 and PP-OCR divides by 255, which differ in the
                   last bit: that is why there are two. mean and std follow the order of `color`.
    wide           whether mean and std are float64, and the difference and the quotient rounded to
                   float32 each, as in PaddleDetection and PaddleSeg
    upright        whether a picture is turned as its EXIF says, as OpenCV does
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
    canvas: tuple[int, int] | None = None
    fill: tuple[float, float, float] = (0, 0, 0)
    stride: int = 1
    wide: bool = False
    upright: bool = True

    def __post_init__(self) -> None:
        _check_choice("color", self.color, _COLORS)
        _check_choice("resize", self.resize, RULES)
        _check_choice("interpolation", self.interpolation, _INTERPOLATIONS)
        if self.resize in SIDE:
            if not _is_side(self.size):
                raise UsageError(
                    f"image: resize {self.resize} needs size = one side, not {self.size!r}"
                )
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
        self._check_padding()
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
        if self.resize not in _CROPPED or self.canvas is not None:
            raise UsageError(f"image: resize {self.resize} with padding takes no crop")
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

    def _check_padding(self) -> None:
        if self.canvas is not None and not _is_pair(self.canvas):
            raise UsageError(f"image: canvas needs (height, width), not {self.canvas!r}")
        if self.canvas is not None and self.resize in ("pad", "line", "letterbox", "affine"):
            raise UsageError(f"image: resize {self.resize} has a canvas of its own")
        if not _is_side(self.stride):
            raise UsageError(f"image: stride must be a whole number from 1, not {self.stride!r}")
        for name in ("wide", "upright"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"image: {name} is {getattr(self, name)!r}, not true or false")
        if not isinstance(self.fill, tuple) or len(self.fill) != 3:
            raise UsageError(f"image: fill needs a tuple of 3 numbers, not {self.fill!r}")
        for value in self.fill:
            _check_number("fill", value, positive=False)
            whole = self.interpolation == "cv2-linear-f32" or float(value).is_integer()
            if not 0 <= value <= 255 or not whole:
                raise UsageError(f"image: fill must be of grey levels, 0 to 255, not {value!r}")
        if self.interpolation == "pil-bilinear" and self.resize not in (*_CROPPED, "pad"):
            raise UsageError(f"image: resize {self.resize} is OpenCV's: not with pil-bilinear")
        if self.interpolation != "cv2-linear" and self.resize == "affine":
            raise UsageError("image: resize affine is known with cv2-linear only")
        if self.interpolation in ("cv2-area", "cv2-linear-f32") and self.resize == "fit":
            raise UsageError(f"image: resize fit is not known with {self.interpolation}")

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor, NCHW; -1 where it depends on the image."""
        fixed = self.resize in ("exact", "pad", "letterbox", "affine") and self.size
        sides = self.crop or self.canvas or fixed or (-1, -1)
        if not isinstance(sides, tuple):  # a size that is one side is never fixed
            sides = (-1, -1)
        if self.resize == "line" and isinstance(self.size, tuple):
            sides = (self.size[0], -1)
        height, width = (side if side < 0 else self._to_stride(side) for side in sides)
        return (1, 3, height, width)

    @property
    def likely_shape(self) -> tuple[int, int, int, int]:
        """`output_shape`, where it depends on the image that of a likely one."""
        height, width = self.output_shape[2:]
        if self.resize in ("fit", "line") and isinstance(self.size, tuple):
            likely: tuple[int, int] = self.size
        elif self.resize in SIDE and isinstance(self.size, int):
            likely = self.resized(self.size, self.size)
        else:
            likely = (-1, -1)
        sides = zip((height, width), likely)
        filled = [have if have >= 0 or like < 0 else self._to_stride(like) for have, like in sides]
        return (1, 3, filled[0], filled[1])

    @property
    def beyond_native(self) -> str:
        """What of it the native runner does not do and refuses, by its name; "" where it does all.

        armlinux/src/image.cc says the same.
        """
        if self.resize in ("within", "fit", "letterbox", "affine"):
            return f"resize {self.resize}"
        if self.interpolation not in _INTERPOLATIONS[:2]:
            return f"interpolation {self.interpolation}"
        return next((name for name, value in _LATER.items() if self._has(name, value)), "")

    def _has(self, name: str, usual: Any) -> bool:
        return name != "draft" and bool(getattr(self, name) != usual)

    def _to_stride(self, side: int) -> int:
        return -(-side // self.stride) * self.stride

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
        place = self.placed(*image.shape[:2])
        pixels = self._resize_and_crop(self._large_enough(image), place)
        full = (place.full_height, place.full_width) if self.crop is None else pixels.shape[:2]
        if self.canvas is not None or self.resize == "letterbox":
            pixels = self._on_canvas(pixels, place, self.canvas or full)
            full = pixels.shape[:2]
        return self._normalize(pixels, self._to_stride(full[0]), self._to_stride(full[1]))

    def _large_enough(self, pixels: Pixels) -> Pixels:
        """PaddleOCR adds black to pages that are hardly more than a letter, up to 32 x 32."""
        height, width = self._source(*pixels.shape[:2])
        missing = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
        return np.pad(pixels, missing) if missing[0][1] or missing[1][1] else pixels

    def _source(self, height: int, width: int) -> tuple[int, int]:
        if self.resize.startswith("page") and height + width < 64:
            return max(32, height), max(32, width)
        return height, width

    def _on_canvas(
        self, pixels: npt.NDArray[Any], place: Placement, size: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        height, width = pixels.shape[:2]
        if height > size[0] or width > size[1]:
            raise DataError(
                f"the image is {height}x{width} (height x width) after the resize, larger than the "
                f"canvas {size[0]}x{size[1]}"
            )
        fill = self.fill if self.color == "RGB" else self.fill[::-1]
        canvas = np.empty((size[0], size[1], 3), pixels.dtype)
        canvas[:] = fill
        top, left = int(place.top), int(place.left)
        canvas[top : top + height, left : left + width] = pixels
        return canvas

    def _resize_and_crop(self, pixels: Pixels, place: Placement) -> npt.NDArray[Any]:
        height, width = place.height, place.width
        crop_height, crop_width = self.crop or (height, width)
        if crop_height > height or crop_width > width:
            raise DataError(
                f"the crop {crop_height}x{crop_width} (height x width) is larger than the image, "
                f"which is {height}x{width} after the resize"
            )
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        window = (top, left, crop_height, crop_width)
        # cv2-linear computes the window only; the others have to make the whole image.
        whole = self.interpolation != "cv2-linear" and self.resize != "none"
        computed = height * width if whole else crop_height * crop_width
        if self.crop is None:
            computed = max(computed, place.full_height * place.full_width)
        if computed > _MAX_RESIZED_PIXELS:
            raise DataError(
                f"an image of {pixels.shape[0]}x{pixels.shape[1]} (height x width) would become "
                f"{height}x{width}: too large"
            )
        if not height or not width:
            raise DataError(
                f"an image of {pixels.shape[0]}x{pixels.shape[1]} (height x width) would become "
                f"{height}x{width}: nothing"
            )
        if self.resize == "affine":
            return onto_canvas(pixels, height, width)
        scale = place.scale if place.told else None
        if self.interpolation == "cv2-linear":
            return resize_cv2_linear(pixels, height, width, window=window, scale=scale)
        resized = self._resized(pixels, height, width, scale)
        return resized[top : top + crop_height, left : left + crop_width]

    def _resized(
        self, pixels: Pixels, height: int, width: int, scale: tuple[float, float] | None
    ) -> npt.NDArray[Any]:
        if self.interpolation == "cv2-linear-f32":
            return resize_cv2_linear_f32(pixels, height, width)
        if (height, width) == pixels.shape[:2]:
            return pixels
        if self.interpolation == "pil-bilinear":
            return resize_pil_bilinear(pixels, height, width)
        if self.interpolation == "cv2-area":
            return resize_cv2_area(pixels, height, width)
        if self.interpolation == "cv2-cubic":
            return resize_cv2_cubic(pixels, height, width, scale=scale)
        return resize_cv2_nearest(pixels, height, width, scale=scale)

    def placed(self, height: int, width: int) -> Placement:
        """Where an image of this size lands when it is resized: before any crop and canvas."""
        return placement(self.resize, self.size, *self._source(height, width))

    def on_tensor(self, height: int, width: int) -> Placement:
        """Where an image of this size lies on the whole tensor: `top` and `left` are below 0 where
        a crop cuts them off."""
        place = self.placed(height, width)
        full = self.canvas or self.crop or (place.full_height, place.full_width)
        top, left = place.top, place.left
        if self.crop is not None:
            top, left = -((place.height - full[0]) // 2), -((place.width - full[1]) // 2)
        high, wide = map(self._to_stride, full)
        return dataclasses.replace(place, full_height=high, full_width=wide, top=top, left=left)

    def on_picture(
        self,
        points: npt.ArrayLike,
        height: int,
        width: int,
        grid: tuple[int, int] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Where points of the tensor, x and y on the last axis, lie on the picture of `height` x
        `width` that it was made from; `grid` is the height and width of the map in whose cells they
        are, by default the tensor's."""
        place = self.on_tensor(height, width)
        full = place.full_height, place.full_width
        cell = np.array(full) / (grid or full)
        moved = np.asarray(points, np.float64) * cell[::-1] - (place.left, place.top)
        return np.asarray(moved / place.scale[::-1])

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size has after the resize."""
        place = self.placed(height, width)
        return place.height, place.width

    def _normalize(self, pixels: npt.NDArray[Any], full_height: int, full_width: int) -> _Tensor:
        height, width = pixels.shape[:2]
        tensor = np.zeros((1, 3, full_height, full_width), dtype=np.float32)
        for channel in range(3):
            source = pixels[:, :, channel if self.color == "RGB" else 2 - channel]
            if pixels.dtype == np.uint8:
                # A byte has 256 values, so the formula is a table: same bits, less work.
                table = self._formula(np.arange(256, dtype=np.float32), channel)
                tensor[0, channel, :height, :width] = table.take(source)
            else:
                tensor[0, channel, :height, :width] = self._formula(source, channel)
        return tensor

    def _formula(self, values: npt.NDArray[np.float32], channel: int) -> npt.NDArray[np.float32]:
        scaled = values * np.float32(self.scale) / np.float32(self.divisor)
        mean, std = self.mean[channel], self.std[channel]
        if not self.wide:
            narrow: npt.NDArray[np.float32] = (scaled - np.float32(mean)) / np.float32(std)
            return narrow
        centred = (scaled.astype(np.float64) - mean).astype(np.float32)
        return (centred.astype(np.float64) / std).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values, every field under its own name (tuples become lists).

        Fields that came later are left out where they change nothing: bundles from before them
        read the same.
        """
        values = dataclasses.asdict(self)
        values = {k: v for k, v in values.items() if k not in _LATER or v != _LATER[k]}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, value: object) -> ImageSpec:
        """The spec that `to_json` wrote. Keys that it leaves out may be missing, no other is
        allowed. Raises DataError otherwise.
        """
        if not isinstance(value, Mapping):
            raise DataError(f"image: expected a JSON object, got {type(value).__name__}")
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in value if key not in names)
        missing = [name for name in names if name not in value and name not in _LATER]
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
    # What PaddleOCR's own command feeds where nothing lies beside the model.
    "ppocr-det": ImageSpec(resize="page-max", size=960, color="BGR"),
    "ppocr-rec": ImageSpec(
        resize="line",
        size=(48, 320),
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
    "resize="
    + "|".join(
        rule + ("" if rule == "none" else ":N" if rule in SIDE else ":HxW") for rule in RULES
    )
    + ", crop=N|HxW, color=RGB|BGR, interpolation="
    + "|".join(_INTERPOLATIONS)
    + ", scale=1/255, divisor=N, mean=A,B,C, std=A,B,C, canvas=HxW, fill=A,B,C, stride=N, "
    "wide=on|off, upright=on|off, draft=on|off"
)
