"""Which stimuli are decoded best and worst: a score of each stimulus, and galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from clipmused_bids.evaluation.floors import random_average_precision
from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block, Card, Gallery, Paragraph, Table

EACH = 6
_MOST_NAMED = 3

HOW = (
    "The score of a stimulus is the average precision of its own labels in the ranking of all labels by predicted "
    "probability, averaged over its scored trials: 1 where its labels come first. In brackets: what a random ranking "
    "is expected to reach, which is high for stimuli of many labels. Stimuli were chosen by this score, so the best "
    "and the worst show the range, not the rule."
)


@dataclass(frozen=True)
class DecodedStimulus:
    """One held-out stimulus as it was decoded.

    Parameters
    ----------
    stimulus_id : str
    true_labels : tuple of str
    predicted : tuple of (str, float)
        Labels with their mean probabilities, most probable first.
    score, floor : float
        Average precision of its own labels among all labels, mean over its trials; expected of a random ranking.
    n_trials : int
    """

    stimulus_id: str
    true_labels: tuple[str, ...]
    predicted: tuple[tuple[str, float], ...]
    score: float
    floor: float
    n_trials: int


def trial_precision(labels: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Average precision of each trial's own labels in the ranking of its labels by probability.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
        Labels 1 or 0; entries where either is NaN are no part of the ranking. Of equal probabilities the least
        favourable order counts.

    Returns
    -------
    ndarray of shape (n,)
        NaN where a trial has none of the labels, or all.
    """
    known = ~(np.isnan(labels) | np.isnan(probabilities))
    positive = known & (labels == 1)
    worse = np.where(known, -probabilities, np.inf)
    among_all = rankdata(worse, method="max", axis=1)
    among_own = rankdata(np.where(positive, worse, np.inf), method="max", axis=1)
    n_own = positive.sum(axis=1)
    precision = np.where(positive, among_own / among_all, 0.0).sum(axis=1)
    ranked = (n_own > 0) & (n_own < known.sum(axis=1))
    return np.where(ranked, precision / np.maximum(n_own, 1), np.nan)


def decoded_stimuli(
    labels: FloatArray, probabilities: FloatArray, stimulus_id: Sequence[str], names: Sequence[str]
) -> tuple[DecodedStimulus, ...]:
    """Describe each stimulus, best first; those that have none of the labels, or all, are left out.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
        Scored trials.
    stimulus_id : sequence of str, length n
    names : sequence of str, length C
    """
    scores = trial_precision(labels, probabilities)
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isfinite(scores)).tolist():
        rows_of.setdefault(stimulus_id[row], []).append(row)
    found = []
    for name, rows in rows_of.items():
        known = np.asarray(~np.isnan(probabilities[rows]).any(axis=0))
        mean = np.where(known, probabilities[rows].mean(axis=0), -np.inf)
        own = np.asarray(labels[rows[0]] == 1)
        order = [int(c) for c in np.argsort(-mean, kind="stable") if known[c]]
        ranked = int((known & ~np.isnan(labels[rows[0]])).sum())
        found.append(
            DecodedStimulus(
                stimulus_id=name,
                true_labels=tuple(names[c] for c in np.flatnonzero(own).tolist()),
                predicted=tuple((names[c], float(mean[c])) for c in order),
                score=float(scores[rows].mean()),
                floor=random_average_precision(int((own & known).sum()), ranked),
                n_trials=len(rows),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.score, one.stimulus_id)))


def chosen_stimuli(ranked: Sequence[DecodedStimulus]) -> dict[str, Sequence[DecodedStimulus]]:
    """Best, median and worst stimuli, six each; all of them where there are no more than that."""
    n = len(ranked)
    if n <= 3 * EACH:
        return {"All held-out stimuli, best decoded first": ranked}
    middle = (n - EACH) // 2
    return {
        "Best decoded": ranked[:EACH],
        "Median": ranked[middle : middle + EACH],
        "Worst decoded": ranked[-EACH:],
    }


def stimulus_blocks(
    ranked: Sequence[DecodedStimulus], pictures: Mapping[str, bytes | None], *, n_unranked: int = 0
) -> list[Block]:
    """Galleries of the best, median and worst stimuli; tables where no stimulus has a picture.

    Parameters
    ----------
    ranked : sequence of DecodedStimulus
        Best first.
    pictures : mapping of str to (bytes or None)
        JPEG of each chosen stimulus.
    n_unranked : int
        Scored stimuli that have none of the labels, or all.
    """
    groups = chosen_stimuli(ranked)
    drawn = any(pictures.get(one.stimulus_id) is not None for group in groups.values() for one in group)
    blocks: list[Block] = [Paragraph(HOW)]
    for caption, group in groups.items():
        title = f"{caption} ({len(group)} of {len(ranked)} stimuli)."
        if drawn:
            blocks.append(Gallery(title, [_card(one, pictures.get(one.stimulus_id)) for one in group]))
        else:
            blocks.append(_table(group, caption=title))
    if n_unranked:
        who = "1 scored stimulus has" if n_unranked == 1 else f"{n_unranked} scored stimuli have"
        blocks.append(Paragraph(f"{who} none of the decoder's labels, or all, and no rank."))
    return blocks


def _card(one: DecodedStimulus, picture: bytes | None) -> Card:
    truth = ", ".join(one.true_labels)
    return Card(
        title=short_name(one.stimulus_id),
        lines=[f"shown: {truth}", f"decoded: {_named(one)}", _score(one)],
        image=picture,
        alt=f"Stimulus {short_name(one.stimulus_id)}, with the labels {truth}",
    )


def _table(group: Sequence[DecodedStimulus], *, caption: str) -> Table:
    return Table(
        f"{caption} No pictures of them were found.",
        ("stimulus", "shown", "decoded", "score"),
        [
            (short_name(one.stimulus_id), ", ".join(one.true_labels), _named(one), _score(one))
            for one in group
        ],
    )


def _named(one: DecodedStimulus) -> str:
    """As many labels as the stimulus has, at least three."""
    n = max(_MOST_NAMED, len(one.true_labels))
    return ", ".join(f"{label} {probability:.2f}" for label, probability in one.predicted[:n])


def _score(one: DecodedStimulus) -> str:
    trials = "1 trial" if one.n_trials == 1 else f"{one.n_trials} trials"
    return f"score {one.score:.2f} (random {one.floor:.2f}), {trials}"


def short_name(stimulus_id: str) -> str:
    """Last part of a path."""
    return stimulus_id.replace("\\", "/").rstrip("/").rpartition("/")[2] or stimulus_id
