"""Training of a few numbers of a decoder whose other weights stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.losses import Term
from clipmused_bids.decoder.network import Network
from clipmused_bids.records import TrialData
from clipmused_bids.training.batches import Batch
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.monitor import ValidationScore
from clipmused_bids.training.progress import Row


class AnchoredTrainer(Trainer):
    """Trains some parameters of a decoder and pulls them back to where they started.

    After each step of the optimizer, ``p <- p + pull (p_0 - p)``: weight decay towards the start.

    Parameters
    ----------
    model : Network
        Changed in place.
    train, validation, options, seed, device, guided
        As in ``Trainer``.
    trained : sequence of str
        Names of the parameters that are trained; the others no longer ask for gradients.
    pull : float
        Share of the distance to the start that is taken back at each step.

    Attributes
    ----------
    looks : list of ValidationScore
        Scores of the validation trials before training and after each epoch, with each trial's part of the loss.
    """

    def __init__(
        self,
        model: Network,
        train: TrialData,
        validation: TrialData,
        *,
        options: TrainingOptions,
        seed: int,
        device: torch.device,
        guided: bool,
        trained: Sequence[str],
        pull: float,
    ) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        super().__init__(model, train, validation, options=options, seed=seed, device=device, guided=guided)
        self.pull = pull
        self.looks: list[ValidationScore] = []
        self.anchored = [
            (parameter, parameter.detach().clone())
            for parameter in self.plain.parameters()
            if parameter.requires_grad
        ]

    def _look(self) -> tuple[ValidationScore, Row]:
        score, health = super()._look()
        self.looks.append(score)
        return score, health

    def _step(self, batch: Batch, *, epoch: int, watched: Row | None) -> dict[Term, float]:
        terms = super()._step(batch, epoch=epoch, watched=watched)
        with torch.no_grad():
            for parameter, start in self.anchored:
                parameter.lerp_(start, self.pull)
        return terms
