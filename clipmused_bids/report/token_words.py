"""What is seen of a participant's tokens, and what to know before believing it, in sentences."""

from __future__ import annotations

import numpy as np

from clipmused_bids.report.token_findings import ALIKE, LEVELS, TokenFindings, is_constant, known_pairs

SIGNIFICANT = 0.05
FEW_STIMULI = 20


def what_is_seen(found: TokenFindings) -> str:
    """Say what is seen, level by level."""
    if found.n_stimuli < 2:
        return "A single stimulus was tested, so there is no pair of stimuli to compare."
    if not found.clip:
        return f"The tokens' similarities are shown alone: {found.no_clip or 'CLIP features are not known'}."
    return " ".join(_sentence(found, level) for level in LEVELS)


def _sentence(found: TokenFindings, level: str) -> str:
    which = f"The {level}-level token"
    if level not in found.clip:
        return f"{which} has no target to be compared with: this dataset has no {level} level of CLIP."
    of = {(one.brain, one.clip): one for one in found.agreements}
    one, voxels = of.get((level, level)), of.get(("voxels", level))
    if one is None or not np.isfinite(one.value):
        return f"{which} cannot be compared with CLIP: {_why_not(found, level)}."
    numbers = f"Spearman {one.value:.2f}, p = {one.p_value:.3f}"
    if one.p_value > SIGNIFICANT and found.n_stimuli < FEW_STIMULI:
        text = f"Agreement of the {level}-level token with CLIP cannot be told from chance ({numbers})"
    elif one.p_value > SIGNIFICANT:
        text = f"{which} agrees with CLIP's {level} level no better than chance ({numbers})"
    else:
        text = f"{which} finds stimuli alike that CLIP's {level} level finds alike ({numbers})"
    if voxels is not None and np.isfinite(voxels.value):
        word = "more than" if one.value > voxels.value else "no more than"
        beside = f"voxels {voxels.value:.2f}"
        text += (
            f", {word} the responses themselves do ({beside})"
            if one.p_value <= SIGNIFICANT
            else f"; the responses themselves: {voxels.value:.2f}"
        )
    return f"{text}."


def _why_not(found: TokenFindings, level: str) -> str:
    if len(known_pairs(found.clip[level])) and is_constant(found.clip[level]):
        return f"to this CLIP model all tested stimuli are the same at the {level} level"
    return f"{found.n_stimuli} tested stimuli are too few"


def cautions(found: TokenFindings) -> list[str]:
    """What the reader must know before he believes a number."""
    notes = []
    if found.untrained:
        notes.append(
            "The weights that were kept are those before training: no epoch was better. What the tokens show here is "
            "the responses seen through random weights, not something learned."
        )
    if found.seen and found.n_stimuli > 1:
        notes.append(
            "The tested trials show stimuli that training knew (other trials of them), so agreement with CLIP may be "
            "what was learned about these stimuli; it says nothing about new ones."
        )
    if 1 < found.n_stimuli < FEW_STIMULI:
        n_pairs = found.n_stimuli * (found.n_stimuli - 1) // 2
        notes.append(
            f"{found.n_stimuli} stimuli make {n_pairs} pairs: only strong agreement could be told from chance."
        )
    off = [level for level in LEVELS if level in found.clip and not found.guided.get(level)]
    notes += [
        f"CLIP's {level} level did not guide this decoder; it is shown for comparison." for level in off
    ]
    same = [text for level in found.clip if (text := _alike(found, level))]
    return notes + same


def _alike(found: TokenFindings, level: str) -> str:
    pairs = known_pairs(found.clip[level])
    n_alike = int((pairs > ALIKE).sum())
    if n_alike < max(1, 0.1 * len(pairs)) or is_constant(found.clip[level]):
        return ""
    return (
        f"To CLIP's {level} level {n_alike} of {len(pairs)} pairs of different stimuli are one and the same; "
        "the model does not tell them apart."
    )
