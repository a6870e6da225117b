"""Images, in files or streams -> upright RGB pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from py_runner.data.image import ImageSpec
from py_runner.data.rgb import to_rgb
from py_runner.errors import DataError
from py_runner.files.regular import open_regular

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = ["open_image"]


def open_image(
    source: str | os.PathLike[str] | BinaryIO,
    spec: ImageSpec | None = None,
    *,
    name: str = "",
    formats: Sequence[str] | None = None,
    most: int | None = None,
) -> Image.Image:
    """Decode an image, a file or a stream, to a PIL image of mode RGB, turned upright as EXIF says.

    spec: where its `draft` is on, a JPEG is shrunk while it is decoded; where its `upright` is off,
    nothing is turned.
    name: what errors call it, the file's own name by default.
    formats: what it may be, by Pillow's names; by default anything that Pillow reads.
    most: the number of pixels that is too large, by default what Pillow finds so
    (`PIL.Image.MAX_IMAGE_PIXELS`).

    As `cv2.imread` does: transparency is dropped, grey and palette images become RGB, and 16-bit
    samples keep their high byte. Of several frames the first is taken.

    Raises DataError, naming it, where it is missing, damaged, cut short, no image, too large, or
    has floating-point samples.
    """
    from PIL import UnidentifiedImageError

    name = name or str(source)
    try:
        if isinstance(source, (str, os.PathLike)):
            with open_regular(source) as file:
                return _decoded(file, spec, formats, most)
        return _decoded(source, spec, formats, most)
    except FileNotFoundError:
        raise DataError(f"{name}: no such image file") from None
    except UnidentifiedImageError:
        of = "a format that Pillow reads" if formats is None else f"any of {', '.join(formats)}"
        raise DataError(f"{name}: not an image in {of}") from None
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = told.splitlines()[0]
        raise DataError(f"{name}: cannot decode this image: {reason}") from error


def _decoded(
    file: BinaryIO, spec: ImageSpec | None, formats: Sequence[str] | None, most: int | None
) -> Image.Image:
    from PIL import Image

    with Image.open(file, formats=None if formats is None else list(formats)) as image:
        limit = Image.MAX_IMAGE_PIXELS if most is None else most
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
