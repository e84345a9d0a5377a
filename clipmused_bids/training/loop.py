"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.losses import TERMS, Term, total_loss
from clipmused_bids.decoder.network import Network
from clipmused_bids.errors import DataError, InterruptedRunError
from clipmused_bids.long_work import LongWork, long_work
from clipmused_bids.records import FloatArray, History, TrialData
from clipmused_bids.training.batches import Batch, TrialReader, epoch_order
from clipmused_bids.training.checkpoint import Keeper, KeepsNothing, Snapshot
from clipmused_bids.training.feed import Fed, Feed
from clipmused_bids.training.health import TokenProbe
from clipmused_bids.training.keeping import keep
from clipmused_bids.training.label_kind import label_loss_kind
from clipmused_bids.training.monitor import ValidationScore, decode_logits, validate
from clipmused_bids.training.on_device import on_device
from clipmused_bids.training.optimizer import learning_rate, make_optimizer
from clipmused_bids.training.passes import Passes
from clipmused_bids.training.processes import Processes
from clipmused_bids.training.progress import Progress, Row, place_of
from clipmused_bids.training.state import load_tensors, restore_run, state_of_run, tensors_of
from clipmused_bids.training.terms import Levels, batch_terms, guidance_levels, term_weights, watched_in

logger = logging.getLogger(__name__)


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
    processes : Processes, optional
        That train it together; without, this one alone.
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
        processes: Processes | None = None,
    ) -> None:
        self.label_kind = label_loss_kind(options, train)
        self.options = replace(options, label_loss=self.label_kind)
        self.seed = seed
        self.device = device
        self.weights = term_weights(options)
        self.processes = Processes() if processes is None else processes
        self.fabric = self.processes.fabric(device=device, precision=options.precision)
        self.plain = model
        self.model, self.optimizer = self.fabric.setup(model, make_optimizer(model, options))
        self.passes = Passes(
            model, self.model, fabric=self.fabric, processes=self.processes, micro_batch=options.micro_batch
        )
        self.scores = scores
        self.reader = TrialReader(train, device=device, scores=scores)
        self.feed = Feed(self.reader, mixup=options.mixup, division=self.processes.division)
        self.validation = TrialReader(validation, device=device)
        self.levels = Levels(low=None, high=None)
        if guided:
            self.levels = guidance_levels(train, options=options, device=device)
        self.generator = np.random.default_rng(seed)
        self.probe = TokenProbe(train, validation, seed=seed)
        self._probe_reader: TrialReader | None = None

    def run(
        self,
        report: Callable[[dict[str, Any]], None] | None = None,
        *,
        n_epochs: int | None = None,
        keeper: Keeper | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> History:
        """Train until no epoch was better for ``patience`` epochs, then take the best epoch's weights.

        Parameters
        ----------
        report : callable, optional
            Called with each epoch's row of the history.
        n_epochs : int, optional
            Train for exactly so many epochs (0: not at all); nothing is chosen.
        keeper : Keeper, optional
            Has the state that the training goes on from, takes further ones, and says when to stop.
        notes : mapping, optional
            JSON values that are kept with the state, for whoever made the model.

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
        InterruptedRunError
            If the keeper was asked to stop; the state is kept.
        """
        keeper = KeepsNothing() if keeper is None else keeper
        # Where the number of epochs is given, nobody looks at the history: no trial is decoded for it alone.
        if n_epochs is None and not self.probe.of_validation:
            self._probe_reader = TrialReader(self.probe.trials, device=self.device)
        options, processes = self.options, self.processes
        place = on_device(self.plain, self.reader, options=options, seed=self.seed, processes=processes)
        with place, keeper.attentive():
            kept = keeper.load()
            processes.require_same(place_of(kept))
            progress = self._resumed(kept) or self._begun()
            with self._epochs(progress, n_epochs=n_epochs) as work:
                while not progress.stopped:
                    progress.stopped = self._why_stop(progress, n_epochs=n_epochs)
                    if not progress.stopped:
                        score = self._epoch(progress, keeper, notes=notes or {})
                        self._choose(progress, score, n_epochs=n_epochs)
                        if report is not None:
                            report(dict(progress.rows[-1]))
                        known = not np.isnan(score.mean_average_precision)
                        work.advance(
                            note=f"validation mAP {score.mean_average_precision:.3f}" if known else ""
                        )
                    else:
                        # What was trained to the end is not trained again while something else of the decoder is.
                        self._save(keeper, lambda: progress.to_snapshot().noted(notes or {}))
        self.feed.say_waited()
        load_tensors(self.plain, progress.best)
        self.plain.eval()
        return progress.history()

    @contextmanager
    def _epochs(self, progress: Progress, *, n_epochs: int | None) -> Iterator[LongWork]:
        most = self.options.max_epochs if n_epochs is None else n_epochs
        with long_work("Training", most, "epoch", at_most=n_epochs is None) as work:
            work.skip(progress.epoch)
            yield work

    def _begun(self) -> Progress:
        score, health = self._look()
        row = self._row(0, losses=dict.fromkeys(TERMS, float("nan")), watched=health, score=score)
        weights = tensors_of(self.plain)
        return Progress(rows=[row], first=score, chosen=score, best=weights, start=weights)

    def _resumed(self, kept: Snapshot | None) -> Progress | None:
        if kept is None:
            return None
        progress = Progress.from_snapshot(kept)
        if not progress.stopped:
            restore_run(
                kept, model=self.plain, optimizer=self.optimizer, fabric=self.fabric, generator=self.generator,
                device=self.device,
            )  # fmt: skip
        return progress

    def _snapshot(
        self, progress: Progress, *, notes: Mapping[str, Any], generator_state: Mapping[str, Any]
    ) -> Snapshot:
        run = state_of_run(
            model=self.plain, optimizer=self.optimizer, fabric=self.fabric, generator_state=generator_state,
            device=self.device,
        )  # fmt: skip
        scores = {} if self.scores is None else {"scores": np.asarray(self.scores)}
        return progress.to_snapshot().joined(run).joined(Snapshot(scores)).noted(notes)

    def _why_stop(self, progress: Progress, *, n_epochs: int | None) -> str:
        """Say why no further epoch is trained; empty if one is."""
        limit = self.options.max_epochs if n_epochs is None else n_epochs
        by = self.options.choose_by
        stopped = ""
        if progress.order:
            return stopped
        if n_epochs is None and progress.epoch - progress.best_epoch >= self.options.patience:
            stopped = (
                f"no better validation {'mAP' if by == 'map' else 'loss'} for {self.options.patience} epochs"
            )
        elif progress.epoch >= limit:
            stopped = f"after {limit} epochs"
        careful = bool(stopped) and n_epochs is None and by == "loss-1se" and progress.best_epoch > 0
        if careful and not progress.chosen.beats(progress.first):
            progress.best, progress.best_epoch = progress.start, 0
            stopped += "; no epoch was better than the start by a standard error"
        return stopped

    def _choose(self, progress: Progress, score: ValidationScore, *, n_epochs: int | None) -> None:
        """Keep the weights of the epoch that is over, if they are the best."""
        by = self.options.choose_by
        # Where nothing can be chosen by, the last epoch counts.
        if n_epochs is not None or np.isnan(score.loss) or score.rank(by=by) > progress.chosen.rank(by=by):
            progress.best, progress.best_epoch = tensors_of(self.plain), progress.epoch
            progress.chosen = score

    def _epoch(self, progress: Progress, keeper: Keeper, *, notes: Mapping[str, Any]) -> ValidationScore:
        """Train what is left of an epoch, and close it."""
        epoch = progress.epoch + 1
        rate = learning_rate(self.options, epoch=epoch - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        if not progress.order:
            n_trials, batch_size = self.reader.data.n_trials, self.options.batch_size
            order = epoch_order(n_trials, batch_size=batch_size, generator=self.generator)
            progress.begin_epoch(order, terms=TERMS)
        with long_work(f"Epoch {epoch}", len(progress.order), "step", announced=True) as work:
            work.skip(progress.step)
            for fed in self.feed.batches(progress.order[progress.step :], generator=self.generator):
                terms = self._step(
                    fed.batch, epoch=epoch, watched=None if progress.step else progress.watched
                )
                for name in TERMS:
                    progress.sums[name] += terms.get(name, float("nan")) / len(progress.order)
                progress.step += 1
                self._keep(progress, keeper, fed, notes=notes)
                work.advance()
        score, health = self._look()
        progress.end_epoch(
            self._row(epoch, losses=progress.sums, watched=progress.watched | health, score=score)
        )
        return score

    def _keep(self, progress: Progress, keeper: Keeper, fed: Fed, *, notes: Mapping[str, Any]) -> None:
        """Keep the state after a step, if it is time to; end the training if it was asked to end."""
        stop = self.processes.any(keeper.stop_asked())
        if stop or self.processes.any(self.processes.rank == 0 and keeper.due()):
            state = partial(self._snapshot, progress, notes=notes, generator_state=fed.generator_state)
            self._save(keeper, state)
        if stop:
            self.processes.leave()
            raise InterruptedRunError(
                f"Training: stopped as asked in epoch {progress.epoch + 1}, after step {progress.step} of "
                f"{len(progress.order)}."
            )

    def _save(self, keeper: Keeper, state: Callable[[], Snapshot]) -> None:
        sets = (self.reader.data, self.validation.data)
        keep(keeper, state, processes=self.processes, sets=sets)

    def _look(self) -> tuple[ValidationScore, Row]:
        """Score the validation trials, and measure the tokens of the probe on the way."""
        probe = self.probe
        watch = probe.see if probe.of_validation else None
        score = validate(
            self.model, self.validation, kind=self.label_kind, watch=watch, processes=self.processes
        )
        if self._probe_reader is not None:
            decode_logits(
                self.model,
                self._probe_reader,
                watch=lambda k, out: probe.see(probe.index[k], out),
                processes=self.processes,
            )
        return score, probe.measure()

    def _step(self, batch: Batch, *, epoch: int, watched: Row | None) -> dict[Term, float]:
        self.optimizer.zero_grad()
        passed = self.passes.run(batch)
        terms = batch_terms(passed.output, batch, levels=self.levels, options=self.options)
        loss = total_loss(terms, self.weights)
        # One look for all: each makes a GPU wait.
        *found, whole = torch.stack([*terms.values(), loss]).detach().double().tolist()
        values = dict(zip(terms, found, strict=True))
        if self.processes.any(not np.isfinite(whole)):
            self.processes.leave()
            raise DataError(
                f"Training: the loss is not finite in epoch {epoch} "
                f"({', '.join(f'{name} {value:.3g}' for name, value in values.items())}).",
                hint="lower training.learning_rate, or check the responses' scale",
            )
        if watched is not None:
            norms = passed.gradient_norms(terms, self.weights)
            watched.update(watched_in(passed.output, batch, norms=norms, levels=self.levels))
        passed.backward(loss)
        self.optimizer.step()
        return values

    def _row(self, epoch: int, *, losses: Mapping[str, float], watched: Row, score: ValidationScore) -> Row:
        on = {name: losses[name] for name in TERMS if not np.isnan(losses[name])}
        row: Row = {"epoch": float(epoch), "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row["loss"] = sum(self.weights[name] * value for name, value in on.items()) if on else float("nan")
        row |= {f"loss_{name}": losses[name] for name in TERMS}
        return row | watched | {"val_loss": score.loss, "val_map": score.mean_average_precision}
