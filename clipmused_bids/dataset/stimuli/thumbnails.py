"""Small copies of pictures, for pages."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipmused_bids.dataset.stimuli.pictures import open_picture, open_pictures
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_EDGE = 160
_QUALITY = 75
_ORIENTATION = 0x0112


def thumbnail(picture: Picture, *, edge: int = THUMBNAIL_EDGE) -> bytes | None:
    """Copy a picture small.

    Parameters
    ----------
    picture : Picture
    edge : int
        Longest side in pixels; smaller pictures keep their size.

    Returns
    -------
    bytes or None
        JPEG, turned upright as its EXIF entry says; None where the picture cannot be read.
    """
    try:
        return _small(open_picture(picture), picture, edge=edge)
    except ClipMusedError:
        return None


def thumbnails(pictures: Mapping[str, Picture], *, edge: int = THUMBNAIL_EDGE) -> dict[str, bytes | None]:
    """Copy pictures small, as `thumbnail` does; banks are opened once, and movies are read in one pass.

    Parameters
    ----------
    pictures : mapping of str to Picture
        By any key.
    edge : int

    Returns
    -------
    dict of str to bytes or None
    """
    found = {
        key: None if isinstance(image, ClipMusedError) else _small(image, pictures[key], edge=edge)
        for key, image in open_pictures(pictures)
    }
    return {key: found[key] for key in pictures}


def _small(image: Image, picture: Picture, *, edge: int) -> bytes:
    image.thumbnail((edge, edge))
    buffer = io.BytesIO()
    # Nothing of the file but its pixels: EXIF entries may tell where a picture was taken.
    _upright(image, picture).save(buffer, format="JPEG", quality=_QUALITY, optimize=True, exif=b"")
    return buffer.getvalue()


def _upright(image: Image, picture: Picture) -> Image:
    """Turn as the camera said; a picture that was converted may have lost the entry, so the file is asked."""
    if picture.seconds is not None or picture.dataset is not None:
        return image
    from PIL import Image as PillowImage
    from PIL import ImageOps

    try:
        with PillowImage.open(picture.path) as file:
            orientation = file.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError):
        return image
    image.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(image)
