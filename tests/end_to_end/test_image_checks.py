"""Images that cannot be right, through the command: what is refused, by the file's name, and what is counted."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clipmused_bids.dataset.files.scratch import ScratchSeries
from clipmused_bids.dataset.outputs.response_files import read_responses
from clipmused_bids.responses.projection import VOXEL_BLOCK
from clipmused_bids.stages import prepare as prepare_stage
from tests.end_to_end.conftest import Command, Done

SHAPE = (8, 7, 6)
N_SCANS = 60
TR = 2.0
NAME = "sub-01_task-x_space-T1w_desc-preproc_bold"
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
Change = Callable[[Path], None]


class Study:
    """One participant, one run, everything in the mask; the image may be written in another way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "derivatives" / "p" / "sub-01" / "func"
        self.folder.mkdir(parents=True)
        (root / "sub-01" / "func").mkdir(parents=True)
        self.values = np.random.default_rng(1).normal(1000, 10, size=(*SHAPE, N_SCANS)).astype(np.float32)
        self.set_onsets(np.arange(10) * 10.0)
        self.sidecar(RepetitionTime=TR)
        mask = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
        mask.to_filename(self.folder / "sub-01_task-x_space-T1w_desc-brain_mask.nii.gz")

    def set_onsets(self, onsets: np.ndarray) -> None:
        rows = "".join(f"{onset}\t1\t{'ab'[k % 2]}\n" for k, onset in enumerate(onsets))
        path = self.root / "sub-01" / "func" / "sub-01_task-x_events.tsv"
        path.write_text(f"onset\tduration\ttrial_type\n{rows}")

    def sidecar(self, **fields: object) -> None:
        (self.root / "task-x_bold.json").write_text(json.dumps(fields))

    def save(
        self,
        values: np.ndarray | None = None,
        *,
        extension: str = ".nii.gz",
        tr: float = TR,
        header: Callable[[nibabel.Nifti1Header], None] = lambda _: None,
    ) -> Path:
        image = nibabel.Nifti1Image(self.values if values is None else values, AFFINE)
        image.header.set_zooms((*image.header.get_zooms()[:3], tr)[: image.ndim])
        image.header.set_xyzt_units("mm", "sec")
        header(image.header)
        path = self.folder / f"{NAME}{extension}"
        image.to_filename(path)
        return path

    def edit(self, change: Callable[[bytearray], bytes | bytearray], *, extension: str = ".nii.gz") -> None:
        """Change the bytes of the uncompressed file."""
        path = self.save(extension=extension)
        if extension == ".nii":
            path.write_bytes(change(bytearray(path.read_bytes())))
        else:
            path.write_bytes(gzip.compress(change(bytearray(gzip.decompress(path.read_bytes())))))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "bids")


@pytest.fixture
def prepare(study: Study, command: Command, tmp_path: Path) -> Callable[..., Done]:
    def run(*options: object, keep: bool = False) -> Done:
        if not keep:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return command(
            study.root, tmp_path / "out", "participant", "--prepare", "--method", "ridge", *options
        )

    return run


def stored(tmp_path: Path):
    (path,) = (tmp_path / "out").glob("sub-01/func/*_responses.safetensors")
    return read_responses(path)


def holes(study: Study, n_voxels: int, value: float) -> np.ndarray:
    values = study.values.copy()
    values.reshape(-1, N_SCANS)[:n_voxels, 3] = value
    return values


def zero_affine(raw: bytearray) -> bytearray:
    raw[252:256] = (0).to_bytes(2, "little") + (1).to_bytes(2, "little")  # qform_code, sform_code
    raw[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    return raw


def more_volumes(raw: bytearray) -> bytearray:
    raw[48:50] = (N_SCANS + 5).to_bytes(2, "little")  # dim[4]
    return raw


def fewer_volumes(raw: bytearray) -> bytearray:
    raw[48:50] = (N_SCANS - 5).to_bytes(2, "little")
    return raw


def corrupt_in_the_middle(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 200] = bytes(255 - byte for byte in raw[middle : middle + 200])
    path.write_bytes(raw)


def one_wrong_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # of the checksum at the end
    path.write_bytes(raw)


REFUSED: dict[str, tuple[Callable[[Study], object], str]] = {
    "all zero": (lambda s: s.save(np.zeros_like(s.values)), "the image is constant"),
    "one value": (lambda s: s.save(np.full_like(s.values, 7)), "the image is constant"),
    "many NaN": (lambda s: s.save(holes(s, 40, np.nan)), "11.9% of the voxels in the mask hold NaN or infinite"),
    "many infinite": (lambda s: s.save(holes(s, 40, np.inf)), "11.9% of the voxels in the mask hold NaN or infinite"),
    "one volume": (lambda s: s.save(s.values[..., 0]), "3-D image of shape (8, 7, 6); a 4-D series was expected"),
    "zero affine": (lambda s: s.edit(zero_affine), "the affine does not place voxels in space"),
    "too short": (lambda s: s.edit(lambda raw: raw[:-300], extension=".nii"), "(300 bytes are lacking)"),
    "too short, compressed": (lambda s: s.edit(lambda raw: raw[:-300]), "damaged (300 bytes are lacking)"),
    "too long": (lambda s: s.edit(lambda raw: raw + bytes(10), extension=".nii"), "10 bytes follow the last of the 60"),
    "too long, compressed": (lambda s: s.edit(lambda raw: raw + bytes(10)), "10 bytes follow the last of"),
    "header promises more": (lambda s: s.edit(more_volumes), "truncated or damaged"),
    "header promises less": (lambda s: s.edit(fewer_volumes), "follow the last of the 55 volumes of shape (8, 7, 6)"),
    "truncated gzip": (lambda s: s.save().write_bytes(s.save().read_bytes()[:-5000]), "truncated or damaged"),
    "truncated in the checksum": (lambda s: s.save().write_bytes(s.save().read_bytes()[:-3]), "truncated or damaged"),
    "corrupt in the middle": (lambda s: corrupt_in_the_middle(s.save()), "truncated or damaged"),
    "wrong checksum": (lambda s: one_wrong_bit(s.save()), "truncated or damaged (CRC check failed"),
    "complex numbers": (lambda s: s.save(s.values.astype(np.complex64)), "voxels of type complex64"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(study: Study, prepare: Callable[..., Done], tmp_path: Path, what: str) -> None:
    damage, message = REFUSED[what]
    damage(study)
    done = prepare()
    assert done.returncode == 65, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:") and message in line][:1]
    assert f"{NAME}.nii" in line
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("*_responses.safetensors"))


def scaled_header(header: nibabel.Nifti1Header) -> None:
    header.set_slope_inter(0.25, 500)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f4", "<f8", "u1"])
def test_every_way_to_store_numbers_gives_the_responses_of_the_numbers(
    study: Study, prepare: Callable[..., Done], tmp_path: Path, dtype: str, extension: str
) -> None:
    whole = np.random.default_rng(2).integers(100, 200, size=(*SHAPE, N_SCANS))
    integers = np.dtype(dtype).kind in "iu"
    study.save((whole * 0.25 + 500).astype(np.float32) if integers else whole.astype(np.float32))
    assert prepare().returncode == 0
    expected = stored(tmp_path).decoded()
    (study.folder / f"{NAME}.nii.gz").unlink()

    def header(fields: nibabel.Nifti1Header) -> None:
        if integers:
            scaled_header(fields)

    image = nibabel.Nifti1Image(
        whole.astype(dtype), AFFINE, nibabel.Nifti1Header(endianness=dtype[0] if dtype[0] in "<>" else "<")
    )
    image.set_data_dtype(dtype)
    image.header.set_zooms((3, 3, 3, TR))
    image.header.set_xyzt_units("mm", "sec")
    header(image.header)
    image.to_filename(study.folder / f"{NAME}{extension}")
    assert prepare().returncode == 0
    np.testing.assert_allclose(stored(tmp_path).decoded(), expected, rtol=1e-4, atol=1e-4)


def test_few_bad_voxels_are_left_out_and_counted(
    study: Study, prepare: Callable[..., Done], tmp_path: Path
) -> None:
    values = holes(study, 5, np.nan)
    values.reshape(-1, N_SCANS)[7:10] = 3
    study.save(values)
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert (
        f"{NAME}.nii.gz: of 336 voxels in the mask, 5 hold NaN or infinite values and 3 never change"
        in done.stderr
    )
    responses = stored(tmp_path)
    assert np.flatnonzero(~responses.valid).tolist() == [0, 1, 2, 3, 4, 7, 8, 9]
    assert not responses.decoded()[:, ~responses.valid].any()
    assert responses.decoded()[:, responses.valid].any(axis=0).all()
    sidecar = json.loads(responses.path.with_suffix(".json").read_text())
    assert sidecar["NumberOfVoxelsWithoutSignal"] == 8


def test_the_repetition_time_of_the_sidecar_wins(
    study: Study, prepare: Callable[..., Done], tmp_path: Path
) -> None:
    study.save()
    assert "repetition time" not in prepare().stderr
    expected = stored(tmp_path).decoded()
    study.save(tr=TR + 0.0009)
    assert "repetition time" not in prepare().stderr
    study.save(tr=1.0)
    done = prepare()
    assert (
        f"2 s in the sidecar and 1 s in the image header ({NAME}.nii.gz); the sidecar is used" in done.stderr
    )
    np.testing.assert_array_equal(stored(tmp_path).decoded(), expected)
    study.sidecar(SkullStripped=False)
    # Without a sidecar the header counts: half as long a run, and trials beyond it.
    done = prepare()
    assert done.returncode == 65
    assert "trials start after the run" in done.stderr


def test_trials_beyond_the_run_are_counted_and_too_many_refused(
    study: Study, prepare: Callable[..., Done], tmp_path: Path
) -> None:
    study.save()
    # The run lasts 120 s; a trial needs 5 s of data.
    study.set_onsets(np.array([0, 10, 20, 30, 40, 50, 60, 70, 115.0, 115.1]))
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert "1 trial(s) left out" in done.stderr
    assert dict(stored(tmp_path).dropped) == {"beyond the run": 1}
    study.set_onsets(np.array([0, 10, 20, 30, 40, 50, 60, 116, 118, 130.0]))
    done = prepare()
    assert done.returncode == 65
    assert f"({NAME}.nii.gz): 3 of 10 trials start after the run or within the last 5 s" in done.stderr


def test_smoothed_responses_are_those_of_the_smoothed_image(
    study: Study, prepare: Callable[..., Done], tmp_path: Path
) -> None:
    from nilearn.image import smooth_img

    path = study.save()
    assert prepare("--smoothing-fwhm", 5).returncode == 0
    smoothed = stored(tmp_path)
    assert smoothed.config["smoothing_fwhm"] == 5.0
    done = prepare(keep=True)
    assert done.returncode == 73
    assert "smoothing_fwhm" in done.stderr
    smooth_img(str(path), 5).to_filename(path)
    assert prepare().returncode == 0
    plain = stored(tmp_path)
    assert "smoothing_fwhm" not in plain.config
    np.testing.assert_allclose(smoothed.decoded(), plain.decoded(), rtol=1e-3, atol=1e-5)
    assert prepare("--smoothing-fwhm", 0, keep=True).returncode == 0, "no smoothing is no other configuration"


def test_memory_that_cannot_suffice_is_refused_with_what_is_needed(
    study: Study, prepare: Callable[..., Done]
) -> None:
    study.save()
    done = prepare("--mem", "50M")
    assert done.returncode == 64
    assert "0 MB of memory are left for this run; it needs" in done.stderr
    assert "--mem" in done.stderr


def test_with_little_memory_the_series_is_in_a_scratch_file_and_the_responses_are_the_same(
    study: Study, prepare: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.save()
    assert prepare().returncode == 0
    expected = stored(tmp_path).decoded()
    seen = []
    estimate = prepare_stage.estimate_responses

    def spied(bold, **options):
        seen.append((type(bold), options["voxel_block"]))
        return estimate(bold, **options)

    monkeypatch.setattr(prepare_stage, "estimate_responses", spied)
    monkeypatch.setattr(
        prepare_stage, "usable_memory", lambda limit: 133 * 2**20 if limit == 2**30 else 2**40
    )
    done = prepare("--mem", "1G", "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert "the series (0 MB) is kept in a scratch file" in done.stderr
    assert seen[0][0] is ScratchSeries
    assert 1000 < seen[0][1] < VOXEL_BLOCK
    assert not list((tmp_path / "work").iterdir())
    np.testing.assert_array_equal(stored(tmp_path).decoded(), expected)
    assert prepare().returncode == 0
    assert seen[1] == (np.ndarray, VOXEL_BLOCK)


@pytest.mark.slow
def test_the_whole_process_stays_within_its_memory(study: Study, tmp_path: Path) -> None:
    """A series of 300 MB beside libraries of about 220 MB, within 450 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    shape, n_scans = (60, 60, 45), 480
    volume = np.random.default_rng(3).normal(1000, 10, size=shape).astype("<f4")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((*shape, n_scans))
    header.set_zooms((3, 3, 3, TR))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(AFFINE, 1)
    header.set_data_offset(352)
    with (study.folder / f"{NAME}.nii").open("wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        for scan in range(n_scans):
            stream.write(np.roll(volume, scan).tobytes(order="F"))
    mask = nibabel.Nifti1Image(np.ones(shape, np.uint8), AFFINE)
    mask.to_filename(study.folder / "sub-01_task-x_space-T1w_desc-brain_mask.nii.gz")
    words = [study.root, tmp_path / "out", "participant", "--prepare", "--method", "ridge", "--mem", "450M"]
    code = (
        "import sys; from pathlib import Path; from clipmused_bids.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print([line.split()[1] for line in lines if 'VmHWM' in line][0])\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is kept in a scratch file" in done.stderr
    assert int(done.stdout.split()[-1]) * 1024 < 450 * 2**20
