from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clipmused_bids.simulation.anatomy import REGION_NAMES, Anatomy, common_anatomy, native_anatomy
from clipmused_bids.simulation.brains import (
    Brain,
    SceneBank,
    draw_amplitudes,
    image_energy,
    make_brain,
)
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import CATEGORIES

PARAMETERS = SimulationParameters()


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return common_anatomy(participant=0, seed=0)


@pytest.fixture(scope="module")
def brain(bank: SceneBank, anatomy: Anatomy) -> Brain:
    return make_brain(bank, anatomy, PARAMETERS, participant=0)


def explained(target: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Share of each column's variance that least squares on the features explains, adjusted for their number."""
    design = np.column_stack([np.ones(len(features)), features])
    residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    rank = np.linalg.matrix_rank(design) - 1
    n = len(target)
    return 1 - (residual.var(axis=0) / target.var(axis=0)) * (n - 1) / (n - rank - 1)


def test_energy_by_hand() -> None:
    picture = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    picture[:, :, 32:] = 255  # one vertical edge, between columns 31 and 32
    energy = image_energy(picture).reshape(4, 16, 16)
    across, down = energy[0], energy[1]
    expected = np.zeros((16, 16))
    expected[:, 7] = 0.5  # a quarter of the cell's pixels differ by one from their right neighbour
    np.testing.assert_allclose(across, expected)
    np.testing.assert_allclose(down, 0)


def test_early_voxels_follow_energy_late_voxels_follow_meaning(bank: SceneBank, brain: Brain) -> None:
    energy = np.linalg.svd(bank.energy, full_matrices=False)[0][:, :60]
    early, late = brain.anatomy.early, brain.anatomy.late
    assert np.median(explained(brain.amplitude[:, early], energy)) > 0.75
    assert np.median(explained(brain.amplitude[:, late], energy)) < 0.45
    assert np.median(explained(brain.amplitude[:, early], bank.meaning)) < 0.45
    # A voxel's best cell of the picture lies in one place: the receptive field.
    contrast = bank.energy.reshape(len(bank.scenes), 4, 256).mean(axis=1)
    response = brain.amplitude[:, early]
    correlation = np.corrcoef(response.T, contrast.T)[: response.shape[1], response.shape[1] :]
    assert np.median(correlation.max(axis=1)) > 0.4


@pytest.mark.parametrize("alignment", [0.0, 0.3, 0.8, 1.0])
def test_alignment_is_the_share_that_captions_explain(
    bank: SceneBank, anatomy: Anatomy, alignment: float
) -> None:
    parameters = replace(PARAMETERS, clip_alignment=alignment)
    late = make_brain(bank, anatomy, parameters, participant=0).amplitude[:, anatomy.late]
    assert np.mean(explained(late, bank.meaning)) == pytest.approx(alignment, abs=0.05)
    labels = bank.labels.astype(float)
    assert np.mean(explained(late, labels)) <= alignment + 0.05


def test_least_squares_recovers_the_semantic_weights(bank: SceneBank, anatomy: Anatomy) -> None:
    """With all of the variance told by captions, responses are linear in the factors, exactly."""
    parameters = replace(PARAMETERS, clip_alignment=1.0)
    late = make_brain(bank, anatomy, parameters, participant=0).amplitude[:, anatomy.late]
    half = len(late) // 2
    design = np.column_stack([np.ones(len(late)), bank.meaning])
    weights = np.linalg.lstsq(design[:half], late[:half], rcond=None)[0]
    np.testing.assert_allclose(design[half:] @ weights, late[half:], atol=1e-8)


@pytest.mark.parametrize(
    ("difference", "low", "high"), [(0.0, 0.999, 1.001), (0.3, 0.45, 0.9), (1.0, -0.15, 0.15)]
)
def test_topographic_difference_between_participants(
    bank: SceneBank, difference: float, low: float, high: float
) -> None:
    parameters = replace(PARAMETERS, topographic_difference=difference)
    place = common_anatomy(participant=0, seed=0)
    brains = [make_brain(bank, place, parameters, participant=k).amplitude[:, place.late] for k in (0, 1)]
    first, second = ((b - b.mean(axis=0)) / b.std(axis=0) for b in brains)
    assert low <= np.mean(first * second) <= high


def test_voxels_outside_regions_do_not_respond(brain: Brain) -> None:
    np.testing.assert_array_equal(brain.amplitude[:, brain.anatomy.region < 0], 0)
    assert np.all(brain.amplitude[:, brain.anatomy.region >= 0].std(axis=0) > 0)


def test_trials_vary_around_their_scene_with_the_covariance_of_scenes(bank: SceneBank, brain: Brain) -> None:
    parameters = replace(PARAMETERS, variability=0.5)
    scene = np.full(3000, 7)
    trials = draw_amplitudes(brain, scene, parameters, rng=np.random.default_rng(0))
    voxels = np.flatnonzero(brain.anatomy.late)[::40]
    np.testing.assert_allclose(trials[:, voxels].mean(axis=0), brain.amplitude[7, voxels], atol=0.1)
    within = np.cov(trials[:, voxels].T)
    between = np.cov(brain.amplitude[:, voxels].T)
    np.testing.assert_allclose(within, 0.5 * between, atol=0.08 * np.diag(between).max())


def test_common_space_is_common_and_native_is_not() -> None:
    a, b = (common_anatomy(participant=k, seed=0) for k in (0, 1))
    assert a.grid.agrees_with(b.grid)
    both = a.mask & b.mask
    assert both.sum() > 0.8 * a.mask.sum()
    np.testing.assert_array_equal(a.dseg()[both], b.dseg()[both])
    c, d = (native_anatomy(participant=k, seed=0) for k in (0, 1))
    assert not c.grid.agrees_with(d.grid)


@pytest.mark.parametrize("make", [common_anatomy, native_anatomy])
def test_regions_are_twelve_and_big_enough(make: type) -> None:
    for participant in range(4):
        anatomy = make(participant=participant, seed=1)
        sizes = np.bincount(anatomy.region[anatomy.region >= 0], minlength=len(REGION_NAMES))
        assert len(REGION_NAMES) == 12
        assert 550 < sizes.sum() < 1100
        assert sizes.min() >= 20
        edges = [anatomy.mask.any(axis=tuple({0, 1, 2} - {axis}))[[0, -1]] for axis in range(3)]
        assert not np.any(edges)  # the whole head is on the grid
        left = np.array([name.startswith("L") for name in REGION_NAMES])[anatomy.region[anatomy.region >= 0]]
        assert np.all(anatomy.place[anatomy.region >= 0][left, 0] <= 0)


def test_hidden_factors_tell_nothing_about_labels(bank: SceneBank) -> None:
    assert np.mean(explained(bank.labels.astype(float), bank.hidden)) < 0.02
    assert bank.labels.shape[1] == len(CATEGORIES)
