from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.betas import arrays as betas_arrays
from clipmused_bids.dataset.betas import readers as betas_readers
from clipmused_bids.dataset.betas.arrays import layout_of, row_blocks
from clipmused_bids.dataset.betas.readers import betas_mask, check_betas, read_betas
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import BetaRows, Grid, Run

SHAPE = (4, 5, 3)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.5, 1.0]))
MASK = np.random.default_rng(1).random(SHAPE) < 0.5
VALUES = np.random.default_rng(2).integers(-32768, 32767, size=(9, *SHAPE)).astype(np.int16)


def rows_of(path: Path, index: tuple[int, ...], **changes: object) -> BetaRows:
    options: dict[str, object] = {
        "dataset": "/deep/betas" if path.suffix == ".h5" else None,
        "axes": None,
        "trial": tuple(range(len(index))),
        "scale": (1.0,) * len(index),
        "line": tuple(range(1, len(index) + 1)),
    }
    return BetaRows(path=path, index=index, **(options | changes))  # type: ignore[arg-type]


def run_of(*betas: BetaRows, number: int = 1) -> Run:
    entities = {"sub": "01", "task": "x", "run": str(number)}
    return Run("01", None, "x", number, entities, None, None, "betas", betas=betas)


def in_order(values: np.ndarray, axes: str) -> np.ndarray:
    """``values`` of (n, x, y, z) with the axes as named."""
    return values.transpose(["nxyz".index(axis) for axis in axes])


def save(folder: Path, name: str, array: np.ndarray, **options: object) -> Path:
    path = folder / name
    if name.endswith(".h5"):
        with h5py.File(path, "w") as file:
            file.create_dataset("deep/betas", data=array, **options)
    elif name.endswith(".npy"):
        np.save(path, array)
    else:
        nibabel.Nifti1Image(np.moveaxis(array, 0, 3), GRID.affine).to_filename(path)
    return path


def read(*runs: Run) -> list[np.ndarray]:
    return [values for _, values in read_betas(runs, mask=MASK, grid=GRID)]


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.h5", "x.npy"])
@pytest.mark.parametrize("index", [(0,), (8, 2, 5), (3, 4, 5, 0)])
def test_rows_come_in_the_order_asked_for_and_exact(tmp_path, name, index):
    (values,) = read(run_of(rows_of(save(tmp_path, name, VALUES), index)))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, VALUES[list(index)][:, MASK])


def test_each_row_has_its_scale(tmp_path):
    path = save(tmp_path, "x.npy", VALUES[:, MASK])
    (values,) = read(run_of(rows_of(path, (1, 0), scale=(300.0, 1.0))))
    np.testing.assert_array_equal(values[0], (VALUES[1][MASK] / 300.0).astype(np.float32))
    np.testing.assert_array_equal(values[1], VALUES[0][MASK])


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_blocks_are_fancy_indexing_whatever_the_axes_and_chunks(tmp_path_factory, data):
    axes = data.draw(st.sampled_from(["nxyz", "nzyx", "xyzn", "zyxn"]))
    array = np.ascontiguousarray(in_order(VALUES, axes))
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, 8), min_size=1))))
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, length) for length in array.shape)))
    budget = data.draw(st.sampled_from([1, 200, 2000, 10**6]))
    file = save(tmp_path_factory.mktemp("h5"), "x.h5", array, chunks=chunks)
    with pytest.MonkeyPatch.context() as patch, h5py.File(file) as opened:
        patch.setattr(betas_arrays, "BLOCK_BYTES", budget)
        for source in (opened["deep/betas"], array, np.asfortranarray(array)):
            layout = layout_of(source.shape, MASK, axes=axes, name="x")
            found = np.full((len(rows), MASK.sum()), np.nan)
            for at, voxels, block in row_blocks(source, layout, rows):
                assert np.isnan(found[np.ix_(at, voxels)]).all(), "read twice"
                found[np.ix_(at, voxels)] = block
            np.testing.assert_array_equal(found, VALUES[rows][:, MASK])


class Watched:
    """An array that notes the shape of each block it is asked for."""

    def __init__(self, array, chunks=None):
        self.array, self.chunks, self.asked = array, chunks, []
        self.dtype, self.shape, self.ndim, self.flags = array.dtype, array.shape, array.ndim, array.flags

    def __getitem__(self, cut):
        self.asked.append(self.array[cut].shape)
        return self.array[cut]


@pytest.mark.parametrize(
    ("axes", "chunks", "asked"),
    [
        # Chunks that hold all trials of a slice: slice by slice, along the axis that has most of them.
        ("nzyx", (9, 1, 5, 4), [(9, 1, 5, 4)] * 3),
        ("nzyx", (9, 3, 5, 1), [(9, 3, 5, 1)] * 4),
        # Without chunks: trial by trial where a trial lies in one piece, else all trials of a slice.
        ("nzyx", None, [(3, 3, 5, 4)] * 3),
        ("xyzn", None, [(4, 1, 3, 9)] * 5),
    ],
)
def test_blocks_are_small_and_follow_the_chunks(monkeypatch, axes, chunks, asked):
    monkeypatch.setattr(betas_arrays, "BLOCK_BYTES", 9 * 20 * 2)
    array = Watched(np.ascontiguousarray(in_order(VALUES, axes)), chunks)
    list(row_blocks(array, layout_of(array.shape, MASK, axes=axes, name="x"), np.arange(9)))
    assert array.asked == asked


def test_only_blocks_with_wanted_rows_are_read(monkeypatch):
    monkeypatch.setattr(betas_arrays, "BLOCK_BYTES", 3 * 60 * 2)
    array = Watched(VALUES)
    list(row_blocks(array, layout_of(array.shape, MASK, axes=None, name="x"), np.array([0, 1, 7])))
    assert array.asked == [(2, *SHAPE), (1, *SHAPE)]


def test_runs_of_one_file_are_read_together_as_far_as_memory_allows(tmp_path, monkeypatch):
    path = save(tmp_path, "x.nii.gz", VALUES)
    runs = [run_of(rows_of(path, index), number=k) for k, index in enumerate([(0, 1), (2,), (7, 5, 3)])]
    opened = []
    streamed = betas_readers.volume_blocks
    monkeypatch.setattr(
        betas_readers, "volume_blocks", lambda *args: opened.append(args[1]) or streamed(*args)
    )
    for limit, n_passes in ((2**30, 1), (4 * int(MASK.sum()) * 3, 2), (1, 3)):
        opened.clear()
        monkeypatch.setattr(betas_readers, "BATCH_BYTES", limit)
        for values, index in zip(read(*runs), [(0, 1), (2,), (7, 5, 3)], strict=True):
            np.testing.assert_array_equal(values, VALUES[list(index)][:, MASK])
        assert len(opened) == n_passes


def test_runs_of_different_files_are_never_held_together(tmp_path):
    files = [tmp_path / name for name in "aab"]
    runs = [run_of(rows_of(file, (k,)), number=k) for k, file in enumerate(files)]
    batches = list(betas_readers._batches(runs, n_voxels=10))
    assert [[run.run for run in batch] for batch in batches] == [[0, 1], [2]]


def test_one_run_may_lie_in_several_files(tmp_path):
    first, second = save(tmp_path, "a.npy", VALUES[:4]), save(tmp_path, "b.h5", in_order(VALUES[4:], "nzyx"))
    (values,) = read(run_of(rows_of(first, (3, 0), trial=(0, 2)), rows_of(second, (1,), trial=(1,))))
    np.testing.assert_array_equal(values, VALUES[[3, 5, 0]][:, MASK])


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((9, 61), None, r"its shape \(9, 61\) does not fit the mask: \(n, {n}\)"),
        ((9, 3, 4, 5), None, r"four axes, n first or last and \(4, 5, 3\)"),
        ((4, 5, 3), None, "does not fit"),
        ((9, *SHAPE), "nzyx", "does not fit"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(shape, axes, message):
    with pytest.raises(DataError, match=message.format(n=int(MASK.sum()))):
        layout_of(shape, MASK, axes=axes, name="x.npy")


def test_a_turned_table_is_told(tmp_path):
    with pytest.raises(DataError, match="transpose the array"):
        layout_of((int(MASK.sum()), 9), MASK, axes=None, name="x.npy")


def test_shapes_that_fit_in_two_ways_are_refused_and_the_manifest_may_say(tmp_path):
    cube = np.random.default_rng(0).random((3, 4, 3)) < 0.7
    with pytest.raises(
        DataError, match=r"fits the mask's grid \(3, 4, 3\) in several ways: nxyz, nzyx"
    ) as error:
        layout_of((9, 3, 4, 3), cube, axes=None, name="x.npy")
    assert "column axes" in str(error.value.hint)
    values = np.random.default_rng(1).normal(size=(9, 3, 4, 3))
    for axes in ("nxyz", "nzyx"):
        array = in_order(values, axes)
        ((_, _, block),) = row_blocks(array, layout_of(array.shape, cube, axes=axes, name="x"), np.arange(9))
        np.testing.assert_array_equal(block, values[:, cube])


def test_files_that_cannot_serve_are_named(tmp_path):
    def refused(path: Path, message: str, **changes: object) -> None:
        with pytest.raises(DataError, match=message):
            check_betas([run_of(rows_of(path, (0,), **changes))], mask=MASK, grid=GRID)

    pickled = tmp_path / "objects.npy"
    np.save(pickled, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    refused(pickled, r"objects\.npy: no plain array of numbers .* pickled objects are never read")
    (tmp_path / "bare.npy").write_bytes(b"\x80\x04}q\x00.")
    refused(tmp_path / "bare.npy", r"bare\.npy: no plain array of numbers")
    refused(save(tmp_path, "text.npy", np.array([["a"]])), r"text\.npy: values of type <U1")
    refused(
        save(tmp_path, "complex.h5", VALUES.astype(complex)),
        r"complex\.h5:/deep/betas: values of type complex128",
    )
    path = save(tmp_path, "x.h5", VALUES)
    refused(path, r"x\.h5: no dataset /betas; datasets in it: /deep/betas", dataset="/betas")
    refused(path, r"x\.h5: no dataset /deep; datasets in it: /deep/betas", dataset="/deep")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-500])
    refused(tmp_path / "cut.h5", r"cut\.h5: not a readable HDF5 file, truncated or damaged")
    whole = save(tmp_path, "y.npy", VALUES)
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-5])
    refused(tmp_path / "cut.npy", r"cut\.npy: no plain array")
    still = tmp_path / "still.nii"
    nibabel.Nifti1Image(VALUES[0], GRID.affine).to_filename(still)
    refused(still, r"still\.nii: shape \(4, 5, 3\); a 4-D series of responses")
    moved = tmp_path / "moved.nii"
    nibabel.Nifti1Image(np.moveaxis(VALUES, 0, 3), np.eye(4)).to_filename(moved)
    refused(moved, r"moved\.nii: its grid .* is not that of the mask")
    with pytest.raises(MissingInputError, match=r"gone\.npy"):
        check_betas([run_of(rows_of(tmp_path / "gone.npy", (0,)))], mask=MASK, grid=GRID)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.h5", "x.npy"])
def test_an_index_beyond_the_file_names_its_row(tmp_path, name):
    path = save(tmp_path, name, VALUES)
    check_betas([run_of(rows_of(path, (8,)))], mask=MASK, grid=GRID)
    with pytest.raises(DataError, match=r"--betas row 41: index 9 of .*, which holds 9 responses \(0 to 8\)"):
        check_betas([run_of(rows_of(path, (2, 9), line=(40, 41)))], mask=MASK, grid=GRID)


def test_images_bring_their_grid_and_arrays_need_a_mask(tmp_path, caplog):
    values = VALUES.astype(np.float32)
    values[:, 0, 0, 0] = 7
    values[3, 1, 1, 1] = np.nan
    image = run_of(rows_of(save(tmp_path, "x.nii.gz", values), (0, 1)))
    grid, inside = betas_mask([image], mask=None)
    assert grid.agrees_with(GRID)
    expected = np.ones(SHAPE, dtype=bool)
    expected[0, 0, 0] = expected[1, 1, 1] = False
    np.testing.assert_array_equal(inside, expected)
    array = run_of(rows_of(save(tmp_path, "x.npy", VALUES), (0, 1)), number=2)
    with pytest.raises(DataError, match=r"sub-01: .*x\.npy says nothing of where its voxels are") as error:
        betas_mask([image, array], mask=None)
    assert "--mask FILE" in str(error.value.hint)
    nibabel.Nifti1Image(MASK.astype(np.uint8), GRID.affine).to_filename(tmp_path / "01.nii")
    grid, inside = betas_mask([image, array], mask=str(tmp_path / "{participant}.nii"))
    np.testing.assert_array_equal(inside, MASK)
