"""Training of a new participant's tokens in a frozen network, for as long as held-out trials say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.methods.ridge_solver import folds_of
from clipmused_bids.records import TrialData
from clipmused_bids.training.anchored import AnchoredTrainer

TOKENS = "tokens.subject"
MOST_EPOCHS = 40
# Tokens alone are few numbers, and far from what steps of the net's own learning rate reach in so few epochs.
RATE_OVER_BASE = 10.0
PULL = 0.01

MakeTrainer = Callable[[Network, TrialData, TrialData], AnchoredTrainer]


def tune_tokens(
    model: Network,
    train: TrialData,
    validation: TrialData,
    *,
    options: TrainingOptions,
    guided: bool,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train the tokens of a network of one participant in place, pulled towards where they start.

    Validation trials choose the epoch by mAP, then by label loss, as in training. Without any, groups of training
    trials are left out in turn, and the epoch with the least label loss on them, summed over folds, is the one
    for which the tokens are trained on all. Both may choose epoch 0, the start. A single group chooses nothing.

    Parameters
    ----------
    model : Network
        Changed in place; only ``tokens.subject``.
    train, validation : TrialData
        Trials of one participant.
    options : TrainingOptions
        Those of the base; the learning rate is ten times theirs.
    guided : bool
        Whether CLIP targets guide the tokens.
    seed : int
        Order of trials and mixing.
    device : torch.device

    Returns
    -------
    dict
        ``epochs``, ``chosen_by``, and ``held_out_loss`` of the start and of what was chosen, where groups were
        left out.
    """
    if TOKENS not in dict(model.named_parameters()):
        return {"epochs": 0, "chosen_by": "no tokens of participants"}
    if train.n_trials == 0:
        return {"epochs": 0, "chosen_by": "no calibration trials: the mean token"}
    tuning = replace(
        options,
        learning_rate=options.learning_rate * RATE_OVER_BASE,
        decay_every=0,
        max_epochs=MOST_EPOCHS,
        patience=MOST_EPOCHS,
    )

    def trainer(network: Network, fit_to: TrialData, held_out: TrialData) -> AnchoredTrainer:
        return AnchoredTrainer(
            network, fit_to, held_out, options=tuning, seed=seed, device=device, guided=guided,
            trained=[TOKENS], pull=PULL,
        )  # fmt: skip

    if validation.n_trials:
        history = trainer(model, train, validation).run()
        return {"epochs": history.best_epoch, "chosen_by": "validation trials"}
    if len(np.unique(train.group)) < 2:
        return {"epochs": 0, "chosen_by": "a single group of trials: the mean token"}
    losses = _held_out_losses(model, train, trainer=trainer)
    n_epochs = int(np.argmin(losses))
    if n_epochs:
        trainer(model, train, validation).run(n_epochs=n_epochs)
    return {
        "epochs": n_epochs,
        "chosen_by": "leaving groups out",
        "held_out_loss": {"mean token": float(losses[0]), "chosen": float(losses[n_epochs])},
    }


def _held_out_losses(model: Network, train: TrialData, *, trainer: MakeTrainer) -> np.ndarray:
    """Label loss of trials that are left out, after each epoch: (epochs + 1,)."""
    fold = folds_of(train.group)
    losses = np.zeros(MOST_EPOCHS + 1)
    for k in np.unique(fold):
        held_out = train.subset(np.flatnonzero(fold == k))
        run = trainer(copy.deepcopy(model), train.subset(np.flatnonzero(fold != k)), held_out)
        history = run.run(n_epochs=MOST_EPOCHS)
        # A fold without any known label has no loss.
        losses += held_out.n_trials / train.n_trials * np.nan_to_num(history.columns["val_loss"])
    return losses
