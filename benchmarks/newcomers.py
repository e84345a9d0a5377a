"""What n trials of a new participant buy: real responses in native space, each of five people in turn is new.

A group's decoder is trained on the other four (``clip-mused``, preset ``small``), without the test run. The new
participant brings the first whole runs of the others, 7 trials each; his voxels are standardised by these trials
alone. All methods see the same trials. Test: the run that is left out of everything, each of the runs in turn.

    python benchmarks/newcomers.py RAIDER5 [--test-runs 1 2 ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from clipmused_bids.config import build_hyperparameters, read_preset
from clipmused_bids.methods.adaptation import adapt
from clipmused_bids.methods.alignment import shared_response_model
from clipmused_bids.methods.registry import create
from clipmused_bids.records import Grid, ResponseTable, TrialData, VoxelSpace

N_RUNS, N_SHARED = 8, 30
CALIBRATION_RUNS = (1, 2, 4, 7)
METHODS = ("adapted", "own ridge", "own ridge-stack", "own logistic", "SRM + logistic")


def read(folder):
    """All trials of all people; the group of a trial is its run."""
    tables, names, runs = [], [], []
    people = sorted(path.name for path in folder.glob("sub-*"))
    for person in people:
        values = []
        for run in range(1, N_RUNS + 1):
            stem = f"{person}/func/{person}_task-categories_run-{run:02d}"
            image = nibabel.load(folder / "derivatives" / "betas" / f"{stem}_desc-block_statmap.nii.gz")
            values.append(np.asarray(image.dataobj, dtype=np.float32).reshape(-1, image.shape[3]).T)
            shown = list(pd.read_csv(folder / f"{stem}_events.tsv", sep="\t")["trial_type"])
            names += shown
            runs += [run] * len(shown)
        tables.append(table(np.concatenate(values)))
    labels = sorted(set(names))
    n_people, n_voxels = len(people), tables[0].n_voxels
    n_each = len(names) // n_people
    space = VoxelSpace(Grid((10, 10, 10), np.eye(4)), np.arange(n_voxels), np.full(n_voxels, -1), ())
    return TrialData(
        participants=tuple(person.removeprefix("sub-") for person in people),
        responses=tuple(tables),
        spaces=(space,) * n_people,
        common_space=False,
        participant=np.repeat(np.arange(n_people), n_each),
        row=np.tile(np.arange(n_each), n_people),
        labels=np.array([[name == label for label in labels] for name in names], dtype=np.float32),
        label_names=tuple(labels),
        single_label=True,
        stimulus=np.full(len(names), -1),
        stimulus_id=tuple(names),
        targets=None,
        group=np.array(runs),
    )


def table(values):
    width = values.shape[1]
    zero, one = np.zeros(width, np.float32), np.ones(width, np.float32)
    return ResponseTable((values.astype(np.float32),), (np.arange(width),), (zero,), (one,))


def standardized(data, *, by):
    """Z-scores of each person's voxels by the trials of some runs."""
    tables = []
    for p, one in enumerate(data.responses):
        values = one.read(np.arange(one.n_rows))
        known = values[data.row[(data.participant == p) & np.isin(data.group, by)]]
        tables.append(table((values - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-6)))
    return replace(data, responses=tuple(tables))


def of_people(data, chosen):
    kept = data.subset(np.flatnonzero(np.isin(data.participant, chosen)))
    return replace(
        kept,
        participants=tuple(data.participants[p] for p in chosen),
        responses=tuple(data.responses[p] for p in chosen),
        spaces=tuple(data.spaces[p] for p in chosen),
        participant=np.searchsorted(chosen, kept.participant),
    )


def of_runs(data, runs):
    return data.subset(np.flatnonzero(np.isin(data.group, runs)))


def n_right(scores, test):
    return int((scores.argmax(axis=1) == test.labels.argmax(axis=1)).sum())


def logistic(x, labels, test):
    model = LogisticRegression(max_iter=1000).fit(x, labels.argmax(axis=1))
    return (model.predict(test)[:, None] == np.arange(labels.shape[1])).astype(float)


def through_srm(group, new, test):
    """Known people's Shared Response Model, a rotation of the new one into it, and one logistic regression."""
    order = [sorted(range(len(part)), key=part.__getitem__) for part in keys(group)]
    responses = [x[rows] for x, rows in zip(group.read(), order, strict=True)]
    maps = shared_response_model(responses, n_shared=N_SHARED, seed=0)
    shared = np.mean([(x - x.mean(axis=0)) @ w for x, w in zip(responses, maps, strict=True)], axis=0)
    row = {key: k for k, key in enumerate(sorted(keys(group)[0]))}
    target = shared[[row[key] for key in keys(new)[0]]]
    x = new.read()[0]
    left, _, right = np.linalg.svd(
        (x - x.mean(axis=0)).T @ (target - target.mean(axis=0)), full_matrices=False
    )
    features = np.concatenate([y @ w for y, w in zip(group.read(), maps, strict=True)])
    order = np.argsort(group.participant, kind="stable")
    return logistic(features, group.labels[order], test.read()[0] @ left @ right)


def keys(data):
    """What each person saw in which run."""
    return [
        [(data.stimulus_id[i], int(data.group[i])) for i in np.flatnonzero(data.participant == p)]
        for p in range(len(data.participants))
    ]


def one_split(data, person, test_run, *, hyperparameters):
    """Right answers of each method by number of calibration trials."""
    others = [p for p in range(len(data.participants)) if p != person]
    runs = [run for run in range(1, N_RUNS + 1) if run != test_run]
    validation = test_run - 1 or N_RUNS
    group = standardized(of_people(data, others), by=runs)
    base = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    base.fit(of_runs(group, [r for r in runs if r != validation]), of_runs(group, [validation]))
    found = {}
    for k in CALIBRATION_RUNS:
        new = standardized(of_people(data, [person]), by=runs[:k])
        few, test = of_runs(new, runs[:k]), of_runs(new, [test_run])
        nothing = of_runs(new, [])
        started = time.perf_counter()
        adapted = adapt(base, few, nothing)
        seconds = time.perf_counter() - started
        own = {}
        for name in ("ridge", "ridge-stack"):
            own[name] = create(name, hyperparameters=hyperparameters, seed=0, device="cpu")
            own[name].fit(few, nothing)
        scores = {
            "adapted": adapted.predict_proba(test),
            "own ridge": own["ridge"].predict_proba(test),
            "own ridge-stack": own["ridge-stack"].predict_proba(test),
            "own logistic": logistic(few.read()[0], few.labels, test.read()[0]),
            "SRM + logistic": through_srm(of_runs(group, runs), few, test),
        }
        found[few.n_trials] = {
            **{name: n_right(values, test) for name, values in scores.items()},
            "n_test": test.n_trials,
            "seconds": seconds,
            "epochs": adapted.fitted().adaptation["epochs"],
            "alignment": adapted.fitted().alignment,
            "weights": adapted.fitted().adaptation["readout_weights"],
        }
    return found


def interval(values):
    """Mean and 95 % t interval over people."""
    values = np.asarray(values, dtype=float)
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half}


def summary(results):
    """Accuracy of each person over test runs, then intervals over people; differences are paired."""
    people = sorted({person for person, _, _ in results})
    out = {}
    for n in sorted({n for _, _, n in results}):
        accuracy = {}
        for method in METHODS:
            accuracy[method] = []
            for person in people:
                mine = [one for (who, _, k), one in results.items() if (who, k) == (person, n)]
                right, total = sum(one[method] for one in mine), sum(one["n_test"] for one in mine)
                accuracy[method].append(right / total)
        out[n] = {method: interval(values) | {"people": values} for method, values in accuracy.items()}
        for rival in METHODS[1:]:
            gain = np.subtract(accuracy["adapted"], accuracy[rival])
            out[n][f"adapted - {rival}"] = interval(gain)
        of_n = [one for (_, _, k), one in results.items() if k == n]
        out[n]["seconds"] = float(np.mean([one["seconds"] for one in of_n]))
    return out


def shown(one):
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test-runs", type=int, nargs="+", default=list(range(1, N_RUNS + 1)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Solvers say when a handful of trials gives them nothing to do.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = read(args.folder)
    hyperparameters = build_hyperparameters(read_preset("small"))
    results = {}
    for test_run in args.test_runs:
        for person, name in enumerate(data.participants):
            for n, one in one_split(data, person, test_run, hyperparameters=hyperparameters).items():
                results[name, test_run, n] = one
        print(f"test run {test_run} done", flush=True)
    found = summary(results)
    print(
        f"\ntop-1, chance {1 / len(data.label_names):.3f}; mean and 95 % interval over {len(data.participants)} people"
    )
    for n, row in found.items():
        print(f"n = {n:2d} ({row['seconds']:.1f} s)")
        for name, one in row.items():
            if name != "seconds":
                print(f"  {name:26s} {shown(one)}")
    report = {
        "test_runs": args.test_runs,
        "by_n": found,
        "splits": [
            {"participant": who, "test_run": run, "n": n, **one} for (who, run, n), one in results.items()
        ],
    }
    text = json.dumps(report, default=float, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
