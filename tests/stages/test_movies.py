"""From events of movies to samples, pictures, labels, and sets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pytest

from clipmused_bids.config import InputOptions, build_hyperparameters
from clipmused_bids.dataset.outputs.response_files import read_responses, write_responses
from clipmused_bids.dataset.stimuli.pictures import open_picture
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.evaluation.splits import count_sets
from clipmused_bids.records import Run, RunResponses, Trials
from clipmused_bids.simulation.files import write_bytes
from clipmused_bids.simulation.movies import MovieParameters, film, make_movie_study
from clipmused_bids.stages import invocation
from clipmused_bids.stages.catalogue import leave_out, make_catalogue
from clipmused_bids.stages.clip_targets import load_target_maker, load_targets, prepare_targets
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.movies import sample_movies, samples_of, volume_trials
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import choose_split, design_of, repeated_clips
from clipmused_bids.targets.clip import encode_images
from clipmused_bids.targets.features import low_level
from tests.stages.conftest import GRID, World, make_run, make_trials

# Two names of one file: movie-2.mp4 is movie-1.mp4.
MOVIES = ("movie-1.mp4", "movie-2.mp4", "movie-3.mp4", "movie-4.mp4")


def run_of(participant: str, number: int, *, tr: float = 1.0) -> Run:
    return make_run(participant, number, events=Path("events.tsv"), metadata={"RepetitionTime": tr})


def shown(names: Sequence[str], durations: Sequence[float], **columns: Sequence[str]) -> Trials:
    return replace(
        make_trials(names, columns=columns),
        onset=np.cumsum([5.0, *durations[:-1]]),
        duration=np.array(durations, dtype=float),
    )


def sample(shows: list[tuple[Run, Trials]], folder: Path, **inputs: object) -> dict[str, Trials]:
    trials = {run.key: own for run, own in shows}
    made, _ = sample_movies(
        trials, [run for run, _ in shows], bids_dir=folder, inputs=InputOptions(**inputs), selected=set(trials),
        failures=Failures(),
    )  # fmt: skip
    return made


@pytest.mark.parametrize(("trs", "interval"), [((0.5, 0.5), 1.0), ((2.0, 2.0), 2.0), ((1.0, 2.5), 2.5)])
def test_one_interval_for_everyone_never_below_a_second_or_the_tr(
    tmp_path: Path, trs: tuple[float, float], interval: float
) -> None:
    runs = [(run_of(f"0{k + 1}", 1, tr=tr), shown(["m.mp4"], [20.0])) for k, tr in enumerate(trs)]
    made = sample(runs, tmp_path)
    assert {float(own.duration[0]) for own in made.values()} == {interval}
    assert len(samples_of(made)) == np.ceil(20 / interval)
    made = sample(runs, tmp_path, frame_interval=4.0)
    assert samples_of(made) == {f"m.mp4@{s}": ("m.mp4", float(s)) for s in (0, 4, 8, 12, 16)}


def test_clips_stay_as_they_are(tmp_path: Path) -> None:
    run, trials = run_of("01", 1), shown(["a.mp4", "b.mp4"], [2.0, 3.0])
    assert sample([(run, trials)], tmp_path)[run.key] is trials


def test_movies_and_clips_are_not_mixed(tmp_path: Path) -> None:
    runs = [(run_of("01", 1), shown(["m.mp4"], [20.0])), (run_of("01", 2), shown(["a.mp4"], [2.0]))]
    with pytest.raises(DataError, match=r"1 run\(s\) show movies \(sub-01 task-x run-1\) and 1 single clips"):
        sample(runs, tmp_path)
    assert len(samples_of(sample(runs, tmp_path, frame_interval=1.0))) == 22


def test_a_movie_nobody_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--movie film\.mkv: no events of this request log movie times"):
        sample([(run_of("01", 1), shown(["m.mp4"], [20.0]))], tmp_path, movie="film.mkv")


def test_what_fails_is_the_participants_failure(tmp_path: Path) -> None:
    good, bad = run_of("01", 1), run_of("02", 1)
    trials = {good.key: shown(["m.mp4"], [20.0]), bad.key: shown(["m.mp4"], [0.0])}
    failures = Failures()
    made, _ = sample_movies(
        trials, [good, bad], bids_dir=tmp_path, inputs=InputOptions(), selected={good.key, bad.key}, failures=failures
    )  # fmt: skip
    assert list(made) == [good.key]
    assert failures.without_failed(("01", "02")) == ("01",)


def test_one_trial_for_each_volume(tmp_path: Path) -> None:
    path = tmp_path / "bold.nii.gz"
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 6), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, 1.5))
    nib.save(image, path)
    trials = volume_trials(make_run(image=path, metadata={"StartTime": 0.75}), lag=4.0)
    np.testing.assert_allclose(trials.onset + 4.0, 0.75 + 1.5 * np.arange(6))
    assert set(trials.duration) == {1.5}
    assert trials.stimulus_id == ("",) * 6
    with pytest.raises(DataError, match="no image belongs to this run"):
        volume_trials(make_run(), lag=4.0)


@pytest.fixture
def study(world: World) -> World:
    """Two people see four movies of about 30 s; the second is a copy of the first. Labels change after 10 s."""
    stimuli = world.folder / "bids" / "stimuli"
    movies = make_movie_study(MovieParameters(n_movies=4, n_shots=8, n_repeated_shots=2, seed=5))
    rows = ["movie\tonset\tduration\tfirst\tshort"]
    for number, name in enumerate(MOVIES):
        write_bytes(stimuli / name, film(movies, 0 if number == 1 else number))
        rows += [f"{name}\t0\t10\t1\t0", f"{name}\t10\t90\t0\t1"]
    (stimuli / "labels.tsv").write_text("\n".join(rows) + "\n")
    for participant in ("01", "02"):
        for number, name in enumerate(MOVIES, start=1):
            run = run_of(participant, number)
            (world.folder / "bids" / f"sub-{participant}").mkdir(exist_ok=True)
            world.runs.append(run)
            world.trials[run.key] = shown(
                [name, name], [20.0, 8.0], movie_onset=["0", "20"], clip=[name, "end"]
            )
    return world


def planned(study: World, **inputs: object) -> Plan:
    labels = (str(study.folder / "bids" / "stimuli" / "labels.tsv"),)
    options = InputOptions(**{"labels": labels, **inputs})
    made, movies = sample_movies(
        study.trials, study.runs, bids_dir=study.folder / "bids", inputs=options,
        selected=set(study.trials), failures=Failures(),
    )  # fmt: skip
    study.trials = made
    return replace(study.plan(inputs=options), movies=movies.path)


def test_samples_have_frames_labels_and_contents(study: World) -> None:
    catalogue = make_catalogue(planned(study))
    row = catalogue.stimuli.stimulus_id.index("movie-3.mp4@9")
    picture = catalogue.stimuli.picture[row]
    assert picture is not None
    assert (picture.path.name, picture.seconds) == ("movie-3.mp4", 9.0)
    assert len(catalogue.stimuli.stimulus_id) == 4 * 28
    first = catalogue.labels_of(["movie-3.mp4@0", "movie-3.mp4@27"])
    assert first.tolist() == [[1, 0], [0, 1]]
    same = catalogue.contents_of(["movie-1.mp4@4", "movie-2.mp4@4", "movie-1.mp4@5", "movie-3.mp4@4"])
    assert same[0] == same[1]
    assert len(set(same)) == 3


def test_without_files_samples_have_labels_and_no_pictures(
    study: World, caplog: pytest.LogCaptureFixture
) -> None:
    for name in MOVIES:
        (study.folder / "bids" / "stimuli" / name).unlink()
    catalogue = make_catalogue(planned(study))
    assert set(catalogue.stimuli.picture) == {None}
    assert set(catalogue.content) == {""}
    assert not np.isnan(catalogue.stimuli.labels).any()
    assert "4 of 4 movie files not found" in caplog.text


def test_a_clip_is_seen_by_its_middle(study: World) -> None:
    run = study.runs[0]
    study.runs = [run]
    study.trials = {run.key: shown(["movie-1.mp4", "broken.mp4"], [2.0, 2.0])}
    (study.folder / "bids" / "stimuli" / "broken.mp4").write_bytes(b"no movie")
    labels = study.folder / "labels.tsv"
    labels.write_text("stimulus_id\tcat\nmovie-1\t1\nbroken\t0\n")
    catalogue = make_catalogue(planned(study, labels=(str(labels),)))
    assert catalogue.stimuli.stimulus_id == ("broken.mp4", "movie-1.mp4")
    assert catalogue.stimuli.labels.tolist() == [[0], [1]]
    assert catalogue.stimuli.picture[0] is None
    length = (
        make_movie_study(MovieParameters(n_movies=4, n_shots=8, n_repeated_shots=2, seed=5)).movies[0].length
    )
    middle = catalogue.stimuli.picture[1]
    assert middle is not None
    assert middle.seconds == pytest.approx(length / 2, abs=0.2)


def test_the_last_movie_tests_without_what_other_movies_repeat(study: World) -> None:
    plan = planned(study)
    catalogue = make_catalogue(plan)
    design = design_of(plan, catalogue, "auto")
    assert design.continuous
    assert design.repeated_clip is not None
    time, movie = np.array([float(s.partition("@")[2]) for s in design.stimulus_id]), np.array(design.movie)
    # The clip that ends all movies, and all of the movie that is there twice.
    np.testing.assert_array_equal(design.repeated_clip, (time >= 20) | np.isin(movie, MOVIES[:2]))
    split = choose_split(plan, catalogue, study.tree)
    assert split.rule == "movies"
    assert split.regime == "unseen stimuli"
    by_movie = {
        name: count_sets(
            s for s, i in zip(split.set_name, split.stimulus_id, strict=True) if i.startswith(name)
        )
        for name in MOVIES
    }
    assert by_movie[MOVIES[3]] == {"test": 40, "none": 16}
    assert by_movie[MOVIES[2]] == {"val": 40, "none": 16}
    assert by_movie[MOVIES[0]] == by_movie[MOVIES[1]] == {"train": 56}


def test_movies_shown_twice_as_a_whole_repeat_no_clip() -> None:
    runs = [
        replace(make_trials(["a@0", "a@1"]), movie=("a", "a"), movie_seconds=np.arange(2.0)),
        replace(make_trials(["a@0", "b@1"]), movie=("a", "b"), movie_seconds=np.arange(2.0)),
    ]
    movie = ["a", "a", "a", "b"]
    assert not repeated_clips(runs, movie, ["x", "y", "x", "z"]).any()
    assert not repeated_clips(runs, movie, [""] * 4).any(), "an unknown content is no content"
    assert repeated_clips(runs, movie, ["x", "y", "x", "y"]).tolist() == [False, True, False, True]
    named = [replace(run, columns={"clip_id": ("n/a", "c")}) for run in runs]
    assert repeated_clips(named, movie, [""] * 4).tolist() == [False, True, False, True]


def test_the_auditor_finds_samples_too_close(study: World) -> None:
    plan = planned(study)
    plan = replace(plan, config=replace(plan.config, actions=("train",)))
    catalogue = make_catalogue(plan)
    good = choose_split(plan, catalogue, study.tree)
    assert invocation.settle_split(plan, catalogue, study.tree) == good
    bad = replace(good, set_name=tuple(np.resize(["train", "val", "test"], len(good.set_name)).tolist()))
    rows = zip(bad.run_key, bad.stimulus_id, bad.set_name, strict=True)
    file = study.folder / "bad.tsv"
    file.write_text("run\tstimulus_id\tset\n" + "".join("\t".join(row) + "\n" for row in rows))
    plan = replace(plan, config=replace(plan.config, split=str(file)))
    with pytest.raises(DataError, match="of one run in different sets are closer than 15 s"):
        invocation.settle_split(plan, catalogue, study.tree)


def test_rare_labels_that_are_not_decoded_do_not_forbid_a_split(study: World) -> None:
    """A label of the last movie alone has no training trial there; below the frequency, nobody would decode it."""
    table = study.folder / "rare.tsv"
    table.write_text("movie\tonset\tduration\trare\nmovie-4.mp4\t0\t2\t1\nmovie-4.mp4\t2\t40\t0\n" + "".join(
        f"{name}\t0\t60\t0\n" for name in MOVIES[:3]
    ))  # fmt: skip
    labels = (str(study.folder / "bids" / "stimuli" / "labels.tsv"), str(table))
    plan = planned(study, labels=labels)
    catalogue = make_catalogue(plan)
    assert catalogue.stimuli.label_names == ("first", "short", "rare")
    with pytest.raises(
        DataError, match=r"movie movie-4\.mp4: no training trial is left for 1 label \(rare\)"
    ):
        choose_split(plan, catalogue, study.tree)
    plan = replace(plan, hyperparameters=replace(plan.hyperparameters, min_label_frequency=0.1))
    split = choose_split(plan, catalogue, study.tree)
    assert (
        "movie movie-4.mp4"
        in {why for why, s in zip(split.reason, split.set_name, strict=True) if s == "test"}.pop()
    )


def test_samples_are_stored_with_their_place_in_the_movie(world: World) -> None:
    run = make_run()
    trials = replace(
        make_trials(["m@0", "m@1"], columns={"movie": ("x", "y")}), movie=("m", "m"), movie_seconds=np.array([0.0, 1.5])
    )  # fmt: skip
    responses = RunResponses(
        np.ones((1, 3), np.float32), np.ones(3, bool), np.array([1]), "window", "percent signal change", {}
    )
    path = write_responses(world.tree, run, responses, trials, grid=GRID, voxels=np.arange(3), config={})
    stored = read_responses(path).trials
    assert (stored.movie, stored.columns) == (("m",), {"movie": ("y",)})
    assert stored.movie_seconds is not None
    assert stored.movie_seconds.tolist() == [1.5]
    plain = replace(trials, movie=None, movie_seconds=None)
    path = write_responses(world.tree, run, responses, plain, grid=GRID, voxels=np.arange(3), config={})
    assert not read_responses(path).trials.continuous


def test_frames_are_encoded_as_the_pictures_they_are(
    study: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every movie is opened once for all of its frames; one that breaks loses its own frames only, and is said once."""
    plan = planned(study)
    plan = replace(plan, hyperparameters=build_hyperparameters({"targets": {"clip_model": "demo"}}))
    catalogue = make_catalogue(plan)
    catalogue = replace(catalogue, simulated=True)
    broken = study.folder / "bids" / "stimuli" / "movie-4.mp4"
    broken.write_bytes(b"no movie")
    maker = load_target_maker(plan, catalogue, study.tree, device="cpu")
    names = [f"{movie}@{s}" for movie in ("movie-3.mp4", "movie-4.mp4") for s in (0, 7, 12, 3)]
    original, opened = av.open, []
    monkeypatch.setattr(
        av, "open", lambda name, *more: opened.append(Path(name).name) or original(name, *more)
    )
    with caplog.at_level(logging.INFO):
        unreadable = prepare_targets(maker, catalogue, names, study.tree)
        leave_out(plan, catalogue, unreadable)
    assert sorted(opened) == ["movie-3.mp4", "movie-4.mp4"]
    assert list(unreadable) == names[4:]
    assert caplog.text.count("not a readable movie") == 1
    assert "4 of 8 images" in caplog.text
    targets = load_targets(maker, catalogue, names)
    pictures = [catalogue.stimuli.picture[row] for row in catalogue.rows_of(names[:4])]
    raw, _ = encode_images(maker.clip, [open_picture(picture) for picture in pictures if picture])
    assert targets.low is not None
    cosine = (targets.low[:4] * low_level(raw, kind="flat", n_patches=maker.clip.n_patches)).sum(axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-3)
    assert not targets.low[4:].any()
