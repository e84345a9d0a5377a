"""How often intervals miss, and tests find what is not there: simulation of the statistics of `evaluation`.

    python benchmarks/error_rates.py [--scale 1] [--seed 0] [--output benchmarks/results/statistics.json]

Every row is a rate over simulated studies whose truth is known, with its binomial standard error and the rate it should
have (none where a wrong procedure is shown for contrast). `--scale 0.1` simulates a tenth of the studies. Prints a
table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clipmused_bids.evaluation.comparison import compare_over_seeds
from clipmused_bids.evaluation.exchange import exchange_stimuli, exchange_trials
from clipmused_bids.evaluation.inference import participant_interval, stimulus_difference
from clipmused_bids.evaluation.permutation import permutation_test

LEVEL = 0.05
PREVALENCE = 0.4 * 0.75 ** np.arange(10)  # ten labels, 40 % to 3 %


@dataclass(frozen=True)
class Rate:
    what: str
    rate: float
    standard_error: float
    n_studies: int
    expected: float | None


def rate(what, hits, *, expected=None):
    share = float(np.mean(hits))
    return Rate(what, share, float(np.sqrt(share * (1 - share) / len(hits))), len(hits), expected)


def t_interval_covers(rng, *, n_people, skewed):
    """Whether the t interval over people holds the true mean of their differences."""
    values = rng.exponential(0.1, n_people) - 0.1 if skewed else rng.normal(0.0, 0.1, n_people)
    found = participant_interval(values)
    return found.low <= 0 <= found.high


def percentile_interval_covers(rng, *, n_people, n_resamples=1000):
    """The same of a percentile bootstrap over people, which the product does not use."""
    values = rng.normal(0.0, 0.1, n_people)
    means = values[rng.integers(n_people, size=(n_resamples, n_people))].mean(axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return low <= 0 <= high


def predictions_of(rng, labels, ids, *, gain):
    """Log-odds that hold the labels, and noise of stimuli and of single trials."""
    of_stimulus = rng.normal(size=(max(ids) + 1, labels.shape[1]))
    return gain * labels + of_stimulus[ids] + 0.7 * rng.normal(size=labels.shape)


def shown(rng, *, n_stimuli, repeats, n_people):
    own = (rng.random((n_stimuli, len(PREVALENCE))) < PREVALENCE).astype(float)
    ids = np.tile(np.arange(n_stimuli), repeats * n_people)
    people = np.repeat(np.arange(n_people), n_stimuli * repeats).astype(str).tolist()
    return own[ids], ids, people


def stimulus_interval_misses(rng, *, n_stimuli, repeats, n_people, metric, n_resamples=300):
    """Whether the interval over stimuli finds a difference between two equal methods."""
    labels, ids, people = shown(rng, n_stimuli=n_stimuli, repeats=repeats, n_people=n_people)
    ours, theirs = (predictions_of(rng, labels, ids, gain=1.0) for _ in range(2))
    found = stimulus_difference(
        labels, ours, theirs, stimulus_id=ids.astype(str).tolist(), participant=people, metric=metric,
        rng=rng, n_resamples=n_resamples,
    )  # fmt: skip
    return not found.low <= 0 <= found.high


def permutation_rejects(rng, *, unit, n_stimuli=30, repeats=3, n_people=2, metric="mAP", n_permutations=99):
    """Whether predictions that know nothing of the labels pass for knowing; units are exchanged as asked."""
    labels, ids, people = shown(rng, n_stimuli=n_stimuli, repeats=repeats, n_people=n_people)
    probabilities = predictions_of(rng, labels, ids, gain=0.0)
    units = {
        "stimulus": ids.astype(str).tolist(),
        "stimulus of a person": [f"{i} {p}" for i, p in zip(ids, people, strict=True)],
        "trial": [str(k) for k in range(len(ids))],
    }[unit]
    exchange = exchange_stimuli(units, people, n_permutations=n_permutations, rng=rng)
    return permutation_test(labels, probabilities, exchange, metric=metric).group.p_value <= LEVEL


def movie_rejects(rng, *, scheme, length=300, n_runs=2, persistence=0.9, n_permutations=99):
    """The same of samples of movies: labels and predictions drift, each by itself."""
    drift = np.zeros((6, n_runs, length))
    drift[..., 0] = rng.normal(size=(6, n_runs))
    for t in range(1, length):
        step = rng.normal(size=(6, n_runs)) * np.sqrt(1 - persistence**2)
        drift[..., t] = persistence * drift[..., t - 1] + step
    drift = drift.reshape(6, -1).T
    labels, predictions = (drift[:, :3] > [0.0, 0.7, 1.2]).astype(float), drift[:, 3:]
    runs = np.repeat(np.arange(n_runs), length).astype(str).tolist()
    exchange = exchange_trials(runs, ["1"] * len(runs), scheme=scheme, n_permutations=n_permutations, rng=rng)
    return permutation_test(labels, predictions, exchange, metric="AUC").group.p_value <= LEVEL


def blocks_reject(rng, *, n_runs=8, n_conditions=7, n_people=3, n_permutations=99):
    """The same of a block design, once per condition and run, with an offset of each run."""
    order = np.concatenate([rng.permutation(n_conditions) for _ in range(n_runs * n_people)])
    runs = np.tile(np.repeat(np.arange(n_runs), n_conditions), n_people).astype(str).tolist()
    people = np.repeat(np.arange(n_people), n_runs * n_conditions).astype(str).tolist()
    offsets = np.repeat(rng.normal(size=(n_runs * n_people, n_conditions)), n_conditions, axis=0)
    predictions = offsets + rng.normal(size=offsets.shape)
    exchange = exchange_trials(
        runs, people, scheme="trials within runs", n_permutations=n_permutations, rng=rng
    )
    labels = np.eye(n_conditions)[order]
    return permutation_test(labels, predictions, exchange, metric="mAP").group.p_value <= LEVEL


def answer_against_best(rng, *, n_units, n_baselines):
    """Answer of a method that equals its baselines, of which the best on the same data is the rival."""
    names = ["ours", *(f"linear {k}" for k in range(n_baselines))]
    values = 0.5 + 0.1 * rng.normal(size=n_units) + 0.03 * rng.normal(size=(len(names), n_units))
    scores = {
        name: {str(k): float(v) for k, v in enumerate(row)} for name, row in zip(names, values, strict=True)
    }
    found = compare_over_seeds(scores, linear=names[1:], metric="mAP")
    return found[0].answers[0]


def coverage_rates(rng, *, n):
    for n_people in (4, 8, 16):
        for skewed in (False, True):
            hits = [t_interval_covers(rng, n_people=n_people, skewed=skewed) for _ in range(n)]
            shape = "skewed (exponential)" if skewed else "normal"
            yield rate(f"t over {n_people} people, {shape}: covers", hits, expected=1 - LEVEL)
    for n_people in (4, 16):
        hits = [percentile_interval_covers(rng, n_people=n_people) for _ in range(n)]
        yield rate(f"percentile bootstrap over {n_people} people, normal: covers", hits)


def stimulus_rates(rng, *, n):
    for n_stimuli, repeats, n_people, metric in (
        (50, 1, 2, "mAP"), (150, 1, 2, "mAP"), (150, 3, 2, "mAP"), (400, 1, 1, "mAP"), (150, 1, 2, "AUC"),
        (150, 1, 2, "Hamming"),
    ):  # fmt: skip
        hits = [
            stimulus_interval_misses(
                rng, n_stimuli=n_stimuli, repeats=repeats, n_people=n_people, metric=metric
            )
            for _ in range(n)
        ]
        design = f"{n_stimuli} stimuli x {repeats} x {n_people} people"
        yield (rate(f"interval over stimuli, {design}, {metric}: finds a difference", hits, expected=LEVEL))


def permutation_rates(rng, *, n):
    for unit, repeats, right in (
        ("stimulus", 1, True), ("stimulus", 3, True), ("stimulus", 10, True), ("trial", 3, False),
        ("trial", 10, False), ("stimulus of a person", 1, False),
    ):  # fmt: skip
        hits = [permutation_rejects(rng, unit=unit, repeats=repeats) for _ in range(n)]
        what = f"permutation by {unit}, {repeats} repeats, 2 people: p <= .05"
        yield rate(what, hits, expected=LEVEL if right else None)
    for scheme, right in (("circular shifts", True), ("trials within runs", False)):
        for length in (60, 300):
            hits = [movie_rejects(rng, scheme=scheme, length=length) for _ in range(n)]
            what = f"movies of 2 x {length} samples, AR .9, {scheme}: p <= .05"
            yield rate(what, hits, expected=LEVEL if right else None)
    hits = [blocks_reject(rng) for _ in range(n)]
    yield rate("blocks, 8 runs x 7, 3 people, trials within runs: p <= .05", hits, expected=LEVEL)


def best_of_several_rates(rng, *, n):
    for n_baselines in (1, 2, 4):
        found = np.array([answer_against_best(rng, n_units=8, n_baselines=n_baselines) for _ in range(n)])
        expected = LEVEL / 2 if n_baselines == 1 else None
        for one in ("yes", "no"):
            what = f"equal to the best of {n_baselines} linear baselines, 8 people or seeds: {one}"
            yield rate(what, found == one, expected=expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the studies that is simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    args = parser.parse_args()
    start, results, outcome = time.process_time(), [], {}
    sections = (
        (coverage_rates, 4000), (stimulus_rates, 400), (permutation_rates, 400), (best_of_several_rates, 2000),
    )  # fmt: skip
    for k, (simulate, n) in enumerate(sections):
        for row in simulate(np.random.default_rng([args.seed, k]), n=max(20, round(args.scale * n))):
            results.append(row)
            wanted = "" if row.expected is None else f"  should be {row.expected:.3f}"
            print(f"{row.what:80s} {row.rate:.3f} ({row.standard_error:.3f}){wanted}", flush=True)
        outcome = {
            "benchmark": "error_rates",
            "seed": args.seed,
            "scale": args.scale,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "seconds": round(time.process_time() - start, 1),
            "rows": [asdict(each) for each in results],
        }
        if args.output:  # after each section: later ones take minutes
            args.output.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome))
