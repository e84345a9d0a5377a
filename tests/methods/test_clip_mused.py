from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.config import (
    Hyperparameters,
    ModelOptions,
    TrainingOptions,
    build_hyperparameters,
    read_preset,
)
from clipmused_bids.decoder.losses import label_loss
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches, SharedRegionPatches
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.context import FitContext
from clipmused_bids.methods.linear_fit import fit_pooled
from clipmused_bids.methods.readouts import start_bias, start_readout
from clipmused_bids.methods.registry import create, restore
from clipmused_bids.methods.stacking import PRIOR, fit_members, predict, scores_of, stack
from clipmused_bids.methods.starts import start_maps
from clipmused_bids.records import ResponseTable, TrialData

MODEL = ModelOptions(width=16, depth=1, heads=2, head="linear", n_shared=5, n_patches=3, n_regions=6)
QUICK = Hyperparameters(model=MODEL, training=TrainingOptions(max_epochs=4, perp_scale="batch+width"))

RIDGE = replace(MODEL, readout="ridge")


def halves(data: TrialData) -> tuple[TrialData, TrialData]:
    return data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))


@pytest.mark.parametrize(
    ("patches", "common_space", "n_regions", "kind"),
    [
        ("auto", True, 4, "roi"),
        ("auto", True, 0, "roi"),
        ("auto", False, 4, "own-roi"),
        ("auto", False, 0, "aligned"),
        ("aligned", True, 4, "aligned"),
        ("cnn", True, 0, "cnn"),
    ],
)
def test_patches_follow_the_data(
    make_trials: Callable[..., TrialData], patches: str, common_space: bool, n_regions: int, kind: str
) -> None:
    data = make_trials(common_space=common_space, n_regions=n_regions)
    hyperparameters = replace(QUICK, model=replace(MODEL, patches=patches))
    method = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    method.fit(*halves(data))
    config = method.config()
    assert config["architecture"]["kind"] == kind
    again = restore("clip-mused", method.state(), config)
    np.testing.assert_array_equal(again.predict_proba(data), method.predict_proba(data))
    expected = {"roi": n_regions or 6, "own-roi": 4, "aligned": 3, "cnn": 1}[kind]
    assert method.summary()["patches"] == expected


@pytest.mark.parametrize("patches", ["cnn", "roi"])
def test_patches_that_need_correspondence_are_refused_without(
    make_trials: Callable[..., TrialData], patches: str
) -> None:
    data = make_trials(common_space=False, n_regions=0)
    with pytest.raises(UsageError, match=f"model.patches = {patches}: .*native space"):
        choose_architecture(data, replace(MODEL, patches=patches))


def test_a_participant_costs_two_tokens_in_a_common_space(make_trials: Callable[..., TrialData]) -> None:
    hyperparameters = replace(QUICK, model=replace(MODEL, readout="ridge"))
    summaries = []
    for n in (2, 3):
        method = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
        method.fit(*halves(make_trials(n_participants=n)))
        summaries.append(method.summary())
    assert summaries[0]["shared"] == summaries[1]["shared"]
    assert set(summaries[1]["per_participant"].values()) == {2 * 16}


def test_unknown_people_are_refused_by_name(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
    method.fit(*halves(data))
    with pytest.raises(
        DataError, match="sub-99: the decoder was not trained on this participant; it knows 01, 02"
    ):
        method.predict_proba(replace(data, participants=("01", "99")))


def test_several_seeds_are_averaged(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    averaged = replace(QUICK, training=replace(QUICK.training, n_seeds=2))
    both = create("clip-mused", hyperparameters=averaged, seed=3, device="cpu")
    history = both.fit(*halves(data))
    assert set(history.columns["member"]) == {1.0, 2.0}
    singles = []
    for seed in (3, 4):
        one = create("clip-mused", hyperparameters=QUICK, seed=seed, device="cpu")
        one.fit(*halves(data))
        singles.append(one.predict_proba(data))
    assert not np.allclose(*singles)
    np.testing.assert_allclose(both.predict_proba(data), np.mean(singles, axis=0), atol=1e-7)


def test_training_again_on_all_trials_lasts_as_long_as_the_best_epoch(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials()
    train, validation = halves(data)
    method = create(
        "clip-mused", hyperparameters=replace(QUICK, fit_on="train+validation"), seed=0, device="cpu"
    )
    history = method.fit(train, validation)
    assert history.stopped.endswith(f"trained again on train+validation for {history.best_epoch} epochs")
    plain = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
    assert plain.fit(train, validation).columns["val_map"] == history.columns["val_map"]


def test_epochs_are_reported_as_they_come(make_trials: Callable[..., TrialData]) -> None:
    rows: list[dict[str, float]] = []
    create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu").fit(
        *halves(make_trials()), context=FitContext(report=rows.append)
    )
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(row["member"] == 1 for row in rows)


def started(data: TrialData, options: ModelOptions, *, seed: int = 0) -> tuple[object, object]:
    architecture = choose_architecture(data, options)
    model = build_decoder(architecture, options, n_participants=len(data.participants))
    source = start_maps(
        model, data, regions=architecture.regions, options=options, alphas=(0.1, 1.0), seed=seed
    )
    return model, source


def test_the_papers_start_is_random(make_trials: Callable[..., TrialData]) -> None:
    model, source = started(make_trials(), replace(MODEL, alignment="random"))
    assert source == "random"
    spread = model.patches.maps.weight.detach().std()
    assert float(spread) == pytest.approx(10**-0.5, rel=0.2)


def test_region_maps_of_a_common_space_start_where_regions_say_something(
    make_trials: Callable[..., TrialData],
) -> None:
    """The start tells labels apart: a linear fit to unseen patches beats one to patches of random maps."""
    data = make_trials(n_trials=200, n_voxels=80, effect=0.3)
    train = data.subset(np.flatnonzero(data.group < 10))
    gain = {}
    for alignment in ("auto", "random"):
        model, _ = started(train, replace(MODEL, alignment=alignment))
        assert isinstance(model.patches, SharedRegionPatches)
        x = torch.as_tensor(np.concatenate(data.read()))
        patches = model.patches.embed(x).detach().numpy()
        assert patches.std() == pytest.approx(1, rel=0.3)
        design = np.c_[patches.reshape(len(x), -1), np.ones(len(x))]
        seen = data.group < 10
        weights = np.linalg.lstsq(design[seen], data.labels[seen], rcond=0.05)[0]
        gain[alignment] = np.corrcoef((design[~seen] @ weights).ravel(), data.labels[~seen].ravel())[0, 1]
    assert gain["auto"] > gain["random"]


def test_own_maps_start_from_alignment(make_trials: Callable[..., TrialData]) -> None:
    model, source = started(make_trials(common_space=False, n_regions=0), MODEL)
    assert isinstance(model.patches, AlignedPatches)
    assert source == "SRM on 60 shared rows matched by stimulus"
    model, source = started(make_trials(common_space=False, n_regions=4, same_stimuli=False), MODEL)
    assert isinstance(model.patches, OwnRegionPatches)
    assert source == "ridge to labels and CLIP targets"


def test_the_bias_starts_at_log_odds_within_what_the_trials_can_say(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials()
    labels = data.labels.copy()
    labels[:, 3] = 0
    labels[:30, 1] = np.nan
    model, _ = started(data, MODEL)
    start_bias(model, replace(data, labels=labels))
    frequency = np.nanmean(labels, axis=0)
    frequency[3] = 1 / 240
    np.testing.assert_allclose(model.head[-1].bias.detach(), np.log(frequency / (1 - frequency)), rtol=1e-4)


def test_the_fixed_readout_is_the_ridge_and_trains_on_held_out_scores(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials(n_voxels=100)
    model, _ = started(data, replace(MODEL, readout="ridge"))
    assert isinstance(model.readout, FixedReadout)
    scores = start_readout(model, data, options=RIDGE, alphas=(0.1, 1.0))
    fit = fit_pooled(data, alphas=(0.1, 1.0))
    p = data.labels.mean(axis=0, dtype=float)
    np.testing.assert_allclose(scores, (fit.held_out - p) / (p * (1 - p)), rtol=1e-5)
    x = torch.as_tensor(data.read()[1])
    own = model.readout.scores(x, 1).detach().numpy()
    ridge = x.numpy() @ fit.maps[""].coef + fit.maps[""].intercept
    np.testing.assert_allclose(own * p * (1 - p) + p, ridge, atol=1e-4)


def test_the_readouts_weight_minimises_the_label_loss_of_held_out_scores(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials(n_trials=200, effect=0.3)
    model, _ = started(data, replace(MODEL, readout="ridge"))
    scores = torch.as_tensor(start_readout(model, data, options=RIDGE, alphas=(0.1, 1.0)))
    bias = torch.logit(torch.as_tensor(data.labels.mean(axis=0, dtype=float)))
    weight = model.readout.weight.detach().double().requires_grad_()
    prior = PRIOR / 2 * (weight - 1) ** 2 / data.labels.size
    (label_loss(bias + weight * scores, torch.as_tensor(data.labels)) + prior).backward()
    assert 0.3 < float(weight.detach()) < 10
    assert float(weight.grad) == pytest.approx(0, abs=1e-4)


def test_a_readout_of_noise_starts_with_little_weight(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(effect=0.0, n_trials=200)
    model, _ = started(data, replace(MODEL, readout="ridge"))
    scores = start_readout(model, data, options=RIDGE, alphas=(0.1, 1.0))
    assert (float(model.readout.weight.detach()) * scores).std() < 0.3
    assert model.readout.weight >= 0


def test_the_start_of_the_model_with_a_readout_predicts_like_the_ridge(
    make_trials: Callable[..., TrialData],
) -> None:
    """Before any training the decoder ranks unseen trials as the ridge does, but for the small first head."""
    data = make_trials(n_trials=150, effect=0.5)
    train, _ = halves(replace(data, group=data.group // 3))
    model, _ = started(train, replace(MODEL, readout="ridge"))
    start_bias(model, train)
    start_readout(model, train, options=RIDGE, alphas=(0.1, 1.0))
    x = torch.as_tensor(data.read()[0])
    logits = model.eval()([x], [0]).logits.detach().numpy()
    fit = fit_pooled(train, alphas=(0.1, 1.0))
    ridge = x.numpy() @ fit.maps[""].coef
    for c in range(4):
        assert np.corrcoef(logits[:, c], ridge[:, c])[0, 1] > 0.95


def test_a_dataset_without_targets_trains_on_labels_alone(
    make_trials: Callable[..., TrialData], caplog: pytest.LogCaptureFixture
) -> None:
    data = make_trials(targets=False)
    method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        history = method.fit(*halves(data))
    assert np.isnan(history.columns["loss_low"]).all()
    assert np.isnan(history.columns["loss_high"]).all()
    assert caplog.text.count("is off (no CLIP features of the stimuli)") == 2


def test_test_responses_and_targets_cannot_reach_the_fit(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    """Rows outside the training and validation trials may hold anything, NaN included."""
    data = make_trials(common_space=False, n_regions=0)
    train = data.subset(np.flatnonzero(data.group < 3))
    validation = data.subset(np.flatnonzero(data.group == 3))
    hyperparameters = replace(QUICK, fit_on="train+validation", model=replace(MODEL, readout="ridge"))
    states = []
    for spoil in (False, True):
        tables = []
        for p, table in enumerate(data.responses):
            values = table.read(np.arange(60))
            test_rows = data.row[(data.participant == p) & (data.group > 3)]
            values[test_rows] = np.nan if spoil else values[test_rows]
            tables.append(make_table([values]))
        method = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
        method.fit(replace(train, responses=tuple(tables)), replace(validation, responses=tuple(tables)))
        states.append(method.state())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("preset", ["nsd", "small"])
def test_presets_train(make_trials: Callable[..., TrialData], preset: str) -> None:
    hyperparameters = build_hyperparameters(read_preset(preset))
    training = replace(hyperparameters.training, max_epochs=1, n_seeds=1)
    model = replace(hyperparameters.model, depth=min(2, hyperparameters.model.depth))
    method = create(
        "clip-mused",
        hyperparameters=replace(hyperparameters, training=training, model=model),
        seed=0,
        device="cpu",
    )
    history = method.fit(*halves(make_trials()))
    assert np.isfinite(history.columns["loss"][1])


STACK = replace(MODEL, readout="stack", voxel_weights="labels")


@pytest.mark.parametrize("common_space", [True, False])
def test_a_decoder_that_validation_does_not_improve_is_its_stack(
    make_trials: Callable[..., TrialData], common_space: bool
) -> None:
    """Labels of the validation trials turned around: no epoch helps, and the readout alone decodes."""
    data = make_trials(n_trials=100, effect=0.5, common_space=common_space, n_regions=0)
    train, validation = halves(replace(data, group=data.group // 2))
    validation = replace(validation, labels=1 - validation.labels)
    options = replace(QUICK.training, choose_by="loss-1se", max_epochs=2)
    method = create(
        "clip-mused",
        hyperparameters=replace(QUICK, model=STACK, training=options),
        seed=0,
        device="cpu",
    )
    assert method.fit(train, validation).best_epoch == 0
    logits = torch.logit(torch.as_tensor(method.predict_proba(validation))).numpy()
    alphas = QUICK.linear.alphas
    members = fit_members(train, alphas=alphas, voxel_weights="labels", loss="binary")
    weights = stack(
        [scores_of(one.held_out, train) for one in members.values()], train, loss="binary"
    ).weights
    p = train.labels.mean(axis=0, dtype=float)
    summed = np.log(p / (1 - p))
    for weight, one in zip(weights, members.values(), strict=True):
        summed = summed + weight * (predict(one.maps, validation) - p) / (p * (1 - p))
    np.testing.assert_allclose(logits, summed, atol=0.02)


def test_test_responses_cannot_reach_a_stack(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    data = make_trials(common_space=False, n_regions=0)
    train = data.subset(np.flatnonzero(data.group < 4))
    validation = data.subset(np.flatnonzero(data.group == 4))
    states = []
    for spoil in (False, True):
        tables = []
        for p, table in enumerate(data.responses):
            values = table.read(np.arange(60))
            if spoil:
                values[data.row[(data.participant == p) & (data.group > 4)]] = 1e6
            tables.append(make_table([values]))
        method = create(
            "clip-mused",
            hyperparameters=replace(QUICK, fit_on="train+validation", model=STACK),
            seed=0,
            device="cpu",
        )
        method.fit(replace(train, responses=tuple(tables)), replace(validation, responses=tuple(tables)))
        states.append(method.state())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_single_labels_are_decoded_by_a_softmax(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(effect=0.5)
    labels = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, data.n_trials)]
    single = replace(data, labels=labels, single_label=True)
    hyperparameters = replace(QUICK, model=STACK, training=replace(QUICK.training, label_loss="auto"))
    method = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    method.fit(*halves(single))
    probability = method.predict_proba(single)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    again = restore("clip-mused", method.state(), method.config())
    np.testing.assert_array_equal(again.predict_proba(single), probability)
    several = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    several.fit(*halves(data))
    assert np.abs(several.predict_proba(data).sum(axis=1) - 1).max() > 0.05


def test_a_softmax_of_several_labels_is_refused(make_trials: Callable[..., TrialData]) -> None:
    hyperparameters = replace(QUICK, training=replace(QUICK.training, label_loss="softmax"))
    method = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    with pytest.raises(
        UsageError, match="label_loss = softmax: trials of these data may have several labels"
    ):
        method.fit(*halves(make_trials()))
