from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.dataset.events.trial_join import trial_table, volume_of_trial
from clipmused_bids.errors import DataError
from clipmused_bids.records import Trials


def trials_at(onset: list[float], stimuli: str) -> Trials:
    n = len(onset)
    return Trials(
        np.array(onset), np.ones(n), tuple(stimuli), ("",) * n, {}, np.empty(0), np.empty(0), (), n, n, {}
    )


TRIALS = trials_at([0.0, 4.1, 8.2, 12.3], "abca")


def write(folder: Path, **columns: list[object]) -> Path:
    path = folder / "x_trials.tsv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [tuple(columns), *rows]) + "\n")
    return path


def joined(folder: Path, *, trials: Trials = TRIALS, **columns: list[object]) -> list[int]:
    n_volumes = len(next(iter(columns.values())))
    return volume_of_trial(write(folder, **columns), trials, n_volumes=n_volumes).tolist()


def test_the_table_of_an_image_has_its_entities(tmp_path: Path) -> None:
    image = tmp_path / "sub-01_task-x_run-1_desc-lss_statmap.nii.gz"
    assert trial_table(image) is None
    (tmp_path / "sub-01_task-x_run-1_trials.tsv").write_text("")
    assert trial_table(image) is None, "of another description"
    own = tmp_path / "sub-01_task-x_run-1_desc-lss_trials.tsv"
    own.symlink_to(tmp_path / "annex" / "nowhere")
    assert trial_table(image) == own, "not fetched is not absent"


def test_joined_by_onset_whatever_the_order(tmp_path: Path) -> None:
    assert joined(tmp_path, onset=[12.3, 0.0, 8.2009]) == [1, -1, 2, 0]
    assert joined(tmp_path, onset=[12.3, 0.0, 8.2011]) == [1, -1, -1, 0]
    assert joined(tmp_path, onset=["n/a", 4.1, 99]) == [-1, 1, -1, -1]


def test_onset_goes_before_the_number_of_the_trial(tmp_path: Path) -> None:
    """Numbers change with what counts as a trial, onsets do not."""
    assert joined(tmp_path, onset=[4.1, 8.2], trial=[1, 2]) == [-1, 0, 1, -1]
    assert joined(tmp_path, onset=["n/a", "n/a"], trial=[1, 3]) == [0, -1, 1, -1]


def test_joined_by_number(tmp_path: Path) -> None:
    assert joined(tmp_path, trial=[4, 2, 7, 0, 1.5]) == [-1, 1, -1, 0]


def test_joined_by_stimulus_in_order_of_presentation(tmp_path: Path) -> None:
    assert joined(tmp_path, stimulus_id=["c", "a", "z", "a"]) == [1, -1, 0, 3]
    with pytest.raises(DataError, match="names a 1 times, the events 2 times"):
        joined(tmp_path, stimulus_id=["c", "a", "b"])


def test_two_events_at_one_time_take_their_volumes_in_order(tmp_path: Path) -> None:
    together = trials_at([0.0, 4.0, 4.0, 8.0], "abcd")
    assert joined(tmp_path, trials=together, onset=[0, 4, 4, 8]) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"row 3 is the second volume of the event at 4 s"):
        joined(tmp_path, trials=trials_at([0.0, 4.0], "ab"), onset=[0, 4, 4])


@given(order=st.permutations(range(6)), kept=st.integers(1, 6))
def test_every_volume_finds_its_event(tmp_path_factory: pytest.TempPathFactory, order, kept) -> None:
    folder = tmp_path_factory.mktemp("join")
    trials = trials_at([k * 2.5 for k in range(6)], "abcdef")
    chosen = order[:kept]
    expected = [chosen.index(k) if k in chosen else -1 for k in range(6)]
    assert joined(folder, trials=trials, onset=[k * 2.5 for k in chosen]) == expected
    assert joined(folder, trials=trials, trial=[k + 1 for k in chosen]) == expected
    assert joined(folder, trials=trials, stimulus_id=["abcdef"[k] for k in chosen]) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"onset": [0.0, 4.1], "stimulus_id": ["a", "c"]}, r"x_trials\.tsv: row 2 is of c, but the event .* shows b"),
        ({"trial": [1, 1]}, "row 2 is the second volume of trial 1"),
        ({"onset": ["soon", 1]}, "row 1: onset soon is not a number"),
        ({"trial": ["n/a", "b"]}, "row 2: trial b is not a number"),
        ({"response_time": [1, 2]}, "no column onset, trial or stimulus_id; columns are response_time"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        joined(tmp_path, **columns)


def test_each_volume_needs_a_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 2 rows for 3 volumes; expected one each"):
        volume_of_trial(write(tmp_path, onset=[0, 4.1]), TRIALS, n_volumes=3)
