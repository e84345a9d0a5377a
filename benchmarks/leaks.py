"""What leaks are worth: AUC of ridge regressions on autocorrelated noise that holds no signal at all.

    python benchmarks/leaks.py [--seeds 8] [--voxels 300] [--json FILE]

Everything above 0.5 is leakage. Noise of a voxel is a first-order autoregression (0.4 or 0.9 from second to second)
plus a slow drift. Rows:

- frames of movies, one a second, divided at random; in whole runs; in one run with a gap of 15 s (labels last 20 s on
  average, the response is the volume 5 s later);
- 70 trials a run, 4 s apart, responses by LSS, divided by stimulus, labels in random order;
- the same trials with labels in blocks: how far AUC rises with the autocorrelation that the auditor measures across
  sets (`evaluation.label_order`), which is where its threshold comes from.

Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import Hyperparameters
from clipmused_bids.evaluation.hold_out import GAP
from clipmused_bids.evaluation.label_order import label_order
from clipmused_bids.methods.ridge_solver import array_rows, fit_ridge
from clipmused_bids.records import Trials
from clipmused_bids.responses.design import trial_design
from clipmused_bids.responses.single_trial import single_trial_responses
from clipmused_bids.responses.window import linear_trend, window_responses

FRAMES, FRAME_RUNS, LAG = 300, 8, 5.0  # s
TRIALS, RUNS, STEP, TR = 70, 6, 4.0, 2.0
LABELS = 8
ALPHAS = Hyperparameters().linear.alphas


def noise(n_seconds, n_voxels, *, autocorrelation, rng):
    """Autoregression of first order from second to second, and a drift as large: (n_seconds, n_voxels)."""
    white = rng.normal(size=(n_seconds + 100, n_voxels))
    quick = lfilter([1.0], [1.0, -autocorrelation], white, axis=0)[100:]
    drift = np.cumsum(rng.normal(size=(n_seconds, n_voxels)), axis=0)
    return quick / quick.std() + drift / drift.std()


def slow_labels(n_seconds, rng):
    """On or off, each state lasting 20 s on average: (n_seconds, LABELS)."""
    switches = rng.random((n_seconds, LABELS)) < 1 / 20
    return (np.cumsum(switches, axis=0) + rng.integers(0, 2, LABELS)) % 2.0


def block_labels(n_trials, stays, rng):
    """One category a trial; the next trial keeps it with probability `stays`: (n_trials, LABELS)."""
    category = np.empty(n_trials, dtype=int)
    for k in range(n_trials):
        keeps = k > 0 and rng.random() < stays
        category[k] = category[k - 1] if keeps else rng.integers(LABELS)
    return np.eye(LABELS)[category]


def auc(x, y, train, test, group):
    """Mean over labels of the test trials' AUC, ridge fitted to the training trials."""
    fit = fit_ridge(array_rows(x[train]), y[train], group=group[train], alphas=ALPHAS)
    said, truth = fit.predict(x[test]), y[test]
    scored = (truth == 1).any(axis=0) & (truth == 0).any(axis=0)
    return roc_auc_score(truth[:, scored], said[:, scored], average="macro")


def scaled(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def movie_rows(seed, *, voxels, autocorrelation):
    rng = np.random.default_rng(seed)
    onset = np.arange(FRAMES, dtype=float)
    responses, labels = [], []
    for _ in range(FRAME_RUNS):
        bold = noise(FRAMES + 20, voxels, autocorrelation=autocorrelation, rng=rng)
        values, kept = window_responses(
            bold, onset, np.ones(FRAMES), repetition_time=1.0, lag=LAG, nuisance=linear_trend(len(bold))
        )
        assert len(kept) == FRAMES
        responses.append(scaled(values))
        labels.append(slow_labels(FRAMES, rng))
    x, y = np.concatenate(responses), np.concatenate(labels)
    run, second = np.repeat(np.arange(FRAME_RUNS), FRAMES), np.tile(onset, FRAME_RUNS)
    part = rng.permutation(len(x)) % 5
    last = second >= 0.8 * FRAMES
    nobody = (second >= 0.8 * FRAMES - GAP) & ~last
    return {
        "frames, at random": auc(x, y, part > 0, part == 0, np.arange(len(x))),
        "frames, whole runs": auc(x, y, run > 0, run == 0, run),
        "frames, end of each run, 15 s apart": auc(x, y, ~last & ~nobody, last, run),
    }


def event_responses(rng, *, voxels, autocorrelation):
    onset = 8 + STEP * np.arange(TRIALS)
    names, nothing = tuple(f"s{k}" for k in range(TRIALS)), np.empty(0)
    trials = Trials(
        onset, np.full(TRIALS, 2.0), names, names, {}, nothing, nothing, (), TRIALS, TRIALS, {}
    )  # fmt: skip
    n_scans = int((onset[-1] + 16) / TR)
    design = trial_design(trials, n_scans=n_scans, repetition_time=TR)
    found = []
    for _ in range(RUNS):
        bold = noise(int(n_scans * TR), voxels, autocorrelation=autocorrelation, rng=rng)[:: int(TR)]
        found.append(scaled(single_trial_responses(bold, design)))
    run = np.repeat(np.arange(RUNS), TRIALS)
    return np.concatenate(found), run, np.tile(onset, RUNS)


def event_rows(seed, *, voxels, autocorrelation):
    rng = np.random.default_rng(seed)
    x, _, _ = event_responses(rng, voxels=voxels, autocorrelation=autocorrelation)
    y = (rng.random((len(x), LABELS)) < 0.2).astype(float)
    part = rng.permutation(len(x)) % 5
    each = [auc(x, y, part != k, part == k, np.arange(len(x))) for k in range(5)]
    return {"events, LSS, by stimulus": float(np.mean(each))}


def block_rows(seed, *, voxels, autocorrelation, stays):
    """AUC, and what the auditor measures, for one strength of blocking."""
    rng = np.random.default_rng(seed)
    x, run, onset = event_responses(rng, voxels=voxels, autocorrelation=autocorrelation)
    y = np.concatenate([block_labels(TRIALS, stays, rng) for _ in range(RUNS)])
    part = rng.permutation(len(x)) % 5
    order = label_order(
        y, run_key=[f"r{r}" for r in run], onset=onset, set_name=np.where(part == 0, "test", "train")
    )
    each = [auc(x, y, part != k, part == k, np.arange(len(x))) for k in range(5)]
    return float(np.mean(each)), order.across_sets, order.excess[0]


def described(values):
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--voxels", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {"seeds": args.seeds, "voxels": args.voxels, "rows": {}, "blocks": []}
    for autocorrelation in (0.4, 0.9):
        runs = [
            movie_rows(seed, voxels=args.voxels, autocorrelation=autocorrelation)
            | event_rows(seed, voxels=args.voxels, autocorrelation=autocorrelation)
            for seed in range(args.seeds)
        ]
        for name in runs[0]:
            one = described([run[name] for run in runs])
            result["rows"][f"{name} ({autocorrelation})"] = one
            print(f"{name:40s} {autocorrelation}  AUC {one['mean']:.3f} (sd {one['sd']:.3f})", flush=True)
    for stays in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9):
        for autocorrelation in (0.4, 0.9):
            runs = [
                block_rows(seed, voxels=args.voxels, autocorrelation=autocorrelation, stays=stays)
                for seed in range(args.seeds)
            ]
            one = {
                "stays": stays,
                "noise": autocorrelation,
                "AUC": described([a for a, _, _ in runs]),
                "across_sets": described([c for _, c, _ in runs]),
                "lag_1": described([e for _, _, e in runs]),
            }
            result["blocks"].append(one)
            print(
                f"blocks, next alike {stays:.1f}, noise {autocorrelation}: lag 1 {one['lag_1']['mean']:.2f}, "
                f"across sets {one['across_sets']['mean']:.2f}, "
                f"AUC {one['AUC']['mean']:.3f} (sd {one['AUC']['sd']:.3f})",
                flush=True,
            )
    text = json.dumps(result)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(text)
