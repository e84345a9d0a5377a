"""Skeletons of public datasets: who sees which stimulus how often, with random labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clipmused_bids.evaluation.splits import SplitDesign


def skeleton(
    shown: list[list[tuple[str, int]]],
    *,
    n_runs: int = 10,
    n_labels: int = 12,
    seed: int = 0,
    shuffle: bool = True,
    label_of: dict[str, Any] | None = None,
    **more: Any,
) -> SplitDesign:
    """``shown[p]`` lists (stimulus, presentations) of participant p, spread evenly over runs in random order."""
    rng = np.random.default_rng(seed)
    people, runs, keys, stimuli, onset = [], [], [], [], []
    for p, pairs in enumerate(shown, start=1):
        trials = [name for name, times in pairs for _ in range(times)]
        if shuffle:
            trials = [trials[i] for i in rng.permutation(len(trials))]
        per_run = -(-len(trials) // n_runs)
        for t, name in enumerate(trials):
            run = t // per_run + 1
            people.append(f"{p:02d}")
            runs.append(run)
            keys.append(f"sub-{p:02d}_task-see_run-{run}")
            stimuli.append(name)
            onset.append(4.0 * (t % per_run))
    names, code = np.unique(stimuli, return_inverse=True)
    if label_of is None:
        labels = (rng.random((len(names), n_labels)) < 0.15).astype(np.float32)
    else:
        labels = np.stack([label_of[name] for name in names.tolist()])
    return SplitDesign(
        run_key=tuple(keys),
        participant=tuple(people),
        session=(None,) * len(keys),
        run=tuple(runs),
        stimulus_id=tuple(stimuli),
        labels=labels[code],
        onset=np.array(onset),
        **more,
    )


def images(prefix: str, n: int, times: int = 1) -> list[tuple[str, int]]:
    return [(f"{prefix}{k:05d}", times) for k in range(n)]


def nsd() -> SplitDesign:
    shared = images("shared", 1000, 3)
    return skeleton([images(f"own{p}x", 9000, 3) + shared for p in range(8)], n_runs=480, n_labels=80)


def things() -> SplitDesign:
    return skeleton([images("train", 8640) + images("test", 100, 12)] * 3, n_runs=120)


def god() -> SplitDesign:
    return skeleton([images("train", 1200) + images("test", 50, 35)] * 5, n_runs=59)


def bold5000() -> SplitDesign:
    return skeleton([images("once", 4803) + images("again", 113, 4)] * 4, n_runs=140)


def nod() -> SplitDesign:
    full = [images(f"net{p:02d}x", 400) + images("coco", 120, 10) for p in range(9)]
    return skeleton(full + [images(f"net{p:02d}x", 100) for p in range(9, 30)], n_runs=10)


CATEGORIES = ("bottle", "cat", "chair", "face", "house", "scissors", "scrambled", "shoe")


def haxby(n_people: int = 2, n_runs: int = 12) -> SplitDesign:
    label_of = dict(zip(CATEGORIES, np.eye(8), strict=True))
    return skeleton(
        [[(name, 1) for name in CATEGORIES] * n_runs] * n_people,
        n_runs=n_runs,
        label_of=label_of,
        label_names=CATEGORIES,
        blocked=True,
        shuffle=False,
    )


def movies(
    *, names: tuple[str, ...] = ("A", "B", "C", "D"), seconds: int = 200, n_people: int = 2, **more: Any
) -> SplitDesign:
    """One run a movie, one sample a second; labels change every 20 s."""
    rng = np.random.default_rng(3)
    rows = [
        (f"{p:02d}", k + 1, name, s)
        for p in range(1, n_people + 1)
        for k, name in enumerate(names)
        for s in range(seconds)
    ]
    states = (rng.random((len(names), seconds // 20 + 1, 4)) < 0.4).astype(float)
    return SplitDesign(
        run_key=tuple(f"sub-{p}_task-movie_run-{run}" for p, run, _, _ in rows),
        participant=tuple(p for p, _, _, _ in rows),
        session=(None,) * len(rows),
        run=tuple(run for _, run, _, _ in rows),
        stimulus_id=tuple(f"{name}@{s}" for _, _, name, s in rows),
        labels=np.stack([states[run - 1, s // 20] for _, run, _, s in rows]),
        onset=np.array([float(s) for _, _, _, s in rows]),
        continuous=True,
        movie=tuple(name for _, _, name, _ in rows),
        **more,
    )


@pytest.fixture(scope="session")
def designs() -> SimpleNamespace:
    """The skeletons above, for test modules, which cannot import one another."""
    makers = (skeleton, images, nsd, things, god, bold5000, nod, haxby, movies)
    return SimpleNamespace(**{make.__name__: make for make in makers}, CATEGORIES=CATEGORIES)
