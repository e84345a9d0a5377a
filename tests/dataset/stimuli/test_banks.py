from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.config import hdf5_place
from clipmused_bids.dataset.stimuli import picture_contents
from clipmused_bids.dataset.stimuli.banks import ImageBank, open_bank, read_row, row_hashes
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable
from clipmused_bids.dataset.stimuli.finding import resolve_stimuli
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.dataset.stimuli.pictures import open_picture, open_pictures
from clipmused_bids.errors import ClipMusedError, DataError, MissingInputError, UsageError
from clipmused_bids.records import Picture

PIXELS = np.random.default_rng(3).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
PIXELS[3] = PIXELS[1]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank.hdf5"
    with h5py.File(path, "w") as file:
        file["rgb"] = PIXELS
        file["deep/first"] = np.moveaxis(PIXELS, -1, 1)
        file["grey"] = PIXELS[..., 0]
        file["betas"] = np.zeros((5, 4, 6, 3), dtype=np.float32)
        file["flat"] = np.zeros((5, 4), dtype=np.uint8)
    return path


def test_rows_are_pictures_however_they_are_laid_out(bank):
    for k in range(5):
        np.testing.assert_array_equal(read_row(bank, "/rgb", k), PIXELS[k])
        np.testing.assert_array_equal(read_row(bank, "deep/first", k), PIXELS[k])
        np.testing.assert_array_equal(read_row(bank, "/grey", k), np.repeat(PIXELS[k, ..., :1], 3, axis=-1))
    image = open_picture(Picture(bank, "/rgb", 2))
    assert (image.mode, image.size, image.getpixel((5, 1))) == ("RGB", (6, 4), tuple(PIXELS[2, 1, 5]))


def test_only_named_rows_are_read_and_each_once(bank, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda self, row: (read.append(row), original(self, row))[1]
    )
    hashes = row_hashes(bank, "/rgb", [4, 1, 4])
    assert read == [1, 4]
    assert hashes[1] == hashlib.sha256(b"(4, 6, 3)" + PIXELS[1].tobytes()).hexdigest()
    assert hashes[1] != hashes[4]


def test_equal_rows_are_one_content_wherever_they_lie(bank, tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    pictures = [Picture(bank, "/rgb", 1), None, Picture(bank, "deep/first", 3), Picture(bank, "/rgb", 0),
                Picture(tmp_path / "a.png"), Picture(tmp_path / "gone.png")]  # fmt: skip
    keys = content_keys(pictures)
    assert keys[0] == keys[2] != keys[3]
    assert keys[1] == ""
    assert keys[4] == hashlib.sha256(b"abc").hexdigest()
    assert isinstance(keys[5], MissingInputError)


def test_every_file_is_hashed_once_and_answers_stay_with_their_files(tmp_path, monkeypatch):
    files = [tmp_path / f"{k}.png" for k in range(150)]
    for k, path in enumerate(files):
        path.write_bytes(bytes([k]) * (1 + 7919 * k % 5000))
    files[70].unlink()
    hashed = []
    original = picture_contents.content_hash
    monkeypatch.setattr(
        picture_contents, "content_hash", lambda path: (hashed.append(path), original(path))[1]
    )
    keys = content_keys([*(Picture(path) for path in files), None, Picture(files[3]), Picture(files[70])])
    assert sorted(hashed) == sorted(files)
    assert isinstance(keys[70], MissingInputError)
    assert keys[-1] is keys[70]
    assert (keys[-3], keys[-2]) == ("", keys[3])
    for k, path in enumerate(files):
        assert k == 70 or keys[k] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_row_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    path = tmp_path / "cut.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("rgb", data=PIXELS, chunks=(1, 4, 6, 3), compression="gzip")
        start = file["rgb"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[start : start + 20] = b"\x00" * 20
    path.write_bytes(content)
    keys = content_keys([Picture(path, "/rgb", row) for row in range(5)])
    assert [isinstance(key, DataError) for key in keys] == [False, False, True, False, False]
    with pytest.raises(DataError, match=r"cut\.hdf5: row 2 of /rgb cannot be read"):
        open_picture(Picture(path, "/rgb", 2))


def test_many_rows_are_read_in_the_order_asked_for_and_each_bank_is_opened_once(bank, tmp_path, monkeypatch):
    other = tmp_path / "other.hdf5"
    with h5py.File(other, "w") as file:
        file["rgb"] = PIXELS[::-1]
    (tmp_path / "broken.hdf5").write_bytes(b"no bank")
    pictures = {
        "a": Picture(bank, "/rgb", 4), "b": Picture(other, "rgb", 0), "c": Picture(bank, "/rgb", 0),
        "x": Picture(tmp_path / "broken.hdf5", "rgb", 1), "d": Picture(bank, "/rgb", 9),
        "e": Picture(bank, "/grey", 2), "f": Picture(bank, "/rgb", 2), "y": Picture(tmp_path / "broken.hdf5", "rgb", 2),
    }  # fmt: skip
    opened = []
    original = h5py.File.__init__
    monkeypatch.setattr(
        h5py.File,
        "__init__",
        lambda self, path, *a, **k: (opened.append(path), original(self, path, *a, **k))[1],
    )
    found = dict(open_pictures(pictures))
    assert list(found) == list(pictures)
    # What h5py makes of files that are open is not counted; /grey beside /rgb is a bank of its own.
    assert sum(isinstance(path, Path) for path in opened) == 4
    grey = np.repeat(PIXELS[2, ..., :1], 3, axis=-1)
    for key, pixels in {"a": PIXELS[4], "b": PIXELS[4], "c": PIXELS[0], "e": grey, "f": PIXELS[2]}.items():
        np.testing.assert_array_equal(np.asarray(found[key]), pixels)
    assert "row 9 of /rgb cannot be read" in str(found["d"])
    assert all("broken.hdf5: not a readable HDF5 file" in str(found[key]) for key in "xy")


@pytest.mark.parametrize(
    ("name", "first", "row", "why"),
    [
        ("1", 1, 0, "row of bank.hdf5:/rgb"),
        ("5.0", 1, 4, "row of"),
        ("0", 0, 0, "row of"),
        ("4.6003e+04", 0, 46003, "row of"),
        ("0", 1, None, "beyond bank.hdf5:/rgb, whose rows are 1 to 73000"),
        ("73000", 0, None, "beyond"),
        ("1e400", 0, None, "not the number"),
        ("12.5", 0, None, "not the number of a row of bank.hdf5:/rgb"),
        ("-1", 0, None, "not the number"),
        ("1_0", 0, None, "not the number"),
        ("nan", 0, None, "not the number"),
        ("face", 0, None, "not the number"),
    ],
)
def test_names_that_are_numbers_of_rows(name, first, row, why):
    found, reason = ImageBank(Path("x/bank.hdf5"), "/rgb", 73_000, first).row_of(name)
    assert found == row
    assert reason.startswith(why)


@given(st.text(max_size=12), st.sampled_from([0, 1]))
@settings(deadline=None)
def test_any_name_is_a_row_or_not(name, first):
    row, _ = ImageBank(Path("b.h5"), "/x", 10, first).row_of(name)
    assert row is None or (0 <= row < 10 and float(name) == row + first)


def test_stimuli_are_rows_from_zero_or_one(bank, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "4.png").write_bytes(b"x")
    dirs = (f"{bank}:/rgb", str(tmp_path / "more"))
    found = resolve_stimuli(["5", "0", "4", "2.5", "x"], bids_dir=tmp_path, stimuli_dirs=dirs, index_base=1)
    assert found.picture == (Picture(bank, "/rgb", 4), None, Picture(tmp_path / "more/4.png"), None, None)
    assert found.missing["0"].startswith("beyond bank.hdf5:/rgb, whose rows are 1 to 5")
    assert found.places == (str(tmp_path / "more"), f"{bank}:/rgb")
    listed = StimulusTable("map.tsv", ("x", "y"), {"filename": ("2", "9")})
    found = resolve_stimuli(["x", "y"], bids_dir=tmp_path, stimuli_dirs=dirs[:1], index_base=0, table=listed)
    assert found.picture == (Picture(bank, "/rgb", 2), None)


def test_a_bank_of_enormous_pictures_is_not_opened(tmp_path):
    with h5py.File(tmp_path / "big.hdf5", "w") as file:
        file.create_dataset("x", (2, 10_000, 5_001, 3), np.uint8, chunks=(1, 100, 100, 3))
        file.create_dataset("thin", (2, 3, 0, 5), np.uint8)
    with pytest.raises(DataError, match=r"big\.hdf5: 5001 x 10000 pixels; at most 50000000"):
        open_bank(tmp_path / "big.hdf5", "/x", first=0)
    with pytest.raises(DataError, match=r"/thin has the shape \(2, 3, 0, 5\)"):
        open_bank(tmp_path / "big.hdf5", "/thin", first=0)


def test_banks_that_are_refused(bank, tmp_path):
    with pytest.raises(UsageError, match=r"nothing says what its first row is called") as error:
        open_bank(bank, "/rgb", first=None)
    assert "--stimulus-index-base 1" in str(error.value)
    with pytest.raises(UsageError, match=r"not named\.\nhint: --stimuli-dir .*bank\.hdf5:/betas"):
        open_bank(bank, "", first=0)
    with pytest.raises(
        DataError, match="no dataset /images; datasets in it: /betas, /deep/first, /flat, /grey, /rgb"
    ):
        open_bank(bank, "/images", first=0)
    with pytest.raises(DataError, match="no dataset /deep"):
        open_bank(bank, "/deep", first=0)
    with pytest.raises(DataError, match=r"/betas has the shape \(5, 4, 6, 3\) and the type float32"):
        open_bank(bank, "/betas", first=0)
    with pytest.raises(DataError, match=r"/flat has the shape"):
        open_bank(bank, "/flat", first=0)
    with pytest.raises(MissingInputError, match="none"):
        open_bank(tmp_path / "none.h5", "/rgb", first=0)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=50)
def test_a_bank_of_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bank") / "any.h5"
    path.write_bytes(content)
    with pytest.raises(ClipMusedError, match=r"any\.h5"):
        open_bank(path, "/x", first=0)


def test_pixels_in_other_files_are_not_read(bank, tmp_path):
    with h5py.File(tmp_path / "away.hdf5", "w") as file:
        file["linked"] = h5py.ExternalLink(str(bank), "/rgb")
        layout = h5py.VirtualLayout(shape=PIXELS.shape, dtype=np.uint8)
        layout[:] = h5py.VirtualSource(str(bank), "rgb", shape=PIXELS.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "raw", (1, 2, 2, 3), np.uint8, external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        )
    for name in ("linked", "virtual", "raw"):
        with pytest.raises(DataError, match="lie in other files"):
            open_bank(tmp_path / "away.hdf5", name, first=0)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/data/nsd_stimuli.hdf5:/imgBrick", ("/data/nsd_stimuli.hdf5", "/imgBrick")),
        ("x.H5:images", ("x.H5", "images")),
        ("x.h5", ("x.h5", "")),
        ("folder", None),
        ("x.hdf5/", None),
    ],
)
def test_how_a_bank_is_named(place, expected):
    assert hdf5_place(place) == expected
