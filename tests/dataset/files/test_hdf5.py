from __future__ import annotations

import fcntl
from pathlib import Path

import h5py
import numpy as np
import pytest

from clipmused_bids.dataset.files.hdf5 import dataset_names, dataset_of, open_hdf5
from clipmused_bids.errors import DataError, MissingInputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.hdf5"
    with h5py.File(path, "w") as made:
        made["b/deep"] = np.arange(3)
        made["a"] = np.arange(2)
        made["gone"] = h5py.SoftLink("/nowhere")
    return path


def test_datasets_are_found_and_named_from_the_root(file: Path) -> None:
    with open_hdf5(file) as opened:
        assert dataset_names(opened) == ("/a", "/b/deep")
        assert dataset_of(opened, "/b/deep")[()].tolist() == [0, 1, 2]
        assert dataset_of(opened, "a").shape == (2,)


@pytest.mark.parametrize("name", ["/c", "/b", "/gone"])
def test_what_is_no_dataset_is_refused_with_those_there_are(file: Path, name: str) -> None:
    with (
        open_hdf5(file) as opened,
        pytest.raises(
            DataError, match=rf"some\.hdf5: no dataset {name}; datasets in it: /a, /b/deep\.\nhint: so"
        ),
    ):
        dataset_of(opened, name, hint="so")


def test_files_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError), open_hdf5(tmp_path / "none.hdf5"):
        pass
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"some\.hdf5: not a readable HDF5 file"), open_hdf5(file):
        pass


def test_a_file_that_another_program_has_locked_is_read(file: Path) -> None:
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with open_hdf5(file) as opened:
            assert dataset_of(opened, "/a").shape == (2,)
