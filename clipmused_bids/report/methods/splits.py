"""Sentences on which trials trained, validated and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipmused_bids.report.leak_notes import leakage_fields, leakage_lines, merged_fields
from clipmused_bids.report.methods.facts import DecoderConfig, MethodsFacts, SplitFacts
from clipmused_bids.report.methods.wording import count, listed

# What a rule of `evaluation.splits` holds out.
RULES: Mapping[str, str] = {
    "column": "as a column of the dataset says",
    "movies": "by whole movies, or whole runs of them",
    "tail": "by the end of each run",
    "runs": "by run, the same runs of all participants",
    "repeats": "by stimuli that were shown more often than usual",
    "shared": "by stimuli that several participants saw",
    "stimuli": "by stimulus, stratified by labels [@sechidis2011]",
    "participants": "by participant",
}
_SETS = {"train": "training", "val": "validation", "test": "testing", "none": "none of these"}


def split_paragraphs(facts: MethodsFacts) -> list[str]:
    """Rule, numbers, regime, and what was found to leak."""
    if facts.split is None or not facts.decoders:
        return []
    how = RULES.get(facts.split.rule)
    by = how if how is not None else f"by the rule “{facts.split.rule}”"
    if facts.split.n_folds:
        first = (
            f"Trials were divided into {facts.split.n_folds} folds {by}, before anything was fitted. In turn, each "
            "fold was the test set of a decoder that was fitted to the others, one of which validated. One more "
            "decoder was fitted to all folds; it serves new data and has no score of its own."
        )
    else:
        first = f"Trials were divided into sets {by}, before anything was fitted{_numbers(facts.split)}."
    text = f"{first} {_fitted(facts.decoders)} Scores speak about {facts.split.regime}."
    return [text, *_leaks(facts.decoders)]


def _numbers(split: SplitFacts) -> str:
    """Trials and stimuli of each set."""
    if not split.n_trials:
        return ""
    parts = []
    for name, purpose in _SETS.items():
        if split.n_trials.get(name):
            stimuli = split.n_stimuli.get(name)
            shown = f" of {count(stimuli, 'stimulus')}" if stimuli else ""
            parts.append(f"{count(split.n_trials[name], 'trial')}{shown} for {purpose}")
    return f": {listed(parts)}" if parts else ""


def _fitted(decoders: Sequence[DecoderConfig]) -> str:
    train = sum(config["n_training_trials"] for config in decoders)
    validation = sum(config["n_validation_trials"] for config in decoders)
    who = "The decoder was" if len(decoders) == 1 else f"The {len(decoders)} decoders were"
    rest = f", and {count(validation, 'trial')} validated" if validation else ", and none validated"
    return f"{who} fitted to {count(train, 'training trial')} with known labels{rest}."


def _leaks(decoders: Sequence[DecoderConfig]) -> list[str]:
    """What the leakage auditor found; transductive units are named with the standardisation."""
    fields = merged_fields([leakage_fields(config) for config in decoders])
    lines = leakage_lines({**fields, "TransductiveUnits": []})
    return [" ".join(lines)] if lines else []
