"""Pictures of any mode -> RGB, 8 bits a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py_runner.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["to_rgb"]


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
