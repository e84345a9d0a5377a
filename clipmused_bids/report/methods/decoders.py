"""Sentences on decoders: what they are, what guided them, how they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.report.methods.facts import DecoderConfig, MethodsFacts
from clipmused_bids.report.methods.networks import network_paragraphs
from clipmused_bids.report.methods.rivals import DESCRIPTIONS
from clipmused_bids.report.methods.wording import count, span


def decoder_paragraphs(facts: MethodsFacts) -> list[str]:
    """One decoder for all participants, one for each, or what is a new participant's own in another's decoder."""
    if not facts.decoders:
        return ["Nothing was trained yet under this label: there is no decoder, and no score, to describe."]
    first = facts.decoders[0]
    if "base" in first:
        return [_adapted(facts.decoders), *network_paragraphs(facts, trained_here=False)]
    if first["preset"] is None:
        return [_linear(facts.decoders)]
    return network_paragraphs(facts, trained_here=True)


def _linear(decoders: Sequence[DecoderConfig]) -> str:
    method = decoders[0]["method"]
    text = f"Labels were decoded with {DESCRIPTIONS[method]}."
    fitted = "training and validation" if decoders[0]["hyperparameters"]["fit_on"] != "train" else "training"
    text += f" It was fitted to {fitted} trials, without guidance by CLIP.{_chosen(decoders)}"
    return f"{text}{_sizes(decoders)}"


def _chosen(decoders: Sequence[DecoderConfig]) -> str:
    """Penalties that were chosen, and from how many."""
    name = "alpha" if "alpha" in decoders[0]["parameters"] else "c"
    found = [value for config in decoders for value in _values(config["parameters"].get(name))]
    if not found:
        return ""
    linear = decoders[0]["hyperparameters"]["linear"]
    word, values = {
        "alpha": ("penalty", linear["alphas"]),
        "c": ("inverse penalty C", linear["logistic_c"]),
    }[name]
    choice = f"{len(values)} values between {min(values):g} and {max(values):g}"
    return f" The {word} was {span(found)}, chosen from {choice}."


def _values(chosen: Mapping[str, float] | float | None) -> list[float]:
    """One for all participants, or one for each fit."""
    if chosen is None:
        return []
    return [float(value) for value in (chosen.values() if isinstance(chosen, Mapping) else [chosen])]


def _sizes(decoders: Sequence[DecoderConfig]) -> str:
    shared = max(int(config["parameters"]["shared"]) for config in decoders)
    own = [int(n) for config in decoders for n in config["parameters"]["per_participant"].values()]
    parts = [f"{count(shared, 'number')} that all participants share"] if shared else []
    parts += [f"{span(own)} numbers of each participant's own"] if any(own) else []
    return f" It has {' and '.join(parts)}." if parts else ""


def _adapted(decoders: Sequence[DecoderConfig]) -> str:
    """What was fitted to new participants of a decoder that stayed as it was."""
    first = decoders[0]
    notes: list[Mapping[str, Any]] = [config["decoder"]["adaptation"] for config in decoders]
    fitted = [sum(one["fitted_values"].values()) for one in notes]
    base = first["base"]
    return (
        f"{count(len(decoders), 'new participant')} {'was' if len(decoders) == 1 else 'were'} decoded with the stored "
        f"decoder {base['label']} of {count(len(notes[0]['known']), 'other participant')} (SHA-256 of its weights "
        f"{base['weights_sha256'][:12]}), which stayed as it was. Fitted were only the {span(fitted)} numbers that are "
        f"a participant's own, to {span(one['n_trials'] for one in notes)} trials of each new participant"
        f"{_calibration(first)}. The sentences that follow describe that decoder."
    )


def _calibration(config: DecoderConfig) -> str:
    wanted = config["calibration_trials"]
    return "" if wanted is None else f" (the first {wanted} labelled training trials)"
