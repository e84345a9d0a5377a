from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.simulation.brains import SceneBank, make_bank
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import draw_scenes, render
from clipmused_bids.simulation.study import Study
from clipmused_bids.simulation.writer import write_dataset

SMALL = SimulationParameters(
    n_participants=2, n_trials=24, n_runs=2, n_shared=4, n_repeats=2, n_repeated_own=2, n_bank=60, seed=3
)


# Three people, of whom everyone's repeated stimuli are the test set.
TINY = SimulationParameters(
    n_participants=3, n_trials=80, n_runs=2, n_shared=20, n_repeated_own=2, n_bank=160, snr=3.0
)


@pytest.fixture(scope="session")
def bank() -> SceneBank:
    scenes = draw_scenes(400, seed=12)
    return make_bank(scenes, np.stack([render(scene) for scene in scenes]), seed=12)


@pytest.fixture(scope="session")
def small() -> SimulationParameters:
    return SMALL


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    root = tmp_path_factory.mktemp("bids") / "scenes"
    return root, write_dataset(root, SMALL)
