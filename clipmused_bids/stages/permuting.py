"""Permutation tests of all methods of a comparison, under the same permutations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.evaluation.exchange import (
    Exchange,
    Scheme,
    exchange_stimuli,
    exchange_trials,
    fitting_scheme,
)
from clipmused_bids.evaluation.permutation import PermutationTest, permutation_test
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.long_work import each_of
from clipmused_bids.stages.comparing import Rival
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.scored import Scored
from clipmused_bids.stages.splitting import is_blocked


def permutation_tests(
    rivals: Sequence[Rival], plan: Plan, *, metric: Metric, n_permutations: int, seed: int
) -> dict[str, PermutationTest]:
    """Test the predictions of each method against permuted labels, by model label.

    Nothing is fitted again, so that a test of a deep method takes as long as one of a linear one. Methods whose
    decoders lack a label in some fold are not tested: their folds have other labels.

    Parameters
    ----------
    rivals : sequence of Rival
    plan : Plan
    metric : str
    n_permutations : int
        0: no test.
    seed : int
    """
    if n_permutations == 0:
        return {}
    tests: dict[str, PermutationTest] = {}
    drawn: dict[tuple[str, ...], Exchange] = {}
    tested = [one.scored for one in rivals if one.scored is not None]
    tested = [one for one in tested if not np.isnan(one.probabilities).any()]
    what = f"Permutation tests ({n_permutations:,} permutations each)"
    with each_of(tested, what, "method") as methods:
        for scored in methods:
            key = (*scored.people, *scored.stimulus_id)
            if key not in drawn:
                drawn[key] = _drawn(scored, plan, n_permutations=n_permutations, seed=seed)
            tests[scored.label] = permutation_test(
                scored.labels, scored.probabilities, drawn[key], metric=metric
            )
    return tests


def exchange_scheme(plan: Plan, rivals: Sequence[Rival]) -> Scheme | None:
    """Say what was exchanged; None where nothing was scored."""
    scored = next((one.scored for one in rivals if one.scored is not None), None)
    return None if scored is None else _scheme(scored, plan)


def _scheme(scored: Scored, plan: Plan) -> Scheme:
    trials = [plan.trials[run.key] for run in plan.runs]
    return fitting_scheme(
        scored.labels,
        scored.stimulus_id,
        continuous=any(one.continuous for one in trials),
        blocked=is_blocked(trials),
    )


def _drawn(scored: Scored, plan: Plan, *, n_permutations: int, seed: int) -> Exchange:
    rng = np.random.default_rng(seed)
    fold = [str(k) for k in scored.fold]
    scheme = _scheme(scored, plan)
    if scheme == "stimuli":
        return exchange_stimuli(
            scored.stimulus_id, scored.participant, n_permutations=n_permutations, rng=rng, fold=fold
        )
    return exchange_trials(
        scored.run, scored.participant, scheme=scheme, n_permutations=n_permutations, rng=rng, fold=fold
    )
