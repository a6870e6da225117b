"""ImageSpec: pixels -> tensor, exactly as the bundle says.

A model answers correctly only on the pixels it was trained with, so preprocessing is data that
travels with the model. `ImageSpec` is that data and the one implementation of it:

    resize -> centre crop -> ((x * scale) / divisor - mean) / std -> NCHW -> pad on the right

Everything between the decoded pixels and the tensor is integer arithmetic, or float32 arithmetic
that rounds after every operation, so that a port to another language can give the same bits.

    spec = image_spec("paddleclas")
    tensor = spec.apply(open_image("cat.jpg"))          # float32 [1, 3, 224, 224]
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from py_runner.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = [
    "PRESETS",
    "ImageSpec",
    "image_spec",
    "open_image",
    "read_inference_yml",
    "resize_cv2_linear",
]

_COLORS = ("RGB", "BGR")
_RESIZES = ("short", "exact", "pad", "none")
_INTERPOLATIONS = ("cv2-linear", "pil-bilinear")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# A 1 x 4000 picture with its short side brought to 256 would be a million pixels wide.
_MAX_RESIZED_PIXELS = 1 << 26

_Size = Union[int, tuple[int, int], None]
_Pixels = npt.NDArray[np.uint8]
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
    size: _Size
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
        if isinstance(image, np.ndarray):
            pixels = image
        else:
            pixels = np.asarray(_to_rgb(image, image.format))
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise DataError(
                f"expected uint8 RGB pixels [height, width, 3], "
                f"got {pixels.dtype} {list(pixels.shape)}"
            )
        return self._normalize(self._resize_and_crop(pixels))

    def _resize_and_crop(self, pixels: _Pixels) -> _Pixels:
        height, width = self._resized(*pixels.shape[:2])
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
            pixels = _resize_pil_bilinear(pixels, height, width)
        return pixels[top : top + crop_height, left : left + crop_width]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
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

    def _normalize(self, pixels: _Pixels) -> _Tensor:
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

_SPEC_KEYS = (
    "resize=short:N|exact:HxW|pad:HxW|none, crop=N|HxW, color=RGB|BGR, "
    "interpolation=cv2-linear|pil-bilinear, scale=1/255, divisor=N, mean=A,B,C, std=A,B,C, "
    "draft=on|off"
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def image_spec(value: ImageSpec | str | os.PathLike[str]) -> ImageSpec:
    """The ImageSpec that `value` names: what the command's `--image` accepts.

    value: an ImageSpec; a name in `PRESETS`; a path to an `inference.yml` or to a folder that
    holds one; or a text `KEY=VALUE,...` such as `resize=short:256,crop=224,interpolation=
    pil-bilinear` or `resize=exact:32x100,color=BGR,scale=1,mean=127.5,std=127.5`. Sizes are
    HEIGHTxWIDTH, one number stands for all channels, `resize` is required, and what is not
    written has ImageSpec's default.

    Raises UsageError for anything else, naming what is allowed, and DataError for an
    `inference.yml` that cannot be read.
    """
    if isinstance(value, ImageSpec):
        return value
    if isinstance(value, str):
        if value in PRESETS:
            return PRESETS[value]
        if "=" in value and not Path(value).exists():
            return _parse_spec(value)
    path = Path(value)
    if not path.exists():
        raise UsageError(
            f"image {str(value)!r} is no preset ({', '.join(PRESETS)}), no file, "
            f"and no list of KEY=VALUE ({_SPEC_KEYS})"
        )
    path, document = _load_yml(path)
    spec = _yml_image(path, document)
    if spec is None:
        raise DataError(f"{path}: has no PreProcess section; describe the image: {_SPEC_KEYS}")
    return spec


def read_inference_yml(
    path: str | os.PathLike[str],
) -> tuple[ImageSpec | None, list[str] | None]:
    """Preprocessing and label names that a PaddleClas or PaddleX export carries.

    path: an `inference.yml`, or a folder that holds one. Understood are PreProcess.transform_ops
    (DecodeImage, ResizeImage, CropImage, NormalizeImage, ToCHWImage) and, in any section of
    PostProcess, `label_list` or `class_id_map_file` (relative to the .yml). None stands for a
    part that the file does not have.

    Raises DataError for a file that cannot be read, and for an op or option that ImageSpec cannot
    express, naming it.
    """
    path, document = _load_yml(Path(path))
    return _yml_image(path, document), _yml_labels(path, document)


def open_image(path: str | os.PathLike[str], spec: ImageSpec | None = None) -> Image.Image:
    """Decode an image file to a PIL image of mode RGB, turned upright as EXIF says.

    spec: where its `draft` is on, a JPEG is shrunk while it is decoded.

    As `cv2.imread` does: transparency is dropped, grey and palette images become RGB, and 16-bit
    samples keep their high byte. Of several frames the first is taken. Pillow's own limit
    (`PIL.Image.MAX_IMAGE_PIXELS`) decides what is too large.

    Raises DataError, naming the file, where it is missing, damaged, cut short, no image, too
    large, or has floating-point samples.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            # Pillow only warns up to twice its limit.
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError(
                    f"{image.width}x{image.height} pixels exceed the limit of {limit}"
                )
            if spec is not None and spec.draft:
                _draft(image, spec)
            image.load()
            result = _to_rgb(_upright(image), image.format)
            return result.copy() if result is image else result  # outlives the open file
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image in a format that Pillow reads") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot decode this image: {reason}") from error


def resize_cv2_linear(
    pixels: _Pixels,
    height: int,
    width: int,
    *,
    window: tuple[int, int, int, int] | None = None,
) -> _Pixels:
    """Resize as OpenCV's `cv2.resize(..., INTER_LINEAR)` does with 8-bit pixels, bit by bit.

    pixels: uint8 [h, w, c]. Returns uint8 [height, width, c], or only the part `window` = (top,
    left, height, width) of it.

    Equal to OpenCV 4.6, 4.10, 4.11 and 5.0 on x86-64. The method, as in imgproc/src/resize.cpp:
    a destination index d looks at f = float32((d + 0.5) * (source / destination) - 0.5), that is
    at the pixels i = floor(f) and i + 1, both clamped to the image, with weights 1 - (f - i) and
    f - i. Weights are rounded (half to even) to 11 bits. Rows first: h = (p0 * a0 + p1 * a1) >> 4;
    then columns: (((b0 * h0) >> 16) + ((b1 * h1) >> 16) + 2) >> 2. At a border, the horizontal
    weights become 1 and 0. Two special cases: an unchanged size is a copy, and exactly half of
    both sides is the mean of four pixels, (sum + 2) >> 2.
    """
    source_height, source_width, channels = pixels.shape
    top, left, rows, columns = window or (0, 0, height, width)
    if (height, width) == (source_height, source_width):
        return pixels[top : top + rows, left : left + columns].copy()
    if (2 * height, 2 * width) == (source_height, source_width):
        part = pixels[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
        pairs = part[0::2].astype(np.uint16) + part[1::2]
        mean: _Pixels = ((pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8)
        return mean

    x0, x1, a0, a1 = _linear_table(source_width, width, left, columns, snap=True)
    y0, y1, b0, b1 = _linear_table(source_height, height, top, rows, snap=False)
    lanes = np.arange(channels)
    lanes0 = (x0[:, None] * channels + lanes).ravel()
    lanes1 = (x1[:, None] * channels + lanes).ravel()
    weights0, weights1 = np.repeat(a0, channels), np.repeat(a1, channels)
    flat = pixels.reshape(source_height, source_width * channels)

    def horizontal(row_indices: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        picked = flat[row_indices]
        result = picked.take(lanes0, axis=1) * weights0
        result += picked.take(lanes1, axis=1) * weights1
        result >>= 4
        return result

    if rows > source_height:  # upscaling: the same rows are needed again and again
        lowest = int(y0.min())
        every = horizontal(np.arange(lowest, int(y1.max()) + 1))
        upper, lower = every[y0 - lowest], every[y1 - lowest]
    else:
        upper, lower = horizontal(y0), horizontal(y1)
    upper *= b0[:, None]
    upper >>= 16
    lower *= b1[:, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    resized: _Pixels = upper.astype(np.uint8).reshape(rows, columns, channels)
    return resized


def _linear_table(
    source: int, destination: int, start: int, count: int, *, snap: bool
) -> tuple[
    npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32], npt.NDArray[np.int32]
]:
    """Indices and 11-bit weights of the two source pixels of destinations start..start+count-1.

    snap: give the nearer pixel all the weight outside the image (the horizontal pass only).
    """
    scale = 1.0 / (destination / source)  # OpenCV inverts its inverse: not the same double
    positions = ((np.arange(start, start + count) + 0.5) * scale - 0.5).astype(np.float32)
    index = np.floor(positions).astype(np.intp)
    fraction = positions - index.astype(np.float32)
    if snap:
        fraction[(index < 0) | (index >= source - 1)] = 0
    one, unit = np.float32(1), np.float32(2048)
    return (
        index.clip(0, source - 1),
        (index + 1).clip(0, source - 1),
        np.rint((one - fraction) * unit).astype(np.int32),
        np.rint(fraction * unit).astype(np.int32),
    )


def _resize_pil_bilinear(pixels: _Pixels, height: int, width: int) -> _Pixels:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _draft(image: ImageFile, spec: ImageSpec) -> None:
    sideways = image.format in ("JPEG", "MPO") and _orientation(image) in (5, 6, 7, 8)
    width, height = image.size[::-1] if sideways else image.size
    wanted_height, wanted_width = spec._resized(height, width)
    wanted = (wanted_height, wanted_width) if sideways else (wanted_width, wanted_height)
    image.draft("RGB", wanted)  # does nothing in other formats


def _orientation(image: Image.Image) -> Any:
    return image.getexif().get(0x0112, 1)


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the whole EXIF block anew, and fails on odd tags
    # that have nothing to do with the pixels.
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
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


def _parse_spec(text: str) -> ImageSpec:
    fields: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key in fields:
            raise UsageError(f"image: {key} is given twice in {text!r}")
        try:
            if key == "resize":
                fields["resize"], _, size = value.partition(":")
                fields["size"] = _parse_size(size, square=fields["resize"] != "short")
            elif key == "crop":
                fields["crop"] = _parse_size(value, square=True)
            elif key in ("color", "interpolation"):
                fields[key] = value
            elif key == "draft":
                if value not in ("on", "off"):
                    raise ValueError(f"{value!r} is neither on nor off")
                fields[key] = value == "on"
            elif key in ("scale", "divisor"):
                fields[key] = _parse_number(value)
            elif key in ("mean", "std"):
                numbers = tuple(_parse_number(number) for number in value.split(","))
                fields[key] = numbers * 3 if len(numbers) == 1 else numbers
            else:
                raise UsageError(f"image: unknown key {key!r} in {text!r}; allowed: {_SPEC_KEYS}")
        except ValueError as error:
            raise UsageError(f"image: {part.strip()!r}: {error}; allowed: {_SPEC_KEYS}") from error
    if "resize" not in fields:
        raise UsageError(f"image: {text!r} does not say resize=...; allowed: {_SPEC_KEYS}")
    spec = ImageSpec(**fields)
    brightest = 255 * spec.scale / spec.divisor
    if not all(0 <= mean <= brightest * 1.01 for mean in spec.mean):
        raise UsageError(
            f"image: mean {','.join(f'{mean:g}' for mean in spec.mean)} lies outside "
            f"0..{brightest:g}, the range of x * scale / divisor: set scale (1/255 for means below "
            f"1, 1 for means of 0..255)"
        )
    return spec


def _parse_size(text: str, *, square: bool) -> _Size:
    if not text:
        return None
    sides = text.lower().split("x")
    if not all(side.isascii() and side.isdigit() for side in sides) or len(sides) > 2:
        raise ValueError(f"{text!r} is no size, such as 224 or 48x192 (height x width)")
    if len(sides) == 1:
        return (int(sides[0]), int(sides[0])) if square else int(sides[0])
    return int(sides[0]), int(sides[1])


def _parse_number(value: object) -> float:
    """A number, or a text such as "0.5" or "1.0/255.0"; ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    parts = [part.strip() for part in str(value).split("/")]
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{value!r} is not a number or a quotient of two numbers")
    if len(parts) == 1:
        return float(parts[0])
    if float(parts[1]) == 0:
        raise ValueError(f"{value!r} divides by zero")
    return float(parts[0]) / float(parts[1])


def _load_yml(path: Path) -> tuple[Path, dict[str, Any]]:
    try:
        import yaml
    except ImportError:
        raise DataError(f"{path}: reading .yml needs PyYAML: pip install pyyaml") from None

    if path.is_dir():
        path = path / "inference.yml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a YAML file: {reason}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not an inference.yml: it has no sections")
    return path, document


def _yml_image(path: Path, document: dict[str, Any]) -> ImageSpec | None:
    for section in ("Preprocess", "Deploy"):
        if section in document:
            raise DataError(
                f"{path}: section {section!r} (PaddleDetection, PaddleSeg) is not supported; "
                f"describe the image: {_SPEC_KEYS}"
            )
    if document.get("PreProcess") is None:
        return None
    section = document["PreProcess"]
    ops = section.get("transform_ops") if isinstance(section, dict) else None
    if not isinstance(ops, list):
        raise DataError(f"{path}: PreProcess has no list transform_ops")
    options = _yml_ops(path, ops)
    try:
        decode = options.get("DecodeImage", {})
        color = decode.get("img_mode", "RGB" if decode.get("to_rgb", True) else "BGR")
        fields: dict[str, Any] = {"color": color, "resize": "none", "size": None}
        if "ResizeImage" in options:
            fields.update(_yml_resize(options["ResizeImage"]))
        if "CropImage" in options:
            fields["crop"] = _yml_size(options["CropImage"].get("size"))
        # Without the op, pixels go to the model as 0..255; with it, its defaults are ImageSpec's.
        normalize = options.get("NormalizeImage", {"scale": 1, "mean": [0] * 3, "std": [1] * 3})
        if normalize.get("scale") is not None:
            fields["scale"] = _parse_number(normalize["scale"])
        for key in ("mean", "std"):
            if isinstance(normalize.get(key), list):
                fields[key] = tuple(_parse_number(number) for number in normalize[key])
            elif normalize.get(key) is not None:
                raise ValueError(f"NormalizeImage: {key} is no list: {normalize[key]!r}")
        return ImageSpec(**fields)
    except (ValueError, UsageError) as error:
        raise DataError(f"{path}: {error}") from error


# What ImageSpec does in this order anyway; the last two commute.
_YML_ORDER = {
    "DecodeImage": 0,
    "ResizeImage": 1,
    "CropImage": 2,
    "NormalizeImage": 3,
    "ToCHWImage": 3,
}
# Per op: its options, each with the values that can be expressed, or None for "looked at later".
_YML_OPTIONS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "DecodeImage": {
        "to_rgb": (True, False),
        "to_np": (True, False),
        "channel_first": (False,),
        "backend": ("cv2",),
        "img_mode": ("RGB", "BGR"),
    },
    "ResizeImage": {
        "size": None,
        "resize_short": None,
        "interpolation": (None, "bilinear"),
        "backend": ("cv2", "pil", "PIL"),
        "return_numpy": (True, False),
    },
    "CropImage": {"size": None},
    "NormalizeImage": {
        "scale": None,
        "mean": None,
        "std": None,
        "order": (None, "", "hwc", "chw"),
        "channel_num": (3,),
        "output_fp16": (False,),
    },
    "ToCHWImage": {},
}


def _yml_ops(path: Path, ops: list[Any]) -> dict[str, dict[str, Any]]:
    """{op: options}, or DataError where an op, an option or the order cannot be expressed."""
    result: dict[str, dict[str, Any]] = {}
    reached = 0
    for entry in ops:
        name, options = entry, None
        if isinstance(entry, dict) and len(entry) == 1:
            name, options = next(iter(entry.items()))
        if not isinstance(name, str) or not isinstance(options, (dict, type(None))):
            raise DataError(f"{path}: transform_ops holds {entry!r}, which is no op")
        if name not in _YML_ORDER:
            raise DataError(
                f"{path}: the op {name!r} is not supported ({', '.join(_YML_ORDER)} are); "
                f"describe the image: {_SPEC_KEYS}"
            )
        if name in result or _YML_ORDER[name] < reached:
            raise DataError(f"{path}: the op {name!r} stands twice or in an unsupported place")
        reached = _YML_ORDER[name]
        for key, value in (options or {}).items():
            if key not in _YML_OPTIONS[name]:
                raise DataError(f"{path}: {name} has the unsupported option {key!r}")
            allowed = _YML_OPTIONS[name][key]
            if allowed is not None and value not in allowed:
                raise DataError(f"{path}: {name} has {key}={value!r}; supported are {allowed}")
        result[name] = options or {}
    if "ToCHWImage" not in result:
        raise DataError(f"{path}: without ToCHWImage the tensor is NHWC, which is not supported")
    return result


def _yml_resize(options: dict[str, Any]) -> dict[str, Any]:
    backend = str(options.get("backend", "cv2")).lower()
    fields: dict[str, Any] = {"interpolation": "pil-bilinear" if backend == "pil" else "cv2-linear"}
    if options.get("resize_short") is not None:  # wins over size, as in PaddleClas
        return {**fields, "resize": "short", "size": options["resize_short"]}
    return {**fields, "resize": "exact", "size": _yml_size(options.get("size"))}


def _yml_size(value: object) -> tuple[Any, Any]:
    """(height, width) of PaddleClas' `size`, which is one number or [width, height]."""
    if isinstance(value, list) and len(value) == 2:
        return value[1], value[0]
    if isinstance(value, int):
        return value, value
    raise ValueError(f"size must be one number or [width, height], not {value!r}")


def _yml_labels(path: Path, document: dict[str, Any]) -> list[str] | None:
    sections = document.get("PostProcess")
    if not isinstance(sections, dict):
        return None
    for name, section in sections.items():
        if not isinstance(section, dict):
            continue
        labels = section.get("label_list")
        if labels is not None:
            # YAML reads unquoted names such as 180 as numbers, which is harmless.
            if not isinstance(labels, list) or not labels or {type(x) for x in labels} - {str, int}:
                raise DataError(f"{path}: {name}.label_list is no list of names")
            return [str(label) for label in labels]
        if section.get("class_id_map_file"):
            from py_runner.data.labels import read_labels

            return read_labels(path.parent / str(section["class_id_map_file"]))
    return None
