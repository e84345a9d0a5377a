"""Whether tokens still tell trials apart, and whether each follows the level of CLIP that guides it.

Shape suffixes: B trials of the probe, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.records import BoolArray, FloatArray, History, IntArray, TrialData
from clipmused_bids.training.guidance import TargetSimilarity

logger = logging.getLogger(__name__)

PROBE_TRIALS = 256
FEWEST_VALIDATION_TRIALS = 20
TRAINING_SHARE = 0.05  # of the training trials, so that a probe of them costs little of an epoch
SMALLEST_RANK = 1.5
LARGEST_COSINE = 0.99
LARGEST_NORM = 10.0  # in units of sqrt(D), the norm of a token at the start
LEVELS = ("low", "high")
UNKNOWN = float("nan")


class TokenProbe:
    """Fixed trials whose tokens are looked at after each epoch, in evaluation mode and without mixing.

    Validation trials (up to 256, drawn once) where there are at least 20, else a twentieth of the training trials
    (at least 20, up to 256). The similarities of their stimuli are computed once.

    Parameters
    ----------
    train, validation : TrialData
    seed : int
        Of the draw; the training's own random numbers are not touched.

    Attributes
    ----------
    of_validation : bool
        Whether the trials are validation trials.
    trials : TrialData
    index : ndarray of int, shape (B,)
        Their places among the validation or training trials.
    """

    def __init__(self, train: TrialData, validation: TrialData, *, seed: int) -> None:
        can_be_scored = bool((~np.isnan(validation.labels)).any())
        self.of_validation = can_be_scored and validation.n_trials >= FEWEST_VALIDATION_TRIALS
        data = validation if self.of_validation else train
        wanted = PROBE_TRIALS
        if not self.of_validation:
            wanted = min(PROBE_TRIALS, max(FEWEST_VALIDATION_TRIALS, int(TRAINING_SHARE * train.n_trials)))
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(data.n_trials)[:wanted]
        self.index: IntArray = np.sort(chosen)
        self._place = np.full(data.n_trials, -1)
        self._place[self.index] = np.arange(len(self.index))
        self.trials = data.subset(self.index)
        self._similarities = _similarities(self.trials)
        self._tokens: dict[str, FloatArray] = {}

    def see(self, index: IntArray, output: DecoderOutput) -> None:
        """Keep the tokens of the probe's trials among those of a batch, whose places are ``index``."""
        place = self._place[index]
        mine = np.flatnonzero(place >= 0)
        for name, token_BD in named_tokens(output).items():
            if name not in self._tokens:
                self._tokens[name] = np.full((len(self.index), token_BD.shape[1]), np.nan)
            self._tokens[name][place[mine]] = token_BD[mine].detach().float().cpu().numpy()

    def measure(self) -> dict[str, float]:
        """Measure the tokens that were seen, and forget them.

        Returns
        -------
        dict
            For each token ``rank_NAME``, ``cosine_NAME``, and for each level of CLIP that is known
            ``agreement_NAME_LEVEL``; nothing for a network without tokens.
        """
        row: dict[str, float] = {}
        for name, token_BD in self._tokens.items():
            cosines = _unit(token_BD) @ _unit(token_BD).T
            found = {
                f"rank_{name}": partial(effective_rank, token_BD, self.trials.participant),
                f"cosine_{name}": partial(mean_cosine, cosines, self.trials.participant),
            }
            for level, (target, pairs) in self._similarities.items():
                found[f"agreement_{name}_{level}"] = partial(agreement, cosines, target, pairs)
            # A decoder that gives no numbers any more is the trainer's to refuse.
            finite = bool(np.isfinite(token_BD).all())
            row |= {key: measured() if finite else UNKNOWN for key, measured in found.items()}
        self._tokens = {}
        return row


def named_tokens(output: DecoderOutput) -> dict[str, torch.Tensor]:
    """Tokens of a network by name: ``low`` and ``high``, or ``token`` where there is a single one."""
    tokens = {"low": output.low, "high": output.high, "token": output.token}
    return {name: token for name, token in tokens.items() if token is not None}


def effective_rank(token_BD: FloatArray, participant: IntArray) -> float:
    """Number of directions along which a token differs between trials of one participant.

    ``exp(-sum_i p_i log p_i)`` with ``p_i`` the share of the variance along principal axis i, after each
    participant's mean was subtracted: 1 on a line, D where all directions vary alike, 0 where nothing varies.

    Parameters
    ----------
    token_BD : ndarray of shape (B, D)
    participant : ndarray of int, shape (B,)

    Returns
    -------
    float
        NaN with fewer than three trials.

    References
    ----------
    Roy, Vetterli 2007, The effective rank, EUSIPCO.
    """
    if len(token_BD) < 3:
        return UNKNOWN
    centred = np.asarray(token_BD, dtype=np.float64).copy()
    for p in np.unique(participant):
        centred[participant == p] -= centred[participant == p].mean(axis=0)
    wide = centred.shape[1] > centred.shape[0]
    values = np.linalg.eigvalsh(centred @ centred.T if wide else centred.T @ centred).clip(min=0)
    if values.sum() <= 1e-12 * max(np.square(token_BD).sum(), 1e-300):
        return 0.0
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_cosine(cosines_BB: FloatArray, participant: IntArray) -> float:
    """Mean cosine between two trials of one participant; NaN without such a pair."""
    pairs = np.triu(participant[:, None] == participant, k=1)
    return float(cosines_BB[pairs].mean()) if pairs.any() else UNKNOWN


def agreement(cosines_BB: FloatArray, target_BB: FloatArray, pairs_BB: BoolArray) -> float:
    """Pearson correlation of a token's and CLIP's similarities over some pairs; NaN where either does not vary."""
    found, target = cosines_BB[pairs_BB], target_BB[pairs_BB]
    if len(found) < 3 or found.std() < 1e-9 or target.std() < 1e-9:
        return UNKNOWN
    return float(np.corrcoef(found, target)[0, 1])


def _similarities(data: TrialData) -> dict[str, tuple[FloatArray, BoolArray]]:
    """Cosines of both levels of CLIP between the trials' stimuli, and pairs of different known stimuli."""
    stimulus = data.stimulus
    found: dict[str, tuple[FloatArray, BoolArray]] = {}
    for level in LEVELS:
        features = None if data.targets is None else getattr(data.targets, level)
        if features is None or not (stimulus >= 0).any():
            continue
        known = np.unique(stimulus[stimulus >= 0])
        similarity = TargetSimilarity(np.asarray(features[known]), device=torch.device("cpu"))
        place = np.where(stimulus >= 0, np.searchsorted(known, stimulus), -1)
        target, has_features = similarity.of(torch.as_tensor(place))
        named = has_features.numpy()
        pairs = np.triu((stimulus[:, None] != stimulus) & named[:, None] & named, k=1)
        found[level] = (target.numpy().astype(np.float64), pairs)
    return found


def _unit(token_BD: FloatArray) -> FloatArray:
    return np.asarray(token_BD / np.maximum(np.linalg.norm(token_BD, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True)
class TokenState:
    """What is known of one token at one epoch.

    Parameters
    ----------
    name : str
        ``low``, ``high`` or ``token``.
    effective_rank, mean_cosine : float
    relative_norm : float
        Mean norm over sqrt(D), 1 at the start; NaN where no batch was watched.
    agreement : mapping of str to float
        With each level of CLIP.
    """

    name: str
    effective_rank: float
    mean_cosine: float
    relative_norm: float
    agreement: Mapping[str, float]

    def complaints(self) -> list[str]:
        """Say what is wrong with it, one clause each; nothing for a token that tells trials apart."""
        found = []
        if self.mean_cosine > LARGEST_COSINE:
            found.append(
                f"two trials of a participant are nearly the same to it (mean cosine {self.mean_cosine:.3f}), "
                "so it says who looks but not at what"
            )
        elif self.effective_rank < SMALLEST_RANK:
            found.append(
                f"trials differ along one direction only (effective rank {self.effective_rank:.2f}), "
                "so it can follow no similarity of many stimuli"
            )
        if self.relative_norm > LARGEST_NORM:
            found.append(
                f"its norm is {self.relative_norm:.0f} times that at the start, so L_perp and the classifier are "
                "ruled by its size"
            )
        return found

    def as_table(self) -> dict[str, Any]:
        """Values that JSON can hold; None where unknown."""
        values = {
            "effective_rank": self.effective_rank,
            "mean_cosine": self.mean_cosine,
            "relative_norm": self.relative_norm,
            **{f"agreement_{level}": value for level, value in self.agreement.items()},
        }
        known = {key: None if np.isnan(value) else round(value, 4) for key, value in values.items()}
        return {**known, "complaints": self.complaints()}


def token_states(history: History, *, width: int) -> list[TokenState]:
    """Tokens at the epoch that was kept, from the columns of a history; none for a network without tokens."""
    kept = {name: values[history.best_epoch] for name, values in history.columns.items()}
    names = [name.removeprefix("rank_") for name in kept if name.startswith("rank_")]
    return [
        TokenState(
            name=name,
            effective_rank=kept[f"rank_{name}"],
            mean_cosine=kept[f"cosine_{name}"],
            relative_norm=kept.get(f"norm_{'low' if name == 'token' else name}", UNKNOWN) / width**0.5,
            agreement={
                level: kept[f"agreement_{name}_{level}"]
                for level in LEVELS
                if f"agreement_{name}_{level}" in kept
            },
        )
        for name in names
    ]


def warn_of(states: list[TokenState]) -> None:
    """Log what is wrong with tokens."""
    for state in states:
        for complaint in state.complaints():
            which = "the token" if state.name == "token" else f"the {state.name}-level token"
            logger.warning("tokens: %s at the kept epoch: %s.", which, complaint)
