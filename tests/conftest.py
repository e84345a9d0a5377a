"""Trials with a known answer, for every room that reads ``TrialData``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from clipmused_bids.records import Grid, ResponseTable, Targets, TrialData, VoxelSpace

# How fast this machine is at the moment is no property of the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture(autouse=True)
def package_log() -> None:
    """Let tests listen to the package's log: the command, in fixtures too, sends it to the terminal alone."""
    logger = logging.getLogger("clipmused_bids")
    logger.handlers[:] = []
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def response_table(blocks: list[np.ndarray]) -> ResponseTable:
    n_voxels = blocks[0].shape[1]
    return ResponseTable(
        blocks=tuple(block.astype(np.float32) for block in blocks),
        columns=(np.arange(n_voxels),) * len(blocks),
        mean=(np.zeros(n_voxels, np.float32),) * len(blocks),
        sd=(np.ones(n_voxels, np.float32),) * len(blocks),
    )


def planted_trials(
    *,
    n_participants: int = 2,
    n_trials: int = 60,
    n_voxels: int = 40,
    n_labels: int = 4,
    n_regions: int = 4,
    effect: float = 1.0,
    common_space: bool = True,
    same_stimuli: bool = True,
    targets: bool = True,
    seed: int = 0,
) -> TrialData:
    """Responses that are a linear function of the labels plus noise; runs of ten trials are the groups."""
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((n_labels, n_voxels))
    n_sets = 1 if same_stimuli else n_participants
    stimulus_labels = (generator.random((n_sets * n_trials, n_labels)) < 0.4).astype(np.float64)
    tables, rows = [], []
    for p in range(n_participants):
        own = np.arange(n_trials) + (0 if same_stimuli else p * n_trials)
        values = effect * stimulus_labels[own] @ weights + generator.standard_normal((n_trials, n_voxels))
        if not common_space:
            values = values[:, generator.permutation(n_voxels)]
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        tables.append(response_table(np.array_split(values, 3)))
        rows.append(own)
    grid = Grid((4, 5, max(2, -(-n_voxels // 20))), np.eye(4))
    space = VoxelSpace(
        grid=grid,
        voxels=np.sort(generator.permutation(np.prod(grid.shape))[:n_voxels]),
        region=np.arange(n_voxels) * n_regions // n_voxels if n_regions else np.full(n_voxels, -1),
        region_names=tuple(f"region{r}" for r in range(n_regions)),
    )
    names = tuple(f"image{k:04d}" for k in range(n_sets * n_trials))
    stimulus = np.concatenate(rows)
    features = {
        "low": generator.standard_normal((len(names), 12)),
        "high": stimulus_labels @ generator.standard_normal((n_labels, 8)) + 0.1,
    }
    features = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in features.items()}
    return TrialData(
        participants=tuple(f"{p + 1:02d}" for p in range(n_participants)),
        responses=tuple(tables),
        spaces=(space,) * n_participants,
        common_space=common_space,
        participant=np.repeat(np.arange(n_participants), n_trials),
        row=np.tile(np.arange(n_trials), n_participants),
        labels=stimulus_labels[stimulus].astype(np.float32),
        label_names=tuple(f"label{c}" for c in range(n_labels)),
        single_label=False,
        stimulus=stimulus if targets else np.full(len(stimulus), -1),
        stimulus_id=tuple(names[k] for k in stimulus),
        targets=Targets(names, features["low"], features["high"], "image+text", "demo", "0")
        if targets
        else None,
        group=np.tile(np.arange(n_trials) // 10, n_participants),
    )


@pytest.fixture(scope="session", autouse=True)
def empty_template_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An archive of templates without any, so that results do not depend on what this machine has."""
    home = tmp_path_factory.mktemp("templateflow")
    before = os.environ.get("TEMPLATEFLOW_HOME")
    os.environ["TEMPLATEFLOW_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["TEMPLATEFLOW_HOME"]
    else:
        os.environ["TEMPLATEFLOW_HOME"] = before


@pytest.fixture
def make_trials() -> Callable[..., TrialData]:
    return planted_trials


@pytest.fixture
def make_table() -> Callable[[list[np.ndarray]], ResponseTable]:
    return response_table
