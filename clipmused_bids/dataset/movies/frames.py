"""Movie files: their length, and the frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# s; nearer frames are reached sooner by decoding what lies between than by going to a key frame.
_SEEK_FROM = 10.0
# s; how long the last frame may stand beyond its own duration (titles, rounding of the header).
_LAST_FRAME = 0.5
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Shown:
    """A decoded frame, when it appears and how long it says it stays, in s from the start of the movie."""

    time: float
    duration: float
    frame: Any


def movie_length(path: Path) -> float:
    """Length of a movie in s by its header; no frame is decoded.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no movie, or its header does not say how long it is.
    """
    with _opened(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None:
            return float(container.duration / 1e6)
    raise DataError(
        f"{path}: the header does not say how long the movie is.",
        hint="give its events a duration, or write the file anew (ffmpeg -i IN -c copy OUT.mkv)",
    )


def read_frames(path: Path, seconds: Sequence[float], *, most_pixels: int) -> Iterator[Image]:
    """Read the frames that are on screen at given times, in one pass over the movie.

    A frame is on screen from its own time until that of the next one, whatever the frame rate does. What lies far
    ahead is reached through a key frame.

    Parameters
    ----------
    path : Path
    seconds : sequence of float
        Times from the start of the movie, in s, ascending.
    most_pixels : int
        Movies with larger frames are refused before any is decoded.

    Yields
    ------
    PIL image
        RGB, one for each time.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no movie, is broken, has too many pixels, or ends before the time that is asked for.
    """
    with _opened(path) as (container, stream):
        if stream.width * stream.height > most_pixels:
            raise DataError(
                f"{path}: {stream.width} x {stream.height} pixels; at most {most_pixels} are opened.",
                hint="store a smaller copy",
            )
        reel = _Reel(container, stream, path)
        for time in seconds:
            yield reel.frame_at(time).to_image()


class _Reel:
    """A movie that is wound forward."""

    def __init__(self, container: Any, stream: Any, path: Path) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._start = (container.start_time or 0) / 1e6
        self._frames = self._decoded()
        self._current: _Shown = self._first()
        self._next: _Shown | None = next(self._frames, None)

    def frame_at(self, time: float) -> Any:
        """Return the frame whose time on screen holds ``time``."""
        if time - self._current.time > _SEEK_FROM:
            self._go_to_key_frame(time)
        while self._next is not None and self._next.time <= time + _ROUNDING:
            self._current, self._next = self._next, next(self._frames, None)
        end = self._current.time + self._current.duration + _LAST_FRAME
        if self._next is None and time >= end:
            raise DataError(
                f"{self._path}: the last frame that can be read is at {self._current.time:.3f} s; none at {time:g} s.",
                hint="the file is truncated, or the events show more than it holds",
            )
        return self._current.frame

    def _go_to_key_frame(self, time: float) -> None:
        before = self._current
        target = int((time + self._start) / float(self._stream.time_base))
        self._container.seek(target, stream=self._stream, backward=True)
        self._wind()
        if self._current.time > time or self._current.time < before.time:
            # The index of the file does not say where frames are; what lies between is decoded after all.
            self._container.seek(0, backward=True, any_frame=False)
            self._wind()

    def _wind(self) -> None:
        self._frames = self._decoded()
        self._current = self._first()
        self._next = next(self._frames, None)

    def _first(self) -> _Shown:
        first = next(self._frames, None)
        if first is None:
            raise DataError(f"{self._path}: no frame of this movie can be read.", hint="fetch it again")
        return first

    def _decoded(self) -> Iterator[_Shown]:
        rate = self._stream.average_rate or self._stream.guessed_rate
        usual = 1 / float(rate) if rate else 0.0
        for frame in self._container.decode(self._stream):
            if frame.time is None:
                raise DataError(
                    f"{self._path}: its frames carry no times.",
                    hint="write it anew with times: ffmpeg -fflags +genpts -i IN OUT.mp4",
                )
            duration = float(frame.duration * frame.time_base) if frame.duration else usual
            yield _Shown(frame.time - self._start, duration, frame)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a movie and its first video stream; every failure inside names the file."""
    import av
    from av.error import FFmpegError

    require_content(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: this file holds no video.", hint="name the movie, not its sound")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except FFmpegError as error:
        raise DataError(
            f"{path}: not a readable movie ({error.strerror}).", hint="fetch or write the file again"
        ) from error
