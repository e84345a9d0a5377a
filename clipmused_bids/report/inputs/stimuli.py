"""Stimuli of one participant: how often each was shown, which labels they have, and a dozen to look at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block, Card, Details, Figure, Gallery, Paragraph, Table
from clipmused_bids.report.canvas import OUR_COLOUR, blank, svg
from clipmused_bids.report.inputs.wording import counted, listed, share

CARDS = 12
MOST_OPEN_LABELS = 20
_MOST_LABELS_ON_CARD = 4


@dataclass(frozen=True)
class StimulusFacts:
    """Stimuli that one participant was shown.

    Parameters
    ----------
    shown : mapping of str to int
        Trials of each stimulus.
    pictured : frozenset of str
        Stimuli whose picture was found.
    label_names : tuple of str
    labels : ndarray of shape (n_stimuli, n_labels)
        Of the stimuli in the order of ``shown``: 1, 0, NaN where unknown.
    movies : int
        Movies whose samples the stimuli are; 0 for pictures.
    """

    shown: Mapping[str, int]
    pictured: frozenset[str]
    label_names: tuple[str, ...]
    labels: FloatArray
    movies: int = 0

    def labels_of(self, name: str) -> list[str]:
        """Labels that a stimulus has."""
        row = self.labels[list(self.shown).index(name)]
        return [label for label, value in zip(self.label_names, row, strict=True) if value == 1]


@dataclass(frozen=True)
class LabelFacts:
    """How often a label is there: stimuli, and training and test trials that have it of those where it is known."""

    name: str
    n_stimuli: int
    train: tuple[int, int]
    test: tuple[int, int]


def stimulus_blocks(facts: StimulusFacts) -> list[Block]:
    """How many stimuli, how many pictures, and how often each was shown."""
    n_stimuli, n_trials = len(facts.shown), sum(facts.shown.values())
    what = (
        f"{counted(n_stimuli, 'sample')} of {counted(facts.movies, 'movie')}"
        if facts.movies
        else counted(n_stimuli, "stimulus", "stimuli")
    )
    times = Counter(facts.shown.values())
    text = f"{what} were shown in {counted(n_trials, 'trial')}; {_repeats(times)} {_pictures(facts)}"
    blocks: list[Block] = [
        Paragraph(text, tone="warning" if 2 * len(facts.pictured) < n_stimuli and facts.pictured else "plain")
    ]
    if len(times) > 1:
        blocks.append(repeats_figure(times))
    return blocks


def _repeats(times: Counter[int]) -> str:
    if len(times) == 1:
        (number,) = times
        return "each once." if number == 1 else f"each {number} times."
    repeated = sum(n for number, n in times.items() if number > 1)
    return f"{repeated:,} of them more than once (at most {max(times)} times)."


def _pictures(facts: StimulusFacts) -> str:
    n, found = len(facts.shown), len(facts.pictured)
    word = "frames" if facts.movies else "pictures"
    if found == 0:
        return f"There are no {word} of them: nothing can be shown here, and labels or captions stand in for them."
    if found == n:
        return f"All {word} were found."
    return f"{found:,} of {n:,} {word} were found, {n - found:,} are missing ({share(n - found, n)})."


def repeats_figure(times: Mapping[int, int]) -> Figure:
    """Histogram: how many stimuli were shown once, twice, ..."""
    figure = blank(width=4.2, height=2.2)
    axes = figure.add_subplot()
    numbers = sorted(times)
    most = max(numbers)
    if most <= 20:
        axes.bar(numbers, [times[k] for k in numbers], color=OUR_COLOUR, width=0.8)
        axes.set_xticks(range(1, most + 1))
        for number in numbers if len(numbers) <= 12 else ():
            axes.annotate(f"{times[number]:,}", (number, times[number]), ha="center", va="bottom", fontsize=8)
        axes.margins(y=0.15)
    else:
        axes.hist(numbers, bins=20, weights=[times[k] for k in numbers], color=OUR_COLOUR)
    axes.set(xlabel="times shown", ylabel="stimuli")
    words = [f"{times[k]:,} shown {'once' if k == 1 else f'{k} times'}" for k in numbers]
    return Figure(
        image=svg(figure),
        media_type="image/svg+xml",
        alt=f"Histogram of repeats: {listed(words, most=8)}.",
        caption="How many stimuli this participant was shown how many times. Repeats are what noise ceilings are told "
        "from; a stimulus that is shown often also weighs more in training.",
    )


def label_blocks(labels: Sequence[LabelFacts], *, single: bool) -> list[Block]:
    """Labels with their counts; more than twenty are folded away."""
    if not labels:
        return []
    rows = [
        [one.name, f"{one.n_stimuli:,}", *_of(*one.train), *_of(*one.test)]
        for one in sorted(labels, key=lambda one: (-one.train[0], -one.n_stimuli, one.name))
    ]
    kind = "Each stimulus has one label" if single else "A stimulus can have several labels"
    table = Table(
        caption=f"Labels, by training trials that have them. {kind}. Shares are of the trials where the label is "
        "known; that of the test trials is the average precision of a random ranking.",
        columns=("label", "stimuli", "training trials", "share", "test trials", "share"),
        rows=rows,
        numeric=(False, True, True, True, True, True),
    )
    never = [one.name for one in labels if one.test[1] and one.test[0] == 0]
    notes: list[Block] = []
    if never:
        notes.append(
            Paragraph(
                f"No test trial has {listed(never)}: nothing can be said about such labels.", tone="note"
            )
        )
    if len(labels) == 1:
        notes.append(Paragraph("There is a single label; nothing can be confused with it.", tone="note"))
    if len(rows) > MOST_OPEN_LABELS:
        return [Details(f"All {len(rows)} labels with their counts", [table]), *notes]
    return [table, *notes]


def _of(n: int, known: int) -> tuple[str, str]:
    return (f"{n:,}", share(n, known)) if known else ("–", "–")


def chosen_stimuli(facts: StimulusFacts, *, n: int = CARDS) -> list[str]:
    """Choose stimuli to show, the same ones whenever a page is made, spread over the labels.

    Labels take turns, the most frequent one first; each takes the next stimulus that has it. Stimuli come in an order
    that has nothing to do with their names, those with a picture first.
    """
    order = sorted(facts.shown, key=lambda name: (name not in facts.pictured, _mixed(name)))
    rows = {name: k for k, name in enumerate(facts.shown)}
    table = np.nan_to_num(facts.labels[[rows[name] for name in order]]) > 0
    by_frequency = [int(k) for k in np.argsort(-table.sum(axis=0), kind="stable")]
    queues = [[order[k] for k in np.flatnonzero(table[:, label])] for label in by_frequency]
    chosen: list[str] = []
    while len(chosen) < n and any(queues):
        for queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < n:
                chosen.append(queue.pop(0))
    # Those that have no label, where labels leave room.
    return [*chosen, *(name for name in order if name not in chosen)][:n]


def _mixed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def gallery_blocks(
    facts: StimulusFacts, images: Mapping[str, bytes | None], *, title: Callable[[str], str] = str
) -> list[Block]:
    """Cards of chosen stimuli.

    Parameters
    ----------
    facts : StimulusFacts
    images : mapping of str to (bytes or None)
        Thumbnails of the stimuli to show, in order; None where there is no picture.
    title : callable
        Name of a stimulus as it is shown.
    """
    cards = [_card(facts, name, image, title=title(name)) for name, image in images.items()]
    return [
        Gallery(
            caption=f"{len(cards)} of {counted(len(facts.shown), 'stimulus', 'stimuli')}, chosen by a fixed rule so "
            "that labels take turns; not a random sample, and not those that are decoded well.",
            cards=cards,
        )
    ]


def _card(facts: StimulusFacts, name: str, image: bytes | None, *, title: str) -> Card:
    own = facts.labels_of(name)
    labels = listed(own, most=_MOST_LABELS_ON_CARD) if own else "no label"
    number = facts.shown[name]
    return Card(
        title=title,
        lines=(labels, "shown once" if number == 1 else f"shown {number} times"),
        image=image,
        alt=f"Stimulus {title}: {labels}",
    )
