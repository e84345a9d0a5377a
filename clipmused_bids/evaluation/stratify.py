"""Iterative multi-label stratification, written here for two reasons.

The package ``iterative-stratification`` installs a top-level package ``tests`` beside ours and rests on
private functions of scikit-learn; and it divides into two unequal parts at a time, where training, validation
and test sets are wanted at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import BoolArray, FloatArray, IntArray


def stratify(labels: BoolArray, *, shares: Sequence[float], rng: np.random.Generator) -> IntArray:
    """Divide examples into parts that all have about the same frequency of every label.

    The rarest label first: each of its examples goes to the part that lacks most of that label, then (ties)
    to the part that lacks most examples, then to one by chance. Examples without labels fill the parts up at
    the end.

    Parameters
    ----------
    labels : ndarray of bool, shape (n, C)
    shares : sequence of float
        Wanted share of each part; they sum to 1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int, shape (n,)
        Part of each example.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10
    """
    labels = np.asarray(labels, dtype=bool)
    wanted = np.outer(np.asarray(shares, dtype=float), [*labels.sum(axis=0), len(labels)])
    part = np.full(len(labels), -1, dtype=np.int64)
    order = rng.permutation(len(labels))
    carriers = [order[labels[order, c]] for c in range(labels.shape[1])]
    left = labels.sum(axis=0)
    while left.any():
        rarest = int(rng.choice(np.flatnonzero(left == left[left > 0].min())))
        chosen = carriers[rarest][part[carriers[rarest]] < 0]
        for example in chosen:
            part[example] = _neediest(wanted[:, rarest], wanted[:, -1], rng=rng)
            wanted[part[example], :-1] -= labels[example]
            wanted[part[example], -1] -= 1
        left = left - labels[chosen].sum(axis=0)
    for example in order[part[order] < 0]:
        part[example] = _neediest(wanted[:, -1], wanted[:, -1], rng=rng)
        wanted[part[example], -1] -= 1
    return part


def _neediest(of_label: FloatArray, of_all: FloatArray, *, rng: np.random.Generator) -> int:
    best = np.flatnonzero(of_label >= of_label.max() - 1e-9)
    if len(best) > 1:
        best = best[of_all[best] >= of_all[best].max() - 1e-9]
    return int(best[0] if len(best) == 1 else rng.choice(best))
