"""What speaks against believing a comparison, each said only where the outputs show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipmused_bids.evaluation.inference import FEWEST_STIMULI
from clipmused_bids.report.standing import count

FEW_PEOPLE = 5

_SCOPES: Mapping[str, str] = {
    "unseen stimuli": "The scores speak about unseen stimuli of these people, not about new people.",
    "unseen trials of seen stimuli": "The scores speak about further trials of stimuli that were trained on, of these "
    "people: neither about new stimuli nor about new people.",
    "unseen participant": "The scores speak about people that the shared decoder was not trained on, looking at "
    "stimuli that others saw in training: not about new stimuli.",
    "unseen participant and unseen stimuli": "The scores speak about unseen stimuli and about people that the shared "
    "decoder was not trained on.",
}


@dataclass(frozen=True)
class Circumstances:
    """Under which a comparison was made.

    Parameters
    ----------
    n_people : int
        Scored participants.
    n_stimuli : int or None
        Distinct test stimuli; None where not known.
    n_methods : int
        Methods that were scored.
    n_folds : int
        Of a cross-validation; 0 without one.
    leakage : sequence of str
        Sentences on leaks that were allowed, warnings and transductive standardisation.
    n_near_duplicates : int or None
        Pairs of nearly equal pictures of test and training; None where they were not looked for.
    simulated : bool
        Whether the simulator made the data.
    demo_clip : bool
        Whether guidance is by the CLIP model of the simulated scenes, on data that are not simulated.
    guided : bool
        Whether the report's decoder was guided by CLIP at all.
    n_labels, n_scored_labels : int
        Labels of the decoder, and those with a positive and a negative test trial.
    untrained : sequence of str
        Networks whose weights were left as they started.
    stimuli_missing : int
        Stimuli whose picture was not found.
    n_stimuli_in_all : int
        Stimuli of the catalogue, with or without picture.
    """

    n_people: int
    n_stimuli: int | None
    n_methods: int
    n_folds: int = 0
    leakage: Sequence[str] = ()
    n_near_duplicates: int | None = None
    simulated: bool = False
    demo_clip: bool = False
    guided: bool = True
    n_labels: int = 0
    n_scored_labels: int = 0
    untrained: Sequence[str] = field(default_factory=tuple)
    stimuli_missing: int = 0
    n_stimuli_in_all: int = 0


def scope(regime: str) -> str:
    """Say what the scores of a regime speak about."""
    return _SCOPES.get(regime, f"The scores speak about: {regime}.")


def doubts(facts: Circumstances) -> list[tuple[str, str]]:
    """Rows of a table: what it is, and what follows from it."""
    rows = []
    for line in facts.leakage:
        head, _, text = line.partition(": ")
        rows.append((head.capitalize(), f"{text[:1].upper()}{text[1:]}"))
    return [*rows, *_of_people(facts), *_of_stimuli(facts), *_of_decoder(facts), *_of_choice(facts)]


def _of_people(facts: Circumstances) -> list[tuple[str, str]]:
    if facts.n_people == 1:
        return [("One participant", "There is no interval over people: nothing is known about others.")]
    if facts.n_people < FEW_PEOPLE:
        text = "Intervals over people rest on so few that a single one can turn a verdict."
        return [(f"{facts.n_people} participants", text)]
    return []


def _of_stimuli(facts: Circumstances) -> list[tuple[str, str]]:
    rows = []
    if facts.n_stimuli is not None and facts.n_stimuli < FEWEST_STIMULI:
        text = f"Fewer than {FEWEST_STIMULI} are no sample of stimuli: there is no interval over them."
        rows.append((count(facts.n_stimuli, "test stimulus", "test stimuli"), text))
    if facts.n_scored_labels < facts.n_labels:
        text = "The others have no positive or no negative test trial, so nothing is said about them."
        rows.append((f"{facts.n_scored_labels} of {facts.n_labels} labels scored", text))
    if facts.n_near_duplicates:
        pairs = count(facts.n_near_duplicates, "pair", "pairs")
        text = "Pictures of the test set have nearly equal ones among those trained on: its stimuli are not all new."
        rows.append((f"{pairs} of near-duplicates", text))
    if facts.stimuli_missing:
        text = "CLIP could not look at them, and what follows from pictures rests on the others."
        if facts.stimuli_missing == facts.n_stimuli_in_all:
            text = "Nothing was learned from pictures; what was guided, was guided by words."
        rows.append((f"{facts.stimuli_missing} of {facts.n_stimuli_in_all} stimuli without picture", text))
    return rows


def _of_decoder(facts: Circumstances) -> list[tuple[str, str]]:
    rows = []
    if facts.simulated:
        rows.append(("Simulated data", "Nothing here speaks about brains: the simulator made the responses."))
    if facts.demo_clip:
        text = "It knows simulated scenes only; on these data guidance carries next to no meaning: not for a result."
        rows.append(("CLIP model demo", text))
    if not facts.guided:
        rows.append(
            ("No guidance", "CLIP guided no level of this decoder: what is scored is the network alone.")
        )
    if facts.untrained:
        names = ", ".join(facts.untrained)
        text = "no epoch was better than the start by a standard error, so that what is scored is the start."
        rows.append(("Left as it started", f"{names}: {text}"))
    return rows


def _of_choice(facts: Circumstances) -> list[tuple[str, str]]:
    rows = []
    if not facts.n_folds:
        text = "Another division of the trials would give other scores; --cv shows how far apart."
        rows.append(("A single split", text))
    if facts.n_methods > 2:
        text = (
            "The highest of several on the same test trials is flattered by chance. The comparison table has p-values "
            "corrected for their number (Holm); the intervals are not corrected."
        )
        rows.append((f"{facts.n_methods} methods compared", text))
    text = "If methods or settings were chosen by looking at these test trials before, no file shows it."
    return [*rows, ("What cannot be known", text)]
