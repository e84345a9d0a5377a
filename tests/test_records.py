from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.records import Grid, ResponseTable, Run, Trials, responses
from clipmused_bids.records.arrays import announce_rows
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


def read_plainly(table: ResponseTable, rows: np.ndarray) -> np.ndarray:
    """Row by row, each step in single precision, as the values are defined."""
    whole = [(block, k) for k, block in enumerate(table.blocks) for _ in range(len(block))]
    own_row = np.concatenate([np.arange(len(block)) for block in table.blocks])
    found = np.zeros((len(rows), table.n_voxels), dtype=np.float32)
    for i, row in enumerate(rows):
        block, k = whole[row]
        values = block[own_row[row]].astype(np.float32)[table.columns[k]]
        found[i] = (values - table.mean[k]) / table.sd[k]
        if table.weight is not None:
            found[i] = found[i] * table.weight
    return found


COLUMNS = {
    "all": np.arange(300),
    "a stretch": np.arange(20, 200),
    "with gaps": np.flatnonzero(np.arange(300) % 7),
    "in any order": np.random.default_rng(1).permutation(300)[:111],
    "one": np.array([299]),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("in_cache", [1, 1000, 2**16])
def test_rows_of_mapped_files_are_read_to_the_bit(
    tmp_path: Path, dtype: str, columns: str, in_cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, backwards, repeated, with gaps; over the ends of files; from an offset that no page starts at."""
    monkeypatch.setattr(responses, "VALUES_IN_CACHE", in_cache)
    rng = np.random.default_rng(0)
    chosen, blocks = COLUMNS[columns], []
    for k, n in enumerate((17, 0, 1, 40)):
        if n == 0:
            blocks.append(np.empty((0, 300), dtype=dtype))
            continue
        values = rng.standard_normal((n, 300)).astype(dtype)
        (tmp_path / f"{k}").write_bytes(b"x" * (4096 + 24) + values.tobytes())
        blocks.append(
            np.memmap(tmp_path / f"{k}", dtype=dtype, mode="r", offset=4096 + 24, shape=values.shape)
        )
        np.testing.assert_array_equal(blocks[-1], values)
    scale = [rng.uniform(0.5, 2, (2, len(chosen))).astype(np.float32) for _ in blocks]
    table = ResponseTable(
        tuple(blocks), (chosen,) * 4, tuple(one[0] for one in scale), tuple(one[1] for one in scale)
    )
    for rows in (
        np.arange(58),
        np.arange(58)[::-1],
        rng.integers(0, 58, 80),
        np.flatnonzero(np.arange(58) % 5),
    ):
        np.testing.assert_array_equal(table.read(rows), read_plainly(table, rows))
        weighed = table.scaled(rng.uniform(0, 1, len(chosen)))
        out = np.full((len(rows), len(chosen)), np.nan, dtype=np.float32)
        assert weighed.read(rows, out=out) is out
        np.testing.assert_array_equal(out, read_plainly(weighed, rows))
    half = np.arange(len(chosen))[::2]
    np.testing.assert_array_equal(
        table.of_voxels(half).read(np.arange(58)), read_plainly(table, np.arange(58))[:, half]
    )


def test_the_rows_that_were_read_are_marked() -> None:
    table = planted_trials(n_participants=1, n_trials=20).responses[0]
    watched = replace(table, seen=np.zeros(20, dtype=bool))
    watched.scaled(np.ones(40)).read(np.array([3, 19]))
    watched.of_voxels(np.array([2])).read(np.array([4, 3]))
    assert np.flatnonzero(watched.seen).tolist() == [3, 4, 19]
    assert watched.read(np.array([], dtype=int)).shape == (0, 40)


def test_what_blocks_share_is_held_once() -> None:
    """Thousands of runs of one session have the same voxels and the same standardisation."""
    table = planted_trials(n_participants=1).responses[0].of_voxels(np.arange(5))
    assert len({id(one) for one in table.columns}) == len({id(one) for one in table.columns[:1]})
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 40)).astype(np.float32)
    mixed = replace(
        planted_trials(n_participants=1).responses[0], mean=(one, other, one), sd=(other, other, one)
    ).of_voxels(np.arange(3))
    assert mixed.mean[0] is mixed.mean[2]
    np.testing.assert_array_equal(mixed.mean, [one[:3], other[:3], one[:3]])
    np.testing.assert_array_equal(mixed.sd, [other[:3], other[:3], one[:3]])


def test_what_is_asked_for_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the page where the first byte lies to the last byte; nothing for a part of several rows."""
    asked: list[tuple[int, int]] = []

    class Listening(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            assert option == mmap.MADV_WILLNEED
            asked.append((start, length))
            super().madvise(option, start, length)

    monkeypatch.setattr(mmap, "mmap", Listening)
    (tmp_path / "a").write_bytes(bytes(8192 + 24 + 4 * 50 * 3000))
    block = np.memmap(tmp_path / "a", dtype=np.float32, mode="r", offset=8192 + 24, shape=(50, 3000))
    begin = (8192 + 24) % mmap.ALLOCATIONGRANULARITY
    for start, stop, columns in ((0, 1, (0, 3000)), (3, 7, (0, 3000)), (9, 10, (2000, 2010))):
        asked.clear()
        announce_rows(block, start, stop, columns=slice(*columns))
        ((first, length),) = asked
        expected = begin + 4 * (3000 * start + columns[0])
        assert first % mmap.PAGESIZE == 0
        assert 0 <= expected - first < mmap.PAGESIZE
        assert first + length == begin + 4 * (3000 * (stop - 1) + columns[1])
    asked.clear()
    announce_rows(block, 3, 7, columns=slice(0, 10))
    announce_rows(np.zeros((9, 9)), 0, 3, columns=slice(0, 9))
    assert asked == []


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
