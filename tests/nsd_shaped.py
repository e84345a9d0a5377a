"""Single-trial responses as NSD publishes them, small: int16 sessions of two people on two native grids."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import nibabel
import numpy as np

SCALE = 300
GRIDS = {"01": (6, 8, 5), "02": (7, 5, 9)}
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
SESSIONS = ("nsd01", "nsd02", "nsd03")
N_TRIALS = 40
LABELS = ("person", "dog", "chair")
Kind = Literal["h5", "nii.gz", "npy"]


def write_study(folder: Path, kind: Kind) -> Path:
    """Write sessions, masks (``sub-{participant}_mask.nii.gz``), ``labels.tsv`` and ``manifest.tsv``.

    Every third image of a person is shown in each session, and to both people; ids are rows of a bank of 73,000.
    Responses are the image's labels, seen through random weights, in percent signal, times 300, as whole numbers.
    """
    generator = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.sort(generator.choice(np.arange(1, 73_001), size=300, replace=False))
    labels = generator.random((len(ids), len(LABELS))) < 0.5
    cells = ["\t".join(map(str, (name, *row.astype(int)))) for name, row in zip(ids, labels, strict=True)]
    (folder / "labels.tsv").write_text("\n".join(["\t".join(("stimulus_id", *LABELS)), *cells]) + "\n")
    lines = ["participant_id\tsession\tfile\tindex\tstimulus_id\tscale"]
    for number, (participant, shape) in enumerate(GRIDS.items()):
        mask = generator.random(shape) < 0.6
        nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE).to_filename(
            folder / f"sub-{participant}_mask.nii.gz"
        )
        weights = generator.normal(size=(len(LABELS), *shape))
        for k, session in enumerate(SESSIONS):
            seen = np.concatenate([np.arange(12), 12 + (number * 3 + k) * 28 + np.arange(28)])
            generator.shuffle(seen)
            percent = np.tensordot(labels[seen] - 0.5, weights, axes=1)
            percent += generator.normal(scale=0.6, size=percent.shape)
            stored = np.round(SCALE * percent).astype(np.int16)
            file = write_session(folder / f"sub-{participant}_ses-{session}_betas", stored, mask, kind=kind)
            lines += [
                f"sub-{participant}\tses-{session}\t{file}\t{row}\t{ids[image]}\t{SCALE}"
                for row, image in enumerate(seen)
            ]
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def write_session(stem: Path, stored: np.ndarray, mask: np.ndarray, *, kind: Kind) -> str:
    """Write one session of (n, x, y, z); returns what a manifest calls it."""
    path = stem.with_name(f"{stem.name}.{kind}")
    if kind == "npy":
        np.save(path, stored[:, mask])
    elif kind == "nii.gz":
        nibabel.Nifti1Image(np.moveaxis(stored, 0, 3), AFFINE).to_filename(path)
    else:
        with h5py.File(path, "w") as file:
            # MATLAB, which wrote NSD's files, shows (x, y, z, n).
            file.create_dataset(
                "betas", data=stored.transpose(0, 3, 2, 1), chunks=(N_TRIALS, 2, *stored.shape[2:0:-1])
            )
        return f"{path.name}:/betas"
    return path.name
