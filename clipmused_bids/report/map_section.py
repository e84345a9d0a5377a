"""The section of a participant's page that says where the decoder looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.report.blocks import Block, Details, Figure, Paragraph, Section, Table, Tone
from clipmused_bids.report.brain_maps import (
    BrainMap,
    attention_scale,
    drop_scale,
    glass_brain,
    one_map,
    side_by_side,
)
from clipmused_bids.report.map_words import WEIGHTS_NOTE, MapTrust, short_words, trust_words

ANCHOR, TITLE = "maps", "Where it looks"
MOST_REGIONS = 10


@dataclass(frozen=True)
class OcclusionView:
    """What is shown of the drops of one participant.

    Parameters
    ----------
    brain : BrainMap
    intact, floor : float
        mAP without any knock-out, and what a random ranking would reach.
    names : sequence of str
        R regions.
    regions : str
        Where the regions come from.
    n_voxels : ndarray of int, shape (R,)
    centre : ndarray of shape (R, 3)
        In mm.
    drop, randomised : ndarray of shape (R,)
    strongest : sequence of (str, float)
        Label that drops most, and its drop; ("", NaN) where none drops.
    n_trials, n_stimuli, n_labels : int
        Test trials and their stimuli, labels that can be scored.
    decoded_by : str
        After a comma, which decoder a trial was passed through, where there are several.
    trust : MapTrust
    """

    brain: BrainMap
    intact: float
    floor: float
    names: Sequence[str]
    regions: str
    n_voxels: IntArray
    centre: FloatArray
    drop: FloatArray
    randomised: FloatArray
    strongest: Sequence[tuple[str, float]]
    n_trials: int
    n_stimuli: int
    n_labels: int
    decoded_by: str
    trust: MapTrust


@dataclass(frozen=True)
class AttentionView:
    """What is shown of one token's attention.

    Parameters
    ----------
    title : str
    brain : BrainMap
        Relative to its mean over voxels.
    local : bool
        Whether patches are made of the voxels that they are shown at.
    places : str
        How patches became voxels.
    depth, n_trials : int
        Blocks of the network, test trials.
    trust : MapTrust
    """

    title: str
    brain: BrainMap
    local: bool
    places: str
    depth: int
    n_trials: int
    trust: MapTrust


def map_figures(
    occlusion: OcclusionView | None, attention: Sequence[AttentionView], rollout: Sequence[AttentionView]
) -> dict[str, bytes]:
    """Draw what there is, as PNG by name: ``occlusion``, ``glass``, ``attention``, ``rollout``."""
    drawn: dict[str, bytes] = {}
    if occlusion is not None:
        scale = drop_scale(occlusion.drop)
        drawn["occlusion"] = one_map(occlusion.brain, scale)
        if occlusion.brain.on_template:
            drawn["glass"] = glass_brain(occlusion.brain, scale)
    for name, views in (("attention", attention), ("rollout", rollout)):
        if views:
            drawn[name] = side_by_side(
                [(one.brain, attention_scale(one.brain.values[one.brain.inside])) for one in views]
            )
    return drawn


def maps_section(
    occlusion: OcclusionView | None,
    attention: Sequence[AttentionView],
    rollout: Sequence[AttentionView],
    *,
    figures: Mapping[str, bytes],
) -> Section:
    """Lay figures, the table of regions and the words on their reliability together."""
    blocks: list[Block] = []
    if occlusion is not None:
        blocks += _occlusion_blocks(occlusion, figures)
    blocks += _attention_blocks(attention, figures.get("attention"))
    if rollout:
        blocks.append(Details("Attention through all blocks (rollout)", _rollout_blocks(rollout, figures)))
    return Section(ANCHOR, TITLE, blocks)


def _occlusion_blocks(view: OcclusionView, figures: Mapping[str, bytes]) -> list[Block]:
    top = int(np.argmax(view.drop))
    floor = f"{view.intact:.3f} (a random ranking: {view.floor:.3f})"
    most = f"falls most without {view.names[top]}, by {view.drop[top]:.3f}"
    if view.trust.tone == "warning":
        most = f"falls by at most {view.drop[top]:.3f} when one of them is missing"
    first = (
        f"{len(view.names)} regions are knocked out one by one ({view.regions}). mAP of the test trials is {floor}; it "
        f"{most if view.drop[top] > 0 else 'falls without none of them'}."
    )
    caption = (
        "Occlusion: mAP minus mAP without the voxel's region (its responses at their training mean), mean over "
        f"{view.n_labels} labels; {view.n_trials} test trials of {view.n_stimuli} stimuli{view.decoded_by}. "
        "Red: the decoder is worse without the region. White does not mean that a region knows "
        f"nothing: others may know the same. {trust_words(view.trust)}"
    )
    alt = (
        f"Slices of the brain coloured by the drop of mAP; largest {view.drop[top]:.3f} in {view.names[top]}, smallest "
        f"{view.drop.min():.3f}."
    )
    blocks: list[Block] = [Paragraph(first)]
    blocks.append(Paragraph(trust_words(view.trust), tone=view.trust.tone))
    blocks.append(Figure(figures["occlusion"], "image/png", alt, caption))
    if "glass" in figures:
        blocks.append(
            Figure(
                figures["glass"], "image/png", f"Glass brain of the same drops. {alt}",
                "The same through a glass brain: the largest drop, or gain, along each line of sight; colours as "
                "above. Below a hundredth of the largest, nothing is drawn.",
            )
        )  # fmt: skip
    blocks.append(_table(view))
    return blocks


def _table(view: OcclusionView) -> Table:
    order = np.argsort(-view.drop, kind="stable")[:MOST_REGIONS]
    rows = []
    for k in order:
        label, drop = view.strongest[k]
        rows.append(
            [
                view.names[k],
                str(int(view.n_voxels[k])),
                ", ".join(f"{x:.0f}" for x in view.centre[k]) if np.isfinite(view.centre[k]).all() else "n/a",
                f"{view.drop[k]:+.3f}",
                f"{view.randomised[k]:+.3f}",
                f"{label} ({drop:+.3f})" if label else "none",
            ]
        )
    caption = (
        f"The {len(order)} regions with the largest drop of mAP, of {len(view.names)}; beside it the drop of "
        "decoders with random weights, which is what chance gives, and the label whose average precision falls most. "
        "The table of all regions and labels lies beside the maps."
    )
    return Table(
        caption,
        ["Region", "Voxels", "Centre (mm)", "Drop of mAP", "Random weights", "Strongest label"],
        rows,
        numeric=(False, True, True, True, True, False),
    )


def _attention_blocks(views: Sequence[AttentionView], figure: bytes | None) -> list[Block]:
    if not views or figure is None:
        return []
    names = ", ".join(one.title for one in views)
    blocks: list[Block] = [
        Paragraph(
            "Attention of tokens over patches, as the paper shows it. It says where a token reads, not what the "
            "decoder needs: occlusion above says that."
        ),
        *_place_words(views),
        Figure(
            figure, "image/png", f"Slices of the brain coloured by attention: {names}. {_range(views)}",
            f"Attention in the last block ({names}), mean over heads and {views[0].n_trials} test trials, relative to "
            f"its mean over voxels; each column has its own colours. {_trusts(views)}",
        ),
    ]  # fmt: skip
    tones = [one.trust.tone for one in views]
    worst: Tone = "warning" if "warning" in tones else "note" if "note" in tones else "plain"
    blocks.insert(1, Paragraph(_trusts(views), tone=worst))
    return blocks


def _rollout_blocks(views: Sequence[AttentionView], figures: Mapping[str, bytes]) -> list[Block]:
    note = (
        "With one block, rollout is half of the attention in that block: it says nothing new. "
        if all(one.depth == 1 for one in views)
        else ""
    )
    return [
        Figure(
            figures["rollout"], "image/png", f"Slices coloured by attention rollout. {_range(views)}",
            f"Attention rollout: attention multiplied through all blocks with their residual connections (Abnar and "
            f"Zuidema 2020), relative to its mean over voxels. {note}{_trusts(views)}",
        )
    ]  # fmt: skip


def _place_words(views: Sequence[AttentionView]) -> list[Block]:
    """Say once that patches are not local, and how they came to be shown at voxels."""
    how = dict.fromkeys(one.places for one in views if not one.local)
    return [Paragraph(f"Patches are not local here: {places}.", tone="note") for places in how]


def _trusts(views: Sequence[AttentionView]) -> str:
    """How far each map can be believed: number of its split-half reliability, then of its likeness to others."""
    return (
        "; ".join(f"{one.title}: {short_words(one.trust)}" for one in views)
        + ". In brackets: split-half reliability over test stimuli, then correlations."
        + (f" {WEIGHTS_NOTE}" if any(one.trust.shows_weights for one in views) else "")
    )


def _range(views: Sequence[AttentionView]) -> str:
    parts = []
    for one in views:
        values = one.brain.values[one.brain.inside]
        parts.append(f"{one.title} from {values.min():.2f} to {values.max():.2f} times its mean")
    return "; ".join(parts) + "."
