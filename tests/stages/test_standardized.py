from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.responses.standardize import Scaling, UnitStatistics
from clipmused_bids.stages import standardized
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.standardized import Standardization, fit_standardization, response_table, staged
from tests.stages.conftest import World, make_run

# Columns of the three files: voxel 9 is first in one and last in another; 30 and 40 are in some only.
PLACES = ([2, 5, 9, 30], [1, 2, 5, 9], [2, 5, 9, 40])
WANTED = np.array([2, 5, 9])


def three_runs(world: World, *, precision: str = "float32", n: int = 12) -> ParticipantResponses:
    """Two runs of one session and one of another, on scales a thousand apart."""
    rng = np.random.default_rng(4)
    for k, (places, session) in enumerate(zip(PLACES, ("1", "1", "2"), strict=True)):
        values = rng.normal(size=(n, 4)) * [1e-3, 1.0, 40.0, 12_000.0] + [0, 5, -300, 70_000]
        stimuli = [f"s{k}-{i}" for i in range(n)]
        world.add(
            make_run(number=k + 1, session=session), stimuli, values, voxels=places, precision=precision
        )
    return open_responses(world.tree, "01", world.runs, kind="lss")


def by_hand(world: World, *, precision: str) -> list[np.ndarray]:
    """Values of the wanted voxels as float64, after the rounding that half precision means."""
    found = []
    for run, places in zip(world.runs, PLACES, strict=True):
        values = world.values[run.key].astype(np.float64)
        if precision == "float16":
            scale = 2.0 ** (np.floor(np.log2(np.abs(values).max(axis=0))) + 1)
            values = (values / scale).astype(np.float16).astype(np.float64) * scale
        found.append(values[:, [places.index(v) for v in WANTED]])
    return found


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("unit", ["run", "session", "participant", "none"])
@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_reading_is_scaling_choosing_and_standardising(
    world: World, scaling: Scaling, unit: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it does not matter how many voxels are described at a time."""
    monkeypatch.setattr(standardized, "VALUES_AT_ONCE", 50)
    person = three_runs(world, precision=precision)
    train = ~np.isin(np.arange(36), [1, 5, 14, 35])
    table = response_table(
        person, WANTED, fit_standardization(person, WANTED, unit=unit, scaling=scaling, train=train)
    )
    rows = np.array([35, 0, 17, 12, 11, 24, 24, 3])

    blocks = by_hand(world, precision=precision)
    members = {"run": [[0], [1], [2]], "session": [[0, 1], [2]], "participant": [[0, 1, 2]], "none": []}[unit]
    expected = [block.copy() for block in blocks]
    for group in members:
        of_unit = np.concatenate([blocks[b][train[12 * b : 12 * b + 12]] for b in group])
        lowest, highest = of_unit.min(axis=0), of_unit.max(axis=0)
        for b in group:
            if scaling == "zscore":
                expected[b] = (blocks[b] - of_unit.mean(axis=0)) / of_unit.std(axis=0)
            else:
                expected[b] = (blocks[b] - lowest) / (highest - lowest)
    expected_rows = np.concatenate(expected)[rows]
    np.testing.assert_allclose(table.read(rows), expected_rows, rtol=2e-4, atol=2e-3)
    assert table.read(rows).dtype == np.float32
    assert (table.n_rows, table.n_voxels) == (36, 3)


@pytest.mark.parametrize(("unit", "n_distinct"), [("run", 3), ("session", 2), ("none", 1)])
def test_runs_share_what_standardises_them(world: World, unit: str, n_distinct: int) -> None:
    """Two runs of a session and one of another."""
    person = three_runs(world)
    scaling = fit_standardization(person, WANTED, unit=unit, scaling="zscore", train=np.ones(36, bool))
    table = response_table(person, WANTED, scaling)
    assert len({id(one) for one in table.mean}) == len({id(one) for one in table.sd}) == n_distinct
    # Files 1 and 3 hold the wanted voxels in the same columns.
    assert [one is table.columns[0] for one in table.columns] == [True, False, True]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_staged_rows_are_the_same_rows(world: World, tmp_path: Path, precision: str) -> None:
    """More than one chunk of 512 rows, and a last one that is not full."""
    person = three_runs(world, precision=precision, n=200)
    scaling = fit_standardization(person, WANTED, unit="run", scaling="zscore", train=np.ones(600, bool))
    table = response_table(person, WANTED, scaling)
    copy = staged(table, tmp_path / "rows")
    rows = np.random.default_rng(0).permutation(600)
    np.testing.assert_array_equal(copy.read(rows), table.read(rows))
    stored = np.fromfile(tmp_path / "rows", np.float32).reshape(600, -1)
    np.testing.assert_array_equal(stored, table.read(np.arange(600)))


@pytest.mark.parametrize(("n_train", "source"), [(10, "training"), (9, "transductive"), (0, "transductive")])
def test_ten_training_trials_are_enough(world: World, n_train: int, source: str) -> None:
    person = three_runs(world)
    train = np.zeros(36, bool)
    train[:n_train] = True
    found = fit_standardization(person, WANTED, unit="run", scaling="zscore", train=train).statistics[
        person.runs[0].key
    ]
    values = by_hand(world, precision="float32")[0]
    used = values[:10] if source == "training" else values
    assert (found.source, found.n_trials) == (source, len(used))
    np.testing.assert_allclose(found.offset, used.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.scale, used.std(axis=0), rtol=1e-4)


def test_known_units_keep_their_statistics_and_new_ones_describe_themselves(world: World) -> None:
    person = three_runs(world)
    stored = UnitStatistics(np.full(3, 7.0, np.float32), np.full(3, 2.0, np.float32), "training", 99)
    first, second, third = (run.key for run in person.runs)
    known = Standardization("run", "zscore", {first: stored, third: stored})
    found = fit_standardization(
        person, WANTED, unit="run", scaling="zscore", train=np.zeros(36, bool), known=known
    )
    assert found.statistics[first] is stored
    assert found.statistics[third] is stored
    assert found.statistics[second].source == "transductive"
    values = by_hand(world, precision="float32")
    read = response_table(person, WANTED, found).read(np.arange(36))
    np.testing.assert_allclose(read[:12], (values[0] - 7) / 2, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(read[12:24].mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(read[12:24].std(axis=0), 1, atol=2e-3)


@pytest.mark.parametrize(("scaling", "neutral"), [("zscore", 0.0), ("minmax", 0.5)])
def test_a_voxel_without_signal_in_a_run_says_nothing(world: World, scaling: Scaling, neutral: float) -> None:
    rng = np.random.default_rng(2)
    for number, valid in ((1, [True, True]), (2, [True, False])):
        world.add(
            make_run(number=number),
            [f"{number}{k}" for k in range(12)],
            rng.normal(5, 2, (12, 2)),
            valid=valid,
        )
    person = open_responses(world.tree, "01", world.runs, kind="lss")
    voxels = np.array([0, 1])
    whole = world.values[world.runs[0].key][:, 1]
    for unit in ("run", "participant"):
        fitted = fit_standardization(person, voxels, unit=unit, scaling=scaling, train=np.ones(24, bool))
        read = response_table(person, voxels, fitted).read(np.arange(24))
        np.testing.assert_array_equal(read[12:, 1], neutral)
        expected = (
            (whole - whole.mean()) / whole.std()
            if scaling == "zscore"
            else (whole - whole.min()) / np.ptp(whole)
        )
        np.testing.assert_allclose(read[:12, 1], expected, atol=1e-5)


def test_fewer_voxels_of_a_standardisation_are_those_voxels(world: World) -> None:
    person = three_runs(world)
    fitted = fit_standardization(person, WANTED, unit="session", scaling="minmax", train=np.ones(36, bool))
    chosen = np.array([0, 2])
    few = response_table(person, WANTED[chosen], fitted.of_voxels(chosen))
    every = response_table(person, WANTED, fitted)
    np.testing.assert_array_equal(few.read(np.arange(36)), every.read(np.arange(36))[:, chosen])
    np.testing.assert_array_equal(every.of_voxels(chosen).read(np.arange(36)), few.read(np.arange(36)))


@pytest.mark.parametrize("outside", [[0, 2, 5], [2, 5, 8], [2, 5, 59]])
def test_voxels_of_a_decoder_outside_the_mask_are_refused(world: World, outside: list[int]) -> None:
    person = three_runs(world)
    with pytest.raises(DataError, match=r"1 of the decoder's 3 voxels are outside the mask"):
        response_table(person, np.array(outside), Standardization("none", "zscore", {}))
