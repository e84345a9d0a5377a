"""Events of movies, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.movies.logs import is_log, movie_of_run, read_frame_log
from clipmused_bids.dataset.movies.samples import sample_id, sampled, shows_movies
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import Run, Trials


def tsv(*rows: str) -> str:
    return "\n".join(row.replace(" ", "\t") for row in rows) + "\n"


def run_of(folder: Path, text: str, *, number: int | None = 2) -> Run:
    path = folder / "sub-01_task-film_run-2_events.tsv"
    path.write_text(text)
    return Run("01", "a", "film", number, {}, path, None, "bold")


def events(folder: Path, *rows: str) -> Trials:
    return read_events(run_of(folder, tsv(*rows)), trial_types=(), stimulus_column=None, merge_blocks="auto")


def log(folder: Path, *rows: str, movie: str | None = "film.mkv", **changes) -> Trials:
    run = run_of(folder, tsv(*rows), **changes)
    found = read_frame_log(run, movie=movie, stimulus_column=None, run_seconds=None)
    assert found is not None
    return found


def accounted(trials: Trials) -> int:
    return trials.n_rows_in_trials + len(trials.nuisance_onset) + sum(trials.excluded.values())


def test_names_of_samples():
    names = [sample_id("a b/m.mp4", s) for s in (0.0, 12.0, 100.0, 0.5, 1.25, 1 / 3, 1e4)]
    assert names == [f"a b/m.mp4@{s}" for s in ("0", "12", "100", "0.5", "1.25", "0.333", "10000")]


def test_one_sample_a_second(tmp_path):
    trials = events(tmp_path, "onset duration stim_file cond", "8.5 12.5 m.mp4 intro", "30 11 n.mov main")
    made = sampled(trials, interval=1.0, lengths={})
    assert made.stimulus_id[:13] == tuple(f"m.mp4@{s}" for s in range(13)), "12 s begins before 12.5 s"
    assert made.stimulus_id[13:] == tuple(f"n.mov@{s}" for s in range(11)), "11 s is the end, and outside"
    np.testing.assert_allclose(made.onset, [*(8.5 + np.arange(13)), *(30 + np.arange(11))])
    assert set(made.duration) == {1.0}
    assert made.movie == ("m.mp4",) * 13 + ("n.mov",) * 11
    assert made.movie_seconds.tolist() == [*range(13), *range(11)]
    assert made.condition == ("intro",) * 13 + ("main",) * 11
    assert made.columns["cond"][12:14] == ("intro", "main")
    assert (made.n_rows, made.n_rows_in_trials, made.continuous) == (2, 2, True)


def test_the_interval_in_movie_time(tmp_path):
    trials = events(tmp_path, "onset duration stim_file", "2 10 m.mp4")
    made = sampled(trials, interval=2.5, lengths={})
    assert made.onset.tolist() == [2, 4.5, 7, 9.5]
    assert made.stimulus_id == ("m.mp4@0", "m.mp4@2.5", "m.mp4@5", "m.mp4@7.5")
    assert set(made.duration) == {2.5}
    # 0.1 s is no binary number; the samples are still 0, 0.1, 0.2, ...
    assert sampled(trials, interval=0.1, lengths={}).stimulus_id[-1] == "m.mp4@9.9"


def test_length_is_the_events_cut_to_the_files(tmp_path):
    trials = events(tmp_path, "onset duration stim_file", "0 30 m.mp4", "40 n/a n.mp4", "70 12 n.mp4")
    made = sampled(trials, interval=1.0, lengths={"m.mp4": 20.4, "n.mp4": 25.0})
    assert [made.movie.count(name) for name in ("m.mp4", "n.mp4")] == [21, 25 + 12]
    with pytest.raises(
        DataError, match=r"the event of n\.mp4 at 40 s has no duration, and the movie file was not"
    ):
        sampled(trials, interval=1.0, lengths={"m.mp4": 20.4})


@pytest.mark.parametrize(
    ("durations", "forced", "expected"),
    [
        (("2", "3"), False, False), (("2", "3"), True, True), (("10", "12"), False, True), (("9.9",), False, False),
        (("2", "15", "30"), False, True), (("2", "3", "30"), False, False), (("n/a", "n/a"), False, True),
    ],
)  # fmt: skip
def test_clips_stay_trials_and_movies_become_samples(tmp_path, durations, forced, expected):
    rows = [f"{60 * k} {duration} m.mp4" for k, duration in enumerate(durations)]
    trials = events(tmp_path, "onset duration stim_file", *rows)
    assert shows_movies(trials, forced=forced, lengths={"m.mp4": 30.0}) is expected


def test_pictures_show_no_movies(tmp_path):
    trials = events(tmp_path, "onset duration stim_file", "0 20 a.png", "30 20 b.png")
    assert not shows_movies(trials, forced=True, lengths={})


def test_pictures_among_movies_are_counted(tmp_path):
    trials = events(
        tmp_path,
        "onset duration stim_file trial_type",
        "0 15 m.mp4 x",
        "20 1 a.png x",
        "25 9 n/a rest",
        "40 1 n/a cue",
    )
    made = sampled(trials, interval=1.0, lengths={})
    assert made.n_trials == 15
    assert made.excluded == {"baseline": 1, "not a movie": 1}
    assert made.nuisance_kind == ("cue",)
    assert accounted(made) == made.n_rows == 4


def test_a_log_of_frames_is_interpolated(tmp_path):
    trials = log(
        tmp_path, "onset duration frameidx videotime", "3 0.5 1 0.0", "3.6 0.5 2 0.5", "4.1 0.9 3 1.1"
    )
    assert is_log(trials)
    made = sampled(trials, interval=0.5, lengths={})
    # 1.0 s of the movie lies 5/6 of the way from row 2 to row 3; 1.5 s is 0.4 s after the onset of row 3.
    assert made.stimulus_id == tuple(f"film.mkv@{s}" for s in ("0", "0.5", "1", "1.5"))
    np.testing.assert_allclose(made.onset, [3, 3.6, 3.6 + 0.5 * 5 / 6, 4.5])
    assert made.columns["frameidx"] == ("1", "2", "2", "3")
    assert (made.n_rows, made.n_rows_in_trials, made.excluded) == (3, 3, {})


def test_a_log_with_a_pause_and_a_jump(tmp_path):
    rows = [f"{10 + k} 1 {k}" for k in range(4)]  # movie 0 to 4 s
    rows += [f"{44 + k} 1 {4 + k}" for k in range(3)]  # a pause of 30 s, then 4 to 7 s
    rows += [f"{47 + k} 1 {k + 2}" for k in range(2)]  # back to 2 s
    made = sampled(log(tmp_path, "onset duration movie_onset", *rows), interval=1.0, lengths={})
    assert made.movie_seconds.tolist() == [0, 1, 2, 3, 4, 5, 6, 2, 3]
    assert made.onset.tolist() == [10, 11, 12, 13, 44, 45, 46, 47, 48]


def test_a_small_step_back_is_shown_again(tmp_path):
    rows = [f"{k / 10} 0.1 {k / 10}" for k in range(11)] + [
        f"{1.1 + k / 10:.1f} 0.1 {0.9 + k / 10:.1f}" for k in range(8)
    ]
    made = sampled(log(tmp_path, "onset duration videotime", *rows), interval=0.5, lengths={})
    assert made.movie_seconds.tolist() == [0, 0.5, 1, 1, 1.5]
    np.testing.assert_allclose(made.onset, [0, 0.5, 1, 1.2, 1.7])


def test_nothing_is_on_screen_during_a_pause(tmp_path):
    made = sampled(
        log(tmp_path, "onset duration movie_onset", "0 2.5 0", "30 2.5 2.5"), interval=1.0, lengths={}
    )
    assert made.movie_seconds.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(made.onset, [0, 1, 2, 30.5, 31.5])


def test_stretches_of_named_movies(tmp_path):
    trials = events(
        tmp_path,
        "onset duration stim_file movie_onset clip",
        "5 3 m.mp4 10 a",
        "8 2 m.mp4 13 b",
        "20 2 n.mp4 0.5 b",
    )
    assert not is_log(trials)
    assert shows_movies(trials, forced=False, lengths={}), "a log is sampled however short its rows are"
    made = sampled(trials, interval=1.0, lengths={"m.mp4": 14.5})
    assert made.stimulus_id == (
        "m.mp4@10",
        "m.mp4@11",
        "m.mp4@12",
        "m.mp4@13",
        "m.mp4@14",
        "n.mp4@1",
        "n.mp4@2",
    )
    assert made.onset.tolist() == [5, 6, 7, 8, 9, 20.5, 21.5]
    assert made.columns["clip"] == ("a", "a", "a", "b", "b", "b", "b")


def test_rows_between_samples_are_counted(tmp_path):
    trials = log(
        tmp_path, "onset duration movie_onset", "0 1 0", "20 0.3 5.2", "40 2 9", "50 1 n/a", "n/a 1 3"
    )
    made = sampled(trials, interval=1.0, lengths={})
    assert made.movie_seconds.tolist() == [0, 9, 10]
    assert made.excluded == {"no onset": 1, "no movie time": 1, "shorter than the frame interval": 1}
    assert accounted(made) == made.n_rows == 5
    with pytest.raises(DataError, match="no second of a movie is on screen long enough"):
        sampled(log(tmp_path, "onset duration movie_onset", "20 0.3 5.2"), interval=1.0, lengths={})


def test_a_log_needs_its_movie(tmp_path):
    with pytest.raises(UsageError, match=r"logs movie times \(column videotime\) and does not say") as caught:
        log(tmp_path, "onset duration frameidx videotime", "0.1 0.04 1 0.04", movie=None)
    assert "--movie FILE" in str(caught.value.hint)
    run = run_of(tmp_path, tsv("onset duration stim_file", "0 1 a.png"))
    assert read_frame_log(run, movie=None, stimulus_column=None, run_seconds=None) is None
    named = run_of(tmp_path, tsv("onset duration stim_file movie_onset", "0 1 m.mp4 0"))
    assert read_frame_log(named, movie=None, stimulus_column=None, run_seconds=None) is None
    empty = run_of(tmp_path, tsv("onset duration stim_file movie_onset", "0 1 m.mp4 n/a"))
    assert read_frame_log(empty, movie="m.mp4", stimulus_column=None, run_seconds=None) is None


def test_one_movie_for_each_run(tmp_path):
    assert log(tmp_path, "onset duration videotime", "0 1 0", movie="/x/seg{run}_{task}.mkv").stimulus_id == (
        "seg2_film.mkv",
    )
    run = run_of(tmp_path, tsv("onset duration videotime", "0 1 0"), number=None)
    with pytest.raises(UsageError, match=r"--movie seg\{run\}\.mkv: sub-01 ses-a task-film has no run"):
        movie_of_run("seg{run}.mkv", run)


@pytest.mark.parametrize("factor", [1000, 25])
def test_movie_times_in_other_units_are_refused(tmp_path, factor):
    rows = [f"{k * 0.04:.2f} 0.04 {k * 0.04 * factor:g}" for k in range(50)]
    with pytest.raises(DataError, match=f"movie time runs {factor} times as fast as the run"):
        sampled(log(tmp_path, "onset duration videotime", *rows), interval=1.0, lengths={})


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.floats(0.02, 0.45), min_size=8, max_size=60),
    drift=st.floats(0.9, 1.1),
    start=st.floats(0, 20),
)
def test_samples_of_a_steady_log_lie_on_its_line(steps, drift, start):
    """Whatever the frames' times: where movie time is a straight line of run time, so are the samples."""
    onset = start + np.concatenate([[0], np.cumsum(steps)])
    video = drift * (onset - start)
    nothing = np.empty(0)
    trials = Trials(
        onset, np.append(np.diff(onset), 0.1), ("m",) * len(onset), ("",) * len(onset),
        {"videotime": tuple(repr(float(v)) for v in video)}, nothing, nothing, (), len(onset), len(onset), {},
    )  # fmt: skip
    made = sampled(trials, interval=0.25, lengths={})
    inside = made.movie_seconds <= video[-1]
    np.testing.assert_allclose(made.onset[inside], start + made.movie_seconds[inside] / drift, atol=1e-5)
    assert np.all(np.diff(made.movie_seconds) == pytest.approx(0.25))
    assert made.movie_seconds[0] == 0
    assert made.movie_seconds[-1] < video[-1] + 0.1 <= made.movie_seconds[-1] + 0.25 + 1e-6
