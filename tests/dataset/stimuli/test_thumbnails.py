"""Small copies of pictures: files, banks, movie frames; turned pictures and broken ones."""

import io

import h5py
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.dataset.stimuli.thumbnails import thumbnail, thumbnails
from clipmused_bids.records import Picture

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_coloured(width, height):
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def opened(data):
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image.convert("RGB")


def near(pixel, colour):
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 60


def test_a_large_picture_keeps_its_shape(tmp_path):
    two_coloured(800, 400).save(tmp_path / "a.png")

    image = opened(thumbnail(Picture(tmp_path / "a.png")))

    assert image.size == (160, 80)
    assert near(image.getpixel((20, 40)), RED)
    assert near(image.getpixel((140, 40)), BLUE)


def test_a_small_picture_is_not_blown_up(tmp_path):
    two_coloured(40, 30).save(tmp_path / "a.png")

    assert opened(thumbnail(Picture(tmp_path / "a.png"))).size == (40, 30)


# By the EXIF standard row 0 and column 0 of what is stored are, of the upright picture: 3 bottom and right, 6 right and
# top, 8 left and bottom. Left of what is stored (red) is thus right, top, bottom.
@pytest.mark.parametrize(
    ("orientation", "size", "red_at", "blue_at"),
    [
        (1, (160, 80), (20, 40), (140, 40)),
        (3, (160, 80), (140, 40), (20, 40)),
        (6, (80, 160), (40, 20), (40, 140)),
        (8, (80, 160), (40, 140), (40, 20)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_camera_was_turned(tmp_path, orientation, size, red_at, blue_at, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker of cameras"
    stored = two_coloured(800, 400).convert(mode)
    stored.save(tmp_path / "a.jpg", exif=exif)
    ends = stored.getpixel((0, 0)), stored.getpixel((799, 0))
    red, blue = (end if mode == "RGB" else (end,) * 3 for end in ends)

    data = thumbnail(Picture(tmp_path / "a.jpg"))

    image = opened(data)
    assert image.size == size
    assert near(image.getpixel(red_at), red)
    assert near(image.getpixel(blue_at), blue)
    assert b"a maker of cameras" not in data


def test_broken_and_missing_pictures_are_none(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    two_coloured(400, 400).save(tmp_path / "whole.jpg")
    half = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(half[: len(half) // 2])

    assert thumbnail(Picture(tmp_path / "broken.jpg")) is None
    assert thumbnail(Picture(tmp_path / "cut.jpg")) is None
    assert thumbnail(Picture(tmp_path / "none.jpg")) is None


def test_many_at_once_are_those_of_one_by_one(tmp_path):
    pixels = np.stack([np.full((20, 30, 3), level, np.uint8) for level in (10, 120, 240)])
    with h5py.File(tmp_path / "bank.hdf5", "w") as file:
        file["imgBrick"] = pixels
    two_coloured(300, 300).save(tmp_path / "a.png")
    pictures = {
        "third": Picture(tmp_path / "bank.hdf5", dataset="imgBrick", row=2),
        "file": Picture(tmp_path / "a.png"),
        "broken": Picture(tmp_path / "none.png"),
        "first": Picture(tmp_path / "bank.hdf5", dataset="imgBrick", row=0),
    }

    found = thumbnails(pictures)

    assert list(found) == list(pictures)
    assert found == {key: thumbnail(picture) for key, picture in pictures.items()}
    assert found["broken"] is None
    assert near(opened(found["third"]).getpixel((3, 3)), (240,) * 3)
    assert near(opened(found["first"]).getpixel((3, 3)), (10,) * 3)
