"""A new participant's maps, against answers that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge

from clipmused_bids.config import ModelOptions
from clipmused_bids.methods.link import FITS, Link, apply_maps, fit_link
from clipmused_bids.methods.own_scores import LinearScores, own_scores
from clipmused_bids.methods.stacking import PRIOR
from clipmused_bids.methods.template import Template, stimulus_digest
from clipmused_bids.records import FloatArray, TrialData

F = 5


def template_of(data: TrialData, features: FloatArray, *, classifier: FloatArray | None = None) -> Template:
    """A template whose rows are the trials' own stimuli, in order."""
    n_labels = data.labels.shape[1]
    return Template(
        stimulus=np.array([stimulus_digest(name) for name in data.stimulus_id]),
        occurrence=np.full(data.n_trials, -1),
        features=features.astype(np.float16),
        spread=features.std(axis=0),
        label_mean=data.labels.mean(axis=0, dtype=float),
        frequency=data.labels.mean(axis=0, dtype=float),
        from_labels=np.zeros((n_labels + 1, features.shape[1])),
        from_labels_and_clip=np.zeros((0, features.shape[1])),
        classifier=np.zeros((features.shape[1] + 1, n_labels)) if classifier is None else classifier,
    )


def linear_logits(weights: FloatArray) -> Callable[[FloatArray], FloatArray]:
    return lambda features: np.asarray(features @ weights)


@pytest.fixture
def one(make_trials: Callable[..., TrialData]) -> TrialData:
    return make_trials(common_space=False, n_regions=0, n_participants=1, n_voxels=30)


def whole(data: TrialData) -> list[tuple[np.ndarray, slice]]:
    return [(np.arange(data.responses[0].n_voxels), slice(0, F))]


@pytest.mark.parametrize("fit", FITS)
def test_maps_are_those_of_scipy_and_scikit_learn_up_to_scale(
    one: TrialData, fit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmused_bids.methods.link.FITS", (fit,))
    generator = np.random.default_rng(0)
    x = one.read()[0].astype(float)
    features = (x @ generator.standard_normal((30, F)) + generator.standard_normal((60, F))).astype(
        np.float16
    )
    template = template_of(one, features.astype(float))
    link = fit_link(
        replace(template, spread=10 * template.spread), one, logits=linear_logits(np.zeros((F, 4))),
        own={}, readout_weight=None, parts=whole(one), alphas=(0.1,), loss="binary",
    )  # fmt: skip
    assert link.source == f"{fit} to features matched by stimulus"
    centred, target = x - x.mean(axis=0), features.astype(float)
    if fit == "ridge":
        penalty = 0.1 * np.linalg.eigvalsh(centred.T @ centred).mean()
        expected = Ridge(alpha=penalty).fit(x, target).coef_.T
    else:
        square = np.zeros((60, 30))
        square[:, :F] = target - target.mean(axis=0)
        # Of a rotation onto features that are mostly zeros, the columns of the others are what is asked for.
        expected = orthogonal_procrustes(centred, square)[0][:, :F]
    for k in range(F):
        assert np.corrcoef(link.maps[:, k], expected[:, k])[0, 1] > 0.999
    # Each feature has the spread that it has among the known people.
    np.testing.assert_allclose((x @ link.maps).std(axis=0), 10 * target.std(axis=0), rtol=1e-4)
    # So have, nearly, those of trials that were left out, and they are of the same direction.
    assert (link.features.std(axis=0) > 5 * target.std(axis=0)).all()
    assert all(np.corrcoef(link.features[:, k], target[:, k])[0, 1] > 0.5 for k in range(F))


def test_held_out_features_know_nothing_of_their_group(one: TrialData) -> None:
    """Other targets of one run change what is said of other runs, and nothing of its own but the common scale."""
    generator = np.random.default_rng(1)
    features = generator.standard_normal((60, F))
    first, held = features.copy(), one.group == 2
    features[held] = 5 * generator.standard_normal((int(held.sum()), F))
    links = [
        fit_link(
            replace(template_of(one, values), spread=np.ones(F)), one, logits=linear_logits(np.zeros((F, 4))),
            own={}, readout_weight=None, parts=whole(one), alphas=(0.1,), loss="binary",
        )
        for values in (first, features)
    ]  # fmt: skip
    own = [link.features[held] / link.features[held].std(axis=0) for link in links]
    np.testing.assert_allclose(*own, atol=0.05)
    other = [link.features[~held] / link.features[~held].std(axis=0) for link in links]
    assert np.abs(other[0] - other[1]).max() > 0.5


def test_the_readout_is_linear_in_the_voxels_and_its_weights_are_the_best(one: TrialData) -> None:
    generator = np.random.default_rng(2)
    x = one.read()[0].astype(float)
    features = x @ generator.standard_normal((30, F)) / 5
    classifier = 0.1 * generator.standard_normal((F + 1, 4))
    template = template_of(one, features, classifier=classifier)
    link = fit_link(
        template, one, logits=linear_logits(np.zeros((F, 4))), readout_weight=0.8, parts=whole(one),
        alphas=(0.1, 1.0),
    )  # fmt: skip
    assert link.readout is not None
    assert link.offset is not None
    assert link.scores is not None
    own, shared = link.weights
    assert 0.05 < own < 10
    through = template.label_scores(apply_maps(x, link.maps, whole(one)))
    # What remains when the shared part is taken out is the own ridge, whose slope does not depend on its weight.
    rest = (x @ link.readout + link.offset - shared * through) / own
    p = template.frequency
    assert np.corrcoef((rest * p * (1 - p) + p).ravel(), one.labels.ravel())[0, 1] > 0.8
    loss = {}
    for step in (-0.1, 0.0, 0.1):
        logits = 0.8 * (link.scores * (1 + step))
        drawn = np.square(np.array(link.weights) * (1 + step) - EVEN).sum() * WEIGHT_PRIOR / one.n_trials
        loss[step] = np.logaddexp(0, np.where(one.labels > 0.5, -1, 1) * logits).mean() + drawn
    assert loss[0.0] < min(loss[-0.1], loss[0.1])


def test_a_single_run_takes_even_weights(one: TrialData) -> None:
    few = one.subset(np.arange(10))
    features = np.random.default_rng(3).standard_normal((10, F))
    link = fit_link(
        template_of(few, features), few, logits=linear_logits(np.ones((F, 4))), readout_weight=1.0,
        parts=whole(one), alphas=(0.1,),
    )  # fmt: skip
    assert link.weights == EVEN
    assert link.source == "ridge to features matched by stimulus"
