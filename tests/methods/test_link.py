"""A new participant's maps, against answers that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import LabelLoss, ModelOptions
from clipmused_bids.methods.linear_fit import fit_each
from clipmused_bids.methods.link import FITS, Link, apply_maps, fit_link
from clipmused_bids.methods.own_scores import own_scores, weighted_sum
from clipmused_bids.methods.stacking import PRIOR, bounded_frequency
from clipmused_bids.methods.template import Template, stimulus_digest
from clipmused_bids.records import FloatArray, ResponseTable, TrialData

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


def of_one_label(data: TrialData, *, scale: float = 2.0) -> TrialData:
    """The same responses, of which each has the one label that it looks most like."""
    generator = np.random.default_rng(7)
    seen = (
        scale * data.read()[0].astype(float) @ generator.standard_normal((data.responses[0].n_voxels, 4)) / 5
    )
    labels = np.eye(4, dtype=np.float32)[np.argmax(seen + generator.gumbel(size=seen.shape), axis=1)]
    return replace(data, labels=labels, single_label=True)


def linked(
    data: TrialData, *, loss: LabelLoss, options: ModelOptions, start: FloatArray | None = None
) -> tuple[Link, Template]:
    generator = np.random.default_rng(2)
    features = data.read()[0].astype(float) @ generator.standard_normal((30, F)) / 5
    classifier = 0.1 * generator.standard_normal((F + 1, 4))
    template = template_of(data, features, classifier=classifier)
    alphas = (0.1, 1.0)
    own = own_scores(data, frequency=template.frequency, options=options, alphas=alphas, loss=loss)
    first = np.zeros((F, 4)) if start is None else start
    link = fit_link(
        template, data, logits=linear_logits(first), own=own, readout_weight=0.8, parts=whole(data), alphas=alphas,
        loss=loss,
    )  # fmt: skip
    return link, template


@pytest.mark.parametrize("loss", ["binary", "softmax"])
@pytest.mark.parametrize("readout", ["ridge", "stack"])
def test_weights_are_the_best_for_the_loss_that_the_base_was_trained_by(
    one: TrialData, loss: LabelLoss, readout: Literal["ridge", "stack"]
) -> None:
    data = of_one_label(one) if loss == "softmax" else one
    options = ModelOptions(readout=readout, voxel_weights="labels")
    start = np.random.default_rng(8).standard_normal((F, 4))
    link, template = linked(data, loss=loss, options=options, start=start)
    own = own_scores(data, frequency=template.frequency, options=options, alphas=(0.1, 1.0), loss=loss)
    names = ["own", "shared"] if readout == "ridge" else ["own", "own, weighted", "shared"]
    assert list(link.weights) == names
    every = [one.held_out for one in own.values()] + [template.label_scores(link.features)]
    weights = np.array(list(link.weights.values()))
    assert link.scores is not None
    np.testing.assert_allclose(link.scores, np.tensordot(weights, every, axes=1), atol=1e-10)
    truth = torch.as_tensor(data.labels).double()
    n_terms = data.n_trials if loss == "softmax" else data.labels.size

    def objective(chosen: FloatArray) -> float:
        logits = torch.as_tensor(link.features @ start + 0.8 * np.tensordot(chosen, every, axes=1))
        if loss == "softmax":
            value = torch.nn.functional.cross_entropy(logits, truth.argmax(dim=1))
        else:
            value = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        away = chosen - 1 / len(names)
        return float(value) + PRIOR / 2 * float(away @ away) / n_terms

    found = minimize(objective, np.full(len(names), 0.5), bounds=[(0, None)] * len(names))
    assert objective(weights) == pytest.approx(found.fun, abs=1e-6)
    np.testing.assert_allclose(weights, found.x, atol=0.01)


def test_the_readout_is_linear_in_the_voxels(one: TrialData) -> None:
    link, template = linked(one, loss="binary", options=ModelOptions(readout="ridge"))
    x = one.read()[0].astype(float)
    assert link.readout is not None
    assert link.offset is not None
    own, shared = link.weights.values()
    assert 0.05 < own < 10
    through = template.label_scores(apply_maps(x, link.maps, whole(one)))
    # What remains when the shared part is taken out is the own ridge.
    rest = (x @ link.readout + link.offset - shared * through) / own
    p = template.frequency
    ridge = fit_each(one, alphas=(0.1, 1.0)).maps["01"]
    np.testing.assert_allclose(rest * p * (1 - p) + p, x @ ridge.coef + ridge.intercept, atol=1e-8)


def test_a_label_that_nobody_told_of_him_scores_nothing(one: TrialData) -> None:
    labels = one.labels.copy()
    labels[:, 2] = np.nan
    frequency = np.array([0.3, 0.4, 0.1, 0.2])
    options = ModelOptions(readout="stack", voxel_weights="labels")
    found = own_scores(
        replace(one, labels=labels), frequency=frequency, options=options, alphas=(1.0,), loss="binary"
    )
    for scores in found.values():
        assert not scores.coef[:, 2].any()
        assert scores.offset[2] == 0
        assert not scores.held_out[:, 2].any()
        assert scores.held_out[:, [0, 1, 3]].all()


def test_own_scores_of_weighted_voxels_decode_better_where_few_voxels_say_anything(
    make_trials: Callable[..., TrialData], make_table: Callable[[list[np.ndarray]], ResponseTable]
) -> None:
    """Of 640 voxels 40 are moved by the labels: the sum with weighted voxels ranks new trials better than a ridge."""
    gains = []
    for seed in range(3):
        data = make_trials(common_space=False, n_regions=0, n_participants=1, n_trials=120, effect=0.5)
        generator = np.random.default_rng(seed)
        values = np.hstack([data.read()[0], generator.standard_normal((120, 600))])
        data = replace(data, responses=(make_table([values]),), row=np.arange(120))
        train = data.subset(np.flatnonzero(data.group % 3 < 2))
        test = data.subset(np.flatnonzero(data.group % 3 == 2))
        area = {}
        for readout in ("ridge", "stack"):
            options = ModelOptions(readout=readout, voxel_weights="labels")
            frequency = bounded_frequency(train)
            own = own_scores(
                train, frequency=frequency, options=options, alphas=(0.1, 1.0, 10.0), loss="binary"
            )
            total, _, _ = weighted_sum(
                own, train, start=np.zeros(train.labels.shape), readout_weight=1.0, loss="binary"
            )
            scores = test.read()[0] @ total.coef + total.offset
            area[readout] = roc_auc_score(test.labels, scores, average="macro")
        gains.append(area["stack"] - area["ridge"])
    assert np.mean(gains) > 0.02, gains


@pytest.mark.parametrize("readout", ["ridge", "stack"])
def test_a_single_run_takes_even_weights_of_a_plain_ridge(
    one: TrialData, readout: Literal["ridge", "stack"]
) -> None:
    few = one.subset(np.arange(10))
    link, _ = linked(few, loss="binary", options=ModelOptions(readout=readout, voxel_weights="labels"))
    assert link.weights == {"own": 0.5, "shared": 0.5}
    assert link.source == "ridge to features matched by stimulus"
