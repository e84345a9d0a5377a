from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.dataset.betas.manifest import read_manifest
from clipmused_bids.errors import DataError, MissingInputError

HEADER = "participant_id\tsession\trun\tfile\tindex\tstimulus_id\tonset\tset\tscale"
ROWS = (
    "sub-02\tses-a\t02\tb/two.h5:/betas\t3\t73\t1.5\ttest\t300",
    "sub-02\tses-a\t2\tb/two.h5:/betas\t0\t5\t0.5\ttrain\t1",
    "sub-02\tses-a\t2\tb/other.npy\t7\t5\t9\ttrain\tn/a",
    "01\ta\t10\tone_space-MNI152NLin2009cAsym_res-2_statmap.nii.gz\t1.0\tx y.png\t0\tn/a\t",
)


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_rows_become_runs_in_the_order_of_their_onsets(tmp_path: Path) -> None:
    found = read_manifest(write(tmp_path, *ROWS))
    assert [run.key for run in found.runs] == [
        "sub-01_ses-a_task-betas_run-10",
        "sub-02_ses-a_task-betas_run-2",
    ]
    first, second = found.runs
    assert (first.image, first.image_kind, first.space, second.space) == (
        None, "betas", "MNI152NLin2009cAsym", None,
    )  # fmt: skip
    assert first.entities == {
        "sub": "01", "ses": "a", "task": "betas", "run": "10", "space": "MNI152NLin2009cAsym", "res": "2",
    }  # fmt: skip
    assert second.entities["run"] == "02"
    trials = found.trials[second.key]
    assert trials.stimulus_id == ("5", "73", "5")
    assert trials.onset.tolist() == [0.5, 1.5, 9.0]
    assert trials.columns == {"set": ("train", "test", "train")}
    assert np.isnan(trials.duration).all()
    assert (trials.stimulus_column, trials.notes, trials.excluded) == ("stimulus_id", (), {})
    h5, npy = second.betas
    assert (h5.path, h5.dataset) == (tmp_path / "b" / "two.h5", "/betas")
    assert (h5.index, h5.trial, h5.scale, h5.line) == ((0, 3), (0, 1), (1.0, 300.0), (2, 1))
    assert (npy.path, npy.dataset) == (tmp_path / "b" / "other.npy", None)
    assert (npy.index, npy.trial, npy.scale) == ((7,), (2,), (1.0,))
    assert second.sources == {
        "betas 1": "bids:betas:b/two.h5",
        "betas 2": "bids:betas:b/other.npy",
        "events": "bids:manifest:manifest.tsv",
    }
    assert found.root == tmp_path


def test_every_row_is_a_trial_or_left_out_for_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS, "02\ta\t2\tb/other.npy\t8\tn/a\t10\ttrain\t1")
    found = read_manifest(path)
    of_two = found.trials["sub-02_ses-a_task-betas_run-2"]
    assert (of_two.n_rows, of_two.n_rows_in_trials, of_two.n_trials) == (4, 3, 3)
    assert of_two.excluded == {"no stimulus": 1}
    assert found.n_rows == sum(trials.n_rows for trials in found.trials.values()) == 5


def test_without_onsets_trials_are_numbered_in_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = ["01\tx.npy\t4\tb\t3.5", "01\tx.npy\t2\ta\tn/a", "01\tx.npy\t9\tb\t1"]
    found = read_manifest(write(tmp_path, *rows, header="participant_id\tfile\tindex\tstimulus_id\tonset"))
    (trials,) = found.trials.values()
    assert trials.onset.tolist() == [0, 1, 2]
    assert trials.stimulus_id == ("b", "a", "b")
    assert "no onset for 1 of 3 trials" in trials.notes[0]
    assert found.runs[0].betas[0].index == (4, 2, 9)


def test_categories_stand_for_stimuli_as_in_events(tmp_path: Path) -> None:
    rows = ["01\tx.npy\t0\tface\tloc", "01\tx.npy\t1\thouse\tloc"]
    found = read_manifest(write(tmp_path, *rows, header="participant_id\tfile\tindex\ttrial_type\ttask"))
    (trials,) = found.trials.values()
    assert trials.stimulus_id == trials.condition == ("face", "house")
    assert trials.stimulus_column is None
    assert trials.columns == {"trial_type": ("face", "house")}
    assert found.runs[0].task == "loc"


def test_runs_that_name_nothing_are_there_to_be_decoded(tmp_path: Path) -> None:
    header = "participant_id\tfile\tindex"
    (training,) = read_manifest(write(tmp_path, "01\tx.npy\t0", header=header)).trials.values()
    assert (training.n_trials, training.excluded) == (0, {"no stimulus": 1})
    (decoding,) = read_manifest(write(tmp_path, "01\tx.npy\t0", header=header), decode=True).trials.values()
    assert (decoding.stimulus_id, decoding.excluded) == (("",), {})
    mixed = read_manifest(write(tmp_path, *ROWS, "02\ta\t2\tb/other.npy\t8\t\t10\ttrain\t1"), decode=True)
    assert mixed.trials["sub-02_ses-a_task-betas_run-2"].n_trials == 3, "as when the decoder was trained"


def test_the_task_of_the_request_is_that_of_rows_without_one(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, *ROWS), task="nsd").runs[0].task == "nsd"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("\ta\t1\tx.npy\t0\ts\t0\t\t1", r"manifest\.tsv: row 2: no participant_id"),
        ("0_1\ta\t1\tx.npy\t0\ts\t0\t\t1", "row 2: participant_id 0_1: BIDS labels"),
        ("01\ta/b\t1\tx.npy\t0\ts\t0\t\t1", "row 2: session a/b: BIDS labels"),
        ("01\ta\tone\tx.npy\t0\ts\t0\t\t1", "row 2: run one: runs are numbers"),
        ("01\ta\t1\tx.mat\t0\ts\t0\t\t1", r"row 2: file x\.mat: expected a NIfTI image"),
        ("01\ta\t1\t\t0\ts\t0\t\t1", "row 2: file n/a: expected"),
        ("01\ta\t1\tx.h5\t0\ts\t0\t\t1", r"row 2: file x\.h5: the dataset in the file is not named"),
        ("01\ta\t1\tx.npy:/b\t0\ts\t0\t\t1", r"row 2: file x\.npy:/b: only HDF5 files hold datasets"),
        ("01\ta\t1\tx.npy\t-1\ts\t0\t\t1", "row 2: index -1: expected a whole number from 0 on"),
        ("01\ta\t1\tx.npy\t0.5\ts\t0\t\t1", r"row 2: index 0\.5: expected"),
        ("01\ta\t1\tx.npy\tn/a\ts\t0\t\t1", "row 2: index n/a: expected"),
        ("01\ta\t1\tx.npy\tinf\ts\t0\t\t1", "row 2: index inf: not a number"),
        ("01\ta\t1\tx.npy\t0\ts\tlate\t\t1", "row 2: onset late: not a number"),
        ("01\ta\t1\tx.npy\t0\ts\t0\t\t0", "row 2: scale 0: expected what stored values"),
        ("02\ta\t2\tb/../b/two.h5:/betas\t3\ts\t0\t\t1", r"rows 1 and 2 name the same response: b/\.\./b/two\.h5"),
        ("02\ta\t2\tx_space-T1w_b.nii\t0\ts\t0\t\t1", r"rows 1 and 2 are of one run, .* \(native and T1w\)"),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_read_are_named_by_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(write(tmp_path, ROWS[0], row))


def test_tables_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column file, index; columns are participant_id"):
        read_manifest(write(tmp_path, "01", header="participant_id"))
    with pytest.raises(DataError, match="a header but no rows"):
        read_manifest(write(tmp_path))
    with pytest.raises(MissingInputError, match=r"gone\.tsv"):
        read_manifest(tmp_path / "gone.tsv")


def test_onsets_that_start_anew_need_a_column_run(tmp_path: Path) -> None:
    header = "participant_id\tfile\tindex\tstimulus_id\tonset"
    rows = ["01\tx.npy\t0\ta\t300", "01\tx.npy\t1\tb\t0"]
    with pytest.raises(DataError, match=r"go back from 300 s \(row 1\) to 0 s \(row 2\)"):
        read_manifest(write(tmp_path, *rows, header=header))


@pytest.mark.parametrize(
    ("space", "entities"),
    [("space-T1w", {"space": "T1w"}), ("MNI152NLin6Asym:res-2", {"space": "MNI152NLin6Asym", "res": "2"})],
)
def test_a_column_space_goes_before_the_name(tmp_path: Path, space: str, entities: dict[str, str]) -> None:
    header = "participant_id\tfile\tindex\tstimulus_id\tspace"
    found = read_manifest(write(tmp_path, f"01\tx_space-func_b.nii\t0\ta\t{space}", header=header))
    assert {k: v for k, v in found.runs[0].entities.items() if k not in {"sub", "task"}} == entities
    with pytest.raises(DataError, match="space MNI 2mm: expected a name"):
        read_manifest(write(tmp_path, "01\tx.npy\t0\ta\tMNI 2mm", header=header))
    with pytest.raises(DataError, match=r"axes nxyz: expected one of .* HDF5 and \.npy files only"):
        read_manifest(
            write(tmp_path, "01\tx.nii\t0\ta\tnxyz", header="participant_id\tfile\tindex\tstimulus_id\taxes")
        )
