"""Stimulus images as pixels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.dataset.contents import require_content
from clipmused_bids.errors import DataError
from clipmused_bids.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 50_000_000
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_BACKGROUND = (128, 128, 128)


def open_picture(picture: Picture) -> Image:
    """Read the picture of a stimulus as RGB, 8 bits; errors as for `open_image`."""
    return open_image(picture.path)


def open_image(path: Path, *, most_pixels: int = MOST_PIXELS) -> Image:
    """Read an image as RGB, 8 bits; transparent pixels show mid-grey, the usual background in a scanner.

    Parameters
    ----------
    path : Path
    most_pixels : int
        Larger images are refused before they are unpacked.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no image, is truncated, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    require_content(path)
    try:
        with warnings.catch_warnings():
            # Our own limit is checked below, before anything is unpacked.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                n_pixels = image.width * image.height
                if n_pixels > most_pixels:
                    raise _too_large(path, f"{image.width} x {image.height}", most_pixels)
                image.load()
                return _as_rgb(image)
    except Image.DecompressionBombError as error:
        raise _too_large(path, "too many", most_pixels) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable image ({error}).", hint="replace the file or leave its trials out"
        ) from error


def _as_rgb(image: Image) -> Image:
    from PIL import Image as PillowImage

    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        opaque = PillowImage.new("RGBA", image.size, (*_BACKGROUND, 255))
        return PillowImage.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image) -> Image:
    from PIL import Image as PillowImage

    values = np.asarray(image, dtype=float)
    # Sixteen bits hold 0 to 65535; conversion by Pillow would cut everything above 255.
    top = 65535.0 if values.max() > 255 else 255.0
    return PillowImage.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8)).convert("RGB")


def _too_large(path: Path, size: str, most_pixels: int) -> DataError:
    return DataError(f"{path}: {size} pixels; at most {most_pixels} are opened.", hint="store a smaller copy")
