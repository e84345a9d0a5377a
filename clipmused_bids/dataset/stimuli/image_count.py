"""How many images a dataset offers: a number that every job sees alike, whoever's events it reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.config import hdf5_place
from clipmused_bids.dataset.events.stimulus_columns import IMAGE_EXTENSIONS
from clipmused_bids.dataset.files.hdf5 import dataset_of, open_hdf5


def count_images(bids_dir: Path, stimuli_dirs: Sequence[str]) -> int:
    """Count the image files below ``<bids_dir>/stimuli`` and ``--stimuli-dir``, and the rows of image banks.

    Links to folders are not followed; dot-files do not count. What does not exist counts as nothing: looking for the
    stimuli says so.

    Parameters
    ----------
    bids_dir : Path
    stimuli_dirs : sequence of str
        Folders, or ``FILE.hdf5:/dataset``.
    """
    return _files(Path(bids_dir) / "stimuli") + sum(
        _files(Path(text)) if Path(text).is_dir() else _rows(text) for text in stimuli_dirs
    )


def _files(root: Path) -> int:
    n_files = 0
    for _, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        n_files += sum(name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".") for name in files)
    return n_files


def _rows(text: str) -> int:
    file, dataset = hdf5_place(text) or (text, "")
    if not dataset or not Path(file).is_file():
        return 0
    with open_hdf5(Path(file)) as bank:
        return int(dataset_of(bank, dataset).shape[0])
