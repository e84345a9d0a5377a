"""Training of a new participant's tokens in a frozen network, for as long as held-out trials say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.ridge_solver import folds_of
from clipmused_bids.records import History, TrialData
from clipmused_bids.training.anchored import AnchoredTrainer
from clipmused_bids.training.monitor import ValidationScore

TOKENS = "tokens.subject"
MOST_EPOCHS = 40
# Tokens alone are few numbers, and far from what steps of the net's own learning rate reach in so few epochs.
RATE_OVER_BASE = 10.0
PULL = 0.01

MakeTrainer = Callable[[Network, TrialData, TrialData], AnchoredTrainer]


@dataclass(frozen=True)
class Tuned:
    """How tokens were trained.

    Parameters
    ----------
    notes : mapping
        ``epochs``, ``chosen_by``, and ``held_out_loss`` of the start and of what was chosen, where groups were left
        out.
    history : History or None
        Of the training that the validation trials chose from; or the mean over folds that were left out in turn.
        None where nothing was trained.
    """

    notes: dict[str, Any]
    history: History | None = None


def tune_tokens(
    model: Network,
    train: TrialData,
    validation: TrialData,
    *,
    options: TrainingOptions,
    guided: bool,
    seed: int,
    device: torch.device,
) -> Tuned:
    """Train the tokens of a network of one participant in place, pulled towards where they start.

    Validation trials choose the epoch by the options' ``choose_by``, as in training. Without any, groups of training
    trials are left out in turn, and the epoch with the least label loss on them, summed over folds, is the one
    for which the tokens are trained on all; with ``loss-1se`` only if it is less than the start's by a standard error
    of the difference over trials. Both may choose epoch 0, the start. A single group chooses nothing.

    Parameters
    ----------
    model : Network
        Changed in place; only ``tokens.subject``.
    train, validation : TrialData
        Trials of one participant.
    options : TrainingOptions
        Those of the base, with the label loss that it was trained by; the learning rate is ten times theirs.
    guided : bool
        Whether CLIP targets guide the tokens.
    seed : int
        Order of trials and mixing.
    device : torch.device

    Returns
    -------
    Tuned
    """
    if TOKENS not in dict(model.named_parameters()):
        return Tuned({"epochs": 0, "chosen_by": "no tokens of participants"})
    if train.n_trials == 0:
        return Tuned({"epochs": 0, "chosen_by": "no calibration trials: the mean token"})
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
        return Tuned({"epochs": history.best_epoch, "chosen_by": "validation trials"}, history)
    if len(np.unique(train.group)) < 2:
        return Tuned({"epochs": 0, "chosen_by": "a single group of trials: the mean token"})
    scores, columns = _held_out(model, train, trainer=trainer)
    n_epochs = _chosen(scores, careful=options.choose_by == "loss-1se")
    if n_epochs:
        trainer(model, train, validation).run(n_epochs=n_epochs)
    found = {"mean token": scores[0].loss, "chosen": scores[n_epochs].loss}
    notes = {"epochs": n_epochs, "chosen_by": "leaving groups out", "held_out_loss": found}
    return Tuned(notes, History(columns=columns, best_epoch=n_epochs, stopped="leaving groups out"))


def _chosen(scores: list[ValidationScore], *, careful: bool) -> int:
    """Epoch with the least loss; if ``careful``, the start where that is not less by a standard error."""
    best = int(np.argmin([one.loss for one in scores]))
    return 0 if careful and not scores[best].beats(scores[0]) else best


def _held_out(
    model: Network, train: TrialData, *, trainer: MakeTrainer
) -> tuple[list[ValidationScore], dict[str, tuple[float, ...]]]:
    """Label loss of trials that are left out, after each epoch, and the mean of the folds' histories."""
    fold = folds_of(train.group)
    share, looks, histories = [], [], []
    with each_of(
        np.unique(fold).tolist(), "Tokens without each fold of the training trials", "fold"
    ) as folds:
        for k in folds:
            held_out = train.subset(np.flatnonzero(fold == k))
            run = trainer(copy.deepcopy(model), train.subset(np.flatnonzero(fold != k)), held_out)
            histories.append(run.run(n_epochs=MOST_EPOCHS))
            share.append(held_out.n_trials / train.n_trials)
            looks.append(run.looks)
    # A fold without any known label has no loss.
    scores = [
        ValidationScore(
            mean_average_precision=float("nan"),
            loss=float(sum(w * np.nan_to_num(one.loss) for w, one in zip(share, epoch, strict=True))),
            of_trial=np.concatenate([one.of_trial for one in epoch]),
        )
        for epoch in zip(*looks, strict=True)
    ]
    columns = {
        name: tuple(np.average([one.columns[name] for one in histories], axis=0, weights=share).tolist())
        # Tokens are not measured where a fold has too few trials for it.
        for name in histories[0].columns
        if all(name in one.columns for one in histories)
    }
    return scores, columns | {"val_loss": tuple(one.loss for one in scores)}
