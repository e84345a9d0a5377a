"""Learned tokens of all participants, and what their evaluations found, for the page of the group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.tensors import map_tensors
from clipmused_bids.dataset.outputs.token_files import StimulusTokens, read_stimulus_tokens
from clipmused_bids.dataset.outputs.weights import model_path
from clipmused_bids.evaluation.agreement import (
    FEWEST_STIMULI,
    agreement_of,
    draw_permutations,
    rank_correlations,
    rank_matrix,
    spread_over,
)
from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.report.blocks import Section
from clipmused_bids.report.token_geometry import (
    LEVELS,
    GeometryFindings,
    PersonRow,
    SubjectTokens,
    geometry_section,
)
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.targets.similarity import similarity_matrix

N_PERMUTATIONS = 1000
MOST_SHARED = 80  # stimuli: 3,160 pairs tell agreement well enough, in seconds for many participants
_FEWEST_PEOPLE = 3

_Pair = tuple[float, float]


def token_geometry(view: ReportView) -> Section | None:
    """Tokens of all participants; None for a decoder without a pair of tokens, or one that was not evaluated.

    Raises
    ------
    ClipMusedError
        If what is stored is broken.
    """
    stored: dict[str, tuple[StimulusTokens, dict[str, Any]]] = {}
    for participant in view.plan.participants:
        path = view.tree.tokens(view.plan.runs_of(participant)[0], model_label=view.model_label)
        if path.exists():
            stored[participant] = read_stimulus_tokens(path)
    subject = subject_tokens(view, stored)
    if not stored and subject is None:
        return None
    tokens = {participant: one for participant, (one, _) in stored.items()}
    others, n_shared = agreement_between(tokens, seed=view.plan.config.random_seed)
    names = list(dict.fromkeys((*(() if subject is None else subject.participants), *stored)))
    people = [
        PersonRow(name, _with_clip(stored[name][1]) if name in stored else {}, others.get(name, {}))
        for name in names
    ]
    return geometry_section(GeometryFindings(subject, people, n_shared))


def subject_tokens(
    view: ReportView, stored: Mapping[str, tuple[StimulusTokens, Mapping[str, Any]]]
) -> SubjectTokens | None:
    """Learned tokens of the group's decoder; None where there is none, or it has no pair of them."""
    path = model_path(view.tree.model_folder(view.model_label), participant=None)
    if not path.exists():
        return None
    tensors, config = map_tensors(path)
    members = [
        np.asarray(tensors[name], dtype=np.float64)
        for name in sorted(tensors)
        if name.startswith("decoder.member.") and name.endswith(".tokens.subject")
    ]
    if not members or members[0].shape[1] != len(LEVELS):
        return None
    names = list(config["decoder"]["signature"]["masks"])
    norms = [sidecar["InitialTokenNorm"] for _, sidecar in stored.values()]
    return SubjectTokens(
        participants=names,
        cosines={
            level: np.mean([similarity_matrix(one[:, k]) for one in members], axis=0)
            for k, level in enumerate(LEVELS)
        },
        low_high=np.mean([_cosine(one[:, 0], one[:, 1]) for one in members], axis=0),
        norms={
            level: np.mean([np.linalg.norm(one[:, k], axis=1) for one in members], axis=0)
            for k, level in enumerate(LEVELS)
        },
        width=members[0].shape[2] * len(members),
        initial_norm=norms[0] if norms else float("nan"),
        untrained=config["best_epoch"] == 0,
    )


def agreement_between(
    tokens: Mapping[str, StimulusTokens], *, seed: int
) -> tuple[dict[str, dict[str, _Pair]], int]:
    """Agreement of each participant's similarities with the mean ranks of all others, over shared test stimuli.

    Under cross-validation the stimuli are those of the fold that tested the most of them in everybody.

    Returns
    -------
    agreements : dict of str to dict of str to (float, float)
        Spearman's correlation and its p-value, by participant and level; empty for fewer than three participants.
    n_shared : int
    """
    if len(tokens) < _FEWEST_PEOPLE:
        return {}, 0
    rows = _shared_rows(tokens, seed=seed)
    n_shared = len(next(iter(rows.values())))
    if n_shared < FEWEST_STIMULI:
        return {}, n_shared
    order = draw_permutations(n_shared, n_permutations=N_PERMUTATIONS, seed=seed)
    found: dict[str, dict[str, _Pair]] = {participant: {} for participant in tokens}
    for level in LEVELS:
        ranks = {p: rank_matrix(similarity_matrix(getattr(one, level)[rows[p]])) for p, one in tokens.items()}
        total = np.sum(list(ranks.values()), axis=0)
        for participant, own in ranks.items():
            correlated = rank_correlations(own[None], total - own, order)[0]
            one = agreement_of(correlated)
            found[participant][level] = (one.value, one.p_value)
    return found, n_shared


def _shared_rows(tokens: Mapping[str, StimulusTokens], *, seed: int) -> dict[str, IntArray]:
    """Rows of the same stimuli in the same order, of each participant."""
    keys = {
        p: {
            (int(fold), name): k for k, (fold, name) in enumerate(zip(one.fold, one.stimulus_id, strict=True))
        }
        for p, one in tokens.items()
    }
    shared = sorted(set.intersection(*(set(one) for one in keys.values())))
    folds = [fold for fold, _ in shared]
    largest = max(folds, key=folds.count, default=0)
    chosen = [key for key in shared if key[0] == largest]
    first = next(iter(tokens))
    group = [int(tokens[first].group[keys[first][key]]) for key in chosen]
    chosen = [chosen[k] for k in spread_over(group, most=MOST_SHARED, seed=seed)] if chosen else []
    return {p: np.array([of[key] for key in chosen], dtype=np.int64) for p, of in keys.items()}


def _with_clip(sidecar: Mapping[str, Any]) -> dict[str, _Pair]:
    """Agreement of each level's token with its own level of CLIP."""
    return {
        one["Clip"]: (float(one["Spearman"]), float(one["PValue"]))
        for one in sidecar["Agreements"]
        if one["Brain"] == one["Clip"] and one["Spearman"] is not None
    }


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> FloatArray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(lengths, np.finfo(float).tiny))
