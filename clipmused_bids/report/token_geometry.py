"""How the learned tokens of participants lie to each other, and whether their responses make the same things alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block, Details, Figure, Paragraph, Section, Table
from clipmused_bids.report.canvas import blank, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANCHOR, TITLE = "token-geometry", "Token geometry"
LEVELS = ("low", "high")
_MOST_NUMBERS = 8  # participants whose cosines fit into the cells
_MOST_NAMES = 24


@dataclass(frozen=True)
class SubjectTokens:
    """Learned tokens of the participants of one decoder.

    Parameters
    ----------
    participants : sequence of str
    cosines : mapping of str to ndarray of shape (n, n)
        Of both levels.
    low_high : ndarray of shape (n,)
        Cosine of each participant's low-level and high-level token.
    norms : mapping of str to ndarray of shape (n,)
    width : int
        Numbers of a token, over all members of an average.
    initial_norm : float
        Expected norm before training; NaN where unknown.
    untrained : bool
        Whether the weights that were kept are those before training.
    """

    participants: Sequence[str]
    cosines: Mapping[str, FloatArray]
    low_high: FloatArray
    norms: Mapping[str, FloatArray]
    width: int
    initial_norm: float
    untrained: bool


@dataclass(frozen=True)
class PersonRow:
    """One participant's agreements.

    Parameters
    ----------
    participant : str
    with_clip : mapping of str to (float, float)
        Agreement of each level's token with that level of CLIP, and its p-value; levels may be missing.
    with_others : mapping of str to (float, float)
        Agreement of each level's similarities with the mean of the other participants', and its p-value.
    """

    participant: str
    with_clip: Mapping[str, tuple[float, float]]
    with_others: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class GeometryFindings:
    """What is known of all participants.

    Parameters
    ----------
    subject : SubjectTokens or None
        None where no two participants share a decoder.
    people : sequence of PersonRow
    n_shared : int
        Test stimuli that all participants saw and that their similarities were compared over.
    """

    subject: SubjectTokens | None
    people: Sequence[PersonRow]
    n_shared: int


def chance_cosine(width: int) -> float:
    """Half-width of what 95 % of cosines of two random directions of so many numbers lie within, 1.96 / sqrt(D)."""
    return 1.96 / float(np.sqrt(width))


def geometry_section(found: GeometryFindings) -> Section:
    """Tell in words, then show the cosines between participants and a row for each of them."""
    blocks: list[Block] = [
        Paragraph(text) for text in (_of_subjects(found.subject), _of_others(found)) if text
    ]
    if found.subject is not None and len(found.subject.participants) > 1:
        blocks += [_cosines(found.subject, level) for level in LEVELS]
    blocks += [_table(found), _how(found)]
    return Section(ANCHOR, TITLE, blocks)


def _of_subjects(subject: SubjectTokens | None) -> str:
    if subject is None:
        return (
            "Each participant has a decoder of his own, so there are no learned tokens in one space that could be "
            "compared between participants."
        )
    chance = chance_cosine(subject.width)
    if len(subject.participants) < 2:
        return "There is a single participant, so there is nobody to compare his learned tokens with."
    if subject.untrained:
        start = "The weights that were kept are those before training, so these are random directions. "
    else:
        start = ""
    told = []
    for level in LEVELS:
        values = _pairs(subject.cosines[level])
        beyond = int((np.abs(values) > chance).sum())
        told.append(
            f"{values.min():.2f} to {values.max():.2f} at the {level} level (mean {values.mean():.2f}; {beyond} of "
            f"{len(values)} pairs beyond chance)"
        )
    own = subject.low_high
    alike = int((np.abs(own) > chance).sum())
    return (
        f"{start}Learned tokens of different participants have cosines from {', and from '.join(told)}; the low-level "
        f"and the high-level token of one participant, from {own.min():.2f} to {own.max():.2f} ({alike} of {len(own)} "
        f"beyond chance). By chance: 95 % of the cosines of random directions lie within ±{chance:.2f}."
    )


def _of_others(found: GeometryFindings) -> str:
    if len(found.people) < 3:
        return ""
    told = []
    for level in LEVELS:
        values = [one.with_others[level] for one in found.people if level in one.with_others]
        values = [pair for pair in values if np.isfinite(pair[0])]
        if values:
            above = sum(p <= 0.05 for _, p in values)
            mean = float(np.mean([value for value, _ in values]))
            told.append(f"{level} level {mean:.2f} on average, above chance in {above} of {len(values)}")
    if not told:
        return "Participants share too few test stimuli to compare which of them their tokens find alike."
    return (
        f"Which of {found.n_shared} shared test stimuli the tokens find alike agrees with the mean of the other "
        f"participants (Spearman): {'; '.join(told)}."
    )


def _cosines(subject: SubjectTokens, level: str) -> Figure:
    values = _pairs(subject.cosines[level])
    return Figure(
        draw_cosines(
            subject.cosines[level],
            [f"sub-{p}" for p in subject.participants],
            title=f"learned {level}-level tokens",
        ),
        "image/png",
        alt=(
            f"Cosines between the learned {level}-level tokens of {len(subject.participants)} participants: "
            f"{values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}."
        ),
        caption=(
            f"Cosines between participants' learned {level}-level tokens. Random directions would lie within "
            f"±{chance_cosine(subject.width):.2f}."
        ),
        width="half",
    )


def draw_cosines(cosines: FloatArray, names: Sequence[str], *, title: str) -> bytes:
    """Draw a matrix of cosines from -1 to 1, with numbers in the cells where there are few.

    Parameters
    ----------
    cosines : ndarray of shape (n, n)
    names : sequence of str
        Some are left out where there is no room for all.
    title : str

    Returns
    -------
    bytes
        PNG.
    """
    figure = blank(width=3.7, height=3.5)
    axes = figure.add_subplot()
    # The diagonal is 1 whatever was learned.
    shown = np.where(np.eye(len(cosines), dtype=bool), np.nan, cosines)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_facecolor("#d9d9d9")
    axes.set_title(title, fontsize=9)
    step = -(-len(names) // _MOST_NAMES)
    places = range(0, len(names), step)
    axes.set_yticks(places, [names[k] for k in places], fontsize=8)
    axes.set_xticks(places, [names[k] for k in places], fontsize=8, rotation=90)
    if len(names) <= _MOST_NUMBERS:
        _write_numbers(axes, shown)
    bar = figure.colorbar(image, ax=axes, ticks=[-1, 0, 1], fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("cosine", fontsize=8)
    return png(figure, margins="cut")


def _write_numbers(axes: Axes, values: FloatArray) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _table(found: GeometryFindings) -> Table:
    subject = found.subject
    place = {} if subject is None else {p: k for k, p in enumerate(subject.participants)}
    rows = []
    for one in found.people:
        k = place.get(one.participant)
        learned = ["n/a"] * 3
        if subject is not None and k is not None:
            norms = [f"{subject.norms[level][k]:.3f}" for level in LEVELS]
            learned = [*norms, f"{subject.low_high[k]:.2f}"]
        agreements = [_with_p(of.get(level)) for of in (one.with_clip, one.with_others) for level in LEVELS]
        rows.append((f"sub-{one.participant}", *learned, *agreements))
    return Table(
        caption=(
            "Tokens of each participant: length of the learned tokens and cosine between them; agreement of their "
            "similarities with CLIP of the same level and with the other participants (Spearman, p in brackets)"
        ),
        columns=(
            "participant", "norm low", "norm high", "cosine", "CLIP low", "CLIP high", "others low", "others high",
        ),
        rows=rows,
        numeric=(False, *(True,) * 7),
    )  # fmt: skip


def _with_p(pair: tuple[float, float] | None) -> str:
    if pair is None or not np.isfinite(pair[0]):
        return "n/a"
    return f"{pair[0]:.2f} ({pair[1]:.3f})"


def _how(found: GeometryFindings) -> Details:
    subject = found.subject
    blocks: list[Block] = []
    if subject is not None:
        norm = (
            f" Before training their norm is about {subject.initial_norm:.2f}."
            if np.isfinite(subject.initial_norm)
            else ""
        )
        blocks.append(
            Paragraph(
                f"A learned token has {subject.width} numbers, drawn at random before training: such tokens are nearly "
                f"orthogonal, with cosines of standard deviation 1 / sqrt({subject.width}) = "
                f"{1 / np.sqrt(subject.width):.2f}.{norm} So small cosines are what no learning gives as well, and "
                "alone they do not show that people differ. Nothing says which directions matter to the network: a "
                "small change of a token can change much."
            )
        )
    blocks.append(
        Paragraph(
            "Agreement with the others: ranks of the pairs of shared test stimuli are averaged over all other "
            "participants; p-values permute stimuli. It shows that responses of different people carry something in "
            "common about these stimuli, as read by the decoder; the stimuli's labels are enough for that, and a "
            "network that was never trained would carry it as well."
        )
    )
    return Details("How to read this, and what it does not show", blocks)


def _pairs(matrix: FloatArray) -> FloatArray:
    return np.asarray(matrix[np.triu_indices(len(matrix), k=1)])
