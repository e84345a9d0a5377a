from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from clipmused_bids.errors import DataError
from clipmused_bids.responses.standardize import block_scaling, standardize, unit_statistics

EVERYTHING = np.ones(5, dtype=bool)


def blocks_of(*sizes, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(b, 1 + b, size=(n, 5)).astype(np.float32) for b, n in enumerate(sizes)]


def test_training_trials_of_a_unit_describe_it():
    blocks = blocks_of(12, 9, 20)
    train = [np.arange(12) % 2 == 0, np.arange(9) < 5, np.zeros(20, bool)]
    found = unit_statistics(blocks, ["ses-1", "ses-1", "ses-2"], train=train)
    scaler = StandardScaler().fit(np.vstack([blocks[0][train[0]], blocks[1][train[1]]]))
    np.testing.assert_allclose(found["ses-1"].offset, scaler.mean_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["ses-1"].scale, scaler.scale_, rtol=1e-5)
    assert (found["ses-1"].source, found["ses-1"].n_trials) == ("training", 11)
    np.testing.assert_allclose(found["ses-2"].offset, blocks[2].mean(axis=0), rtol=1e-5)
    assert (found["ses-2"].source, found["ses-2"].n_trials) == ("transductive", 20)


@pytest.mark.parametrize(("n_train", "source"), [(9, "transductive"), (10, "training")])
def test_ten_training_trials_are_enough(n_train, source):
    (block,) = blocks_of(30)
    train = np.arange(30) < n_train
    found = unit_statistics([block], ["run"], train=[train])["run"]
    assert found.source == source
    expected = block[train] if source == "training" else block
    np.testing.assert_allclose(found.offset, expected.mean(axis=0), rtol=1e-5)


def test_test_trials_do_not_touch_training_statistics():
    (block,) = blocks_of(30)
    train = np.arange(30) < 15
    before = unit_statistics([block], ["run"], train=[train])["run"]
    changed = block.copy()
    changed[~train] *= 1e4
    after = unit_statistics([changed], ["run"], train=[train])["run"]
    np.testing.assert_array_equal(before.offset, after.offset)
    np.testing.assert_array_equal(before.scale, after.scale)


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567, -3e5])
def test_a_constant_voxel_becomes_zero(value):
    (block,) = blocks_of(15)
    block[:, 3] = value
    found = unit_statistics([block], ["run"], train=[np.ones(15, bool)])["run"]
    assert found.scale[3] == 1
    out = standardize(block, offset=found.offset, scale=found.scale)
    np.testing.assert_array_equal(out[:, 3], 0)
    np.testing.assert_allclose(out[:, :3].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-6)


def test_rounding_of_a_constant_voxel_is_not_blown_up():
    (block,) = blocks_of(15)
    block[:, 3] = 1234.567
    block[::2, 3] = np.nextafter(block[0, 3], np.float32(np.inf))
    found = unit_statistics([block], ["run"], train=[np.ones(15, bool)])["run"]
    assert found.scale[3] == 1


def test_a_voxel_missing_in_one_run_is_described_by_the_others_and_stays_zero():
    blocks = blocks_of(12, 14)
    blocks[0][:, 1] = 0
    blocks[0][:, 4] = blocks[1][:, 4] = 0
    valid = [np.array([1, 0, 1, 1, 0], bool), np.array([1, 1, 1, 1, 0], bool)]
    train = [np.ones(12, bool), np.ones(14, bool)]
    found = unit_statistics(blocks, ["ses", "ses"], train=train, valid=valid)["ses"]
    np.testing.assert_allclose(found.offset[1], blocks[1][:, 1].mean(), rtol=1e-5)
    np.testing.assert_allclose(found.scale[1], blocks[1][:, 1].std(), rtol=1e-5)
    assert (found.offset[4], found.scale[4]) == (0, 1)
    offset, scale = block_scaling(found, valid[0])
    out = standardize(blocks[0], offset=offset, scale=scale)
    np.testing.assert_array_equal(out[:, [1, 4]], 0)
    assert (out[:, 0] != 0).all()


def test_large_offsets_keep_their_precision():
    block = (12_000 + np.random.default_rng(0).normal(size=(500, 5))).astype(np.float32)
    found = unit_statistics([block], ["run"], train=[np.ones(500, bool)])["run"]
    np.testing.assert_allclose(found.scale, block.astype(np.float64).std(axis=0), rtol=1e-5)


def test_a_range_is_that_of_the_training_trials_and_runs_from_zero_to_one():
    blocks = blocks_of(12, 20)
    train = [np.arange(12) % 2 == 0, np.arange(20) < 15]
    found = unit_statistics(blocks, ["ses", "ses"], train=train, scaling="minmax")["ses"]
    used = np.vstack([blocks[0][train[0]], blocks[1][train[1]]])
    expected = MinMaxScaler().fit(used)
    np.testing.assert_allclose(found.offset, expected.data_min_, rtol=1e-6)
    np.testing.assert_allclose(found.scale, expected.data_range_, rtol=1e-6)
    out = standardize(np.vstack(blocks), offset=found.offset, scale=found.scale)
    np.testing.assert_allclose(out, expected.transform(np.vstack(blocks)), atol=1e-5)
    assert out.max() > 1, "trials that were not looked at may lie outside"


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567, -3e5])
def test_without_a_range_a_voxel_lies_in_its_middle(value):
    """So does one without a signal in any block."""
    (block,) = blocks_of(15)
    block[:, 3] = value
    block[:, 4] = 0
    valid = [np.array([1, 1, 1, 1, 0], bool)]
    found = unit_statistics([block], ["run"], train=[np.ones(15, bool)], valid=valid, scaling="minmax")["run"]
    out = standardize(block, offset=found.offset, scale=found.scale)
    np.testing.assert_array_equal(out[:, 3:], 0.5)
    np.testing.assert_allclose(
        [out[:, :3].min(axis=0), out[:, :3].max(axis=0)], [[0] * 3, [1] * 3], atol=1e-6
    )
    offset, scale = block_scaling(found, np.zeros(5, bool))
    np.testing.assert_array_equal(standardize(np.zeros((2, 5)), offset=offset, scale=scale), 0.5)


def test_mismatches_are_refused():
    with pytest.raises(DataError, match=r"different numbers of voxels: \[3, 5\]"):
        unit_statistics([np.ones((2, 5)), np.ones((2, 3))], ["a", "b"], train=[np.ones(2, bool)] * 2)
    with pytest.raises(DataError, match="block 0"):
        unit_statistics([np.ones((2, 5))], ["a"], train=[np.ones(3, bool)])
