"""Sentences on scores, baselines, intervals and tests."""

from __future__ import annotations

from clipmused_bids.report.methods.facts import EvaluationFacts, MethodsFacts
from clipmused_bids.report.methods.rivals import described
from clipmused_bids.report.methods.wording import count, listed

_METRICS = {
    "mAP": "the mean average precision (mAP)",
    "top1": "the share of trials whose most probable label is the true one (top-1)",
}
_SHORT = {"mAP": "mAP", "top1": "top-1"}
_EXCHANGED = {
    "stimuli": "labels of whole stimuli were exchanged, so that repeats kept one row of labels",
    "trials within runs": "labels were exchanged between trials of a run",
    "circular shifts": "labels were shifted circularly within runs or movies",
}
N_RESAMPLES = 1000  # of the interval over stimuli, as in `evaluation.inference`


def score_paragraphs(facts: MethodsFacts) -> list[str]:
    """How scores were made, what was compared, and how sure it is."""
    one = facts.evaluation
    if one is None:
        return ["The decoder was not evaluated yet."] if facts.decoders else []
    return [_metrics(one), *([_baselines(one)] if len(one.methods) > 1 else []), _certainty(one)]


def _metrics(one: EvaluationFacts) -> str:
    repeats = " Single responses were scored"
    repeats += (
        ", and responses averaged over the repeats of a stimulus as well." if one.repeats_averaged else "."
    )
    calibrated = " Probabilities were calibrated on validation trials [@platt1999]." if one.calibrated else ""
    ceiling = (
        " Noise ceilings of the voxels' responses were estimated from repeated stimuli [@allen2022]."
        if one.noise_ceiling
        else ""
    )
    return (
        f"Scores are of {count(one.n_test_trials, 'test trial')} of {count(one.n_participants, 'participant')}. The "
        f"main one is {_METRICS[one.metric]}; beside it stand {_others(one.metric)}. They were computed with "
        "scikit-learn [@pedregosa2011], averaged over the labels that have a positive and a negative test trial, and "
        "over participants with equal weight. Each stands beside its floor: what knowing nothing would score on the "
        f"same trials.{repeats}{calibrated}{ceiling}"
    )


def _others(metric: str) -> str:
    names = [
        "the area under the ROC curve",
        "the Hamming distance (the share of wrong labels at a probability of 0.5)",
    ]
    return listed([*(["mAP"] if metric != "mAP" else []), *names])


def _baselines(one: EvaluationFacts) -> str:
    rivals = one.methods[1:]
    scored = [described(each.name, each.description) for each in rivals if each.scored]
    failed = [each.name for each in rivals if not each.scored]
    text = f"On the same split and trials it was compared with {'; '.join(scored)}." if scored else ""
    if failed:
        text += f" No score could be had of {listed(failed)}."
    return text.strip()


def _certainty(one: EvaluationFacts) -> str:
    if not one.together:
        return "Each participant was scored alone; no interval over participants and no comparison was made."
    parts = []
    if one.n_participants > 1:
        parts.append(
            "Intervals of scores are 95 % t intervals over participants, and speak about other people."
        )
    else:
        parts.append("There is one participant, hence no interval that speaks about other people.")
    if one.best:
        parts.append(_difference(one))
    parts.append(_permutations(one))
    return " ".join(parts)


def _difference(one: EvaluationFacts) -> str:
    text = (
        f"Differences are to the linear method with the highest {_SHORT[one.metric]} on these test trials "
        f"({one.best}), so that the baseline is never the weaker one"
    )
    parts = []
    if one.n_participants > 1:
        parts.append("a 95 % t interval over participants, tested by paired t tests")
    if one.interval_over_stimuli:
        parts.append(
            f"a 95 % interval over stimuli by the Bayesian bootstrap ({count(N_RESAMPLES, 'draw')}, participants "
            "fixed) [@rubin1981]"
        )
    text += f", with {' and '.join(parts)}." if parts else ", without an interval."
    if one.n_participants > 1 and sum(each.scored for each in one.methods) > 2:
        text += " P-values of the t tests were corrected for the number of methods [@holm1979]."
    return text


def _permutations(one: EvaluationFacts) -> str:
    if not one.n_permutations:
        return "No permutation test was done."
    return (
        f"Each method's predictions were tested by {count(one.n_permutations, 'permutation')} of the test trials' "
        f"labels without fitting again: {_EXCHANGED[one.exchanged]}; p = (1 + permutations that score as high) / (1 + "
        "permutations) [@phipson2010]."
    )
