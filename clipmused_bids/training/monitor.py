"""What is watched while training: validation scores, gradients of each term, tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from clipmused_bids.config import LabelLoss
from clipmused_bids.decoder.losses import Term, label_loss
from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.training.batches import Batch, TrialReader
from clipmused_bids.training.joined_outputs import joined_fields, output_of
from clipmused_bids.training.processes import ALONE, Processes

DECODE_BATCH = 256

Watch = Callable[[IntArray, DecoderOutput], None]


@dataclass(frozen=True)
class ValidationScore:
    """mAP and label loss of the validation trials; NaN where nothing can be scored.

    ``of_trial`` holds each trial's part of the loss, (n_trials,); trials without a known label are left out.
    """

    mean_average_precision: float
    loss: float
    of_trial: FloatArray = field(default_factory=lambda: np.empty(0), compare=False)

    def beats(self, other: ValidationScore) -> bool:
        """Whether the loss is lower than another's by a standard error of the mean paired difference."""
        difference = other.of_trial - self.of_trial
        if len(difference) < 2:
            return False
        return bool(difference.mean() > difference.std(ddof=1) / np.sqrt(len(difference)))

    def rank(self, *, by: Literal["map", "loss", "loss-1se"] = "map") -> tuple[float, float]:
        """Key to choose weights by: the higher mAP, then the lower loss; or the lower loss alone."""
        if by != "map":
            return (-self.loss, 0.0)
        scored = not np.isnan(self.mean_average_precision)
        return (self.mean_average_precision if scored else 0.0, -self.loss)


def macro_average_precision(labels: FloatArray, scores: FloatArray) -> float:
    """Mean over labels of the average precision.

    Only labels with a known positive and a known negative enter; NaN if there is none.

    Parameters
    ----------
    labels : ndarray of shape (n_trials, C)
        1, 0 or NaN.
    scores : ndarray of shape (n_trials, C)
        Any monotonous score.
    """
    values = []
    for truth, score in zip(labels.T, scores.T, strict=True):
        known = ~np.isnan(truth)
        if 0 < truth[known].sum() < known.sum():
            values.append(average_precision_score(truth[known], score[known]))
    return float(np.mean(values)) if values else float("nan")


@torch.no_grad()
def decode_logits(
    model: nn.Module,
    reader: TrialReader,
    *,
    batch_size: int = DECODE_BATCH,
    watch: Watch | None = None,
    processes: Processes = ALONE,
) -> FloatArray:
    """Log-odds of all trials of a reader, in the order of its data: (n_trials, C) float64.

    ``watch`` is called with the places and the output of each batch. A batch that a GPU has no memory for is halved.
    Each of several processes decodes a part of each batch, and all have the whole.
    """
    was_training = model.training
    model.eval()
    logits = np.zeros(reader.data.labels.shape, dtype=np.float64)
    for index, batch in reader.in_order(batch_size=batch_size, division=processes.division):
        fields = joined_fields(_passed(model, batch), processes=processes, n_rows=batch.part.n_rows)
        output = output_of(fields)
        logits[index] = output.logits.double().cpu().numpy()
        if watch is not None:
            watch(index, output)
    model.train(was_training)
    return logits


def _passed(model: nn.Module, batch: Batch) -> list[DecoderOutput]:
    """Outputs of a batch, in as many parts as it takes to fit."""
    try:
        return [model(batch.responses, batch.participants, part=batch.part)]
    except torch.OutOfMemoryError:
        n_rows = sum(len(values) for values in batch.responses)
        if n_rows == 1:
            raise
    # Not where the error is caught: until then it holds what the failed pass allocated.
    return [output for half in batch.divided(-(-n_rows // 2)) for output in _passed(model, half)]


def log_odds(logits: FloatArray, *, kind: LabelLoss) -> FloatArray:
    """Log-odds of each label (n, C) by a network's logits; for ``softmax``, those of its probabilities."""
    if kind == "binary":
        return logits
    probability = softmax(logits, axis=1)
    others = np.maximum(probability.sum(axis=1, keepdims=True) - probability, np.finfo(float).tiny)
    return np.asarray(np.log(np.maximum(probability, np.finfo(float).tiny)) - np.log(others))


def validate(
    model: nn.Module,
    reader: TrialReader,
    *,
    kind: LabelLoss = "binary",
    watch: Watch | None = None,
    processes: Processes = ALONE,
) -> ValidationScore:
    """Score the validation trials.

    The loss is NaN where no label is known, and infinite where the decoder gives no numbers any more. Of several
    processes the first one's score counts: all must choose the same epoch, though their machines may round differently.
    """
    labels = reader.data.labels
    if reader.data.n_trials == 0 or np.isnan(labels).all():
        return ValidationScore(float("nan"), float("nan"))
    logits = decode_logits(model, reader, watch=watch, processes=processes)
    score, loss = processes.from_first(torch.tensor(_scored(logits, labels, kind=kind), dtype=torch.float64))
    of_trial = _loss_of_each(logits, labels, kind=kind) if torch.isfinite(loss) else np.empty(0)
    return ValidationScore(float(score), float(loss), of_trial)


def _scored(logits: FloatArray, labels: FloatArray, *, kind: LabelLoss) -> tuple[float, float]:
    """Mean average precision and label loss."""
    if not np.isfinite(logits).all():
        return float("nan"), float("inf")
    loss = label_loss(torch.as_tensor(logits), torch.as_tensor(labels), kind=kind)
    return macro_average_precision(labels, log_odds(logits, kind=kind)), float(loss)


def _loss_of_each(logits: FloatArray, labels: FloatArray, *, kind: LabelLoss) -> FloatArray:
    known = ~np.isnan(labels)
    rows = np.flatnonzero(known.all(axis=1) if kind == "softmax" else known.any(axis=1))
    pairs = zip(torch.as_tensor(logits[rows]), torch.as_tensor(labels[rows]), strict=True)
    return np.array([float(label_loss(one[None], truth[None], kind=kind)) for one, truth in pairs])


def gradient_norms(
    terms: Mapping[Term, Tensor],
    weights: Mapping[Term, float],
    gradients: Callable[[Tensor], Iterable[Tensor | None]],
) -> dict[Term, float]:
    """Norm of the gradient of each weighted term; ``gradients`` gives a value's by all parameters."""
    norms: dict[Term, float] = {}
    for name, value in terms.items():
        squares = [one.float().square().sum() for one in gradients(weights[name] * value) if one is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return norms


def backpropagated(parameters: Sequence[Tensor]) -> Callable[[Tensor], Iterable[Tensor | None]]:
    """Return what gives the gradients of a value by these parameters; the graph is kept."""
    return lambda value: torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)


def token_norms(output: DecoderOutput) -> dict[str, float]:
    """Mean norm of z_llv and z_hlv over a batch; of a single token twice, NaN without tokens."""
    return {"norm_low": _mean_norm(output.guided("low")), "norm_high": _mean_norm(output.guided("high"))}


def _mean_norm(token_BD: Tensor | None) -> float:
    return float("nan") if token_BD is None else float(token_BD.detach().float().norm(dim=1).mean())


def similarity_fit(token_BD: Tensor, similarity_BB: Tensor, *, stimulus_B: Tensor) -> dict[str, float]:
    """How far a token's similarities follow the targets', on one batch.

    Parameters
    ----------
    token_BD : Tensor of shape (B, D)
        z_llv or z_hlv.
    similarity_BB : Tensor of shape (B, B)
        Cosines of the targets.
    stimulus_B : Tensor of int, shape (B,)
        Stimulus of each trial; pairs of one stimulus, and unknown ones, are left out.

    Returns
    -------
    dict
        ``constant``: mean squared error of the best constant similarity, the floor of a token that knows nothing;
        ``correlation``: Pearson correlation of the two upper triangles. NaN with fewer than three pairs.
    """
    unit = torch.nn.functional.normalize(token_BD.detach().float(), dim=1)
    rows, columns = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    different = (
        (stimulus_B[rows] != stimulus_B[columns]) & (stimulus_B[rows] >= 0) & (stimulus_B[columns] >= 0)
    )
    target = similarity_BB[rows, columns][different].cpu().numpy()
    found = (unit @ unit.T)[rows, columns][different].cpu().numpy()
    if len(target) < 3 or target.std() < 1e-9 or found.std() < 1e-9:
        return {"constant": float(target.var()) if len(target) else float("nan"), "correlation": float("nan")}
    return {"constant": float(target.var()), "correlation": float(np.corrcoef(target, found)[0, 1])}
