"""What the tokens of one participant learned: which stimuli they find alike, beside which CLIP finds alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block, Details, Figure, Paragraph, Section, Table
from clipmused_bids.report.similarity import (
    MOST_CELLS,
    AgreementRow,
    draw_agreements,
    draw_similarity,
    mean_ranks,
)
from clipmused_bids.report.token_findings import LEVELS, TokenFindings, is_constant, known_pairs
from clipmused_bids.report.token_words import cautions, what_is_seen

ANCHOR, TITLE = "tokens", "What the tokens learned"


def token_figures(found: TokenFindings) -> dict[str, Figure]:
    """Draw the matrices of both levels (of CLIP's those that vary) and their agreement, by name in the page's order."""
    figures: dict[str, Figure] = {}
    for level in LEVELS if len(found.group) > 1 else ():
        clip = level in found.clip and not is_constant(found.clip[level])
        # A token whose level of CLIP is not shown does not stand beside the other level's.
        width: Literal["full", "half"] = "half" if clip or not found.clip else "full"
        if clip:
            matrix = found.clip[level]
            figures[f"clip{level}"] = _matrix(found, matrix, what=f"CLIP, {level} level", width=width)
        what = f"{level}-level token of sub-{found.participant}"
        figures[f"token{level}"] = _matrix(found, found.brain[level], what=what, width=width)
    rows = agreement_rows(found)
    if rows:
        figures["agreement"] = _agreement_figure(found, rows)
    return figures


def token_section(found: TokenFindings, figures: Mapping[str, Figure]) -> Section:
    """Tell in words, then show the figures.

    Parameters
    ----------
    found : TokenFindings
    figures : mapping of str to Figure
        From `token_figures`.
    """
    blocks: list[Block] = [Paragraph(what_is_seen(found))]
    blocks += [Paragraph(text, tone="note") for text in cautions(found)]
    blocks += figures.values()
    rows = agreement_rows(found)
    if rows:
        blocks.append(_agreement_table(rows))
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


def _matrix(
    found: TokenFindings, similarity: FloatArray, *, what: str, width: Literal["full", "half"]
) -> Figure:
    within, between = mean_ranks(similarity, found.group)
    pairs = known_pairs(similarity)
    ranks = _ranks_in_words(found, within, between)
    span = f"Cosines from {pairs.min():.2f} to {pairs.max():.2f}." if len(pairs) else ""
    return Figure(
        draw_similarity(similarity, found.group, found.group_names, title=what),
        "image/png",
        alt=f"Similarity matrix of {len(similarity)} test stimuli, {what}. {ranks} {span}".strip(),
        caption=f"{what}: which pairs of test stimuli are alike. {ranks} {span}".strip(),
        width=width,
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
                f"{order}, lines part labels that are few.{shrunk} For voxels, correlations of the mean standardised "
                "responses are taken."
            ),
            Paragraph(
                "Agreement does not show that a token carries what CLIP carries: both tokens are read by the "
                "classifier, and stimuli with the same labels are alike to CLIP too. p-values permute stimuli, since "
                "pairs are not independent; whether a token differs from the voxels was not tested."
            ),
        ],
    )
