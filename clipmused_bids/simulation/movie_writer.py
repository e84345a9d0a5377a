"""A simulated movie study as a BIDS dataset: movies, annotations over time, raw data and a derivative."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipmused_bids.simulation.files import make_folder, write_bytes, write_json, write_tsv
from clipmused_bids.simulation.movies import (
    LEAD_IN,
    Movie,
    MovieParameters,
    MovieStudy,
    film,
    make_movie_study,
    make_viewer,
)
from clipmused_bids.simulation.run_files import (
    participant_label,
    raw_file,
    write_derivative,
    write_derivative_top,
    write_raw_bold,
    write_raw_top,
)
from clipmused_bids.simulation.scenes import CATEGORIES, captions

_log = logging.getLogger(__name__)
_TASK = "movie"
_NAME = "Simulated movies"
CLOSING_CLIP = "closing"
_README = """# Simulated movies

Nobody was scanned. {n_participants} simulated participants saw {n_movies} movies of procedural scenes, one a run; seed
{seed}. The last {n_repeated_shots} shots of all movies are the same clip. Voxels follow the picture {lag:g} s later.
`stimuli/annotations.tsv` says what is to be seen when (for `--labels`), `stimuli/captions.tsv` in sentences.
The raw images equal the preprocessed ones: the simulator moves no voxels, only signals.
"""


def write_movie_dataset(root: Path, parameters: MovieParameters) -> MovieStudy:
    """Simulate a movie study and write it.

    Parameters
    ----------
    root : Path
        An empty or new folder.
    parameters : MovieParameters

    Raises
    ------
    CannotCreateError
        If the folder holds anything, or cannot be written.
    """
    make_folder(root)
    study = make_movie_study(parameters)
    _write_top(root, parameters)
    _write_stimuli(root / "stimuli", study)
    derivative = root / "derivatives" / "fmriprep"
    write_derivative_top(derivative, name=_NAME)
    scanner = parameters.scanner
    for number in range(parameters.n_participants):
        label = participant_label(number)
        viewer = make_viewer(study, number)
        write_raw_bold(root, viewer, label=label, parameters=scanner, task=_TASK)
        for k, movie in enumerate(study.movies):
            path = raw_file(root, "events.tsv", label=label, task=_TASK, number=k + 1)
            write_tsv(path, _events(movie, k, parameters))
        write_derivative(derivative, viewer, label=label, parameters=scanner, task=_TASK)
        _log.info("sub-%s written", label)
    write_json(root / "sourcedata" / "simulation" / "truth.json", {"parameters": asdict(parameters)})
    return study


def movie_name(number: int) -> str:
    """File of a movie (from 0): ``movie-1.mp4``."""
    return f"movie-{number + 1}.mp4"


def _events(movie: Movie, number: int, parameters: MovieParameters) -> dict[str, Any]:
    """One row for what is the movie's own, and one for the clip that closes all of them."""
    n_own = parameters.n_shots - parameters.n_repeated_shots
    parts = [(0.0, float(movie.end[n_own - 1]), f"movie-{number + 1}")]
    if parameters.n_repeated_shots:
        parts.append((float(movie.start[n_own]), movie.length, CLOSING_CLIP))
    return {
        "onset": [LEAD_IN + start for start, _, _ in parts],
        "duration": [end - start for start, end, _ in parts],
        "trial_type": ["movie"] * len(parts),
        "stim_file": [movie_name(number)] * len(parts),
        "movie_onset": [start for start, _, _ in parts],
        "clip_id": [clip for _, _, clip in parts],
    }


def _write_top(root: Path, parameters: MovieParameters) -> None:
    write_raw_top(
        root,
        name=_NAME,
        readme=_README.format(**asdict(parameters)),
        n_participants=parameters.n_participants,
        task=_TASK,
        sidecar={"RepetitionTime": parameters.repetition_time, "Instructions": "Watch the movies."},
    )
    write_json(
        root / f"task-{_TASK}_events.json",
        {
            "trial_type": {"Description": "Kind of event", "Levels": {"movie": "A stretch of a movie"}},
            "stim_file": {"Description": "Movie, relative to the stimuli folder"},
            "movie_onset": {"Description": "Time in the movie at which the stretch begins", "Units": "s"},
            "clip_id": {"Description": "Clip that the stretch shows; one closes all movies"},
        },
    )


def _write_stimuli(folder: Path, study: MovieStudy) -> None:
    rows: list[dict[str, Any]] = []
    for number, movie in enumerate(study.movies):
        write_bytes(folder / movie_name(number), film(study, number))
        for scene, start, end in zip(movie.scene.tolist(), movie.start, movie.end, strict=True):
            labels = dict(zip(CATEGORIES, study.bank.labels[scene].tolist(), strict=True))
            times = {"movie": movie_name(number), "onset": float(start), "duration": float(end - start)}
            rows.append({**times, **labels, "caption": captions(study.bank.scenes[scene])[0]})
    times_of = {name: [row[name] for row in rows] for name in ("movie", "onset", "duration")}
    write_tsv(
        folder / "annotations.tsv", times_of | {name: [row[name] for row in rows] for name in CATEGORIES}
    )
    write_tsv(folder / "captions.tsv", times_of | {"caption": [row["caption"] for row in rows]})
