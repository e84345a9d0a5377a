from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clipmused_bids.config import ModelOptions, TrainingOptions
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.records import TrialData
from clipmused_bids.training.anchored import AnchoredTrainer
from clipmused_bids.training.state import tensors_of

OPTIONS = TrainingOptions(max_epochs=3, learning_rate=1e-2, perp_scale="batch+width", weight_decay=0.05)
TOKENS = "tokens.subject"


def trained(data: TrialData, *, pull: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tensors before and after."""
    options = ModelOptions(width=16, depth=1, heads=2)
    torch.manual_seed(0)
    model = build_decoder(choose_architecture(data, options), options, n_participants=2)
    before = tensors_of(model)
    trainer = AnchoredTrainer(
        model, data, data.subset(np.empty(0, dtype=int)), options=OPTIONS, seed=0, device=torch.device("cpu"),
        guided=True, trained=[TOKENS], pull=pull,
    )  # fmt: skip
    trainer.run(n_epochs=3)
    return before, tensors_of(model)


def test_only_what_is_named_is_trained(make_trials: Callable[..., TrialData]) -> None:
    before, after = trained(make_trials(), pull=0.0)
    changed = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    assert changed == {TOKENS}


def test_the_pull_goes_back_to_the_start(make_trials: Callable[..., TrialData]) -> None:
    """All the way with a share of 1, and less far away with any than with none."""
    distance = {}
    for pull in (0.0, 0.3, 1.0):
        before, after = trained(make_trials(), pull=pull)
        distance[pull] = np.abs(after[TOKENS] - before[TOKENS]).max()
    assert distance[1.0] == pytest.approx(0, abs=1e-7)
    assert 0 < distance[0.3] < 0.7 * distance[0.0]
