"""Simulated movies: procedural scenes cut every few seconds, and brains that answer with a planted delay."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import UsageError
from clipmused_bids.simulation.anatomy import common_anatomy
from clipmused_bids.simulation.brains import SceneBank, draw_amplitudes, make_bank, make_brain
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import draw_scenes, render
from clipmused_bids.simulation.schedule import RunSchedule
from clipmused_bids.simulation.series import confounds_table, draw_nuisance, draw_series, frame_times
from clipmused_bids.simulation.study import SimulatedParticipant, SimulatedRun, Truth

# Seconds of a run before its movie, and after it.
LEAD_IN, LEAD_OUT = 8.0, 16.0
# Lengths of a shot in s, drawn evenly; cuts fall anywhere between whole seconds, so that samples lie in the middle of
# their shots on average and the planted lag is the best one.
_SHORTEST, _LONGEST = 3.0, 6.0
_BIT_RATE = 2_000_000


@dataclass(frozen=True)
class MovieParameters:
    """One simulated movie study: everyone sees the same movies, one a run; the seed fixes every byte of it.

    Parameters
    ----------
    n_participants, n_movies : int
    n_shots, n_repeated_shots : int
        Shots of each movie; the last ones, of one clip that closes every movie.
    lag, blur : float
        A voxel follows a shot ``lag`` s later, smoothed by a Gaussian whose standard deviation is ``blur`` s; so the
        volume ``lag`` s after a frame says most about it.
    snr, variability, topographic_difference, clip_alignment : float
        As in ``SimulationParameters``, with shots for trials.
    repetition_time : float
        In s.
    frame_rate : int
        Frames a second.
    """

    n_participants: int = 2
    n_movies: int = 4
    n_shots: int = 24
    n_repeated_shots: int = 3
    lag: float = 4.0
    blur: float = 1.0
    snr: float = 1.5
    variability: float = 0.5
    topographic_difference: float = 0.3
    clip_alignment: float = 0.8
    repetition_time: float = 1.0
    frame_rate: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.n_repeated_shots < self.n_shots:
            raise UsageError("simulation: n_repeated_shots must lie in 0 to n_shots - 1.")
        if self.blur <= 0 or self.lag < 0 or self.frame_rate < 1:
            raise UsageError("simulation: blur and frame_rate must be positive, lag not negative.")

    @property
    def scanner(self) -> SimulationParameters:
        """The same study as the makers of brains and noise read it; every shot a stimulus that all see."""
        n_shots = self.n_movies * self.n_shots
        return SimulationParameters(
            n_participants=self.n_participants,
            n_trials=n_shots,
            n_runs=self.n_movies,
            n_shared=n_shots,
            n_repeats=1,
            n_repeated_own=0,
            n_bank=n_shots,
            topographic_difference=self.topographic_difference,
            clip_alignment=self.clip_alignment,
            snr=self.snr,
            variability=self.variability,
            repetition_time=self.repetition_time,
            start_time=0.0,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Movie:
    """A movie: ``scene`` of the bank in each shot, and when it begins and ends in s, each (n_shots,)."""

    scene: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Seconds."""
        return float(self.end[-1])


@dataclass(frozen=True)
class MovieStudy:
    """Scenes and movies of a study; participants are made when asked for."""

    parameters: MovieParameters
    bank: SceneBank
    movies: tuple[Movie, ...]


def make_movie_study(parameters: MovieParameters) -> MovieStudy:
    """Draw and render the scenes, and cut the movies."""
    scanner = parameters.scanner
    scenes = draw_scenes(scanner.n_bank, seed=parameters.seed)
    bank = make_bank(scenes, np.stack([render(scene) for scene in scenes]), seed=parameters.seed)
    rng = np.random.default_rng([parameters.seed, 70])
    n_repeated = parameters.n_repeated_shots
    closing, closing_lengths = np.arange(n_repeated), _lengths(rng, n_repeated)
    n_own = parameters.n_shots - n_repeated
    movies = []
    for number in range(parameters.n_movies):
        own = n_repeated + number * n_own + np.arange(n_own)
        end = np.cumsum(np.concatenate([_lengths(rng, n_own), closing_lengths]))
        start = np.concatenate([[0.0], end[:-1]])
        movies.append(Movie(np.concatenate([own, closing]).astype(np.int64), start, end))
    return MovieStudy(parameters, bank, tuple(movies))


def _lengths(rng: np.random.Generator, n_shots: int) -> NDArray[np.float64]:
    return np.round(rng.uniform(_SHORTEST, _LONGEST, size=n_shots), 2)


def make_viewer(study: MovieStudy, participant: int) -> SimulatedParticipant:
    """Scan one participant (numbered from 0) while the movies run."""
    scanner = study.parameters.scanner
    anatomy = common_anatomy(participant=participant, seed=scanner.seed)
    brain = make_brain(study.bank, anatomy, scanner, participant=participant)
    runs = []
    for number, movie in enumerate(study.movies):
        rng = np.random.default_rng([scanner.seed, 71, participant, number])
        n_scans = int(np.ceil((LEAD_IN + movie.length + LEAD_OUT) / scanner.repetition_time))
        schedule = RunSchedule(stimulus=movie.scene, onset=LEAD_IN + movie.start, n_scans=n_scans)
        nuisance = draw_nuisance(schedule, scanner, rng=rng)
        series = draw_series(
            draw_amplitudes(brain, movie.scene, scanner, rng=rng),
            shot_regressors(movie, n_scans, study.parameters),
            nuisance,
            anatomy=anatomy,
            parameters=scanner,
            rng=rng,
        )
        runs.append(SimulatedRun(schedule, series, confounds_table(series, nuisance, rng=rng)))
    unknown = np.full(anatomy.place.shape[0], np.nan)
    return SimulatedParticipant(brain, tuple(runs), Truth(unknown, None, None))


def shot_regressors(movie: Movie, n_scans: int, parameters: MovieParameters) -> NDArray[np.float64]:
    """Share of each shot in the signal of each scan, (n_scans, n_shots).

    The time a shot is on screen, ``lag`` s later, smoothed by a Gaussian: Phi((t - start) / blur) -
    Phi((t - end) / blur), with t the time of the scan in the movie minus the lag, Phi the normal distribution function.
    """
    from scipy.special import ndtr

    time = frame_times(n_scans, parameters.scanner)[:, None] - LEAD_IN - parameters.lag
    shares: NDArray[np.float64] = ndtr((time - movie.start) / parameters.blur) - ndtr(
        (time - movie.end) / parameters.blur
    )
    return shares


def film(study: MovieStudy, number: int) -> bytes:
    """One movie as an mp4 file (MPEG-4 part 2, which every build of FFmpeg writes)."""
    import av

    movie, rate = study.movies[number], study.parameters.frame_rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = study.bank.images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = _BIT_RATE
        for k in range(round(movie.length * rate)):
            shot = int(np.searchsorted(movie.end, k / rate, side="right"))
            frame = av.VideoFrame.from_ndarray(study.bank.images[movie.scene[shot]], format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
