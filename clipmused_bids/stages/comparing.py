"""From the scores of several methods to one comparison: rows, verdicts, and the text that is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow, LabelRow
from clipmused_bids.evaluation.comparison import Difference, PredictedTrials, compare_methods, holm
from clipmused_bids.evaluation.inference import Interval, over_participants, participant_interval
from clipmused_bids.evaluation.permutation import PermutationTest
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.long_work import each_of
from clipmused_bids.stages.contenders import Contender
from clipmused_bids.stages.scored import Scored, label_scores, scores_by_participant

NAN = math.nan


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
    mine, yours = (_of_people(one, people) for one in (ours, theirs))
    unknown = np.isnan(mine.probabilities) | np.isnan(yours.probabilities)
    # What a fold's decoder does not know is absent there, so that it is not scored.
    trials = PredictedTrials(
        labels=np.where(unknown, 0.0, mine.labels),
        participant=mine.participant,
        stimulus_id=mine.stimulus_id,
        fold=tuple(str(fold) for fold in mine.fold),
    )
    (found,) = compare_methods(
        trials,
        {one.method: np.where(unknown, 0.0, one.probabilities) for one in (mine, yours)},
        linear={theirs.method},
        metric=metric,
        # The same weights of stimuli for all methods.
        rng=np.random.default_rng(seed),
    )
    return found


def comparison_rows(
    rivals: Sequence[Rival],
    *,
    metrics: Sequence[Metric],
    best: Scored | None,
    seed: int,
    tests: Mapping[str, PermutationTest],
) -> list[ComparisonRow]:
    """Rows of the table: each method, first the group and then each participant, each metric."""
    rows: list[ComparisonRow] = []
    with each_of(rivals, "Comparisons under resampled stimuli", "method") as methods:
        for rival in methods:
            if rival.scored is None:
                rows.append(_missing(rival))
                continue
            for metric in metrics:
                rows.append(_group_row(rival, rival.scored, metric=metric, best=best, seed=seed))
                rows += [_person_row(rival, rival.scored, who, metric=metric) for who in rival.scored.people]
    return _corrected(_tested(rows, tests), metrics)


def _tested(rows: Sequence[ComparisonRow], tests: Mapping[str, PermutationTest]) -> list[ComparisonRow]:
    """Enter the p-values of the permutation tests, by model label, of the group and of participants."""
    found = []
    for row in rows:
        test = tests.get(row.model_label)
        if test is not None and row.metric == test.metric:
            who = row.participant_id.removeprefix("sub-")
            result = test.group if who == "group" else test.participants[who]
            row = replace(row, p_value=result.p_value)  # noqa: PLW2901
        found.append(row)
    return found


def _corrected(rows: Sequence[ComparisonRow], metrics: Sequence[str]) -> list[ComparisonRow]:
    """Correct the tests of the differences for the number of methods, metric by metric (Holm)."""
    found = list(rows)
    for metric in metrics:
        family = [k for k, row in enumerate(found) if row.metric == metric and row.participant_id == "group"]
        for k, p in zip(family, holm([found[k].people_p for k in family]), strict=True):
            found[k] = replace(found[k], people_p_holm=float(p))
    return found


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
    people, stimuli = found.intervals
    return replace(
        row,
        baseline=best.method,
        difference=people.mean,
        people_low=people.low,
        people_high=people.high,
        people_verdict=found.answers[0],
        people_p=found.p_value,
        stimuli_low=stimuli.low,
        stimuli_high=stimuli.high,
        stimuli_verdict=found.answers[1],
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
        ("value", "low", "high", "floor", "difference", "people_low", "people_high", "people_p", "people_p_holm",
         "stimuli_low", "stimuli_high",
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
