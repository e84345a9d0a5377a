"""Frames and lengths of movies whose every frame is known by its colour."""

from __future__ import annotations

import hashlib

import av
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.dataset.movies.frames import movie_length, read_frames
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.dataset.stimuli.pictures import open_picture, open_pictures
from clipmused_bids.errors import ClipMusedError, DataError, MissingInputError
from clipmused_bids.records import Picture

LIMIT = 10_000


@pytest.fixture
def frames(number_of_frame):
    """Numbers of the frames at given times."""

    def read(path, seconds):
        return [number_of_frame(np.asarray(image)) for image in read_frames(path, seconds, most_pixels=LIMIT)]

    return read


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.webm", "libvpx"),
        ("a.mov", "libx264"),
    ],
)
def test_a_frame_is_on_screen_until_the_next_one(tmp_path, make_movie, frames, name, codec):
    path = make_movie(tmp_path / name, np.arange(100) / 25, codec=codec)
    assert movie_length(path) == pytest.approx(4.0, abs=0.05)
    assert frames(path, [0, 0.039, 0.04, 0.0799, 1, 1, 2.5, 3.96, 3.999]) == [0, 0, 1, 1, 25, 25, 62, 99, 99]


def test_variable_frame_rate_goes_by_the_times_of_the_frames(tmp_path, make_movie, frames):
    path = make_movie(tmp_path / "a.mp4", [0, 0.1, 2.0, 2.04, 5.0])
    assert frames(path, [0, 0.099, 0.1, 1.999, 2.0, 2.03, 2.04, 4.9, 5.0]) == [0, 0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("key_every", [5, 1000])
def test_far_frames_are_the_same_whether_reached_by_key_frames_or_not(
    tmp_path, make_movie, frames, key_every
):
    path = make_movie(tmp_path / "a.mp4", np.arange(400) / 10, key_every=key_every)
    assert frames(path, [0.5, 1.0, 25.05, 25.1, 39.9]) == [5, 10, 250, 251, 399]
    assert frames(path, [33.3]) == [333]


def test_times_count_from_the_start_of_the_movie(tmp_path, make_movie, frames):
    path = make_movie(tmp_path / "a.mkv", 7 + np.arange(50) / 25, codec="libx264")
    assert frames(path, [0, 1.0]) == [0, 25]


def test_one_pass_over_each_movie_whatever_the_order_of_the_keys(
    tmp_path, make_movie, number_of_frame, monkeypatch
):
    one = make_movie(tmp_path / "one.mp4", np.arange(50) / 25)
    two = make_movie(tmp_path / "two.mp4", np.arange(50) / 25, first=100)
    still = tmp_path / "still.png"
    Image.new("RGB", (4, 4), (32, 0, 0)).save(still)
    pictures = {
        "d": Picture(one, seconds=1.0), "x": Picture(two, seconds=0.2), "s": Picture(still),
        "a": Picture(one, seconds=0.4), "y": Picture(two, seconds=0.0),
    }  # fmt: skip
    opened = []
    original = av.open
    monkeypatch.setattr(av, "open", lambda name, *more: opened.append(name) or original(name, *more))
    found = {key: number_of_frame(np.asarray(image)) for key, image in open_pictures(pictures)}
    assert found == {"d": 25, "x": 105, "s": 1, "a": 10, "y": 100}
    assert sorted(opened) == sorted([str(one), str(two)])
    assert list(found) == ["s", "a", "d", "y", "x"]
    assert number_of_frame(np.asarray(open_picture(pictures["d"]))) == 25


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path, make_movie):
    good = make_movie(tmp_path / "good.mp4", np.arange(25) / 25)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no movie at all")
    pictures = {
        "b1": Picture(broken, seconds=0.0), "b2": Picture(broken, seconds=1.0), "late": Picture(good, seconds=9.0),
        "g": Picture(good, seconds=0.5), "gone": Picture(tmp_path / "gone.png"),
    }  # fmt: skip
    found = dict(open_pictures(pictures))
    assert {key: isinstance(answer, ClipMusedError) for key, answer in found.items()} == {
        "gone": True, "b1": True, "b2": True, "g": False, "late": True,
    }  # fmt: skip
    assert "broken.mp4: not a readable movie" in str(found["b1"])
    assert found["b1"] is found["b2"]
    assert "good.mp4: the last frame that can be read is at 0.960 s; none at 9 s" in str(found["late"])


def test_a_truncated_movie_ends_by_name_after_what_it_holds(tmp_path, make_movie, number_of_frame):
    whole = make_movie(tmp_path / "whole.mkv", np.arange(500) / 25, codec="libx264")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    images = read_frames(cut, [0.0, 2.0, 19.0], most_pixels=LIMIT)
    assert [number_of_frame(np.asarray(next(images))) for _ in range(2)] == [0, 50]
    with pytest.raises(DataError, match=r"cut\.mkv"):
        next(images)


def test_refusals(tmp_path, make_movie):
    path = make_movie(tmp_path / "a.mp4", np.arange(5) / 25)
    with pytest.raises(DataError, match=r"a\.mp4: 32 x 32 pixels; at most 1000 are opened"):
        next(read_frames(path, [0.0], most_pixels=1000))
    with pytest.raises(MissingInputError, match="gone"):
        movie_length(tmp_path / "gone.mp4")
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"sound\.mkv: this file holds no video"):
        movie_length(sound)


def test_keys_tell_contents_not_names(tmp_path, make_movie):
    one = make_movie(tmp_path / "one.mp4", np.arange(25) / 25)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(one.read_bytes())
    other = make_movie(tmp_path / "other.mp4", np.arange(25) / 25, first=3)
    still = tmp_path / "still.png"
    still.write_bytes(b"abc")
    times = [Picture(one, seconds=s) for s in (0.5, 0.25, 12.0)]
    keys = content_keys(
        [*times, Picture(copy, seconds=0.5), Picture(other, seconds=0.5), None, Picture(still)]
    )
    assert keys[0] == keys[3] != keys[4]
    assert sorted(keys[:3]) == [keys[1], keys[0], keys[2]], "sorted keys are frames in the order of time"
    assert len({key[:16] for key in keys[:3]}) == 1
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys if key)
    assert keys[5] == ""
    assert keys[6] == hashlib.sha256(b"abc").hexdigest()


def test_a_movie_is_hashed_once(tmp_path, make_movie, monkeypatch):
    path = make_movie(tmp_path / "one.mp4", np.arange(25) / 25)
    opened = []
    original = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda *words: opened.append(words[0].name) or original(*words)
    )
    content_keys([Picture(path, seconds=k / 10) for k in range(10)])
    assert len(opened) == 1
