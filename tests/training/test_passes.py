"""A batch in parts gives the losses and gradients of the whole, with the same values dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.records import TrialData
from clipmused_bids.training.loop import Trainer
from tests.training.test_loop import CPU, OPTIONS, decoder


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 15])
@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_micro_batches_train_as_whole_ones(
    make_trials: Callable[..., TrialData], micro_batch: int, mixup: float
) -> None:
    """With dropout, mixing, a fixed readout and losses that compare all trials; gradients of each term too."""
    data = make_trials()
    halves = [data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))]
    scores = np.random.default_rng(0).standard_normal(halves[0].labels.shape)
    histories, weights = [], []
    for size in (0, micro_batch):
        model = decoder(halves[0], readout=True)
        options = replace(OPTIONS, micro_batch=size, mixup=mixup, learning_rate=1e-3, max_epochs=3)
        trainer = Trainer(model, *halves, options=options, seed=0, device=CPU, scores=scores)
        histories.append(trainer.run().columns)
        weights.append(dict(model.state_dict()))
    assert np.isfinite(histories[0]["gradient_low"][1:]).all()
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=2e-4, atol=1e-6, err_msg=name)
    for name, value in weights[0].items():
        # Keys' biases have no gradient but rounding, which Adam blows up.
        if not name.endswith("qkv.bias"):
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)


def test_most_rows_that_pass_at_once_are_kept_to(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    model = decoder(data)
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda _module, given: seen.append(sum(len(values) for values in given[0]))
    )
    options = replace(OPTIONS, micro_batch=5, max_epochs=1)
    trainer = Trainer(model, data, data.subset(np.arange(0)), options=options, seed=0, device=CPU)
    seen.clear()
    model.train()
    trainer._step(trainer.reader.batch(np.arange(16)), epoch=1, watched=None)
    assert max(seen) == 5
    # Every row twice: for the outputs, and for the gradients.
    assert sum(seen) == 32
