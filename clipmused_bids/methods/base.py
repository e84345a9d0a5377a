"""The interface of all methods, and what they check before they predict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.methods.context import ALONE, FitContext, Report
from clipmused_bids.records import FloatArray, History, TrialData, VoxelSpace
from clipmused_bids.training.monitor import macro_average_precision
from clipmused_bids.training.rows import require_finite

READ_ROWS = 4096
READ_VALUES = 2**24  # of responses at a time: 64 MB

FitOn = Literal["train", "train+validation"]
Tensors = dict[str, NDArray[Any]]


class Method(Protocol):
    """A decoder of labels; ``fit`` once, then ``predict_proba`` any number of times."""

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit to training trials; validation trials may choose hyper-parameters and weights, never fit them."""
        ...

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Probability of each label, (n_trials, C) float64 in [0, 1]; ``data.labels`` is not read."""
        ...

    def state(self) -> Tensors:
        """Return everything that was fitted, as arrays by name."""
        ...

    def config(self) -> dict[str, Any]:
        """Return what ``restore`` needs beside the state, as values that JSON can hold."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return counts of parameters: ``shared``, ``per_participant``; what else a reader should know."""
        ...


@dataclass(frozen=True)
class Signature:
    """What data must look like for a fitted method.

    Parameters
    ----------
    label_names : tuple of str
        Labels in order.
    masks : mapping of str to str
        Participant to a hash of the grid's shape and the voxels' places.
    n_voxels : mapping of str to int
        Participant to number of voxels.
    any_participant : bool
        Whether people who were not in the training data may be decoded (one common mask).
    """

    label_names: tuple[str, ...]
    masks: Mapping[str, str]
    n_voxels: Mapping[str, int]
    any_participant: bool

    @classmethod
    def of(cls, data: TrialData, *, any_participant: bool = False) -> Signature:
        """Describe training data."""
        return cls(
            label_names=data.label_names,
            masks={p: mask_hash(space) for p, space in zip(data.participants, data.spaces, strict=True)},
            n_voxels={p: table.n_voxels for p, table in zip(data.participants, data.responses, strict=True)},
            any_participant=any_participant,
        )

    def check(self, data: TrialData) -> None:
        """Refuse data that the method was not fitted for.

        Raises
        ------
        DataError
            For other labels, an unknown participant, another number of voxels, other voxels; names them.
        """
        if data.label_names != self.label_names:
            missing = [name for name in self.label_names if name not in data.label_names]
            added = [name for name in data.label_names if name not in self.label_names]
            raise DataError(
                f"Label set: the decoder has {len(self.label_names)} labels, the data {len(data.label_names)}; "
                f"only in the decoder: {_some(missing)}; only in the data: {_some(added)}"
                f"{'' if missing or added else '; the order differs'}.",
                hint="decode with the label table the decoder was trained with",
            )
        for participant, space, table in zip(data.participants, data.spaces, data.responses, strict=True):
            self._check_space(participant, space, table.n_voxels)

    def _check_space(self, participant: str, space: VoxelSpace, n_voxels: int) -> None:
        known = participant
        if participant not in self.masks:
            if not self.any_participant:
                raise DataError(
                    f"sub-{participant}: the decoder was not trained on this participant; "
                    f"it knows {_some(list(self.masks))}.",
                    hint="train with this participant, or choose others with --participant-label",
                )
            known = next(iter(self.masks))
        if n_voxels != self.n_voxels[known]:
            raise DataError(
                f"sub-{participant}: {n_voxels} voxels in the mask; the decoder expects {self.n_voxels[known]}.",
                hint="decode with the mask the decoder was trained with",
            )
        if mask_hash(space) != self.masks[known]:
            raise DataError(
                f"sub-{participant}: the mask has the expected {n_voxels} voxels, but not at the same places.",
                hint="decode with the mask the decoder was trained with",
            )

    def to_config(self) -> dict[str, Any]:
        """Return the signature as values that JSON can hold."""
        return {
            "label_names": list(self.label_names),
            "masks": dict(self.masks),
            "n_voxels": dict(self.n_voxels),
            "any_participant": self.any_participant,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Signature:
        """Read back what ``to_config`` wrote."""
        return cls(
            label_names=tuple(config["label_names"]),
            masks=dict(config["masks"]),
            n_voxels={str(p): int(n) for p, n in config["n_voxels"].items()},
            any_participant=bool(config["any_participant"]),
        )


def mask_hash(space: VoxelSpace) -> str:
    """SHA-256 of the grid's shape and the voxels' flat indices."""
    digest = hashlib.sha256(np.asarray(space.grid.shape, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(space.voxels, dtype="<i8").tobytes())
    return digest.hexdigest()


def label_frequency(labels: FloatArray, *, fallback: FloatArray | None = None) -> FloatArray:
    """Share of positives among the known trials of each label.

    Parameters
    ----------
    labels : ndarray of shape (n_trials, C)
        1, 0, NaN where unknown.
    fallback : ndarray of shape (C,), optional
        Value for labels without any known trial; 0.5 otherwise.

    Returns
    -------
    ndarray of shape (C,), float64
    """
    known = ~np.isnan(labels)
    positives = np.where(known, labels, 0.0).sum(axis=0, dtype=np.float64)
    unknown = np.full(labels.shape[1], 0.5) if fallback is None else np.asarray(fallback, dtype=np.float64)
    return np.where(known.any(axis=0), positives / np.maximum(known.sum(axis=0), 1), unknown)


def require_finite_trials(data: TrialData) -> None:
    """Refuse responses that are not numbers, reading them in blocks.

    Raises
    ------
    DataError
        Names the participant.
    """
    for p, participant in enumerate(data.participants):
        rows = data.row[data.participant == p]
        at_once = max(1, min(READ_ROWS, READ_VALUES // max(1, data.responses[p].n_voxels)))
        for start in range(0, len(rows), at_once):
            values = data.responses[p].read(rows[start : start + at_once])
            require_finite(values, participant=participant)


def require_trials(train: TrialData) -> None:
    """Refuse training data that are empty or have no known label.

    Raises
    ------
    DataError
    """
    if train.n_trials == 0:
        raise DataError("Training: there is no training trial.", hint="check --split")
    if np.isnan(train.labels).all():
        raise DataError("Training: no training trial has a known label.", hint="check --labels")


def joined_trials(train: TrialData, validation: TrialData) -> TrialData:
    """Return training and validation trials as one; both must be parts of the same data.

    Raises
    ------
    DataError
        If they do not speak of the same participants and labels.
    """
    if (train.participants, train.label_names) != (validation.participants, validation.label_names):
        raise DataError("Training and validation trials must have the same participants and labels.")
    return replace(
        train,
        participant=np.concatenate([train.participant, validation.participant]),
        row=np.concatenate([train.row, validation.row]),
        labels=np.concatenate([train.labels, validation.labels]),
        stimulus=np.concatenate([train.stimulus, validation.stimulus]),
        stimulus_id=train.stimulus_id + validation.stimulus_id,
        group=np.concatenate([train.group, validation.group]),
    )


def fit_score_refit(
    fit: Callable[[TrialData], None],
    predict: Callable[[TrialData], FloatArray],
    train: TrialData,
    validation: TrialData,
    *,
    fit_on: FitOn,
) -> float:
    """Fit to the training trials, score the validation trials, and fit to both if ``fit_on`` says so.

    Returns
    -------
    float
        Macro mAP of the validation trials by the fit to the training trials; NaN where none is labelled.

    Raises
    ------
    DataError
        If there is no labelled training trial.
    """
    require_trials(train)
    fit(train)
    score = float("nan")
    if validation.n_trials and not np.isnan(validation.labels).all():
        score = macro_average_precision(validation.labels, predict(validation))
    if fit_on == "train+validation":
        fit(joined_trials(train, validation))
    return score


def closed_form_history(row: Mapping[str, float], *, report: Report | None) -> History:
    """Report and return the history of a method that is fitted in one step."""
    if report is not None:
        report(dict(row))
    return History(
        columns={name: (float(value),) for name, value in row.items()},
        best_epoch=0,
        stopped="fitted in closed form",
    )


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
