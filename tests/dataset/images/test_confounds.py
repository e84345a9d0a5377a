from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.images.confounds import read_confounds
from clipmused_bids.errors import DataError
from clipmused_bids.records import Run

N = 12
MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
OLD = dict(zip(MOTION, ["X", "Y", "Z", "RotX", "RotY", "RotZ"], strict=True)) | {
    "csf": "CSF", "white_matter": "WhiteMatter", "cosine00": "Cosine00", "cosine01": "Cosine01",
    "a_comp_cor_00": "aCompCor00", "non_steady_state_outlier00": "NonSteadyStateOutlier00",
}  # fmt: skip


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    signals = [*MOTION, "csf", "white_matter"]
    frame = pd.DataFrame({name: rng.normal(size=N) + 5 for name in signals})
    for name in signals:
        frame[f"{name}_derivative1"] = frame[name].diff()
        frame[f"{name}_power2"] = frame[name] ** 2
        frame[f"{name}_derivative1_power2"] = frame[name].diff() ** 2
    frame[["cosine00", "cosine01", "a_comp_cor_00"]] = rng.normal(size=(N, 3))
    frame["framewise_displacement"] = np.r_[np.nan, np.full(N - 1, 0.01)]
    frame["std_dvars"] = np.r_[np.nan, np.full(N - 1, 1.0)]
    frame["non_steady_state_outlier00"] = np.eye(N)[0]
    return frame


def write(folder: Path, frame: pd.DataFrame, *, name="desc-confounds_timeseries.tsv") -> Run:
    image = folder / "sub-01_task-x_space-T1w_desc-preproc_bold.nii.gz"
    image.write_bytes(b"")
    path = folder / f"sub-01_task-x_{name}"
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return Run("01", None, "x", None, {}, None, image, "bold", confounds=path)


def test_default_is_centred_motion_tissue_and_cosines_over_the_kept_scans(tmp_path, table):
    read = read_confounds(write(tmp_path, table), strategy="default", n_scans=N)
    assert sorted(read.names) == sorted([*MOTION, "csf", "white_matter", "cosine00", "cosine01"])
    assert read.sample_mask.tolist() == list(range(1, N))
    assert read.has_cosines
    expected = table[list(read.names)] - table[list(read.names)].iloc[1:].mean()
    np.testing.assert_allclose(read.matrix, expected, atol=1e-12)


def test_only_the_columns_that_exist_are_taken(tmp_path, table):
    run = write(tmp_path, table[["trans_x", "csf", "white_matter"]])
    read = read_confounds(run, strategy="default", n_scans=N)
    assert sorted(read.names) == ["csf", "white_matter"]
    assert not read.has_cosines
    assert read.sample_mask.tolist() == list(range(N))
    nothing = read_confounds(write(tmp_path, table[["std_dvars"]]), strategy="default", n_scans=N)
    assert nothing.matrix.shape == (N, 0)


@pytest.mark.parametrize("strategy", ["default", "simple", "motion"])
def test_old_names_give_what_nilearn_gives_for_new_ones(tmp_path, table, strategy):
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    new = read_confounds(write(tmp_path / "new", table), strategy=strategy, n_scans=N)
    renamed = table[list(OLD)].rename(columns=OLD)
    old = read_confounds(
        write(tmp_path / "old", renamed, name="bold_confounds.tsv"), strategy=strategy, n_scans=N
    )
    assert sorted(old.names) == sorted(new.names)
    order = [old.names.index(name) for name in new.names]
    np.testing.assert_allclose(old.matrix[:, order], new.matrix, atol=1e-9)
    assert old.sample_mask.tolist() == new.sample_mask.tolist()
    assert "before 1.2" in old.source
    assert "nilearn" in new.source


def test_compcor_of_old_tables(tmp_path, table):
    run = write(tmp_path, table[list(OLD)].rename(columns=OLD), name="bold_confounds.tsv")
    read = read_confounds(run, strategy="compcor", n_scans=N)
    assert "a_comp_cor_00" in read.names
    assert "csf" not in read.names
    with pytest.raises(DataError, match="--confounds scrubbing needs"):
        read_confounds(run, strategy="scrubbing", n_scans=N)


def test_scrubbing_leaves_moving_scans_out(tmp_path, table):
    table.loc[6, "framewise_displacement"] = 3.0
    read = read_confounds(write(tmp_path, table), strategy="scrubbing", n_scans=N)
    assert 6 not in read.sample_mask
    assert 0 not in read.sample_mask
    assert read.matrix.shape[0] == N


def test_confounds_that_are_refused(tmp_path, table):
    with pytest.raises(DataError, match=r"confounds_timeseries\.tsv: 12 rows of confounds for 13 volumes"):
        read_confounds(write(tmp_path, table), strategy="default", n_scans=13)
    with pytest.raises(DataError, match="cannot serve --confounds simple"):
        read_confounds(write(tmp_path, table[["trans_x"]]), strategy="simple", n_scans=N)
    table.loc[4, "csf"] = np.nan
    with pytest.raises(DataError, match="csf"):
        read_confounds(
            write(tmp_path, table[["csf", "white_matter"]], name="bold_confounds.tsv"),
            strategy="default",
            n_scans=N,
        )


def test_no_file_or_none_gives_no_columns(tmp_path, table, caplog):
    caplog.set_level("DEBUG", logger="clipmused_bids")
    run = Run("01", None, "x", None, {}, None, None, "bold")
    assert read_confounds(run, strategy="default", n_scans=N).matrix.shape == (N, 0)
    assert "no confounds file" in caplog.text, "said in detail; the plan says it once"
    assert read_confounds(write(tmp_path, table), strategy="none", n_scans=N).sample_mask.tolist() == list(
        range(N)
    )
