"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.losses import TERMS, Guidance, Term, loss_terms, total_loss
from clipmused_bids.decoder.network import DecoderOutput, Network
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, History, TrialData
from clipmused_bids.training.batches import (
    Batch,
    Mixing,
    TrialReader,
    draw_mixing,
    epoch_order,
    guidance_similarity,
    mix,
)
from clipmused_bids.training.guidance import TargetSimilarity
from clipmused_bids.training.health import TokenProbe
from clipmused_bids.training.label_kind import label_loss_kind
from clipmused_bids.training.monitor import (
    ValidationScore,
    decode_logits,
    gradient_norms,
    similarity_fit,
    token_norms,
    validate,
)
from clipmused_bids.training.optimizer import learning_rate, make_optimizer, trained_parameters
from clipmused_bids.training.state import load_tensors, seeded, tensors_of

logger = logging.getLogger(__name__)

Row = dict[str, float]


@dataclass(frozen=True)
class Levels:
    """Similarities of the stimuli at both levels; None where the level's guidance is off."""

    low: TargetSimilarity | None
    high: TargetSimilarity | None


def guidance_levels(data: TrialData, *, options: TrainingOptions, device: torch.device) -> Levels:
    """Similarities that guide the tokens, and a log line for each level that is off.

    A level is off where its weight is 0, where the dataset has no such features, or where no trial has any.
    """
    levels: dict[str, TargetSimilarity | None] = {}
    for name, weight in (("low", options.lambda_low), ("high", options.lambda_high)):
        features = None if data.targets is None else getattr(data.targets, name)
        levels[name] = None
        if weight == 0:
            logger.info("guidance: the %s level is off (lambda_%s = 0).", name, name)
        elif features is None or not (data.stimulus >= 0).any():
            logger.info("guidance: the %s level is off (no CLIP features of the stimuli).", name)
        else:
            levels[name] = TargetSimilarity(features, device=device)
    return Levels(low=levels["low"], high=levels["high"])


def term_weights(options: TrainingOptions) -> dict[Term, float]:
    """Weight of each term of the loss."""
    return {
        "labels": 1.0,
        "perp": options.lambda_perp,
        "low": options.lambda_low,
        "high": options.lambda_high,
    }


def batch_terms(
    output: DecoderOutput, batch: Batch, *, levels: Levels, mixing: Mixing | None, options: TrainingOptions
) -> dict[Term, Tensor]:
    """All terms of the loss of one batch, unweighted; a term that is off is not among them."""
    guidance = {
        name: Guidance(*guidance_similarity(level, batch, mixing))
        for name, level in (("low", levels.low), ("high", levels.high))
        if level is not None
    }
    terms = loss_terms(
        output,
        batch.labels,
        low=guidance.get("low"),
        high=guidance.get("high"),
        perp_scale=options.perp_scale,
        label_kind="softmax" if options.label_loss == "softmax" else "binary",
    )
    return {name: value for name, value in terms.items() if term_weights(options)[name] > 0}


class Trainer:
    """Trains one decoder in place.

    Parameters
    ----------
    model : Network
        Its weights are changed; at the end they are those of the best epoch.
    train, validation : TrialData
        ``validation`` chooses the epoch and ends the training; nothing is fitted to it.
    options : TrainingOptions
    seed : int
        Decides the order of trials, mixing and dropout. The same seed gives the same weights on a CPU.
    device : torch.device
    scores : ndarray of shape (n_trials, C), optional
        Held-out scores of the model's fixed readout for the training trials.
    guided : bool
        Whether the tokens are guided, as the options weight it; without, the labels' term is the whole loss.
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
        scores: FloatArray | None = None,
        guided: bool = True,
    ) -> None:
        self.label_kind = label_loss_kind(options, train)
        self.options = replace(options, label_loss=self.label_kind)
        self.seed = seed
        self.device = device
        self.weights = term_weights(options)
        self.fabric = Fabric(accelerator=device.type, devices=1, precision=options.precision)
        self.plain = model
        self.model, self.optimizer = self.fabric.setup(model, make_optimizer(model, options))
        self.reader = TrialReader(train, device=device, scores=scores)
        self.validation = TrialReader(validation, device=device)
        self.levels = Levels(low=None, high=None)
        if guided:
            self.levels = guidance_levels(train, options=options, device=device)
        self.generator = np.random.default_rng(seed)
        self.probe = TokenProbe(train, validation, seed=seed)
        self._probe_reader: TrialReader | None = None

    def run(
        self, report: Callable[[dict[str, Any]], None] | None = None, *, n_epochs: int | None = None
    ) -> History:
        """Train until no epoch was better for ``patience`` epochs, then take the best epoch's weights.

        Parameters
        ----------
        report : callable, optional
            Called with each epoch's row of the history.
        n_epochs : int, optional
            Train for exactly so many epochs (0: not at all); nothing is chosen.

        Returns
        -------
        History
            One row before training (epoch 0, which can be the best) and one for each epoch: ``epoch``,
            ``learning_rate``; ``loss`` and each unweighted term
            (``loss_labels``, ``loss_perp``, ``loss_low``, ``loss_high``), mean over the epoch's batches; of the
            first batch, the norm of each weighted term's gradient (``gradient_...``), the tokens' norms, the loss
            of the best constant similarity and the correlation of similarities; of the probe's trials, what
            ``TokenProbe.measure`` says; ``val_loss``, ``val_map``. NaN where a term is off.

        Raises
        ------
        DataError
            If a loss is not finite; names the epoch.
        """
        limit = self.options.max_epochs if n_epochs is None else n_epochs
        # Where the number of epochs is given, nobody looks at the history: no trial is decoded for it alone.
        if n_epochs is None and not self.probe.of_validation:
            self._probe_reader = TrialReader(self.probe.trials, device=self.device)
        stopped = f"after {limit} epochs"
        by = self.options.choose_by
        with seeded(self.seed, device=self.device):
            score, health = self._look()
            rows = [self._row(0, losses=dict.fromkeys(TERMS, float("nan")), watched=health, score=score)]
            best, best_rank, best_epoch = tensors_of(self.plain), score.rank(by=by), 0
            start, first, chosen = best, score, score
            for epoch in range(1, limit + 1):
                row, score = self._epoch(epoch)
                rows.append(row)
                if report is not None:
                    report(dict(row))
                # Where nothing can be chosen by, the last epoch counts.
                if n_epochs is not None or np.isnan(score.loss) or score.rank(by=by) > best_rank:
                    best, best_rank, best_epoch = tensors_of(self.plain), score.rank(by=by), epoch
                    chosen = score
                elif epoch - best_epoch >= self.options.patience:
                    what = "mAP" if by == "map" else "loss"
                    stopped = f"no better validation {what} for {self.options.patience} epochs"
                    break
        if n_epochs is None and by == "loss-1se" and best_epoch and not chosen.beats(first):
            best, best_epoch = start, 0
            stopped += "; no epoch was better than the start by a standard error"
        load_tensors(self.plain, best)
        self.plain.eval()
        nan = float("nan")
        columns = {name: tuple(row.get(name, nan) for row in rows) for name in rows[-1]}
        return History(columns=columns, best_epoch=best_epoch, stopped=stopped)

    def _epoch(self, epoch: int) -> tuple[Row, ValidationScore]:
        rate = learning_rate(self.options, epoch=epoch - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        order = epoch_order(
            self.reader.data.n_trials, batch_size=self.options.batch_size, generator=self.generator
        )
        sums = dict.fromkeys(TERMS, 0.0)
        watched: Row = {}
        for step, index in enumerate(order):
            terms = self._step(self.reader.batch(index), epoch=epoch, watched=watched if step == 0 else None)
            for name in TERMS:
                sums[name] += float(terms.get(name, torch.tensor(float("nan")))) / len(order)
        score, health = self._look()
        return self._row(epoch, losses=sums, watched=watched | health, score=score), score

    def _look(self) -> tuple[ValidationScore, Row]:
        """Score the validation trials, and measure the tokens of the probe on the way."""
        probe = self.probe
        watch = probe.see if probe.of_validation else None
        score = validate(self.model, self.validation, kind=self.label_kind, watch=watch)
        if self._probe_reader is not None:
            decode_logits(self.model, self._probe_reader, watch=lambda k, out: probe.see(probe.index[k], out))
        return score, probe.measure()

    def _step(self, batch: Batch, *, epoch: int, watched: Row | None) -> dict[Term, Tensor]:
        mixing = None
        if self.options.mixup > 0:
            mixing = draw_mixing(batch, concentration=self.options.mixup, generator=self.generator)
            batch = mix(batch, mixing)
        self.optimizer.zero_grad()
        output = self.model(batch.responses, batch.participants, scores_BC=batch.scores)
        terms = batch_terms(output, batch, levels=self.levels, mixing=mixing, options=self.options)
        loss = total_loss(terms, self.weights)
        if not bool(torch.isfinite(loss)):
            raise DataError(
                f"Training: the loss is not finite in epoch {epoch} "
                f"({', '.join(f'{name} {float(value.detach()):.3g}' for name, value in terms.items())}).",
                hint="lower training.learning_rate, or check the responses' scale",
            )
        if watched is not None:
            watched.update(self._watch(output, batch, terms, mixing=mixing))
        self.fabric.backward(loss)
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def _watch(
        self, output: DecoderOutput, batch: Batch, terms: Mapping[Term, Tensor], *, mixing: Mixing | None
    ) -> Row:
        norms = gradient_norms(terms, self.weights, trained_parameters(self.plain))
        row: Row = {f"gradient_{name}": norms.get(name, float("nan")) for name in TERMS}
        row |= token_norms(output)
        for name, level, token in (
            ("low", self.levels.low, output.guided("low")),
            ("high", self.levels.high, output.guided("high")),
        ):
            fit = {"constant": float("nan"), "correlation": float("nan")}
            if level is not None and token is not None:
                similarity_BB, _ = guidance_similarity(level, batch, mixing)
                fit = similarity_fit(token, similarity_BB, stimulus_B=batch.stimulus)
            row |= {f"{key}_{name}": value for key, value in fit.items()}
        return row

    def _row(self, epoch: int, *, losses: Mapping[Term, float], watched: Row, score: ValidationScore) -> Row:
        on = {name: value for name, value in losses.items() if not np.isnan(value)}
        row: Row = {"epoch": float(epoch), "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row["loss"] = sum(self.weights[name] * value for name, value in on.items()) if on else float("nan")
        row |= {f"loss_{name}": losses[name] for name in TERMS}
        return row | watched | {"val_loss": score.loss, "val_map": score.mean_average_precision}
