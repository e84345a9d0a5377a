"""The leakage auditor's part in a run: of a split before it serves, and of a fit before it is stored."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache, stored_caches
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.leakage import Audit, audit, fits_elsewhere
from clipmused_bids.evaluation.near_duplicates import COSINE, near_duplicates
from clipmused_bids.records import IntArray, SetName, Split
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.fit_record import FitRecord
from clipmused_bids.stages.label_choice import frequent_labels, stimuli_in
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import design_of, sets_of_runs

if TYPE_CHECKING:
    # Preparing alone needs no torch, which training does.
    from clipmused_bids.stages.training_set import TrainingSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitAudit:
    """What the auditor found in a split.

    Parameters
    ----------
    leaks, warnings : tuple of str
        Leaks are there only where ``allow_leakage`` let them pass.
    near_duplicates : mapping or None
        Pairs of nearly equal pictures in a test and another set; None where they were not looked for.
    """

    leaks: tuple[str, ...]
    warnings: tuple[str, ...]
    near_duplicates: Mapping[str, Any] | None = None


def audit_split(
    plan: Plan, catalogue: Catalogue, split: Split, *, tree: OutputTree | None = None
) -> SplitAudit:
    """Look for leaks between the sets of a split; whatever is trained, its split passes here.

    Parameters
    ----------
    plan : Plan
    catalogue : Catalogue
    split : Split
        Of the dataset, or of one fold.
    tree : OutputTree, optional
        Where CLIP features may be stored already, by which near-duplicate pictures are found. Nothing is encoded.

    Raises
    ------
    DataError
        If it leaks and ``allow_leakage`` is off; names all leaks.
    """
    design = design_of(plan, catalogue, plan.config.split)
    sets = sets_of_runs(split, plan.event_runs, plan.trials)
    found = audit(
        set_name=[name for run in plan.event_runs for name in sets[run.key]],
        run_key=design.run_key,
        participant=design.participant,
        stimulus_id=design.stimulus_id,
        onset=design.onset,
        regime=split.regime,
        design="continuous" if design.continuous else "events",
        content=design.content,
        labels=design.labels,
        on_leak="report" if plan.config.allow_leakage else "raise",
    )
    near = None if tree is None else near_duplicate_pictures(plan, catalogue, split, tree)
    more = () if near is None or not near["n_pairs"] else (_near_words(near),)
    return SplitAudit(found.leaks, (*found.warnings, *_strange_stimuli(plan, split), *more), near)


def say_audit(found: SplitAudit, *, contents_read: bool = True, where: str = "") -> None:
    """Log leaks that are allowed, and warnings; of contents nothing where they were not read.

    ``where`` names the fold of a cross-validation; what its folds have in common is said of each.
    """
    place = f"Split, {where}" if where else "Split"
    for leak in found.leaks:
        logger.warning("LEAKAGE%s, allowed by --allow-leakage: %s.", f" ({where})" if where else "", leak)
    for warning in found.warnings:
        if contents_read or "compared by name only" not in warning:
            logger.warning("%s: %s.", place, warning)


def require_scorable(plan: Plan, catalogue: Catalogue, split: Split) -> None:
    """Refuse test trials that say nothing about any label, and name the labels that they say nothing about.

    Raises
    ------
    DataError
        If no label is both there and not there in the test set.
    """
    names = np.array(catalogue.stimuli.label_names)
    labels = catalogue.labels_of(stimuli_in(plan, split, "test"))
    scored = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    if not scored.any():
        raise DataError(
            "the test set has no label with a positive and a negative trial "
            f"({len(labels)} trials, {len(names)} labels).",
            hint="name another test set with --split, or check --labels",
        )
    if not scored.all():
        logger.warning(
            "Split: %d of %d labels have no positive or no negative test trial and are not scored: %s%s.",
            int((~scored).sum()), len(names), ", ".join(names[~scored][:5]), ", ..." if (~scored).sum() > 5 else "",
        )  # fmt: skip


def audit_fit(plan: Plan, catalogue: Catalogue, split: Split, training: TrainingSet) -> tuple[str, ...]:
    """Look for trials that a fit has read and should not have; before training and after it.

    Which trials were read is noted where they are read (`FitRecord`); in which sets they are, the split says. The
    choice of labels is made once more without the labels of stimuli outside the training set, and must come out the
    same.

    Returns
    -------
    tuple of str
        Leaks; some only with ``allow_leakage``.

    Raises
    ------
    DataError
        If there are any and ``allow_leakage`` is off.
    """
    leaks = _reads_elsewhere(plan, split, training)
    outside = set(catalogue.stimuli.stimulus_id) - set(stimuli_in(plan, split, "train"))
    blind = frequent_labels(plan, catalogue.without(sorted(outside)), split, record=FitRecord())
    chosen = training.train.label_names
    if set(blind) != set(chosen):
        without = "without looking at the labels of stimuli outside the training set"
        leaks += (f"label choice: {len(chosen)} labels were chosen, {len(blind)} {without}",)
    return _refused(plan, leaks)


def audit_reads(plan: Plan, split: Split, training: TrainingSet) -> tuple[str, ...]:
    """Look at what was read alone: as ``audit_fit``, for a fit that takes its labels from another decoder."""
    return _refused(plan, _reads_elsewhere(plan, split, training))


def _reads_elsewhere(plan: Plan, split: Split, training: TrainingSet) -> tuple[str, ...]:
    return fits_elsewhere(training.record.fitted(plan, split)) + tuple(_handed(training, plan, split))


def _refused(plan: Plan, leaks: tuple[str, ...]) -> tuple[str, ...]:
    if leaks and not plan.config.allow_leakage:
        Audit(leaks, ()).refuse("what is fitted leaks")
    return leaks


def stored_leakage(
    plan: Plan, split: Split, training: TrainingSet, *, of_split: SplitAudit, of_fit: Sequence[str]
) -> dict[str, Any]:
    """What is stored with a decoder: leaks, warnings, and the trials that each step has read, counted by set."""
    return {
        "leaks": [*of_split.leaks, *of_fit],
        "warnings": list(of_split.warnings),
        "near_duplicates": of_split.near_duplicates,
        "fitted_on": training.record.summary(plan, split),
    }


def near_duplicate_pictures(
    plan: Plan, catalogue: Catalogue, split: Split, tree: OutputTree
) -> dict[str, Any] | None:
    """Pairs of nearly equal pictures in the test and another set, by stored CLIP features.

    Returns
    -------
    dict or None
        ``n_pairs``, ``cosine_above``, ``n_compared`` (test stimuli, others), and ``pairs``: test stimulus, other
        stimulus, its set, cosine; None where the regime claims nothing about stimuli or no features are stored.
    """
    if "unseen stimuli" not in split.regime:
        return None
    of_set = _contents_by_set(plan, catalogue, split)
    test = of_set.pop("test", {})
    others: dict[str, tuple[str, str]] = {}
    for name in ("val", "train"):
        others |= {key: (stimulus, name) for key, stimulus in of_set.get(name, {}).items() if key not in test}
    cache = _fullest_cache(tree, [*test, *others])
    if cache is None:
        return None
    missing = set(cache.missing([*test, *others]))
    rows = [key for key in others if key not in missing]
    columns = [key for key in test if key not in missing]
    if not rows or not columns:
        return None
    embedded = [cache.read(keys, names=("image",))["image"] for keys in (rows, columns)]
    found = near_duplicates(*embedded)
    return {
        "n_pairs": found.n_pairs,
        "cosine_above": COSINE,
        "n_compared": [len(columns), len(rows)],
        "pairs": [[test[columns[j]], *others[rows[i]], round(cosine, 4)] for i, j, cosine in found.pairs],
    }


def say_near_duplicates(plan: Plan, catalogue: Catalogue, split: Split, tree: OutputTree) -> None:
    """Warn of nearly equal pictures in different sets, once CLIP features are stored."""
    found = near_duplicate_pictures(plan, catalogue, split, tree)
    if found is not None and found["n_pairs"]:
        logger.warning("Split: %s.", _near_words(found))


def _strange_stimuli(plan: Plan, split: Split) -> tuple[str, ...]:
    """Stimuli that a split names in runs that do not show them: most likely misspelt."""
    shown = {(key, name) for key, trials in plan.trials.items() for name in trials.stimulus_id}
    strange = [
        f"{run} {name}"
        for run, name in zip(split.run_key, split.stimulus_id, strict=True)
        if run in plan.trials and (run, name) not in shown and (run, name.rpartition("#")[0]) not in shown
    ]
    if not strange:
        return ()
    listed = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
    return (f"the split names {len(strange)} stimuli that their runs do not show: {listed}",)


def _near_words(found: Mapping[str, Any]) -> str:
    pairs = [
        f"{test} and {other} ({where}, {cosine:.3f})" for test, other, where, cosine in found["pairs"][:5]
    ]
    return (
        f"{found['n_pairs']} pair(s) of a test picture and one of another set are nearly equal (CLIP cosine above "
        f"{found['cosine_above']}): {'; '.join(pairs)}{'; ...' if found['n_pairs'] > 5 else ''}"
    )


def _contents_by_set(plan: Plan, catalogue: Catalogue, split: Split) -> dict[str, dict[str, str]]:
    """Contents of the pictures of each set, each with a stimulus that has it."""
    sets: tuple[SetName, ...] = ("train", "val", "test")
    found: dict[str, dict[str, str]] = {}
    for name in sets:
        stimuli = sorted({stimulus for stimulus in stimuli_in(plan, split, name) if stimulus})
        contents = catalogue.contents_of(stimuli)
        found[name] = {key: one for key, one in zip(contents, stimuli, strict=True) if key}
    return found


def _fullest_cache(tree: OutputTree, keys: Sequence[str]) -> EmbeddingCache | None:
    """Stored image features that know most of the contents; None where none knows any."""
    caches = [
        cache
        for folder in sorted(tree.stimuli.parent.glob("desc-*_embeddings"))
        for cache in stored_caches(folder)
        if cache.settings.get("of") == "images"
    ]
    known = [len(keys) - len(cache.missing(keys)) for cache in caches]
    best = int(np.argmax(known)) if known else -1
    return caches[best] if best >= 0 and known[best] else None


def _handed(training: TrainingSet, plan: Plan, split: Split) -> Iterator[str]:
    """Compare the rows handed to a method with the split, before it reads any."""
    for what, data, allowed in (
        ("training", training.train, {"train"}),
        ("validation", training.validation, {"train", "val"}),
    ):
        rows: list[IntArray] = [data.row[data.participant == p] for p in range(len(data.participants))]
        counts = training.record.sets_of_rows(plan, split, rows)
        outside = [f"{n} of set {name}" for name, n in counts.items() if name not in allowed]
        if outside:
            yield f"the {what} trials handed to the method hold {', '.join(outside)}"
