"""Real responses, for methods whose accuracy on them is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.records import ResponseTable, TrialData

DATA = os.environ.get("CLIPMUSED_TEST_DATA")


@pytest.fixture
def raider(make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]) -> TrialData:
    """Five people, eight runs, seven categories; values as they are stored, without standardisation."""
    if DATA is None:
        pytest.skip("CLIPMUSED_TEST_DATA is not set")
    template = make_trials(n_participants=5, n_trials=56, n_voxels=1000, common_space=False, n_regions=0)
    folder = Path(DATA) / "raider5"
    tables, category, run = [], [], []
    for p in range(1, 6):
        values = []
        for r in range(1, 9):
            name = f"sub-{p:02d}_task-categories_run-{r:02d}"
            events = pd.read_csv(folder / f"sub-{p:02d}/func/{name}_events.tsv", sep="\t")
            image = folder / f"derivatives/betas/sub-{p:02d}/func/{name}_desc-block_statmap.nii.gz"
            volumes = np.asarray(nib.load(image).dataobj)
            values.append(volumes.reshape(-1, volumes.shape[-1]).T)
            category += list(events["trial_type"])
            run += [r] * len(events)
        tables.append(make_table(values))
    names, index = np.unique(category, return_inverse=True)
    return replace(
        template,
        responses=tuple(tables),
        row=np.tile(np.arange(56), 5),
        labels=np.eye(7, dtype=np.float32)[index],
        label_names=tuple(names),
        single_label=True,
        stimulus_id=tuple(category),
        group=np.array(run),
    )
