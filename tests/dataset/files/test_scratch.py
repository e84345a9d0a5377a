from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.config import ResponseOptions
from clipmused_bids.dataset.files import memory
from clipmused_bids.dataset.files.scratch import gathered, gathered_on_disk
from clipmused_bids.dataset.images import nifti_stream
from clipmused_bids.dataset.images.series import read_bold, read_grid
from clipmused_bids.dataset.images.voxel_checks import VoxelChecks
from clipmused_bids.errors import DataError, OutputWriteError
from clipmused_bids.records import Run, Trials
from clipmused_bids.responses.estimate import estimate_responses

SHAPE = (6, 5, 4)
FRAMES = 40


def blocks_of(values: np.ndarray, *sizes: int):
    start = 0
    for size in sizes:
        yield values[start : start + size]
        start += size


def test_blocks_are_the_same_in_memory_and_on_disk_and_no_file_is_left(tmp_path):
    values = np.random.default_rng(0).normal(size=(9, 13)).astype(np.float32)
    held = gathered(blocks_of(values, 4, 4, 1), shape=values.shape)
    mapped = gathered_on_disk(blocks_of(values, 4, 4, 1), shape=values.shape, folder=tmp_path / "new")
    np.testing.assert_array_equal(held, values)
    assert (mapped.shape, len(mapped), mapped.dtype) == ((9, 13), 9, np.float32)
    for rows, columns in (
        (slice(None), slice(None)),
        (slice(2, 7), slice(3, 5)),
        (slice(None), slice(10, 99)),
    ):
        np.testing.assert_array_equal(mapped[rows, columns], values[rows, columns])
    assert not list((tmp_path / "new").iterdir())


def test_the_file_is_closed_with_the_series(tmp_path):
    mapped = gathered_on_disk([np.ones((2, 3), np.float32)], shape=(2, 3), folder=tmp_path)
    descriptor = mapped._descriptor
    os.fstat(descriptor)
    del mapped
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_strided_blocks_are_written_as_they_are_read(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    mapped = gathered_on_disk([values], shape=values.shape, folder=tmp_path)
    np.testing.assert_array_equal(mapped[:, :], values)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputWriteError, match=r"file: .*a scratch file of 3\.7 GB") as error:
        gathered_on_disk([], shape=(1000, 1_000_000), folder=tmp_path / "file")
    assert error.value.exit_code == 74
    assert "--work-dir" in str(error.value.hint)


@pytest.mark.parametrize(
    ("writer", "place", "hint"),
    [
        ("gathered_on_disk", "folder=folder", "with a larger --mem"),
        ("rows_on_disk", "path=folder / 'rows'", "without it none is needed"),
    ],
)
def test_a_full_disk_is_an_error_with_a_hint_and_not_the_end_of_the_process(tmp_path, writer, place, hint):
    """A limit on file sizes acts as a full disk does, in the middle of writing."""
    code = (
        "import resource, sys, numpy as np, pathlib\n"
        f"from clipmused_bids.dataset.files.scratch import {writer}\n"
        "from clipmused_bids.errors import OutputWriteError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "block = np.ones((100, 1000), np.float32)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        f"try: {writer}([block] * 10, shape=(1000, 1000), {place})\n"
        "except OutputWriteError as error: print(error); sys.exit(int(error.exit_code))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 74, done.stderr
    assert f"{tmp_path}: File too large; a scratch file of 0.0037 GB was to be written there." in done.stdout
    assert f"hint: --work-dir FOLDER names another disk; {hint}" in done.stdout


def save(path: Path, values: np.ndarray) -> Run:
    nibabel.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0])).to_filename(path)
    return Run("01", None, "x", None, {}, None, path, "bold")


def test_a_series_in_a_scratch_file_gives_the_same_responses(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", 3 * 4 * np.prod(SHAPE))
    rng = np.random.default_rng(3)
    values = rng.normal(500, 9, size=(*SHAPE, FRAMES)).astype(np.float32)
    values[0, 0, 0, 5] = np.nan
    values[1, 0, 0] = 2
    run = save(tmp_path / "x.nii.gz", values)
    mask = rng.random(SHAPE) > 0.2
    mask[0, 0, 0] = mask[1, 0, 0] = True
    grid = read_grid(run.image)
    held = read_bold(run, mask, grid)
    mapped = read_bold(run, mask, grid, in_memory=False, work_dir=tmp_path / "work")
    np.testing.assert_array_equal(mapped.values[:, :], held.values)
    np.testing.assert_array_equal(mapped.valid, held.valid)
    assert (mapped.n_nonfinite, mapped.n_constant) == (1, 1)
    onset = np.arange(6) * 11.0
    names = tuple("abcabc")
    trials = Trials(onset, np.ones(6), names, names, {}, np.empty(0), np.empty(0), (), 6, 6, {})
    found = [
        estimate_responses(
            series.values, valid=series.valid, trials=trials, options=ResponseOptions(), kind="lss",
            repetition_time=2.0, voxel_block=block,
        )
        for series, block in ((held, 8192), (mapped, 7))
    ]  # fmt: skip
    np.testing.assert_allclose(found[1].values, found[0].values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1].valid, held.valid)


def test_the_image_is_opened_once_to_be_read(tmp_path, monkeypatch):
    run = save(tmp_path / "x.nii.gz", np.random.default_rng(4).normal(size=(*SHAPE, 8)).astype(np.float32))
    grid = read_grid(run.image)
    opened = []
    stream = nifti_stream._stream
    monkeypatch.setattr(nifti_stream, "_stream", lambda path: opened.append(path) or stream(path))
    for in_memory in (True, False):
        read_bold(run, np.ones(SHAPE, bool), grid, in_memory=in_memory, work_dir=tmp_path)
    assert opened == [run.image] * 2


@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, np.nan, np.inf, -np.inf]), min_size=4, max_size=4), min_size=1,
        max_size=6,
    ),
    size=st.integers(1, 6),
)  # fmt: skip
@settings(deadline=None)
def test_checks_of_blocks_are_checks_of_the_whole(values, size):
    series = np.array(values, dtype=np.float32)
    checks = VoxelChecks(Path("x.nii"), n_scans=len(series), n_voxels=4)
    for start in range(0, len(series), size):
        block = series[start : start + size].copy()
        checks.look(block)
        np.testing.assert_array_equal(block, np.nan_to_num(series[start : start + size], posinf=0, neginf=0))
    finite = np.isfinite(series).all(axis=0)
    clean = np.where(np.isfinite(series), series, 0)
    varying = (clean != clean[0]).any(axis=0) if len(series) > 1 else clean[0] != 0
    np.testing.assert_array_equal(checks.valid, finite & varying)
    assert (checks.n_nonfinite, checks.n_constant) == ((~finite).sum(), (finite & ~varying).sum())


def test_a_series_of_few_bad_voxels_alone_is_refused_for_want_of_others():
    checks = VoxelChecks(Path("x.nii"), n_scans=2, n_voxels=100)
    block = np.ones((2, 100), np.float32)
    block[0, 0] = np.nan
    checks.look(block)
    with pytest.raises(DataError, match=r"x\.nii: the image is constant"):
        checks.require_most()


def _system(root: Path, *, available_kb: int, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {available_kb} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 800 * 1024),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/step/memory.max": "max\n",
          "sys/fs/cgroup/job/memory.max": "500000\n",
          "sys/fs/cgroup/job/memory.stat": "anon 120000\nfile 9999999\n"}, 380_000),
        ({"proc/self/cgroup": "4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "300000\n",
          "sys/fs/cgroup/memory/a/memory.stat": "rss 1\ntotal_rss 100000\n"}, 200_000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "100\n",
          "sys/fs/cgroup/memory.stat": "anon 200\n"}, 0),
    ],
)  # fmt: skip
def test_available_memory_is_within_the_limits_of_the_group(tmp_path, files, expected):
    assert memory.available_memory(root=_system(tmp_path, available_kb=800, files=files)) == expected


def test_held_memory_grows_by_what_is_held():
    """In a process of its own: this one may hold freed pages that are taken again."""
    code = (
        "import numpy as np; from clipmused_bids.dataset.files.memory import held_memory;"
        "before = held_memory(); held = np.ones(20_000_000); print(held_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(8 * 20_000_000, rel=0.1)
    assert 0 < memory.available_memory() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
