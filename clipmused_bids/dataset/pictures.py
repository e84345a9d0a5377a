"""Stimulus images as pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.dataset.banks import MOST_PIXELS, read_row, row_hashes
from clipmused_bids.dataset.contents import content_hash, require_content
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_BACKGROUND = (128, 128, 128)


def open_picture(picture: Picture) -> Image:
    """Read the picture of a stimulus as RGB, 8 bits; errors as for `open_image` and `read_row`."""
    if picture.dataset is not None and picture.row is not None:
        from PIL import Image as PillowImage

        return PillowImage.fromarray(read_row(picture.path, picture.dataset, picture.row))
    return open_image(picture.path)


def content_keys(pictures: Sequence[Picture | None]) -> tuple[str | ClipMusedError, ...]:
    """Key of each picture's content, the same for the same content wherever it lies.

    Parameters
    ----------
    pictures : sequence of (Picture or None)

    Returns
    -------
    tuple of (str or ClipMusedError)
        SHA-256 of the bytes of a file, or of the pixels of a row of a bank; "" where there is no picture; the error
        where the content cannot be read.
    """
    rows = _keys_of_rows([picture for picture in pictures if picture is not None])
    return tuple(
        "" if picture is None else rows.get(picture) or _key_of_file(picture) for picture in pictures
    )


def _key_of_file(picture: Picture) -> str | ClipMusedError:
    try:
        return content_hash(picture.path)
    except ClipMusedError as error:
        return error


def _keys_of_rows(pictures: Sequence[Picture]) -> dict[Picture, str | ClipMusedError]:
    """Keys of the pictures that are rows of banks; each bank is opened once."""
    banks: dict[tuple[Path, str], dict[int, Picture]] = {}
    for picture in pictures:
        if picture.dataset is not None and picture.row is not None:
            banks.setdefault((picture.path, picture.dataset), {})[picture.row] = picture
    found: dict[Picture, str | ClipMusedError] = {}
    for (path, dataset), rows in banks.items():
        hashes = row_hashes(path, dataset, list(rows))
        found |= {rows[row]: key for row, key in hashes.items()}
    return found


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
