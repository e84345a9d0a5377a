"""Stimuli as pixels: images, and frames of movies."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.movies.frames import read_frames
from clipmused_bids.dataset.stimuli.banks import MOST_PIXELS, read_row, read_rows
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_BACKGROUND = (128, 128, 128)
Prepared = TypeVar("Prepared")


def open_picture(picture: Picture) -> Image:
    """Read the picture of a stimulus as RGB, 8 bits; errors as for `open_image`, `read_row` and `read_frames`."""
    if picture.seconds is not None:
        return next(read_frames(picture.path, [picture.seconds], most_pixels=MOST_PIXELS))
    if picture.dataset is not None and picture.row is not None:
        from PIL import Image as PillowImage

        return PillowImage.fromarray(read_row(picture.path, picture.dataset, picture.row))
    return open_image(picture.path)


def open_pictures(pictures: Mapping[str, Picture]) -> Iterator[tuple[str, Image | ClipMusedError]]:
    """Read many pictures one by one; the frames of one movie are read in one pass.

    Parameters
    ----------
    pictures : mapping of str to Picture
        By any key.

    Yields
    ------
    key : str
        Each once; still pictures in their order, then movies, each in the order of time.
    picture : PIL image or ClipMusedError
        RGB, 8 bits; or why there is none. What ends a movie is the answer for all of its frames that follow.
    """
    for job in picture_jobs(pictures, prepare=lambda image: image):
        yield job()


def picture_jobs(
    pictures: Mapping[str, Picture], *, prepare: Callable[[Image], Prepared]
) -> Iterator[Callable[[], tuple[str, Prepared | ClipMusedError]]]:
    """Divide the reading of many pictures into jobs, one for each, that may run in any threads.

    A file of its own is opened by its job. Banks and movies are opened once each, and read by the thread that iterates;
    jobs prepare what was read.

    Parameters
    ----------
    pictures : mapping of str to Picture
        By any key.
    prepare : callable
        What becomes of an image: a callable for several threads at once.

    Yields
    ------
    callable
        In the order of `open_pictures`; returns the key, and what was prepared or why there is no picture.
    """
    frames: dict[Path, list[tuple[float, str]]] = defaultdict(list)
    banks = _banks_of(pictures.values())
    for key, picture in pictures.items():
        if picture.seconds is not None:
            frames[picture.path].append((picture.seconds, key))
        elif picture.dataset is not None and picture.row is not None:
            row = next(banks[picture.path, picture.dataset])
            yield partial(_prepared, key, partial(_itself, row), prepare)
        else:
            yield partial(_prepared, key, partial(_opened, picture), prepare)
    for path, wanted in frames.items():
        for key, frame in _frames_of(path, sorted(wanted)):
            yield partial(_prepared, key, partial(_itself, frame), prepare)


def _prepared(
    key: str, found: Callable[[], Image | ClipMusedError], prepare: Callable[[Image], Prepared]
) -> tuple[str, Prepared | ClipMusedError]:
    image = found()
    return key, image if isinstance(image, ClipMusedError) else prepare(image)


def _itself(found: Image | ClipMusedError) -> Image | ClipMusedError:
    return found


def _opened(picture: Picture) -> Image | ClipMusedError:
    try:
        return open_picture(picture)
    except ClipMusedError as error:
        return error


def _banks_of(
    pictures: Iterable[Picture],
) -> dict[tuple[Path, str], Iterator[Image | ClipMusedError]]:
    """For each bank its pictures, in the order in which they are asked for."""
    rows: dict[tuple[Path, str], list[int]] = defaultdict(list)
    for picture in pictures:
        if picture.dataset is not None and picture.row is not None:
            rows[picture.path, picture.dataset].append(picture.row)
    return {bank: _rows_of(*bank, wanted) for bank, wanted in rows.items()}


def _rows_of(path: Path, dataset: str, wanted: Sequence[int]) -> Iterator[Image | ClipMusedError]:
    from PIL import Image as PillowImage

    wrong: ClipMusedError | None = None
    try:
        for pixels in read_rows(path, dataset, wanted):
            yield pixels if isinstance(pixels, DataError) else PillowImage.fromarray(pixels)
    except ClipMusedError as error:
        wrong = error
    if wrong is not None:
        yield from repeat(wrong)


def _frames_of(path: Path, wanted: list[tuple[float, str]]) -> Iterator[tuple[str, Image | ClipMusedError]]:
    keys = deque(key for _, key in wanted)
    wrong: ClipMusedError | None = None
    try:
        for image in read_frames(path, [seconds for seconds, _ in wanted], most_pixels=MOST_PIXELS):
            yield keys.popleft(), image
    except ClipMusedError as error:
        wrong = error
    if wrong is not None:
        yield from ((key, wrong) for key in keys)


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
        # Pillow's warning of a large image is not silenced: warnings are the process's, and this runs in threads.
        with Image.open(path, formats=_FORMATS) as image:
            n_pixels = image.width * image.height
            if n_pixels > most_pixels:
                raise _too_large(path, f"{image.width} x {image.height}", most_pixels)
            image.load()
            return _as_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
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
