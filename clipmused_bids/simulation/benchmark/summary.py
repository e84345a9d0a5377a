"""From results of seeds to rows of tables: the seed is the unit of every mean, interval and difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.evaluation.inference import Interval, paired_difference, participant_interval
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.simulation.benchmark.fits import METRICS
from clipmused_bids.simulation.benchmark.journal import STUDY, Case
from clipmused_bids.simulation.benchmark.regimes import NEWCOMER_TRIALS, REGIMES, Setting

OURS = "clip-mused"


@dataclass(frozen=True)
class Row:
    """One method in one regime.

    Parameters
    ----------
    name, description : str
    metrics : mapping of str to Interval
        Over seeds; each seed's value is the mean over participants.
    to_linear, to_ours : mapping of str to Interval
        Differences, paired by seed, to the best linear baseline and to clip-mused.
    by_seed : mapping of int to mapping of str to float
    cpu_seconds : float
        Median over seeds, of one core.
    refused : str
        Why there is no result; "" where there is one.
    """

    name: str
    description: str
    metrics: Mapping[str, Interval]
    to_linear: Mapping[str, Interval]
    to_ours: Mapping[str, Interval]
    by_seed: Mapping[int, Mapping[str, float]]
    cpu_seconds: float
    refused: str


@dataclass(frozen=True)
class Table:
    """All rows of one regime.

    Parameters
    ----------
    regime, trials : str
        ``trials`` of the newcomer; "" in the other regimes.
    setting : Setting
    seeds : tuple of int
    best_linear : str
        The linear method with the highest mAP, mean over seeds; "" where there is none.
    floors : mapping of str to float
    facts : mapping of str to float
        Of the studies, mean over seeds.
    rows : tuple of Row
    """

    regime: str
    trials: str
    setting: Setting
    seeds: tuple[int, ...]
    best_linear: str
    floors: Mapping[str, float]
    facts: Mapping[str, float]
    rows: tuple[Row, ...]


def summarise(records: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """Make the tables of all regimes that there are results of.

    Parameters
    ----------
    records : sequence of mapping
        Lines of the journals.
    """
    groups: dict[tuple[Setting, str, str], list[Mapping[str, Any]]] = {}
    facts: dict[tuple[Setting, str], list[Mapping[str, Any]]] = {}
    for record in records:
        case = Case.of(record)
        if case.row == STUDY:
            facts.setdefault((case.setting, case.regime), []).append(record)
        else:
            groups.setdefault((case.setting, case.regime, case.trials), []).append(record)

    def studies(setting: Setting, regime: str) -> list[Mapping[str, Any]]:
        return facts.get((setting, "many" if regime == "newcomer" else regime), [])

    return tuple(_table(*key, groups[key], studies(key[0], key[1])) for key in sorted(groups, key=_order))


def _order(key: tuple[Setting, str, str]) -> tuple[Any, ...]:
    setting, regime, trials = key
    place = ("", *NEWCOMER_TRIALS).index(trials)
    value = -1.0 if setting.value is None else setting.value
    return setting.native, setting.sweep or "", value, REGIMES.index(regime), place


def _table(
    setting: Setting,
    regime: str,
    trials: str,
    records: Sequence[Mapping[str, Any]],
    studies: Sequence[Mapping[str, Any]],
) -> Table:
    by_row: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    values = {name: _by_seed(of_row) for name, of_row in by_row.items()}
    best = _best_linear(values)
    scored = [record for record in records if "metrics" in record]
    return Table(
        regime=regime,
        trials=trials,
        setting=setting,
        seeds=tuple(sorted({record["seed"] for record in records})),
        best_linear=best,
        floors={name: _mean([_over_people(one["floors"], name) for one in scored]) for name in METRICS},
        facts=_mean_facts(studies),
        rows=tuple(_row(name, by_row[name], values, best=best) for name in sorted(by_row, key=_place_of_row)),
    )


def _row(
    name: str,
    records: Sequence[Mapping[str, Any]],
    values: Mapping[str, Mapping[int, Mapping[str, float]]],
    *,
    best: str,
) -> Row:
    own = values[name]
    seconds = [float(record["cpu_seconds"]) for record in records if "metrics" in record]
    return Row(
        name=name,
        description=VARIANTS[name].description if name in VARIANTS else "",
        metrics={m: participant_interval([one[m] for one in own.values()]) for m in METRICS},
        to_linear=_differences(own, values.get(best, {})),
        to_ours=_differences(own, values.get(OURS, {})),
        by_seed=own,
        cpu_seconds=float(np.median(seconds)) if seconds else float("nan"),
        refused="" if own else next((str(one["refused"]) for one in records if "refused" in one), ""),
    )


def _by_seed(records: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    return {
        record["seed"]: {name: _over_people(record["metrics"], name) for name in METRICS}
        for record in sorted(records, key=lambda one: int(one["seed"]))
        if "metrics" in record
    }


def _differences(
    ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]
) -> dict[str, Interval]:
    """Of the seeds that both have."""
    both = sorted(set(ours) & set(theirs))
    return {
        name: paired_difference(
            {str(seed): ours[seed][name] for seed in both}, {str(seed): theirs[seed][name] for seed in both}
        )
        for name in METRICS
    }


def _best_linear(values: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    means = {
        name: _mean([one["mAP"] for one in by_seed.values()])
        for name, by_seed in values.items()
        if by_seed and name in VARIANTS and METHODS[VARIANTS[name].method].linear
    }
    return max(means, key=lambda name: means[name], default="")


def _mean_facts(studies: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = [name for name, value in studies[0].items() if isinstance(value, float)] if studies else []
    names += [name for name in (studies[0] if studies else {}) if name.startswith("n_")]
    return {name: _mean([float(study[name]) for study in studies]) for name in names}


def _over_people(by_participant: Mapping[str, Mapping[str, float]], metric: str) -> float:
    return _mean([one[metric] for one in by_participant.values()])


def _place_of_row(name: str) -> tuple[int, str]:
    names = list(VARIANTS)
    return (names.index(name) if name in names else len(names)), name


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
