"""What links people in native space: the shared features of what the known participants saw.

Shapes: n trials, R template rows, F shared features, C labels, H high-level CLIP features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmused_bids.decoder.network import Network
from clipmused_bids.methods.base import Tensors, label_frequency
from clipmused_bids.methods.ridge_solver import array_rows, fit_ridge
from clipmused_bids.methods.stacking import bounded_frequency
from clipmused_bids.records import FloatArray, IntArray, TrialData

REGRESSION_TRIALS = 20_000
READ_ROWS = 2048
ALL_TRIALS = -1


@dataclass(frozen=True)
class Template:
    """Shared features of stimuli, and linear maps between labels and features; fitted to training trials.

    Parameters
    ----------
    stimulus : ndarray of int, shape (R,)
        Digest of each row's stimulus.
    occurrence : ndarray of int, shape (R,)
        Which presentation the row is, from 0; -1 where it is the mean over all of them.
    features : ndarray of shape (R, F), float16
        Mean features over the known participants: half the size, and its rounding is far below their noise.
    spread : ndarray of shape (F,)
        Standard deviation of each feature over single trials.
    label_mean, frequency : ndarray of shape (C,)
        Share of positives; the same, kept from 0 and 1 as in the decoder's readout.
    from_labels : ndarray of shape (C + 1, F)
        Features predicted from labels; the last row is the intercept.
    from_labels_and_clip : ndarray of shape (C + H + 1, F)
        The same from labels and high-level CLIP features; without rows where there are none.
    classifier : ndarray of shape (F + 1, C)
        Labels predicted from features; the last row is the intercept.
    """

    stimulus: IntArray
    occurrence: IntArray
    features: NDArray[np.float16]
    spread: FloatArray
    label_mean: FloatArray
    frequency: FloatArray
    from_labels: FloatArray
    from_labels_and_clip: FloatArray
    classifier: FloatArray

    def tensors(self, prefix: str) -> Tensors:
        """Return the arrays by name."""
        return {f"{prefix}{name}": np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], prefix: str) -> Template | None:
        """Read back what ``tensors`` gave; None where nothing was stored."""
        found = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        return cls(**found) if found else None

    def label_scores(self, features: FloatArray) -> FloatArray:
        """Scores of labels as a fixed readout has them, (n, C): ``(f W + b - p) / (p (1 - p))``."""
        spread = self.frequency * (1 - self.frequency)
        return np.asarray((features @ self.classifier[:-1] + self.classifier[-1] - self.frequency) / spread)

    def targets(self, data: TrialData) -> dict[str, FloatArray]:
        """Features that trials of one new participant should have, (n, F), by what the trials are matched by.

        ``stimulus``: the mean features of the trial's stimulus. ``occurrence``, where the template knows single
        presentations: those of the k-th presentation for the k-th trial of a stimulus. Trials of unknown stimuli
        have the features that their labels (and CLIP features) predict; where all are, the key is ``labels``.
        """
        predicted = self._predicted(data)
        keys = [stimulus_digest(name) if name else 0 for name in data.stimulus_id]
        means = self._means()
        known = np.array([key in means for key in keys], dtype=bool)
        if not known.any():
            return {"labels": predicted}
        by_stimulus = predicted.copy()
        by_stimulus[known] = np.stack([means[key] for key, here in zip(keys, known, strict=True) if here])
        found = {"stimulus": by_stimulus}
        if (self.occurrence != ALL_TRIALS).any():
            rows = {
                pair: k
                for k, pair in enumerate(zip(self.stimulus.tolist(), self.occurrence.tolist(), strict=True))
            }
            by_occurrence = by_stimulus.copy()
            for i, k in enumerate(_occurrence(data)):
                if (keys[i], k) in rows:
                    by_occurrence[i] = self.features[rows[keys[i], k]]
            found["occurrence"] = by_occurrence
        return found

    def _means(self) -> dict[int, FloatArray]:
        keys, index = np.unique(self.stimulus, return_inverse=True)
        return dict(zip(keys.tolist(), _mean_rows(self.features, index, n=len(keys)), strict=True))

    def _predicted(self, data: TrialData) -> FloatArray:
        labels = np.where(np.isnan(data.labels), self.label_mean, data.labels)
        predicted = np.asarray(labels @ self.from_labels[:-1] + self.from_labels[-1])
        high = clip_features(data)
        if high is None or len(self.from_labels_and_clip) != labels.shape[1] + high.shape[1] + 1:
            return predicted
        known = ~np.isnan(high[:, 0])
        both = np.column_stack([labels, high])[known]
        predicted[known] = both @ self.from_labels_and_clip[:-1] + self.from_labels_and_clip[-1]
        return predicted


def make_template(
    model: Network, train: TrialData, *, minimum: int, alphas: tuple[float, ...], device: torch.device
) -> Template:
    """Describe the shared features of training trials by a trained decoder with maps of each participant's own.

    Parameters
    ----------
    model : Network
    train : TrialData
        Trials that the decoder was fitted to.
    minimum : int
        With fewer stimuli than this (conditions of a block design), each presentation has a row of its own.
    alphas : tuple of float
        Penalties of the regressions, chosen by leaving groups out.
    device : torch.device
        Where the model is.

    Returns
    -------
    Template
    """
    features = shared_features(model, train, device=device)
    stimulus, occurrence, means = _rows_of(train, features, minimum=minimum)
    some = np.unique(np.linspace(0, train.n_trials - 1, REGRESSION_TRIALS).astype(int))
    few = train.subset(some)
    frequency = bounded_frequency(train)
    label_mean = label_frequency(train.labels)
    labels = np.where(np.isnan(few.labels), label_mean, few.labels)
    high = clip_features(few)
    known = np.zeros(0, dtype=np.int64) if high is None else np.flatnonzero(~np.isnan(high[:, 0]))
    both: FloatArray = np.zeros((0, features.shape[1]))
    if high is not None and len(known) > 1:
        both = _regression(
            [labels[known], high[known]], features[some][known], group=few.group[known], alphas=alphas
        )
    classifier = _regression([features[some]], few.labels, group=few.group, alphas=alphas)
    classifier[-1] = np.where(np.isnan(classifier[-1]), label_mean, classifier[-1])
    return Template(
        stimulus=stimulus,
        occurrence=occurrence,
        features=means.astype(np.float16),
        spread=features.std(axis=0).astype(np.float32),
        label_mean=label_mean,
        frequency=frequency,
        from_labels=_regression([labels], features[some], group=few.group, alphas=alphas),
        from_labels_and_clip=both,
        classifier=classifier,
    )


@torch.no_grad()
def shared_features(model: Network, data: TrialData, *, device: torch.device) -> FloatArray:
    """Bring trials into the features that all participants share, (n, F) float32, in the order of the trials."""
    model = model.to(device)
    found = np.zeros((data.n_trials, model.patches.n_features), dtype=np.float32)
    for p in range(len(data.participants)):
        mine = np.flatnonzero(data.participant == p)
        for start in range(0, len(mine), READ_ROWS):
            index = mine[start : start + READ_ROWS]
            x_BV = torch.as_tensor(data.responses[p].read(data.row[index]), device=device)
            found[index] = model.patches.features(x_BV, p).cpu().numpy()
    return found


def clip_features(data: TrialData) -> FloatArray | None:
    """High-level CLIP features of trials, (n, H) with NaN where unknown; None where none is known."""
    if data.targets is None or data.targets.high is None or not (data.stimulus >= 0).any():
        return None
    high = np.asarray(data.targets.high, dtype=np.float64)[np.maximum(data.stimulus, 0)]
    unknown = (data.stimulus < 0) | ~np.any(high, axis=1)
    return None if unknown.all() else np.where(unknown[:, None], np.nan, high)


def _rows_of(
    train: TrialData, features: FloatArray, *, minimum: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Stimulus, occurrence and mean features of each row of the template."""
    keys = np.array([stimulus_digest(name) if name else 0 for name in train.stimulus_id], dtype=np.int64)
    named = np.flatnonzero([bool(name) for name in train.stimulus_id])
    occurrence = _occurrence(train)
    if len(np.unique(keys[named])) >= minimum:
        occurrence = np.full_like(occurrence, ALL_TRIALS)
    pairs, index = np.unique(np.stack([keys[named], occurrence[named]]), axis=1, return_inverse=True)
    means = _mean_rows(features[named], index.reshape(-1), n=pairs.shape[1])
    return pairs[0], pairs[1], means


def _occurrence(data: TrialData) -> IntArray:
    """How often a participant saw the trial's stimulus before, among these trials, in order of the rows."""
    seen: dict[tuple[int, str], int] = {}
    occurrence = np.zeros(data.n_trials, dtype=np.int64)
    for i in np.lexsort((data.row, data.participant)):
        pair = (int(data.participant[i]), data.stimulus_id[i])
        occurrence[i] = seen.get(pair, 0)
        seen[pair] = int(occurrence[i]) + 1
    return occurrence


def _mean_rows(values: FloatArray, index: IntArray, *, n: int) -> FloatArray:
    total = np.zeros((n, values.shape[1]))
    np.add.at(total, index, values)
    return total / np.maximum(np.bincount(index, minlength=n), 1)[:, None]


def _regression(
    blocks: Sequence[FloatArray], y: FloatArray, *, group: IntArray, alphas: tuple[float, ...]
) -> FloatArray:
    """Coefficients and, in the last row, intercept of a ridge; every block has the same total variance."""
    scales = [1 / max(float(np.sqrt(block.var(axis=0).sum())), 1e-12) for block in blocks]
    x = np.column_stack([block * scale for block, scale in zip(blocks, scales, strict=True)])
    fit = fit_ridge(array_rows(x), np.asarray(y, dtype=np.float64), group=group, alphas=alphas)
    columns = np.repeat(scales, [block.shape[1] for block in blocks])
    return np.vstack([fit.coef * columns[:, None], fit.intercept])


def stimulus_digest(name: str) -> int:
    """Digest of a stimulus's name: what a template knows of it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)
