"""From the scores of several methods to one comparison: rows, verdicts, and the text that is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow, LabelRow, Verdict
from clipmused_bids.evaluation.inference import (
    Interval,
    over_participants,
    paired_difference,
    participant_interval,
    stimulus_difference,
)
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.records import FloatArray
from clipmused_bids.stages.contenders import Contender
from clipmused_bids.stages.scoring import Scored, label_scores, scores_by_participant

NAN = math.nan
LOWER_IS_BETTER = frozenset({"Hamming"})


@dataclass(frozen=True)
class Rival:
    """A contender with what came of it.

    Parameters
    ----------
    contender : Contender
    scored : Scored or None
        None where it could not run.
    note : str
        Why there is no score, or who lacks one.
    shared : int or None
        Parameters that all participants share.
    own : mapping of str to int
        Parameters of each participant.
    """

    contender: Contender
    scored: Scored | None
    note: str = ""
    shared: int | None = None
    own: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Difference:
    """A method's difference to the best linear baseline, twice."""

    people: Interval
    stimuli: Interval


def best_linear(rivals: Sequence[Rival], *, metric: str) -> Scored | None:
    """Find the linear method with the highest score, over the participants that all of them have.

    Highest on these test trials, so it is never the weaker rival.
    """
    linear = [one.scored for one in rivals if one.contender.info.linear and one.scored is not None]
    if not linear:
        return None
    people = [p for p in linear[0].people if all(p in one.people for one in linear)]
    return max(linear, key=lambda one: participant_interval(_values(one, people, metric)).mean)


def difference(ours: Scored, theirs: Scored, *, metric: Metric, seed: int) -> Difference:
    """Paired difference of two methods over the participants that both have.

    After a cross-validation each fold of a participant is ranked by itself, and folds weigh the same.
    """
    people = [p for p in ours.people if p in theirs.people]
    over_people = paired_difference(
        dict(zip(people, _values(ours, people, metric), strict=True)),
        dict(zip(people, _values(theirs, people, metric), strict=True)),
    )
    mine, yours = (_of_people(one, people) for one in (ours, theirs))
    labels, ours_filled, theirs_filled = _filled(mine, yours)
    over_stimuli = stimulus_difference(
        labels,
        ours_filled,
        theirs_filled,
        stimulus_id=mine.stimulus_id,
        participant=[f"{p} {k}" for p, k in zip(mine.participant, _folds(mine), strict=True)],
        metric=metric,
        rng=np.random.default_rng(seed),
    )
    return Difference(over_people, over_stimuli)


def comparison_rows(
    rivals: Sequence[Rival], *, metrics: Sequence[Metric], best: Scored | None, seed: int
) -> list[ComparisonRow]:
    """Rows of the table: each method, first the group and then each participant, each metric."""
    rows: list[ComparisonRow] = []
    for rival in rivals:
        if rival.scored is None:
            rows.append(_missing(rival))
            continue
        for metric in metrics:
            rows.append(_group_row(rival, rival.scored, metric=metric, best=best, seed=seed))
            rows += [_person_row(rival, rival.scored, who, metric=metric) for who in rival.scored.people]
    return rows


def label_rows(rivals: Sequence[Rival]) -> list[LabelRow]:
    """Scores of each label, of each method and participant."""
    return [
        LabelRow(
            method=rival.contender.name,
            model_label=rival.contender.label,
            participant_id=f"sub-{who}",
            label=one.label,
            average_precision=one.average_precision,
            floor=one.floor,
            prevalence=one.prevalence,
            auc=one.auc,
            n_positive=one.n_positive,
            n_trials=one.n_trials,
        )
        for rival in rivals
        if rival.scored is not None
        for who in rival.scored.people
        for one in label_scores(rival.scored, who)
    ]


def answer(interval: Interval, *, metric: str) -> Verdict:
    """Say whether a difference is above 0 as a whole (below, for metrics that are better low)."""
    low, high = interval.low, interval.high
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    return "yes" if low > 0 else "no" if high < 0 else "undetermined"


def _group_row(
    rival: Rival, scored: Scored, *, metric: Metric, best: Scored | None, seed: int
) -> ComparisonRow:
    summaries = over_participants(scores_by_participant(scored.rows, averaging="single trials"))
    interval = next((one.interval for one in summaries if one.metric == metric), Interval(NAN, NAN, NAN, 0))
    own = list((rival.own or {}).values())
    row = replace(
        _scored_row(rival, scored, "group", metric=metric),
        low=interval.low,
        high=interval.high,
        parameters_own=None if rival.own is None else round(sum(own) / max(len(own), 1)),
    )
    if best is None or best.label == scored.label:
        return row
    found = difference(scored, best, metric=metric, seed=seed)
    return replace(
        row,
        baseline=best.method,
        difference=found.people.mean,
        people_low=found.people.low,
        people_high=found.people.high,
        people_verdict=answer(found.people, metric=metric),
        stimuli_low=found.stimuli.low,
        stimuli_high=found.stimuli.high,
        stimuli_verdict=answer(found.stimuli, metric=metric),
    )


def _person_row(rival: Rival, scored: Scored, who: str, *, metric: str) -> ComparisonRow:
    return replace(
        _scored_row(rival, scored, who, metric=metric),
        parameters_own=None if rival.own is None else rival.own.get(who, 0),
        note="",
    )


def _scored_row(rival: Rival, scored: Scored, who: str, *, metric: str) -> ComparisonRow:
    score = scored.score_of(metric, who)
    return replace(
        _missing(rival),
        participant_id=who if who == "group" else f"sub-{who}",
        metric=metric,
        value=score.value,
        floor=score.floor,
        n_labels=score.n_labels,
        n_trials=score.n_trials,
    )


def _missing(rival: Rival) -> ComparisonRow:
    unknown: dict[str, Any] = dict.fromkeys(
        ("value", "low", "high", "floor", "difference", "people_low", "people_high", "stimuli_low", "stimuli_high",
         "p_value"), NAN,
    )  # fmt: skip
    unknown |= dict.fromkeys(("n_labels", "n_trials", "parameters_own"))
    unknown |= dict.fromkeys(("metric", "baseline", "people_verdict", "stimuli_verdict"), "")
    return ComparisonRow(
        method=rival.contender.name,
        model_label=rival.contender.label,
        participant_id="group",
        parameters_shared=rival.shared,
        note=rival.note,
        **unknown,
    )


def _values(scored: Scored, people: Sequence[str], metric: str) -> list[float]:
    return [scored.score_of(metric, p).value for p in people]


def _folds(scored: Scored) -> tuple[int, ...]:
    return scored.fold or (0,) * len(scored.participant)


def _of_people(scored: Scored, people: Sequence[str]) -> Scored:
    rows = np.flatnonzero(np.isin(scored.participant, people))
    return replace(
        scored,
        participant=tuple(scored.participant[k] for k in rows),
        stimulus_id=tuple(scored.stimulus_id[k] for k in rows),
        labels=scored.labels[rows],
        probabilities=scored.probabilities[rows],
        fold=tuple(_folds(scored)[k] for k in rows),
    )


def _filled(ours: Scored, theirs: Scored) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Labels and both predictions; what a fold's decoder does not know is absent there, so that it is not scored."""
    unknown = np.isnan(ours.probabilities) | np.isnan(theirs.probabilities)
    labels = np.where(unknown, 0.0, ours.labels)
    return (
        labels,
        np.where(unknown, 0.0, ours.probabilities),
        np.where(unknown, 0.0, theirs.probabilities),
    )
