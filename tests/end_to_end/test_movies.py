"""Train on movies, decode one that is held out, and a run of which nothing is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from clipmused_bids.simulation.movie_writer import write_movie_dataset
from clipmused_bids.simulation.movies import LEAD_IN, MovieParameters, MovieStudy
from clipmused_bids.simulation.scenes import CATEGORIES
from tests.end_to_end.conftest import Command

SHORT = MovieParameters(
    n_movies=4, n_shots=14, n_repeated_shots=2, snr=3.0, variability=0.2, lag=4.0, seed=11
)


@pytest.fixture(scope="module")
def cinema(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MovieStudy]:
    root = tmp_path_factory.mktemp("cinema") / "bids"
    return root, write_movie_dataset(root, SHORT)


@pytest.fixture(scope="module")
def watched(
    cinema: tuple[Path, MovieStudy], command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root, out = cinema[0], tmp_path_factory.mktemp("watched") / "out"
    labels = root / "stimuli" / "annotations.tsv"
    done = command(root, out, "group", "--method", "ridge", "--labels", labels)
    assert done.returncode == 0, done.stderr
    return out


def predictions(out: Path, participant: str, run: int) -> pd.DataFrame:
    (path,) = out.glob(f"sub-{participant}/func/*_run-{run:02d}_*_desc-ridge_predictions.tsv")
    return pd.read_csv(path, sep="\t")


def test_the_last_movie_is_held_out_without_the_clip_that_all_share(
    cinema: tuple[Path, MovieStudy], watched: Path
) -> None:
    movies = cinema[1].movies
    split = pd.read_csv(watched / "split.tsv", sep="\t")
    split["movie"] = split["stimulus_id"].str.partition("@")[0]
    split["second"] = split["stimulus_id"].str.partition("@")[2].astype(float)
    for number, movie in enumerate(movies):
        rows = split[split["movie"] == f"movie-{number + 1}.mp4"]
        assert len(rows) == 2 * np.ceil(movie.length)
        closing = rows["second"] >= movie.start[-2]
        name = {3: "test", 2: "val"}.get(number, "train")
        assert set(rows[~closing]["set"]) == {name}
        assert set(rows[closing]["set"]) == {"train" if name == "train" else "none"}


def test_the_held_out_movie_is_decoded_above_its_floor(
    cinema: tuple[Path, MovieStudy], watched: Path
) -> None:
    """Truth from the simulator, scores by scikit-learn; the command's own table says the same."""
    study = cinema[1]
    movie = study.movies[3]
    metrics = pd.read_csv(watched / "group_desc-ridge_metrics.tsv", sep="\t")
    for participant in ("01", "02"):
        rows = predictions(watched, participant, 4)
        second = rows["stimulus_id"].str.partition("@")[2].astype(float).to_numpy()
        np.testing.assert_allclose(rows["onset"], LEAD_IN + second)
        rows, second = rows[rows["set"] == "test"], second[rows["set"] == "test"]
        truth = study.bank.labels[movie.scene[np.searchsorted(movie.end, second, side="right")]]
        scorable = [c for c in range(truth.shape[1]) if 0 < truth[:, c].sum() < len(truth)]
        scores = [average_precision_score(truth[:, c], rows[f"prob_{CATEGORIES[c]}"]) for c in scorable]
        assert np.mean(scores) > truth[:, scorable].mean() + 0.15
        said = metrics[(metrics["participant_id"] == f"sub-{participant}") & (metrics["metric"] == "mAP")]
        assert said["value"].iloc[0] == pytest.approx(np.mean(scores), abs=1e-6)


def test_a_run_without_events_is_decoded_volume_by_volume(
    cinema: tuple[Path, MovieStudy], watched: Path, command: Command, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(cinema[0], tmp_path / "bids"))
    out = tmp_path / "out"
    shutil.copytree(watched / "models", out / "models")
    for path in root.glob("sub-01/func/*_run-04_events.tsv"):
        path.unlink()
    words = (
        "participant",
        "--decode",
        "--model-label",
        "ridge",
        "--participant-label",
        "01",
        "--run-id",
        "4",
    )
    done = command(root, out, *words)
    assert done.returncode == 0, done.stderr
    assert "no events; every volume is decoded" in done.stderr
    new, known = predictions(out, "01", 4), predictions(watched, "01", 4)
    assert set(new["set"]) == {"new"}
    assert new["stimulus_id"].isna().all()
    length = cinema[1].movies[3].length
    assert len(new) == np.ceil(LEAD_IN + length + 16)
    np.testing.assert_allclose(new["onset"] + 4.0, np.arange(len(new)))
    # The same volumes, another standardisation (by all of the run, not by its samples).
    both = new.merge(known, on="onset", suffixes=("_new", "_known"))
    assert len(both) == len(known)
    for name in CATEGORIES[:3]:
        assert np.corrcoef(both[f"prob_{name}_new"], both[f"prob_{name}_known"])[0, 1] > 0.98


def test_movies_without_files_and_with_a_log_of_their_own(
    cinema: tuple[Path, MovieStudy], command: Command, tmp_path: Path
) -> None:
    """Events that log seconds and name no movie: one name for each run, no file, labels by matrix all the same."""

    root = Path(shutil.copytree(cinema[0], tmp_path / "bids", ignore=shutil.ignore_patterns("*.mp4")))
    for path in root.glob("sub-*/func/*_events.tsv"):
        events = pd.read_csv(path, sep="\t").drop(columns=["stim_file", "trial_type"])
        events.to_csv(path, sep="\t", index=False)
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        for number, movie in enumerate(cinema[1].movies, start=1):
            shot = np.searchsorted(movie.end, np.arange(np.ceil(movie.length)), side="right")
            file[f"film-{number}"] = cinema[1].bank.labels[movie.scene[shot]]
        file.attrs["names"] = list(CATEGORIES)
    words = ("group", "--prepare", "--train", "--method", "ridge", "--labels", f"{tmp_path}/labels.h5:/")
    done = command(root, tmp_path / "out", *words)
    assert done.returncode != 0
    assert "--movie FILE names it" in done.stderr
    done = command(root, tmp_path / "out", *words, "--movie", f"{tmp_path}/gone/film-{{run}}.mkv")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 movie files not found" in done.stderr
    split = pd.read_csv(tmp_path / "out" / "split.tsv", sep="\t")
    assert {name.partition("@")[0] for name in split["stimulus_id"]} == {f"film-{k}.mkv" for k in range(1, 5)}
    assert set(split[split["stimulus_id"].str.startswith("film-4")]["set"]) == {"test", "none"}
    stored = json.loads((tmp_path / "out" / "models" / "ridge" / "sub-01_config.json").read_text())
    assert "movie" not in stored["inputs"], "a place of this machine; new runs bring their own"
    assert str(tmp_path) not in json.dumps(stored)
