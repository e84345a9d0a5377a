from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.records import Grid, ResponseTable, Run, Trials
from tests.conftest import planted_trials


@st.composite
def tables(draw: st.DrawFn) -> tuple[ResponseTable, np.ndarray]:
    """A table of up to four blocks with columns of their own, and all its rows computed the long way."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_voxels = draw(st.integers(1, 4))
    blocks, columns, means, sds, rows = [], [], [], [], []
    for _ in range(draw(st.integers(1, 4))):
        block = rng.normal(size=(draw(st.integers(0, 5)), n_voxels + draw(st.integers(0, 3))))
        block = block.astype(draw(st.sampled_from([np.float16, np.float32])))
        chosen = rng.permutation(block.shape[1])[:n_voxels]
        mean, sd = rng.normal(size=n_voxels), rng.uniform(0.5, 2, n_voxels)
        blocks.append(block)
        columns.append(chosen)
        means.append(mean.astype(np.float32))
        sds.append(sd.astype(np.float32))
        rows += [[(float(row[c]) - m) / s for c, m, s in zip(chosen, mean, sd, strict=True)] for row in block]
    table = ResponseTable(tuple(blocks), tuple(columns), tuple(means), tuple(sds))
    return table, np.array(rows).reshape(-1, n_voxels)


@given(tables(), st.data())
def test_rows_are_counted_over_the_blocks(
    made: tuple[ResponseTable, np.ndarray], data: st.DataObject
) -> None:
    table, expected = made
    assert table.n_rows == len(expected)
    if table.n_rows == 0:
        return
    rows = np.array(data.draw(st.lists(st.integers(0, table.n_rows - 1), max_size=12)), dtype=int)
    read = table.read(rows)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, expected[rows], rtol=1e-4, atol=1e-4)


def test_subsets_and_participants_read_their_own_rows() -> None:
    data = planted_trials(n_participants=3, n_trials=20, n_voxels=8)
    whole = [table.read(np.arange(20)) for table in data.responses]
    chosen = np.array([5, 41, 22, 40, 6])
    read = data.subset(chosen).read()
    np.testing.assert_array_equal(read[0], whole[0][[5, 6]])
    np.testing.assert_array_equal(read[1], whole[1][[2]])
    np.testing.assert_array_equal(read[2], whole[2][[1, 0]])
    second = data.subset(chosen).of_participant("02")
    assert (second.participants, second.n_trials, list(second.participant)) == (("02",), 1, [0])
    assert second.stimulus_id == (data.stimulus_id[22],)
    np.testing.assert_array_equal(second.read()[0], whole[1][[2]])


@pytest.mark.parametrize(
    ("shift", "turn", "agrees"), [(0.0009, 0.0, True), (0.0011, 0.0, False), (0.0, 1e-4, False)]
)
def test_grids_agree_within_a_micrometre_at_every_corner(shift: float, turn: float, agrees: bool) -> None:
    """A turn of 1e-4 mm a voxel moves the far corner by a hundredth of a millimetre."""
    affine = np.diag([2.0, 2, 2, 1])
    other = affine.copy()
    other[0, 3] += shift
    other[1, 0] += turn
    assert Grid((90, 4, 5), affine).agrees_with(Grid((90, 4, 5), other)) is agrees
    assert not Grid((90, 4, 5), affine).agrees_with(Grid((90, 5, 4), affine))


def run_of(entities: dict[str, str], *, number: int | None) -> Run:
    return Run("01", "a", "x", number, entities, events=None, image=None, image_kind="bold")


def test_a_run_has_one_name_in_raw_and_derived_data() -> None:
    raw = run_of({"sub": "01", "ses": "a", "task": "x", "run": "02"}, number=2)
    derived = run_of({"sub": "01", "ses": "a", "task": "x", "run": "2", "space": "T1w"}, number=2)
    assert raw.key == derived.key == "sub-01_ses-a_task-x_run-2"
    assert raw.label == "sub-01 ses-a task-x run-2"


@pytest.mark.parametrize("entity", ["acq", "ce", "rec", "dir"])
def test_entities_that_part_runs_are_in_their_name(entity: str) -> None:
    names = {run_of({"sub": "01", "task": "x", entity: value}, number=1).key for value in "pq"}
    assert len(names) == 2


def test_taking_trials_takes_all_their_columns() -> None:
    trials = Trials(
        onset=np.array([1.0, 2, 3]),
        duration=np.array([4.0, 5, 6]),
        stimulus_id=("a", "b", "c"),
        condition=("p", "q", "r"),
        columns={"rt": ("7", "8", "n/a")},
        nuisance_onset=np.array([9.0]),
        nuisance_duration=np.array([1.0]),
        nuisance_kind=("cue",),
        n_rows=4,
        n_rows_in_trials=3,
        excluded={},
    )
    taken = trials.take(np.array([2, 0]))
    assert (list(taken.onset), list(taken.duration)) == ([3, 1], [6, 4])
    assert (taken.stimulus_id, taken.condition, taken.columns["rt"]) == (("c", "a"), ("r", "p"), ("n/a", "7"))
    assert (taken.n_trials, taken.n_rows, taken.nuisance_kind) == (2, 4, ("cue",))
