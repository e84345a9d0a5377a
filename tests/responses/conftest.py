from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.records import Trials


def make_trials(onset, duration=1.0, *, condition=None, nuisance=()):
    """A run's trials; ``nuisance`` holds (onset, duration, kind)."""
    onset = np.asarray(onset, dtype=float)
    names = tuple(condition) if condition is not None else tuple(f"s{i}" for i in range(len(onset)))
    return Trials(
        onset=onset,
        duration=np.broadcast_to(np.asarray(duration, dtype=float), onset.shape).copy(),
        stimulus_id=names,
        condition=names,
        columns={},
        nuisance_onset=np.array([event[0] for event in nuisance], dtype=float),
        nuisance_duration=np.array([event[1] for event in nuisance], dtype=float),
        nuisance_kind=tuple(event[2] for event in nuisance),
        n_rows=len(onset) + len(nuisance),
        n_rows_in_trials=len(onset),
        excluded={},
    )


class Haxby:
    """Twelve runs of one participant, TR 2.5 s, 121 volumes, 8 blocks of 22.5 s."""

    repetition_time = 2.5

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = folder / "derivatives" / "minimal" / "sub-1" / "func" / "sub-1_task-objectviewing"
        self.mask_path = Path(f"{self.prefix}_desc-brain_mask.nii.gz")

    def image_path(self, run: int) -> Path:
        return Path(f"{self.prefix}_run-{run}_desc-preproc_bold.nii.gz")

    def bold(self, run: int) -> np.ndarray:
        import nibabel

        mask = np.asarray(nibabel.load(self.mask_path).dataobj) > 0
        return np.asarray(nibabel.load(self.image_path(run)).dataobj, dtype=np.float32)[mask].T

    def trials(self, run: int) -> Trials:
        import pandas as pd

        path = self.folder / "sub-1" / "func" / f"sub-1_task-objectviewing_run-{run:02d}_events.tsv"
        table = pd.read_csv(path, sep="\t")
        return make_trials(table["onset"], table["duration"], condition=table["trial_type"])


@pytest.fixture(scope="session")
def trials_of():
    return make_trials


@pytest.fixture(scope="session")
def haxby() -> Haxby:
    if not (root := os.environ.get("CLIPMUSED_TEST_DATA")):
        pytest.skip("CLIPMUSED_TEST_DATA is not set: haxby1 is needed")
    return Haxby(Path(root) / "haxby1")
