"""An order to train, written and read again, is the same training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.config import ModelOptions, TrainingOptions
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.shared_fit import SharedFit, kept_in
from clipmused_bids.records import TrialData
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.processes import ALONE
from clipmused_bids.training.state import tensors_of

CPU = torch.device("cpu")
OPTIONS = ModelOptions(width=16, depth=1, heads=2, n_shared=6, readout="ridge")


def shared_fit(data: TrialData) -> SharedFit:
    architecture = choose_architecture(data, OPTIONS)
    model = build_decoder(architecture, OPTIONS, n_participants=len(data.participants))
    train, validation = (
        data.subset(np.flatnonzero(data.group < 4)),
        data.subset(np.flatnonzero(data.group > 3)),
    )
    options = TrainingOptions(batch_size=16, max_epochs=2, mixup=0.2, perp_scale="batch+width")
    scores = np.random.default_rng(0).standard_normal(train.labels.shape)
    return SharedFit(
        model, architecture, OPTIONS, options, train, validation, seed=5, guided=True, device=CPU, scores=scores,
        n_epochs=None,
    )  # fmt: skip


def passed_on(order: Snapshot) -> Snapshot:
    """As a message: arrays copied, values through JSON."""
    return Snapshot(
        {name: value.copy() for name, value in order.tensors.items()}, json.loads(json.dumps(order.values))
    )


@pytest.mark.parametrize("common_space", [True, False])
@pytest.mark.parametrize("targets", [True, False])
def test_what_is_read_trains_to_the_same_bits(
    make_trials: Callable[..., TrialData], common_space: bool, targets: bool
) -> None:
    fit = shared_fit(make_trials(common_space=common_space, targets=targets))
    again = SharedFit.read(passed_on(fit.order(None)))
    for name in ("label_names", "participants", "stimulus_id", "single_label", "common_space"):
        assert getattr(again.train, name) == getattr(fit.train, name)
    curves = [one.trainer(ALONE).run().columns for one in (fit, again)]
    assert len(curves[0]["epoch"]) == 3
    for name, values in curves[0].items():
        np.testing.assert_array_equal(curves[1][name], values, err_msg=name)
    for name, value in tensors_of(fit.model).items():
        np.testing.assert_array_equal(tensors_of(again.model)[name], value, err_msg=name)


def test_weighted_voxels_and_watched_tables_are_told(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    weight = np.linspace(0, 2, 40)
    tables = tuple(
        replace(table.scaled(weight), seen=np.zeros(table.n_rows, dtype=bool)) for table in data.responses
    )
    fit = shared_fit(replace(data, responses=tables))
    again = SharedFit.read(passed_on(fit.order(None)))
    for own, other in zip(fit.train.read(), again.train.read(), strict=True):
        np.testing.assert_array_equal(own, other)
    seen = again.train.responses[0].seen
    assert seen is not None
    np.testing.assert_array_equal(np.flatnonzero(seen), np.unique(data.row[data.group < 4]))


def test_what_several_share_is_told_once(make_trials: Callable[..., TrialData]) -> None:
    """Both sets of trials read the same tables."""
    data = make_trials()
    order = shared_fit(data).order(None)
    blocks = {id(block) for table in data.responses for block in table.blocks}
    assert sum(id(value) in blocks for value in order.tensors.values()) == len(blocks)


def test_the_state_that_is_gone_on_from_is_told(make_trials: Callable[..., TrialData]) -> None:
    fit = shared_fit(make_trials())
    assert kept_in(fit.order(None)) is None
    kept = Snapshot({"best.a": np.arange(3)}, {"step": 4, "notes": {"alignment": "x"}})
    found = kept_in(passed_on(fit.order(kept)))
    assert found is not None
    assert found.values == kept.values
    np.testing.assert_array_equal(found.tensors["best.a"], np.arange(3))
