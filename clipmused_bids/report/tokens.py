"""What the tokens of one participant learned: which stimuli they find alike, beside which CLIP finds alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.report.blocks import Block, Details, Figure, Paragraph, Section, Table
from clipmused_bids.report.similarity import (
    MOST_CELLS,
    AgreementRow,
    draw_agreements,
    draw_similarity,
    mean_ranks,
)

ANCHOR, TITLE = "tokens", "What the tokens learned"
LEVELS = ("low", "high")
SIGNIFICANT = 0.05
FEW_STIMULI = 20
_ALIKE = 0.9999


@dataclass(frozen=True)
class ClipAgreement:
    """How far something made of responses agrees with one level of CLIP.

    Parameters
    ----------
    brain : {"low", "high", "voxels", "untrained low", "untrained high"}
    clip : {"low", "high"}
    value, p_value, chance_low, chance_high : float
        NaN where it cannot be told.
    """

    brain: str
    clip: str
    value: float
    p_value: float
    chance_low: float
    chance_high: float


@dataclass(frozen=True)
class TokenFindings:
    """What an evaluation found about one participant's tokens.

    Parameters
    ----------
    participant : str
    brain, clip : mapping of str to ndarray of shape (n, n)
        Similarities by level; levels of CLIP that are not known are missing. Of one fold, where there are several.
    group : ndarray of int, shape (n,)
        What stimuli are ordered by; ascending.
    group_names : sequence of str
    ordered_by : str
        ``label`` or ``rarest label``.
    agreements : sequence of ClipAgreement
    n_stimuli, n_tested : int
        Stimuli that entered, and that were tested.
    n_folds : int
        0 without a cross-validation.
    guided : mapping of str to bool
        Whether a level of CLIP was in the loss.
    seen : bool
        Whether the stimuli of the test trials were in the training data too.
    no_clip : str
        Why there are no features of CLIP; empty where there are.
    untrained : bool
        Whether the weights that were kept are those before training.
    """

    participant: str
    brain: Mapping[str, FloatArray]
    clip: Mapping[str, FloatArray]
    group: IntArray
    group_names: Sequence[str]
    ordered_by: str
    agreements: Sequence[ClipAgreement]
    n_stimuli: int
    n_tested: int
    n_folds: int
    guided: Mapping[str, bool]
    seen: bool
    no_clip: str
    untrained: bool


def token_section(found: TokenFindings) -> Section:
    """Tell in words, then show the matrices of both levels and their agreement."""
    blocks: list[Block] = [Paragraph(_seen(found))]
    blocks += [Paragraph(text, tone="note") for text in _cautions(found)]
    if len(found.group) > 1:
        for level in LEVELS:
            blocks += _matrices(found, level)
    rows = agreement_rows(found)
    if rows:
        blocks += [_agreement_figure(found, rows), _agreement_table(rows)]
    blocks.append(_how(found))
    return Section(ANCHOR, TITLE, blocks)


def agreement_rows(found: TokenFindings) -> list[AgreementRow]:
    """Four comparisons of a token with a level of CLIP, those that are known, with what stands beside each."""
    of = {(one.brain, one.clip): one for one in found.agreements}
    rows = []
    for token in LEVELS:
        for level in LEVELS:
            one = of.get((token, level))
            if one is None or not np.isfinite(one.value):
                continue
            beside = (of.get(("voxels", level)), of.get((f"untrained {token}", level)))
            voxels, untrained = (np.nan if other is None else other.value for other in beside)
            rows.append(
                AgreementRow(
                    f"{token}-level token, CLIP {level} level",
                    one.value, one.p_value, one.chance_low, one.chance_high, (voxels, untrained),
                )
            )  # fmt: skip
    return rows


def _seen(found: TokenFindings) -> str:
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
    if one.p_value > SIGNIFICANT:
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
    pairs = found.clip[level][np.triu_indices(len(found.clip[level]), k=1)]
    if len(pairs) and np.nanmax(pairs) - np.nanmin(pairs) < 1 - _ALIKE:
        return f"to this CLIP model all tested stimuli are the same at the {level} level"
    return f"{found.n_stimuli} tested stimuli are too few"


def _cautions(found: TokenFindings) -> list[str]:
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
    cosines = found.clip[level]
    pairs = cosines[np.triu_indices(len(cosines), k=1)]
    pairs = pairs[np.isfinite(pairs)]
    n_alike = int((pairs > _ALIKE).sum())
    if n_alike < 0.1 * len(pairs) or n_alike < 1:
        return ""
    return (
        f"To CLIP's {level} level {n_alike} of {len(pairs)} pairs of different stimuli are one and the same; "
        "the model does not tell them apart."
    )


def _matrices(found: TokenFindings, level: str) -> list[Block]:
    sides = [("CLIP", found.clip), ("token", found.brain)]
    return [
        _matrix(found, matrices[level], side=side, level=level)
        for side, matrices in sides
        if level in matrices
    ]


def _matrix(found: TokenFindings, similarity: FloatArray, *, side: str, level: str) -> Figure:
    within, between = mean_ranks(similarity, found.group)
    pairs = similarity[np.triu_indices(len(similarity), k=1)]
    pairs = pairs[np.isfinite(pairs)]
    what = f"CLIP, {level} level" if side == "CLIP" else f"{level}-level token of sub-{found.participant}"
    ranks = _ranks_in_words(found, within, between)
    span = f"Cosines from {pairs.min():.2f} to {pairs.max():.2f}." if len(pairs) else ""
    return Figure(
        draw_similarity(similarity, found.group, found.group_names, title=what),
        "image/png",
        alt=f"Similarity matrix of {len(similarity)} test stimuli, {what}. {ranks} {span}".strip(),
        caption=f"{what}: which pairs of test stimuli are alike. {ranks} {span}".strip(),
        width="half",
    )


def _ranks_in_words(found: TokenFindings, within: float, between: float) -> str:
    if not np.isfinite(within):
        return f"Each stimulus has another {found.ordered_by}, so there is no pair of one label."
    if not np.isfinite(between):
        return f"All stimuli have the same {found.ordered_by}."
    return (
        f"Mean rank of pairs with the same {found.ordered_by} {within:.2f}, of other pairs {between:.2f} "
        "(0 least, 1 most alike)."
    )


def _agreement_figure(found: TokenFindings, rows: Sequence[AgreementRow]) -> Figure:
    told = "; ".join(
        f"{row.name} {row.value:.2f} (chance {row.chance_low:.2f} to {row.chance_high:.2f}, voxels {row.beside[0]:.2f})"
        for row in rows
    )
    return Figure(
        draw_agreements(rows, others=("voxels", "untrained network")),
        "image/svg+xml",
        alt=f"Agreement of tokens with CLIP: {told}.",
        caption=(
            "Rank correlation of the similarities of the decoder's tokens with those of CLIP, over all pairs of test "
            "stimuli. Grey: what 95 % of random orders of the stimuli reach. Diamond: the standardised responses "
            "themselves, without any decoder; a token that lies beside it adds nothing to what the voxels say. "
            "Square: a network of the same shape with random weights."
            f"{_of_folds(found)}"
        ),
    )


def _of_folds(found: TokenFindings) -> str:
    if not found.n_folds:
        return ""
    return (
        f" Decoders of different folds have different tokens: agreement is that within each of {found.n_folds} folds, "
        "averaged; the matrices above are those of the first fold."
    )


def _agreement_table(rows: Sequence[AgreementRow]) -> Table:
    return Table(
        caption="Agreement with CLIP (Spearman); p one-sided, by permuting stimuli, not corrected for several tests",
        columns=("pair", "agreement", "p", "95 % by chance", "voxels", "untrained network"),
        rows=[
            (
                row.name,
                f"{row.value:.3f}",
                f"{row.p_value:.3f}",
                f"{row.chance_low:.3f} to {row.chance_high:.3f}",
                *(f"{value:.3f}" if np.isfinite(value) else "n/a" for value in row.beside),
            )
            for row in rows
        ],
        numeric=(False, True, True, True, True, True),
    )


def _how(found: TokenFindings) -> Details:
    chosen = (
        f"{found.n_stimuli} of {found.n_tested} tested stimuli, drawn evenly over labels"
        if found.n_stimuli < found.n_tested
        else f"all {found.n_tested} tested stimuli"
    )
    order = (
        "their label"
        if found.ordered_by == "label"
        else "the rarest of their labels among the tested stimuli"
    )
    shrunk = " Neighbouring rows are averaged for drawing." if len(found.group) > MOST_CELLS else ""
    return Details(
        "How this was computed, and what it does not show",
        [
            Paragraph(
                "Held-out responses were sent through the decoder; each token's last state was averaged over the "
                f"trials of a stimulus, and cosines were taken between stimuli ({chosen}). Matrices show the rank of "
                "each pair among all pairs, so that both sides have one colour scale; stimuli are ordered by "
                f"{order}, with lines between labels.{shrunk} For voxels, correlations of the mean standardised "
                "responses are taken."
            ),
            Paragraph(
                "Agreement does not show that a token carries what CLIP carries: both tokens are read by the "
                "classifier, and stimuli with the same labels are alike to CLIP too. p-values permute stimuli, since "
                "pairs are not independent; whether a token differs from the voxels was not tested."
            ),
        ],
    )
