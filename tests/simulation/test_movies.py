"""The simulated movie study: what its files say agrees with what was simulated."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.errors import CannotCreateError, UsageError
from clipmused_bids.simulation.movie_writer import write_movie_dataset
from clipmused_bids.simulation.movies import (
    LEAD_IN,
    MovieParameters,
    MovieStudy,
    film,
    make_movie_study,
    make_viewer,
    shot_regressors,
)
from clipmused_bids.simulation.scenes import CATEGORIES
from clipmused_bids.simulation.series import frame_times

FEW = MovieParameters(n_movies=2, n_shots=6, n_repeated_shots=2, seed=9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MovieStudy]:
    root = tmp_path_factory.mktemp("movies") / "bids"
    return root, write_movie_dataset(root, FEW)


@pytest.mark.parametrize("part", [".", "derivatives/fmriprep"])
def test_validator_finds_no_errors(dataset: tuple[Path, MovieStudy], part: str) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(validator), str(dataset[0] / part), "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    assert [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"] == []
    assert report["summary"]["totalFiles"] > 10


def test_frames_show_the_scenes_that_annotations_name(dataset: tuple[Path, MovieStudy]) -> None:
    root, study = dataset
    table = pd.read_csv(root / "stimuli" / "annotations.tsv", sep="\t")
    for number, movie in enumerate(study.movies):
        rows = table[table["movie"] == f"movie-{number + 1}.mp4"].reset_index(drop=True)
        with av.open(str(root / "stimuli" / f"movie-{number + 1}.mp4")) as container:
            frames = {frame.time: frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}
        assert len(frames) == round(movie.length * FEW.frame_rate)
        for second in range(int(movie.length)):
            shot = int(((rows["onset"] <= second) & (second < rows["onset"] + rows["duration"])).argmax())
            shown = frames[float(second)].astype(float)
            distance = np.abs(study.bank.images - shown).mean(axis=(1, 2, 3))
            assert distance.argmin() == movie.scene[shot]
            np.testing.assert_array_equal(
                rows.loc[shot, list(CATEGORIES)].to_numpy(int), study.bank.labels[movie.scene[shot]]
            )


def test_all_movies_end_with_one_clip(dataset: tuple[Path, MovieStudy]) -> None:
    root, study = dataset
    one, two = study.movies
    assert one.scene[-2:].tolist() == two.scene[-2:].tolist()
    assert set(one.scene[:-2].tolist()).isdisjoint(two.scene.tolist())
    np.testing.assert_allclose(np.diff(one.end[-3:]), np.diff(two.end[-3:]))
    for number, movie in enumerate(study.movies, start=1):
        path = root / "sub-02" / "func" / f"sub-02_task-movie_run-{number:02d}_events.tsv"
        events = pd.read_csv(path, sep="\t")
        assert events["clip_id"].tolist() == [f"movie-{number}", "closing"]
        np.testing.assert_allclose(events["onset"] - events["movie_onset"], LEAD_IN)
        np.testing.assert_allclose(events["duration"].sum(), movie.length)


def test_signals_follow_the_shots_by_the_lag() -> None:
    """Where the kernel is narrow, the volume `lag` s after a moment holds the shot of that moment alone."""
    parameters = replace(FEW, lag=5.0, blur=0.05)
    movie = make_movie_study(parameters).movies[0]
    shares = shot_regressors(movie, 60, parameters)
    time = frame_times(60, parameters.scanner) - LEAD_IN - 5.0
    for scan in range(60):
        inside = (movie.start + 0.3 < time[scan]) & (time[scan] < movie.end - 0.3)
        if inside.any():
            np.testing.assert_allclose(shares[scan], inside, atol=1e-6)
    assert np.abs(shares[time < -0.3]).max() < 1e-6
    wide = shot_regressors(movie, 60, replace(parameters, blur=2.0))
    assert ((wide > 0.01).sum(axis=1) > (shares > 0.01).sum(axis=1)).any()


def test_noiseless_voxels_are_their_scenes() -> None:
    parameters = replace(FEW, snr=1e6, variability=0.0)
    study = make_movie_study(parameters)
    viewer = make_viewer(study, 0)
    series = viewer.runs[0].series
    movie = study.movies[0]
    known = shot_regressors(movie, len(series), parameters)
    confounds = viewer.runs[0].confounds
    drift = np.column_stack([confounds[name] for name in confounds if name.startswith(("cosine", "trans", "rot"))
                             and not name.endswith(("derivative1", "power2"))])  # fmt: skip
    late = viewer.brain.anatomy.late
    design = np.column_stack(
        [known, drift, confounds["csf"], confounds["white_matter"], np.ones(len(series))]
    )
    found = np.linalg.lstsq(design, series[:, late], rcond=None)[0][: len(movie.scene)]
    expected = viewer.brain.amplitude[movie.scene][:, late]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_the_seed_fixes_the_study() -> None:
    study = make_movie_study(FEW)
    assert film(study, 0) == film(make_movie_study(FEW), 0)
    assert film(study, 0) != film(make_movie_study(replace(FEW, seed=10)), 0)
    first, again = make_viewer(study, 1), make_viewer(study, 1)
    np.testing.assert_array_equal(first.runs[1].series, again.runs[1].series)
    with av.open(io.BytesIO(film(study, 1))) as container:
        assert container.streams.video[0].average_rate == FEW.frame_rate


def test_refusals(dataset: tuple[Path, MovieStudy]) -> None:
    with pytest.raises(CannotCreateError, match="not empty"):
        write_movie_dataset(dataset[0], FEW)
    for wrong in ({"n_repeated_shots": 6}, {"lag": -1.0}, {"blur": 0.0}):
        with pytest.raises(UsageError, match="simulation:"):
            replace(FEW, **wrong)
