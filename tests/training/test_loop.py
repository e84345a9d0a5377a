from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.model import ClipMused
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import SharedRegionPatches
from clipmused_bids.errors import DataError
from clipmused_bids.records import History, TrialData
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.monitor import decode_logits, macro_average_precision
from clipmused_bids.training.optimizer import learning_rate, make_optimizer
from clipmused_bids.training.state import load_tensors, seeded, tensors_of

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(
    learning_rate=1e-2, batch_size=16, max_epochs=6, patience=6, mixup=0.5, perp_scale="batch+width"
)


def decoder(data: TrialData, *, seed: int = 0, readout: bool = False) -> ClipMused:
    with seeded(seed, device=CPU):
        return ClipMused(
            SharedRegionPatches(data.spaces[0].region, n_regions=4, width=8),
            n_participants=len(data.participants),
            n_labels=len(data.label_names),
            width=8,
            depth=1,
            heads=2,
            mlp_ratio=2.0,
            head="linear",
            dropout=0.1,
            input_dropout=0.1,
            readout=FixedReadout(n_voxels=[40], n_labels=4) if readout else None,
        )


@pytest.fixture
def halves(make_trials: Callable[..., TrialData]) -> tuple[TrialData, TrialData]:
    data = make_trials()
    return data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))


def train(
    halves: tuple[TrialData, TrialData], *, options: TrainingOptions = OPTIONS, seed: int = 0, **more: object
) -> tuple[ClipMused, History]:
    model = decoder(halves[0])
    trainer = Trainer(model, *halves, options=options, seed=seed, device=CPU)
    return model, trainer.run(**more)


def test_equal_seeds_give_equal_weights_and_others_do_not(halves: tuple[TrialData, TrialData]) -> None:
    first, second, other = (tensors_of(train(halves, seed=seed)[0]) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_the_callers_random_numbers_are_left_alone(halves: tuple[TrialData, TrialData]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(halves)
    torch.testing.assert_close(torch.rand(3), expected)


def test_the_kept_weights_are_those_of_the_best_epoch(halves: tuple[TrialData, TrialData]) -> None:
    model, history = train(halves)
    best = max(history.columns["val_map"])
    assert history.columns["val_map"][history.best_epoch] == best
    assert history.best_epoch > 0
    logits = decode_logits(model, TrialReader(halves[1], device=CPU))
    assert macro_average_precision(halves[1].labels, logits) == pytest.approx(best)
    assert not model.training


def test_training_learns(halves: tuple[TrialData, TrialData]) -> None:
    _, history = train(halves, options=replace(OPTIONS, max_epochs=15))
    assert history.columns["val_map"][history.best_epoch] > history.columns["val_map"][0] + 0.2
    assert history.columns["loss_labels"][-1] < 0.8 * history.columns["loss_labels"][1]


def test_history_has_a_row_before_training_and_one_for_each_epoch(
    halves: tuple[TrialData, TrialData],
) -> None:
    rows: list[dict[str, float]] = []
    _, history = train(halves, options=replace(OPTIONS, mixup=0.0), report=rows.append)
    assert history.columns["epoch"] == tuple(float(k) for k in range(7))
    assert len(rows) == 6
    assert rows[2]["loss"] == history.columns["loss"][3]
    last = rows[-1]
    weighted = (
        last["loss_labels"] + 0.001 * last["loss_perp"] + 0.1 * last["loss_low"] + 0.001 * last["loss_high"]
    )
    assert last["loss"] == pytest.approx(weighted)
    assert np.isnan(history.columns["loss_labels"][0])
    for name in ("labels", "perp", "low", "high"):
        assert last[f"gradient_{name}"] > 0
    assert last["norm_low"] == pytest.approx(8**0.5, rel=0.2)
    assert -1 <= last["correlation_high"] <= 1


def test_patience_ends_the_training(halves: tuple[TrialData, TrialData]) -> None:
    options = replace(OPTIONS, learning_rate=1e-12, max_epochs=50, patience=3, mixup=0.0)
    _, history = train(halves, options=options)
    assert len(history.columns["epoch"]) - 1 <= history.best_epoch + 3
    assert history.stopped == "no better validation mAP for 3 epochs"


def test_without_validation_trials_the_last_epoch_counts(halves: tuple[TrialData, TrialData]) -> None:
    nothing = halves[1].subset(np.empty(0, dtype=int))
    _, history = train((halves[0], nothing))
    assert history.best_epoch == 6
    assert np.isnan(history.columns["val_map"]).all()


def test_a_number_of_epochs_is_kept_to(halves: tuple[TrialData, TrialData]) -> None:
    model, history = train(halves, n_epochs=2)
    assert history.best_epoch == 2
    untouched, _ = train(halves, n_epochs=0)
    start = tensors_of(decoder(halves[0]))
    assert all(np.array_equal(value, start[name]) for name, value in tensors_of(untouched).items())
    assert any(not np.array_equal(value, start[name]) for name, value in tensors_of(model).items())


def test_missing_targets_turn_terms_off_and_the_log_says_so(
    halves: tuple[TrialData, TrialData], caplog: pytest.LogCaptureFixture
) -> None:
    without = [replace(half, targets=replace(half.targets, low=None)) for half in halves]
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        _, history = train((without[0], without[1]))
    assert np.isnan(history.columns["loss_low"]).all()
    assert np.isnan(history.columns["gradient_low"]).all()
    assert history.columns["loss_high"][1] > 0
    assert "the low level is off (no CLIP features of the stimuli)" in caplog.text


def test_a_weight_of_zero_turns_a_term_off(halves: tuple[TrialData, TrialData]) -> None:
    _, history = train(halves, options=replace(OPTIONS, lambda_perp=0.0, lambda_high=0.0))
    assert np.isnan(history.columns["loss_perp"]).all()
    assert np.isnan(history.columns["loss_high"]).all()
    assert history.columns["loss_low"][1] > 0


def test_a_loss_that_is_not_finite_names_the_epoch(halves: tuple[TrialData, TrialData]) -> None:
    with pytest.raises(DataError, match="the loss is not finite in epoch 2"):
        train(halves, options=replace(OPTIONS, learning_rate=1e35, batch_size=100))


def test_a_fixed_readout_is_not_trained_but_its_weight_is(halves: tuple[TrialData, TrialData]) -> None:
    model = decoder(halves[0], readout=True)
    maps = [np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)]
    model.readout.start_from(maps, [np.zeros(4)], weight=1.0)
    scores = np.random.default_rng(1).standard_normal((halves[0].n_trials, 4))
    Trainer(model, *halves, options=OPTIONS, seed=0, device=CPU, scores=scores).run(n_epochs=2)
    np.testing.assert_array_equal(model.readout.own[0], maps[0])
    assert float(model.readout.weight.detach()) != 1


def test_the_learning_rate_steps_down() -> None:
    options = replace(OPTIONS, learning_rate=1e-3, decay_every=25, decay_factor=0.7)
    rates = [learning_rate(options, epoch=epoch) for epoch in (0, 24, 25, 49, 50)]
    assert rates == pytest.approx([1e-3, 1e-3, 7e-4, 7e-4, 4.9e-4])
    assert learning_rate(replace(options, decay_every=0), epoch=80) == 1e-3


def test_the_optimizer_uses_the_steps(halves: tuple[TrialData, TrialData]) -> None:
    _, history = train(halves, options=replace(OPTIONS, decay_every=2, decay_factor=0.5))
    assert history.columns["learning_rate"][1:] == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3, 2.5e-3])


def test_only_matrices_decay(halves: tuple[TrialData, TrialData]) -> None:
    model = decoder(halves[0], readout=True)
    optimizer = make_optimizer(model, replace(OPTIONS, weight_decay=0.1))
    names = {id(p): name for name, p in model.named_parameters()}
    decay, keep = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert "blocks.0.mlp.0.weight" in decay
    assert "patches.maps.weight" in decay
    assert {"tokens.subject", "tokens.position", "low_norm.weight", "head.0.bias", "readout.weight"} <= keep
    assert not any(name.startswith("readout.own") for name in decay | keep)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert type(make_optimizer(model, OPTIONS)) is torch.optim.Adam


def test_weights_of_another_shape_are_refused_with_both_sides(halves: tuple[TrialData, TrialData]) -> None:
    model = decoder(halves[0])
    tensors = tensors_of(model)
    tensors["head.0.bias"] = np.zeros(9, np.float32)
    del tensors["low_norm.weight"]
    with pytest.raises(DataError, match=r"2 tensors differ .*head.0.bias: model \(4,\), file \(9,\)"):
        load_tensors(model, tensors)
