"""What every method must do, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import Hyperparameters, ModelOptions, TrainingOptions
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.registry import METHODS, create, restore
from clipmused_bids.records import Grid, ResponseTable, TrialData

QUICK = Hyperparameters(
    model=ModelOptions(width=16, depth=1, heads=2, head="linear", n_shared=6, n_patches=3, readout="ridge"),
    training=TrainingOptions(max_epochs=6, perp_scale="batch+width", mixup=0.5),
)
pytestmark = [
    pytest.mark.parametrize("name", list(METHODS)),
    pytest.mark.parametrize("common_space", [True, False], ids=["common", "native"]),
]


@pytest.fixture
def data(make_trials: Callable[..., TrialData], common_space: bool) -> TrialData:
    return make_trials(common_space=common_space, n_regions=4 if common_space else 0)


def parts(data: TrialData) -> tuple[TrialData, TrialData, TrialData]:
    return tuple(
        data.subset(np.flatnonzero(np.isin(data.group, groups))) for groups in ([0, 1, 2], [3], [4, 5])
    )


def fitted(name: str, data: TrialData, *, seed: int = 0) -> Method:
    method = create(name, hyperparameters=QUICK, seed=seed, device="cpu")
    train, validation, _ = parts(data)
    history = method.fit(train, validation)
    assert 0 <= history.best_epoch < len(next(iter(history.columns.values())))
    assert len({len(column) for column in history.columns.values()}) == 1
    return method


def test_predictions_are_probabilities_and_a_seed_repeats_them(name: str, data: TrialData) -> None:
    first, second = (fitted(name, data).predict_proba(parts(data)[2]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (40, 4)
    assert first.dtype == np.float64
    assert first.min() >= 0
    assert first.max() <= 1


def test_labels_are_not_read_when_predicting(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    test = parts(data)[2]
    blind = replace(
        test, labels=np.full_like(test.labels, np.nan), stimulus=np.full_like(test.stimulus, -1), targets=None
    )
    np.testing.assert_array_equal(method.predict_proba(test), method.predict_proba(blind))


def test_nan_responses_are_refused(
    name: str, data: TrialData, make_table: Callable[..., ResponseTable]
) -> None:
    values = data.responses[1].read(np.arange(60))
    values[5, 7] = values[45, 3] = np.nan
    spoilt = replace(data, responses=(data.responses[0], make_table([values])))
    with pytest.raises(DataError, match=r"sub-02: .* NaN"):
        fitted(name, spoilt)
    method = fitted(name, data)
    with pytest.raises(DataError, match=r"sub-02: .* NaN"):
        method.predict_proba(parts(spoilt)[2])


def test_one_participant_is_enough(name: str, data: TrialData) -> None:
    one = data.of_participant("02")
    if METHODS[name].least_participants > 1:
        with pytest.raises(DataError, match=f"{name}: .* at least 2 participants; sub-02 is the only one"):
            fitted(name, one)
        return
    prediction = fitted(name, one).predict_proba(parts(one)[2])
    assert prediction.shape == (20, 4)
    assert np.isfinite(prediction).all()


def test_state_and_config_restore_the_same_predictions(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    tensors = {key: value.copy() for key, value in method.state().items()}
    config = json.loads(json.dumps(method.config()))
    again = restore(name, tensors, config)
    np.testing.assert_array_equal(again.predict_proba(parts(data)[2]), method.predict_proba(parts(data)[2]))
    assert again.summary() == method.summary()
    assert json.loads(json.dumps(again.config())) == config


def test_participants_can_be_decoded_one_by_one(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    test = parts(data)[2]
    together = method.predict_proba(test)
    for p, participant in enumerate(data.participants):
        alone = method.predict_proba(test.of_participant(participant))
        np.testing.assert_allclose(alone, together[test.participant == p], atol=1e-6)


def test_chunks_are_predicted_as_the_whole(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    test = parts(data)[2].subset(np.random.default_rng(0).permutation(40))
    whole = method.predict_proba(test)
    chunks = [method.predict_proba(test.subset(index)) for index in np.array_split(np.arange(40), [1, 8, 30])]
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-6)


def test_no_trials_give_no_predictions(name: str, data: TrialData) -> None:
    assert fitted(name, data).predict_proba(data.subset(np.empty(0, dtype=int))).shape == (0, 4)


def test_another_number_of_voxels_is_refused(
    name: str, data: TrialData, make_table: Callable[..., ResponseTable]
) -> None:
    method = fitted(name, data)
    fewer = make_table([data.responses[0].read(np.arange(60))[:, :-1]])
    space = replace(data.spaces[0], voxels=data.spaces[0].voxels[:-1])
    other = replace(data, responses=(fewer, data.responses[1]), spaces=(space, data.spaces[1]))
    with pytest.raises(DataError, match="sub-01: 39 voxels in the mask; the decoder expects 40"):
        method.predict_proba(other)


def test_the_same_number_of_other_voxels_is_refused(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    space = data.spaces[0]
    for moved in (
        replace(space, voxels=np.setdiff1d(np.arange(80), space.voxels)[:40]),
        replace(space, grid=Grid((8, 5, 2), space.grid.affine)),
    ):
        with pytest.raises(DataError, match=r"sub-02: .* not at the same places"):
            method.predict_proba(replace(data, spaces=(space, moved)))


def test_another_label_set_is_refused(name: str, data: TrialData) -> None:
    method = fitted(name, data)
    with pytest.raises(DataError, match="only in the decoder: label3; only in the data: zebra"):
        method.predict_proba(replace(data, label_names=("label0", "label1", "label2", "zebra")))
    with pytest.raises(DataError, match="the order differs"):
        method.predict_proba(replace(data, label_names=data.label_names[::-1]))


def test_training_without_trials_or_labels_is_refused(name: str, data: TrialData) -> None:
    method = create(name, hyperparameters=QUICK, seed=0, device="cpu")
    nothing = data.subset(np.empty(0, dtype=int))
    with pytest.raises(DataError, match="no training trial"):
        method.fit(nothing, nothing)
    with pytest.raises(DataError, match="has a known label"):
        method.fit(replace(data, labels=np.full_like(data.labels, np.nan)), nothing)


def test_unknown_labels_are_survived(name: str, data: TrialData) -> None:
    labels = data.labels.copy()
    labels[np.random.default_rng(0).random(labels.shape) < 0.3] = np.nan
    labels[data.participant == 1, 2] = np.nan
    prediction = fitted(name, replace(data, labels=labels)).predict_proba(parts(data)[2])
    assert np.isfinite(prediction).all()


def test_a_planted_effect_is_found_and_noise_is_not(
    name: str, common_space: bool, make_trials: Callable[..., TrialData]
) -> None:
    area = {}
    for effect in (1.0, 0.0):
        data = make_trials(
            common_space=common_space, effect=effect, n_trials=300, n_regions=4 if common_space else 0
        )
        data = replace(data, group=data.group // 6)
        test = parts(data)[2]
        probability = fitted(name, data).predict_proba(test)
        each = [test.participant == p for p in range(2)]
        area[effect] = np.mean([roc_auc_score(test.labels[mine], probability[mine]) for mine in each])
    if name == "prevalence":
        assert area[1.0] == pytest.approx(0.5)
    else:
        assert area[1.0] > 0.9
    assert area[0.0] == pytest.approx(0.5, abs=0.1)


def test_fitting_on_validation_trials_as_well_changes_the_fit(name: str, data: TrialData) -> None:
    train, validation, test = parts(data)
    method = create(name, hyperparameters=replace(QUICK, fit_on="train+validation"), seed=0, device="cpu")
    method.fit(train, validation)
    assert not np.allclose(method.predict_proba(test), fitted(name, data).predict_proba(test))
    again = restore(name, method.state(), method.config())
    np.testing.assert_array_equal(again.predict_proba(test), method.predict_proba(test))


def test_summary_counts_parameters(name: str, data: TrialData) -> None:
    summary = fitted(name, data).summary()
    assert isinstance(summary["shared"], int)
    assert all(isinstance(n, int) for n in summary["per_participant"].values())
    assert json.loads(json.dumps(summary)) == summary


def test_names_are_close_at_hand(name: str, common_space: bool) -> None:
    with pytest.raises(UsageError, match=f"did you mean {name}"):
        create(name + "x", hyperparameters=QUICK, seed=0, device="cpu")
