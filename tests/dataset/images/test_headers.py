from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clipmused_bids.dataset.images.headers import read_series_header
from clipmused_bids.errors import DataError, MissingInputError


def saved(path: Path, shape: tuple[int, ...], dtype: type = np.int16) -> Path:
    image = nibabel.Nifti1Image(np.ones(shape, dtype=dtype), np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(("dtype", "size"), [(np.int16, 2), (np.float32, 4), (np.uint8, 1)])
def test_sizes_without_any_voxel(tmp_path: Path, dtype: type, size: int) -> None:
    """Only the header is left of the file."""
    path = saved(tmp_path / "x.nii.gz", (3, 4, 5, 7), dtype)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352]))
    header = read_series_header(path)
    assert header.grid.shape == (3, 4, 5)
    assert header.grid.affine[2, 2] == 3
    assert (header.n_scans, header.bytes_per_voxel, header.n_bytes) == (7, size, 420 * size)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a 4-D series was expected"):
        read_series_header(saved(tmp_path / "x.nii", (3, 4, 5)))
    with pytest.raises(MissingInputError):
        read_series_header(tmp_path / "y.nii")
    (tmp_path / "z.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="truncated or damaged"):
        read_series_header(tmp_path / "z.nii.gz")
