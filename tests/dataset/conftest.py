from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MakeMovie = Callable[..., Path]


def colour_of(frame: int) -> tuple[int, int, int]:
    """Colour of a frame, far enough from that of every other to be told after compression."""
    return (frame % 8) * 32, (frame // 8 % 8) * 32, (frame // 64) * 32


def frame_of(pixels: np.ndarray) -> int:
    """Number of the frame that a picture of one colour is."""
    red, green, blue = np.rint(pixels.reshape(-1, 3).mean(axis=0) / 32).astype(int)
    return int(red + 8 * green + 64 * blue)


def write_movie(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "mpeg4",
    size: int = 32,
    key_every: int = 12,
    first: int = 0,
) -> Path:
    """A movie whose frame k has colour k and appears at ``times[k]`` s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.gop_size = key_every
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, time in enumerate(times, start=first):
            pixels = np.full((size, size, 3), colour_of(k), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def make_movie() -> MakeMovie:
    return write_movie


@pytest.fixture
def number_of_frame() -> Callable[[np.ndarray], int]:
    return frame_of
