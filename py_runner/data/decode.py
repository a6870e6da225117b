"""Image files -> upright RGB pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py_runner.data.image import ImageSpec, to_rgb
from py_runner.errors import DataError
from py_runner.files.regular import open_regular

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = ["open_image"]


def open_image(path: str | os.PathLike[str], spec: ImageSpec | None = None) -> Image.Image:
    """Decode an image file to a PIL image of mode RGB, turned upright as EXIF says.

    spec: where its `draft` is on, a JPEG is shrunk while it is decoded; where its `upright` is off,
    nothing is turned.

    As `cv2.imread` does: transparency is dropped, grey and palette images become RGB, and 16-bit
    samples keep their high byte. Of several frames the first is taken. Pillow's own limit
    (`PIL.Image.MAX_IMAGE_PIXELS`) decides what is too large.

    Raises DataError, naming the file, where it is missing, damaged, cut short, no image, too
    large, or has floating-point samples.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        with open_regular(path) as file, Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS
            # Pillow only warns up to twice its limit.
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError(
                    f"{image.width}x{image.height} pixels exceed the limit of {limit}"
                )
            if spec is not None and spec.draft:
                _draft(image, spec)
            image.load()
            turned = image if spec is not None and not spec.upright else _upright(image)
            result = to_rgb(turned, image.format)
            return result.copy() if result is image else result  # outlives the open file
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image in a format that Pillow reads") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = told.splitlines()[0]
        raise DataError(f"{path}: cannot decode this image: {reason}") from error


def _draft(image: ImageFile, spec: ImageSpec) -> None:
    sideways = (
        spec.upright and image.format in ("JPEG", "MPO") and _orientation(image) in (5, 6, 7, 8)
    )
    width, height = image.size[::-1] if sideways else image.size
    wanted_height, wanted_width = spec.resized(height, width)
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
