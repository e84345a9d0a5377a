from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.dataset.files.memory import held_memory
from clipmused_bids.errors import UsageError
from clipmused_bids.responses.projection import VOXEL_BLOCK
from clipmused_bids.stages import budget
from clipmused_bids.stages.budget import LEAST_VOXELS, portions, usable_memory

LARGE = {
    "n_scans": 500,
    "n_voxels": 270_000,
    "n_grid": 97 * 115 * 97,
    "n_trials": 100,
    "keep": False,
    "label": "sub-01 run-1",
}
GB = 2**30


def test_a_large_run_is_held_where_it_fits_and_else_kept_in_a_scratch_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert portions(4 * GB, **LARGE) == budget.Portions(in_memory=True, voxel_block=VOXEL_BLOCK)
        assert not caplog.text
        small = portions(GB // 2, **LARGE)
    assert not small.in_memory
    assert LEAST_VOXELS <= small.voxel_block <= VOXEL_BLOCK
    assert "sub-01 run-1: the series (515 MB) is kept in a scratch file" in caplog.text


def test_long_runs_are_worked_on_in_smaller_blocks() -> None:
    long = {**LARGE, "n_scans": 20_000, "n_trials": 50}
    blocks = [portions(int(share * GB), **long).voxel_block for share in (0.6, 1, 2, 16)]
    assert blocks == sorted(blocks)
    assert blocks[0] < VOXEL_BLOCK / 2
    assert blocks[-1] == VOXEL_BLOCK


def test_too_little_is_refused_with_what_is_needed_and_that_suffices() -> None:
    with pytest.raises(
        UsageError, match=r"sub-01 run-1: 0 MB of memory are left for this run; it needs \d+ MB"
    ) as error:
        portions(-5, **LARGE)
    needed = int(str(error.value).split("needs ")[1].split(" MB")[0])
    advised = int(str(error.value).split("--mem ")[1].split("M,")[0])
    assert advised * 2**20 - held_memory() == pytest.approx(needed * 2**20, abs=8 * 2**20)
    assert not portions((needed + 1) * 2**20, **LARGE).in_memory
    with pytest.raises(UsageError, match=f"{needed - 1} MB of memory are left"):
        portions((needed - 1) * 2**20, **LARGE)
    with pytest.raises(UsageError):
        portions((needed + 1) * 2**20, **{**LARGE, "keep": True})


@given(
    usable=st.integers(50 * 2**20, 64 * GB),
    n_scans=st.integers(1, 20_000),
    n_voxels=st.integers(1, 1_000_000),
    n_trials=st.integers(1, 2000),
    keep=st.booleans(),
)
def test_what_is_held_never_exceeds_what_may_be(
    usable: int, n_scans: int, n_voxels: int, n_trials: int, keep: bool
) -> None:
    try:
        how = portions(
            usable,
            n_scans=n_scans,
            n_voxels=n_voxels,
            n_grid=n_voxels,
            n_trials=n_trials,
            keep=keep,
            label="x",
        )
    except UsageError:
        return
    values = 4 * n_trials * n_voxels
    # One block in single and, several times over, in double precision; the series where it is held.
    estimating = values + 44 * n_scans * how.voxel_block + (4 * n_scans * n_voxels if how.in_memory else 0)
    assert max(estimating, 3 * values) <= usable
    assert how.in_memory or not keep


def test_what_may_be_taken_is_the_limit_without_what_is_held_or_half_of_what_is_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "held_memory", lambda: 300)
    monkeypatch.setattr(budget, "available_memory", lambda: 1001)
    assert usable_memory(1000) == 700
    assert usable_memory(200) == -100
    assert usable_memory(None) == 500


def test_blocks_need_what_is_reckoned_for_them() -> None:
    """Memory that estimation takes for a block, measured, is within what a block is counted as."""
    import tracemalloc

    from clipmused_bids.responses.percent import percent_scale
    from clipmused_bids.responses.projection import weigh_voxels

    bold = np.random.default_rng(0).normal(100, 1, size=(300, 20_000)).astype(np.float32)
    scans = np.arange(300)
    tracemalloc.start()
    percent_scale(bold, valid=np.ones(20_000, bool), sample_mask=scans[1:], voxel_block=4096)
    out = weigh_voxels(np.ones((3, 299)), bold, sample_mask=scans[1:], voxel_block=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - out.nbytes - 20_000 * 100 < budget._BLOCK_BYTES * 300 * 4096
