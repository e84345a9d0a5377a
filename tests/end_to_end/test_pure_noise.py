"""Responses without any signal decode at chance through the whole path; the same measure sees a signal."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import rankdata

from tests.end_to_end.conftest import Command

pytestmark = pytest.mark.slow
METHODS = ("clipmused", "clipmused+ridge", "clipmused+ridgepooled", "clipmused+ridgestack")
N_PERMUTATIONS = 400


def replace_by_noise(bids: Path, *, seed: int) -> None:
    """Autocorrelated noise, as large in every voxel as what it takes the place of, in all preprocessed images."""
    rng = np.random.default_rng(seed)
    for path in sorted((bids / "derivatives").rglob("*_desc-preproc_bold.nii.gz")):
        image = nibabel.load(path)
        bold = np.asarray(image.dataobj).astype(float)
        innovations = rng.normal(size=bold.shape)
        noise = lfilter([1.0], [1.0, -0.4], innovations, axis=-1) * np.sqrt(1 - 0.4**2)
        bold = bold.mean(axis=-1, keepdims=True) + bold.std(axis=-1, keepdims=True) * noise
        nibabel.save(nibabel.Nifti1Image(np.round(bold).astype(np.int16), image.affine, image.header), path)


def scores(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Mean AUC and mean average precision over labels with a positive and a negative, from ranks: (2,)."""
    found = []
    for y, p in zip(truth.T, probabilities.T, strict=True):
        n_positive = int(y.sum())
        if not 0 < n_positive < len(y):
            continue
        auc = (rankdata(p)[y == 1].sum() - n_positive * (n_positive + 1) / 2) / (
            n_positive * (len(y) - n_positive)
        )
        hits = np.flatnonzero(y[np.argsort(-p, kind="stable")]) + 1
        found.append((auc, np.mean(np.arange(1, n_positive + 1) / hits)))
    return np.mean(found, axis=0)


def against_permutations(bids: Path, out: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the test trials, (2,), and those with whole stimuli exchanged, (n, 2): means over participants."""
    stimuli = pd.read_csv(bids / "stimuli" / "stimuli.tsv", sep="\t").set_index("filename")
    people = []
    for participant in ("01", "02"):
        files = sorted(out.glob(f"sub-{participant}/func/*_desc-{label}_predictions.tsv"))
        table = pd.concat([pd.read_csv(path, sep="\t") for path in files])
        people.append(table[table["set"] == "test"])
    held = sorted(set(people[0]["stimulus_id"]))
    names = [column.removeprefix("prob_") for column in people[0] if column.startswith("prob_")]
    labels = stimuli.loc[held, names].to_numpy()
    rows = [np.array([held.index(name) for name in table["stimulus_id"]]) for table in people]
    probabilities = [table[[f"prob_{name}" for name in names]].to_numpy() for table in people]
    rng = np.random.default_rng(11)
    orders = [np.arange(len(held)), *(rng.permutation(len(held)) for _ in range(N_PERMUTATIONS))]
    found = np.array(
        [
            np.mean([scores(labels[order][r], p) for r, p in zip(rows, probabilities, strict=True)], axis=0)
            for order in orders
        ]
    )
    return found[0], found[1:]


@pytest.fixture(scope="module")
def noise(
    study: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The simulated study without its signal, and the outputs of ``group``."""
    root = tmp_path_factory.mktemp("noise")
    bids = Path(shutil.copytree(study, root / "bids"))
    replace_by_noise(bids, seed=3)
    done = command(bids, root / "out", "group", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    assert "regime: unseen stimuli" in done.stderr
    return bids, root / "out"


@pytest.mark.parametrize("label", METHODS)
def test_noise_decodes_at_chance(noise: tuple[Path, Path], label: str) -> None:
    """Neither above nor below 99 % of what exchanged stimuli score with the same probabilities."""
    observed, null = against_permutations(*noise, label)
    lowest, highest = np.quantile(null, [0.005, 0.995], axis=0)
    assert (observed > lowest).all(), (observed, lowest)
    assert (observed < highest).all(), (observed, highest)


@pytest.mark.parametrize("label", METHODS[1:])
def test_the_same_measure_sees_a_signal(study: Path, trained: Path, label: str) -> None:
    observed, null = against_permutations(study, trained, label)
    assert (observed > null.max(axis=0)).all(), (observed, null.max(axis=0))


def test_noise_has_no_ceiling(noise: tuple[Path, Path]) -> None:
    """Of four repeated stimuli the estimate is coarse, but its median over voxels stays near nothing."""
    for participant in ("01", "02"):
        (path,) = noise[1].glob(f"sub-{participant}/func/*_desc-noiseceiling_metrics.tsv")
        assert pd.read_csv(path, sep="\t")["median_ceiling"].item() < 10
